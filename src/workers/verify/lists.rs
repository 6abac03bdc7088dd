//! The incremental verify's two lists: the queue of second writes that failed, and the deletes. They are in the base and,
//! after a flip, in the follower: an entry names a key without a direction, and goes only after its key was settled
//! from whatever is base now.

use super::incremental::{Incremental, PAGE, Pass};
use crate::control;
use crate::rows::Key;
use crate::store::TxOptions;
use crate::words::Side;
use crate::workers::clock;
use crate::workers::error::WorkError;

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

impl Incremental {
    /// Settles what a list names, then removes exactly the entries whose keys are settled.
    pub async fn drain(&mut self, list: List, side: Side, pass: &mut Pass) -> Result<(), WorkError> {
        let mut after = 0;
        loop {
            let entries = self.entries(list, side, after).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = last.id;
            let keys: Vec<Key> = entries.iter().map(|entry| entry.key.clone()).collect();
            let suspicious = match list {
                // The transaction whose outcome nobody knew may still be open: only its locks tell.
                List::Queue => keys,
                List::Deletes => self.differing(keys).await?,
            };
            let open = self.settle(&suspicious, true, pass).await?;
            let settled: Vec<i64> = entries
                .iter()
                .filter(|entry| !open.contains(&entry.key))
                .map(|entry| entry.id)
                .collect();
            if !settled.is_empty() {
                let database = &self.work.shard(side).database;
                self.work
                    .ctx
                    .retry(async || {
                        let mut tx = self.work.begin_checked(database, TxOptions::default()).await?;
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

    async fn entries(&self, list: List, side: Side, after: i64) -> Result<Vec<Entry>, WorkError> {
        let work = &self.work;
        work.ctx.go_on()?;
        work.ctx
            .retry(async || {
                let mut tx = work.begin_plain(&work.shard(side).database).await?;
                let (id, table) = (work.migration_id(), &work.table().name);
                let found: Vec<Entry> = match list {
                    List::Queue => control::queued(&mut tx, &id, table, after, PAGE)
                        .await?
                        .into_iter()
                        .map(|queued| Entry {
                            id: queued.id,
                            key: queued.key,
                        })
                        .collect(),
                    List::Deletes => {
                        // A delete is looked at when the windows get there: the follower's may still be on its way.
                        let settled = clock::minus(&tx.clock().await?, work.ctx.migration.verify.lag)?;
                        control::recorded_deletes(&mut tx, &id, table, after, PAGE)
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
            .await
    }

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

    /// Entries in both sides' queues.
    pub async fn queue(&self) -> Result<u64, WorkError> {
        let work = &self.work;
        work.ctx
            .retry(async || {
                let mut entries = 0;
                for side in [Side::Source, Side::Target] {
                    let mut tx = work.begin_plain(&work.shard(side).database).await?;
                    let depth = control::queue_depth(&mut tx, &work.migration_id(), Some(&work.table().name)).await?;
                    entries += depth.unsigned_abs();
                    tx.rollback().await;
                }
                Ok(entries)
            })
            .await
    }
}
