//! The control tables' definitions, one list for all engines. Every table carries the migration's name and the UID of
//! the DataMigration that wrote the row; the control row carries the version of this schema.

use super::{ControlError, sql::int};
use crate::{
    rows::Value,
    store::{Engine, Tx},
};

/// Version of the definitions below; a control row of another version is refused, not guessed at.
pub const SCHEMA_VERSION: i64 = 1;

/// Names of all control tables.
pub fn tables() -> impl Iterator<Item = &'static str> {
    DEFINITIONS.iter().map(|(name, _)| *name)
}

/// `{name}` is an identifier-like text compared byte by byte, `{text}` a long one, `{time}` a UTC time of six digits,
/// `{id}` a number the database hands out.
const DEFINITIONS: &[(&str, &str)] = &[
    (
        // Epochs and journal: one row per migration, on every shard of both sides.
        "_datamigration_control",
        "migration {name} NOT NULL, uid {uid} NOT NULL, schema_version BIGINT NOT NULL, epoch BIGINT NOT NULL, \
         min_epoch BIGINT NOT NULL, mode {word} NOT NULL, secondary {word} NOT NULL, round BIGINT NOT NULL, \
         base_since BIGINT NOT NULL, acked_at {time} NULL, fenced BIGINT NOT NULL, archived {word} NOT NULL, \
         intent {text} NULL, changed_at {time} NOT NULL, PRIMARY KEY (migration)",
    ),
    (
        // Which migration a table belongs to: the primary key refuses a second one.
        "_datamigration_tables",
        "table_name {table} NOT NULL, migration {name} NOT NULL, uid {uid} NOT NULL, mapping {text} NOT NULL, \
         PRIMARY KEY (table_name)",
    ),
    (
        "_datamigration_instances",
        "migration {name} NOT NULL, pod_uid {uid} NOT NULL, process {uid} NOT NULL, pod {name} NOT NULL, uid {uid} NOT NULL, \
         epoch BIGINT NOT NULL, mode {word} NOT NULL, secondary_writes {word} NOT NULL, protocol {word} NOT NULL, \
         seen_at {time} NOT NULL, failed_second_writes BIGINT NOT NULL, PRIMARY KEY (migration, pod_uid, process)",
    ),
    (
        // Keys whose follower's row is owed. A key has no direction: repair goes from whatever is base now.
        "_datamigration_queue",
        "id {id}, migration {name} NOT NULL, uid {uid} NOT NULL, table_name {table} NOT NULL, row_key {text} NOT NULL, \
         reason {text} NOT NULL, attempts BIGINT NOT NULL, queued_at {time} NOT NULL, PRIMARY KEY (id)",
    ),
    (
        // Deleted keys: no window over the version column shows a delete.
        "_datamigration_deletes",
        "id {id}, migration {name} NOT NULL, uid {uid} NOT NULL, table_name {table} NOT NULL, row_key {text} NOT NULL, \
         version {text} NULL, deleted_at {time} NOT NULL, PRIMARY KEY (id)",
    ),
    (
        "_datamigration_chunks",
        "migration {name} NOT NULL, table_name {table} NOT NULL, round BIGINT NOT NULL, chunk BIGINT NOT NULL, uid {uid} NOT NULL, \
         lower_key {text} NULL, upper_key {text} NULL, state {word} NOT NULL, copied_rows BIGINT NOT NULL, owner {name} NOT NULL, \
         lease_until {time} NOT NULL, PRIMARY KEY (migration, table_name, round, chunk)",
    ),
    (
        // What a full verify has compared: ranges of keys, with what was found in each.
        "_datamigration_verified",
        "migration {name} NOT NULL, table_name {table} NOT NULL, pass {uid} NOT NULL, sweep {word} NOT NULL, chunk BIGINT NOT NULL, \
         uid {uid} NOT NULL, compared {uid} NOT NULL, lower_key {text} NULL, upper_key {text} NULL, state {word} NOT NULL, \
         base_rows BIGINT NOT NULL, follower_rows BIGINT NOT NULL, target_missing BIGINT NOT NULL, neq BIGINT NOT NULL, \
         base_missing BIGINT NOT NULL, repaired BIGINT NOT NULL, began {time} NOT NULL, changed_at {time} NOT NULL, \
         PRIMARY KEY (migration, table_name, pass, sweep, chunk)",
    ),
    (
        // Differences that verify found and did not mend: events, one row per key.
        "_datamigration_mismatches",
        "migration {name} NOT NULL, table_name {table} NOT NULL, key_hash {uid} NOT NULL, uid {uid} NOT NULL, \
         row_key {text} NOT NULL, kind {word} NOT NULL, base_version {text} NULL, follower_version {text} NULL, \
         attempts BIGINT NOT NULL, first_seen {time} NOT NULL, last_seen {time} NOT NULL, \
         PRIMARY KEY (migration, table_name, key_hash)",
    ),
    (
        // Rows that could not be carried, with the reason.
        "_datamigration_rejects",
        "id {id}, migration {name} NOT NULL, uid {uid} NOT NULL, table_name {table} NOT NULL, round BIGINT NOT NULL, \
         row_key {text} NOT NULL, reason {text} NOT NULL, rejected_at {time} NOT NULL, PRIMARY KEY (id)",
    ),
    (
        // Keys that repair gave up on.
        "_datamigration_dead_letters",
        "id {id}, migration {name} NOT NULL, uid {uid} NOT NULL, table_name {table} NOT NULL, row_key {text} NOT NULL, \
         reason {text} NOT NULL, attempts BIGINT NOT NULL, buried_at {time} NOT NULL, PRIMARY KEY (id)",
    ),
    (
        // Up to which version the incremental verify has compared, since the present base became base.
        "_datamigration_watermarks",
        "migration {name} NOT NULL, table_name {table} NOT NULL, base_since BIGINT NOT NULL, uid {uid} NOT NULL, \
         through {time} NOT NULL, PRIMARY KEY (migration, table_name, base_since)",
    ),
];

