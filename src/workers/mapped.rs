//! A round's tables: claimed and written down as they are mapped when it begins, and held against the manifest by all
//! work of the round. Rules of the API server keep `spec.tables` as it is above SourceOnly, but not for a resource that
//! was deleted and created again: what was never carried must not be compared with, deleted, or archived.

use super::error::WorkError;
use crate::api::migration::{ColumnRule, Table};
use crate::control;
use crate::store::Tx;
use crate::words::Side;

/// The table's name on a side.
pub fn name_on(table: &Table, side: Side) -> &str {
    match side {
        Side::Source => &table.name,
        Side::Target => &table.target,
    }
}

/// All that decides which rows and columns are carried, as JSON.
fn text(table: &Table) -> String {
    let columns: Vec<Vec<Option<&str>>> = table
        .columns
        .iter()
        .map(|rule| match rule {
            ColumnRule::Rename { source, target } => vec![Some(source.as_str()), Some(target.as_str())],
            ColumnRule::Drop { source } => vec![Some(source.as_str()), None],
            ColumnRule::Computed {
                source,
                target,
                expression,
                reverse,
            } => vec![
                source.as_deref(),
                Some(target.as_str()),
                Some(expression.as_str()),
                reverse.as_deref(),
            ],
        })
        .collect();
    serde_json::json!({
        "source": table.name, "target": table.target, "key": table.key, "version": table.version,
        "where": table.filter, "targetWhere": table.target_filter, "columns": columns,
    })
    .to_string()
}

/// Writes the mappings down: a round begins.
pub async fn record(tx: &mut Tx, migration: &str, tables: &[Table], side: Side) -> Result<(), WorkError> {
    for table in tables {
        control::record_mapping(tx, migration, name_on(table, side), &text(table)).await?;
    }
    Ok(())
}

/// Whether the round began with this table as the manifest has it.
pub async fn check(tx: &mut Tx, migration: &str, table: &Table, side: Side) -> Result<(), WorkError> {
    let now = text(table);
    let name = name_on(table, side);
    match control::mapping(tx, migration, name).await? {
        Some(then) if then.is_empty() || then == now => Ok(()),
        Some(then) => Err(WorkError::permanent(
            "MappingChanged",
            format!(
                "table {name} of {} was mapped as {then} when this round of {migration} began, and is {now} in the manifest: \
                 rows that were never carried would be taken for differences; restore spec.tables as it was, or go back to \
                 SourceOnly first where there is a way",
                tx.label()
            ),
        )),
        None => Err(WorkError::permanent(
            "TableNotClaimed",
            format!(
                "table {name} of {} was no part of {migration} when this round began, so nothing of it was carried: take it out \
                 of spec.tables, or go back to SourceOnly first where there is a way",
                tx.label()
            ),
        )),
    }
}
