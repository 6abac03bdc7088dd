//! The archive: what Parquet holds is what the source held, and nothing is deleted that the archive does not have.

use crate::harness::{Task, World, fill, rows, table};
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::support::eventually;
use crate::{fence, task};
use datamigration::api::task::{ArchiveReport, TaskKind};
use datamigration::workers::{Exit, WorkError};
use parquet::file::reader::SerializedFileReader;
use parquet::record::{Row, RowAccessor};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The source is what an archive is about; the target only carries the journal.
const SOURCES: [(Kind, Kind); 2] = [(MariaDb, Postgres), (Postgres, MariaDb)];

/// What happens to the directory of a table.
type Damage = fn(&Path);

fn to(folder: &Path, delete: bool) -> Value {
    let url = format!("file://{}", folder.display());
    json!({"archive": {"destination": {"url": url, "volumeClaimRef": {"name": "archive"}}, "deleteSource": delete}})
}

fn archive(world: &World) -> Task {
    task(world, TaskKind::Archive)
}

/// The same migration with another word on `deleteSource`.
fn deleting(world: &mut World, delete: bool) {
    world.migration.archive.as_mut().unwrap().delete_source = delete;
}

fn of(folder: &Path, table: &str) -> PathBuf {
    folder.join("shop/orders/u-1/main").join(table)
}

fn manifest(folder: &Path, table: &str) -> Value {
    serde_json::from_slice(&std::fs::read(of(folder, table).join("manifest.json")).unwrap()).unwrap()
}

/// Every row of a table's Parquet files, as the reader of any other program would see them.
fn archived_rows(folder: &Path, table: &str) -> Vec<Row> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(of(folder, table))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "parquet"))
        .collect();
    files.sort();
    files
        .into_iter()
        .flat_map(|path| {
            SerializedFileReader::new(File::open(path).unwrap())
                .unwrap()
                .into_iter()
                .map(Result::unwrap)
        })
        .collect()
}

fn report(worker: &Task) -> ArchiveReport {
    worker.context.status.current().archive.unwrap()
}

async fn count(world: &World) -> i64 {
    world.source.number("SELECT COUNT(*) FROM orders").await
}

async fn journal(world: &World) -> (String, Option<String>) {
    let archived = world
        .source
        .texts("SELECT archived FROM _datamigration_control")
        .await
        .pop()
        .flatten()
        .unwrap();
    let intent = world
        .source
        .texts("SELECT intent FROM _datamigration_control")
        .await
        .pop()
        .flatten();
    (archived, intent)
}

/// What the operator is told: whether nothing is left to be done.
async fn told_archived(world: &World) -> bool {
    let watch = world.watch(None);
    watch
        .until(Duration::from_secs(20), "the journal is read", |status| {
            status.journal.is_some()
        })
        .await;
    watch.reports.last().journal.unwrap().archived
}

