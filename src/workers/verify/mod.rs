//! Comparing the two sides and making the follower what the base is: a full pass over a table, the incremental windows,
//! and the settling of single keys that both share. A difference is a suspicion until it has been settled.

pub mod counts;
mod differences;
mod ends;
mod events;
pub mod full;
mod incremental;
mod ledger;
mod letters;
mod lists;
mod look;
mod repair;
mod rungs;
mod tally;
pub mod whole;

pub use differences::{Difference, Differences, Kind};
pub use repair::{Mismatch, Seen};
