//! Keys that the follower does not take, pass after pass: a dead letter in the base says which and why, and is tried again
//! ever more rarely. It holds the gate, but no longer the windows, which would otherwise grow with every pass.

use super::incremental::{Incremental, Pass};
use super::repair::{Permit, Verdict};
use crate::control::{self, DeadLetter};
use crate::rows::Key;
use crate::store::TxOptions;
use crate::words::Side;
use crate::workers::error::WorkError;
use std::collections::{BTreeMap, BTreeSet};

/// Passes in which a row is refused before it is a dead letter.
const PATIENCE: u32 = 3;
/// The longest time between two attempts, as a power of two of passes.
const RAREST: u32 = 6;

/// What the incremental verify knows of rows that were refused.
#[derive(Default)]
pub struct Letters {
    /// Passes so far.
    passes: u64,
    /// How often a row was refused that is no dead letter yet.
    refused: BTreeMap<Key, u32>,
    dead: BTreeSet<Key>,
    /// The first of them, with its reason.
    pub first: Option<String>,
}

impl Letters {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.dead.len() as u64
    }

    /// Whether the key is a dead letter: then it is counted, and tried again, as such.
    pub fn holds(&self, key: &Key) -> bool {
        self.dead.contains(key)
    }

    /// The row is as it should be.
    pub fn settled(&mut self, key: &Key) {
        self.refused.remove(key);
    }

    /// The row was refused. True: often enough.
    pub fn refused(&mut self, key: &Key) -> bool {
        if self.dead.len() >= control::MOST_LETTERS {
            return false;
        }
        let times = self.refused.entry(key.clone()).or_insert(0);
        *times += 1;
        *times > PATIENCE
    }
}

impl Incremental {
    /// Tries the dead letters that are due, and forgets those that are settled.
    pub async fn try_letters(&mut self, pass: &mut Pass) -> Result<(), WorkError> {
        self.letters.passes += 1;
        self.letters.dead.clear();
        self.letters.first = None;
        for side in [Side::Source, Side::Target] {
            let letters = self.read_letters(side).await?;
            let due: Vec<Key> = letters
                .iter()
                .filter(|(_, letter)| {
                    let every = 1_u64 << letter.attempts.unsigned_abs().min(u64::from(RAREST));
                    self.letters.passes.is_multiple_of(every)
                })
                .map(|(_, letter)| letter.key.clone())
                .collect();
            let permit = Permit {
                repair: self.repair,
                delete: true,
                overwrite_newer: true,
            };
            let mut verdicts = BTreeMap::new();
            for settled in self.work.settle(&due, permit).await? {
                verdicts.insert(settled.key, settled.verdict);
            }
            let (mut forget, mut failed) = (Vec::new(), Vec::new());
            for (id, letter) in letters {
                match verdicts.get(&letter.key) {
                    Some(Verdict::Equal) => forget.push(id),
                    Some(Verdict::Repaired(kind)) => {
                        forget.push(id);
                        self.count_repaired(*kind, pass);
                    }
                    other => {
                        if let Some(Verdict::Refused(why)) = other {
                            failed.push((id, why.clone()));
                        }
                        let text = format!("key {}: {}", letter.key, letter.reason);
                        self.letters.first.get_or_insert(text);
                        self.letters.dead.insert(letter.key);
                    }
                }
            }
            if !forget.is_empty() || !failed.is_empty() {
                let database = self.work.first(side);
                self.work
                    .ctx
                    .retry(async || {
                        let mut tx = self.work.begin_checked(database, TxOptions::default()).await?;
                        control::forget_letters(&mut tx, &forget).await?;
                        for (id, why) in &failed {
                            control::letter_failed(&mut tx, *id, why).await?;
                        }
                        Ok(tx.commit().await?)
                    })
                    .await?;
            }
        }
        Ok(())
    }

    async fn read_letters(&self, side: Side) -> Result<Vec<(i64, DeadLetter)>, WorkError> {
        let work = &self.work;
        work.ctx
            .retry(async || {
                let mut tx = work.begin_plain(work.first(side)).await?;
                let letters = control::dead_letters(&mut tx, &work.migration_id(), &work.name()).await?;
                tx.rollback().await;
                Ok(letters)
            })
            .await
    }

    /// Writes keys down as dead letters, in the base's first shard.
    pub async fn bury(&mut self, refused: Vec<(Key, String)>) -> Result<(), WorkError> {
        let (work, side) = (&self.work, self.work.ctx.task.direction.base());
        for (key, reason) in refused {
            tracing::warn!(table = work.table().name, %key, reason, "the follower does not take the row: a dead letter");
            let letter = DeadLetter {
                key,
                reason,
                attempts: 1,
            };
            work.ctx
                .retry(async || {
                    let mut tx = work.begin_checked(work.first(side), TxOptions::default()).await?;
                    let (id, uid) = (work.migration_id(), &work.ctx.migration.uid);
                    control::bury(&mut tx, &id, uid, &work.name(), &letter).await?;
                    Ok(tx.commit().await?)
                })
                .await?;
            self.letters.refused.remove(&letter.key);
            self.letters.dead.insert(letter.key);
        }
        Ok(())
    }
}
