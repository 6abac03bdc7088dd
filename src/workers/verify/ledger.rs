//! Which ranges a pass has yet to compare: found as the pass goes, recorded in the follower before they are compared and
//! again when everything that they owed is settled. A worker that starts again compares what was begun and goes on
//! behind it. A run that may only look records nothing.

use super::rungs::{Rungs, Sweep};
use crate::control::verified::{self, Found, PassId};
use crate::rows::Key;
use crate::store::{Range, StoreError, TxOptions};
use crate::workers::error::WorkError;
use crate::workers::work::Work;
use std::collections::VecDeque;
use std::time::Duration;

/// Rows of a range at first, and at most: the unit whose digests are compared.
const ROWS: (u32, u32) = (200, 2_000);
/// A chunk that takes longer is made smaller, one that takes a quarter of it is made larger.
const TAKES: Duration = Duration::from_secs(2);
/// Bytes of rows that one range shall hold.
const BYTES: u64 = 32 << 20;

/// Ranges that are compared, settled and recorded together.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    number: i64,
    pub ranges: Vec<Range>,
    /// About how many rows a range holds.
    pub rows: u32,
}

impl Chunk {
    /// Number and bounds, as recorded.
    fn place(&self) -> (i64, Option<&Key>, Option<&Key>) {
        let lower = self.ranges.first().and_then(|(lower, _)| lower.as_ref());
        let upper = self.ranges.last().and_then(|(_, upper)| upper.as_ref());
        (self.number, lower, upper)
    }
}

/// How large chunks are.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    rows: u32,
    ranges: usize,
    most: usize,
}

impl Size {
    /// `most`: ranges in a chunk.
    pub fn new(most: usize) -> Self {
        Self {
            rows: ROWS.0,
            ranges: 1,
            most,
        }
    }

    /// The same for once, but for no more rows of both sides together than that.
    fn within(mut self, most_rows: u32) -> Self {
        self.rows = self.rows.min(most_rows / 2).max(1);
        let ranges = most_rows / 2 / self.rows;
        self.ranges = self.ranges.min(ranges as usize).max(1);
        self
    }

    /// Learns from a chunk: how long it took, and how wide the rows are that were read (0: none was).
    pub fn took(&mut self, took: Duration, average: u64) {
        if took > TAKES {
            if self.ranges > 1 {
                self.ranges /= 2;
            } else {
                self.rows = (self.rows / 2).max(1);
            }
        } else if took * 4 < TAKES {
            if self.rows < ROWS.1 {
                self.rows = (self.rows * 2).min(ROWS.1);
            } else {
                self.ranges = (self.ranges * 2).min(self.most);
            }
        }
        if let Some(fitting) = BYTES.checked_div(average) {
            self.rows = self.rows.min(u32::try_from(fitting).unwrap_or(u32::MAX)).max(1);
        }
    }
}

/// One sweep's ranges.
pub struct Ledger {
    pass: Option<PassId>,
    began: String,
    sweep: Sweep,
    /// Begun by an earlier worker and not closed.
    again: VecDeque<(i64, Range)>,
    next: i64,
    /// Where the last range ends; `None` within: nowhere yet.
    frontier: Option<Key>,
    /// The table is divided to its end.
    divided: bool,
    pub size: Size,
}

impl Ledger {
    /// `pass`: what is recorded under; `None`: nothing is. With the sum of what earlier workers of the pass have verified.
    pub async fn open(
        work: &Work,
        pass: Option<PassId>,
        began: String,
        sweep: Sweep,
        most: usize,
    ) -> Result<(Self, Found), WorkError> {
        let mut ledger = Self {
            pass,
            began,
            sweep,
            again: VecDeque::new(),
            next: 0,
            frontier: None,
            divided: false,
            size: Size::new(most),
        };
        let mut sum = Found::default();
        let Some(pass) = &ledger.pass else {
            return Ok((ledger, sum));
        };
        let recorded = work
            .ctx
            .retry(async || {
                let mut tx = work.begin_plain(work.follower()).await?;
                let ranges = pass.ranges(&mut tx, sweep.as_str()).await?;
                tx.rollback().await;
                Ok(ranges)
            })
            .await?;
        // Two workers of one pass, each with ranges of its own, leave no row of them that could be trusted.
        let mut end: Option<&Key> = None;
        for (nth, range) in recorded.iter().enumerate() {
            if range.number != nth as i64 || range.lower.as_ref() != end || (nth > 0 && end.is_none()) {
                tracing::warn!(
                    table = work.table().name,
                    "recorded ranges do not follow each other: comparing everything"
                );
                ledger.pass = None;
                return Ok((ledger, sum));
            }
            end = range.upper.as_ref();
        }
        for range in recorded {
            ledger.next = range.number + 1;
            ledger.divided = range.upper.is_none();
            ledger.frontier.clone_from(&range.upper);
            match range.verified {
                None => ledger.again.push_back((range.number, (range.lower, range.upper))),
                Some(found) => {
                    sum.base_rows += found.base_rows;
                    sum.follower_rows += found.follower_rows;
                    sum.target_missing += found.target_missing;
                    sum.neq += found.neq;
                    sum.base_missing += found.base_missing;
                    sum.repaired += found.repaired;
                }
            }
        }
        Ok((ledger, sum))
    }

    /// Whether some range is not taken yet.
    pub fn more(&self) -> bool {
        !self.again.is_empty() || !self.divided
    }

