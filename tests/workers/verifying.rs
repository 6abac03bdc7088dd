//! Verify and repair: every kind of difference, both directions, and the races that would lose or resurrect a row.

use crate::harness::{World, ago, control, fill, rows};
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::support::{TestDatabase, eventually, on_mysql};
use datamigration::api::tuning::RepairPolicy;
use datamigration::store::{TableMapping, TablePair, TxOptions};
use datamigration::words::{Direction, Mode, SecondaryWrites};
use datamigration::workers::Exit;
use serde_json::json;
use std::time::Duration;

const PAIRS: [(Kind, Kind); 3] = [(MariaDb, Postgres), (MariaDb, MariaDb), (Postgres, Postgres)];
const LONG: Duration = Duration::from_mins(3);

/// Two copies of the same rows, source first, epoch 1 acknowledged.
async fn copied(source: Kind, target: Kind, count: u32, changes: serde_json::Value) -> World {
    let tables = (crate::harness::table(source), crate::harness::table(target));
    let world = World::with(source, target, changes, tables.0, tables.1).await;
    fill(&world.source, count).await;
    world.source_first().await;
    world.copy(1).run().await.unwrap();
    world
}

#[tokio::test]
async fn planted_differences_are_found_and_repaired_in_both_directions() {
    for (source, target) in PAIRS {
        let world = copied(source, target, 12_000, json!({})).await;
        for (direction, mode, epoch) in [
            (Direction::Forward, Mode::SrcFirst, 2),
            (Direction::Reverse, Mode::DstFirst, 3),
        ] {
            world.reach(control(epoch, mode, SecondaryWrites::Lenient, epoch)).await;
            let (base, follower) = match direction {
                Direction::Forward => (&world.source, &world.target),
                Direction::Reverse => (&world.target, &world.source),
            };
            let before = rows(base).await;
            let now = ago(follower.kind, 0.0);
            follower
                .execute(&format!(
                    "DELETE FROM orders WHERE id IN (1, 5000, 12000); \
                     UPDATE orders SET customer = 'changed' WHERE id IN (2, 6000); \
                     UPDATE orders SET note = '' WHERE id = 3; \
                     UPDATE orders SET amount = amount + 0.01, updated_at = {now} WHERE id = 7000; \
                     INSERT INTO orders (id, customer, updated_at) VALUES (-5, 'surplus', {now}), (90001, 'surplus', {now})"
                ))
                .await;
            let verify = world.full(direction, epoch);
            verify.run().await.unwrap();
            let report = verify.verify();
            let kinds = (report.target_missing, report.neq, report.base_missing);
            assert_eq!(kinds, (3, 4, 2), "{source:?} {target:?} {direction:?} {report:?}");
            assert_eq!((report.repaired, report.outstanding, report.deletes_held), (9, 0, 0));
            assert_eq!(rows(base).await, before, "the base is never changed");
            assert_eq!(rows(follower).await, before);
        }
    }
}

#[tokio::test]
async fn manual_repair_counts_and_changes_nothing() {
    let mut world = copied(MariaDb, Postgres, 500, json!({})).await;
    world.migration.verify.repair = RepairPolicy::Manual;
    world
        .target
        .execute(
            "DELETE FROM orders WHERE id = 1; UPDATE orders SET note = 'x' WHERE id = 2; \
             INSERT INTO orders (id, customer, updated_at) VALUES (501, 'surplus', now())",
        )
        .await;
    let before = rows(&world.target).await;
    let verify = world.full(Direction::Forward, 1);
    let error = verify.run().await.unwrap_err();
    assert_eq!((error.reason(), error.exit()), ("DifferencesFound", Exit::Permanent));
    let report = verify.verify();
    assert_eq!(
        (
            report.target_missing,
            report.neq,
            report.base_missing,
            report.outstanding
        ),
        (1, 1, 1, 3),
        "{report:?}"
    );
    assert_eq!(rows(&world.target).await, before);
}

