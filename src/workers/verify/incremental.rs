//! One leg's incremental verify: windows of the version column on the base's clock, and what the lists name. What differs is
//! settled under both row locks. The watermark moves only past what is settled, so a restart, a locked row or a held delete
//! never skips anything.

use super::events::event;
use super::letters::Letters;
use super::repair::{Mismatch, Permit, Settled, Verdict};
use crate::api::task::VerifyReport;
use crate::api::tuning::RepairPolicy;
use crate::control::{self, MismatchEvent};
use crate::rows::{Key, Sketch};
use crate::store::{Database, TableSide, TxOptions};
use crate::words::SecondaryWrites;
use crate::workers::clock;
use crate::workers::context::TaskContext;
use crate::workers::error::WorkError;
use crate::workers::legs::Leg;
use crate::workers::raise::ALL_TABLES;
use crate::workers::throttle::Throttle;
use crate::workers::work::{Work, secondary};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// Rows of a window compared at a time, entries of a list settled at a time.
pub const PAGE: u32 = 500;
/// Passes that a key whose follower is newer is left alone; then the base is right.
const PATIENCE: u32 = 2;
/// One leg's incremental verify.
pub struct Incremental {
    /// The table.
    pub work: Work,
    pub repair: bool,
    strict: bool,
    acked_at: Option<String>,
    base_since: i64,
    /// The base's clock up to which everything is compared and settled.
    through: String,
    /// What is found of the leg; without the queues, which are the table's.
    pub report: VerifyReport,
    /// Keys whose follower was newer under both locks, and in how many passes.
    postponed: BTreeMap<Key, u32>,
    /// Rows that the follower does not take.
    pub letters: Letters,
    /// The longest transaction seen open on the base: what it commits may carry versions from before it was seen.
    overlap: Duration,
}

/// Where the window goes on after these rows; `None`: they were the last.
fn next(mut rows: Vec<Sketch>) -> Option<(String, Key)> {
    if (rows.len() as u32) < PAGE {
        return None;
    }
    let last = rows.pop()?;
    Some((last.version?, last.key))
}

/// What one pass found.
#[derive(Default)]
pub struct Pass {
    /// The window, by the base's clock.
    from: String,
    until: String,
    repaired: u64,
    outstanding: u64,
    /// Rows of the follower that the base lacks, with nothing in the lists to explain them.
    surplus: Vec<Key>,
    surplus_rows: u64,
    /// The first row that the follower does not take, with the reason.
    pub refusal: Option<String>,
    /// Differences that are left, to be written down; and those of the surplus, should it be held.
    events: Vec<MismatchEvent>,
    surplus_events: Vec<MismatchEvent>,
    /// More rows than may be deleted, as a sentence.
    pub held: Option<String>,
}

impl Incremental {
    pub async fn open(context: &TaskContext, leg: Leg) -> Result<Self, WorkError> {
        let work = Work::open(context, leg).await?;
        let control = work.control().clone();
        let mut part = Self {
            repair: context.migration.verify.repair == RepairPolicy::Automatic,
            strict: secondary(&control)? == SecondaryWrites::Strict,
            acked_at: control.acked_at,
            base_since: control.base_since,
            through: String::new(),
            report: VerifyReport::default(),
            postponed: BTreeMap::new(),
            letters: Letters::default(),
            overlap: Duration::ZERO,
            work,
        };
        part.through = part.start().await?;
        part.work.ensure_mismatches().await?;
        Ok(part)
    }

    /// Where the first window starts: where an earlier worker stopped, else lag before the moment when every instance
    /// had acknowledged this base.
    async fn start(&self) -> Result<String, WorkError> {
        let work = &self.work;
        let lag = work.ctx.migration.verify.lag;
        work.ctx
            .retry(async || {
                let mut tx = work.begin_plain(work.base()).await?;
                let migration = work.migration_id();
                let own = control::watermark(&mut tx, &migration, &work.name(), self.base_since).await?;
                let base = control::watermark(&mut tx, &migration, ALL_TABLES, self.base_since).await?;
                tx.rollback().await;
                if let Some(through) = own {
                    return Ok(through);
                }
                let of_this_epoch = self.acked_at.clone().filter(|_| work.ctx.task.epoch == self.base_since);
                match base.or(of_this_epoch) {
                    Some(acknowledged) => clock::minus(&acknowledged, lag),
                    // Nobody wrote it down: the whole table is one window.
                    None => Ok(clock::BEGINNING.to_owned()),
                }
            })
            .await
    }

    /// Finds out which window is due, and tries again what was refused before.
    pub async fn begin(&mut self) -> Result<Pass, WorkError> {
        self.work.same_shape().await?;
        let (now, open) = self.look_at_clock().await?;
        let mut pass = Pass {
            until: clock::minus(&now, self.work.ctx.migration.verify.lag)?,
            from: clock::minus(&self.through, self.overlap.max(Duration::from_secs(1)))?,
            ..Pass::default()
        };
        self.overlap = open;
        self.try_letters(&mut pass).await?;
        // In a strict epoch the application waits: what was found before waits too.
        if !self.strict {
            self.try_mismatches(&mut pass).await?;
        }
        Ok(pass)
    }

