//! Compares every row of one table once, in both directions, without locks; a difference is a suspicion until it has
//! been settled under both row locks. A pass owes exactly the keys that were suspicious when it met them, so it ends
//! even where rows never rest. Memory is bounded: what is suspicious is settled as soon as there is enough of it.

use super::context::TaskContext;
use super::error::WorkError;
use super::repair::{Mismatch, Permit, Verdict, by_key};
use super::work::Work;
use crate::api::task::VerifyReport;
use crate::api::tuning::RepairPolicy;
use crate::rows::{Key, Row};
use crate::store::Lock;
use std::time::Duration;

/// Rows compared at a time.
const PAGE: u32 = 1_000;
/// Suspicions settled together at the latest.
const SUSPICIONS: usize = 500;
/// Keys whose follower is newer that are kept for the end of the pass; more are settled at once.
const POSTPONED: usize = 1_000;
/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// One full pass over the task's table.
pub async fn run(context: &TaskContext) -> Result<(), WorkError> {
    let work = Work::open(context).await?;
    let began = work.base_clock().await?;
    let total = work.base_estimate() * 2;
    context.status.note(|status| {
        status.verify = Some(VerifyReport::default());
        let progress = status.progress.insert(crate::api::task::Progress::default());
        progress.rows_total = total;
    });
    let mut pass = Pass {
        repair: context.migration.verify.repair == RepairPolicy::Automatic,
        report: VerifyReport {
            verified_through: Some(began),
            ..VerifyReport::default()
        },
        work,
        suspicions: Vec::new(),
        postponed: Vec::new(),
        second_direction: false,
        surplus: Vec::new(),
        surplus_rows: 0,
        locked: 0,
        refused: 0,
        refusal: None,
        left: 0,
    };
    pass.base_against_follower().await?;
    pass.follower_against_base().await?;
    pass.end().await
}

struct Pass {
    work: Work,
    repair: bool,
    report: VerifyReport,
    suspicions: Vec<Key>,
    /// The follower was newer under both locks: looked at once more at the end, then the base wins.
    postponed: Vec<Key>,
    /// The follower is being read, and what the base lacks is counted.
    second_direction: bool,
    /// Rows of the follower that the base does not have; no more than may be deleted, and one.
    surplus: Vec<Key>,
    surplus_rows: u64,
    /// Keys that writers held through all attempts.
    locked: u64,
    /// Rows that the follower does not take, and the first of them with the reason.
    refused: u64,
    refusal: Option<String>,
    /// Differences that may not be repaired (`verify.repair: Manual`).
    left: u64,
}

impl Pass {
    /// Every row of the base has its equal in the follower.
    async fn base_against_follower(&mut self) -> Result<(), WorkError> {
        let mut after: Option<Key> = None;
        loop {
            let (rows, keys) = self.page(Side::Base, after.as_ref()).await?;
            let held = self.look_up(Side::Follower, &keys).await?;
            let held = by_key(self.work.follower_side(), held);
            for (key, row) in keys.iter().zip(&rows) {
                if !held.get(key).is_some_and(|held| self.work.equal(row, held)) {
                    self.suspicions.push(key.clone());
                }
            }
            self.report.compared += rows.len() as u64;
            self.settle(SUSPICIONS).await?;
            self.publish().await;
            if (rows.len() as u32) < PAGE {
                break;
            }
            after = keys.last().cloned();
        }
        self.settle(1).await
    }

    /// No row of the follower lacks its counterpart in the base. The follower is read by its own order of the key.
    async fn follower_against_base(&mut self) -> Result<(), WorkError> {
        self.second_direction = true;
        let mut after: Option<Key> = None;
        loop {
            let (rows, keys) = self.page(Side::Follower, after.as_ref()).await?;
            let there = by_key(self.work.base_side(), self.look_up(Side::Base, &keys).await?);
            self.suspicions
                .extend(keys.iter().filter(|key| !there.contains_key(*key)).cloned());
            self.report.compared += rows.len() as u64;
            self.settle(SUSPICIONS).await?;
            self.publish().await;
            if (rows.len() as u32) < PAGE {
                break;
            }
            after = keys.last().cloned();
        }
        self.settle(1).await
    }

    async fn page(&self, side: Side, after: Option<&Key>) -> Result<(Vec<Row>, Vec<Key>), WorkError> {
        let work = &self.work;
        let rows = work
            .ctx
            .retry(async || {
                let (database, table) = side.of(work);
                let mut tx = work.begin_plain(database).await?;
                let rows = tx.read_after(table, after, None, PAGE).await?;
                tx.rollback().await;
                Ok(rows)
            })
            .await?;
        let (_, table) = side.of(work);
        let keys = rows.iter().map(|row| table.key_of(row)).collect();
        Ok((rows, keys))
    }

    async fn look_up(&self, side: Side, keys: &[Key]) -> Result<Vec<Row>, WorkError> {
        let work = &self.work;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        work.ctx
            .retry(async || {
                let (database, table) = side.of(work);
                let mut tx = work.begin_plain(database).await?;
                let rows = tx.read_keys(table, keys, Lock::None).await?;
                tx.rollback().await;
                Ok(rows)
            })
            .await
    }

    /// Settles the suspicions if there are at least so many.
    async fn settle(&mut self, at_least: usize) -> Result<(), WorkError> {
        if self.suspicions.len() < at_least.max(1) {
            return Ok(());
        }
        let keys = std::mem::take(&mut self.suspicions);
        // Deletes wait until the pass knows how many there would be.
        let permit = Permit {
            repair: self.repair,
            delete: false,
            overwrite_newer: false,
        };
        for (key, verdict) in self.work.settle(&keys, permit).await? {
            self.count(key, verdict, false);
        }
        if self.postponed.len() > POSTPONED {
            self.settle_postponed().await?;
        }
        Ok(())
    }