#[tokio::test]
async fn more_deletes_than_allowed_delete_nothing() {
    for (source, target) in PAIRS {
        let world = copied(source, target, 2_000, json!({"verify": {"maxDeletes": 10}})).await;
        world.source.execute("DELETE FROM orders WHERE id <= 11").await;
        let verify = world.full(Direction::Forward, 1);
        let error = verify.run().await.unwrap_err();
        assert_eq!(
            (error.reason(), error.exit()),
            ("TooManyDeletes", Exit::Permanent),
            "{error}"
        );
        assert!(
            error.to_string().contains("11 rows") && error.to_string().contains("(10)"),
            "{error}"
        );
        assert_eq!((verify.verify().deletes_held, verify.verify().outstanding), (11, 11));
        assert_eq!(world.target.number("SELECT COUNT(*) FROM orders").await, 2_000);

        // One fewer is within what a pass may delete.
        let now = ago(source, 0.0);
        world
            .source
            .execute(&format!(
                "INSERT INTO orders (id, customer, updated_at) VALUES (11, 'again', {now})"
            ))
            .await;
        world.full(Direction::Forward, 1).run().await.unwrap();
        assert_eq!(rows(&world.source).await, rows(&world.target).await);
    }
}

/// Repair finds a row of the follower that the base does not have, while a writer is inserting it on both sides.
#[tokio::test]
async fn a_row_that_is_inserted_again_during_repair_stays() {
    for (source, target) in PAIRS {
        let world = copied(source, target, 200, json!({})).await;
        // A ghost: gone from the base, still in the follower.
        world.source.execute("DELETE FROM orders WHERE id = 77").await;
        let writer = world.writer(Direction::Forward).await;
        let (base, follower) = writer.prepare(77, Some("again")).await.unwrap();
        // The queue has it settled at once, with leave to delete.
        let now = ago(source, 0.0);
        world
            .source
            .execute(&format!(
                "INSERT INTO _datamigration_queue (migration, uid, table_name, row_key, reason, attempts, queued_at) \
                 VALUES ('shop/orders', 'u-1', 'orders', '[77]', 'test', 0, {now})"
            ))
            .await;
        let verify = world.incremental(Direction::Forward, 1);
        let commits = async {
            // Repair has read the base, where the row is not yet to be seen, and waits for what the writer holds.
            eventually(LONG, "repair waits for the writer", || async {
                waits_for_lock(&world.source).await || waits_for_lock(&world.target).await
            })
            .await;
            base.commit().await.unwrap();
            follower.commit().await.unwrap();
            eventually(LONG, "the queue is empty", || async {
                verify.verify().clean_since.is_some()
            })
            .await;
        };
        tokio::select! {
            ended = verify.run() => panic!("{ended:?}"),
            () = commits => {}
        }
        let report = verify.verify();
        assert_eq!(
            (report.base_missing, report.repaired),
            (0, 0),
            "{source:?} {target:?} {report:?}"
        );
        let held = rows(&world.source).await;
        assert!(
            held.iter().any(|row| row.starts_with("77|new|~|again")),
            "{source:?} {target:?}"
        );
        assert_eq!(rows(&world.target).await, held);
    }
}

/// Repair meets a row that differs while a writer is changing it on both sides: the write stands.
#[tokio::test]
async fn a_row_that_is_written_during_repair_keeps_the_write() {
    for (source, target) in PAIRS {
        let world = copied(source, target, 200, json!({})).await;
        world
            .target
            .execute("UPDATE orders SET customer = 'rogue' WHERE id = 50")
            .await;
        let writer = world.writer(Direction::Forward).await;
        let (base, follower) = writer.prepare(50, Some("written")).await.unwrap();
        let verify = world.full(Direction::Forward, 1);
        let commits = async {
            eventually(LONG, "repair waits for the writer", || async {
                waits_for_lock(&world.source).await || waits_for_lock(&world.target).await
            })
            .await;
            base.commit().await.unwrap();
            follower.commit().await.unwrap();
        };
        let (ended, ()) = tokio::join!(verify.run(), commits);
        ended.unwrap();
        let held = rows(&world.source).await;
        assert!(held[49].contains("|written|"), "{}", held[49]);
        assert_eq!(rows(&world.target).await, held, "{source:?} {target:?}");
    }
}

/// Whether some session of the database waits for a lock.
async fn waits_for_lock(database: &TestDatabase) -> bool {
    let waiting = match database.kind {
        MariaDb => {
            "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID() \
             AND command IN ('Query', 'Execute') AND info LIKE '%FOR UPDATE%'"
        }
        Postgres => {
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        }
    };
    database.number(waiting).await > 0
}

