//! The two ends of a migration on real databases: what preflight finds before anything moves, and what fence and archive
//! do when nothing moves any more.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod archiving;
mod counting;
mod creating;
mod drifting;
mod fencing;
#[path = "../workers/harness.rs"]
#[allow(dead_code)]
mod harness;
mod looking;
mod mapping;
mod reaching;
mod referring;
#[path = "../support/mod.rs"]
mod support;

use datamigration::api::task::TaskKind;
use datamigration::words::{Direction, Mode, SecondaryWrites};
use harness::{Task, World, control, spec};
use support::Kind::{self, MariaDb, Postgres};

/// Every direction that a migration can have.
const PAIRS: [(Kind, Kind); 4] = [
    (MariaDb, Postgres),
    (Postgres, MariaDb),
    (MariaDb, MariaDb),
    (Postgres, Postgres),
];

/// Epoch 1: every instance writes the target alone.
async fn target_only(world: &World) {
    world
        .reach(control(1, Mode::DstOnly, SecondaryWrites::Lenient, 1))
        .await;
}

fn task(world: &World, kind: TaskKind) -> Task {
    world.task(spec(kind, None, Direction::Reverse, 1))
}

async fn fence(world: &World) {
    target_only(world).await;
    task(world, TaskKind::Fence).run().await.unwrap();
}