    /// The window of both sides; the watermark goes past it if nothing is owed.
    /// `deleted`: how many rows all legs together have deleted in this pass; what one may delete is bounded for all.
    pub async fn windows(
        &mut self,
        pass: &mut Pass,
        throttle: Option<&Throttle>,
        deleted: &mut u64,
    ) -> Result<(), WorkError> {
        let (from, until) = (pass.from.clone(), pass.until.clone());
        if from < until {
            self.window_of_base(&from, &until, pass, throttle).await?;
            self.window_of_follower(&from, &until, pass, throttle).await?;
            self.settle_surplus(pass, deleted).await?;
        }
        if !self.strict {
            self.work.record_mismatches(&std::mem::take(&mut pass.events)).await?;
            self.report.mismatches = self.work.mismatch_counts().await?;
        }
        if pass.outstanding == 0 && self.through < until {
            self.through.clone_from(&until);
            self.record().await?;
        }
        Ok(())
    }

    /// The leg's report after a pass.
    pub fn count(&mut self, pass: &Pass, queue: u64, began: &Time) {
        self.report.windows += 1;
        self.report.dead_letters = self.letters.count();
        self.report.outstanding = pass.outstanding + self.report.dead_letters;
        self.report.verified_through = Some(self.through.clone());
        self.report.clean_since = match (pass.repaired, self.report.outstanding, queue) {
            (0, 0, 0) => self.report.clean_since.take().or(Some(began.clone())),
            _ => None,
        };
    }

    /// The base's clock, and how long its longest open transaction has lasted.
    async fn look_at_clock(&self) -> Result<(String, Duration), WorkError> {
        let work = &self.work;
        work.ctx
            .retry(async || {
                let mut tx = work.begin_checked(work.base(), TxOptions::default()).await?;
                let now = tx.clock().await?;
                tx.rollback().await;
                Ok((now, clock::longest_open(work.base()).await))
            })
            .await
    }