/// Writers that insert, update and delete a few rows without rest, through repair of the same rows.
#[tokio::test]
async fn hot_rows_do_not_keep_a_pass_from_ending_and_none_is_lost() {
    for (source, target) in PAIRS {
        let world = copied(source, target, 3_000, json!({})).await;
        let stop = tokio_util::sync::CancellationToken::new();
        let stop = &stop;
        let world = &world;
        let load = async |seed: i64| {
            let writer = world.writer(Direction::Forward).await;
            let mut written = 0_i64;
            while !stop.is_cancelled() {
                let id = 1 + (written * 7 + seed) % 9;
                let note = format!("{seed}/{written}");
                let delete = (written + seed) % 4 == 0;
                writer.write(id, (!delete).then_some(note.as_str())).await;
                written += 1;
            }
            written
        };
        let passes = async {
            for _ in 0..4 {
                // Something to repair among the hot rows, each time.
                world
                    .target
                    .execute("UPDATE orders SET customer = 'rogue' WHERE id BETWEEN 1 AND 9")
                    .await;
                let verify = world.full(Direction::Forward, 1);
                tokio::time::timeout(LONG, verify.run())
                    .await
                    .expect("the pass ends")
                    .unwrap();
                assert_eq!(verify.verify().outstanding, 0);
            }
            stop.cancel();
        };
        let (one, two, ()) = tokio::join!(load(1), load(2), passes);
        assert!(one > 10 && two > 10, "the rows were hot: {one} and {two} writes");
        world.full(Direction::Forward, 1).run().await.unwrap();
        assert_eq!(
            rows(&world.source).await,
            rows(&world.target).await,
            "{source:?} {target:?}"
        );
    }
}

#[tokio::test]
async fn windows_queues_deletes_and_rogue_writes_are_settled() {
    for (source, target) in PAIRS {
        let world = copied(source, target, 1_000, json!({})).await;
        let (now, then) = (ago(source, 0.0), ago(target, 0.0));
        // Second writes that were lost: an insert, an update, a delete.
        world
            .source
            .execute(&format!(
                "INSERT INTO orders (id, customer, updated_at) VALUES (2001, 'lost insert', {now}); \
                 UPDATE orders SET customer = 'lost update', updated_at = {now} WHERE id = 5; \
                 DELETE FROM orders WHERE id = 6; \
                 INSERT INTO _datamigration_deletes (migration, uid, table_name, row_key, deleted_at) \
                 VALUES ('shop/orders', 'u-1', 'orders', '[6]', {now})"
            ))
            .await;
        // Rogue writes to the follower, and one older than any window that only the queue knows, on either side.
        world
            .target
            .execute(&format!(
                "INSERT INTO orders (id, customer, updated_at) VALUES (3001, 'rogue', {then}); \
                 UPDATE orders SET customer = 'rogue', updated_at = {then} WHERE id = 8; \
                 UPDATE orders SET customer = 'queued' WHERE id IN (9, 10); DELETE FROM orders WHERE id = 11; \
                 INSERT INTO _datamigration_queue (migration, uid, table_name, row_key, reason, attempts, queued_at) \
                 VALUES ('shop/orders', 'u-1', 'orders', '[9]', 'test', 0, {then})"
            ))
            .await;
        world
            .source
            .execute(&format!(
                "INSERT INTO _datamigration_queue (migration, uid, table_name, row_key, reason, attempts, queued_at) \
                 VALUES ('shop/orders', 'u-1', 'orders', '[10]', 'test', 0, {now}), \
                 ('shop/orders', 'u-1', 'orders', '[11]', 'test', 0, {now}), \
                 ('shop/orders', 'u-1', 'other', '[1]', 'of another table', 0, {now})"
            ))
            .await;
        let marker = world.source_db.clock().await.unwrap();
        let verify = world.incremental(Direction::Forward, 1);
        verify
            .until(LONG, "everything is settled and clean", |status| {
                status.verify.as_ref().is_some_and(|report| {
                    report.clean_since.is_some() && report.verified_through.as_ref() > Some(&marker)
                })
            })
            .await;
        let report = verify.verify();
        assert_eq!(
            (report.outstanding, report.queue, report.deletes_held),
            (0, 0, 0),
            "{report:?}"
        );
        assert!(report.repaired >= 8, "{source:?} {target:?} {report:?}");
        assert_eq!(
            rows(&world.source).await,
            rows(&world.target).await,
            "{source:?} {target:?}"
        );
        assert_eq!(
            world.source.number("SELECT COUNT(*) FROM _datamigration_queue").await,
            1,
            "another table's stays"
        );
        assert_eq!(
            world.target.number("SELECT COUNT(*) FROM _datamigration_queue").await,
            0
        );
        assert_eq!(
            world.source.number("SELECT COUNT(*) FROM _datamigration_deletes").await,
            0
        );
    }
}

