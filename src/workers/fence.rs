//! The fence of `TargetOnly`: once every instance writes the target alone, the source's tables refuse writes, so that a
//! straggler fails loudly instead of losing what it wrote. It never expires; only the archive passes it.

use std::time::Duration;

use super::context::{Shard, TaskContext};
use super::error::WorkError;
use super::work::mode;
use crate::api::task::FenceReport;
use crate::control::{self, Archived, Control};
use crate::store::{Engine, Fence, FenceState, Ident, StoreError, TableSchema, Tx, TxOptions};
use crate::words::{Mode, Side};

/// A trigger waits for the transactions on its table, and those that come after wait behind it: not for long.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Fences every table of the source, tries each fence, and writes into the journal that they stand.
pub async fn run(context: &TaskContext) -> Result<(), WorkError> {
    let mut tables = Vec::new();
    for (at, shard) in context.databases(Side::Source) {
        for name in tables_of(context, at) {
            if context.retry(async || fence(context, shard, &name).await).await? && !tables.contains(&name) {
                tables.push(name);
            }
        }
        context.retry(async || record(context, shard).await).await?;
    }
    context.status.note(|status| {
        status.reason = Some("Fenced".to_owned());
        status.message = Some(format!("the source refuses writes to {}", tables.join(", ")));
        status.fence = Some(FenceReport { tables });
    });
    Ok(())
}

/// The names of all tables that the migration has in the database of a source's shard.
fn tables_of(context: &TaskContext, shard: usize) -> Vec<String> {
    let shards = context.together_with(Side::Source, shard);
    let tables = context.migration.tables.iter();
    tables
        .flat_map(|table| shards.iter().map(|at| table.name_on(Side::Source, *at)))
        .collect()
}

/// The fence of a migration. The name alone makes it: a resource that was deleted and created again passes the same one.
pub(super) fn of(migration: &str) -> Fence {
    Fence::new(migration, "TargetOnly")
}

/// False: the archive has already removed the table.
async fn fence(context: &TaskContext, shard: &Shard, table: &str) -> Result<bool, WorkError> {
    let migration = context.migration.id();
    let mut tx = shard.database.begin(options()).await?;
    let control = control::check_worker(&mut tx, &migration, context.task.epoch).await?;
    closed(&control)?;
    let found = tx.table(table).await?;
    tx.rollback().await;
    if found.is_none() {
        if control.archived == Archived::Deleted || control.intent.is_some() {
            return Ok(false);
        }
        return Err(missing(shard, table));
    }
    shard.database.create_fence(table, &of(&migration)).await?;
    check(context, shard, table).await.map(|_| true)
}

/// Looks for the fence and tries a write on it, of which nothing may be left.
pub(super) async fn check(context: &TaskContext, shard: &Shard, table: &str) -> Result<TableSchema, WorkError> {
    let state = shard.database.fence_state(table, &of(&context.migration.id())).await?;
    let mut tx = shard.database.begin(options()).await?;
    let Some(schema) = tx.table(table).await? else {
        tx.rollback().await;
        return Err(missing(shard, table));
    };
    let refused = refuses(&mut tx, &schema).await;
    tx.rollback().await;
    if refused? && state == FenceState::Standing {
        return Ok(schema);
    }
    Err(WorkError::permanent(
        "FenceIneffective",
        format!(
            "table {table} of {} accepts writes although it was fenced: a trigger named _datamigration_fence… was dropped or \
             disabled; enable triggers there, and let the Fence task run again",
            shard.database.label()
        ),
    ))
}

/// Whether a write is refused. It changes nothing even where no fence stands.
async fn refuses(tx: &mut Tx, schema: &TableSchema) -> Result<bool, WorkError> {
    let engine = tx.engine();
    let quoted = |name: &str| Ident::new(name).map(|name| name.quoted(engine));
    let table = quoted(&schema.name)?;
    let columns = schema.columns.iter().filter(|column| !column.generated);
    let columns = columns
        .map(|column| quoted(&column.name))
        .collect::<Result<Vec<_>, _>>()?;
    let first = columns.first().cloned().unwrap_or_default();
    let condition = match engine {
        // A trigger for each row needs a row; one for the statement does not.
        Engine::MySql => "LIMIT 1",
        Engine::Postgres | Engine::Sqlite => "WHERE false",
    };
    if met_fence(
        tx.execute(&format!("UPDATE {table} SET {first} = {first} {condition}"), &[])
            .await,
    )? {
        return Ok(true);
    }
    if engine == Engine::Postgres
        || !tx
            .query(&format!("SELECT 1 FROM {table} LIMIT 1"), &[])
            .await?
            .is_empty()
    {
        return Ok(false);
    }
    // An empty table: an INSERT meets the fence before anybody looks at its values.
    let nulls = vec!["NULL"; columns.len()].join(", ");
    let insert = format!("INSERT INTO {table} ({}) VALUES ({nulls})", columns.join(", "));
    match met_fence(tx.execute(&insert, &[]).await) {
        Err(StoreError::Data { .. }) => Ok(false),
        other => Ok(other?),
    }
}

fn met_fence(outcome: Result<u64, StoreError>) -> Result<bool, StoreError> {
    match outcome {
        Ok(_) => Ok(false),
        Err(StoreError::Fenced { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

fn missing(shard: &Shard, table: &str) -> WorkError {
    WorkError::permanent(
        "TableMissing",
        format!(
            "table {table} is not in {}; restore it, or take it out of spec.tables",
            shard.database.label()
        ),
    )
}

/// A fence before the last instance has left the source would fail requests that are right.
fn closed(control: &Control) -> Result<(), WorkError> {
    if mode(control)? != Mode::DstOnly {
        return Err(WorkError::Stale(format!(
            "in epoch {} the mode of {} is {}, a fence belongs to {}: nothing was fenced",
            control.epoch,
            control.migration,
            control.mode,
            Mode::DstOnly
        )));
    }
    if control.min_epoch < control.epoch {
        return Err(WorkError::Waiting {
            reason: "NotAcknowledged",
            message: format!(
                "not every instance of the application has acknowledged epoch {} (the databases still admit epoch {}): the \
                 source is not fenced before",
                control.epoch, control.min_epoch
            ),
        });
    }
    Ok(())
}

async fn record(context: &TaskContext, shard: &Shard) -> Result<(), WorkError> {
    let migration = context.migration.id();
    let mut tx = shard.database.begin(options()).await?;
    let control = control::check_worker(&mut tx, &migration, context.task.epoch).await?;
    if !control.fenced {
        control::record_fenced(&mut tx, &migration, true).await?;
    }
    tx.commit().await?;
    Ok(())
}

fn options() -> TxOptions {
    TxOptions {
        lock_timeout: LOCK_WAIT,
        statement_timeout: Some(Duration::from_secs(30)),
        ..TxOptions::default()
    }
}
