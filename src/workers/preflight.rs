//! Looks before anything moves: databases, privileges, tables, columns, and who else writes. Nothing of the application's
//! is changed and no control table is made; target tables that are missing are, where the manifest asks for it. Everything that is wrong is found in one go, each with its remedy.

mod create;
mod databases;
mod findings;
mod mapping;
mod references;
mod shards;
mod tables;

pub(super) use create::dialect;

use std::time::{Duration, Instant};

use super::context::{Shard, TaskContext};
use super::error::WorkError;
use super::pace::Waits;
use super::watch;
use crate::control::{self, Archived};
use crate::store::{TableSchema, TxOptions};
use crate::words::Side;
use findings::Findings;

/// How long what may pass by itself (a database that restarts) is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Makes all checks. Fails with the first thing that is in the way; the status has them all.
pub async fn run(context: &TaskContext) -> Result<(), WorkError> {
    let began = Instant::now();
    let mut waits = Waits::default();
    let found = loop {
        context.go_on()?;
        let mut found = Findings::default();
        match check(context, &mut found).await {
            Ok(()) => break found,
            Err(error) if error.is_transient() && began.elapsed() < PATIENCE => {
                tracing::warn!(%error, "checking again");
                context.status.troubled(&error).await;
                context.pause(waits.failed(Instant::now()).0).await?;
            }
            Err(error @ (WorkError::Stopped | WorkError::Stale(_))) => return Err(error),
            Err(error) => {
                found.failed("Preflight", error.reason(), error.to_string());
                break found;
            }
        }
    };
    context.status.clear_trouble();
    context.status.note(|status| status.checks = found.checks());
    let verdict = found.verdict()?;
    context.status.note(|status| {
        status.reason = Some("PreflightPassed".to_owned());
        status.message = Some(verdict);
    });
    Ok(())
}

async fn check(context: &TaskContext, found: &mut Findings) -> Result<(), WorkError> {
    let mut reachable = true;
    for side in [Side::Source, Side::Target] {
        for shard in context.shards(side) {
            reachable &= databases::reachable(context, side, shard, found).await?;
        }
    }
    if !reachable {
        return Ok(());
    }
    let journal = watch::read_journal(context).await?;
    let copied = journal
        .as_ref()
        .is_some_and(|journal| journal.mode.base() == Side::Target);
    context.status.note(|status| status.journal = journal);
    for side in [Side::Source, Side::Target] {
        for (_, shard) in context.databases(side) {
            databases::privileges(shard, found).await?;
        }
    }
    if !found.all_ok() {
        return Ok(());
    }
    databases::distinct(context, found).await?;
    shards::clocks(context, found).await?;
    for (_, source) in context.databases(Side::Source) {
        if archive_begun(context, source).await? {
            found.passed(
                "Tables",
                "the journal says that the source has been archived: its tables may be gone, nothing is left to be checked",
            );
            return Ok(());
        }
    }
    let base = if copied { Side::Target } else { Side::Source };
    let mut in_target: Vec<Vec<TableSchema>> = vec![Vec::new(); context.target.len()];
    for table in &context.migration.tables {
        let found_there = tables::check(context, table, base, found).await?;
        for (shard, schema) in in_target.iter_mut().zip(found_there) {
            shard.extend(schema);
        }
    }
    for (shard, tables) in context.target.iter().zip(&in_target) {
        // A table that is missing has been told of; without it references would only be misread.
        if !copied && tables.len() == context.migration.tables.len() {
            references::check(shard.database.label(), tables, found);
        }
    }
    Ok(())
}

async fn archive_begun(context: &TaskContext, source: &Shard) -> Result<bool, WorkError> {
    let mut tx = source.database.begin(TxOptions::read_only()).await?;
    let row = control::journal(&mut tx, &context.migration.id()).await?;
    tx.rollback().await;
    Ok(row.is_some_and(|row| row.archived != Archived::No))
}