#[tokio::test]
async fn an_idle_incremental_verify_reports_rarely_and_goes_on_after_a_restart() {
    let world = copied(MariaDb, Postgres, 100, json!({"gates": {"cleanFor": "1h"}})).await;
    let verify = world.incremental(Direction::Forward, 1);
    let clean = |status: &datamigration::api::MigrationTaskStatus| {
        status
            .verify
            .as_ref()
            .is_some_and(|report| report.clean_since.is_some())
    };
    verify.until(LONG, "clean", clean).await;
    let reports = verify.reports.clone();
    let windows = verify.verify().windows;
    tokio::select! {
        ended = verify.run() => panic!("{ended:?}"),
        () = eventually(LONG, "five more windows", || async { verify.verify().windows >= windows.max(5) }) => {}
    }
    // The second run's first verdict, its change to clean and to past the acknowledgement: no report per window.
    assert!(reports.count() <= 8, "{} reports", reports.count());
    let through = verify.verify().verified_through.unwrap();
    let again = world.incremental(Direction::Forward, 1);
    again.until(LONG, "clean", clean).await;
    assert!(again.verify().verified_through.unwrap() >= through);
    assert_eq!(again.verify().compared, 0, "the hour-old rows are before the watermark");
}

fn later(time: &str, seconds: i64) -> String {
    let time: jiff::civil::DateTime = time.parse().unwrap();
    time.saturating_add(jiff::Span::new().seconds(seconds))
        .strftime("%Y-%m-%d %H:%M:%S.%6f")
        .to_string()
}

/// A transaction that was open while the windows passed its version commits at last.
#[tokio::test]
async fn a_late_commit_is_found_by_the_overlap() {
    let world = copied(Postgres, Postgres, 50, json!({})).await;
    let verify = world.incremental(Direction::Forward, 1);
    let mut late = world
        .source_db
        .begin(datamigration::store::TxOptions::default())
        .await
        .unwrap();
    late.execute(
        "INSERT INTO orders (id, customer, updated_at) VALUES (999, 'late', (clock_timestamp() AT TIME ZONE 'UTC'))",
        &[],
    )
    .await
    .unwrap();
    let stamped = late.clock().await.unwrap();
    let commits = async {
        let far = later(&stamped, 4);
        eventually(LONG, "the windows have passed it by far", || async {
            verify.verify().verified_through.is_some_and(|through| through > far)
        })
        .await;
        late.commit().await.unwrap();
        eventually(LONG, "the late row arrives", || async {
            world.target.number("SELECT COUNT(*) FROM orders WHERE id = 999").await == 1
        })
        .await;
    };
    tokio::select! {
        ended = verify.run() => panic!("{ended:?}"),
        () = commits => {}
    }
}

/// More rogue inserts in one window than may be deleted: held, said so, and the watermark waits.
#[tokio::test]
async fn a_window_with_too_many_deletes_is_held() {
    let world = copied(MariaDb, Postgres, 100, json!({"verify": {"maxDeletes": 3}})).await;
    let insert = |ids: &str| {
        format!(
            "INSERT INTO orders (id, customer, updated_at) SELECT id, 'rogue', (clock_timestamp() AT TIME ZONE 'UTC') FROM unnest(ARRAY[{ids}]) AS id"
        )
    };
    world.target.execute(&insert("201, 202, 203, 204")).await;
    let verify = world.incremental(Direction::Forward, 1);
    verify
        .until(LONG, "the deletes are held", |status| {
            status.reason.as_deref() == Some("TooManyDeletes")
                && status
                    .verify
                    .as_ref()
                    .is_some_and(|report| report.deletes_held == 4 && report.outstanding == 4)
        })
        .await;
    assert_eq!(world.target.number("SELECT COUNT(*) FROM orders").await, 104);
    world.target.execute("DELETE FROM orders WHERE id = 204").await;
    let verify = world.incremental(Direction::Forward, 1);
    verify
        .until(LONG, "the rest goes", |status| {
            status.reason.is_none()
                && status
                    .verify
                    .as_ref()
                    .is_some_and(|report| report.clean_since.is_some())
        })
        .await;
    assert_eq!(rows(&world.source).await, rows(&world.target).await);
}

