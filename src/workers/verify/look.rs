//! Settling without locks and without leave to change anything: keys that differ are read again, and a difference is one
//! when both rows have stood still for a while. For runs that may only look.

use super::repair::{Mismatch, Permit, Settled, Verdict, by_key};
use crate::rows::{Key, Row};
use crate::store::Lock;
use crate::workers::clock;
use crate::workers::error::WorkError;
use crate::workers::work::Work;
use std::collections::BTreeMap;
use std::time::Duration;

/// Keys read together.
const BATCH: usize = 500;
/// A second write that is on its way has arrived, or failed, after this time.
const STILL: Duration = Duration::from_secs(3);
/// Looks at a key that keeps changing, before it is left as it is.
const LOOKS: u32 = 10;

/// Both rows of a key, and what their shards say of it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rows {
    base: Option<Row>,
    follower: Option<Row>,
    /// The base's row lies in a shard that it does not belong to, as a sentence.
    stray: Option<String>,
    /// The follower's row lies in another shard than it belongs to, and the base has it.
    elsewhere: bool,
}

impl Work {
    /// One verdict per key. Rows that were written lately are `FollowerNewer` until `overwrite_newer` asks for a verdict.
    pub async fn look_again(&self, keys: &[Key], permit: Permit) -> Result<Vec<Settled>, WorkError> {
        let mut settled = Vec::with_capacity(keys.len());
        for batch in keys.chunks(self.together(BATCH)) {
            if permit.overwrite_newer {
                self.look_until_still(batch, &mut settled).await?;
            } else {
                self.look_once(batch, &mut settled).await?;
            }
        }
        Ok(settled)
    }

    /// Rows that were last written before the lag began are what they seem.
    async fn look_once(&self, keys: &[Key], settled: &mut Vec<Settled>) -> Result<(), WorkError> {
        let quiet_since = clock::minus(&self.base_clock().await?, self.ctx.migration.verify.lag)?;
        let quiet = |row: &Row| self.version(row).is_some_and(|version| version < quiet_since.as_str());
        for (key, rows) in self.both(keys).await? {
            let verdict = match (self.difference(&rows), &rows.base, &rows.follower) {
                (None, ..) => rows.stray.clone().map_or(Verdict::Equal, Verdict::Refused),
                (Some(kind), Some(row), None) if quiet(row) => Verdict::Left(kind),
                (Some(kind), Some(row), Some(held)) if quiet(row) && quiet(held) => Verdict::Left(kind),
                // A delete leaves no time behind.
                _ => Verdict::FollowerNewer,
            };
            settled.push(self.say(key, verdict, &rows));
        }
        Ok(())
    }

    async fn look_until_still(&self, keys: &[Key], settled: &mut Vec<Settled>) -> Result<(), WorkError> {
        let wait = self.ctx.migration.verify.lag.min(STILL);
        let mut before = self.both(keys).await?;
        for _ in 0..LOOKS {
            before.retain(|key, rows| {
                let equal = self.difference(rows).is_none();
                if equal {
                    let verdict = rows.stray.clone().map_or(Verdict::Equal, Verdict::Refused);
                    settled.push(self.say(key.clone(), verdict, rows));
                }
                !equal
            });
            if before.is_empty() {
                return Ok(());
            }
            self.ctx.pause(wait).await?;
            let open: Vec<Key> = before.keys().cloned().collect();
            let now = self.both(&open).await?;
            let mut moved = BTreeMap::new();
            for (key, rows) in now {
                match self.difference(&rows) {
                    Some(kind) if before.get(&key) == Some(&rows) => {
                        settled.push(self.say(key, Verdict::Left(kind), &rows));
                    }
                    _ => {
                        moved.insert(key, rows);
                    }
                }
            }
            before = moved;
        }
        for (key, rows) in before {
            let verdict = match self.difference(&rows) {
                None => Verdict::Equal,
                Some(_) => Verdict::Locked,
            };
            settled.push(self.say(key, verdict, &rows));
        }
        Ok(())
    }

    fn say(&self, key: Key, verdict: Verdict, rows: &Rows) -> Settled {
        Settled {
            key,
            verdict,
            seen: self.seen(rows.base.as_ref(), rows.follower.as_ref()),
        }
    }

    fn difference(&self, rows: &Rows) -> Option<Mismatch> {
        match (&rows.base, &rows.follower) {
            // Nothing that the follower could be made to have: said as it is.
            _ if rows.stray.is_some() => None,
            (None, None) => None,
            (Some(row), Some(held)) => (!self.equal(row, held)).then_some(Mismatch::Neq),
            (Some(_), None) => Some(Mismatch::TargetMissing),
            (None, Some(_)) if rows.elsewhere => Some(Mismatch::Misplaced),
            (None, Some(_)) => Some(Mismatch::BaseMissing),
        }
    }

    /// Base and follower rows of every key, without locks.
    async fn both(&self, keys: &[Key]) -> Result<BTreeMap<Key, Rows>, WorkError> {
        let sides = [
            (self.base(), self.base_compared()),
            (self.follower(), self.follower_compared()),
        ];
        let mut found: BTreeMap<Key, Rows> = keys.iter().map(|key| (key.clone(), Rows::default())).collect();
        for (at, (database, side)) in sides.into_iter().enumerate() {
            let rows = self
                .ctx
                .retry(async || {
                    let mut tx = self.begin_plain(database).await?;
                    let rows = tx.read_keys(side, keys, Lock::None).await?;
                    tx.rollback().await;
                    Ok(rows)
                })
                .await?;
            for (key, row) in by_key(side, rows) {
                self.saw(row.bytes());
                // Another spelling of a key that was asked for is another key here.
                let Some(both) = found.get_mut(&key) else { continue };
                if at == 0 {
                    both.base = Some(row);
                } else {
                    both.follower = Some(row);
                }
            }
        }
        let mut lacking = Vec::new();
        for (key, rows) in &mut found {
            if rows.base.is_some() {
                rows.stray = self.stray(key)?;
            } else if rows.follower.is_some() {
                lacking.push(key.clone());
            }
        }
        let elsewhere = self
            .ctx
            .retry(async || {
                let mut tx = self.begin_plain(self.base()).await?;
                let elsewhere = self.elsewhere(&mut tx, lacking.clone()).await?;
                tx.rollback().await;
                Ok(elsewhere)
            })
            .await?;
        for key in elsewhere {
            found.entry(key).or_default().elsewhere = true;
        }
        Ok(found)
    }
}
