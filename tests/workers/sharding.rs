//! Sharded tables through the workers: every row ends in its shard, a row in the wrong one is found and moved, and what is
//! interrupted goes on.

use crate::harness::control;
use crate::sharded::{Id, Shape, Sharded, apart, ids, together};
use crate::support::Kind::{MariaDb, Postgres};
use datamigration::api::task::{TaskKind, VerifyReport};
use datamigration::words::{Direction, Mode, SecondaryWrites};
use serde_json::{Value, json};
use std::time::Duration;

const ROWS: i64 = 600;

/// Copies, compares, plants what may go wrong, and compares again.
async fn moves(source: Shape, target: Shape, shard_by: Value, back: bool) {
    let world = Sharded::new(
        source,
        target,
        shard_by,
        json!({"verify": {"lag": "1s", "interval": "1s", "maxDeletes": 1}}),
    )
    .await;
    let ids = world.fill(ROWS).await;
    world.of_kind(TaskKind::Preflight, 0).run().await.unwrap();
    world.source_first().await;
    let copy = world.copy(1);
    copy.run().await.unwrap();
    let progress = copy.context.status.current().progress.unwrap();
    assert_eq!((progress.rows, progress.rows_total), (ROWS as u64, ROWS as u64));
    assert_eq!(progress.chunks, progress.chunks_done);
    world.assert_equal().await;

    let full = world.full(Direction::Forward, 1);
    full.run().await.unwrap();
    let VerifyReport {
        compared,
        repaired,
        outstanding,
        ..
    } = full.verify();
    assert_eq!((compared, repaired, outstanding), (2 * ROWS as u64, 0, 0));

    plant(&world, &ids).await;
    let full = world.full(Direction::Forward, 1);
    full.run().await.unwrap();
    let report = full.verify();
    let sharded = world.migration.tables[0].sharding.target.is_some();
    let (missing, misplaced) = if sharded { (4, 6) } else { (4, 0) };
    assert_eq!(
        (
            report.target_missing,
            report.neq,
            report.base_missing,
            report.misplaced,
            report.outstanding
        ),
        (missing, 1, 1, misplaced, 0),
        "{report:?}"
    );
    world.assert_equal().await;

    if !back {
        return;
    }
    // The other way round: what was the follower is right now.
    world
        .reach(control(2, Mode::SrcFirst, SecondaryWrites::Strict, 1))
        .await;
    world
        .reach(control(3, Mode::DstFirst, SecondaryWrites::Strict, 3))
        .await;
    world
        .target
        .run(
            0,
            "UPDATE {t} SET note = 'newer', updated_at = updated_at + INTERVAL '1' SECOND",
        )
        .await;
    let back = world.full(Direction::Reverse, 3);
    back.run().await.unwrap();
    assert!(back.verify().neq > 0, "{:?}", back.verify());
    world.assert_equal().await;
}

/// Of the target: four rows gone, three of them to the wrong shard, where three more stand twice; one changed; one that
/// nobody knows.
async fn plant(world: &Sharded, ids: &[Id]) {
    let placement = world.migration.tables[0].sharding.target.clone();
    let shards = world.target.shards.len();
    let place = |id: &Id| {
        placement
            .as_ref()
            .map_or(0, |one| Sharded::place(&one.by, id, one.shards))
    };
    for (nth, id) in ids.iter().take(7).enumerate() {
        let (right, wrong) = (place(id), (place(id) + 1) % shards);
        if nth < 4 {
            world
                .target
                .run(right, &format!("DELETE FROM {{t}} WHERE id = {}", id.2))
                .await;
        }
        if nth != 0 && shards > 1 {
            world.target.put(wrong, std::slice::from_ref(id), "elsewhere").await;
        }
    }
    let changed = &ids[9];
    world
        .target
        .run(
            place(changed),
            &format!("UPDATE {{t}} SET note = 'changed' WHERE id = {}", changed.2),
        )
        .await;
    let unknown = ("acme".to_owned(), 3, 1_000_000);
    world.target.put(place(&unknown), &[unknown], "unknown").await;
}

#[tokio::test]
async fn one_database_becomes_three_by_modulo() {
    moves(
        apart(MariaDb, 1),
        apart(MariaDb, 3),
        json!({"columns": ["user_id"], "function": "Modulo"}),
        false,
    )
    .await;
}

#[tokio::test]
async fn two_become_three_by_hash_across_engines() {
    moves(
        apart(MariaDb, 2),
        apart(Postgres, 3),
        json!({"columns": ["tenant", "user_id"], "function": "Hash"}),
        true,
    )
    .await;
}

