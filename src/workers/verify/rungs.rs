//! How a range of keys is compared without holding its rows. First rung: a digest per range, then per part of a range that
//! differs, computed by both servers, where they come to the same one for equal rows. Second: a digest per row, from the
//! servers or from rows streamed and digested here. What differs there is a suspicion; the third rung, full values, is
//! the settling's.

use super::ends::{End, split};
use crate::rows::{Comparison, Key, Sketch};
use crate::store::{Database, Range, TableSide};
use crate::workers::context::TaskContext;
use crate::workers::error::WorkError;
use crate::workers::work::Work;
use std::collections::HashMap;
use std::sync::Arc;

/// Rows of the parts in which a range that differs is looked at again.
const PART: u32 = 250;
/// Parts that one statement digests, and whose rows are held together, at most.
const TOGETHER: usize = 16;

/// How the two sides of a table are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Ranges mean the same rows on both sides, and both servers digest alike.
    Pushed,
    /// Ranges mean the same rows on both sides; rows are streamed and digested here.
    Streamed,
    /// The sides order the key differently: each is walked by itself, and the other asked by keys.
    LookedUp,
}

/// One walk over the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// Both sides, range by range.
    Both,
    /// The base's rows, each looked up in the follower.
    Base,
    /// The follower's keys, each looked up in the base.
    Follower,
}

impl Sweep {
    /// As recorded.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Both => "Both",
            Self::Base => "Base",
            Self::Follower => "Follower",
        }
    }
}

impl Manner {
    /// The walks that together see every row of both sides.
    pub fn sweeps(self) -> &'static [Sweep] {
        match self {
            Self::Pushed | Self::Streamed => &[Sweep::Both],
            Self::LookedUp => &[Sweep::Base, Sweep::Follower],
        }
    }
}

/// What comparing some ranges came to.
#[derive(Debug, Default)]
pub struct Compared {
    pub base_rows: u64,
    pub follower_rows: u64,
    /// Keys whose rows differed when they were read.
    pub suspicions: Vec<Key>,
    /// Bytes of the widest row that was read.
    pub widest: u64,
    /// Bytes of all rows that were read.
    pub bytes: u64,
}

/// The rungs of one table.
pub struct Rungs {
    pub base: End,
    pub follower: End,
    pub manner: Manner,
}

impl Rungs {
    /// Finds out how this table can be compared.
    pub async fn choose(work: &Work) -> Result<Self, WorkError> {
        let comparison = Arc::new(work.comparison().clone());
        let end = |database: &Database, side: &TableSide, whole: &TableSide| End {
            database: database.clone(),
            side: Arc::new(side.clone()),
            whole: Arc::new(whole.clone()),
            comparison: comparison.clone(),
        };
        let base = end(work.base(), work.base_compared(), work.base_whole());
        let follower = end(work.follower(), work.follower_compared(), work.follower_whole());
        let manner = if !work.ranges_alike() {
            Manner::LookedUp
        } else if work.digests_alike() && base.can_digest(&work.ctx).await? && follower.can_digest(&work.ctx).await? {
            Manner::Pushed
        } else {
            Manner::Streamed
        };
        Ok(Self { base, follower, manner })
    }

    /// Divides what lies after `after` (and up to `upto`) into ranges of `rows` rows of the side that is walked. Fewer than
    /// `most` ranges: the last one reaches to the end.
    pub async fn divide(
        &self,
        ctx: &TaskContext,
        sweep: Sweep,
        range: &Range,
        rows: u32,
        most: usize,
    ) -> Result<Vec<Range>, WorkError> {
        let end = if sweep == Sweep::Follower {
            &self.follower
        } else {
            &self.base
        };
        let bounds = end.bounds(ctx, range, rows, most).await?;
        let to_the_end = bounds.len() < most;
        Ok(split(range, bounds, to_the_end))
    }

    /// Compares ranges of about `rows` rows each. What takes a server too long is divided.
    pub async fn compare(
        &self,
        ctx: &TaskContext,
        sweep: Sweep,
        ranges: &[Range],
        rows: u32,
    ) -> Result<Compared, WorkError> {
        match self.compare_once(ctx, sweep, ranges, rows).await {
            Err(error) if error.is_lock_conflict() => {
                let parts = match ranges {
                    [one] if rows > 1 => self.divide(ctx, sweep, one, (rows / 8).max(1), usize::MAX).await?,
                    [_] => return Err(error),
                    several => several.to_vec(),
                };
                let smaller = if ranges.len() > 1 { rows } else { (rows / 8).max(1) };
                tracing::info!(%error, ranges = parts.len(), "comparing smaller ranges");
                let mut all = Compared::default();
                for part in &parts {
                    ctx.go_on()?;
                    let one = std::slice::from_ref(part);
                    all.add(Box::pin(self.compare(ctx, sweep, one, smaller)).await?);
                }
                Ok(all)
            }
            other => other,
        }
    }

    async fn compare_once(
        &self,
        ctx: &TaskContext,
        sweep: Sweep,
        ranges: &[Range],
        rows: u32,
    ) -> Result<Compared, WorkError> {
        match (sweep, self.manner) {
            (Sweep::Both, Manner::Pushed) => self.pushed(ctx, ranges, rows).await,
            (Sweep::Both, _) => self.streamed(ctx, &whole(ranges)).await,
            (Sweep::Base, _) => self.base_looked_up(ctx, &whole(ranges)).await,
            (Sweep::Follower, _) => self.follower_looked_up(ctx, &whole(ranges)).await,
        }
    }