fn definition(engine: Engine, name: &str, columns: &str) -> String {
    let words: [(&str, &str); 7] = match engine {
        Engine::MySql => [
            ("{name}", "VARCHAR(320) CHARACTER SET ascii COLLATE ascii_bin"),
            ("{table}", "VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
            ("{uid}", "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin"),
            ("{word}", "VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin"),
            ("{text}", "TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
            ("{time}", "DATETIME(6)"),
            ("{id}", "BIGINT NOT NULL AUTO_INCREMENT"),
        ],
        Engine::Postgres => [
            ("{name}", "VARCHAR(320)"),
            ("{table}", "VARCHAR(64)"),
            ("{uid}", "VARCHAR(64)"),
            ("{word}", "VARCHAR(16)"),
            ("{text}", "TEXT"),
            ("{time}", "TIMESTAMP(6)"),
            ("{id}", "BIGINT GENERATED BY DEFAULT AS IDENTITY"),
        ],
        Engine::Sqlite => [
            ("{name}", "TEXT"),
            ("{table}", "TEXT"),
            ("{uid}", "TEXT"),
            ("{word}", "TEXT"),
            ("{text}", "TEXT"),
            ("{time}", "TEXT"),
            // Spelled so, a primary key is the rowid, which SQLite hands out.
            ("{id}", "INTEGER"),
        ],
    };
    let columns = words
        .iter()
        .fold(columns.to_owned(), |text, (word, kind)| text.replace(word, kind));
    let tail = match engine {
        Engine::MySql => " ENGINE=InnoDB",
        Engine::Postgres | Engine::Sqlite => "",
    };
    format!("CREATE TABLE IF NOT EXISTS {name} ({columns}){tail}")
}

/// Creates what is missing. On MySQL each statement commits by itself; all of them can be repeated.
pub async fn create(tx: &mut Tx) -> Result<(), ControlError> {
    let engine = tx.engine();
    if engine == Engine::Postgres {
        // Two sessions creating one table at a time fail on the catalogue's own unique index.
        tx.query(
            &format!(
                "SELECT CAST(pg_advisory_xact_lock({}) AS text)",
                super::sql::CONTROL_LOCK
            ),
            &[],
        )
        .await?;
    }
    for (name, columns) in DEFINITIONS {
        tx.execute(&definition(engine, name, columns), &[]).await?;
    }
    Ok(())
}

/// Makes one of the control tables where an earlier release's lack it. In a transaction of its own: MySQL commits it.
pub async fn ensure(tx: &mut Tx, name: &'static str) -> Result<(), ControlError> {
    let sql = match tx.engine() {
        Engine::MySql => {
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?"
        }
        Engine::Postgres => "SELECT COUNT(to_regclass(?))",
        Engine::Sqlite => "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = ?",
    };
    let rows = tx.query(sql, &[Value::from(name)]).await?;
    if int(rows.first().map_or(&[], Vec::as_slice), 0, name)? == 0 {
        create(tx).await?;
    }
    Ok(())
}

/// Whether the control tables exist in this database (its default schema).
pub async fn exists(tx: &mut Tx) -> Result<bool, ControlError> {
    let sql = match tx.engine() {
        Engine::MySql => {
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name IN (?, ?)"
        }
        Engine::Postgres => {
            "SELECT COUNT(*) FROM unnest(ARRAY[CAST(? AS text), CAST(? AS text)]) AS wanted WHERE to_regclass(wanted) IS NOT NULL"
        }
        Engine::Sqlite => "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name IN (?, ?)",
    };
    let names = [
        Value::from("_datamigration_control"),
        Value::from("_datamigration_tables"),
    ];
    let rows = tx.query(sql, &names).await?;
    Ok(int(rows.first().map_or(&[], Vec::as_slice), 0, "information_schema")? == 2)
}
