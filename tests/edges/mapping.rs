//! Columns that are computed, renamed and dropped, and subsets of rows: carried, compared and repaired in both directions,
//! and what has no way back is known before anybody needs it.

use crate::PAIRS;
use crate::harness::{Task, World, control};
use crate::looking::{checks, found, preflight};
use crate::support::Kind::{self, MariaDb, Postgres};
use datamigration::words::{Direction, Mode, SecondaryWrites};
use serde_json::{Value, json};

fn source(kind: Kind) -> &'static str {
    match kind {
        MariaDb => {
            "CREATE TABLE orders (id BIGINT PRIMARY KEY, amount DECIMAL(12,2) NOT NULL, note TEXT NULL, region VARCHAR(2) NOT NULL, \
             legacy INT NULL, updated_at DATETIME(6) NOT NULL)"
        }
        Postgres => {
            "CREATE TABLE orders (id BIGINT PRIMARY KEY, amount NUMERIC(12,2) NOT NULL, note TEXT NULL, region VARCHAR(2) NOT NULL, \
             legacy INT NULL, updated_at TIMESTAMP(6) NOT NULL)"
        }
    }
}

fn target(kind: Kind) -> &'static str {
    match kind {
        MariaDb => {
            "CREATE TABLE orders (id BIGINT PRIMARY KEY, amount_cents BIGINT NOT NULL, remark TEXT NULL, region VARCHAR(2) NOT NULL, \
             label VARCHAR(50) NULL, updated_at DATETIME(6) NOT NULL)"
        }
        Postgres => {
            "CREATE TABLE orders (id BIGINT PRIMARY KEY, amount_cents BIGINT NOT NULL, remark TEXT NULL, region VARCHAR(2) NOT NULL, \
             label VARCHAR(50) NULL, updated_at TIMESTAMP(6) NOT NULL)"
        }
    }
}

/// The division of an integer keeps its fraction on MySQL and loses it on PostgreSQL.
fn columns() -> Value {
    json!([
        {"target": "amount_cents", "expression": "amount * 100", "reverse": "amount_cents / 100.0"},
        {"target": "label", "expression": "CONCAT(region, '-', id)"},
        {"source": "note", "target": "remark"},
        {"source": "legacy", "drop": true},
    ])
}

fn table(more: &Value) -> Value {
    let mut table = json!({"name": "orders", "version": "updated_at", "columns": columns()});
    for (name, value) in more.as_object().unwrap() {
        table[name] = value.clone();
    }
    json!({"tables": [table]})
}

async fn world(from: Kind, to: Kind, more: Value) -> World {
    let world = World::with(from, to, table(&more), source(from), target(to)).await;
    world
        .source
        .execute(
            "INSERT INTO orders VALUES (1, 1.25, 'a', 'de', 7, '2024-01-01'), (2, 0.10, NULL, 'fr', 8, '2024-01-01'), \
             (3, -99.99, '', 'de', NULL, '2024-01-01')",
        )
        .await;
    world
}

async fn texts(database: &crate::support::TestDatabase, columns: &str) -> Vec<String> {
    let sql = format!("SELECT CONCAT_WS('|', {columns}) FROM orders ORDER BY id");
    database.texts(&sql).await.into_iter().flatten().collect()
}

const CARRIED: [&str; 3] = ["1|125|a|de-1", "2|10|fr-2", "3|-9999||de-3"];

