//! Differences that were found and not mended, written down in the base until both sides are seen to agree: whoever
//! starts next, or asks, knows of them. Here is what both verifies share; what they do about them is theirs.

use super::incremental::{Incremental, Pass};
use super::repair::{Mismatch, Permit, Seen, Settled, Verdict};
use crate::api::task::MismatchCounts;
use crate::control::{self, DeadLetter, MismatchEvent};
use crate::rows::Key;
use crate::store::TxOptions;
use crate::words::Side;
use crate::workers::error::WorkError;
use crate::workers::work::Work;
use std::collections::BTreeSet;

/// Differences that are looked at again in one pass of the incremental verify.
const AGAIN: u32 = 500;

impl Mismatch {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TargetMissing => "target_missing",
            Self::Neq => "neq",
            Self::BaseMissing => "base_missing",
            Self::Misplaced => "misplaced",
        }
    }
}

/// The event that a verdict is, if anything is left to be done about the key. What the follower refuses is a matter of
/// its own, with its own reason.
pub fn event(key: &Key, verdict: &Verdict, seen: &Seen) -> Option<MismatchEvent> {
    let kind = match verdict {
        Verdict::Left(kind) => kind.as_str(),
        Verdict::FollowerNewer => Mismatch::Neq.as_str(),
        Verdict::Locked => "unsettled",
        Verdict::Equal | Verdict::Repaired(_) | Verdict::Refused(_) => return None,
    };
    Some(MismatchEvent {
        key: key.clone(),
        kind: kind.to_owned(),
        base_version: seen.base.clone(),
        follower_version: seen.follower.clone(),
        attempts: 1,
    })
}

impl Work {
    /// Whether the base carries this migration's control tables: a run of its own leaves it as it is.
    pub fn keeps_events(&self) -> bool {
        !self.only_looks() && self.ctx.task.epoch > 0
    }

    /// Writes differences down, as long as there are not too many of them.
    pub async fn record_mismatches(&self, events: &[MismatchEvent]) -> Result<(), WorkError> {
        if events.is_empty() || !self.keeps_events() {
            return Ok(());
        }
        let (id, table) = (self.migration_id(), &self.name());
        self.ctx
            .retry(async || {
                let mut tx = self.begin_checked(self.base(), TxOptions::default()).await?;
                let held: u64 = control::count_mismatches(&mut tx, &id, table).await?.values().sum();
                if held < control::MOST_MISMATCHES {
                    control::record_mismatches(&mut tx, &id, &self.ctx.migration.uid, table, events).await?;
                }
                Ok(tx.commit().await?)
            })
            .await
    }

    /// Makes the table for them where it is lacking.
    pub async fn ensure_mismatches(&self) -> Result<(), WorkError> {
        if !self.keeps_events() {
            return Ok(());
        }
        for side in [Side::Source, Side::Target] {
            let database = &self.shard(side).database;
            self.ctx
                .retry(async || {
                    let mut tx = self.begin_checked(database, TxOptions::default()).await?;
                    control::ensure_mismatches(&mut tx).await?;
                    Ok(tx.commit().await?)
                })
                .await?;
        }
        Ok(())
    }

    /// Takes out what a whole pass, begun at this moment, has not met again.
    pub async fn forget_mismatches_before(&self, began: &str) -> Result<(), WorkError> {
        if !self.keeps_events() {
            return Ok(());
        }
        let (id, table) = (self.migration_id(), &self.name());
        self.ctx
            .retry(async || {
                let mut tx = self.begin_checked(self.base(), TxOptions::default()).await?;
                control::forget_mismatches_before(&mut tx, &id, table, began).await?;
                Ok(tx.commit().await?)
            })
            .await
    }

    /// What is written down of this table, on both sides; `None`: nothing.
    pub async fn mismatch_counts(&self) -> Result<Option<MismatchCounts>, WorkError> {
        if !self.keeps_events() {
            return Ok(None);
        }
        let mut counts = MismatchCounts::default();
        for side in [Side::Source, Side::Target] {
            let kinds = self
                .ctx
                .retry(async || {
                    let mut tx = self.begin_plain(&self.shard(side).database).await?;
                    let kinds = control::count_mismatches(&mut tx, &self.migration_id(), &self.name()).await?;
                    tx.rollback().await;
                    Ok(kinds)
                })
                .await?;
            for (kind, rows) in kinds {
                match kind.as_str() {
                    "target_missing" => counts.target_missing += rows,
                    "neq" => counts.neq += rows,
                    "base_missing" => counts.base_missing += rows,
                    "misplaced" => counts.misplaced += rows,
                    _ => counts.unsettled += rows,
                }
            }
        }
        Ok((counts != MismatchCounts::default()).then_some(counts))
    }

