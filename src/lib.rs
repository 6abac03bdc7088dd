//! `datamigration`: moves live tables from one database to another under an application's traffic.

#[cfg(feature = "operator")]
pub mod api;
pub mod words;