#[tokio::test]
async fn an_expression_carries_and_its_reverse_brings_back() {
    for (from, to) in PAIRS {
        let world = world(from, to, json!({})).await;
        let looked = preflight(&world);
        looked
            .run()
            .await
            .unwrap_or_else(|error| panic!("{error}: {:#?}", checks(&looked)));
        let passed = |worker: &Task, name: &str| checks(worker).iter().any(|c| c.name.starts_with(name) && c.ok);
        assert!(
            passed(&looked, "Way back orders") && passed(&looked, "Expression amount_cents"),
            "{:#?}",
            checks(&looked)
        );
        assert!(checks(&looked).iter().all(|check| check.reason != "NotReversible"));

        world.source_first().await;
        world.copy(1).run().await.unwrap();
        let carried = "id, amount_cents, remark, label";
        assert_eq!(texts(&world.target, carried).await, CARRIED, "{from:?} to {to:?}");
        let verify = world.full(Direction::Forward, 1);
        verify.run().await.unwrap();
        assert_eq!((verify.verify().repaired, verify.verify().outstanding), (0, 0));
        // A computed value that is wrong is a difference like any other.
        world
            .target
            .execute("UPDATE orders SET amount_cents = 126 WHERE id = 1")
            .await;
        world
            .target
            .execute("UPDATE orders SET label = NULL WHERE id = 2")
            .await;
        let verify = world.full(Direction::Forward, 1);
        verify.run().await.unwrap();
        assert_eq!((verify.verify().repaired, verify.verify().neq), (2, 2));
        assert_eq!(texts(&world.target, carried).await, CARRIED);

        // The target is the base: what it holds comes back, and what was dropped stays as it was.
        world
            .reach(control(2, Mode::DstFirst, SecondaryWrites::Lenient, 2))
            .await;
        world
            .target
            .execute("UPDATE orders SET amount_cents = 777, remark = 'b', updated_at = '2024-02-01' WHERE id = 1")
            .await;
        world
            .target
            .execute("INSERT INTO orders VALUES (4, 5, NULL, 'it', 'x', '2024-02-01')")
            .await;
        let verify = world.full(Direction::Reverse, 2);
        verify.run().await.unwrap();
        let report = verify.verify();
        assert_eq!(
            (report.repaired, report.neq, report.target_missing),
            (2, 1, 1),
            "{report:?}"
        );
        assert_eq!(
            texts(&world.source, "id, amount, note, legacy").await,
            ["1|7.77|b|7", "2|0.10|8", "3|-99.99|", "4|0.05"],
            "{from:?} to {to:?}"
        );
    }
}

/// Expressions that a comparison takes are run in preflight, each on its own side.
#[tokio::test]
async fn comparisons_by_expression_are_tried_before_they_are_needed() {
    for (from, to) in PAIRS {
        let compare = |source: &str, target: &str| json!({"compare": {"custom": [{"column": "note", "source": source, "target": target}]}});
        let looked = preflight(&world(from, to, compare("LOWER(note)", "LOWER(remark)")).await);
        looked
            .run()
            .await
            .unwrap_or_else(|error| panic!("{error}: {:#?}", checks(&looked)));
        let tried = checks(&looked)
            .iter()
            .filter(|c| c.name.starts_with("Expression") && c.name.contains("note"))
            .count();
        assert_eq!(tried, 1, "{:#?}", checks(&looked));

        let wrong = world(from, to, compare("LOWER(note)", "LOWER(note)")).await;
        let words = ["LOWER(note)", "target/main", "compare.custom[].target"];
        found(&preflight(&wrong), "ExpressionFails", "Expression remark", &words).await;
        let other = json!({"compare": {"custom": [{"column": "nothing", "source": "note", "target": "remark"}]}});
        found(
            &preflight(&world(from, to, other).await),
            "ColumnMissing",
            "Columns",
            &["compare.custom", "nothing"],
        )
        .await;
    }
}

/// What preflight notes as no way back, and that it is no obstacle to begin.
async fn no_way_back(world: &World, word: &str) {
    let worker = preflight(world);
    worker
        .run()
        .await
        .unwrap_or_else(|error| panic!("{error}: {:#?}", checks(&worker)));
    let check = checks(&worker)
        .into_iter()
        .find(|check| check.reason == "NotReversible");
    let check = check.unwrap_or_else(|| panic!("{:#?}", checks(&worker)));
    assert!(
        check.ok && check.message.contains(word) && check.message.contains("rollback"),
        "{word:?}: {check:?}"
    );
}

