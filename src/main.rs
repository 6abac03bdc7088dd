//! The `datamigration` binary: operator and workers in one image, chosen by subcommand.
fn main() {}
