//! The incremental verify's two lists: the queue of second writes that failed, and the deletes. They are in the base and,
//! after a flip, in the follower: an entry names a key without a direction, and goes only after its key was settled
//! from whatever is base now.

use super::incremental::{Incremental, PAGE, Pass};
use super::whole::Whole;
use crate::control;
use crate::rows::Key;
use crate::store::{Database, TxOptions};
use crate::words::Side;
use crate::workers::clock;
use crate::workers::error::WorkError;
use crate::workers::work::reading;

/// Keys that were written down to be looked at, in either database.
#[derive(Clone, Copy)]
pub enum List {
    /// Second writes that failed, or whose outcome nobody knows.
    Queue,
    /// Deletes, which no window of versions shows.
    Deletes,
}

/// One entry of a list; only this one is removed.
struct Entry {
    id: i64,
    key: Key,
}

impl Whole<'_> {
    /// Settles what a list names in each database of a side, then removes exactly the entries whose keys are settled.
    pub async fn drain(&mut self, list: List, side: Side, passes: &mut [Pass]) -> Result<(), WorkError> {
        let context = self.ctx;
        for (_, shard) in context.databases(side) {
            self.drain_one(list, &shard.database, passes).await?;
        }
        Ok(())
    }

    async fn drain_one(&mut self, list: List, database: &Database, passes: &mut [Pass]) -> Result<(), WorkError> {
        let mut after = 0;
        loop {
            let entries = self.entries(list, database, after).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = last.id;
            let mut open: Vec<Key> = Vec::new();
            for (part, pass) in self.parts.iter_mut().zip(passes.iter_mut()) {
                let mut keys = Vec::new();
                for entry in &entries {
                    // Wherever it was written down, it is the leg's to which its row belongs.
                    if part.work.owns(&entry.key)? {
                        keys.push(entry.key.clone());
                    }
                }
                let suspicious = match list {
                    // The transaction whose outcome nobody knew may still be open: only its locks tell.
                    List::Queue => keys,
                    List::Deletes => part.differing(keys).await?,
                };
                open.extend(part.settle(&suspicious, true, pass).await?);
            }
            let settled: Vec<i64> = entries
                .iter()
                .filter(|entry| !open.contains(&entry.key))
                .map(|entry| entry.id)
                .collect();
            let (context, Some(part)) = (self.ctx, self.parts.first()) else {
                return Ok(());
            };
            if !settled.is_empty() {
                context
                    .retry(async || {
                        let mut tx = part.work.begin_checked(database, TxOptions::default()).await?;
                        match list {
                            List::Queue => control::dequeue(&mut tx, &settled).await?,
                            List::Deletes => control::forget_deletes(&mut tx, &settled).await?,
                        }
                        Ok(tx.commit().await?)
                    })
                    .await?;
            }
        }
    }

    async fn entries(&self, list: List, database: &Database, after: i64) -> Result<Vec<Entry>, WorkError> {
        let context = self.ctx;
        context.go_on()?;
        let (id, table) = (context.migration.id(), context.task.table.clone().unwrap_or_default());
        let mut entries = context
            .retry(async || {
                let mut tx = database.begin(reading()).await?;
                let found: Vec<Entry> = match list {
                    List::Queue => control::queued(&mut tx, &id, &table, after, PAGE)
                        .await?
                        .into_iter()
                        .map(|queued| Entry {
                            id: queued.id,
                            key: queued.key,
                        })
                        .collect(),
                    List::Deletes => {
                        // A delete is looked at when the windows get there: the follower's may still be on its way.
                        let settled = clock::minus(&tx.clock().await?, context.migration.verify.lag)?;
                        control::recorded_deletes(&mut tx, &id, &table, after, PAGE)
                            .await?
                            .into_iter()
                            .filter(|deleted| deleted.deleted_at <= settled)
                            .map(|deleted| Entry {
                                id: deleted.id,
                                key: deleted.key,
                            })
                            .collect()
                    }
                };
                tx.rollback().await;
                Ok(found)
            })
            .await?;
        if let Some(part) = self.parts.first() {
            for entry in &mut entries {
                // Whoever wrote it down may have known one side alone.
                entry.key = part.work.base_whole().spelled(&entry.key);
            }
        }
        Ok(entries)
    }

    /// Entries in both sides' queues.
    pub async fn queue(&self) -> Result<u64, WorkError> {
        let context = self.ctx;
        let (id, table) = (context.migration.id(), context.task.table.as_deref());
        context
            .retry(async || {
                let mut entries = 0;
                for side in [Side::Source, Side::Target] {
                    for (_, shard) in context.databases(side) {
                        let mut tx = shard.database.begin(reading()).await?;
                        entries += control::queue_depth(&mut tx, &id, table).await?.unsigned_abs();
                        tx.rollback().await;
                    }
                }
                Ok(entries)
            })
            .await
    }
}

impl Incremental {
    /// Keys that the two sides do not hold alike.
    pub async fn differing(&self, keys: Vec<Key>) -> Result<Vec<Key>, WorkError> {
        let base = self.look_up(self.work.base(), self.work.base_compared(), &keys).await?;
        let follower = self
            .look_up(self.work.follower(), self.work.follower_compared(), &keys)
            .await?;
        Ok(keys
            .into_iter()
            .filter(|key| match (base.get(key), follower.get(key)) {
                (None, None) => false,
                (Some(row), Some(held)) => !self.work.comparison().alike(row, held),
                _ => true,
            })
            .collect())
    }
}
