//! The shop service.
fn main() {}
