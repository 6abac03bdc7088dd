//! The end of a source table: its rows are deleted in batches, each row only after it was found, under a lock, to be
//! what the archive holds. The epoch is checked in every transaction; the fence stays up for everybody else.

use std::time::{Duration, Instant};

use super::export::{Archived, part_rows};
use super::manifest::{Manifest, Part};
use crate::control::{self, Archived as State};
use crate::rows::{Key, Row};
use crate::store::{Lock, StoreError, TableSchema, Tx, TxOptions};
use crate::workers::error::WorkError;
use crate::workers::fence;
use crate::workers::pace::BatchSize;
use crate::workers::references::referencing;
use crate::workers::throttle::Throttle;

/// A batch's transaction is kept about this short.
const BATCH_TARGET: Duration = Duration::from_millis(250);
const BATCH_ROWS: u32 = 1_000;

impl Archived<'_> {
    /// Deletes what the archive holds; and the table itself, unless only a subset was archived.
    pub async fn delete(&self, manifest: &Manifest) -> Result<(), WorkError> {
        self.check_shape(manifest)?;
        self.context.retry(async || self.no_cascade().await).await?;
        let throttle = Throttle::start(self.context, 1);
        let mut size = BatchSize::new(BATCH_ROWS, BATCH_TARGET);
        for part in &manifest.parts {
            let rows = part_rows(self.context, self.destination, &self.folder, manifest, part).await?;
            let mut left = &rows[..];
            while !left.is_empty() {
                throttle.clear(self.context).await?;
                let most = size.rows().min(throttle.most_rows());
                let (batch, rest) = left.split_at(left.len().min(most as usize));
                throttle.spend(self.context, batch.len() as u32, 0).await?;
                let began = Instant::now();
                self.context
                    .retry(async || self.delete_batch(batch, part).await)
                    .await?;
                size.took(batch.len() as u32, began.elapsed());
                left = rest;
                self.context.status.publish_after(Duration::from_secs(3)).await;
            }
        }
        self.context.retry(async || self.nothing_left().await).await?;
        if self.side.filter.is_none() {
            self.context.retry(async || self.drop_table().await).await?;
        }
        Ok(())
    }

    async fn delete_batch(&self, batch: &[Row], part: &Part) -> Result<(), WorkError> {
        let keys: Vec<Key> = batch.iter().map(|row| self.side.key_of(row)).collect();
        let mut tx = self.begin().await?;
        tx.pass_fence(&fence::of(&self.context.migration.id())).await?;
        // Rows that are missing were deleted by an attempt that was cut off.
        let found = tx.read_keys(&self.side, &keys, Lock::Update).await?;
        let mut archived = batch.iter();
        for row in &found {
            if !archived.by_ref().any(|kept| kept == row) {
                return Err(self.differs(row, part));
            }
        }
        let found: Vec<Key> = found.iter().map(|row| self.side.key_of(row)).collect();
        if !found.is_empty() {
            tx.delete(&self.side, &found)
                .await
                .map_err(|error| self.refused(error))?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Rows that came after the archive was compared: the fence was passed by somebody.
    async fn nothing_left(&self) -> Result<(), WorkError> {
        let mut tx = self.database.begin(TxOptions::read_only()).await?;
        let left = tx.read_after(&self.side, None, None, 1).await?;
        tx.rollback().await;
        match left.first() {
            None => Ok(()),
            Some(row) => Err(WorkError::permanent(
                "ArchiveDiffers",
                format!(
                    "table {} of the source still has the row with key {}, which is not in the archive: it is left there; find \
                     out who wrote to the fenced source, and move the row by hand",
                    self.side.table.as_str(),
                    self.side.key_of(row)
                ),
            )),
        }
    }

    async fn drop_table(&self) -> Result<(), WorkError> {
        let mut tx = self.begin().await?;
        let name = self.side.table.quoted(self.side.engine);
        tx.execute(&format!("DROP TABLE IF EXISTS {name}"), &[])
            .await
            .map_err(|error| self.refused(error))?;
        tx.commit().await?;
        Ok(())
    }

    /// A transaction of this worker's epoch, in which the archive is known to be good.
    async fn begin(&self) -> Result<Tx, WorkError> {
        let options = TxOptions {
            lock_timeout: Duration::from_secs(2),
            statement_timeout: Some(Duration::from_mins(1)),
            ..TxOptions::default()
        };
        let mut tx = self.database.begin(options).await?;
        let migration = self.context.migration.id();
        let control = control::check_worker(&mut tx, &migration, self.context.task.epoch).await?;
        if control.fenced && control.archived == State::Compared && control.intent.is_some() {
            return Ok(tx);
        }
        tx.rollback().await;
        Err(WorkError::permanent(
            "ArchiveNotCompared",
            format!(
                "the control row of {migration} in {} does not say that the source is fenced and its archive compared: nothing is \
                 deleted; restore the row, or let the task run again",
                self.database.label()
            ),
        ))
    }

    /// Rows of tables that were not archived would go with these.
    async fn no_cascade(&self) -> Result<(), WorkError> {
        let mut tx = self.database.begin(TxOptions::read_only()).await?;
        let references = referencing(&mut tx, self.side.table.as_str()).await?;
        tx.rollback().await;
        let moved = |name: &str| self.beside.iter().any(|table| table == name);
        match references
            .iter()
            .find(|reference| reference.deletes_by_itself() && !moved(&reference.table))
        {
            None => Ok(()),
            Some(reference) => Err(WorkError::permanent(
                "CascadeFound",
                format!(
                    "deleting the rows of table {} would change rows of {}, which is not part of the migration (constraint {}, ON \
                     DELETE {}): nothing is deleted; drop that constraint, or set archive.deleteSource: false",
                    self.side.table.as_str(),
                    reference.table,
                    reference.constraint,
                    reference.on_delete
                ),
            )),
        }
    }

    /// Another table's foreign key forbids it, or a privilege is missing: nothing that waiting would change.
    fn refused(&self, error: StoreError) -> WorkError {
        match error {
            StoreError::Data { .. } | StoreError::Other { .. } | StoreError::Privilege { .. } => WorkError::permanent(
                "DeleteRefused",
                format!(
                    "{} refused to delete the archived table {}: {error}; remove what forbids it (a foreign key of another table, a \
                     missing privilege), or set archive.deleteSource: false",
                    self.database.label(),
                    self.side.table.as_str()
                ),
            ),
            other => other.into(),
        }
    }
}

/// Tables in the order in which they can be deleted: one that refers to another comes before it.
pub fn children_first(mut left: Vec<TableSchema>) -> Vec<String> {
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let refers = |child: &TableSchema, parent: &TableSchema| {
            child.name != parent.name && child.foreign_keys.iter().any(|key| key.referenced_table == parent.name)
        };
        // In a ring any order is as good as another; the database has the last word.
        let next = left
            .iter()
            .position(|table| !left.iter().any(|other| refers(other, table)))
            .unwrap_or(0);
        order.push(left.swap_remove(next).name);
    }
    order
}
