//! Copies one table from base to follower: key ranges claimed in the follower, batches read without locks and put
//! guarded, each batch's progress in the same transaction as its rows. What cannot be put is set aside with its reason.

mod aside;
mod legs;

pub use legs::run;

use self::legs::{Around, Copied, Ended};
use super::error::WorkError;
use super::indexes;
use super::loader::Loader;
use super::pace::{BatchSize, Waits};
use super::throttle::Throttle;
use super::work::{Work, short};
use crate::control::chunks::{Chunk, ChunkSet, Claim, Totals};
use crate::control::rejects;
use crate::rows::{Key, Row};
use crate::store::{Load, StoreError, Tx, TxOptions};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Half of what the application's library waits for its second write by default.
pub(super) const BATCH_TARGET: Duration = Duration::from_millis(125);
/// No statement of a batch may last longer: the server ends it, and the batch is halved.
pub(super) const BATCH_MOST: Duration = Duration::from_millis(250);
/// A single row on a server that is slow with everything.
pub(super) const ROW_MOST: Duration = Duration::from_secs(3);
/// Rows in one statement at most.
const BATCH_ROWS: u32 = 1_000;
/// Rows in a chunk: the unit that is claimed.
const CHUNK_ROWS: u32 = 20_000;
/// How often progress is read and reported.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// One table's copy; its lanes share it.
pub(super) struct Copy {
    pub(super) work: Work,
    pub(super) chunks: ChunkSet,
    pub(super) throttle: Throttle,
    load: Arc<Load>,
    around: Around,
}

impl Copy {
    async fn run(self: Arc<Self>) -> Result<Ended, WorkError> {
        let context = &self.work.ctx;
        context
            .retry(async || {
                let mut tx = self.work.begin_follower(TxOptions::default()).await?;
                self.chunks.forget_earlier_rounds(&mut tx).await?;
                Ok(tx.commit().await?)
            })
            .await?;
        let estimate = self.work.base_estimate();
        self.report(estimate).await?;

        // The lanes share this task: the databases work in parallel, which is where the time goes.
        let mut lanes: FuturesUnordered<_> = (0..context.migration.copy.parallelism.max(1))
            .map(|number| self.lane(number))
            .collect();
        let mut tick = tokio::time::interval(PROGRESS_EVERY);
        loop {
            tokio::select! {
                lane = lanes.next() => match lane {
                    None => break,
                    // The first failure ends the others: what they lose is at most an open transaction each.
                    Some(ended) => ended?,
                },
                _ = tick.tick(), if context.status.leads() => {
                    self.work.same_shape().await?;
                    self.report(estimate).await?;
                }
            }
        }
        drop(lanes);
        let (totals, _) = self.report(estimate).await?;
        if !totals.divided || totals.done != totals.chunks {
            // A follower that failed over to a replica without its last transactions.
            return Err(WorkError::Waiting {
                reason: "CheckpointLost",
                message: format!(
                    "every chunk of table {} was copied, but only {} of {} are recorded as done: the follower lost committed \
                     progress (a failover?); the copy goes on from what is recorded",
                    self.chunks.table, totals.done, totals.chunks
                ),
            });
        }
        // All pods are done when all chunks are; what was set aside, and the indexes, are one pod's.
        if !context.status.leads() {
            return Ok(Ended::Whole(self.around.before));
        }
        if self.around.last {
            indexes::build(&self.work).await?;
        }
        let settled = self.settle_rejects().await;
        let (_, copied) = self.report(estimate).await?;
        match settled {
            Ok(()) => Ok(Ended::Whole(copied)),
            Err(
                error @ WorkError::Permanent {
                    reason: "RowsRejected", ..
                },
            ) => Ok(Ended::Rejected(copied, error)),
            Err(error) => Err(error),
        }
    }

