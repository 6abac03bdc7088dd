//! The store against real servers: one suite, run on MariaDB and PostgreSQL alike, and on every pair of them.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is the test's report

mod support;

#[path = "store/fences.rs"]
mod fences;
#[path = "store/helpers.rs"]
mod helpers;
#[path = "store/keys.rs"]
mod keys;
#[path = "store/loads.rs"]
mod loads;
#[path = "support/place.rs"]
mod place;
#[path = "store/sqlite.rs"]
mod sqlite;
#[path = "store/transactions.rs"]
mod transactions;
#[path = "store/type_values.rs"]
mod type_values;
#[path = "store/types.rs"]
mod types;
#[path = "store/values.rs"]
mod values;
#[path = "store/writes.rs"]
mod writes;