#[tokio::test]
async fn two_become_four_in_one_database_under_numbered_names() {
    moves(
        apart(Postgres, 2),
        together(Postgres, 4),
        json!({"columns": ["user_id"], "function": "Modulo"}),
        false,
    )
    .await;
}

#[tokio::test]
async fn four_ranges_of_one_database_become_one_table() {
    let by = json!({"columns": ["user_id"], "function": "Range", "bounds": [-20, 0, 30]});
    moves(together(Postgres, 4), apart(MariaDb, 1), by, true).await;
}

#[tokio::test]
async fn ranges_become_hashes() {
    let own = json!({"columns": ["user_id"], "function": "Range", "bounds": [0]});
    let by = json!({"columns": ["id"], "function": "Hash", "source": own});
    moves(together(MariaDb, 2), apart(MariaDb, 2), by, false).await;
}

#[tokio::test]
async fn a_copy_that_is_stopped_in_the_middle_goes_on() {
    let by = json!({"columns": ["user_id"], "function": "Modulo"});
    let world = Sharded::new(
        apart(MariaDb, 2),
        apart(MariaDb, 3),
        by,
        json!({"copy": {"parallelism": 1, "rateLimit": {"rowsPerSecond": 400}}}),
    )
    .await;
    world.fill(ROWS).await;
    world.source_first().await;
    let first = world.copy(1);
    // Dropped where it is, in some leg.
    first
        .until(Duration::from_secs(30), "some rows", |status| {
            status.progress.as_ref().is_some_and(|progress| progress.rows > 0)
        })
        .await;
    let before = world.target.all().await.len();
    assert!(before < ROWS as usize, "nothing was left to be done");
    let mut world = world;
    world.migration.copy.limits.rows_per_second = None;
    let second = world.copy(1);
    second.run().await.unwrap();
    assert_eq!(second.context.status.current().progress.unwrap().rows, ROWS as u64);
    world.assert_equal().await;
}

#[tokio::test]
async fn the_incremental_verify_keeps_every_shard_in_step() {
    let by = json!({"columns": ["user_id"], "function": "Modulo"});
    let world = Sharded::new(apart(Postgres, 2), apart(MariaDb, 3), by, json!({})).await;
    world.fill(ROWS).await;
    world.source_first().await;
    world.copy(1).run().await.unwrap();
    // Written to the base alone: the windows of versions see it.
    let new: Vec<Id> = (0..12).map(|user| ("acme".to_owned(), user, 5_000 + user)).collect();
    for id in &new {
        world
            .source
            .put_now((id.1 % 2) as usize, std::slice::from_ref(id), "new")
            .await;
    }
    // In the wrong shard of the follower, just now.
    world
        .target
        .put_now(2, &[("acme".to_owned(), 3, 5_003)], "elsewhere")
        .await;
    // Deleted and told in the list of the row's shard; no window shows it. One entry is in another shard's list.
    for (user, told) in [(4, 0), (5, 0)] {
        let row = ids(ROWS).into_iter().find(|id| id.1 == user).unwrap();
        world
            .source
            .run((user % 2) as usize, &format!("DELETE FROM {{t}} WHERE id = {}", row.2))
            .await;
        let key = json!([row.1, row.0, row.2]);
        let sql = format!(
            "INSERT INTO _datamigration_deletes (migration, uid, table_name, row_key, version, deleted_at) VALUES \
             ('shop/orders', 'u-1', 'orders', '{key}', NULL, (clock_timestamp() AT TIME ZONE 'UTC'))"
        );
        world.source.run(told, &sql).await;
    }
    let task = world.incremental(Direction::Forward, 1);
    task.until(Duration::from_mins(1), "a clean window", |status| {
        status.verify.as_ref().is_some_and(|verify| {
            verify.repaired >= 15 && verify.misplaced == 1 && verify.outstanding == 0 && verify.clean_since.is_some()
        })
    })
    .await;
    world.assert_equal().await;
    let left = "SELECT COUNT(*) FROM _datamigration_deletes";
    for (database, _) in &world.source.shards {
        assert_eq!(database.number(left).await, 0);
    }
}

