//! The archive of a fenced source: each table to Parquet, read back and compared with the source, and only then, if asked
//! to, deleted. Killed at any point it goes on where the control row and the manifests say it was: what has begun to be
//! deleted is never exported again.

mod delete;
mod destination;
mod export;
mod manifest;
mod parquet;
mod source;

use std::time::Duration;

use object_store::path::Path;

use super::connect::secrets_dir;
use super::context::{Shard, TaskContext};
use super::error::WorkError;
use super::fence;
use super::mapped;
use super::work::mode;
use crate::api::migration::Table;
use crate::api::task::{ArchiveReport, ArchivedTable, Progress};
use crate::control::{self, Archived as State, Control};
use crate::store::{TableSchema, Tx, TxOptions};
use crate::words::{Mode, Side};
use delete::children_first;
use destination::Destination;
use export::{Archived, read_manifest};

/// How an intent to delete begins in the control row; after it stands the archive's directory.
const DELETE: &str = "DeleteSource ";

/// Archives all tables of the source.
pub async fn run(context: &TaskContext) -> Result<(), WorkError> {
    let Some(spec) = context.migration.archive.clone() else {
        return Err(WorkError::permanent(
            "InvalidTask",
            "an Archive task needs spec.archive in its DataMigration; add it there",
        ));
    };
    let destination = context
        .retry(async || Destination::open(&spec.destination, &secrets_dir().join("archive")))
        .await?;
    context.status.note(|status| {
        status.progress = Some(Progress::default());
        status.archive = Some(ArchiveReport::default());
    });
    let mut deleted = spec.delete_source;
    for (at, shard) in context.databases(Side::Source) {
        let archive = OneDatabase {
            context,
            shard,
            tables: tables_of(context, at),
            destination: &destination,
        };
        deleted &= archive.run(spec.delete_source).await?;
    }
    context.status.note(|status| {
        let report = status.archive.get_or_insert_default();
        report.compared = true;
        report.deleted = deleted;
        let rows: u64 = report.tables.iter().map(|table| table.rows).sum();
        let kept = if deleted {
            "the source's rows are deleted"
        } else {
            "the source keeps its rows, fenced"
        };
        status.reason = Some("Archived".to_owned());
        status.message = Some(format!(
            "{rows} rows of {} tables are archived and were compared; {kept}",
            report.tables.len()
        ));
    });
    Ok(())
}

/// The migration's tables in the database of a source's shard: of all shards that live there.
fn tables_of(context: &TaskContext, at: usize) -> Vec<Here> {
    let shards = context.together_with(Side::Source, at);
    let tables = context.migration.tables.iter();
    tables
        .flat_map(|table| {
            shards.iter().map(|shard| Here {
                table: table.clone(),
                shard: *shard,
                name: table.name_on(Side::Source, *shard),
            })
        })
        .collect()
}

/// A table of one shard.
struct Here {
    table: Table,
    shard: usize,
    /// Its own name there.
    name: String,
}

struct OneDatabase<'a> {
    context: &'a TaskContext,
    /// The database's first shard; its name stands for the database in the archive's paths.
    shard: &'a Shard,
    tables: Vec<Here>,
    destination: &'a Destination,
}