#[tokio::test]
async fn values_of_every_type_are_kept_and_the_source_stays_until_told_otherwise() {
    let mariadb = "CREATE TABLE orders (id BIGINT UNSIGNED PRIMARY KEY, flag TINYINT(1), tiny TINYINT UNSIGNED, ratio DOUBLE, \
        amount DECIMAL(65,30), name VARCHAR(50), blob_ BLOB, day DATE, at TIME(6), doc JSON, place POINT, kind ENUM('a','b'), \
        double_ DOUBLE AS (ratio * 2) STORED, updated_at DATETIME(6) NOT NULL); \
        INSERT INTO orders (id, flag, tiny, ratio, amount, name, blob_, day, at, doc, place, kind, updated_at) VALUES \
        (18446744073709551615, 7, 255, 0.1, '12345678901234567890123456789012345.123456789012345678901234567890', 'ð\\0', \
         X'00FF', '0000-00-00', '-838:59:58.999999', '{\"b\":1,\"a\":1.5}', POINT(1, 2), 'b', '2024-02-29 23:59:59.999999'), \
        (1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '1000-01-01 00:00:00')";
    let postgres = "CREATE TABLE orders (id BIGINT PRIMARY KEY, flag BOOLEAN, tiny SMALLINT, ratio DOUBLE PRECISION, \
        amount NUMERIC, name TEXT, blob_ BYTEA, day DATE, at TIMETZ, doc JSONB, place POINT, kind INT[], \
        double_ DOUBLE PRECISION GENERATED ALWAYS AS (ratio * 2) STORED, updated_at TIMESTAMPTZ(6) NOT NULL); \
        INSERT INTO orders VALUES (-9223372036854775808, true, 32767, 'NaN', 'NaN', E'ð\\u0001', '\\x00ff', 'infinity', \
        '12:00:00.5+03', '{\"b\":1,\"a\":[null]}', '(1,2)', '{1,NULL,3}', DEFAULT, '2024-02-29 23:59:59.999999+02'); \
        INSERT INTO orders (id, updated_at) VALUES (1, 'infinity')";
    for (source, target) in SOURCES {
        let folder = tempfile::tempdir().unwrap();
        let changes = to(folder.path(), false);
        let made = if source == MariaDb { mariadb } else { postgres };
        let made = if source == MariaDb {
            format!("SET sql_mode = ''; {made}")
        } else {
            made.to_owned()
        };
        let mut world = World::with(source, target, changes, &made, table(target)).await;
        fence(&world).await;
        let worker = archive(&world);
        worker.run().await.unwrap();

        let told = report(&worker);
        assert_eq!((told.compared, told.deleted, told.tables.len()), (true, false, 1));
        assert_eq!((told.tables[0].table.as_str(), told.tables[0].rows), ("orders", 2));
        assert!(
            told.tables[0]
                .object
                .ends_with("/shop/orders/u-1/main/orders/manifest.json"),
            "{}",
            told.tables[0].object
        );
        assert_eq!(count(&world).await, 2);
        assert_eq!(journal(&world).await, ("Compared".to_owned(), None));

        let kept = archived_rows(folder.path(), "orders");
        let text = kept.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let expected: &[&str] = if source == MariaDb {
            &[
                "18446744073709551615",
                "flag: 7",
                "12345.12345678901234567890123456789\"",
                "0000-00-00",
                "-838:59:58.999999",
                "\"b\":1",
            ]
        } else {
            &[
                "-9223372036854775808",
                "flag: true",
                "\"NaN\"",
                "infinity",
                "12:00:00.5+03",
                "{1,NULL,3}",
                "2024-02-29 21:59:59.999999",
            ]
        };
        for value in expected {
            assert!(text.contains(value), "{value} is not in {text}");
        }
        let manifest = manifest(folder.path(), "orders");
        assert_eq!(
            (manifest["rows"].as_u64(), manifest["key"][0].as_str()),
            (Some(2), Some("id"))
        );
        assert_eq!(
            manifest["columns"].as_array().unwrap().len(),
            14,
            "every column, mapped or not"
        );

        // Told so later, it deletes what it has, having compared it once more.
        deleting(&mut world, true);
        let worker = archive(&world);
        worker.run().await.unwrap();
        assert!(report(&worker).deleted);
        assert!(
            world.source.try_execute("SELECT 1 FROM orders").await.is_err(),
            "the empty table is dropped"
        );
        assert_eq!(journal(&world).await, ("Deleted".to_owned(), None));

        // And a pod that runs a second time finds everything done.
        let again = archive(&world);
        again.run().await.unwrap();
        assert_eq!(report(&again).tables, told.tables);
        assert!(report(&again).deleted);
    }
}

/// Rows of about a kilobyte: 60,000 of them are several objects.
async fn wide(world: &World, rows: u32) {
    fill(&world.source, rows).await;
    let note = match world.source.kind {
        MariaDb => "CONCAT(id, REPEAT(MD5(id), 30))",
        Postgres => "id || repeat(md5(id::text), 30)",
    };
    world.source.execute(&format!("UPDATE orders SET note = {note}")).await;
}

