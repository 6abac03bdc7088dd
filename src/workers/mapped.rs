//! A round's tables: claimed and written down as they are mapped when it begins, and held against the manifest by all
//! work of the round. Rules of the API server keep `spec.tables` as it is above SourceOnly, but not for a resource that
//! was deleted and created again: what was never carried must not be compared with, deleted, or archived.

use super::error::WorkError;
use crate::api::migration::{ColumnRule, Table};
use crate::control;
use crate::rows::ShardFunction;
use crate::store::Tx;
use crate::words::Side;

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
    let mut text = serde_json::json!({
        "source": table.source, "target": table.target, "key": table.key, "version": table.version,
        "where": table.filter, "targetWhere": table.target_filter, "columns": columns,
    });
    for (name, side) in [("sourceShards", Side::Source), ("targetShards", Side::Target)] {
        if let Some(placement) = table.sharding.on(side) {
            let bounds = match &placement.by.function {
                ShardFunction::Range { bounds } => bounds.clone(),
                ShardFunction::Modulo | ShardFunction::Hash => Vec::new(),
            };
            let function = match &placement.by.function {
                ShardFunction::Modulo => "Modulo",
                ShardFunction::Hash => "Hash",
                ShardFunction::Range { .. } => "Range",
            };
            text[name] = serde_json::json!({
                "shards": placement.shards, "columns": placement.by.columns, "function": function, "bounds": bounds,
            });
        }
    }
    text.to_string()
}

/// Writes the mappings of the tables of some shards in one database down: a round begins.
pub async fn record(
    tx: &mut Tx,
    migration: &str,
    tables: &[Table],
    side: Side,
    shards: &[usize],
) -> Result<(), WorkError> {
    for table in tables {
        for shard in shards {
            control::record_mapping(tx, migration, &table.name_on(side, *shard), &text(table)).await?;
        }
    }
    Ok(())
}

/// Whether the round began with this table, in one shard of a side, as the manifest has it.
pub async fn check(tx: &mut Tx, migration: &str, table: &Table, side: Side, shard: usize) -> Result<(), WorkError> {
    let now = text(table);
    let name = table.name_on(side, shard);
    match control::mapping(tx, migration, &name).await? {
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
