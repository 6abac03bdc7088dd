//! What is shown of `decide` without a cluster and without a database: a small world in which everything may happen in
//! any order, searched exhaustively (`model`), walked at random for long (`sim`), and both with `decide` made wrong
//! (`mutants`).

// The copies that mutations are put into name these as their own.
pub use datamigration::{api, observe, words};

/// `decide` with mutations that can be switched on; with none it is what production runs, text for text.
#[allow(warnings, clippy::all, clippy::pedantic)]
pub mod decide {
    include!(concat!(env!("OUT_DIR"), "/decide.rs"));
}

/// The outcome matrix of the dual-write library, with mutations that can be switched on.
#[allow(warnings, clippy::all, clippy::pedantic)]
pub mod outcome {
    include!(concat!(env!("OUT_DIR"), "/outcome.rs"));
}

pub mod application;
pub mod databases;
pub mod explore;
pub mod mutations;
pub mod operator;
pub mod promises;
pub mod scenes;
pub mod state;
pub mod steps;
pub mod walk;
pub mod workers;
