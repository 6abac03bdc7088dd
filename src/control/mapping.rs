//! How a table was mapped when its round began. Work under another mapping would compare, delete or archive rows that
//! were never carried; a resource that was deleted and created again may bring one.

use super::{ControlError, sql::text};
use crate::{rows::Value, store::Tx};

const TABLE: &str = "_datamigration_tables";

/// Writes down how a claimed table is mapped from now on.
pub async fn record_mapping(tx: &mut Tx, migration: &str, table: &str, mapping: &str) -> Result<(), ControlError> {
    tx.execute(
        &format!("UPDATE {TABLE} SET mapping = ? WHERE table_name = ? AND migration = ?"),
        &[Value::from(mapping), Value::from(table), Value::from(migration)],
    )
    .await?;
    Ok(())
}

/// How a table was mapped; empty where nobody wrote it down, `None` where this migration has not claimed the table.
pub async fn mapping(tx: &mut Tx, migration: &str, table: &str) -> Result<Option<String>, ControlError> {
    let rows = tx
        .query(
            &format!("SELECT mapping FROM {TABLE} WHERE table_name = ? AND migration = ?"),
            &[Value::from(table), Value::from(migration)],
        )
        .await?;
    rows.first().map(|row| text(row, 0, TABLE)).transpose()
}