#[tokio::test]
async fn killed_anywhere_it_goes_on_and_never_exports_what_it_began_to_delete() {
    const ROWS: u32 = 60_000;
    for (source, target) in SOURCES {
        let folder = tempfile::tempdir().unwrap();
        let mut changes = to(folder.path(), true);
        changes["copy"] = json!({"rateLimit": {"rowsPerSecond": 25_000}});
        let world = World::with(source, target, changes, table(source), table(target)).await;
        wide(&world, ROWS).await;
        fence(&world).await;
        let minute = Duration::from_mins(1);

        // In the middle of the export.
        let part = of(folder.path(), "orders").join("part-000000.parquet");
        let worker = archive(&world);
        tokio::select! {
            ended = worker.run() => panic!("the export ended with {ended:?}"),
            () = eventually(minute, "the first object is written", || async { part.exists() }) => {}
        }
        drop(worker);
        assert_eq!(journal(&world).await, ("No".to_owned(), None));

        // Between the export and the end of the comparison.
        let complete = of(folder.path(), "orders").join("manifest.json");
        let worker = archive(&world);
        tokio::select! {
            ended = worker.run() => panic!("the comparison ended with {ended:?}"),
            () = eventually(minute, "the manifest is written", || async { complete.exists() }) => {}
        }
        drop(worker);
        assert_eq!(count(&world).await, i64::from(ROWS));
        let exported = std::fs::read(&complete).unwrap();
        assert!(
            manifest(folder.path(), "orders")["parts"].as_array().unwrap().len() > 1,
            "several objects"
        );

        // Twice in the middle of the deletion; others meet the fence all the while.
        for left in [45_000, 20_000] {
            let worker = archive(&world);
            tokio::select! {
                ended = worker.run() => panic!("the deletion ended with {ended:?}"),
                () = eventually(minute, "rows are deleted", || async { count(&world).await < left }) => {}
            }
            let refused = world
                .source
                .try_execute("DELETE FROM orders WHERE id > 59999")
                .await
                .unwrap_err();
            assert!(refused.contains("datamigration fence:"), "{refused}");
            drop(worker);
            let (archived, intent) = journal(&world).await;
            assert_eq!(archived, "Compared");
            assert!(intent.unwrap().starts_with("DeleteSource "));
            assert!(count(&world).await > 0);
            assert!(!told_archived(&world).await, "there is work left");
        }

        let worker = archive(&world);
        worker.run().await.unwrap();
        assert!(report(&worker).deleted);
        assert_eq!(journal(&world).await, ("Deleted".to_owned(), None));
        assert!(world.source.try_execute("SELECT 1 FROM orders").await.is_err());
        assert_eq!(
            std::fs::read(&complete).unwrap(),
            exported,
            "nothing was exported again"
        );
        let kept = archived_rows(folder.path(), "orders");
        assert_eq!(kept.len(), ROWS as usize);
        let all_there = kept.iter().zip(1..).all(|(row, id)| row.get_long(0).unwrap() == id);
        assert!(all_there, "every key, in order");
    }
}

#[tokio::test]
async fn a_damaged_archive_is_noticed_before_anything_is_deleted() {
    let damages: [(&str, Damage); 4] = [
        ("a bit of an object", |folder| {
            let part = folder.join("part-000000.parquet");
            let mut bytes = std::fs::read(&part).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(part, bytes).unwrap();
        }),
        ("a cut object", |folder| {
            let part = File::options()
                .write(true)
                .open(folder.join("part-000000.parquet"))
                .unwrap();
            part.set_len(1_000).unwrap();
        }),
        ("a missing object", |folder| {
            std::fs::remove_file(folder.join("part-000000.parquet")).unwrap();
        }),
        ("a cut manifest", |folder| {
            File::options()
                .write(true)
                .open(folder.join("manifest.json"))
                .unwrap()
                .set_len(100)
                .unwrap();
        }),
    ];
    for (source, target) in SOURCES {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::with(source, target, to(folder.path(), false), table(source), table(target)).await;
        fill(&world.source, 5_000).await;
        fence(&world).await;
        for (what, damage) in damages {
            deleting(&mut world, false);
            archive(&world).run().await.unwrap();
            damage(&of(folder.path(), "orders"));
            deleting(&mut world, true);
            let error = archive(&world).run().await.unwrap_err();
            assert_eq!(
                (error.reason(), error.exit()),
                ("ArchiveCorrupt", Exit::Permanent),
                "{what}: {error}"
            );
            assert_eq!(count(&world).await, 5_000, "{what}");
            assert_eq!(journal(&world).await.1, None, "{what}: nothing was begun");
            // The remedy that the message names.
            std::fs::remove_dir_all(of(folder.path(), "orders")).unwrap();
        }
        archive(&world).run().await.unwrap();
        assert_eq!(journal(&world).await.0, "Deleted");
    }
}

