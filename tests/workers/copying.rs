//! Copy: exact rows, never older over newer, resumable anywhere, refused when stale.

use crate::harness::{World, ago, control, fill, rows, spec, table};
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::support::eventually;
use datamigration::api::task::TaskKind;
use datamigration::words::{Direction, Mode, SecondaryWrites};
use datamigration::workers::{Exit, WorkError};
use serde_json::json;
use std::time::Duration;

const PAIRS: [(Kind, Kind); 3] = [(MariaDb, Postgres), (MariaDb, MariaDb), (Postgres, Postgres)];

#[tokio::test]
async fn every_row_arrives_and_a_full_verify_agrees() {
    for (source, target) in PAIRS {
        let world = World::orders(source, target).await;
        fill(&world.source, 30_000).await;
        world.source_first().await;
        let copy = world.copy(1);
        copy.run().await.unwrap();
        assert_eq!(
            rows(&world.source).await,
            rows(&world.target).await,
            "{source:?} to {target:?}"
        );
        let progress = copy.context.status.current().progress.unwrap();
        assert_eq!((progress.rows, progress.rows_total), (30_000, 30_000));
        assert_eq!(progress.chunks, progress.chunks_done);

        let verify = world.full(Direction::Forward, 1);
        verify.run().await.unwrap();
        let report = verify.verify();
        assert_eq!(
            (report.compared, report.outstanding, report.repaired),
            (60_000, 0, 0),
            "{report:?}"
        );

        // A second worker of the same round finds everything done.
        world.copy(1).run().await.unwrap();
    }
}

#[tokio::test]
async fn an_older_row_never_overwrites_a_newer_one() {
    for (source, target) in PAIRS {
        let world = World::orders(source, target).await;
        fill(&world.source, 300).await;
        let (now, then) = (ago(target, 0.0), ago(target, 90_000.0));
        world
            .target
            .execute(&format!(
                "INSERT INTO orders (id, customer, updated_at) VALUES (7, 'newer', {now}), (8, 'older', {then})"
            ))
            .await;
        world.source_first().await;
        world.copy(1).run().await.unwrap();
        let held = rows(&world.target).await;
        assert!(held[6].starts_with("7|newer|"), "{}", held[6]);
        assert!(held[7].starts_with("8|customer 8|"), "{}", held[7]);
        assert_eq!(held.len(), 300);
    }
}