/// The strict drain of a flip: done as soon as the lag allows.
#[tokio::test]
async fn a_strict_drain_reports_past_the_acknowledgement_at_once() {
    let world = copied(MariaDb, Postgres, 1_000, json!({"verify": {"interval": "30s"}})).await;
    world
        .reach(control(2, Mode::SrcFirst, SecondaryWrites::Strict, 1))
        .await;
    let began = std::time::Instant::now();
    let verify = world.incremental(Direction::Forward, 2);
    let acked = world
        .source
        .texts("SELECT DATE_FORMAT(acked_at, '%Y-%m-%d %H:%i:%s.%f') FROM _datamigration_control")
        .await
        .remove(0)
        .unwrap();
    verify
        .until(LONG, "drained", |status| {
            status.verify.as_ref().is_some_and(|report| {
                report.verified_through.as_ref() >= Some(&acked) && report.outstanding == 0 && report.queue == 0
            })
        })
        .await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?} with a lag of one second",
        began.elapsed()
    );
}

/// Unique values that have moved between rows on the base: no order of single puts would do.
#[tokio::test]
async fn unique_values_that_changed_places_are_repaired() {
    let maria = "CREATE TABLE orders (id BIGINT PRIMARY KEY, code VARCHAR(20) NOT NULL UNIQUE, updated_at DATETIME(6) NOT NULL)";
    let postgres = "CREATE TABLE orders (id BIGINT PRIMARY KEY, code VARCHAR(20) NOT NULL UNIQUE, updated_at TIMESTAMP(6) NOT NULL)";
    for (source, target) in PAIRS {
        let table = |kind| if kind == MariaDb { maria } else { postgres };
        let world = World::with(source, target, json!({}), table(source), table(target)).await;
        let at = "'2026-01-01 00:00:00'";
        world
            .source
            .execute(&format!(
                "INSERT INTO orders VALUES (1, 'b', {at}), (2, 'c', {at}), (3, 'a', {at}), (4, 'd', {at})"
            ))
            .await;
        world
            .target
            .execute(&format!(
                "INSERT INTO orders VALUES (1, 'a', {at}), (2, 'b', {at}), (3, 'c', {at}), (5, 'e', {at})"
            ))
            .await;
        world.source_first().await;
        let verify = world.full(Direction::Forward, 1);
        verify.run().await.unwrap();
        let report = verify.verify();
        assert_eq!(
            (report.neq, report.target_missing, report.base_missing),
            (3, 1, 1),
            "{report:?}"
        );
        assert_eq!(
            world
                .target
                .texts("SELECT code FROM orders ORDER BY id")
                .await
                .concat_all(),
            "bcad"
        );

        // A value that a row of nobody's holds for good is named, with the row that wants it.
        world
            .source
            .execute(&format!("INSERT INTO orders VALUES (6, 'f', {at})"))
            .await;
        let (id, code) = (7, "f");
        world
            .target
            .execute(&format!("INSERT INTO orders VALUES ({id}, '{code}', {at})"))
            .await;
        let mut held = World { ..world };
        held.migration.verify.max_deletes = 0;
        let error = held.full(Direction::Forward, 1).run().await.unwrap_err();
        assert!(matches!(error.reason(), "RowsRefused" | "TooManyDeletes"), "{error}");
        assert_eq!(
            held.target
                .texts("SELECT code FROM orders ORDER BY id")
                .await
                .concat_all(),
            "bcadf"
        );
        held.migration.verify.max_deletes = 10;
        // The pass that deletes the row in the way ends refused, the next one has room.
        let _ = held.full(Direction::Forward, 1).run().await;
        held.full(Direction::Forward, 1).run().await.unwrap();
        assert_eq!(
            held.target
                .texts("SELECT code FROM orders ORDER BY id")
                .await
                .concat_all(),
            "bcadf"
        );
    }
}

trait ConcatAll {
    fn concat_all(self) -> String;
}

