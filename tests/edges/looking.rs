//! Preflight: everything that would go wrong later is found before anything moves, and named with its remedy.

use crate::harness::{Task, World, fill, table};
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::support::TestDatabase;
use crate::{PAIRS, task};
use datamigration::api::task::{Check, TaskKind};
use datamigration::store::{ConnectConfig, Database, TlsMode};
use datamigration::workers::Exit;
use serde_json::{Value, json};

pub fn preflight(world: &World) -> Task {
    task(world, TaskKind::Preflight)
}

pub fn checks(worker: &Task) -> Vec<Check> {
    worker.context.status.current().checks
}

/// The preflight fails with this reason for a check of this name, says all of these words, and the process ends for good.
pub async fn found(worker: &Task, reason: &str, name: &str, words: &[&str]) {
    let error = worker.run().await.expect_err(reason);
    assert_eq!((error.reason(), error.exit()), (reason, Exit::Permanent), "{error}");
    let check = checks(worker)
        .into_iter()
        .find(|check| !check.ok && check.reason == reason);
    let check = check.unwrap_or_else(|| panic!("no check says {reason}: {:#?}", checks(worker)));
    assert!(check.name.starts_with(name), "{check:?}");
    for word in words {
        assert!(check.message.contains(word), "{word:?} is not in {:?}", check.message);
    }
}

/// Tables and routines that are in a database.
pub async fn things(database: &TestDatabase) -> Vec<String> {
    let sql = match database.kind {
        MariaDb => {
            "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = DATABASE() \
             UNION ALL SELECT CAST(trigger_name AS CHAR) FROM information_schema.triggers WHERE trigger_schema = DATABASE() ORDER BY 1"
        }
        Postgres => {
            "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' \
             UNION ALL SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal \
             UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1"
        }
    };
    database.texts(sql).await.into_iter().flatten().collect()
}

pub fn lazy(database: &TestDatabase, url: &str, ca: bool, label: &str) -> Database {
    Database::lazy(&ConnectConfig {
        url: url.into(),
        tls: TlsMode::VerifyFull,
        ca: ca.then(|| database.ca.clone()),
        max_connections: 2,
        label: label.to_owned(),
        application: "test".to_owned(),
    })
    .unwrap()
}

#[tokio::test]
async fn a_migration_that_can_run_passes_and_nothing_is_left_behind() {
    for (source, target) in PAIRS {
        let world = World::orders(source, target).await;
        fill(&world.source, 100).await;
        let worker = preflight(&world);
        worker
            .run()
            .await
            .unwrap_or_else(|error| panic!("{source:?} to {target:?}: {error}\n{:#?}", checks(&worker)));
        let status = worker.context.status.current();
        assert_eq!(status.reason.as_deref(), Some("PreflightPassed"));
        assert_eq!(status.journal, None);
        assert!(
            status.checks.len() > 10 && status.checks.iter().all(|check| check.ok),
            "{:#?}",
            status.checks
        );
        for database in [&world.source, &world.target] {
            assert_eq!(
                things(database).await,
                ["orders"],
                "no control table, no probe, no trigger"
            );
        }

        // Later, when the rows in the target are the migration's own, with its journal.
        world.source_first().await;
        world.copy(1).run().await.unwrap();
        let worker = preflight(&world);
        worker.run().await.unwrap();
        assert_eq!(worker.context.status.current().journal.unwrap().epoch, 1);
    }
}

/// Source and target with these statements after the tables are made, and what is found.
struct Case {
    what: &'static str,
    source: &'static str,
    target: &'static str,
    changes: Value,
    reason: &'static str,
    name: &'static str,
    words: &'static [&'static str],
}

