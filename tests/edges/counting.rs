//! Keys that databases hand out, across a flip and back: the next base goes on above everything that was ever handed out,
//! rows that are gone included, and a counter that cannot be moved is named before anybody depends on it.

use crate::PAIRS;
use crate::harness::{World, control, fill};
use crate::looking::lazy;
use crate::support::Kind::{MariaDb, Postgres};
use crate::support::{TestDatabase, eventually};
use datamigration::api::task::ControlSpec;
use datamigration::words::{Direction, Mode, SecondaryWrites};
use std::time::Duration;

async fn handed_out(database: &TestDatabase) -> i64 {
    match database.kind {
        MariaDb => {
            database
                .execute("INSERT INTO orders (customer, updated_at) VALUES ('x', UTC_TIMESTAMP(6))")
                .await;
            database
                .number("SELECT id FROM orders WHERE customer = 'x' ORDER BY id DESC LIMIT 1")
                .await
        }
        Postgres => {
            database
                .number("INSERT INTO orders (customer, updated_at) VALUES ('x', now()) RETURNING id")
                .await
        }
    }
}

#[tokio::test]
async fn keys_of_rows_that_are_gone_are_not_handed_out_again() {
    for (source, target) in PAIRS {
        let world = World::orders(source, target).await;
        fill(&world.source, 300).await;
        world.source_first().await;
        // A hundred more, by the source's own counter, which are then deleted.
        for _ in 0..3 {
            handed_out(&world.source).await;
        }
        world.source.execute("DELETE FROM orders WHERE id > 300").await;
        world.copy(1).run().await.unwrap();
        world.full(Direction::Forward, 1).run().await.unwrap();
        world
            .reach(control(2, Mode::SrcFirst, SecondaryWrites::Strict, 1))
            .await;
        world
            .reach(control(3, Mode::DstFirst, SecondaryWrites::Strict, 3))
            .await;
        world
            .reach(control(4, Mode::DstFirst, SecondaryWrites::Lenient, 3))
            .await;
        let first = handed_out(&world.target).await;
        assert!(first > 303, "{source:?} to {target:?}: {first}");
        world.target.execute("DELETE FROM orders WHERE id > 300").await;
        world
            .reach(control(5, Mode::DstFirst, SecondaryWrites::Strict, 3))
            .await;
        world
            .reach(control(6, Mode::SrcFirst, SecondaryWrites::Strict, 6))
            .await;
        world
            .reach(control(7, Mode::SrcFirst, SecondaryWrites::Lenient, 6))
            .await;
        let back = handed_out(&world.source).await;
        assert!(back > first, "{target:?} back to {source:?}: {back} after {first}");
    }
}

#[tokio::test]
async fn a_counter_that_lags_is_named_and_holds_the_epoch() {
    let mut world = World::orders(Postgres, MariaDb).await;
    fill(&world.source, 300).await;
    world
        .reach(control(1, Mode::SrcFirst, SecondaryWrites::Strict, 1))
        .await;
    let name = &world.target.name;
    let revoke = format!("REVOKE ALTER ON {name}.* FROM 'orders'@'%'");
    world.target.execute_as_admin(&revoke).await;
    // Connections that are open keep the privileges that they had.
    world.target_db = lazy(&world.target, &world.target.url, true, "target/main");
    let closing = control(2, Mode::DstFirst, SecondaryWrites::Strict, 2);
    // Closed only when every shard carries it.
    let open = ControlSpec {
        min_epoch: 1,
        ..closing.clone()
    };
    world
        .watch(Some(open))
        .until(Duration::from_secs(30), "the epoch on all shards", |status| {
            status.watch.as_ref().is_some_and(|watch| watch.epoch_on_all_shards)
        })
        .await;
    let watch = world.watch(Some(closing));
    let reports = watch.reports.clone();
    let scene = async {
        eventually(Duration::from_secs(30), "the counter is named", || async {
            let problem = reports.last().watch.and_then(|watch| watch.problem).unwrap_or_default();
            [
                "orders.id",
                "target/main",
                "hands out 1 next",
                "keys up to 300",
                "ALTER",
            ]
            .iter()
            .all(|word| problem.contains(word))
        })
        .await;
        let closed = world
            .target
            .number("SELECT min_epoch FROM _datamigration_control")
            .await;
        assert!(closed < 2, "{closed}");
        // Moved by hand, as the message says.
        let moved = format!("ALTER TABLE {name}.orders AUTO_INCREMENT = 301");
        world.target.execute_as_admin(&moved).await;
        eventually(Duration::from_secs(30), "the epoch is closed", || async {
            reports
                .last()
                .watch
                .is_some_and(|watch| watch.min_epoch_on_all_shards && watch.problem.is_none())
        })
        .await;
    };
    tokio::select! {
        ended = watch.run() => panic!("{ended:?}"),
        () = scene => {}
    }
    assert_eq!(handed_out(&world.target).await, 301);
}