impl ConcatAll for Vec<Option<String>> {
    fn concat_all(self) -> String {
        self.into_iter().flatten().collect()
    }
}

/// Differences that a weaker digest would not see: values that changed places, spaces, NULL and the empty text. On every
/// way of comparing: digests of both servers, rows streamed and digested here.
#[tokio::test]
async fn differences_that_look_alike_are_found_on_every_rung() {
    for (source, target) in PAIRS {
        let world = copied(source, target, 9_000, json!({})).await;
        let from = world.source_db.table("orders").await.unwrap().unwrap();
        let to = world.target_db.table("orders").await.unwrap().unwrap();
        let mapping = TableMapping {
            source: "orders".to_owned(),
            target: "orders".to_owned(),
            version: "updated_at".to_owned(),
            ..TableMapping::default()
        };
        let pair = TablePair::new(from, to, &mapping).unwrap();
        let mut tx = world.source_db.begin(TxOptions::read_only()).await.unwrap();
        let pushed = pair.digests_alike()
            && tx
                .can_digest(&pair.source, pair.comparison(Direction::Forward))
                .await
                .unwrap();
        tx.rollback().await;
        // MySQL has no second checksum, and 32 bits are too few: its rows are digested here.
        let able = source == target && !(source == MariaDb && on_mysql());
        assert_eq!((pushed, pair.ranges_alike()), (able, true), "{source:?} {target:?}");

        let before = rows(&world.source).await;
        world
            .target
            .execute(
                "UPDATE orders SET note = 'note 101' WHERE id = 100; UPDATE orders SET note = 'note 100' WHERE id = 101; \
                 UPDATE orders SET note = 'note 200 ' WHERE id = 200; UPDATE orders SET note = 'Note 202' WHERE id = 202; \
                 UPDATE orders SET note = '' WHERE id = 300; UPDATE orders SET note = NULL WHERE id = 301; \
                 UPDATE orders SET amount = NULL WHERE id = 8999; UPDATE orders SET customer = 'customer 8998,' WHERE id = 8998",
            )
            .await;
        let verify = world.full(Direction::Forward, 1);
        verify.run().await.unwrap();
        let report = verify.verify();
        assert_eq!(
            (report.neq, report.repaired, report.outstanding),
            (8, 8, 0),
            "{source:?} {target:?} {report:?}"
        );
        assert_eq!(report.compared, 18_000);
        assert_eq!(rows(&world.target).await, before);
    }
}

/// What an earlier worker of the same pass has verified is not compared again; what it had only begun is.
#[tokio::test]
async fn a_pass_goes_on_where_its_worker_ended() {
    for (source, target) in PAIRS {
        let world = copied(source, target, 9_000, json!({"copy": {"parallelism": 1}})).await;
        let first = world.full(Direction::Forward, 1);
        first.run().await.unwrap();
        let chunks = "SELECT COUNT(*) FROM _datamigration_verified WHERE state = 'Verified'";
        assert!(world.target.number(chunks).await > 3);
        assert_eq!(
            world
                .target
                .number("SELECT COUNT(*) FROM _datamigration_verified WHERE state <> 'Verified' AND sweep <> 'End'")
                .await,
            0
        );

        // The first row is in the first chunk, which stays verified; the last one is in one of those that were only begun.
        world
            .target
            .execute(
                "UPDATE orders SET note = 'x' WHERE id IN (1, 9000); \
                 DELETE FROM _datamigration_verified WHERE sweep = 'End'; \
                 UPDATE _datamigration_verified SET state = 'Open' WHERE chunk > 0",
            )
            .await;
        let again = world.full(Direction::Forward, 1);
        let started = first.context.status.current().started_at;
        again.context.status.note(|status| status.started_at = started.clone());
        again.run().await.unwrap();
        let (report, earlier) = (again.verify(), first.verify());
        assert_eq!(
            (report.neq, report.repaired, report.compared),
            (1, 1, 18_000),
            "{source:?} {target:?} {report:?}"
        );
        assert_eq!(
            report.verified_through, earlier.verified_through,
            "it is as old as its beginning"
        );

        let next = world.full(Direction::Forward, 1);
        let later = jiff::Timestamp::from_second(1).unwrap();
        next.context
            .status
            .note(|status| status.started_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(later)));
        next.run().await.unwrap();
        assert_eq!(
            (next.verify().neq, next.verify().compared),
            (1, 18_000),
            "another pass owes every row"
        );
        assert_eq!(rows(&world.source).await, rows(&world.target).await);
    }
}

