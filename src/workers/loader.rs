//! `Loader`: one lane's fast way through a chunk. While one batch is put the next is read; whatever the follower has an
//! objection to is left to the copier's careful way, which narrows it down, for a while that grows with every objection.

use super::copy::{BATCH_MOST, BATCH_TARGET, Copy, ROW_MOST};
use super::error::WorkError;
use super::pace::BatchSize;
use super::work::short;
use crate::control::chunks::Chunk;
use crate::store::{Batch, Load, Reader, StoreError, Way};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows of a batch at most; time and bytes keep it smaller where rows are large or the follower is slow.
const BATCH_ROWS: u32 = 16_384;
/// Bytes of a batch at most, but for a single row that is larger. Each lane holds two batches.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// A batch is read in one statement; what takes longer is given up and read again.
const READ_MOST: Duration = Duration::from_mins(1);
/// A batch's transaction that takes longer has lost its server, which ends each statement much sooner.
const PUT_MOST: Duration = Duration::from_secs(30);
/// So many batches in a row are put guarded, at most, before the unguarded way is tried again.
const MOST_GUARDED: u32 = 64;

/// One lane's state of the fast way.
pub(super) struct Loader {
    copy: Arc<Copy>,
    load: Arc<Load>,
    owner: String,
    reader: Reader,
    size: BatchSize,
    /// Bytes of a row, as met lately.
    row_bytes: usize,
    /// Rows that still go the careful way.
    careful: u32,
    objections: u32,
    /// Batches that still are put guarded, and how many it will be after the next row that is there already.
    guarded: u32,
    guard_for: u32,
}

/// What became of a batch.
enum Put {
    Moved {
        /// The chunk's progress; `None`: it is done.
        to: Option<Chunk>,
        /// How long the transaction lasted that held the rows.
        took: Duration,
        /// Rows were there already.
        met: bool,
    },
    /// The follower objects, or is slow, or is away.
    Objected(WorkError),
}

/// A batch on its way into the follower.
struct Putting {
    copy: Arc<Copy>,
    load: Arc<Load>,
    owner: String,
    way: Way,
}

impl Loader {
    pub fn new(copy: &Arc<Copy>, load: &Arc<Load>, owner: &str) -> Self {
        Self {
            reader: Reader::new(copy.work.base(), load.clone(), READ_MOST),
            copy: copy.clone(),
            load: load.clone(),
            owner: owner.to_owned(),
            size: BatchSize::new(BATCH_ROWS, BATCH_TARGET),
            row_bytes: BATCH_BYTES / 64,
            careful: 0,
            objections: 0,
            guarded: 0,
            guard_for: 1,
        }
    }

    /// The careful way went so many rows further.
    pub fn stepped(&mut self, rows: u32) {
        self.careful = self.careful.saturating_sub(rows.max(1));
    }

    /// Copies the chunk as far as the fast way leads. `None`: it is done; otherwise the careful way goes on.
    pub async fn load(&mut self, mut chunk: Chunk) -> Result<Option<Chunk>, WorkError> {
        let copy = self.copy.clone();
        let context = &copy.work.ctx;
        // Small steps and waiting are the careful way's.
        if self.careful > 0 || copy.throttle.braked() {
            return Ok(Some(chunk));
        }
        let Some(mut batch) = self.read(chunk.lower.clone(), &chunk).await else {
            return Ok(Some(chunk));
        };
        loop {
            context.go_on()?;
            // What was read ahead would be old when the wait is over: it is read again then.
            if copy.throttle.braked() {
                return Ok(Some(chunk));
            }
            copy.throttle.spend(context, batch.rows(), batch.bytes() as u64).await?;
            let putting = Putting {
                copy: copy.clone(),
                load: self.load.clone(),
                owner: self.owner.clone(),
                way: if self.guarded > 0 {
                    Way::Guarded
                } else {
                    self.load.first_way()
                },
            };
            let putting_batch = Arc::new(batch);
            let (put, next) = tokio::join!(putting.put(&chunk, &putting_batch), self.next(&putting_batch, &chunk));
            match put? {
                Put::Moved { to, took, met } => {
                    self.moved(&putting_batch, took, met);
                    let Some(to) = to else { return Ok(None) };
                    let as_planned = to.lower.as_ref() == putting_batch.last();
                    chunk = to;
                    match next {
                        Some(next) if as_planned => batch = next,
                        // The record stands elsewhere, or the next batch cannot be read in the fast way.
                        _ => return Ok(Some(chunk)),
                    }
                }
                Put::Objected(error) => {
                    tracing::debug!(%error, rows = putting_batch.rows(), "a batch goes the careful way");
                    self.objected(&error, putting_batch.rows());
                    return Ok(Some(chunk));
                }
            }
        }
    }

    async fn next(&mut self, batch: &Batch, chunk: &Chunk) -> Option<Batch> {
        if batch.ended() {
            return None;
        }
        self.read(batch.last().cloned(), chunk).await
    }

