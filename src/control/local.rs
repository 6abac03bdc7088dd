//! What a run from a shell leaves in the follower: chunks of round 0, which no round of the operator's ever counts. They
//! let an interrupted copy go on; those of a finished one would keep the next from copying anything.

use super::{ControlError, sql::int};
use crate::{rows::Value, store::Tx};

const CHUNKS: &str = "_datamigration_chunks";

/// Removes the chunks and rejects of a local copy of a table (by its SOURCE name) that came to its end; those of an
/// interrupted one stay. Answers whether a copy is left to go on with.
pub async fn forget_finished_copy(tx: &mut Tx, migration: &str, table: &str) -> Result<bool, ControlError> {
    let this = [Value::from(migration), Value::from(table)];
    let rows = tx
        .query(
            &format!(
                "SELECT COUNT(*), COUNT(CASE WHEN state <> 'Done' THEN 1 END), COUNT(CASE WHEN upper_key IS NULL THEN 1 END) \
                 FROM {CHUNKS} WHERE migration = ? AND table_name = ? AND round = 0"
            ),
            &this,
        )
        .await?;
    let row = rows.first().map_or(&[][..], Vec::as_slice);
    let (chunks, open, last) = (int(row, 0, CHUNKS)?, int(row, 1, CHUNKS)?, int(row, 2, CHUNKS)?);
    if chunks > 0 && (open > 0 || last == 0) {
        return Ok(true);
    }
    for table in [CHUNKS, "_datamigration_rejects"] {
        tx.execute(
            &format!("DELETE FROM {table} WHERE migration = ? AND table_name = ? AND round = 0"),
            &this,
        )
        .await?;
    }
    Ok(false)
}
