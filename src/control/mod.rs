//! The control tables: what a migration keeps in its databases themselves. The control row (epochs and journal) is what
//! makes safety independent of Kubernetes; instances, queue and deletes are what applications and workers tell each other.
//!
//! Used by workers and by the dual-write library alike, always on a [`Tx`] of the caller, so that every row written here
//! commits or vanishes with the rows it speaks of. All times are the database's own clock, UTC, six digits.

pub mod chunks;
mod control_row;
mod ddl;
mod error;
mod instances;
mod keys;
mod local;
mod mapping;
mod mismatches;
pub mod rejects;
mod sql;
pub mod verified;
mod watermark;

pub use control_row::{
    Archived, Claim, Control, acknowledge_epoch, acknowledge_epoch_here, check_instance, check_worker, claim_tables,
    journal, raise, record_archived, record_fenced, record_intent, table_owner,
};
pub use ddl::{SCHEMA_VERSION, create, exists, tables};
pub use error::ControlError;
pub use instances::{Instance, SeenInstance, forget_instance, heartbeat, instances};
pub use keys::{
    DeadLetter, Deleted, MOST_LETTERS, Queued, attempt_failed, bury, dead_letters, dequeue, enqueue, forget_deletes,
    forget_letters, letter_failed, queue_depth, queued, record_deletes, recorded_deletes,
};
pub use local::forget_finished_copy;
pub use mapping::{mapping, record_mapping};
pub use mismatches::{
    MOST_MISMATCHES, MismatchEvent, count_mismatches, ensure_mismatches, forget_mismatches, forget_mismatches_before,
    mismatches, record_mismatches,
};
pub use sql::{clock, now, parse_clock};
pub use watermark::{advance as advance_watermark, read as watermark};
