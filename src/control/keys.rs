//! Keys that are owed a look: the queue (the follower's row was not written), the deletes, and the dead letters that
//! repair gave up on. A key names a row without a direction.

use super::{
    ControlError,
    sql::{int, key, now, optional_text, placeholders, text, time_text},
};
use crate::{
    rows::{Key, Value},
    store::Tx,
};

const QUEUE: &str = "_datamigration_queue";
const DELETES: &str = "_datamigration_deletes";
const LETTERS: &str = "_datamigration_dead_letters";

/// Dead letters of a table that are read; no more of them are written.
pub const MOST_LETTERS: usize = 1_000;

/// A key whose follower's row is owed.
#[derive(Debug, Clone, PartialEq)]
pub struct Queued {
    pub id: i64,
    pub key: Key,
    pub reason: String,
    pub attempts: i64,
}

/// A key that was deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Deleted {
    pub id: i64,
    pub key: Key,
    /// The version of the row that was deleted, where it was known.
    pub version: Option<String>,
    /// The base's clock, canonical.
    pub deleted_at: String,
}

/// A key that repair gave up on, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub key: Key,
    pub reason: String,
    pub attempts: i64,
}

/// Queues keys of a table (by its SOURCE name) in the caller's transaction.
pub async fn enqueue(
    tx: &mut Tx,
    migration: &str,
    uid: &str,
    table: &str,
    keys: &[Key],
    reason: &str,
) -> Result<(), ControlError> {
    let statement = format!(
        "INSERT INTO {QUEUE} (migration, uid, table_name, row_key, reason, attempts, queued_at) VALUES (?, ?, ?, ?, ?, 0, {})",
        now(tx.engine())
    );
    for key in keys {
        tx.execute(
            &statement,
            &[
                Value::from(migration),
                Value::from(uid),
                Value::from(table),
                Value::from(key.to_json()),
                Value::from(reason),
            ],
        )
        .await?;
    }
    Ok(())
}

/// The oldest queue entries of a table with an id above `after`.
pub async fn queued(
    tx: &mut Tx,
    migration: &str,
    table: &str,
    after: i64,
    limit: u32,
) -> Result<Vec<Queued>, ControlError> {
    let rows = tx
        .query(
            &format!(
                "SELECT id, row_key, reason, attempts FROM {QUEUE} WHERE migration = ? AND table_name = ? AND id > ? \
                 ORDER BY id LIMIT {limit}"
            ),
            &[Value::from(migration), Value::from(table), Value::Int(after)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Queued {
                id: int(row, 0, QUEUE)?,
                key: key(row, 1, QUEUE)?,
                reason: text(row, 2, QUEUE)?,
                attempts: int(row, 3, QUEUE)?,
            })
        })
        .collect()
}

/// How many keys of a migration are queued in this database (all tables, or one).
pub async fn queue_depth(tx: &mut Tx, migration: &str, table: Option<&str>) -> Result<i64, ControlError> {
    let mut sql = format!("SELECT COUNT(*) FROM {QUEUE} WHERE migration = ?");
    let mut binds = vec![Value::from(migration)];
    if let Some(table) = table {
        sql.push_str(" AND table_name = ?");
        binds.push(Value::from(table));
    }
    let rows = tx.query(&sql, &binds).await?;
    int(rows.first().map_or(&[], Vec::as_slice), 0, QUEUE)
}

/// Takes entries out of the queue: exactly those that were read before the keys were settled. A newer entry of the same
/// key stays, and is settled again.
pub async fn dequeue(tx: &mut Tx, ids: &[i64]) -> Result<(), ControlError> {
    remove(tx, QUEUE, ids).await
}

/// Counts a failed attempt at queue entries.
pub async fn attempt_failed(tx: &mut Tx, ids: &[i64], reason: &str) -> Result<(), ControlError> {
    for id in ids {
        tx.execute(
            &format!("UPDATE {QUEUE} SET attempts = attempts + 1, reason = ? WHERE id = ?"),
            &[Value::from(reason), Value::Int(*id)],
        )
        .await?;
    }
    Ok(())
}