    async fn window_of_base(
        &mut self,
        from: &str,
        until: &str,
        pass: &mut Pass,
        throttle: Option<&Throttle>,
    ) -> Result<(), WorkError> {
        let mut after: Option<(String, Key)> = None;
        loop {
            let rows = self
                .window(
                    (self.work.base(), self.work.base_compared()),
                    (from, until),
                    after.as_ref(),
                    throttle,
                )
                .await?;
            let keys: Vec<Key> = rows.iter().map(|row| row.key.clone()).collect();
            let held = self
                .look_up(self.work.follower(), self.work.follower_compared(), &keys)
                .await?;
            let suspicious: Vec<Key> = rows
                .iter()
                .filter(|row| match held.get(&row.key) {
                    None => true,
                    // Changed since the base's row was read: in the window that its version falls into.
                    Some(held) if held.version.as_deref() >= Some(until) && held.version > row.version => false,
                    Some(held) => !self.work.comparison().alike(row, held),
                })
                .map(|row| row.key.clone())
                .collect();
            self.report.compared += rows.len() as u64;
            self.settle(&suspicious, false, pass).await?;
            match next(rows) {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// The follower's own changes: rows that somebody wrote there alone show in no window of the base.
    async fn window_of_follower(
        &mut self,
        from: &str,
        until: &str,
        pass: &mut Pass,
        throttle: Option<&Throttle>,
    ) -> Result<(), WorkError> {
        let mut after: Option<(String, Key)> = None;
        loop {
            let rows = self
                .window(
                    (self.work.follower(), self.work.follower_compared()),
                    (from, until),
                    after.as_ref(),
                    throttle,
                )
                .await?;
            let keys: Vec<Key> = rows.iter().map(|row| row.key.clone()).collect();
            let there = self.look_up(self.work.base(), self.work.base_compared(), &keys).await?;
            let suspicious: Vec<Key> = rows
                .iter()
                .filter(|held| match there.get(&held.key) {
                    None => true,
                    Some(row) if row.version.as_deref() >= Some(until) => false,
                    Some(row) => !self.work.comparison().alike(row, held),
                })
                .map(|held| held.key.clone())
                .collect();
            self.report.compared += rows.len() as u64;
            self.settle(&suspicious, false, pass).await?;
            match next(rows) {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn window(
        &self,
        (database, side): (&Database, &TableSide),
        within: (&str, &str),
        after: Option<&(String, Key)>,
        throttle: Option<&Throttle>,
    ) -> Result<Vec<Sketch>, WorkError> {
        self.work.ctx.go_on()?;
        if let Some(throttle) = throttle {
            throttle.clear(&self.work.ctx).await?;
        }
        let rows = self
            .work
            .ctx
            .retry(async || {
                let mut tx = self.work.begin_plain(database).await?;
                let after = after.map(|(version, key)| (version.as_str(), key));
                let comparison = self.work.comparison();
                let rows = tx.sketch_window(side, comparison, within, after, PAGE).await?;
                tx.rollback().await;
                Ok(rows)
            })
            .await?;
        for row in &rows {
            self.work.saw(row.bytes);
        }
        Ok(rows)
    }

    pub async fn look_up(
        &self,
        database: &Database,
        side: &TableSide,
        keys: &[Key],
    ) -> Result<BTreeMap<Key, Sketch>, WorkError> {
        if keys.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.work
            .ctx
            .retry(async || {
                let mut tx = self.work.begin_plain(database).await?;
                let rows = tx.sketch_keys(side, self.work.comparison(), keys).await?;
                tx.rollback().await;
                for row in &rows {
                    self.work.saw(row.bytes);
                }
                Ok(rows.into_iter().map(|row| (row.key.clone(), row)).collect())
            })
            .await
    }

    /// Settles keys and counts; answers with those that stay open. `explained`: a list names them, so a row that the
    /// base lacks was deleted by the application and may go.
    pub async fn settle(&mut self, keys: &[Key], explained: bool, pass: &mut Pass) -> Result<Vec<Key>, WorkError> {
        let (mut open, mut dead) = (Vec::new(), Vec::new());
        if keys.is_empty() {
            return Ok(open);
        }
        let (tired, fresh): (Vec<Key>, Vec<Key>) = keys
            .iter()
            .cloned()
            .partition(|key| self.postponed.get(key).is_some_and(|passes| *passes >= PATIENCE));
        for (keys, overwrite_newer) in [(fresh, false), (tired, true)] {
            let permit = Permit {
                repair: self.repair,
                delete: explained,
                overwrite_newer,
            };
            for Settled { key, verdict, seen } in self.work.settle(&keys, permit).await? {
                let left = event(&key, &verdict, &seen);
                match verdict {
                    Verdict::Equal => {
                        self.postponed.remove(&key);
                        self.letters.settled(&key);
                    }
                    Verdict::Repaired(kind) => {
                        self.postponed.remove(&key);
                        self.letters.settled(&key);
                        self.count_repaired(kind, pass);
                        tracing::info!(table = self.work.table().name, key = key.to_json(), ?kind, "repaired");
                    }
                    Verdict::Left(Mismatch::BaseMissing) if self.repair => {
                        pass.surplus_rows += 1;
                        if pass.surplus.len() as u64 <= self.work.ctx.migration.verify.max_deletes {
                            pass.surplus.push(key);
                            pass.surplus_events.extend(left);
                        }
                    }
                    Verdict::FollowerNewer => {
                        *self.postponed.entry(key.clone()).or_insert(0) += 1;
                        pass.outstanding += 1;
                        open.push(key);
                    }
                    Verdict::Refused(_) if self.letters.holds(&key) => {}
                    Verdict::Refused(why) => {
                        if self.letters.refused(&key) {
                            dead.push((key.clone(), why.clone()));
                        }
                        pass.refusal.get_or_insert_with(|| format!("key {key}: {why}"));
                        pass.outstanding += 1;
                        open.push(key);
                    }
                    Verdict::Left(_) | Verdict::Locked => {
                        pass.events.extend(left);
                        pass.outstanding += 1;
                        open.push(key);
                    }
                }
            }
        }
        self.bury(dead).await?;
        Ok(open)
    }

    /// A row was made what the base is.
    pub fn count_repaired(&mut self, kind: Mismatch, pass: &mut Pass) {
        self.kind(kind);
        self.report.repaired += 1;
        pass.repaired += 1;
    }

    /// Rows that somebody wrote to the follower alone go, unless there are more of them than a pass may delete.
    async fn settle_surplus(&mut self, pass: &mut Pass, deleted: &mut u64) -> Result<(), WorkError> {
        let most = self.work.ctx.migration.verify.max_deletes;
        self.report.deletes_held = 0;
        if pass.surplus_rows > most.saturating_sub(*deleted) {
            self.report.deletes_held = pass.surplus_rows;
            pass.events.append(&mut pass.surplus_events);
            pass.outstanding += pass.surplus_rows;
            pass.held = Some(format!(
                "table {}: one window holds {} rows of the follower that the base does not have, more than \
                 verify.maxDeletes ({most}); nothing was deleted. Find out who writes to the follower; if the rows may go, \
                 raise spec.verify.maxDeletes",
                self.work.table().name,
                pass.surplus_rows
            ));
            return Ok(());
        }
        *deleted += pass.surplus_rows;
        let keys = std::mem::take(&mut pass.surplus);
        self.settle(&keys, true, pass).await?;
        Ok(())
    }

    fn kind(&mut self, kind: Mismatch) {
        match kind {
            Mismatch::TargetMissing => self.report.target_missing += 1,
            Mismatch::Neq => self.report.neq += 1,
            Mismatch::BaseMissing => self.report.base_missing += 1,
            Mismatch::Misplaced => self.report.misplaced += 1,
        }
    }

    async fn record(&self) -> Result<(), WorkError> {
        let work = &self.work;
        work.ctx
            .retry(async || {
                let mut tx = work.begin_checked(work.base(), TxOptions::default()).await?;
                let uid = &work.ctx.migration.uid;
                let (id, name) = (work.migration_id(), work.name());
                control::advance_watermark(&mut tx, &id, uid, &name, self.base_since, &self.through).await?;
                Ok(tx.commit().await?)
            })
            .await
    }
}