#[tokio::test]
async fn preflight_finds_what_cannot_be_sharded() {
    let by = json!({"columns": ["user_id"], "function": "Modulo"});
    let world = Sharded::new(apart(MariaDb, 2), apart(Postgres, 2), by, json!({})).await;
    world.fill(ROWS).await;
    // Belongs to shard 1.
    world.source.put(0, &[("acme".to_owned(), 7, 9_000)], "stray").await;
    world.target.run(1, "ALTER TABLE {t} ADD COLUMN extra INT NULL").await;
    world
        .target
        .run(
            0,
            "ALTER TABLE {t} ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY",
        )
        .await;
    let task = world.of_kind(TaskKind::Preflight, 0);
    task.run().await.unwrap_err();
    let checks = task.context.status.current().checks;
    for (reason, words) in [
        ("RowsMisplaced", vec!["1 rows", "source/s0", "9000"]),
        ("ShardsDiffer", vec!["target/s0", "target/s1", "extra"]),
        ("KeyGeneratedInShards", vec!["orders.id of the target"]),
    ] {
        let check = checks.iter().find(|check| check.reason == reason);
        let check = check.unwrap_or_else(|| panic!("{reason} is not in {checks:#?}"));
        for word in words {
            assert!(!check.ok && check.message.contains(word), "{check:?}");
        }
    }

    // A full verify says the same of the row and leaves it where it is; the gate stays shut for it.
    world.target.run(1, "ALTER TABLE {t} DROP COLUMN extra").await;
    world
        .target
        .run(0, "ALTER TABLE {t} ALTER COLUMN id DROP IDENTITY")
        .await;
    world.source_first().await;
    world.copy(1).run().await.unwrap();
    let full = world.full(Direction::Forward, 1);
    full.run().await.unwrap();
    assert_eq!(
        (full.verify().dead_letters, full.verify().repaired),
        (1, 0),
        "{:?}",
        full.verify()
    );
    let letters = "SELECT CAST(CONCAT(table_name, ' ', reason) AS CHAR) FROM _datamigration_dead_letters";
    let letters: Vec<String> = world.source.shards[0]
        .0
        .texts(letters)
        .await
        .into_iter()
        .flatten()
        .collect();
    assert!(
        letters.len() == 1 && letters[0].starts_with("orders#0-1 ") && letters[0].contains("belongs to source/s1"),
        "{letters:?}"
    );
}

#[tokio::test]
async fn fence_and_archive_take_every_shard_of_the_source() {
    for source in [apart(MariaDb, 2), together(Postgres, 3)] {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().display());
        let changes = json!({"archive": {"destination": {"url": url, "volumeClaimRef": {"name": "archive"}}, "deleteSource": true}});
        let by = json!({"columns": ["user_id"], "function": "Modulo"});
        let world = Sharded::new(source, apart(Postgres, 1), by, changes).await;
        world.fill(ROWS).await;
        let held = world.source.all().await;
        world
            .reach(control(1, Mode::DstOnly, SecondaryWrites::Lenient, 1))
            .await;
        let fence = world.of_kind(TaskKind::Fence, 1);
        fence.run().await.unwrap();
        for (database, table) in &world.source.shards {
            let refused = database.try_execute(&format!("DELETE FROM {table}")).await;
            assert!(refused.is_err(), "{table} takes writes");
        }
        assert_eq!(world.source.all().await, held);
        let archive = world.of_kind(TaskKind::Archive, 1);
        archive.run().await.unwrap();
        let report = archive.context.status.current().archive.unwrap();
        assert!(report.compared && report.deleted);
        assert_eq!(report.tables.len(), world.source.shards.len());
        assert_eq!(
            report.tables.iter().map(|table| table.rows).sum::<u64>(),
            held.len() as u64
        );
        let mut objects: Vec<&str> = report.tables.iter().map(|table| table.object.as_str()).collect();
        objects.sort_unstable();
        objects.dedup();
        assert_eq!(objects.len(), world.source.shards.len(), "{objects:?}");
        for (database, table) in &world.source.shards {
            assert!(
                database.try_execute(&format!("SELECT 1 FROM {table}")).await.is_err(),
                "{table} is there"
            );
        }
        // Nothing is left to be done by another attempt.
        world.of_kind(TaskKind::Archive, 1).run().await.unwrap();
    }
}

#[tokio::test]
async fn tables_are_made_in_every_shard_without_counters_of_their_own() {
    let by = json!({"columns": ["user_id"], "function": "Modulo"});
    let world = Sharded::new(
        apart(MariaDb, 1),
        together(Postgres, 2),
        by,
        json!({"copy": {"createTables": true}}),
    )
    .await;
    for shard in 0..2 {
        world.target.run(shard, "DROP TABLE {t}").await;
    }
    world
        .source
        .run(
            0,
            "ALTER TABLE {t} MODIFY id BIGINT NOT NULL AUTO_INCREMENT, ADD KEY (id)",
        )
        .await;
    world.fill(ROWS).await;
    world.of_kind(TaskKind::Preflight, 0).run().await.unwrap();
    world.source_first().await;
    world.copy(1).run().await.unwrap();
    world.assert_equal().await;
    let counters = "SELECT COUNT(*) FROM pg_class WHERE relkind = 'S' AND relname LIKE 'orders%'";
    assert_eq!(world.target.shards[0].0.number(counters).await, 0);
}
