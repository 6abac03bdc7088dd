//! The dual write on real servers: each line of the protocol, and each race that it answers.

#![allow(clippy::unwrap_used)]

mod common;
mod epochs;
mod order;
mod outcomes;
mod pair;
#[path = "../support/mod.rs"]
mod support;
mod tables;