#[tokio::test]
async fn an_archive_that_is_lost_halfway_through_the_deletion_stops_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut changes = to(folder.path(), true);
    changes["copy"] = json!({"rateLimit": {"rowsPerSecond": 4_000}});
    let world = World::with(MariaDb, Postgres, changes, table(MariaDb), table(Postgres)).await;
    fill(&world.source, 10_000).await;
    fence(&world).await;
    let worker = archive(&world);
    tokio::select! {
        ended = worker.run() => panic!("the deletion ended with {ended:?}"),
        () = eventually(Duration::from_mins(1), "rows are deleted", || async { count(&world).await < 9_000 }) => {}
    }
    drop(worker);
    let left = count(&world).await;
    std::fs::remove_dir_all(of(folder.path(), "orders")).unwrap();
    let error = archive(&world).run().await.unwrap_err();
    assert_eq!(error.reason(), "ArchiveCorrupt", "{error}");
    assert_eq!(count(&world).await, left);
    assert!(
        !of(folder.path(), "orders").join("manifest.json").exists(),
        "a half-deleted table is not exported"
    );
}

#[tokio::test]
async fn a_row_that_the_archive_does_not_have_is_never_deleted() {
    for (source, target) in SOURCES {
        let folder = tempfile::tempdir().unwrap();
        let mut changes = to(folder.path(), false);
        changes["copy"] = json!({"rateLimit": {"rowsPerSecond": 4_000}});
        let mut world = World::with(source, target, changes, table(source), table(target)).await;
        fill(&world.source, 10_000).await;
        fence(&world).await;
        archive(&world).run().await.unwrap();

        // Somebody goes round the fence after the comparison.
        round_the_fence(&world, "UPDATE orders SET note = 'rogue' WHERE id = 9999").await;
        deleting(&mut world, true);
        let error = archive(&world).run().await.unwrap_err();
        assert_eq!(error.reason(), "ArchiveDiffers", "{error}");
        assert!(error.to_string().contains("[9999]"), "{error}");
        assert_eq!(count(&world).await, 10_000);

        // And again while the rows are being deleted.
        round_the_fence(&world, "UPDATE orders SET note = NULL WHERE id = 9999").await;
        std::fs::remove_dir_all(of(folder.path(), "orders")).unwrap();
        let worker = archive(&world);
        tokio::select! {
            ended = worker.run() => panic!("the deletion ended with {ended:?}"),
            () = eventually(Duration::from_mins(1), "rows are deleted", || async { count(&world).await < 9_000 }) => {}
        }
        drop(worker);
        round_the_fence(&world, "UPDATE orders SET note = 'rogue' WHERE id = 9999").await;
        let error = archive(&world).run().await.unwrap_err();
        assert_eq!(error.reason(), "ArchiveDiffers", "{error}");
        assert_eq!(
            world
                .source
                .number("SELECT COUNT(*) FROM orders WHERE note = 'rogue'")
                .await,
            1
        );
    }
}

async fn round_the_fence(world: &World, sql: &str) {
    match world.source.kind {
        MariaDb => {
            world
                .source
                .execute(&format!(
                    "SET @datamigration_fence_pass = 'shop/orders#TargetOnly'; {sql}"
                ))
                .await;
        }
        Postgres => {
            let pass = "SET datamigration.fence_pass = 'shop/orders#TargetOnly'";
            world.source.execute(&format!("{pass}; {sql}")).await;
        }
    }
}

