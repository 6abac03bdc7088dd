//! Rows that the follower refuses, set aside by key and with the reason, in the transaction that moves past them.

use super::chunks::ChunkSet;
use super::error::WorkError;
use crate::control::now;
use crate::rows::{Key, Value};
use crate::store::Tx;

/// One row set aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Reject {
    /// Its own number.
    pub id: i64,
    /// The row.
    pub key: Key,
}

/// Sets a row aside.
pub async fn add(tx: &mut Tx, set: &ChunkSet, key: &Key, reason: &str) -> Result<(), WorkError> {
    let now = now(tx.engine());
    tx.execute(
        &format!(
            "INSERT INTO _datamigration_rejects (migration, uid, table_name, round, row_key, reason, rejected_at) \
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
pub async fn after(tx: &mut Tx, set: &ChunkSet, id: i64, limit: u32) -> Result<Vec<Reject>, WorkError> {
    let found = tx
        .query(
            &format!(
                "SELECT id, row_key FROM _datamigration_rejects WHERE migration = ? AND table_name = ? AND round = ? \
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
        .map(|row| match (row.first(), row.get(1)) {
            (Some(Value::Int(id)), Some(Value::Text(json))) => {
                let key = Key::from_json(json).map_err(|error| damaged(&error.to_string()))?;
                Ok(Reject { id: *id, key })
            }
            _ => Err(damaged(&format!("{row:?}"))),
        })
        .collect()
}

/// The row is in its place after all.
pub async fn remove(tx: &mut Tx, id: i64) -> Result<(), WorkError> {
    tx.execute("DELETE FROM _datamigration_rejects WHERE id = ?", &[Value::Int(id)])
        .await?;
    Ok(())
}

fn damaged(found: &str) -> WorkError {
    WorkError::permanent(
        "ControlTableDamaged",
        format!("_datamigration_rejects holds what datamigration did not write ({found}); correct or remove that row"),
    )
}
