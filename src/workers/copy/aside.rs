//! Rows that cannot be read or put: each is set aside by its key with its reason, gets another chance when the rest is in
//! place, and holds the verdict until it is settled.

use super::{Copy, ROW_MOST};
use crate::control::chunks::Chunk;
use crate::control::rejects::{self, Reject};
use crate::store::{StoreError, TxOptions};
use crate::workers::error::WorkError;
use crate::workers::work::short;

impl Copy {
    /// Sets the next row aside by its key alone: what it holds cannot be read exactly.
    pub(super) async fn skip(
        &self,
        chunk: &Chunk,
        owner: &str,
        refused: &StoreError,
    ) -> Result<Option<Chunk>, WorkError> {
        let context = &self.work.ctx;
        let reason = refused.to_string();
        tracing::warn!(
            table = self.chunks.table,
            reason,
            "a row cannot be read exactly; it is set aside"
        );
        let key = context
            .retry(async || {
                let mut base = self.work.begin_plain(self.work.base()).await?;
                let key = base.chunk_end(self.work.base_side(), chunk.lower.as_ref(), 1).await?;
                base.rollback().await;
                Ok(key)
            })
            .await?;
        // Deleted in the meantime: the range is read again.
        let Some(key) = key else { return Ok(Some(chunk.clone())) };
        let moved = context
            .retry_but(
                |error| matches!(error, WorkError::UnknownOutcome(_) | WorkError::ClaimLost(_)),
                async || {
                    let mut tx = self.work.begin_follower(short(ROW_MOST)).await?;
                    rejects::add(&mut tx, &self.chunks, &key, &reason).await?;
                    self.advance(&mut tx, chunk, Some(&key), 1, false, owner).await?;
                    Ok(tx.commit().await?)
                },
            )
            .await;
        match moved {
            Ok(()) => Ok(Some(Chunk {
                lower: Some(key),
                rows: chunk.rows + 1,
                ..chunk.clone()
            })),
            Err(WorkError::UnknownOutcome(_)) => context.retry(async || self.recorded(chunk, owner).await).await,
            Err(error) => Err(error),
        }
    }

    /// Rows that were refused once get another chance now that the rest is in place (a unique value may have moved on);
    /// what is still refused holds the verdict.
    pub(super) async fn settle_rejects(&self) -> Result<(), WorkError> {
        let context = &self.work.ctx;
        let mut after = 0;
        let (mut left, mut example) = (0_u64, None);
        loop {
            let found = context
                .retry(async || {
                    let mut tx = self.work.begin_plain(self.work.follower()).await?;
                    let found = rejects::after(&mut tx, &self.chunks, after, 100).await?;
                    tx.rollback().await;
                    Ok(found)
                })
                .await?;
            let Some(last) = found.last() else { break };
            after = last.id;
            for reject in found {
                match context
                    .retry_but(|_| false, async || self.put_reject(&reject).await)
                    .await
                {
                    Ok(()) => {}
                    Err(WorkError::Store(refused)) if refused.is_row_problem() => {
                        left += 1;
                        example.get_or_insert_with(|| format!("key {}: {refused}", reject.key));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        match example {
            None => Ok(()),
            Some(example) => Err(WorkError::permanent(
                "RowsRejected",
                format!(
                    "table {}: {left} rows cannot be put into the follower, the first: {example}; each is in \
                     _datamigration_rejects with its reason. Correct the rows or the follower's column and copy \
                     again (in a cluster: delete this task, and the copy is asked for again and tries them first)",
                    self.chunks.table
                ),
            )),
        }
    }

    async fn put_reject(&self, reject: &Reject) -> Result<(), WorkError> {
        let keys = std::slice::from_ref(&reject.key);
        let mut base = self.work.begin_plain(self.work.base()).await?;
        let rows = base
            .read_keys(self.work.base_side(), keys, crate::store::Lock::None)
            .await?;
        base.rollback().await;
        let mut tx = self.work.begin_follower(TxOptions::default()).await?;
        if !rows.is_empty() {
            tx.put_guarded(self.work.follower_side(), &rows).await?;
        }
        rejects::remove(&mut tx, reject.id).await?;
        Ok(tx.commit().await?)
    }
}
