//! Settling keys: what the two sides hold is read under both row locks, the base's first, as a writer takes them; a key
//! that differs is made what the base is in the same transactions. What is found here is a verdict, not a suspicion.

use crate::rows::{Key, Row};
use crate::store::{Lock, StoreError, TableSide, Tx};
use crate::workers::error::WorkError;
use crate::workers::work::{LOCK_WAIT, Work, short};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Keys settled in one pair of transactions: few, because a writer of any of them waits meanwhile.
const BATCH: usize = 25;
/// Attempts at a key that writers hold, before the pass leaves it as outstanding.
const ATTEMPTS: u32 = 20;

/// The kinds of mismatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The base has the row, the follower does not.
    TargetMissing,
    /// Both have it, with different content.
    Neq,
    /// The follower has a row that the base does not.
    BaseMissing,
    /// The follower has the row in another shard than it belongs to, whether or not it has it there too.
    Misplaced,
}

/// What became of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both sides hold the same, or nothing.
    Equal,
    /// They differed; the follower is now what the base is.
    Repaired(Mismatch),
    /// They differ and this pass may not change it.
    Left(Mismatch),
    /// The follower's version is newer than the base's: looked at again later.
    FollowerNewer,
    /// Writers held the row through all attempts.
    Locked,
    /// The follower does not take the row (a unique value that another row still holds, a value that does not fit), or it
    /// cannot be read exactly; with the database's own words.
    Refused(String),
}

/// One key, settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub key: Key,
    pub verdict: Verdict,
    /// What stood on both sides when the verdict was made.
    pub seen: Seen,
}

/// What stood on both sides of a key, as far as a report says it: versions, never contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The base row's version; `None`: no row.
    pub base: Option<String>,
    /// The follower row's version; `None`: no row.
    pub follower: Option<String>,
    /// Columns that differed, named as in the base.
    pub columns: Vec<String>,
}

/// What a settle may do about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Change the follower at all (`verify.repair: Automatic`).
    pub repair: bool,
    /// Delete rows of the follower that the base does not have.
    pub delete: bool,
    /// Overwrite a follower's row that is newer than the base's.
    pub overwrite_newer: bool,
}

/// How a settle goes about it.
#[derive(Clone, Copy)]
struct Manner {
    /// Bound of every statement and lock wait.
    wait: Duration,
    /// Rows that are put are taken out first.
    replace: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            wait: LOCK_WAIT,
            replace: false,
        }
    }
}