#[tokio::test]
async fn nothing_is_archived_without_a_fence_or_by_a_stale_worker() {
    for (source, target) in SOURCES {
        let folder = tempfile::tempdir().unwrap();
        let world = World::with(source, target, to(folder.path(), true), table(source), table(target)).await;
        fill(&world.source, 10).await;
        crate::target_only(&world).await;
        let error = archive(&world).run().await.unwrap_err();
        assert_eq!(
            (error.reason(), error.exit()),
            ("NotFenced", Exit::Permanent),
            "{error}"
        );

        task(&world, TaskKind::Fence).run().await.unwrap();
        let mut stale = archive(&world);
        stale.context.task.epoch = 0;
        assert!(matches!(stale.run().await, Err(WorkError::Stale(_))));
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "nothing was written"
        );

        // The journal says fenced, the fence is gone.
        let drop = match source {
            MariaDb => world.source.texts(
                "SELECT CONCAT('DROP TRIGGER ', trigger_name) FROM information_schema.triggers WHERE trigger_schema = DATABASE()",
            ),
            Postgres => world.source.texts("SELECT 'DROP TRIGGER ' || tgname || ' ON orders' FROM pg_trigger WHERE NOT tgisinternal"),
        };
        for statement in drop.await.into_iter().flatten() {
            world.source.execute(&statement).await;
        }
        let error = archive(&world).run().await.unwrap_err();
        assert_eq!(error.reason(), "FenceIneffective", "{error}");
        assert_eq!(count(&world).await, 10);
    }
}

#[tokio::test]
async fn a_subset_is_archived_and_deleted_and_the_rest_stays_behind_the_fence() {
    for (source, target) in SOURCES {
        let folder = tempfile::tempdir().unwrap();
        let mut changes = to(folder.path(), true);
        changes["tables"] = json!([{"name": "orders", "version": "updated_at", "where": "id > 400"}]);
        let world = World::with(source, target, changes, table(source), table(target)).await;
        fill(&world.source, 1_000).await;
        let before = rows(&world.source).await;
        fence(&world).await;
        let worker = archive(&world);
        worker.run().await.unwrap();
        assert_eq!(report(&worker).tables[0].rows, 600);
        assert_eq!(archived_rows(folder.path(), "orders").len(), 600);
        assert_eq!(rows(&world.source).await, before[..400]);
        assert!(
            world.source.try_execute("DELETE FROM orders").await.is_err(),
            "still fenced"
        );
    }
}

#[tokio::test]
async fn tables_that_refer_to_each_other_go_in_order_and_strangers_rows_are_left_alone() {
    for (source, target) in SOURCES {
        let folder = tempfile::tempdir().unwrap();
        let mut changes = to(folder.path(), true);
        // The parent stands first in the manifest.
        changes["tables"] =
            json!([{"name": "orders", "version": "updated_at"}, {"name": "items", "version": "updated_at"}]);
        let time = if source == MariaDb {
            "DATETIME(6)"
        } else {
            "TIMESTAMP(6)"
        };
        let items = |name: &str, action: &str| {
            format!(
                "CREATE TABLE {name} (id BIGINT PRIMARY KEY, order_id BIGINT NOT NULL, updated_at {time} NOT NULL, \
                 FOREIGN KEY (order_id) REFERENCES orders (id) {action}); \
                 INSERT INTO {name} SELECT id, id, updated_at FROM orders"
            )
        };
        let made = format!("{}; CREATE TABLE items (id BIGINT PRIMARY KEY)", table(target));
        let world = World::with(source, target, changes, table(source), &made).await;
        fill(&world.source, 2_000).await;
        world.source.execute(&items("items", "")).await;
        world.source.execute(&items("stranger", "ON DELETE CASCADE")).await;
        fence(&world).await;

        let error = archive(&world).run().await.unwrap_err();
        assert_eq!(error.reason(), "CascadeFound", "{error}");
        assert!(error.to_string().contains("stranger"), "{error}");
        assert_eq!(world.source.number("SELECT COUNT(*) FROM stranger").await, 2_000);
        assert_eq!(count(&world).await, 2_000);

        world.source.execute("DROP TABLE stranger").await;
        let worker = archive(&world);
        worker.run().await.unwrap();
        assert_eq!(
            report(&worker)
                .tables
                .iter()
                .map(|table| table.rows)
                .collect::<Vec<_>>(),
            [2_000, 2_000]
        );
        for table in ["items", "orders"] {
            assert!(
                world
                    .source
                    .try_execute(&format!("SELECT 1 FROM {table}"))
                    .await
                    .is_err(),
                "{table}"
            );
        }
    }
}