    /// Reads the recorded progress of the leg, and reports it with the other legs'.
    async fn report(&self, estimate: u64) -> Result<(Totals, Copied), WorkError> {
        let context = &self.work.ctx;
        let (totals, rejects) = context
            .retry(async || {
                let mut tx = self.work.begin_plain(self.work.follower()).await?;
                let totals = self.chunks.totals(&mut tx).await?;
                let rejects = rejects::count(&mut tx, &self.chunks).await?;
                tx.rollback().await;
                Ok((totals, rejects))
            })
            .await?;
        let before = self.around.before;
        let rows = totals.rows.unsigned_abs();
        let copied = Copied {
            rows: before.rows + rows,
            chunks: before.chunks + totals.chunks.unsigned_abs(),
            done: before.done + totals.done.unsigned_abs(),
            rejects: before.rejects + rejects,
        };
        if !context.status.leads() {
            return Ok((totals, copied));
        }
        let finished = totals.divided && totals.done == totals.chunks;
        let left = if finished { 0 } else { estimate.saturating_sub(rows) };
        context.status.note(|status| {
            let progress = status.progress.get_or_insert_default();
            progress.rows = copied.rows;
            progress.rejects = copied.rejects;
            progress.chunks = copied.chunks;
            progress.chunks_done = copied.done;
            progress.rows_total = copied.rows + left + estimate * self.around.rest;
        });
        context.status.publish_after(PROGRESS_EVERY / 2).await;
        Ok((totals, copied))
    }

    /// One connection's work: claim, copy, again, until every range is done.
    async fn lane(self: &Arc<Self>, number: u32) -> Result<(), WorkError> {
        let context = &self.work.ctx;
        let owner = format!("{}#{number}", context.owner);
        let mut size = BatchSize::new(BATCH_ROWS, BATCH_TARGET);
        let mut loader = Loader::new(self, &self.load, &owner);
        loop {
            match context.retry(async || self.claim(&owner).await).await? {
                Some(Claim::Chunk(chunk)) => match self.copy_chunk(chunk, &owner, &mut size, &mut loader).await {
                    // Whoever holds it now goes on from its progress.
                    Err(WorkError::ClaimLost(message)) => tracing::info!(message, "claim lost"),
                    other => other?,
                },
                Some(Claim::AllDone) => return Ok(()),
                // The holders may die: look again, so that their ranges are not left behind.
                Some(Claim::Busy) => context.pause(Duration::from_millis(200)).await?,
                Some(Claim::Extend { .. }) | None => {}
            }
        }
    }

    /// Takes a range, or divides the table one range further. `None`: somebody was faster.
    async fn claim(&self, owner: &str) -> Result<Option<Claim>, WorkError> {
        self.work.same_shape().await?;
        let mut tx = self.work.begin_follower(TxOptions::default()).await?;
        let claim = self.chunks.claim(&mut tx, owner).await?;
        let Claim::Extend { after, number } = claim else {
            tx.commit().await?;
            return Ok(Some(claim));
        };
        tx.rollback().await;
        let mut base = self.work.begin_plain(self.work.base()).await?;
        // Of all rows of the shard: a leg with few of them is not searched for in one statement.
        let side = self.work.base_whole();
        let mut upper = base.chunk_end(side, after.as_ref(), CHUNK_ROWS).await?;
        // The last range is left open instead of being followed by ever smaller ones for rows that arrive meanwhile.
        if upper.is_some() && base.chunk_end(side, upper.as_ref(), 1).await?.is_none() {
            upper = None;
        }
        base.rollback().await;
        let chunk = Chunk {
            number,
            lower: after,
            upper,
            rows: 0,
        };
        let mut tx = self.work.begin_follower(TxOptions::default()).await?;
        if !self.chunks.insert(&mut tx, &chunk, owner).await? {
            tx.rollback().await;
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(Claim::Chunk(chunk)))
    }

