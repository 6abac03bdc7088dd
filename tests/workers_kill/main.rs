//! Workers that are killed, and workers whose databases are killed under them. The servers are this binary's own: nobody
//! else's test notices, and those tests here that cannot bear it wait.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
#[path = "../workers/harness.rs"]
mod harness;
mod kills;
mod process;
#[path = "../support/mod.rs"]
mod support;

use harness::{World, fill, rows, table};
use serde_json::json;
use std::sync::atomic::AtomicU32;
use std::time::Duration;
use support::Kind::{MariaDb, Postgres};
use support::{eventually, servers};
use tokio::sync::RwLock;

/// Held for writing by whoever kills servers.
static TURN: RwLock<()> = RwLock::const_new(());
/// Processes killed so far.
static KILLS: AtomicU32 = AtomicU32::new(0);

/// The follower, then the base, die by SIGKILL in the middle of a copy: the same worker goes on, every row arrives once
/// as far as the record says, and the trouble is reported while it lasts.
#[tokio::test]
async fn a_copy_outlives_both_databases() {
    let _turn = TURN.write().await;
    let changes = json!({"copy": {"parallelism": 3, "rateLimit": {"rowsPerSecond": 8_000}}});
    let world = World::with(MariaDb, Postgres, changes, table(MariaDb), table(Postgres)).await;
    fill(&world.source, 60_000).await;
    world.source_first().await;
    let copy = world.copy(1);
    let reports = copy.reports.clone();
    let copied = "SELECT CAST(COALESCE(SUM(copied_rows), 0) AS BIGINT) FROM _datamigration_chunks";
    let kills = async {
        for (kind, aim) in [(Postgres, 5_000), (MariaDb, 20_000), (Postgres, 35_000)] {
            eventually(Duration::from_mins(3), "progress", || async {
                world.target.number(copied).await >= aim
            })
            .await;
            servers().await.kill(kind).await;
            eventually(Duration::from_mins(3), "the trouble is reported", || async {
                reports.last().reason.is_some() && reports.last().message.is_some()
            })
            .await;
            servers().await.start_again(kind).await;
            eventually(Duration::from_mins(3), "the trouble is over", || async {
                reports.last().reason.is_none()
            })
            .await;
        }
    };
    let (ended, ()) = tokio::join!(copy.run(), kills);
    ended.unwrap();
    assert_eq!(world.target.number(copied).await, 60_000);
    assert_eq!(rows(&world.source).await, rows(&world.target).await);
}

/// `KILL_SERVERS` (4) times in each direction.
#[tokio::test]
#[ignore = "long: `make soak-kills` runs it"]
async fn servers_killed_inside_batches() {
    let times = std::env::var("KILL_SERVERS").map_or(4, |times| times.parse().unwrap());
    for (source, target) in [
        (MariaDb, Postgres),
        (Postgres, MariaDb),
        (MariaDb, MariaDb),
        (Postgres, Postgres),
    ] {
        kills::servers_killed(source, target, times).await;
    }
}
