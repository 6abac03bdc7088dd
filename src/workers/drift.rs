//! DDL in the middle of the work: both tables' shapes are taken when a worker begins and looked at again as it goes on.
//! A change stops the worker before another row is carried; it goes on once both tables fit each other again.

use super::context::TaskContext;
use super::error::WorkError;
use super::legs::Leg;
use crate::api::migration::Table;
use crate::store::{Shape, TxOptions};
use crate::words::Side;
use std::time::Duration;

/// The reason that becomes the condition of the same name.
pub const REASON: &str = "SchemaDrift";

const REMEDY: &str = "no further row is carried. Make the change on both sides so that the columns fit again (or undo it, or \
                      say in spec.tables[].columns how the column is mapped); the work is tried again by itself and goes on \
                      from where it stopped";

/// Source's and target's table as they are now.
pub async fn shapes(context: &TaskContext, table: &Table, leg: Leg) -> Result<[Shape; 2], WorkError> {
    Ok([
        shape(context, Side::Source, table, leg).await?,
        shape(context, Side::Target, table, leg).await?,
    ])
}

async fn shape(context: &TaskContext, side: Side, table: &Table, leg: Leg) -> Result<Shape, WorkError> {
    let (database, name) = (&context.shard(side, leg)?.database, table.name_on(side, leg.at(side)));
    let options = TxOptions {
        statement_timeout: Some(Duration::from_secs(10)),
        ..TxOptions::read_only()
    };
    let mut tx = database.begin(options).await?;
    let shape = tx.shape(&name).await?;
    tx.rollback().await;
    Ok(shape)
}

/// Fails with what changed.
pub fn compare(
    context: &TaskContext,
    table: &Table,
    leg: Leg,
    was: &[Shape; 2],
    now: &[Shape; 2],
) -> Result<(), WorkError> {
    let changes: Vec<String> = [Side::Source, Side::Target]
        .into_iter()
        .zip(was.iter().zip(now))
        .filter_map(|(side, (was, now))| {
            let label = context.shard(side, leg).map_or("", |shard| shard.database.label());
            let name = table.name_on(side, leg.at(side));
            was.change(now)
                .map(|change| format!("table {name} of {label}: {change}"))
        })
        .collect();
    if changes.is_empty() {
        return Ok(());
    }
    Err(WorkError::permanent(
        REASON,
        format!(
            "the shape changed while the rows were under way: {}; {REMEDY}",
            changes.join("; ")
        ),
    ))
}

/// Two tables that preflight found to fit each other and that no longer do have been changed since.
pub fn no_longer_fits(error: WorkError) -> WorkError {
    match error {
        WorkError::Permanent { reason, message } => WorkError::permanent(
            REASON,
            format!("the tables no longer fit each other as they did in preflight ({reason}): {message}; {REMEDY}"),
        ),
        other => other,
    }
}
