//! Foreign keys of the target: tables are filled in the order of their references, and what has no order is refused.

use crate::harness::{World, spec};
use crate::looking::{found, preflight};
use crate::support::Kind::{MariaDb, Postgres};
use datamigration::api::task::{MigrationTaskSpec, TaskKind};
use datamigration::words::Direction;
use serde_json::json;

const BOTH: [(crate::support::Kind, crate::support::Kind); 2] = [(MariaDb, Postgres), (Postgres, MariaDb)];

fn tables(names: &[&str]) -> serde_json::Value {
    let tables: Vec<_> = names.iter().map(|name| json!({"name": name, "version": "v"})).collect();
    json!({"tables": tables})
}

fn make(kind: crate::support::Kind) -> String {
    let stamp = if kind == MariaDb { "DATETIME(6)" } else { "TIMESTAMP(6)" };
    format!(
        "CREATE TABLE people (id BIGINT PRIMARY KEY, v {stamp} NOT NULL); \
         CREATE TABLE orders (id BIGINT PRIMARY KEY, person BIGINT NOT NULL, v {stamp} NOT NULL, \
         CONSTRAINT theirs FOREIGN KEY (person) REFERENCES people (id))"
    )
}

#[tokio::test]
async fn a_table_is_copied_after_those_it_refers_to() {
    for (source, target) in BOTH {
        // The child stands first in the manifest.
        let world = World::with(
            source,
            target,
            tables(&["orders", "people"]),
            &make(source),
            &make(target),
        )
        .await;
        let numbers = if source == MariaDb {
            "seq_1_to_3000"
        } else {
            "generate_series(1, 3000) AS seq"
        };
        world
            .source
            .execute(&format!(
                "INSERT INTO people SELECT seq, '2024-01-01' FROM {numbers}; \
                 INSERT INTO orders SELECT seq, 3001 - seq, '2024-01-01' FROM {numbers}"
            ))
            .await;
        preflight(&world).run().await.unwrap();
        world.source_first().await;
        let copy = |table: &str| {
            world.task(MigrationTaskSpec {
                table: Some(table.to_owned()),
                ..spec(TaskKind::Copy, None, Direction::Forward, 1)
            })
        };
        let (children, parents) = (copy("orders"), copy("people"));
        let reports = children.reports.clone();
        let in_turn = async {
            // The child's worker says what it waits for, with no row of its own in the target.
            crate::support::eventually(std::time::Duration::from_secs(30), "it waits", || async {
                reports.last().reason.as_deref() == Some("ParentFirst")
            })
            .await;
            assert_eq!(world.target.number("SELECT COUNT(*) FROM orders").await, 0);
            parents.run().await
        };
        let (child, parent) = tokio::join!(children.run(), in_turn);
        parent.unwrap();
        child.unwrap();
        assert_eq!(world.target.number("SELECT COUNT(*) FROM orders").await, 3_000);
        assert_eq!(
            world.target.number("SELECT COUNT(*) FROM _datamigration_rejects").await,
            0
        );
    }
}

#[tokio::test]
async fn references_that_no_order_meets_are_refused_with_the_statement_that_helps() {
    for (source, target) in BOTH {
        let drop = match target {
            MariaDb => "DROP FOREIGN KEY",
            Postgres => "DROP CONSTRAINT",
        };
        let alone = World::with(source, target, tables(&["orders"]), &make(source), &make(target)).await;
        let words = ["theirs", "people", "does not move", "spec.tables", drop];
        found(&preflight(&alone), "ReferenceOutside", "References target/main", &words).await;

        let circle = World::with(
            source,
            target,
            tables(&["orders", "people"]),
            &make(source),
            &make(target),
        )
        .await;
        circle
            .source
            .execute("ALTER TABLE people ADD COLUMN latest BIGINT NULL")
            .await;
        circle
            .target
            .execute(
                "ALTER TABLE people ADD COLUMN latest BIGINT NULL, \
                 ADD CONSTRAINT last_one FOREIGN KEY (latest) REFERENCES orders (id)",
            )
            .await;
        let words = ["lead back", drop, "TargetFirst"];
        found(&preflight(&circle), "ReferenceCycle", "References target/main", &words).await;
        circle
            .target
            .execute(&format!("ALTER TABLE people {drop} last_one"))
            .await;
        preflight(&circle).run().await.unwrap();

        circle
            .target
            .execute("ALTER TABLE people ADD CONSTRAINT own FOREIGN KEY (latest) REFERENCES people (id)")
            .await;
        let words = ["its own table", "own", drop];
        found(&preflight(&circle), "ReferenceCycle", "References target/main", &words).await;
    }
}
