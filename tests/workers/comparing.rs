//! What becomes of differences that are not mended, and how rows are found and compared where key or content are not
//! plainly the same: events, dead letters, budgets, expressions, unique keys.

use crate::harness::{Task, World, ago, control, fill, rows, table};
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::support::TestDatabase;
use datamigration::api::task::MismatchCounts;
use datamigration::words::{Direction, Mode, SecondaryWrites};
use serde_json::{Value, json};
use std::time::Duration;

const PAIRS: [(Kind, Kind); 3] = [(MariaDb, Postgres), (MariaDb, MariaDb), (Postgres, Postgres)];
const ACROSS: [(Kind, Kind); 2] = [(MariaDb, Postgres), (Postgres, MariaDb)];
const LONG: Duration = Duration::from_secs(40);

async fn copied(source: Kind, target: Kind, count: u32, changes: Value) -> World {
    let world = World::with(source, target, changes, table(source), table(target)).await;
    fill(&world.source, count).await;
    world.source_first().await;
    world.copy(1).run().await.unwrap();
    world
}

async fn events(database: &TestDatabase) -> Vec<String> {
    let missing = "COALESCE(base_version, '-') = '-'";
    let gone = "COALESCE(follower_version, '-') = '-'";
    database
        .texts(&format!(
            "SELECT CONCAT(row_key, ' ', kind, ' ', attempts, CASE WHEN {missing} THEN ' no base' ELSE '' END, \
             CASE WHEN {gone} THEN ' no follower' ELSE '' END, \
             CASE WHEN first_seen <= last_seen THEN '' ELSE ' first is last' END) \
             FROM _datamigration_mismatches WHERE table_name = 'orders' ORDER BY row_key"
        ))
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// What verify may not mend is written down in the base, once per key, until both sides agree.
#[tokio::test]
async fn differences_that_are_left_are_events_until_they_are_settled() {
    for (source, target) in PAIRS {
        let manual = json!({"verify": {"repair": "Manual", "interval": "100ms"}});
        let world = copied(source, target, 300, manual).await;
        world
            .target
            .execute(
                "UPDATE orders SET note = 'wrong' WHERE id = 7; DELETE FROM orders WHERE id = 8; \
                 INSERT INTO orders (id, customer, updated_at) VALUES (1000, 'nobody', '2020-01-01 00:00:00')",
            )
            .await;
        for attempt in 1..=2 {
            let verify = world.full(Direction::Forward, 1);
            assert_eq!(verify.run().await.unwrap_err().reason(), "DifferencesFound");
            assert_eq!(
                events(&world.source).await,
                [
                    format!("[1000] base_missing {attempt} no base"),
                    format!("[7] neq {attempt}"),
                    format!("[8] target_missing {attempt} no follower"),
                ],
                "{source:?} {target:?}"
            );
            let counts = MismatchCounts {
                target_missing: 1,
                neq: 1,
                base_missing: 1,
                ..MismatchCounts::default()
            };
            assert_eq!(verify.verify().mismatches, Some(counts));
        }

        // Somebody mends one: the incremental verify sees it, outside of any window.
        world
            .target
            .execute("UPDATE orders SET note = 'note 7' WHERE id = 7")
            .await;
        let verify = world.incremental(Direction::Forward, 1);
        verify
            .until(LONG, "the event is gone", |status| {
                let counts = status.verify.clone().unwrap_or_default().mismatches.unwrap_or_default();
                (counts.target_missing, counts.neq, counts.base_missing) == (1, 0, 1)
            })
            .await;

        // And the others: a whole pass does not meet them any more.
        world.source.execute("DELETE FROM orders WHERE id = 8").await;
        world.target.execute("DELETE FROM orders WHERE id = 1000").await;
        let verify = world.full(Direction::Forward, 1);
        verify.run().await.unwrap();
        assert_eq!(verify.verify().mismatches, None);
        assert!(events(&world.source).await.is_empty());
    }
}

/// The pass ends although the follower does not take a row: it is tried again, buried, and left to the incremental verify.
#[tokio::test]
async fn a_full_pass_buries_what_the_follower_never_takes() {
    let one = async |source: Kind, target: Kind| {
        let world = copied(
            source,
            target,
            50,
            json!({"verify": {"lag": "100ms", "interval": "100ms"}}),
        )
        .await;
        world
            .target
            .execute("ALTER TABLE orders ADD CONSTRAINT never CHECK (note IS NULL OR note <> 'never')")
            .await;
        world
            .source
            .execute("UPDATE orders SET note = 'never' WHERE id = 5; UPDATE orders SET note = 'taken' WHERE id = 6")
            .await;
        let letters = "SELECT COUNT(*) FROM _datamigration_dead_letters";
        for attempts in 1..=2 {
            let verify = world.full(Direction::Forward, 1);
            verify.run().await.unwrap();
            let report = verify.verify();
            assert_eq!(
                (report.dead_letters, report.rejects, report.outstanding),
                (1, 0, 0),
                "{source:?} {target:?} {report:?}"
            );
            assert_eq!(world.source.number(letters).await, 1, "once, in the base");
            let tried = "SELECT attempts FROM _datamigration_dead_letters";
            assert_eq!(world.source.number(tried).await, attempts);
        }
        let differing = "SELECT COUNT(*) FROM orders WHERE note = 'taken'";
        assert_eq!(world.target.number(differing).await, 1, "what it takes is repaired");

        world.target.execute("ALTER TABLE orders DROP CONSTRAINT never").await;
        let verify = world.incremental(Direction::Forward, 1);
        verify
            .until(LONG, "the dead letter is repaired", |status| {
                let report = status.verify.clone().unwrap_or_default();
                report.windows > 1 && report.dead_letters == 0 && report.outstanding == 0
            })
            .await;
        assert_eq!(world.source.number(letters).await, 0);
        assert_eq!(rows(&world.source).await, rows(&world.target).await);
    };
    tokio::join!(one(MariaDb, Postgres), one(Postgres, MariaDb));
}

/// Attempts until one comes to the table's end, and the last of them.
async fn attempts(world: &World) -> (u32, Task, Option<String>) {
    for nth in 1..50 {
        let verify = world.full(Direction::Forward, 1);
        let ended = verify.run().await;
        let reason = ended.as_ref().err().map(|error| error.reason().to_owned());
        if reason.as_deref() != Some("BudgetExhausted") {
            return (nth, verify, reason);
        }
        let text = ended.unwrap_err().to_string();
        assert!(
            text.contains("no verdict") && text.contains("rows of both sides"),
            "{text}"
        );
        assert!(nth > 1 || verify.verify().compared < 6_000, "{:?}", verify.verify());
    }
    panic!("it never comes to the end");
}

/// A budget ends a pass early, never as clean; the next attempt goes on from there.
#[tokio::test]
async fn a_budget_bounds_a_pass_and_the_next_one_goes_on() {
    for (source, target) in [(MariaDb, Postgres), (Postgres, Postgres)] {
        let changes = json!({
            "verify": {"repair": "Manual", "budget": {"mismatches": 1}},
            "copy": {"parallelism": 1},
        });
        let mut world = copied(source, target, 3_000, changes).await;
        world
            .target
            .execute("UPDATE orders SET note = 'wrong' WHERE id IN (10, 700, 2900)")
            .await;
        let (nth, last, reason) = attempts(&world).await;
        let report = last.verify();
        assert!(nth >= 3, "one difference is found by an attempt: {nth} {report:?}");
        assert_eq!(reason.as_deref(), Some("DifferencesFound"));
        assert_eq!((report.neq, report.outstanding, report.compared), (3, 3, 6_000));

        world.migration.verify.repair = datamigration::api::tuning::RepairPolicy::Automatic;
        let budget = &mut world.migration.verify.budget;
        (budget.mismatches, budget.duration) = (None, Some(Duration::from_millis(1)));
        let (nth, last, reason) = attempts(&world).await;
        let report = last.verify();
        assert!(nth > 2 && reason.is_none(), "{nth} {reason:?} {report:?}");
        assert_eq!(
            (report.neq, report.repaired, report.outstanding, report.compared),
            (3, 3, 0, 6_000)
        );
        assert_eq!(rows(&world.source).await, rows(&world.target).await);
    }
}

/// `compare.custom`: what the expressions say is compared, what the base holds is carried.
#[tokio::test]
async fn columns_are_compared_by_expressions_and_repaired_by_value() {
    for (source, target) in PAIRS {
        let table = json!({"name": "orders", "version": "updated_at", "compare": {"custom": [
            {"column": "customer", "source": "LOWER(customer)", "target": "LOWER(customer)"},
            {"column": "amount", "source": "ROUND(amount, 0)", "target": "ROUND(amount, 0)"},
        ]}});
        let world = copied(source, target, 3_000, json!({"tables": [table]})).await;
        let now = ago(target, 0.0);
        world
            .target
            .execute(&format!(
                "UPDATE orders SET customer = UPPER(customer) WHERE id > 5; UPDATE orders SET amount = 2.1 WHERE id = 8; \
                 UPDATE orders SET customer = 'SOMEBODY ELSE' WHERE id = 2999; UPDATE orders SET amount = 4.00 WHERE id = 20; \
                 UPDATE orders SET note = 'x', updated_at = {now} WHERE id = 30"
            ))
            .await;
        let verify = world.full(Direction::Forward, 1);
        verify.run().await.unwrap();
        let report = verify.verify();
        assert_eq!(
            (report.neq, report.repaired, report.outstanding),
            (3, 3, 0),
            "{source:?} {target:?} {report:?}"
        );
        let count = async |condition: &str| {
            let sql = format!("SELECT COUNT(*) FROM orders WHERE {condition}");
            world.target.number(&sql).await
        };
        assert_eq!(count("id = 2999 AND customer = 'customer 2999'").await, 1);
        assert_eq!(count("id = 20 AND amount = 5.00 AND customer = 'customer 20'").await, 1);
        assert_eq!(
            count("id = 8 AND amount = 2.10").await,
            1,
            "what counts as the same stays"
        );
        assert_eq!(count("id = 9 AND customer = 'CUSTOMER 9'").await, 1);

        // The incremental verify compares in the same way.
        let (now, then) = (ago(source, 0.0), ago(target, 0.0));
        world
            .source
            .execute(&format!("UPDATE orders SET updated_at = {now} WHERE id IN (9, 11)"))
            .await;
        world
            .target
            .execute(&format!(
                "UPDATE orders SET updated_at = {then} WHERE id = 9; UPDATE orders SET customer = 'rogue' WHERE id = 11"
            ))
            .await;
        let verify = world.incremental(Direction::Forward, 1);
        verify
            .until(LONG, "the window is clean", |status| {
                let report = status.verify.clone().unwrap_or_default();
                report.repaired > 0 && report.clean_since.is_some()
            })
            .await;
        assert_eq!(count("id = 11 AND customer = 'customer 11'").await, 1);
    }
}

fn numbered(kind: Kind, own: &str) -> String {
    let (identity, time) = match kind {
        MariaDb => ("AUTO_INCREMENT", "DATETIME(6)"),
        Postgres => ("GENERATED BY DEFAULT AS IDENTITY", "TIMESTAMP(6)"),
    };
    format!(
        "CREATE TABLE orders ({own} BIGINT {identity} PRIMARY KEY, tenant INT NOT NULL, code VARCHAR(20) NOT NULL, \
         note TEXT NULL, updated_at {time} NOT NULL, CONSTRAINT by_code UNIQUE (tenant, code))"
    )
}

/// Each side numbers its rows by itself; a unique key that both have says which row is which.
#[tokio::test]
async fn rows_are_found_by_a_unique_key_where_the_primary_keys_differ() {
    for (source, target) in ACROSS.into_iter().chain([(MariaDb, MariaDb)]) {
        let table = json!({"name": "orders", "version": "updated_at", "key": ["tenant", "code"],
            "columns": [{"source": "id", "drop": true}]});
        let changes = json!({"tables": [table], "rollback": "None"});
        let world = World::with(
            source,
            target,
            changes,
            &numbered(source, "id"),
            &numbered(target, "own"),
        )
        .await;
        let hour = ago(source, 3_600.0);
        let all = match source {
            MariaDb => "seq_1_to_900",
            Postgres => "generate_series(1, 900) AS seq",
        };
        world
            .source
            .execute(&format!(
                "INSERT INTO orders (id, tenant, code, note, updated_at) SELECT 5000 - seq, seq % 7, CONCAT('c', seq), \
                 CONCAT('note ', seq), {hour} FROM {all}"
            ))
            .await;
        world.source_first().await;
        world.copy(1).run().await.unwrap();
        let content = async |database: &TestDatabase| {
            let sql = "SELECT CONCAT_WS('|', tenant, code, note) FROM orders ORDER BY tenant, code";
            let mut rows = database.texts(sql).await;
            rows.sort();
            rows
        };
        assert_eq!(
            content(&world.source).await,
            content(&world.target).await,
            "{source:?} {target:?}"
        );
        for (direction, mode, epoch) in [
            (Direction::Forward, Mode::SrcFirst, 2),
            (Direction::Reverse, Mode::DstFirst, 3),
        ] {
            world.reach(control(epoch, mode, SecondaryWrites::Lenient, epoch)).await;
            let (base, follower) = match direction {
                Direction::Forward => (&world.source, &world.target),
                Direction::Reverse => (&world.target, &world.source),
            };
            let now = ago(follower.kind, 0.0);
            follower
                .execute(&format!(
                    "DELETE FROM orders WHERE code = 'c3'; UPDATE orders SET note = 'x' WHERE code IN ('c4', 'c899'); \
                     INSERT INTO orders (tenant, code, note, updated_at) VALUES (1, 'c3', 'another', {now})"
                ))
                .await;
            let verify = world.full(direction, epoch);
            verify.run().await.unwrap();
            let report = verify.verify();
            let kinds = (
                report.target_missing,
                report.neq,
                report.base_missing,
                report.outstanding,
            );
            assert_eq!(kinds, (1, 2, 1, 0), "{source:?} {target:?} {direction:?} {report:?}");
            assert_eq!(content(base).await, content(follower).await);
        }
    }
}
