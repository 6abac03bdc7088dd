//! DDL in the middle: the worker stops before it carries a row under wrong assumptions, says what changed with both types,
//! and goes on from where it was once the tables fit each other again.

use crate::harness::{World, fill, rows, table};
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::support::eventually;
use datamigration::words::Direction;
use datamigration::workers::{Exit, WorkError};
use serde_json::json;
use std::time::Duration;

/// Copies slowly, runs the statement when some rows are in the target, and answers with what ended the worker.
async fn in_the_middle(world: &World, on: &crate::support::TestDatabase, statement: &str) -> WorkError {
    let worker = world.copy(1);
    let change = async {
        eventually(Duration::from_secs(30), "rows in the target", || async {
            world.target.number("SELECT COUNT(*) FROM orders").await > 0
        })
        .await;
        on.execute(statement).await;
    };
    let (ended, ()) = Box::pin(async { tokio::join!(worker.run(), change) }).await;
    ended.expect_err("the copy went on")
}

fn slow(source: Kind, target: Kind) -> impl Future<Output = World> {
    let changes = json!({"copy": {"parallelism": 2, "rateLimit": {"rowsPerSecond": 2_500}}});
    World::with(source, target, changes, table(source), table(target))
}

#[tokio::test]
async fn a_column_that_appears_stops_the_copy_until_it_is_on_both_sides() {
    for (source, target) in [(MariaDb, Postgres), (Postgres, MariaDb)] {
        let mut world = slow(source, target).await;
        fill(&world.source, 25_000).await;
        world.source_first().await;
        let error = in_the_middle(
            &world,
            &world.source,
            "ALTER TABLE orders ADD COLUMN colour VARCHAR(20) NULL",
        )
        .await;
        assert_eq!(
            (error.reason(), error.exit()),
            ("SchemaDrift", Exit::Permanent),
            "{error}"
        );
        for word in [
            "table orders of source/main",
            "colour",
            "varchar(20)",
            "is new",
            "both sides",
        ] {
            let text = error.to_string().replace("character varying", "varchar");
            assert!(text.contains(word), "{word:?} is not in {text:?}");
        }
        let copied = world.target.number("SELECT COUNT(*) FROM orders").await;
        assert!(copied < 25_000, "{copied}");

        // As long as only one side has it, the next attempt says the same.
        let error = world.copy(1).run().await.unwrap_err();
        assert_eq!(error.reason(), "SchemaDrift", "{error}");
        assert!(error.to_string().contains("colour"), "{error}");

        world
            .target
            .execute("ALTER TABLE orders ADD COLUMN colour VARCHAR(20) NULL")
            .await;
        world
            .source
            .execute("UPDATE orders SET colour = 'red' WHERE id > 24000")
            .await;
        world.migration.copy.limits.rows_per_second = None;
        world.copy(1).run().await.unwrap();
        world.full(Direction::Forward, 1).run().await.unwrap();
        assert_eq!(
            rows(&world.source).await,
            rows(&world.target).await,
            "{source:?} to {target:?}"
        );
        let red = "SELECT COUNT(*) FROM orders WHERE colour = 'red'";
        assert_eq!(world.target.number(red).await, 1_000);
    }
}

#[tokio::test]
async fn a_type_that_changes_is_named_with_both_types() {
    let narrower = |kind| match kind {
        MariaDb => (
            "ALTER TABLE orders MODIFY note VARCHAR(500) NULL",
            "was text",
            "is varchar(500)",
        ),
        Postgres => (
            "ALTER TABLE orders ALTER COLUMN note TYPE VARCHAR(500)",
            "was text",
            "is character varying(500)",
        ),
    };
    for (source, target) in [(MariaDb, Postgres), (Postgres, MariaDb)] {
        let world = slow(source, target).await;
        fill(&world.source, 25_000).await;
        world.source_first().await;
        let (statement, was, is) = narrower(target);
        let error = in_the_middle(&world, &world.target, statement).await;
        assert_eq!(error.reason(), "SchemaDrift", "{error}");
        for word in ["table orders of target/main", "column note", was, is] {
            assert!(error.to_string().contains(word), "{word:?} is not in {error}");
        }
    }
}

#[tokio::test]
async fn a_verify_under_way_stops_too() {
    for (source, target) in [(MariaDb, Postgres), (Postgres, MariaDb)] {
        let world = World::orders(source, target).await;
        fill(&world.source, 500).await;
        world.source_first().await;
        world.copy(1).run().await.unwrap();
        let worker = world.incremental(Direction::Forward, 1);
        let change = async {
            eventually(Duration::from_secs(30), "a window", || async {
                worker.reports.last().verify.is_some_and(|report| report.windows > 0)
            })
            .await;
            world.source.execute("ALTER TABLE orders DROP COLUMN note").await;
        };
        let (ended, ()) = tokio::join!(worker.run(), change);
        let error = ended.expect_err("it never ends by itself");
        assert_eq!(error.reason(), "SchemaDrift", "{error}");
        assert!(
            error.to_string().contains("column note") && error.to_string().contains("is gone"),
            "{error}"
        );
        // Undone, it goes on.
        world
            .source
            .execute("ALTER TABLE orders ADD COLUMN note TEXT NULL")
            .await;
        let worker = world.incremental(Direction::Forward, 1);
        worker
            .until(Duration::from_secs(30), "a window", |status| {
                status.verify.as_ref().is_some_and(|report| report.windows > 0)
            })
            .await;
    }
}
