//! `datamigration`: moves live tables from one database to another under an application's traffic.

#[cfg(feature = "operator")]
pub mod api;
/// Control tables in the databases themselves: epochs and journal, claims, instances, queue, deletes.
pub mod control;
/// Values, keys, rows and logical types: pure data vocabulary.
pub mod rows;
/// The databases: sessions, schemas, row operations, fences.
pub mod store;
pub mod words;
#[cfg(feature = "operator")]
pub mod workers;