fn case(what: &'static str, reason: &'static str, name: &'static str, words: &'static [&'static str]) -> Case {
    Case {
        what,
        source: "",
        target: "",
        changes: json!({}),
        reason,
        name,
        words,
    }
}

async fn is_found(source: Kind, target: Kind, case: Case) {
    let made = |kind: Kind, more: &str| format!("{}; {more}", table(kind));
    let (from, to) = (made(source, case.source), made(target, case.target));
    let world = World::with(
        source,
        target,
        case.changes,
        from.trim_end_matches("; "),
        to.trim_end_matches("; "),
    )
    .await;
    let worker = preflight(&world);
    let before = (things(&world.source).await, things(&world.target).await);
    println!("{}: {source:?} to {target:?}", case.what);
    found(&worker, case.reason, case.name, case.words).await;
    assert_eq!(
        (things(&world.source).await, things(&world.target).await),
        before,
        "{}",
        case.what
    );
}

#[tokio::test]
async fn tables_and_columns_that_do_not_fit_are_named_with_the_statement_that_helps() {
    let cases = || {
        let no_version = json!({"tables": [{"name": "orders", "version": "changed_at"}]});
        let no_table = json!({"tables": [{"name": "order", "target": "orders", "version": "updated_at"}]});
        let no_target = json!({"tables": [{"name": "orders", "target": "moved", "version": "updated_at"}]});
        [
            Case {
                changes: no_table,
                ..case(
                    "source table",
                    "TableMissing",
                    "Table order source/main",
                    &["table order is not in source/main", "create it"],
                )
            },
            Case {
                changes: no_target,
                ..case(
                    "target table",
                    "TableMissing",
                    "Table moved target/main",
                    &["table moved is not in target/main"],
                )
            },
            Case {
                changes: no_version,
                ..case(
                    "no version",
                    "VersionMissing",
                    "Columns orders",
                    &["changed_at", "ALTER TABLE"],
                )
            },
            Case {
                target: "ALTER TABLE orders DROP COLUMN note",
                ..case(
                    "column missing in the target",
                    "ColumnMissing",
                    "Columns orders",
                    &["orders.note", "drop: true"],
                )
            },
        ]
    };
    for (source, target) in PAIRS {
        for case in cases() {
            is_found(source, target, case).await;
        }
    }
    let keyless = [
        (
            MariaDb,
            "ALTER TABLE orders MODIFY id BIGINT NOT NULL, DROP PRIMARY KEY",
            "ALTER TABLE `orders` ADD PRIMARY KEY (`id`)",
        ),
        (
            Postgres,
            "ALTER TABLE orders DROP CONSTRAINT orders_pkey",
            "ALTER TABLE \"orders\" ADD PRIMARY KEY (\"id\")",
        ),
    ];
    for (kind, statement, remedy) in keyless {
        let other = if kind == MariaDb { Postgres } else { MariaDb };
        let world = World::with(
            kind,
            other,
            json!({}),
            &format!("{}; {statement}", table(kind)),
            table(other),
        )
        .await;
        found(
            &preflight(&world),
            "KeyMissing",
            "Columns orders",
            &["no primary key", remedy],
        )
        .await;
        // The statement is one that works.
        world.source.execute(remedy).await;
        preflight(&world).run().await.unwrap();
    }
    let narrow = |kind| match kind {
        MariaDb => "ALTER TABLE orders MODIFY amount INT",
        Postgres => "ALTER TABLE orders ALTER COLUMN amount TYPE INT",
    };
    for (source, target) in PAIRS {
        let case = case(
            "narrower column",
            "ColumnsIncompatible",
            "Columns orders",
            &["orders.amount", "change the target's column"],
        );
        is_found(
            source,
            target,
            Case {
                target: narrow(target),
                ..case
            },
        )
        .await;
    }
}

#[tokio::test]
async fn writes_that_the_application_does_not_see_are_refused() {
    let cascade = "CREATE TABLE customers (id BIGINT PRIMARY KEY); ALTER TABLE orders ADD COLUMN owner BIGINT NULL, \
                   ADD CONSTRAINT owned FOREIGN KEY (owner) REFERENCES customers (id) ON DELETE SET NULL";
    let trigger = |kind| match kind {
        MariaDb => "CREATE TRIGGER loud BEFORE UPDATE ON orders FOR EACH ROW SET NEW.customer = UPPER(NEW.customer)",
        Postgres => {
            "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.customer = upper(NEW.customer); RETURN NEW; END'; \
             CREATE TRIGGER loud BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION loud()"
        }
    };
    for (source, target) in [(MariaDb, Postgres), (Postgres, MariaDb)] {
        let words: &[&str] = &["owned", "ON DELETE SET NULL", "customers", "ALTER TABLE"];
        let column = "ALTER TABLE orders ADD COLUMN owner BIGINT NULL";
        let base = || case("cascade", "CascadeFound", "Writers orders", words);
        is_found(
            source,
            target,
            Case {
                source: cascade,
                target: column,
                ..base()
            },
        )
        .await;
        is_found(
            source,
            target,
            Case {
                source: column,
                target: cascade,
                ..base()
            },
        )
        .await;
        let base = || {
            case(
                "trigger",
                "RowTriggerFound",
                "Writers orders",
                &["trigger loud (BEFORE UPDATE)", "DROP TRIGGER"],
            )
        };
        is_found(
            source,
            target,
            Case {
                source: trigger(source),
                ..base()
            },
        )
        .await;
        is_found(
            source,
            target,
            Case {
                target: trigger(target),
                ..base()
            },
        )
        .await;
    }
}

#[tokio::test]
async fn rows_of_somebody_else_are_not_touched() {
    for (source, target) in PAIRS {
        let mut world = World::orders(source, target).await;
        fill(&world.target, 3).await;
        let worker = preflight(&world);
        found(
            &worker,
            "TargetNotEmpty",
            "Rows orders target/main",
            &["already holds rows", "existingRows: Adopt"],
        )
        .await;
        world.migration.target.existing_rows = datamigration::api::database::ExistingRows::Adopt;
        let worker = preflight(&world);
        worker.run().await.unwrap();
        assert!(
            checks(&worker)
                .iter()
                .any(|check| check.ok && check.reason == "RowsAdopted")
        );

        // Another migration of the same tables, by its claim.
        world.source_first().await;
        world.migration.name = "others".to_owned();
        found(
            &preflight(&world),
            "TableClaimed",
            "Table orders",
            &["belongs to DataMigration shop/orders", "u-1"],
        )
        .await;
    }
}

#[tokio::test]
async fn what_is_no_obstacle_is_noted() {
    let source = "CREATE TABLE orders (id BIGINT PRIMARY KEY, updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE \
                  CURRENT_TIMESTAMP)";
    let target = "CREATE TABLE orders (id BIGINT PRIMARY KEY, updated_at TIMESTAMPTZ(0) NOT NULL)";
    let world = World::with(MariaDb, Postgres, json!({}), source, target).await;
    let worker = preflight(&world);
    worker.run().await.unwrap();
    let notes = checks(&worker);
    for (reason, word) in [
        ("SelfStamping", "ON UPDATE"),
        ("VersionNotIndexed", "CREATE INDEX"),
        ("Note", "0 fractional digits"),
    ] {
        assert!(
            notes
                .iter()
                .any(|check| check.ok && check.reason == reason && check.message.contains(word)),
            "{reason}: {notes:#?}"
        );
    }
    let message = worker.context.status.current().message.unwrap();
    assert!(message.contains("with a note"), "{message}");
}

#[tokio::test]
async fn a_table_that_could_not_be_deleted_in_the_end_is_named_at_the_beginning() {
    for (source, target) in [(MariaDb, Postgres), (Postgres, MariaDb)] {
        let archive = json!({"archive": {
            "destination": {"url": "file:///archive", "volumeClaimRef": {"name": "archive"}}, "deleteSource": true}});
        let stranger = "CREATE TABLE stranger (id BIGINT PRIMARY KEY, order_id BIGINT, CONSTRAINT far FOREIGN KEY (order_id) \
                        REFERENCES orders (id))";
        let case = case(
            "stranger",
            "ReferencedFromOutside",
            "Archive orders",
            &["table stranger", "far", "deleteSource: false"],
        );
        is_found(
            source,
            target,
            Case {
                source: stranger,
                changes: archive,
                ..case
            },
        )
        .await;
    }
}
