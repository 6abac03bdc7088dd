//! Rows that the follower refuses, set aside by key and with the reason, in the transaction that moves past them.

use super::ControlError;
use super::chunks::ChunkSet;
use super::sql::{int, key, now};
use crate::rows::{Key, Value};
use crate::store::Tx;

pub(super) const REJECTS: &str = "_datamigration_rejects";

/// One row set aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Reject {
    /// Its own number.
    pub id: i64,
    /// The row.
    pub key: Key,
}

/// Sets a row aside.
pub async fn add(tx: &mut Tx, set: &ChunkSet, key: &Key, reason: &str) -> Result<(), ControlError> {
    let now = now(tx.engine());
    tx.execute(
        &format!(
            "INSERT INTO {REJECTS} (migration, uid, table_name, round, row_key, reason, rejected_at) \
             VALUES (?, ?, ?, ?, ?, ?, {now})"
        ),
        &[
            Value::Text(set.migration.clone()),
            Value::Text(set.uid.clone()),
            Value::Text(set.table.clone()),
            Value::Int(set.round),
            Value::Text(key.to_json()),
            Value::Text(reason.to_owned()),
        ],
    )
    .await?;
    Ok(())
}

/// The next rows set aside after one of them.
pub async fn after(tx: &mut Tx, set: &ChunkSet, id: i64, limit: u32) -> Result<Vec<Reject>, ControlError> {
    let found = tx
        .query(
            &format!(
                "SELECT id, row_key FROM {REJECTS} WHERE migration = ? AND table_name = ? AND round = ? \
                 AND id > ? ORDER BY id LIMIT {limit}"
            ),
            &[
                Value::Text(set.migration.clone()),
                Value::Text(set.table.clone()),
                Value::Int(set.round),
                Value::Int(id),
            ],
        )
        .await?;
    found
        .iter()
        .map(|row| {
            Ok(Reject {
                id: int(row, 0, REJECTS)?,
                key: key(row, 1, REJECTS)?,
            })
        })
        .collect()
}

/// How many rows are set aside.
pub async fn count(tx: &mut Tx, set: &ChunkSet) -> Result<u64, ControlError> {
    let found = tx
        .query(
            &format!("SELECT COUNT(*) FROM {REJECTS} WHERE migration = ? AND table_name = ? AND round = ?"),
            &[
                Value::Text(set.migration.clone()),
                Value::Text(set.table.clone()),
                Value::Int(set.round),
            ],
        )
        .await?;
    found
        .first()
        .map_or(Ok(0), |row| int(row, 0, REJECTS).map(i64::unsigned_abs))
}

/// The row is in its place after all.
pub async fn remove(tx: &mut Tx, id: i64) -> Result<(), ControlError> {
    tx.execute(&format!("DELETE FROM {REJECTS} WHERE id = ?"), &[Value::Int(id)])
        .await?;
    Ok(())
}
