//! One side's table as a comparison reads it: every read is a short transaction in a task of its own, repeated until it
//! succeeds, so that several threads digest and no query is left in the middle when nobody waits for it any more.

use crate::rows::{Comparison, Key, Sketch};
use crate::store::{Database, Range, RangeDigest, StoreError, TableSide, Tx};
use crate::workers::context::TaskContext;
use crate::workers::error::WorkError;
use crate::workers::work::reading;
use futures::future::BoxFuture;
use std::sync::Arc;

/// One side's table and how to reach it; cheap to hand to a task of its own.
#[derive(Clone)]
pub struct End {
    pub database: Database,
    pub side: Arc<TableSide>,
    /// The same table with the rows of all legs: ranges are measured by it, for a leg's rows may be few and far between, and
    /// one statement would search the whole table for the next ones.
    pub whole: Arc<TableSide>,
    pub comparison: Arc<Comparison>,
}

/// What is asked within the transaction.
type Question<A, T> = for<'t> fn(&'t End, &'t mut Tx, &'t A) -> BoxFuture<'t, Result<T, StoreError>>;

impl End {
    /// What took the server too long is the caller's to divide.
    async fn read<A, T>(&self, ctx: &TaskContext, about: A, ask: Question<A, T>) -> Result<T, WorkError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let about = Arc::new(about);
        ctx.retry_but(WorkError::is_lock_conflict, async || {
            let (end, about) = (self.clone(), about.clone());
            let asked = tokio::spawn(async move {
                let mut tx = end.database.begin(reading()).await?;
                let found = ask(&end, &mut tx, &about).await;
                tx.rollback().await;
                found
            });
            match asked.await {
                Ok(found) => found.map_err(WorkError::from),
                Err(error) => Err(WorkError::permanent(
                    "WorkerCrashed",
                    format!("a read ended in a panic: {error}"),
                )),
            }
        })
        .await
    }

    /// Whether this server can say digests of this table.
    pub async fn can_digest(&self, ctx: &TaskContext) -> Result<bool, WorkError> {
        self.read(ctx, (), |end, tx, ()| {
            Box::pin(tx.can_digest(&end.side, &end.comparison))
        })
        .await
    }

    /// Ends of ranges of so many rows within `range`, at most `most`: fewer when its last row is met before.
    pub async fn bounds(
        &self,
        ctx: &TaskContext,
        range: &Range,
        rows: u32,
        most: usize,
    ) -> Result<Vec<Key>, WorkError> {
        self.read(ctx, (range.clone(), rows, most), |end, tx, (range, rows, most)| {
            Box::pin(bounds(end, tx, range, *rows, *most))
        })
        .await
    }

    /// The same ranges in pieces of about so many rows, in their order.
    pub async fn parts(&self, ctx: &TaskContext, ranges: Vec<Range>, rows: u32) -> Result<Vec<Range>, WorkError> {
        self.read(ctx, (ranges, rows), |end, tx, (ranges, rows)| {
            Box::pin(async move {
                let mut parts = Vec::new();
                for range in ranges {
                    let bounds = bounds(end, tx, range, *rows, usize::MAX).await?;
                    parts.extend(split(range, bounds, true));
                }
                Ok(parts)
            })
        })
        .await
    }

    /// The digest of each range.
    pub async fn digests(&self, ctx: &TaskContext, ranges: &[Range]) -> Result<Vec<RangeDigest>, WorkError> {
        self.read(ctx, ranges.to_vec(), |end, tx, ranges| {
            Box::pin(tx.digest_ranges(&end.side, &end.comparison, ranges))
        })
        .await
    }

    /// How many rows each range holds.
    pub async fn counts(&self, ctx: &TaskContext, ranges: &[Range]) -> Result<Vec<u64>, WorkError> {
        self.read(ctx, ranges.to_vec(), |end, tx, ranges| {
            Box::pin(tx.count_ranges(&end.side, ranges))
        })
        .await
    }

    /// The digest of every row of these ranges, from the server.
    pub async fn digest_rows(&self, ctx: &TaskContext, ranges: &[Range]) -> Result<Vec<Sketch>, WorkError> {
        self.read(ctx, ranges.to_vec(), |end, tx, ranges| {
            Box::pin(async move {
                let mut found = Vec::new();
                for range in ranges {
                    found.extend(tx.digest_rows(&end.side, &end.comparison, range).await?);
                }
                Ok(found)
            })
        })
        .await
    }

    /// The digest of every row of a range, from its values.
    pub async fn sketches(&self, ctx: &TaskContext, range: &Range) -> Result<Vec<Sketch>, WorkError> {
        self.read(ctx, range.clone(), |end, tx, (after, upto)| {
            Box::pin(tx.sketch_range(&end.side, &end.comparison, after.as_ref(), upto.as_ref(), u32::MAX))
        })
        .await
    }

    /// The digests of the rows that have these keys, from their values.
    pub async fn sketches_of(&self, ctx: &TaskContext, keys: Vec<Key>) -> Result<Vec<Sketch>, WorkError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.read(ctx, keys, |end, tx, keys| {
            Box::pin(tx.sketch_keys(&end.side, &end.comparison, keys))
        })
        .await
    }

    /// Every key of a range.
    pub async fn keys(&self, ctx: &TaskContext, range: &Range) -> Result<Vec<Key>, WorkError> {
        self.read(ctx, range.clone(), |end, tx, (after, upto)| {
            Box::pin(tx.keys_after(&end.side, after.as_ref(), upto.as_ref()))
        })
        .await
    }

    /// Which of these keys have a row.
    pub async fn there(&self, ctx: &TaskContext, keys: Vec<Key>) -> Result<Vec<Key>, WorkError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.read(ctx, keys, |end, tx, keys| Box::pin(tx.keys_there(&end.side, keys)))
            .await
    }
}

