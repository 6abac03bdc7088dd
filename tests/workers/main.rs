//! The workers on real databases, without Kubernetes: copy, verify, repair, watch, and the races of moving live data.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod comparing;
mod copying;
mod harness;
mod keys;
mod manual;
#[path = "../support/place.rs"]
mod place;
mod places;
mod sharded;
mod sharded_shell;
mod sharding;
mod shell;
mod sqlite;
#[path = "../support/mod.rs"]
mod support;
mod throttling;
mod verifying;
mod watching;