    /// `None`: it cannot be read; the careful way finds out why, and waits where waiting helps.
    async fn read(&mut self, after: Option<crate::rows::Key>, chunk: &Chunk) -> Option<Batch> {
        // Rows differ: a batch that is cut off costs its reader's connection.
        let fitting = u32::try_from(BATCH_BYTES / 4 * 3 / self.row_bytes.max(1)).unwrap_or(u32::MAX);
        let most = self.size.rows().min(self.copy.throttle.most_rows());
        let limit = even(most.min(fitting).max(1));
        match self
            .reader
            .read(after.as_ref(), chunk.upper.as_ref(), limit, BATCH_BYTES)
            .await
        {
            Ok(batch) => {
                if batch.rows() > 0 {
                    self.row_bytes = (batch.bytes() / batch.rows() as usize).max(1);
                    self.copy.work.saw(self.row_bytes as u64);
                }
                Some(batch)
            }
            Err(error) => {
                tracing::debug!(%error, "a batch cannot be read in the fast way");
                self.objected(&WorkError::Store(error), limit);
                None
            }
        }
    }

    fn moved(&mut self, batch: &Batch, took: Duration, met: bool) {
        self.size.took(batch.rows(), took);
        self.objections = 0;
        if met {
            self.guarded = self.guard_for;
            self.guard_for = (self.guard_for * 2).min(MOST_GUARDED);
        } else if self.guarded > 0 {
            self.guarded -= 1;
        } else {
            self.guard_for = (self.guard_for / 2).max(1);
        }
    }

    fn objected(&mut self, error: &WorkError, rows: u32) {
        if error.is_lock_conflict() {
            self.size.collided();
        }
        self.objections = (self.objections + 1).min(8);
        self.careful = rows.saturating_mul(1 << (self.objections - 1)).max(1);
    }
}

impl Putting {
    async fn put(&self, chunk: &Chunk, batch: &Arc<Batch>) -> Result<Put, WorkError> {
        let mut began = Instant::now();
        let mut put = self.once(chunk, batch, self.way).await;
        let mut met = false;
        if self.way == Way::Fresh && matches!(put, Err(WorkError::Store(StoreError::Duplicate { .. }))) {
            (began, met) = (Instant::now(), true);
            put = self.once(chunk, batch, Way::Guarded).await;
        }
        match put {
            Ok(to) => Ok(Put::Moved {
                to,
                took: began.elapsed(),
                met,
            }),
            // Nobody knows whether the batch is in: the record does.
            Err(WorkError::UnknownOutcome(_)) => {
                let context = &self.copy.work.ctx;
                let to = context
                    .retry(async || self.copy.recorded(chunk, &self.owner).await)
                    .await?;
                Ok(Put::Moved {
                    to,
                    took: began.elapsed(),
                    met,
                })
            }
            Err(error @ (WorkError::Stale(_) | WorkError::Stopped | WorkError::Permanent { .. })) => Err(error),
            Err(error) => Ok(Put::Objected(error)),
        }
    }

    /// One transaction: control row, rows, progress. In a task of its own, so that it comes to its end whoever waits: a
    /// COPY that is dropped on its way leaves its connection in a state that the driver does not know.
    async fn once(&self, chunk: &Chunk, batch: &Arc<Batch>, way: Way) -> Result<Option<Chunk>, WorkError> {
        let (copy, load, owner) = (self.copy.clone(), self.load.clone(), self.owner.clone());
        let (chunk, batch) = (chunk.clone(), batch.clone());
        let work = tokio::spawn(async move {
            let most = if batch.rows() > 1 { BATCH_MOST } else { ROW_MOST };
            let mut tx = copy.work.begin_follower(short(most)).await?;
            if let Err(refused) = tx.load(&load, &batch, way).await {
                tx.rollback().await;
                return Err(refused.into());
            }
            let rows = i64::from(batch.rows());
            copy.advance(&mut tx, &chunk, batch.last(), rows, batch.ended(), &owner)
                .await?;
            tx.commit().await?;
            Ok((!batch.ended()).then(|| Chunk {
                number: chunk.number,
                lower: batch.last().cloned().or(chunk.lower),
                upper: chunk.upper,
                rows: chunk.rows + rows,
            }))
        });
        let unknown = |message: String| {
            WorkError::UnknownOutcome(StoreError::Other {
                label: self.copy.work.follower().label().to_owned(),
                message,
            })
        };
        match tokio::time::timeout(PUT_MOST, work).await {
            Ok(Ok(put)) => put,
            Ok(Err(error)) => Err(unknown(format!("a batch's transaction broke off: {error}"))),
            Err(_) => Err(unknown(format!(
                "a batch's transaction was not answered within {} s",
                PUT_MOST.as_secs()
            ))),
        }
    }
}

/// Few different numbers: the limit is part of the statement's text, and each text is prepared once.
fn even(rows: u32) -> u32 {
    let step = (rows.max(1).ilog2()).saturating_sub(2);
    (rows >> step) << step
}
