//! Up to which version the incremental verify has compared a table since the present base became base, so that a worker
//! that starts again goes on where its predecessor was.

use super::{
    ControlError,
    sql::{text, time_bind, time_text},
};
use crate::{
    rows::Value,
    store::{Engine, Tx},
};

const TABLE: &str = "_datamigration_watermarks";

/// The watermark (canonical time), if one is recorded.
pub async fn read(tx: &mut Tx, migration: &str, table: &str, base_since: i64) -> Result<Option<String>, ControlError> {
    let through = time_text(tx.engine(), "through");
    let rows = tx
        .query(
            &format!("SELECT {through} FROM {TABLE} WHERE migration = ? AND table_name = ? AND base_since = ?"),
            &[Value::from(migration), Value::from(table), Value::Int(base_since)],
        )
        .await?;
    rows.first().map(|row| text(row, 0, TABLE)).transpose()
}

/// Moves the watermark up; a lower one leaves it where it is.
pub async fn advance(
    tx: &mut Tx,
    migration: &str,
    uid: &str,
    table: &str,
    base_since: i64,
    through: &str,
) -> Result<(), ControlError> {
    let engine = tx.engine();
    let upsert = match engine {
        Engine::MySql => "ON DUPLICATE KEY UPDATE uid = VALUES(uid), through = GREATEST(through, VALUES(through))",
        Engine::Postgres => {
            "ON CONFLICT (migration, table_name, base_since) DO UPDATE SET uid = excluded.uid, \
             through = GREATEST(_datamigration_watermarks.through, excluded.through)"
        }
        Engine::Sqlite => {
            "ON CONFLICT (migration, table_name, base_since) DO UPDATE SET uid = excluded.uid, \
             through = MAX(_datamigration_watermarks.through, excluded.through)"
        }
    };
    tx.execute(
        &format!(
            "INSERT INTO {TABLE} (migration, table_name, base_since, uid, through) VALUES (?, ?, ?, ?, {}) {upsert}",
            time_bind(engine)
        ),
        &[
            Value::from(migration),
            Value::from(table),
            Value::Int(base_since),
            Value::from(uid),
            Value::from(through),
        ],
    )
    .await?;
    Ok(())
}
