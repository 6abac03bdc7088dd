//! `datamigration`: moves live tables from one database to another under an application's traffic.

#[cfg(feature = "operator")]
pub mod act;
#[cfg(feature = "operator")]
pub mod api;
/// Control tables in the databases themselves: epochs and journal, claims, instances, queue, deletes.
pub mod control;
#[cfg(feature = "operator")]
pub mod controller;
#[cfg(feature = "operator")]
pub mod decide;
/// The library that an application embeds.
pub mod dualwrite;
#[cfg(feature = "operator")]
pub mod lease;
/// The same workers from a shell: no cluster, a manifest in a file, a progress bar, an exit code.
#[cfg(feature = "operator")]
pub mod local;
#[cfg(feature = "operator")]
pub mod observe;
#[cfg(feature = "operator")]
pub mod platform;
#[cfg(feature = "operator")]
pub mod reconcile;
#[cfg(feature = "operator")]
pub mod reference;
/// Values, keys, rows and logical types: pure data vocabulary.
pub mod rows;
#[cfg(feature = "operator")]
pub mod status;
/// The databases: sessions, schemas, row operations, fences.
pub mod store;
#[cfg(feature = "operator")]
pub mod types_page;
pub mod words;
#[cfg(feature = "operator")]
pub mod workers;