    /// Writes rows that the follower does not take down as dead letters of the base's first shard; those that are there already have
    /// another attempt. Answers with how many of them are written down.
    pub async fn bury_all(&self, refused: &[(Key, String)]) -> Result<u64, WorkError> {
        let (id, table) = (self.migration_id(), &self.name());
        let first = self.first(self.ctx.task.direction.base());
        self.ctx
            .retry(async || {
                let mut tx = self.begin_checked(first, TxOptions::default()).await?;
                let known = control::dead_letters(&mut tx, &id, table).await?;
                let mut dead: BTreeSet<&Key> = known.iter().map(|(_, letter)| &letter.key).collect();
                let mut buried = 0;
                for (key, reason) in refused {
                    if let Some((number, _)) = known.iter().find(|(_, letter)| letter.key == *key) {
                        control::letter_failed(&mut tx, *number, reason).await?;
                    } else if dead.len() >= control::MOST_LETTERS {
                        continue;
                    } else if dead.insert(key) {
                        let letter = DeadLetter {
                            key: key.clone(),
                            reason: reason.clone(),
                            attempts: 1,
                        };
                        control::bury(&mut tx, &id, &self.ctx.migration.uid, table, &letter).await?;
                    }
                    buried += 1;
                }
                tx.commit().await?;
                Ok(buried)
            })
            .await
    }
}

impl Incremental {
    /// Looks again at what is written down, the longest forgotten first, and takes out what is settled: mended here, or by
    /// somebody else.
    pub async fn try_mismatches(&mut self, pass: &mut Pass) -> Result<(), WorkError> {
        let (id, table) = (self.work.migration_id(), self.work.name());
        for side in [Side::Source, Side::Target] {
            let database = self.work.shard(side).database.clone();
            let events = self
                .work
                .ctx
                .retry(async || {
                    let mut tx = self.work.begin_plain(&database).await?;
                    let now = tx.clock().await?;
                    let events = control::mismatches(&mut tx, &id, &table, &now, AGAIN).await?;
                    tx.rollback().await;
                    Ok(events)
                })
                .await?;
            let keys: Vec<Key> = events.into_iter().map(|event| event.key).collect();
            let differing = self.differing(keys.clone()).await?;
            let mut settled: Vec<Key> = keys.into_iter().filter(|key| !differing.contains(key)).collect();
            // Nothing explains a row that the base lacks: only a full verify, which counts them, may delete it.
            let permit = Permit {
                repair: self.repair,
                delete: false,
                overwrite_newer: true,
            };
            let mut still = Vec::new();
            for Settled { key, verdict, seen } in self.work.settle(&differing, permit).await? {
                match verdict {
                    Verdict::Equal => settled.push(key),
                    Verdict::Repaired(kind) => {
                        self.count_repaired(kind, pass);
                        settled.push(key);
                    }
                    verdict => still.extend(event(&key, &verdict, &seen)),
                }
            }
            if settled.is_empty() && still.is_empty() {
                continue;
            }
            let work = &self.work;
            work.ctx
                .retry(async || {
                    let mut tx = work.begin_checked(&database, TxOptions::default()).await?;
                    control::forget_mismatches(&mut tx, &id, &table, &settled).await?;
                    control::record_mismatches(&mut tx, &id, &work.ctx.migration.uid, &table, &still).await?;
                    Ok(tx.commit().await?)
                })
                .await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Value;

    #[test]
    fn what_is_left_is_an_event_and_what_is_mended_is_none() {
        let key = Key(vec![Value::Int(1)]);
        let seen = Seen {
            base: Some("2026-01-01 00:00:00.000000".to_owned()),
            ..Seen::default()
        };
        let kind = |verdict: Verdict| event(&key, &verdict, &seen).map(|event| event.kind);
        assert_eq!(
            kind(Verdict::Left(Mismatch::TargetMissing)).as_deref(),
            Some("target_missing")
        );
        assert_eq!(
            kind(Verdict::Left(Mismatch::BaseMissing)).as_deref(),
            Some("base_missing")
        );
        assert_eq!(kind(Verdict::FollowerNewer).as_deref(), Some("neq"));
        assert_eq!(kind(Verdict::Locked).as_deref(), Some("unsettled"));
        for settled in [
            Verdict::Equal,
            Verdict::Repaired(Mismatch::Neq),
            Verdict::Refused(String::new()),
        ] {
            assert_eq!(kind(settled), None);
        }
        let event = event(&key, &Verdict::Left(Mismatch::Neq), &seen).unwrap();
        assert_eq!((event.base_version, event.follower_version), (seen.base, None));
    }
}
