//! Compares every row of one table once, in both directions, without locks; a difference is a suspicion until it has
//! been settled under both row locks. A pass owes exactly the keys that were suspicious when it met them, so it ends
//! even where rows never rest. Memory is bounded: what is suspicious is settled as soon as there is enough of it.

use super::differences::Differences;
use super::repair::{Permit, by_key};
use super::tally::Tally;
use crate::api::tuning::RepairPolicy;
use crate::rows::{Key, Row};
use crate::store::Lock;
use crate::workers::context::TaskContext;
use crate::workers::error::WorkError;
use crate::workers::work::Work;
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
    let repair = context.migration.verify.repair == RepairPolicy::Automatic;
    pass(work, repair, None).await
}

/// As [`run`], for whoever wants to know of every difference. `repair: false` needs no journal and takes no locks.
pub async fn run_for(context: &TaskContext, repair: bool, differences: &mut dyn Differences) -> Result<(), WorkError> {
    let work = if repair {
        Work::open(context).await?
    } else {
        Work::look(context).await?
    };
    pass(work, repair, Some(differences)).await
}

async fn pass(work: Work, repair: bool, differences: Option<&mut dyn Differences>) -> Result<(), WorkError> {
    let began = work.base_clock().await?;
    let total = work.base_estimate() * 2;
    work.ctx.status.note(|status| {
        status.verify = Some(crate::api::task::VerifyReport::default());
        let progress = status.progress.insert(crate::api::task::Progress::default());
        progress.rows_total = total;
    });
    let max_deletes = work.ctx.migration.verify.max_deletes;
    let mut pass = Pass {
        tally: Tally::new(&work.table().name, began, repair, max_deletes, differences),
        repair,
        work,
        suspicions: Vec::new(),
        second_direction: false,
    };
    pass.base_against_follower().await?;
    pass.follower_against_base().await?;
    pass.end().await
}

struct Pass<'d> {
    work: Work,
    repair: bool,
    tally: Tally<'d>,
    suspicions: Vec<Key>,
    /// The follower is being read, and what the base lacks is counted.
    second_direction: bool,
}

impl Pass<'_> {
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
            self.tally.report.compared += rows.len() as u64;
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
            self.tally.report.compared += rows.len() as u64;
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
        for settled in self.work.settle(&keys, permit).await? {
            self.tally.count(settled, self.second_direction, false)?;
        }
        if self.tally.postponed.len() > POSTPONED {
            self.settle_postponed().await?;
        }
        Ok(())
    }

    async fn settle_postponed(&mut self) -> Result<(), WorkError> {
        if self.tally.postponed.is_empty() {
            return Ok(());
        }
        if !self.work.only_looks() {
            // An application that commits one side after the other is given its lag; then the base is right.
            self.work.ctx.pause(self.work.ctx.migration.verify.lag).await?;
        }
        let keys = std::mem::take(&mut self.tally.postponed);
        let permit = Permit {
            repair: self.repair,
            delete: false,
            overwrite_newer: true,
        };
        for settled in self.work.settle(&keys, permit).await? {
            self.tally.count(settled, self.second_direction, true)?;
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), WorkError> {
        self.settle_postponed().await?;
        if let Some(keys) = self.tally.may_be_deleted() {
            let permit = Permit {
                repair: true,
                delete: true,
                overwrite_newer: true,
            };
            for settled in self.work.settle(&keys, permit).await? {
                self.tally.count(settled, true, true)?;
            }
        }
        let report = self.tally.end().clone();
        self.work.ctx.status.note(|status| {
            let progress = status.progress.get_or_insert_default();
            progress.rows = report.compared;
            progress.rows_total = report.compared;
            status.verify = Some(report);
        });
        self.tally.verdict()
    }

    async fn publish(&mut self) {
        let report = self.tally.interim().clone();
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