impl OneDatabase<'_> {
    /// True: the source's rows are deleted.
    async fn run(&self, delete: bool) -> Result<bool, WorkError> {
        let control = self.context.retry(async || self.control().await).await?;
        let begun = control
            .intent
            .as_deref()
            .and_then(|intent| intent.strip_prefix(DELETE))
            .map(Path::parse);
        let begun = begun.transpose().map_err(|error| {
            let text =
                format!("the intent in the control row names no directory of an archive: {error}; restore the row");
            WorkError::permanent("ControlTableDamaged", text)
        })?;
        let folder = begun.clone().unwrap_or_else(|| self.own_folder());
        if control.archived == State::Deleted {
            self.report(&folder).await?;
            return Ok(true);
        }
        if begun.is_none() {
            for table in &self.tables {
                self.archive(&folder, table).await?;
            }
            let intent = delete.then(|| format!("{DELETE}{folder}"));
            self.context
                .retry(async || self.record_compared(intent.as_deref()).await)
                .await?;
        }
        self.report(&folder).await?;
        if !delete {
            return Ok(false);
        }
        self.delete(&folder).await?;
        self.context.retry(async || self.record_deleted().await).await?;
        Ok(true)
    }

    /// The UID keeps a later migration of the same name away from this archive.
    fn own_folder(&self) -> Path {
        let migration = &self.context.migration;
        self.destination
            .path(&[&migration.namespace, &migration.name, &migration.uid, &self.shard.name])
    }

    async fn archive(&self, folder: &Path, table: &Here) -> Result<(), WorkError> {
        self.context
            .retry(async || {
                let (mut tx, control) = self.begin().await?;
                let checked = mapped::check(&mut tx, &control.migration, &table.table, Side::Source, table.shard).await;
                tx.rollback().await;
                checked
            })
            .await?;
        let schema = self
            .context
            .retry(async || fence::check(self.context, self.shard, &table.name).await)
            .await?;
        self.context.status.note(|status| {
            status.progress.get_or_insert_default().rows_total += schema.estimated_rows;
        });
        let archived = self.archived(folder, table, schema)?;
        let manifest = match archived.manifest().await? {
            Some((manifest, _)) => manifest,
            None => archived.export().await?,
        };
        archived.compare(&manifest).await
    }

    fn archived(&self, folder: &Path, table: &Here, schema: TableSchema) -> Result<Archived<'_>, WorkError> {
        Ok(Archived {
            context: self.context,
            database: &self.shard.database,
            side: source::whole(schema, &table.table)?,
            destination: self.destination,
            beside: self.tables.iter().map(|table| table.name.clone()).collect(),
            folder: folder.clone().join(table.name.as_str()),
        })
    }

    /// What is archived of each table, into the status.
    async fn report(&self, folder: &Path) -> Result<(), WorkError> {
        let mut tables = Vec::new();
        for table in &self.tables {
            let folder = folder.clone().join(table.name.as_str());
            if let Some((manifest, sha256)) = read_manifest(self.context, self.destination, &folder).await? {
                tables.push(ArchivedTable {
                    table: table.name.clone(),
                    rows: manifest.rows,
                    sha256,
                    object: self.destination.url(&folder.join("manifest.json")),
                });
            }
        }
        self.context.status.note(|status| {
            let report = status.archive.get_or_insert_default();
            report.tables.extend(tables);
            report.compared = true;
        });
        self.context.status.publish_after(Duration::ZERO).await;
        Ok(())
    }

    async fn delete(&self, folder: &Path) -> Result<(), WorkError> {
        let mut present = Vec::new();
        for table in &self.tables {
            // A table that is gone was dropped by an attempt that was cut off: only an intent leads here.
            let found = self
                .context
                .retry(async || Ok(self.shard.database.table(&table.name).await?))
                .await?;
            present.extend(found);
        }
        for name in children_first(present.clone()) {
            let schema = present.iter().find(|schema| schema.name == name).cloned();
            let table = self.tables.iter().find(|table| table.name == name);
            let (Some(schema), Some(table)) = (schema, table) else {
                continue;
            };
            let archived = self.archived(folder, table, schema)?;
            let Some((manifest, _)) = archived.manifest().await? else {
                return Err(WorkError::permanent(
                    "ArchiveCorrupt",
                    format!(
                        "there is no manifest.json in {}, though the source's table {name} is about to be deleted: nothing more \
                         is deleted; restore the archive",
                        self.destination.url(&archived.folder)
                    ),
                ));
            };
            archived.delete(&manifest).await?;
        }
        Ok(())
    }

    /// The control row, in a transaction of this worker's epoch; an archive begins behind a fence only.
    async fn begin(&self) -> Result<(Tx, Control), WorkError> {
        let mut tx = self.shard.database.begin(TxOptions::default()).await?;
        let control = control::check_worker(&mut tx, &self.context.migration.id(), self.context.task.epoch).await?;
        if control.fenced && mode(&control)? == Mode::DstOnly {
            return Ok((tx, control));
        }
        tx.rollback().await;
        Err(WorkError::permanent(
            "NotFenced",
            format!(
                "the control row of {} in {} does not say that the source is fenced: nothing is archived; let the Fence task \
                 finish first",
                control.migration,
                self.shard.database.label()
            ),
        ))
    }

    async fn control(&self) -> Result<Control, WorkError> {
        let (tx, control) = self.begin().await?;
        tx.rollback().await;
        Ok(control)
    }

    /// With the intent to delete, where there is one, before the first row goes: from here on nothing is exported again,
    /// and the archive is not complete before the rows are gone.
    async fn record_compared(&self, intent: Option<&str>) -> Result<(), WorkError> {
        let (mut tx, control) = self.begin().await?;
        if control.archived == State::No {
            control::record_archived(&mut tx, &control.migration, State::Compared).await?;
        }
        if intent.is_some() && control.intent.is_none() {
            control::record_intent(&mut tx, &control.migration, intent).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn record_deleted(&self) -> Result<(), WorkError> {
        let (mut tx, control) = self.begin().await?;
        control::record_archived(&mut tx, &control.migration, State::Deleted).await?;
        control::record_intent(&mut tx, &control.migration, None).await?;
        tx.drop_fence_function(&fence::of(&control.migration)).await?;
        tx.commit().await?;
        Ok(())
    }
}
