//! `datamigration copy` and `datamigration verify`: the workers of a migration from a shell, on a manifest in a file. No
//! cluster is needed; where one is at work on the same tables, the databases' own control rows say so and are obeyed.

mod arguments;
mod connections;
mod export;
mod journal;
mod manifest;
mod outcome;
mod progress;

pub use arguments::{CopyArguments, VerifyArguments, help};

use crate::api::Migration;
use crate::api::database::EngineName;
use crate::api::task::{MigrationTaskSpec, TaskKind, VerifyScope};
use crate::store::StoreError;
use crate::workers::{Shard, StatusBoard, TaskContext, WorkError, count, perform, sorted, stop_on_signal, verify};
use arguments::Common;
use export::Export;
use journal::Stand;
use outcome::{Outcome, Verdict};
use progress::LocalReporter;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a run answers its shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Everything is copied; everything is equal.
    Equal = 0,
    /// The run came to its end, and something differs or could not be carried.
    Different = 1,
    /// The arguments or the manifest are wrong; nothing was done.
    Usage = 2,
    /// The run did not come to its end.
    Unfinished = 3,
}

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Arguments or manifest.
    #[error("{0}")]
    Usage(String),
    /// Databases.
    #[error("{0}")]
    Work(#[from] WorkError),
}

impl LocalError {
    fn exit(&self) -> Exit {
        match self {
            // A wrong argument; or the URL, the certificate's file or the database's file is not what it has to be.
            Self::Usage(_) | Self::Work(WorkError::Store(StoreError::Config { .. })) => Exit::Usage,
            Self::Work(_) => Exit::Unfinished,
        }
    }
}

/// Copies the tables of a manifest, one after the other.
pub async fn copy(arguments: &CopyArguments) -> Exit {
    let stop = stop_on_signal();
    finish(&arguments.common, run_copy(arguments, &stop).await)
}

/// Compares the tables of a manifest, one after the other.
pub async fn compare(arguments: &VerifyArguments) -> Exit {
    let stop = stop_on_signal();
    finish(&arguments.common, run_verify(arguments, &stop).await)
}

fn finish(common: &Common, run: Result<Vec<Outcome>, LocalError>) -> Exit {
    match run {
        Ok(outcomes) => {
            outcome::print(&outcomes, common.json);
            outcomes
                .iter()
                .map(|outcome| outcome.verdict.exit())
                .max()
                .unwrap_or(Exit::Equal)
        }
        Err(error) => {
            eprintln!("datamigration: {error}");
            error.exit()
        }
    }
}

async fn run_copy(arguments: &CopyArguments, stop: &CancellationToken) -> Result<Vec<Outcome>, LocalError> {
    let common = &arguments.common;
    let mut migration = manifest::read(common)?;
    if migration.copy.create_tables {
        return Err(LocalError::Usage(format!(
            "{}: spec.copy.createTables: only the operator's preflight creates tables, and only it leaves indexes for later; \
             create the tables yourself, and remove the field (and copy.secondaryIndexes) for a copy from a shell",
            common.file.display()
        )));
    }
    if let Some(parallelism) = arguments.parallelism {
        migration.copy.parallelism = parallelism;
    }
    if migration.target.engine == EngineName::SQLite {
        // A file has one writer at a time: more would wait for each other, with ever smaller batches.
        migration.copy.parallelism = 1;
    }
    let tables = manifest::tables(&migration, &common.tables)?;
    let (source, target) = connections::open(&migration, common).await?;
    let tables = match target.first() {
        Some(shard) => sorted(&migration, &shard.database, tables).await?,
        None => tables,
    };
    let stand = journal::read(&migration, &source, &target).await?;
    stand.may_copy()?;
    journal::prepare(&stand, &migration, &tables, &source, &target).await?;
    let run = Run {
        migration: Arc::new(migration),
        source,
        target,
        stand,
        common,
        stop,
    };
    let mut outcomes = Vec::with_capacity(tables.len());
    for table in &tables {
        let context = run.context(TaskKind::Copy, None, table);
        let began = Instant::now();
        let result = perform(&context).await;
        outcomes.push(Outcome::new(table, &context, result, Verdict::Copied, began));
        if stop.is_cancelled() {
            break;
        }
    }
    run.close().await;
    Ok(outcomes)
}

async fn run_verify(arguments: &VerifyArguments, stop: &CancellationToken) -> Result<Vec<Outcome>, LocalError> {
    let common = &arguments.common;
    let migration = manifest::read(common)?;
    let tables = manifest::tables(&migration, &common.tables)?;
    let mut export = arguments.export.as_deref().map(Export::create).transpose()?;
    let (source, target) = connections::open(&migration, common).await?;
    let mut stand = journal::read(&migration, &source, &target).await?;
    if let Some(direction) = arguments.direction {
        stand.turn(direction.into())?;
    }
    if arguments.repair {
        stand.may_repair()?;
        journal::prepare(&stand, &migration, &tables, &source, &target).await?;
    }
    let run = Run {
        migration: Arc::new(migration),
        source,
        target,
        stand,
        common,
        stop,
    };
    let mut outcomes = Vec::with_capacity(tables.len());
    for table in &tables {
        let context = run.context(TaskKind::Verify, Some(VerifyScope::Full), table);
        let began = Instant::now();
        let mut told = progress::Told::new(export.as_mut(), arguments.show);
        let (result, done) = if arguments.counts {
            (count(&context).await, Verdict::SameCounts)
        } else {
            (verify(&context, arguments.repair, &mut told).await, Verdict::Equal)
        };
        outcomes.push(Outcome::new(table, &context, result, done, began));
        if stop.is_cancelled() {
            break;
        }
    }
    run.close().await;
    if let Some(export) = export {
        let whole = outcomes.iter().all(|outcome| outcome.verdict != Verdict::Unfinished);
        export.finish(whole)?;
    }
    Ok(outcomes)
}

/// What all tables of a run share.
struct Run<'r> {
    migration: Arc<Migration>,
    source: Vec<Shard>,
    target: Vec<Shard>,
    stand: Stand,
    common: &'r Common,
    stop: &'r CancellationToken,
}

impl Run<'_> {
    fn context(&self, kind: TaskKind, scope: Option<VerifyScope>, table: &str) -> TaskContext {
        let reporter = LocalReporter::new(kind, table, self.common.progress());
        TaskContext {
            migration: self.migration.clone(),
            task: MigrationTaskSpec {
                migration: self.migration.name.clone(),
                kind,
                table: Some(table.to_owned()),
                scope,
                direction: self.stand.direction,
                epoch: self.stand.epoch,
                round: self.stand.round,
                generation: self.migration.generation,
                control: None,
                due: None,
            },
            source: self.source.clone(),
            target: self.target.clone(),
            status: Arc::new(StatusBoard::new(Box::new(reporter), None)),
            stop: self.stop.clone(),
            owner: format!("local/{}", uuid::Uuid::new_v4()),
        }
    }

    async fn close(&self) {
        for shard in self.source.iter().chain(&self.target) {
            shard.database.close().await;
        }
    }
}