/// Sides that order their keys differently: each is walked by itself.
#[tokio::test]
async fn keys_that_sort_differently_are_compared_in_both_directions() {
    let tables = (
        "CREATE TABLE orders (id VARCHAR(40) COLLATE utf8mb4_general_ci PRIMARY KEY, customer VARCHAR(100) NOT NULL, \
         amount DECIMAL(12,2) NULL, note TEXT NULL, updated_at DATETIME(6) NOT NULL)",
        "CREATE TABLE orders (id VARCHAR(40) PRIMARY KEY, customer VARCHAR(100) NOT NULL, amount NUMERIC(12,2) NULL, \
         note TEXT NULL, updated_at TIMESTAMP(6) NOT NULL)",
    );
    let world = World::with(MariaDb, Postgres, json!({}), tables.0, tables.1).await;
    let hour = ago(MariaDb, 3_600.0);
    world
        .source
        .execute(&format!(
            "INSERT INTO orders (id, customer, updated_at) SELECT CONCAT(CHAR(65 + seq % 26), IF(seq % 2, 'x', '_'), seq, \
             IF(seq % 5, '', 'é')), seq, {hour} FROM seq_1_to_6000"
        ))
        .await;
    world.source_first().await;
    world.copy(1).run().await.unwrap();
    let now = ago(Postgres, 0.0);
    world
        .target
        .execute(&format!(
            "DELETE FROM orders WHERE customer IN ('1', '6000'); UPDATE orders SET note = 'x' WHERE customer = '3000'; \
             INSERT INTO orders (id, customer, updated_at) VALUES ('', 'first', {now}), ('zzzz', 'last', {now})"
        ))
        .await;
    let verify = world.full(Direction::Forward, 1);
    verify.run().await.unwrap();
    let report = verify.verify();
    let kinds = (
        report.target_missing,
        report.neq,
        report.base_missing,
        report.outstanding,
    );
    assert_eq!(kinds, (2, 1, 2, 0), "{report:?}");
    assert_eq!(world.target.number("SELECT COUNT(*) FROM orders").await, 6_000);
}

/// A row that the follower does not take holds the gate and not the windows; it is repaired once it can be.
#[tokio::test]
async fn a_row_that_is_refused_again_and_again_is_a_dead_letter() {
    for (source, target) in PAIRS {
        let changes = json!({"verify": {"lag": "100ms", "interval": "100ms"}});
        let world = copied(source, target, 50, changes).await;
        world
            .target
            .execute("ALTER TABLE orders ADD CONSTRAINT never CHECK (note IS NULL OR note <> 'never')")
            .await;
        let now = ago(source, 0.0);
        world
            .source
            .execute(&format!(
                "UPDATE orders SET note = 'never', updated_at = {now} WHERE id = 5"
            ))
            .await;
        let letters = "SELECT COUNT(*) FROM _datamigration_dead_letters";
        let verify = world.incremental(Direction::Forward, 1);
        let seen = std::sync::Mutex::new(None);
        verify
            .until(LONG, "the row is a dead letter, and windows go on past it", |status| {
                let report = status.verify.clone().unwrap_or_default();
                let mut seen = seen.lock().unwrap();
                if report.dead_letters == 1 && seen.is_none() {
                    seen.clone_from(&report.verified_through);
                }
                report.dead_letters == 1
                    && report.outstanding == 1
                    && report.clean_since.is_none()
                    && status.reason.as_deref() == Some("RowsRefused")
                    && seen
                        .as_ref()
                        .is_some_and(|first| report.verified_through.as_ref() > Some(first))
            })
            .await;
        assert_eq!(world.source.number(letters).await, 1, "in the base");

        world.target.execute("ALTER TABLE orders DROP CONSTRAINT never").await;
        let verify = world.incremental(Direction::Forward, 1);
        verify
            .until(LONG, "the dead letter is repaired", |status| {
                let report = status.verify.clone().unwrap_or_default();
                report.dead_letters == 0 && report.clean_since.is_some() && status.reason.is_none()
            })
            .await;
        assert_eq!(world.source.number(letters).await, 0);
        assert_eq!(rows(&world.source).await, rows(&world.target).await);
    }
}
