//! A first look: how many rows each side has, range by range. Indexes answer it, so it takes a fraction of a comparison's
//! time, and finds what was never copied or never deleted. It says nothing about what the rows hold.

use super::ends::End;
use super::rungs::{Manner, Rungs};
use crate::api::task::Progress;
use crate::rows::Key;
use crate::store::Range;
use crate::workers::context::TaskContext;
use crate::workers::error::WorkError;
use crate::workers::legs::legs;
use crate::workers::work::{self, Work};
use std::time::Duration;

/// Rows of a range, about.
const ROWS: u32 = 10_000;
/// Ranges counted by one statement.
const TOGETHER: usize = 16;
/// Ranges that differ and are counted once more; beyond that it is no passing matter.
const AGAIN: usize = 256;
/// A second write that is on its way has arrived, or failed, after this time.
const STILL: Duration = Duration::from_secs(3);
const REPORT_EVERY: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Counts {
    base: u64,
    follower: u64,
    /// Ranges that differ, with the count of the base and the follower.
    differing: Vec<(Range, u64, u64)>,
}

/// Counts the task's table on both sides; nothing is locked, nothing is written.
pub async fn run(context: &TaskContext) -> Result<(), WorkError> {
    let table = work::table(context)?;
    let mut all = Counts::default();
    for leg in legs(&table, context.task.direction) {
        let work = Work::look(context, leg).await?;
        let counts = one_leg(&work, all.base + all.follower).await?;
        all.base += counts.base;
        all.follower += counts.follower;
        all.differing.extend(counts.differing);
    }
    verdict(&table.name, &all)
}

/// `before`: rows of the legs before it.
async fn one_leg(work: &Work, before: u64) -> Result<Counts, WorkError> {
    let rungs = Rungs::choose(work).await?;
    let mut counts = if rungs.manner == Manner::LookedUp {
        // A range of keys would not mean the same rows on both sides.
        let everything = (None, None);
        let base = total(work, &rungs.base).await?;
        let follower = total(work, &rungs.follower).await?;
        Counts {
            base,
            follower,
            differing: if base == follower {
                Vec::new()
            } else {
                vec![(everything, base, follower)]
            },
        }
    } else {
        by_range(work, &rungs, before).await?
    };
    if rungs.manner != Manner::LookedUp && !counts.differing.is_empty() && counts.differing.len() <= AGAIN {
        count_again(work, &rungs, &mut counts).await?;
    }
    told(work, &counts, before);
    Ok(counts)
}

/// Ranges of the base's rows in the order of the key, some at a time.
struct Walk<'e> {
    end: &'e End,
    from: Option<Key>,
    over: bool,
}

impl Walk<'_> {
    async fn next(&mut self, ctx: &TaskContext) -> Result<Vec<Range>, WorkError> {
        if self.over {
            return Ok(Vec::new());
        }
        let rest = (self.from.take(), None);
        let bounds = self.end.bounds(ctx, &rest, ROWS, TOGETHER).await?;
        self.over = bounds.len() < TOGETHER;
        let ranges = super::ends::split(&rest, bounds, self.over);
        self.from = ranges.last().and_then(|(_, upto)| upto.clone());
        Ok(ranges)
    }
}

async fn by_range(work: &Work, rungs: &Rungs, before: u64) -> Result<Counts, WorkError> {
    let mut counts = Counts::default();
    let mut walk = Walk {
        end: &rungs.base,
        from: None,
        over: false,
    };
    loop {
        work.ctx.go_on()?;
        let ranges = walk.next(&work.ctx).await?;
        if ranges.is_empty() {
            return Ok(counts);
        }
        for (range, base, follower) in both(work, rungs, ranges).await? {
            counts.base += base;
            counts.follower += follower;
            if base != follower {
                counts.differing.push((range, base, follower));
            }
        }
        told(work, &counts, before);
        work.ctx.status.publish_after(REPORT_EVERY).await;
    }
}

async fn both(work: &Work, rungs: &Rungs, ranges: Vec<Range>) -> Result<Vec<(Range, u64, u64)>, WorkError> {
    let (base, follower) = tokio::join!(
        rungs.base.counts(&work.ctx, &ranges),
        rungs.follower.counts(&work.ctx, &ranges)
    );
    let counted = base?.into_iter().zip(follower?);
    Ok(ranges
        .into_iter()
        .zip(counted)
        .map(|(range, (base, follower))| (range, base, follower))
        .collect())
}

/// Rows that were written while they were counted are no difference.
async fn count_again(work: &Work, rungs: &Rungs, counts: &mut Counts) -> Result<(), WorkError> {
    work.ctx.pause(work.ctx.migration.verify.lag.min(STILL)).await?;
    let before = std::mem::take(&mut counts.differing);
    for some in before.chunks(TOGETHER) {
        let ranges = some.iter().map(|(range, ..)| range.clone()).collect();
        for ((range, base, follower), (_, was_base, was_follower)) in
            both(work, rungs, ranges).await?.into_iter().zip(some)
        {
            counts.base = counts.base - was_base + base;
            counts.follower = counts.follower - was_follower + follower;
            if base != follower {
                counts.differing.push((range, base, follower));
            }
        }
    }
    Ok(())
}

async fn total(work: &Work, end: &End) -> Result<u64, WorkError> {
    let mut rows = 0;
    let mut walk = Walk {
        end,
        from: None,
        over: false,
    };
    loop {
        work.ctx.go_on()?;
        let ranges = walk.next(&work.ctx).await?;
        if ranges.is_empty() {
            return Ok(rows);
        }
        rows += end.counts(&work.ctx, &ranges).await?.into_iter().sum::<u64>();
    }
}

fn told(work: &Work, counts: &Counts, before: u64) {
    let rows = before + counts.base + counts.follower;
    let total = (work.base_estimate() * 2).max(rows);
    work.ctx.status.note(|status| {
        status.progress = Some(Progress {
            rows,
            rows_total: total,
            ..Progress::default()
        });
    });
}

fn verdict(table: &str, counts: &Counts) -> Result<(), WorkError> {
    let Some((first, base, follower)) = counts.differing.first() else {
        return Ok(());
    };
    let place = match first {
        (None, None) => "the whole table".to_owned(),
        (Some(after), Some(upto)) => format!("the keys after {after} up to {upto}"),
        (None, Some(upto)) => format!("the keys up to {upto}"),
        (Some(after), None) => format!("the keys after {after}"),
    };
    Err(WorkError::permanent(
        "CountsDiffer",
        format!(
            "table {table}: the base has {} rows, the follower {}; {} ranges differ, the first: {place}, {base} rows beside \
             {follower}. Verify without --counts names every key",
            counts.base,
            counts.follower,
            counts.differing.len()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Value;

    #[test]
    fn a_range_that_differs_is_named_even_where_the_sums_agree() {
        let key = |id: i64| Some(Key(vec![Value::Int(id)]));
        assert!(verdict("t", &Counts::default()).is_ok());
        let counts = Counts {
            base: 20,
            follower: 20,
            differing: vec![((None, key(10)), 10, 9), ((key(10), None), 10, 11)],
        };
        let error = verdict("t", &counts).unwrap_err();
        assert_eq!(error.reason(), "CountsDiffer");
        let text = error.to_string();
        assert!(
            text.contains("2 ranges differ") && text.contains("10 rows beside 9"),
            "{text}"
        );
    }
}