    async fn copy_chunk(
        &self,
        mut chunk: Chunk,
        owner: &str,
        size: &mut BatchSize,
        loader: &mut Loader,
    ) -> Result<(), WorkError> {
        let context = &self.work.ctx;
        loop {
            self.throttle.clear(context).await?;
            match loader.load(chunk).await? {
                None => return Ok(()),
                Some(rest) => chunk = rest,
            }
            let most = size.rows().min(self.throttle.most_rows());
            // All that is read is held: few rows where some are wide.
            let limit = self.work.together(most as usize) as u32;
            let read = context
                .retry(async || {
                    let mut base = self.work.begin_plain(self.work.base()).await?;
                    let rows = base
                        .read_after(self.work.base_side(), chunk.lower.as_ref(), chunk.upper.as_ref(), limit)
                        .await?;
                    base.rollback().await;
                    Ok(rows)
                })
                .await;
            let rows = match read {
                Ok(rows) => rows,
                // A row among them cannot be read exactly: fewer at a time, until it is alone.
                Err(error) if error.is_row_problem() && limit > 1 => {
                    size.collided();
                    continue;
                }
                Err(WorkError::Store(refused)) if refused.is_row_problem() => {
                    match self.skip(&chunk, owner, &refused).await? {
                        Some(next) => chunk = next,
                        None => return Ok(()),
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            // A short batch is the range's end; rows inserted behind it by now were written by the application twice.
            let last = (rows.len() as u32) < limit;
            loader.stepped(rows.len() as u32);
            let bytes = rows.iter().map(Row::bytes).inspect(|&bytes| self.work.saw(bytes)).sum();
            self.throttle.spend(context, rows.len() as u32, bytes).await?;
            match self.put(&chunk, &rows, last, owner, size).await {
                Ok(Some(next)) => chunk = next,
                Ok(None) => return Ok(()),
                // A commit that was thought lost had come through: the record says how far.
                Err(WorkError::ClaimLost(why)) => {
                    match context.retry(async || self.recorded(&chunk, owner).await).await? {
                        Some(recorded) if recorded != chunk => chunk = recorded,
                        _ => return Err(WorkError::ClaimLost(why)),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Puts rows and moves the chunk's progress past them. `None`: the chunk is done. Rows that the follower refuses
    /// are narrowed down by halves, in key order, so that progress always means "everything below".
    async fn put(
        &self,
        chunk: &Chunk,
        rows: &[Row],
        last: bool,
        owner: &str,
        size: &mut BatchSize,
    ) -> Result<Option<Chunk>, WorkError> {
        let context = &self.work.ctx;
        let mut waits = Waits::default();
        let mut began_failing: Option<Instant> = None;
        loop {
            context.go_on()?;
            let began = Instant::now();
            let error = match self.put_once(chunk, rows, last, owner, None).await {
                Ok(next) => {
                    size.took(rows.len() as u32, began.elapsed());
                    if began_failing.is_some() {
                        context.status.clear_trouble();
                    }
                    return Ok(next);
                }
                Err(error) => error,
            };
            match error {
                WorkError::Store(refused) if refused.is_row_problem() => {
                    return Box::pin(self.narrow(chunk, rows, last, owner, size, &refused)).await;
                }
                // Nobody knows whether the batch is in: the record does.
                WorkError::UnknownOutcome(_) => {
                    return context.retry(async || self.recorded(chunk, owner).await).await;
                }
                error if error.is_lock_conflict() && rows.len() > 1 => {
                    size.collided();
                    let (first, second) = rows.split_at(rows.len() / 2);
                    context
                        .pause(waits.failed(Instant::now()).0.min(Duration::from_millis(200)))
                        .await?;
                    return Box::pin(self.put_halves(chunk, first, second, last, owner, size)).await;
                }
                WorkError::ClaimLost(_) => return Err(error),
                error if error.is_transient() => {
                    let since = *began_failing.get_or_insert(began);
                    if since.elapsed() > Duration::from_secs(3) {
                        context.status.troubled(&error).await;
                    }
                    context.pause(waits.failed(Instant::now()).0).await?;
                }
                error => return Err(error),
            }
        }
    }

    async fn put_halves(
        &self,
        chunk: &Chunk,
        first: &[Row],
        second: &[Row],
        last: bool,
        owner: &str,
        size: &mut BatchSize,
    ) -> Result<Option<Chunk>, WorkError> {
        let Some(middle) = self.put(chunk, first, false, owner, size).await? else {
            return Ok(None);
        };
        // After an unknown outcome the record may stand elsewhere: only what is still ahead of it is put.
        if middle.lower.as_ref() != first.last().map(|row| self.work.base_side().key_of(row)).as_ref() {
            return Ok(Some(middle));
        }
        self.put(&middle, second, last, owner, size).await
    }

    async fn narrow(
        &self,
        chunk: &Chunk,
        rows: &[Row],
        last: bool,
        owner: &str,
        size: &mut BatchSize,
        refused: &StoreError,
    ) -> Result<Option<Chunk>, WorkError> {
        if rows.len() > 1 {
            let (first, second) = rows.split_at(rows.len() / 2);
            return self.put_halves(chunk, first, second, last, owner, size).await;
        }
        let reason = refused.to_string();
        tracing::warn!(
            table = self.chunks.table,
            reason,
            "a row cannot be put; it is set aside"
        );
        let context = &self.work.ctx;
        match context
            .retry_but(
                |error| matches!(error, WorkError::UnknownOutcome(_) | WorkError::ClaimLost(_)),
                async || self.put_once(chunk, rows, last, owner, Some(&reason)).await,
            )
            .await
        {
            Err(WorkError::UnknownOutcome(_)) => context.retry(async || self.recorded(chunk, owner).await).await,
            other => other,
        }
    }

    /// One transaction: control row, rows (or the reject of one row), progress.
    async fn put_once(
        &self,
        chunk: &Chunk,
        rows: &[Row],
        last: bool,
        owner: &str,
        reject: Option<&str>,
    ) -> Result<Option<Chunk>, WorkError> {
        let mut tx = self
            .work
            .begin_follower(short(if rows.len() > 1 { BATCH_MOST } else { ROW_MOST }))
            .await?;
        let key_of = |row: &Row| self.work.base_side().key_of(row);
        match reject {
            Some(reason) => {
                for row in rows {
                    rejects::add(&mut tx, &self.chunks, &key_of(row), reason).await?;
                }
            }
            None if rows.is_empty() => {}
            None => {
                tx.put_guarded(self.work.follower_side(), rows).await?;
            }
        }
        let to: Option<Key> = rows.last().map(key_of);
        self.advance(&mut tx, chunk, to.as_ref(), rows.len() as i64, last, owner)
            .await?;
        tx.commit().await?;
        Ok((!last).then(|| Chunk {
            number: chunk.number,
            lower: to.or_else(|| chunk.lower.clone()),
            upper: chunk.upper.clone(),
            rows: chunk.rows + rows.len() as i64,
        }))
    }

    /// Progress, in the transaction that holds the rows.
    pub(super) async fn advance(
        &self,
        tx: &mut Tx,
        chunk: &Chunk,
        to: Option<&Key>,
        rows: i64,
        done: bool,
        owner: &str,
    ) -> Result<(), WorkError> {
        if self.chunks.advance(tx, chunk, to, rows, done, owner).await? {
            return Ok(());
        }
        Err(WorkError::ClaimLost(format!(
            "chunk {} of table {} is no longer claimed by {owner} at the recorded progress; another worker goes on with it",
            chunk.number, self.chunks.table
        )))
    }

    /// What the follower has recorded of a chunk, after an outcome that nobody was told.
    pub(super) async fn recorded(&self, chunk: &Chunk, owner: &str) -> Result<Option<Chunk>, WorkError> {
        let mut tx = self.work.begin_plain(self.work.follower()).await?;
        let recorded = self.chunks.read(&mut tx, chunk.number, owner).await?;
        tx.rollback().await;
        Ok(recorded)
    }
}
