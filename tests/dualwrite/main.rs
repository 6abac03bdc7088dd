//! The dual write on real servers: each line of the protocol, and each race that it answers.

#![allow(clippy::unwrap_used)]

mod common;
mod epochs;
mod fleet;
mod order;
mod outcomes;
mod pair;
mod sharding;
mod sharding_faults;
#[path = "../support/mod.rs"]
mod support;
mod tables;
