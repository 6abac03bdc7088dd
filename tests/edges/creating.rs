//! Target tables made from the source's, and their secondary indexes built before or after the copy.

use crate::PAIRS;
use crate::harness::{World, control};
use crate::looking::{checks, found, preflight, things};
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::support::TestDatabase;
use datamigration::words::{Direction, Mode, SecondaryWrites};
use serde_json::{Value, json};

fn source(kind: Kind) -> &'static str {
    match kind {
        MariaDb => {
            "CREATE TABLE orders (id BIGINT AUTO_INCREMENT PRIMARY KEY, big BIGINT UNSIGNED NULL, code VARCHAR(40) NOT NULL, paid TINYINT(1) NOT NULL \
             DEFAULT 0, amount DECIMAL(20,4) NOT NULL DEFAULT 1.5, ratio DOUBLE NULL, small FLOAT NULL, body LONGTEXT NULL, \
             raw VARBINARY(300) NULL, day DATE NULL, moment TIME NULL, at TIMESTAMP(3) NULL, extra JSON NULL, \
             kind ENUM('a', 'b') NOT NULL DEFAULT 'b', updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), \
             UNIQUE KEY code (code), KEY updated_at (updated_at), KEY paid_day (paid, day))"
        }
        Postgres => {
            "CREATE TABLE orders (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, big NUMERIC(20,0) NULL, code VARCHAR(40) NOT NULL CONSTRAINT code UNIQUE, \
             paid BOOLEAN NOT NULL DEFAULT false, amount NUMERIC(20,4) NOT NULL DEFAULT 1.5, ratio DOUBLE PRECISION NULL, small REAL NULL, \
             body TEXT NULL, raw BYTEA NULL, day DATE NULL, moment TIME NULL, at TIMESTAMPTZ(3) NULL, extra JSONB NULL, \
             kind VARCHAR(1) NOT NULL DEFAULT 'b', updated_at TIMESTAMP(6) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')); \
             CREATE INDEX updated_at ON orders (updated_at); CREATE INDEX paid_day ON orders (paid, day DESC)"
        }
    }
}

fn rows(kind: Kind) -> String {
    let (numbers, raw, paid) = match kind {
        MariaDb => ("seq_1_to_500", "UNHEX('00FF')", "seq % 2"),
        Postgres => ("generate_series(1, 500) AS seq", "'\\x00ff'::bytea", "seq % 2 = 1"),
    };
    format!(
        "INSERT INTO orders (code, paid, ratio, small, body, raw, day, moment, at, extra, updated_at) \
         SELECT CONCAT('c', seq), {paid}, 0.1, 0.5, 'tëxt ', {raw}, '2024-02-29', '23:59:58', '2024-02-29 01:02:03.5', \
         '{{\"a\": 1.50}}', '2024-01-01' FROM {numbers}"
    )
}

async fn indexes(database: &TestDatabase) -> Vec<String> {
    let sql = match database.kind {
        MariaDb => {
            "SELECT DISTINCT CAST(index_name AS CHAR) FROM information_schema.statistics WHERE table_schema = DATABASE() AND \
             table_name = 'orders' AND non_unique = 1 ORDER BY 1"
        }
        Postgres => {
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'orders'::regclass AND NOT indisunique AND indisvalid \
             ORDER BY 1"
        }
    };
    database.texts(sql).await.into_iter().flatten().collect()
}

async fn world(from: Kind, to: Kind, secondary: &str) -> World {
    let changes = json!({"copy": {"createTables": true, "secondaryIndexes": secondary}});
    let nothing = "SELECT 1";
    let world = World::with(from, to, changes, source(from), nothing).await;
    world.source.execute(&rows(from)).await;
    world
}

#[tokio::test]
async fn a_missing_table_is_made_so_that_every_row_is_carried_exactly() {
    for (from, to) in PAIRS {
        for (secondary, before) in [("Before", 2), ("After", 0)] {
            let world = world(from, to, secondary).await;
            let looked = preflight(&world);
            looked
                .run()
                .await
                .unwrap_or_else(|error| panic!("{from:?} to {to:?}: {error}\n{:#?}", checks(&looked)));
            assert!(
                checks(&looked)
                    .iter()
                    .any(|check| check.name.starts_with("Creation orders"))
            );
            assert_eq!(things(&world.target).await, ["orders"]);
            assert_eq!(
                indexes(&world.target).await.len(),
                before,
                "{from:?} to {to:?} {secondary}"
            );
            // Again: nothing is left to be done.
            let again = preflight(&world);
            again.run().await.unwrap();
            assert!(!checks(&again).iter().any(|check| check.name.starts_with("Creation")));

            world.source_first().await;
            let copy = world.copy(1);
            copy.run().await.unwrap();
            assert_eq!(indexes(&world.target).await.len(), 2, "{from:?} to {to:?} {secondary}");
            let statements = copy.context.status.current().statements;
            assert_eq!(statements.len(), 2 - before, "{statements:?}");
            assert!(
                statements.iter().all(|statement| statement.contains("INDEX")),
                "{statements:?}"
            );
            let verify = world.full(Direction::Forward, 1);
            verify.run().await.unwrap();
            let report = verify.verify();
            assert_eq!(
                (report.compared, report.repaired, report.outstanding),
                (1_000, 0, 0),
                "{from:?} to {to:?}"
            );
            // Keys, defaults and uniqueness are the target's own now.
            let insert = "INSERT INTO orders (code) VALUES ('new')";
            world
                .reach(control(2, Mode::DstFirst, SecondaryWrites::Lenient, 2))
                .await;
            world.target.execute(insert).await;
            assert_eq!(
                world
                    .target
                    .number("SELECT COUNT(*) FROM orders WHERE code = 'new' AND id > 500 AND kind = 'b'")
                    .await,
                1,
                "{from:?} to {to:?}"
            );
            assert!(world.target.try_execute(insert).await.is_err(), "the code is unique");
        }
    }
}

#[tokio::test]
async fn a_table_that_cannot_be_made_is_told_with_its_column() {
    let changes = |columns: Value| json!({"copy": {"createTables": true}, "tables": [{"name": "orders", "version": "v", "columns": columns}]});
    let made = "CREATE TABLE orders (id BIGINT PRIMARY KEY, place POINT NULL, v DATETIME(6) NOT NULL)";
    let world = World::with(MariaDb, Postgres, changes(json!([])), made, "SELECT 1").await;
    found(
        &preflight(&world),
        "TableNotCreatable",
        "Creation orders",
        &["orders.place", "drop: true"],
    )
    .await;
    assert_eq!(things(&world.target).await, Vec::<String>::new());
    let dropped = changes(json!([{"source": "place", "drop": true}]));
    let world = World::with(MariaDb, Postgres, dropped, made, "SELECT 1").await;
    preflight(&world).run().await.unwrap();
}