impl Work {
    /// Settles every key; the answer has one verdict per key.
    pub async fn settle(&self, keys: &[Key], permit: Permit) -> Result<Vec<Settled>, WorkError> {
        if self.only_looks() {
            return self.look_again(keys, permit).await;
        }
        let mut sorted: Vec<&Key> = keys.iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut settled = Vec::with_capacity(sorted.len());
        for batch in sorted.chunks(self.together(BATCH)) {
            let batch: Vec<Key> = batch.iter().map(|key| (*key).clone()).collect();
            match self
                .ctx
                .retry_but(WorkError::is_lock_conflict, async || {
                    self.settle_together(&batch, permit, Manner::default()).await
                })
                .await
            {
                Ok(verdicts) => settled.extend(verdicts),
                // Unique values have moved between rows: all of them leave their places before any takes a new one.
                Err(WorkError::Store(StoreError::Duplicate { .. })) if batch.len() > 1 => {
                    settled.extend(self.settle_replacing(&batch, permit).await?);
                }
                Err(error) if error.is_lock_conflict() || error.is_row_problem() => {
                    // One key must not hold the others back.
                    for key in batch {
                        settled.push(self.settle_one(&key, permit).await?);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(settled)
    }

    async fn settle_replacing(&self, batch: &[Key], permit: Permit) -> Result<Vec<Settled>, WorkError> {
        let manner = Manner {
            replace: true,
            ..Manner::default()
        };
        match self
            .ctx
            .retry_but(WorkError::is_lock_conflict, async || {
                self.settle_together(batch, permit, manner).await
            })
            .await
        {
            Err(error) if error.is_lock_conflict() || error.is_row_problem() => {
                let mut settled = Vec::with_capacity(batch.len());
                for key in batch {
                    settled.push(self.settle_one(key, permit).await?);
                }
                Ok(settled)
            }
            other => other,
        }
    }

    async fn settle_one(&self, key: &Key, permit: Permit) -> Result<Settled, WorkError> {
        let mut waits = crate::workers::pace::Waits::new(Duration::from_millis(20), Duration::from_secs(1));
        for attempt in 1..=ATTEMPTS {
            // A server that is slow with everything is given longer by and by.
            let wait = (LOCK_WAIT * attempt / 4).clamp(LOCK_WAIT, LOCK_WAIT * 4);
            let one = std::slice::from_ref(key);
            match self
                .ctx
                .retry_but(WorkError::is_lock_conflict, async || {
                    self.settle_together(one, permit, Manner { wait, replace: false }).await
                })
                .await
            {
                Ok(settled) => {
                    return Ok(settled
                        .into_iter()
                        .next()
                        .unwrap_or_else(|| Settled::unseen(key, Verdict::Equal)));
                }
                Err(error) if error.is_lock_conflict() => {
                    self.ctx.pause(waits.failed(std::time::Instant::now()).0).await?;
                }
                Err(error) if error.is_row_problem() => {
                    tracing::warn!(%error, %key, "the row cannot be repaired");
                    return Ok(Settled::unseen(key, Verdict::Refused(error.to_string())));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Settled::unseen(key, Verdict::Locked))
    }

    /// One pair of transactions. Keys whose base row appeared meanwhile are done again in another.
    async fn settle_together(&self, keys: &[Key], permit: Permit, manner: Manner) -> Result<Vec<Settled>, WorkError> {
        let mut open: Vec<Key> = keys.to_vec();
        let mut settled = Vec::with_capacity(keys.len());
        for _ in 0..ATTEMPTS {
            let again = self.attempt(&open, permit, manner, &mut settled).await?;
            if again.is_empty() {
                return Ok(settled);
            }
            open = again;
        }
        settled.extend(open.iter().map(|key| Settled::unseen(key, Verdict::Locked)));
        Ok(settled)
    }

    async fn attempt(
        &self,
        keys: &[Key],
        permit: Permit,
        manner: Manner,
        settled: &mut Vec<Settled>,
    ) -> Result<Vec<Key>, WorkError> {
        let (base_side, follower_side) = (self.base_compared(), self.follower_compared());
        // Both transactions stand before the first row is locked: nobody waits for a follower that cannot be reached.
        let mut follower = self.begin_follower(short(manner.wait)).await?;
        let mut base = self.begin_base(short(manner.wait)).await?;
        let in_base = by_key(base_side, base.read_keys(base_side, keys, Lock::NoKeyUpdate).await?);
        for key in keys {
            follower.lock_key(follower_side, key).await?;
        }
        let in_follower = by_key(
            follower_side,
            follower.read_keys(follower_side, keys, Lock::Update).await?,
        );

        for row in in_base.values().chain(in_follower.values()) {
            self.saw(row.bytes());
        }
        // A row that was absent may have been inserted by a writer who held the follower's key until now. Each
        // statement of a READ COMMITTED transaction sees a new snapshot; no lock is taken here, so no order is broken.
        let absent: Vec<Key> = keys.iter().filter(|key| !in_base.contains_key(*key)).cloned().collect();
        let appeared = if absent.is_empty() {
            BTreeMap::new()
        } else {
            by_key(base_side, base.read_keys(base_side, &absent, Lock::None).await?)
        };

        let lacking: Vec<Key> = keys
            .iter()
            .filter(|key| in_follower.contains_key(*key) && !in_base.contains_key(*key))
            .cloned()
            .collect();
        let elsewhere = self.elsewhere(&mut base, lacking).await?;

        let mut again = Vec::new();
        let mut verdicts = Vec::with_capacity(keys.len());
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        for key in keys {
            let stray = if in_base.contains_key(key) {
                self.stray(key)?
            } else {
                None
            };
            let verdict = match (in_base.get(key), in_follower.get(key)) {
                _ if stray.is_some() => Verdict::Refused(stray.unwrap_or_default()),
                (None, _) if appeared.contains_key(key) => {
                    again.push(key.clone());
                    continue;
                }
                (None, None) => Verdict::Equal,
                // The base has it, and by its key it will never belong here: its own shard's leg puts it there.
                (None, Some(_)) if elsewhere.contains(key) => {
                    if permit.repair {
                        deletes.push(key.clone());
                        Verdict::Repaired(Mismatch::Misplaced)
                    } else {
                        Verdict::Left(Mismatch::Misplaced)
                    }
                }
                (None, Some(_)) if permit.repair && permit.delete => {
                    deletes.push(key.clone());
                    Verdict::Repaired(Mismatch::BaseMissing)
                }
                (None, Some(_)) => Verdict::Left(Mismatch::BaseMissing),
                (Some(row), None) => put_or_leave(row, Mismatch::TargetMissing, permit, &mut puts),
                (Some(row), Some(held)) if self.equal(row, held) => Verdict::Equal,
                (Some(row), Some(held)) if !permit.overwrite_newer && self.newer(held, row) => Verdict::FollowerNewer,
                (Some(row), Some(_)) => put_or_leave(row, Mismatch::Neq, permit, &mut puts),
            };
            verdicts.push(Settled {
                key: key.clone(),
                verdict,
                seen: self.seen(in_base.get(key), in_follower.get(key)),
            });
        }
        if puts.is_empty() && deletes.is_empty() {
            follower.rollback().await;
        } else {
            if !deletes.is_empty() {
                follower.delete(follower_side, &deletes).await?;
            }
            if manner.replace && !puts.is_empty() {
                let places: Vec<Key> = puts.iter().map(|row| base_side.key_of(row)).collect();
                follower.delete(follower_side, &places).await?;
            }
            if !puts.is_empty() {
                let puts: Vec<Row> = puts.iter().map(|row| self.carried(row)).collect();
                follower.put(self.follower_side(), &puts).await?;
            }
            follower.commit().await?;
        }
        // The base's locks are released last: until the follower is what the base was, nobody changes the base.
        base.rollback().await;
        settled.extend(verdicts);
        Ok(again)
    }
}

impl Work {
    /// Those keys of rows in the wrong shard of the follower whose rows the base has. Where it has none, nothing is lost if
    /// there were too many of them but the row itself, and they count as what the base lacks.
    pub async fn elsewhere(&self, base: &mut Tx, mut keys: Vec<Key>) -> Result<BTreeSet<Key>, WorkError> {
        let mut misplaced = Vec::new();
        for key in keys.drain(..) {
            if self.misplaced(&key)? {
                misplaced.push(key);
            }
        }
        if misplaced.is_empty() {
            return Ok(BTreeSet::new());
        }
        let there = base.keys_there(self.base_whole(), &misplaced).await?;
        Ok(there.into_iter().collect())
    }
}

impl Settled {
    /// A verdict about a key of which nothing was read in the end.
    pub fn unseen(key: &Key, verdict: Verdict) -> Self {
        Self {
            key: key.clone(),
            verdict,
            seen: Seen::default(),
        }
    }
}

fn put_or_leave(row: &Row, kind: Mismatch, permit: Permit, puts: &mut Vec<Row>) -> Verdict {
    if permit.repair {
        puts.push(row.clone());
        Verdict::Repaired(kind)
    } else {
        Verdict::Left(kind)
    }
}

/// Rows by their key.
pub fn by_key(side: &TableSide, rows: Vec<Row>) -> BTreeMap<Key, Row> {
    rows.into_iter().map(|row| (side.key_of(&row), row)).collect()
}