async fn bounds(end: &End, tx: &mut Tx, range: &Range, rows: u32, most: usize) -> Result<Vec<Key>, StoreError> {
    let (after, upto) = range;
    let mut found: Vec<Key> = Vec::new();
    while found.len() < most {
        let from = found.last().or(after.as_ref());
        let Some(key) = tx.key_at(&end.whole, from, upto.as_ref(), rows).await? else {
            break;
        };
        found.push(key);
    }
    Ok(found)
}

/// A range cut at these keys. `whole`: its last piece, behind the last of them, too.
pub fn split((after, upto): &Range, bounds: Vec<Key>, whole: bool) -> Vec<Range> {
    let mut ranges = Vec::with_capacity(bounds.len() + 1);
    let mut from = after.clone();
    for bound in bounds {
        ranges.push((from, Some(bound.clone())));
        from = Some(bound);
    }
    // A piece that ends where it begins holds no row.
    if whole && (upto.is_none() || from != *upto) {
        ranges.push((from, upto.clone()));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Value;

    #[test]
    fn a_range_is_cut_without_a_gap_and_no_piece_is_empty() {
        let key = |id: i64| Key(vec![Value::Int(id)]);
        let range = (None, Some(key(9)));
        let pieces = |bounds: &[i64]| split(&range, bounds.iter().copied().map(key).collect(), true);
        assert_eq!(pieces(&[]), std::slice::from_ref(&range));
        assert_eq!(
            pieces(&[3, 6]),
            [
                (None, Some(key(3))),
                (Some(key(3)), Some(key(6))),
                (Some(key(6)), Some(key(9)))
            ]
        );
        assert_eq!(pieces(&[9]), std::slice::from_ref(&range));
        let open = (Some(key(3)), None);
        assert_eq!(
            split(&open, vec![key(5)], true),
            [(Some(key(3)), Some(key(5))), (Some(key(5)), None)]
        );
        assert_eq!(split(&open, vec![key(5)], false), [(Some(key(3)), Some(key(5)))]);
    }
}