#[tokio::test]
async fn keys_of_any_kind_are_copied_once() {
    let source = "CREATE TABLE orders (tenant INT NOT NULL, code VARCHAR(20) COLLATE utf8mb4_general_ci NOT NULL, \
                  body VARBINARY(20) NULL, updated_at DATETIME(6) NOT NULL, PRIMARY KEY (tenant, code))";
    let target = "CREATE TABLE orders (tenant INT NOT NULL, code VARCHAR(20) NOT NULL, body BYTEA NULL, \
                  updated_at TIMESTAMP(6) NOT NULL, PRIMARY KEY (tenant, code))";
    let world = World::with(MariaDb, Postgres, json!({}), source, target).await;
    world
        .source
        .execute(
            "INSERT INTO orders SELECT CAST(a.seq % 7 AS SIGNED) - 3, CONCAT(CHAR(65 + a.seq % 26), LPAD(a.seq, 6, '0'), \
             IF(a.seq % 5 = 0, 'é', '')), CHAR(0, a.seq % 256), UTC_TIMESTAMP(6) FROM seq_0_to_24999 a; \
             INSERT INTO orders VALUES (-2147483648, '', NULL, UTC_TIMESTAMP(6)), (0, 'b a', '', UTC_TIMESTAMP(6)), \
             (0, 'ba', '', UTC_TIMESTAMP(6)), (0, 'B-a', '', UTC_TIMESTAMP(6))",
        )
        .await;
    world.source_first().await;
    let copy = world.copy(1);
    copy.run().await.unwrap();
    assert_eq!(copy.context.status.current().progress.unwrap().rows, 25_004);
    assert_eq!(world.target.number("SELECT COUNT(*) FROM orders").await, 25_004);
    let verify = world.full(Direction::Forward, 1);
    verify.run().await.unwrap();
    let report = verify.verify();
    assert_eq!(
        (report.compared, report.repaired, report.outstanding),
        (50_008, 0, 0),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_copy_that_is_killed_anywhere_goes_on_where_it_was() {
    for (source, target) in PAIRS {
        let changes = json!({"copy": {"parallelism": 3, "rateLimit": {"rowsPerSecond": 20_000}}});
        let tables = (table(source), table(target));
        let world = World::with(source, target, changes, tables.0, tables.1).await;
        fill(&world.source, 65_000).await;
        world.source_first().await;
        let copied = "SELECT CAST(COALESCE(SUM(copied_rows), 0) AS DECIMAL(20)) FROM _datamigration_chunks";
        let copied = if target == Postgres {
            copied.replace("DECIMAL(20)", "BIGINT")
        } else {
            copied.replace("DECIMAL(20)", "SIGNED")
        };
        let mut before = 0;
        for round in 0..4 {
            let worker = world.copy(1);
            let aim = before + 5_000 + i64::from(rand::random::<u16>() % 5_000);
            tokio::select! {
                ended = worker.run() => panic!("ended in round {round} with {ended:?}"),
                () = eventually(Duration::from_mins(3), "progress", || async {
                    world.target.number(&copied).await >= aim
                }) => {}
            }
            drop(worker);
            before = world.target.number(&copied).await;
            let held = world.target.number("SELECT COUNT(*) FROM orders").await;
            assert!(
                held >= before,
                "progress of {before} is recorded, {held} rows are there"
            );
            // Its leases run out.
            let past = ago(target, 60.0);
            world
                .target
                .execute(&format!(
                    "UPDATE _datamigration_chunks SET lease_until = {past} WHERE state <> 'Done'"
                ))
                .await;
        }
        world.copy(1).run().await.unwrap();
        assert_eq!(world.target.number(&copied).await, 65_000, "every row is recorded once");
        assert_eq!(rows(&world.source).await, rows(&world.target).await);
    }
}

#[tokio::test]
async fn two_copying_workers_share_the_chunks() {
    let world = World::orders(MariaDb, Postgres).await;
    fill(&world.source, 65_000).await;
    world.source_first().await;
    let (one, other) = (world.copy(1), world.copy(1));
    let (one, other) = tokio::join!(one.run(), other.run());
    one.unwrap();
    other.unwrap();
    let copied = world
        .target
        .number("SELECT CAST(SUM(copied_rows) AS BIGINT) FROM _datamigration_chunks")
        .await;
    assert_eq!(copied, 65_000, "no chunk is copied twice");
    assert_eq!(rows(&world.source).await, rows(&world.target).await);
}

/// Of four pods at one task one dies: the others do its share, the first of them speaks for all.
#[tokio::test]
async fn several_pods_share_a_task_and_one_of_them_is_killed() {
    // More ranges than lanes: each pod gets one.
    let changes = json!({"copy": {"pods": 4, "parallelism": 1, "rateLimit": {"rowsPerSecond": 60_000}}});
    for (source, target) in [(MariaDb, Postgres), (Postgres, MariaDb)] {
        let world = World::with(source, target, changes.clone(), table(source), table(target)).await;
        fill(&world.source, 150_000).await;
        world.source_first().await;
        let spec = || spec(TaskKind::Copy, None, Direction::Forward, 1);
        let pods: Vec<_> = (0..4).map(|index| world.pod(spec(), index == 0)).collect();
        let victim = &pods[3];
        let done_by_victim = format!(
            "SELECT COUNT(*) FROM _datamigration_chunks WHERE owner LIKE '{}%' AND copied_rows > 0",
            victim.context.owner
        );
        let killed = async {
            tokio::select! {
                ended = victim.run() => panic!("it ended before it was killed: {ended:?}"),
                () = eventually(Duration::from_mins(3), "all take part", || async {
                    world.target.number(&done_by_victim).await > 0
                }) => {}
            }
            let past = ago(target, 60.0);
            let expired = format!(
                "UPDATE _datamigration_chunks SET lease_until = {past} WHERE state <> 'Done' AND owner LIKE '{}%'",
                victim.context.owner
            );
            // A batch that was on its way when it died may still extend the lease once.
            eventually(Duration::from_mins(3), "its chunks are taken over", || async {
                world.target.execute(&expired).await;
                let open = expired.replace(
                    &format!("UPDATE _datamigration_chunks SET lease_until = {past}"),
                    "SELECT COUNT(*) FROM _datamigration_chunks",
                );
                world.target.number(&open).await == 0
            })
            .await;
        };
        let (first, second, third, ()) = tokio::join!(pods[0].run(), pods[1].run(), pods[2].run(), killed);
        first.unwrap();
        second.unwrap();
        third.unwrap();
        assert_eq!(rows(&world.source).await, rows(&world.target).await);
        let progress = pods[0].context.status.current().progress.unwrap();
        assert_eq!((progress.rows, progress.chunks), (150_000, progress.chunks_done));
        for helper in &pods[1..] {
            assert_eq!(
                helper.context.status.current().progress,
                None,
                "the first one speaks for all"
            );
        }
        let took_part = "SELECT COUNT(DISTINCT owner) FROM _datamigration_chunks";
        assert!(world.target.number(took_part).await >= 3);
    }
}

/// A worker that was slow past its lease finds its range taken: it leaves it alone, and waits for whoever holds it.
#[tokio::test]
async fn a_range_that_another_worker_took_over_is_left_to_it() {
    let changes = json!({"copy": {"parallelism": 2, "rateLimit": {"rowsPerSecond": 15_000}}});
    let world = World::with(MariaDb, Postgres, changes, table(MariaDb), table(Postgres)).await;
    fill(&world.source, 65_000).await;
    world.source_first().await;
    let of_first = "SELECT COALESCE(MAX(copied_rows), 0) FROM _datamigration_chunks WHERE chunk = 0";
    let copy = world.copy(1);
    let scene = async {
        eventually(Duration::from_mins(3), "the first range is under way", || async {
            world.target.number(of_first).await > 500
        })
        .await;
        let taken = "UPDATE _datamigration_chunks SET owner = 'another', lease_until = now() + INTERVAL '1 hour' WHERE chunk = 0";
        world.target.execute(taken).await;
        let held = world.target.number(of_first).await;
        assert!(held < 20_000, "the range was done before it could be taken");
        eventually(Duration::from_mins(3), "all others are done", || async {
            let open = "SELECT COUNT(*) FROM _datamigration_chunks WHERE state <> 'Done'";
            let last = "SELECT COUNT(*) FROM _datamigration_chunks WHERE upper_key IS NULL";
            world.target.number(last).await == 1 && world.target.number(open).await == 1
        })
        .await;
        assert_eq!(
            world.target.number(of_first).await,
            held,
            "nobody but its owner moves it"
        );
        // The other one has died.
        world
            .target
            .execute("UPDATE _datamigration_chunks SET lease_until = now() - INTERVAL '1 day'")
            .await;
    };
    let (ended, ()) = tokio::join!(copy.run(), scene);
    ended.unwrap();
    assert_eq!(rows(&world.source).await, rows(&world.target).await);
}

#[tokio::test]
async fn a_stale_worker_writes_nothing() {
    for (source, target) in PAIRS {
        let changes = json!({"copy": {"parallelism": 2, "rateLimit": {"rowsPerSecond": 4_000}}});
        let tables = (table(source), table(target));
        let world = World::with(source, target, changes, tables.0, tables.1).await;
        fill(&world.source, 40_000).await;
        world.source_first().await;
        let count = "SELECT COUNT(*) FROM orders";

        // The ladder moves on while it copies.
        let copy = world.copy(1);
        let moves_on = async {
            eventually(Duration::from_mins(3), "the copy is under way", || async {
                world.target.number(count).await > 1_000
            })
            .await;
            world
                .reach(control(2, Mode::SrcFirst, SecondaryWrites::Strict, 1))
                .await;
            world.target.number(count).await
        };
        let (ended, at_raise) = tokio::join!(copy.run(), moves_on);
        let error = ended.unwrap_err();
        assert!(matches!(error, WorkError::Stale(_)), "{error:?}");
        assert_eq!((error.reason(), error.exit()), ("StaleEpoch", Exit::Stale));
        assert_eq!(
            world.target.number(count).await,
            at_raise,
            "nothing was written after the raise"
        );

        // And one that starts late.
        for task in [
            world.copy(1),
            world.full(Direction::Forward, 1),
            world.incremental(Direction::Forward, 1),
        ] {
            assert!(matches!(task.run().await, Err(WorkError::Stale(_))));
        }
        assert_eq!(world.target.number(count).await, at_raise);

        // A journal that went backwards (a failover that lost writes) stops the worker as well.
        world
            .target
            .execute("UPDATE _datamigration_control SET epoch = 1")
            .await;
        let error = world.copy(2).run().await.unwrap_err();
        assert!(matches!(error, WorkError::Stale(_)), "{error:?}");
        assert_eq!(world.target.number(count).await, at_raise);
    }
}

#[tokio::test]
async fn no_row_is_read_before_every_instance_has_acknowledged() {
    let world = World::orders(MariaDb, Postgres).await;
    fill(&world.source, 100).await;
    let mut raised = control(1, Mode::SrcFirst, SecondaryWrites::Lenient, 1);
    raised.min_epoch = 0;
    world
        .watch(Some(raised))
        .until(Duration::from_mins(3), "the epoch is raised", |status| {
            status.watch.as_ref().is_some_and(|watch| watch.epoch_on_all_shards)
        })
        .await;
    let copy = world.copy(1);
    let reports = copy.reports.clone();
    tokio::select! {
        ended = copy.run() => panic!("it did not wait: {ended:?}"),
        () = eventually(Duration::from_mins(3), "it says what it waits for", || async {
            reports.last().reason.as_deref() == Some("NotAcknowledged")
        }) => {}
    }
    assert_eq!(world.target.number("SELECT COUNT(*) FROM orders").await, 0);
    let (copied, ()) = tokio::join!(copy.run(), world.source_first());
    copied.unwrap();
    assert_eq!(world.target.number("SELECT COUNT(*) FROM orders").await, 100);
}

#[tokio::test]
async fn a_row_that_cannot_be_put_is_set_aside_and_holds_the_verdict() {
    let world = World::orders(MariaDb, Postgres).await;
    fill(&world.source, 3_000).await;
    // PostgreSQL holds no NUL in a text.
    world
        .source
        .execute("UPDATE orders SET note = CONCAT('a', CHAR(0), 'b') WHERE id IN (1, 1500, 3000)")
        .await;
    world.source_first().await;
    let copy = world.copy(1);
    let error = copy.run().await.unwrap_err();
    assert_eq!(
        (error.reason(), error.exit()),
        ("RowsRejected", Exit::Permanent),
        "{error}"
    );
    assert_eq!(copy.context.status.current().progress.unwrap().rejects, 3);
    assert!(
        error.to_string().contains("3 rows") && error.to_string().contains("[1]"),
        "{error}"
    );
    assert_eq!(world.target.number("SELECT COUNT(*) FROM orders").await, 2_997);
    assert_eq!(
        world.target.number("SELECT COUNT(*) FROM _datamigration_rejects").await,
        3
    );

    // Corrected, the next attempt puts them and has nothing else to do.
    world
        .source
        .execute("UPDATE orders SET note = 'ab' WHERE id IN (1, 1500, 3000)")
        .await;
    let copy = world.copy(1);
    copy.run().await.unwrap();
    assert_eq!(copy.context.status.current().progress.unwrap().rejects, 0);
    assert_eq!(rows(&world.source).await, rows(&world.target).await);
    assert_eq!(
        world.target.number("SELECT COUNT(*) FROM _datamigration_rejects").await,
        0
    );
}

#[tokio::test]
async fn a_row_that_cannot_be_read_exactly_is_set_aside() {
    let source = "CREATE TABLE orders (id BIGINT PRIMARY KEY, day DATE NULL, updated_at DATETIME(6) NOT NULL)";
    let target = "CREATE TABLE orders (id BIGINT PRIMARY KEY, day DATE NULL, updated_at TIMESTAMP(6) NOT NULL)";
    let world = World::with(MariaDb, Postgres, json!({}), source, target).await;
    world
        .source
        .execute(
            "SET sql_mode = ''; INSERT INTO orders SELECT seq, IF(seq IN (1, 700, 1000), '0000-00-00', '2026-01-01'), \
             UTC_TIMESTAMP(6) FROM seq_1_to_1000",
        )
        .await;
    world.source_first().await;
    let error = world.copy(1).run().await.unwrap_err();
    assert_eq!(error.reason(), "RowsRejected", "{error}");
    assert!(
        error.to_string().contains("3 rows") && error.to_string().contains("[1]"),
        "{error}"
    );
    assert_eq!(world.target.number("SELECT COUNT(*) FROM orders").await, 997);
    let rejected = world
        .target
        .texts("SELECT row_key FROM _datamigration_rejects ORDER BY id")
        .await;
    assert_eq!(rejected.len(), 3, "{rejected:?}");
}