    /// `last`: what is not settled now stays outstanding.
    fn count(&mut self, key: Key, verdict: Verdict, last: bool) {
        match verdict {
            Verdict::Equal => {}
            // Deleted from the base since it was read: the second direction meets it, if the follower still has it.
            Verdict::Left(Mismatch::BaseMissing) if !self.second_direction => {}
            Verdict::Left(Mismatch::BaseMissing) => {
                self.surplus_rows += 1;
                if self.surplus.len() as u64 <= self.work.ctx.migration.verify.max_deletes {
                    self.surplus.push(key);
                }
            }
            Verdict::Repaired(kind) => {
                self.kind(kind);
                self.report.repaired += 1;
            }
            Verdict::Left(kind) => {
                self.kind(kind);
                self.left += 1;
            }
            // A unique value may be free once the row that holds it is settled.
            Verdict::FollowerNewer | Verdict::Refused(_) if !last => self.postponed.push(key),
            Verdict::Refused(why) => {
                self.refused += 1;
                self.refusal.get_or_insert_with(|| format!("key {key}: {why}"));
            }
            Verdict::FollowerNewer | Verdict::Locked => self.locked += 1,
        }
    }

    fn kind(&mut self, kind: Mismatch) {
        match kind {
            Mismatch::TargetMissing => self.report.target_missing += 1,
            Mismatch::Neq => self.report.neq += 1,
            Mismatch::BaseMissing => self.report.base_missing += 1,
        }
    }

    async fn settle_postponed(&mut self) -> Result<(), WorkError> {
        if self.postponed.is_empty() {
            return Ok(());
        }
        // An application that commits one side after the other is given its lag; then the base is right.
        self.work.ctx.pause(self.work.ctx.migration.verify.lag).await?;
        let keys = std::mem::take(&mut self.postponed);
        let permit = Permit {
            repair: self.repair,
            delete: false,
            overwrite_newer: true,
        };
        for (key, verdict) in self.work.settle(&keys, permit).await? {
            self.count(key, verdict, true);
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), WorkError> {
        self.settle_postponed().await?;
        let most = self.work.ctx.migration.verify.max_deletes;
        if self.surplus_rows > most || !self.repair {
            self.report.base_missing += self.surplus_rows;
            self.left += self.surplus_rows;
            if self.repair {
                self.report.deletes_held = self.surplus_rows;
            }
        } else {
            let keys = std::mem::take(&mut self.surplus);
            let permit = Permit {
                repair: true,
                delete: true,
                overwrite_newer: true,
            };
            for (key, verdict) in self.work.settle(&keys, permit).await? {
                self.count(key, verdict, true);
            }
        }
        self.report.outstanding = self.left + self.locked + self.refused;
        let report = self.report.clone();
        self.work.ctx.status.note(|status| {
            let progress = status.progress.get_or_insert_default();
            progress.rows = report.compared;
            progress.rows_total = report.compared;
            status.verify = Some(report);
        });
        self.verdict(most)
    }

    fn verdict(&self, most: u64) -> Result<(), WorkError> {
        let table = &self.work.table().name;
        let report = &self.report;
        if report.deletes_held > 0 {
            return Err(WorkError::permanent(
                "TooManyDeletes",
                format!(
                    "table {table}: {} rows of the follower have no counterpart in the base, more than verify.maxDeletes \
                     ({most}); nothing was deleted. If these rows may go, raise spec.verify.maxDeletes; if not, find out who \
                     wrote them, or whether spec.tables[].where is what you meant",
                    report.deletes_held
                ),
            ));
        }
        if self.left > 0 {
            return Err(WorkError::permanent(
                "DifferencesFound",
                format!(
                    "table {table}: {} target_missing, {} neq, {} base_missing are left, because spec.verify.repair is Manual; \
                     repair them, or set it to Automatic",
                    report.target_missing, report.neq, report.base_missing
                ),
            ));
        }
        if let Some(refusal) = &self.refusal {
            return Err(WorkError::permanent(
                "RowsRefused",
                format!(
                    "table {table}: {} rows of the base cannot be put into the follower, the first: {refusal}; correct the rows \
                     or the follower's column, then delete this task: the pass is asked for again",
                    self.refused
                ),
            ));
        }
        if self.locked > 0 {
            return Err(WorkError::Waiting {
                reason: "RowsLocked",
                message: format!(
                    "table {table}: {} differing rows were locked by long transactions through all attempts; the pass is \
                     repeated. Look for idle transactions on both databases",
                    self.locked
                ),
            });
        }
        Ok(())
    }

    async fn publish(&mut self) {
        self.report.outstanding =
            self.left + self.locked + self.refused + self.surplus_rows + self.postponed.len() as u64;
        let report = self.report.clone();
        self.work.ctx.status.note(|status| {
            let progress = status.progress.get_or_insert_default();
            progress.rows = report.compared;
            progress.rows_total = progress.rows_total.max(report.compared);
            status.verify = Some(report);
        });
        self.work.ctx.status.publish_after(REPORT_EVERY).await;
    }
}

/// Which of the two is read.
#[derive(Clone, Copy)]
enum Side {
    Base,
    Follower,
}

impl Side {
    fn of(self, work: &Work) -> (&crate::store::Database, &crate::store::TableSide) {
        match self {
            Self::Base => (work.base(), work.base_side()),
            Self::Follower => (work.follower(), work.follower_side()),
        }
    }
}