/// Moves a key that cannot be repaired to the dead letters.
pub async fn bury(
    tx: &mut Tx,
    migration: &str,
    uid: &str,
    table: &str,
    letter: &DeadLetter,
) -> Result<(), ControlError> {
    let statement = format!(
        "INSERT INTO {LETTERS} (migration, uid, table_name, row_key, reason, attempts, buried_at) \
         VALUES (?, ?, ?, ?, ?, ?, {})",
        now(tx.engine())
    );
    tx.execute(
        &statement,
        &[
            Value::from(migration),
            Value::from(uid),
            Value::from(table),
            Value::from(letter.key.to_json()),
            Value::from(letter.reason.as_str()),
            Value::Int(letter.attempts),
        ],
    )
    .await?;
    Ok(())
}

/// Dead letters of a table, the oldest first, with their ids.
pub async fn dead_letters(tx: &mut Tx, migration: &str, table: &str) -> Result<Vec<(i64, DeadLetter)>, ControlError> {
    let rows = tx
        .query(
            &format!(
                "SELECT id, row_key, reason, attempts FROM {LETTERS} WHERE migration = ? AND table_name = ? ORDER BY id LIMIT {MOST_LETTERS}"
            ),
            &[Value::from(migration), Value::from(table)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let letter = DeadLetter {
                key: key(row, 1, LETTERS)?,
                reason: text(row, 2, LETTERS)?,
                attempts: int(row, 3, LETTERS)?,
            };
            Ok((int(row, 0, LETTERS)?, letter))
        })
        .collect()
}

/// Counts another failed attempt at a dead letter.
pub async fn letter_failed(tx: &mut Tx, id: i64, reason: &str) -> Result<(), ControlError> {
    tx.execute(
        &format!("UPDATE {LETTERS} SET attempts = attempts + 1, reason = ? WHERE id = ?"),
        &[Value::from(reason), Value::Int(id)],
    )
    .await?;
    Ok(())
}

/// Takes dead letters out, once both sides were seen to agree on their keys.
pub async fn forget_letters(tx: &mut Tx, ids: &[i64]) -> Result<(), ControlError> {
    remove(tx, LETTERS, ids).await
}

/// Records deletes in the transaction that deletes. `table`: its SOURCE name; each key with the version it had.
pub async fn record_deletes(
    tx: &mut Tx,
    migration: &str,
    uid: &str,
    table: &str,
    deleted: &[(Key, Option<String>)],
) -> Result<(), ControlError> {
    let statement = format!(
        "INSERT INTO {DELETES} (migration, uid, table_name, row_key, version, deleted_at) VALUES (?, ?, ?, ?, ?, {})",
        now(tx.engine())
    );
    for (key, version) in deleted {
        tx.execute(
            &statement,
            &[
                Value::from(migration),
                Value::from(uid),
                Value::from(table),
                Value::from(key.to_json()),
                version.as_deref().map_or(Value::Null, Value::from),
            ],
        )
        .await?;
    }
    Ok(())
}

/// Recorded deletes of a table with an id above `after`, oldest first.
pub async fn recorded_deletes(
    tx: &mut Tx,
    migration: &str,
    table: &str,
    after: i64,
    limit: u32,
) -> Result<Vec<Deleted>, ControlError> {
    let deleted_at = time_text(tx.engine(), "deleted_at");
    let rows = tx
        .query(
            &format!(
                "SELECT id, row_key, version, {deleted_at} FROM {DELETES} WHERE migration = ? AND table_name = ? AND id > ? \
                 ORDER BY id LIMIT {limit}"
            ),
            &[Value::from(migration), Value::from(table), Value::Int(after)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Deleted {
                id: int(row, 0, DELETES)?,
                key: key(row, 1, DELETES)?,
                version: optional_text(row, 2, DELETES)?,
                deleted_at: text(row, 3, DELETES)?,
            })
        })
        .collect()
}

/// Takes recorded deletes out, once both sides were seen to agree on them.
pub async fn forget_deletes(tx: &mut Tx, ids: &[i64]) -> Result<(), ControlError> {
    remove(tx, DELETES, ids).await
}

async fn remove(tx: &mut Tx, table: &'static str, ids: &[i64]) -> Result<(), ControlError> {
    for some in ids.chunks(500) {
        let binds: Vec<Value> = some.iter().copied().map(Value::Int).collect();
        tx.execute(
            &format!("DELETE FROM {table} WHERE id IN ({})", placeholders(some.len())),
            &binds,
        )
        .await?;
    }
    Ok(())
}