    /// The next ranges to compare, of about so many rows at most; `None`: all are taken.
    pub async fn next(&mut self, work: &Work, rungs: &Rungs, most_rows: u32) -> Result<Option<Chunk>, WorkError> {
        let Size { rows, ranges, .. } = self.size.within(most_rows);
        if let Some((number, range)) = self.again.pop_front() {
            let ranges = rungs.divide(&work.ctx, self.sweep, &range, rows, usize::MAX).await?;
            return Ok(Some(Chunk { number, ranges, rows }));
        }
        if self.divided {
            return Ok(None);
        }
        let from = (self.frontier.clone(), None);
        let ranges = rungs.divide(&work.ctx, self.sweep, &from, rows, ranges).await?;
        let number = self.next;
        let upper = ranges.last().and_then(|(_, upto)| upto.clone());
        self.record(work, number, upper.as_ref()).await?;
        self.next += 1;
        self.divided = upper.is_none();
        self.frontier = upper;
        Ok(Some(Chunk { number, ranges, rows }))
    }

    async fn record(&mut self, work: &Work, number: i64, upper: Option<&Key>) -> Result<(), WorkError> {
        let Some(pass) = &self.pass else { return Ok(()) };
        let place = (number, self.frontier.as_ref(), upper);
        let recorded = work
            .ctx
            .retry(async || {
                let mut tx = work.begin_follower(TxOptions::default()).await?;
                pass.open(&mut tx, self.sweep.as_str(), &self.began, place).await?;
                Ok(tx.commit().await?)
            })
            .await;
        match recorded {
            Err(WorkError::Store(StoreError::Duplicate { .. })) => {
                // Another worker of this pass is at it (or our own COMMIT went unanswered): this one compares to the end,
                // and leaves it to the other to say what is verified.
                tracing::warn!(
                    table = work.table().name,
                    number,
                    "the range is recorded already; recording no more"
                );
                self.pass = None;
                Ok(())
            }
            other => other,
        }
    }
}

/// Records that a chunk owes nothing any more.
pub async fn close(
    work: &Work,
    pass: Option<&PassId>,
    sweep: Sweep,
    chunk: &Chunk,
    found: &Found,
) -> Result<(), WorkError> {
    let Some(pass) = pass else { return Ok(()) };
    work.ctx
        .retry(async || {
            let mut tx = work.begin_follower(TxOptions::default()).await?;
            pass.close(&mut tx, sweep.as_str(), chunk.place(), found).await?;
            Ok(tx.commit().await?)
        })
        .await
}

/// Records that the pass came to its end, whatever it found: another one owes every row.
pub async fn end(work: &Work, pass: &PassId, began: &str) -> Result<(), WorkError> {
    let recorded = work
        .ctx
        .retry(async || {
            let mut tx = work.begin_follower(TxOptions::default()).await?;
            pass.end(&mut tx, began).await?;
            Ok(tx.commit().await?)
        })
        .await;
    once(recorded)
}

/// Records that the pass has not come to its end, and that another worker is to go on with it.
pub async fn pause(work: &Work, pass: &PassId, began: &str) -> Result<(), WorkError> {
    let recorded = work
        .ctx
        .retry(async || {
            let mut tx = work.begin_follower(TxOptions::default()).await?;
            pass.pause(&mut tx, began).await?;
            Ok(tx.commit().await?)
        })
        .await;
    once(recorded)
}

fn once(recorded: Result<(), WorkError>) -> Result<(), WorkError> {
    match recorded {
        // It is there already.
        Err(WorkError::Store(StoreError::Duplicate { .. })) => Ok(()),
        other => other,
    }
}

/// Begins the pass in the follower, or finds when an earlier worker began it.
pub async fn begin(work: &Work, pass: &PassId) -> Result<String, WorkError> {
    let clock = work.base_clock().await?;
    work.ctx
        .retry(async || {
            let mut tx = work.begin_follower(TxOptions::default()).await?;
            verified::ensure(&mut tx).await?;
            tx.commit().await?;
            let mut tx = work.begin_follower(TxOptions::default()).await?;
            let began = pass.begin(&mut tx, &clock).await?;
            tx.commit().await?;
            Ok(began)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_while_they_are_quick_and_shrink_when_they_are_slow_or_wide() {
        let mut size = Size::new(16);
        for _ in 0..20 {
            size.took(Duration::from_millis(10), 100);
        }
        assert_eq!((size.rows, size.ranges), (2_000, 16));
        for _ in 0..6 {
            size.took(Duration::from_secs(5), 100);
        }
        assert_eq!((size.rows, size.ranges), (500, 1));
        size.took(Duration::from_secs(1), 10 << 20);
        assert_eq!(size.rows, 3);
        size.took(Duration::from_secs(1), 100 << 20);
        assert_eq!(size.rows, 1, "a row is the least that there is");
        size.took(Duration::from_secs(1), 0);
    }

    #[test]
    fn a_chunk_fits_into_what_the_rates_allow() {
        let size = Size {
            rows: 2_000,
            ranges: 16,
            most: 16,
        };
        for (most, expected) in [
            (u32::MAX, (2_000, 16)),
            (20_000, (2_000, 5)),
            (1_000, (500, 1)),
            (1, (1, 1)),
            (0, (1, 1)),
        ] {
            let fitting = size.within(most);
            assert_eq!((fitting.rows, fitting.ranges), expected, "{most}");
        }
    }
}