#[tokio::test]
async fn a_mapping_without_a_way_back_is_told_beforehand() {
    for (from, to) in [(MariaDb, Postgres), (Postgres, MariaDb)] {
        let lossy = json!([
            {"source": "amount", "target": "amount_cents", "expression": "FLOOR(amount)", "reverse": "amount_cents"},
            {"source": "note", "target": "remark"},
            {"source": "legacy", "drop": true},
        ]);
        no_way_back(
            &world(from, to, json!({"columns": lossy})).await,
            "of 3 rows that were sent",
        )
        .await;
        let one_way = json!([
            {"source": "amount", "target": "amount_cents", "expression": "amount * 100"},
            {"source": "note", "target": "remark"},
            {"source": "legacy", "drop": true},
        ]);
        no_way_back(&world(from, to, json!({"columns": one_way})).await, "has no `reverse`").await;
        let dropped = world(from, to, json!({})).await;
        let statement = match from {
            MariaDb => "UPDATE orders SET legacy = 0; ALTER TABLE orders MODIFY legacy INT NOT NULL",
            Postgres => "UPDATE orders SET legacy = 0; ALTER TABLE orders ALTER COLUMN legacy SET NOT NULL",
        };
        dropped.source.execute(statement).await;
        no_way_back(&dropped, "orders.legacy").await;
    }
}

#[tokio::test]
async fn sql_that_a_database_does_not_take_is_named_with_its_message() {
    for (from, to) in [(MariaDb, Postgres), (Postgres, MariaDb)] {
        let unknown = json!([
            {"source": "amount", "target": "amount_cents", "expression": "amonut * 100", "reverse": "amount_cents / 100.0"},
            {"source": "note", "target": "remark"},
            {"source": "legacy", "drop": true},
        ]);
        let world_of = world(from, to, json!({"columns": unknown})).await;
        found(
            &preflight(&world_of),
            "ExpressionFails",
            "Expression amount_cents",
            &["amonut", "expression"],
        )
        .await;
        let backwards = json!([
            {"source": "amount", "target": "amount_cents", "expression": "amount * 100", "reverse": "cents / 100.0"},
            {"source": "note", "target": "remark"},
            {"source": "legacy", "drop": true},
        ]);
        let world_of = world(from, to, json!({"columns": backwards})).await;
        found(
            &preflight(&world_of),
            "ExpressionFails",
            "Expression amount",
            &["cents", "reverse"],
        )
        .await;
        // A condition in the source's names does not do for a target that has others.
        let world_of = world(from, to, json!({"where": "note IS NOT NULL"})).await;
        found(
            &preflight(&world_of),
            "ConditionFails",
            "Where orders target/main",
            &["note", "whereTarget"],
        )
        .await;
        let both = json!({"where": "note IS NOT NULL", "whereTarget": "remark IS NOT NULL"});
        preflight(&world(from, to, both).await).run().await.unwrap();
    }
}

#[tokio::test]
async fn a_row_that_leaves_the_subset_leaves_the_follower() {
    for (from, to) in PAIRS {
        let both = json!({"where": "note = 'a' OR region = 'de'", "whereTarget": "remark = 'a' OR region = 'de'"});
        let world = world(from, to, both).await;
        // A row of somebody else: not in the subset, and left alone.
        world
            .target
            .execute("INSERT INTO orders VALUES (90, 1, 'else', 'us', NULL, '2024-01-01')")
            .await;
        world.source_first().await;
        world.copy(1).run().await.unwrap();
        assert_eq!(texts(&world.target, "id, remark").await, ["1|a", "3|", "90|else"]);
        world
            .source
            .execute("UPDATE orders SET region = 'fr', updated_at = '2024-02-01' WHERE id = 3")
            .await;
        world
            .source
            .execute("UPDATE orders SET note = 'a', updated_at = '2024-02-01' WHERE id = 2")
            .await;
        let verify = world.full(Direction::Forward, 1);
        verify.run().await.unwrap();
        let report = verify.verify();
        assert_eq!(
            (report.target_missing, report.base_missing, report.repaired),
            (1, 1, 2),
            "{report:?}"
        );
        assert_eq!(
            texts(&world.target, "id, remark").await,
            ["1|a", "2|a", "90|else"],
            "{from:?} to {to:?}"
        );
    }
}