    /// Where ranges differ, their parts are digested again: the servers compute that much faster than they say what they
    /// hold row by row, which is left to the parts that differ.
    async fn pushed(&self, ctx: &TaskContext, ranges: &[Range], rows: u32) -> Result<Compared, WorkError> {
        let mut all = Compared::default();
        let mut differing = self.digested(ctx, ranges, &mut all).await?;
        if rows > PART && !differing.is_empty() {
            let parts = self.base.parts(ctx, differing, PART).await?;
            differing = Vec::new();
            for parts in parts.chunks(TOGETHER) {
                differing.extend(self.digested(ctx, parts, &mut all).await?);
            }
        }
        // What is held at a time is bounded, however many differ.
        for parts in differing.chunks(TOGETHER) {
            let (base, follower) =
                tokio::join!(self.base.digest_rows(ctx, parts), self.follower.digest_rows(ctx, parts));
            all.take(base?, follower?, &self.base.comparison);
        }
        Ok(all)
    }

    /// Counts the ranges that agree, and answers with those that do not.
    async fn digested(&self, ctx: &TaskContext, ranges: &[Range], all: &mut Compared) -> Result<Vec<Range>, WorkError> {
        let (base, follower) = tokio::join!(self.base.digests(ctx, ranges), self.follower.digests(ctx, ranges));
        let mut differing = Vec::new();
        for (range, (base, follower)) in ranges.iter().zip(base?.into_iter().zip(follower?)) {
            if base.agrees(&follower) {
                all.base_rows += base.rows;
                all.follower_rows += follower.rows;
            } else {
                differing.push(range.clone());
            }
        }
        Ok(differing)
    }

    async fn streamed(&self, ctx: &TaskContext, range: &Range) -> Result<Compared, WorkError> {
        let (base, follower) = tokio::join!(self.base.sketches(ctx, range), self.follower.sketches(ctx, range));
        let mut all = Compared::default();
        all.take(base?, follower?, &self.base.comparison);
        Ok(all)
    }

    async fn base_looked_up(&self, ctx: &TaskContext, range: &Range) -> Result<Compared, WorkError> {
        let base = self.base.sketches(ctx, range).await?;
        let keys = base.iter().map(|row| row.key.clone()).collect();
        let follower = self.follower.sketches_of(ctx, keys).await?;
        let mut all = Compared::default();
        all.take(base, follower, &self.base.comparison);
        // They are counted by their own sweep.
        all.follower_rows = 0;
        Ok(all)
    }

    async fn follower_looked_up(&self, ctx: &TaskContext, range: &Range) -> Result<Compared, WorkError> {
        let keys = self.follower.keys(ctx, range).await?;
        let there: std::collections::HashSet<Key> = self.base.there(ctx, keys.clone()).await?.into_iter().collect();
        Ok(Compared {
            follower_rows: keys.len() as u64,
            suspicions: keys.into_iter().filter(|key| !there.contains(key)).collect(),
            ..Compared::default()
        })
    }
}

/// From the first range's beginning to the last one's end.
fn whole(ranges: &[Range]) -> Range {
    (
        ranges.first().and_then(|(after, _)| after.clone()),
        ranges.last().and_then(|(_, upto)| upto.clone()),
    )
}

impl Compared {
    fn add(&mut self, other: Self) {
        self.base_rows += other.base_rows;
        self.follower_rows += other.follower_rows;
        self.suspicions.extend(other.suspicions);
        self.widest = self.widest.max(other.widest);
        self.bytes += other.bytes;
    }

    /// Finds the keys that are not alike in these rows.
    fn take(&mut self, base: Vec<Sketch>, follower: Vec<Sketch>, comparison: &Comparison) {
        self.base_rows += base.len() as u64;
        self.follower_rows += follower.len() as u64;
        for row in base.iter().chain(&follower) {
            self.widest = self.widest.max(row.bytes);
            self.bytes += row.bytes;
        }
        let mut held: HashMap<Key, Sketch> = follower.into_iter().map(|row| (row.key.clone(), row)).collect();
        for row in base {
            match held.remove(&row.key) {
                Some(other) if comparison.alike(&row, &other) => {}
                _ => self.suspicions.push(row.key),
            }
        }
        self.suspicions.extend(held.into_keys());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Row, Value};

    #[test]
    fn every_kind_of_difference_is_a_suspicion_and_nothing_else() {
        let comparison = Comparison::exact(2);
        let sketch = |id: i64, note: &str| {
            let row = Row {
                values: vec![Value::Int(id), Value::text(note)],
            };
            comparison.sketch(&row, &[0], 1)
        };
        let base = vec![sketch(1, "a"), sketch(2, "b"), sketch(3, "c")];
        let follower = vec![sketch(4, "d"), sketch(3, "c"), sketch(2, "B")];
        let mut compared = Compared::default();
        compared.take(base, follower, &comparison);
        compared.suspicions.sort();
        assert_eq!(compared.suspicions, [1, 2, 4].map(|id| Key(vec![Value::Int(id)])));
        assert_eq!((compared.base_rows, compared.follower_rows, compared.widest), (3, 3, 9));
    }
}
