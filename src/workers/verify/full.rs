//! Compares every row of one table once, in both directions, without locks; a difference is a suspicion until it has
//! been settled under both row locks. A pass owes exactly the keys that were suspicious when it met them, so it ends
//! even where rows never rest. Memory is bounded: what is suspicious is settled range by range.

use super::differences::Differences;
use super::ledger::{self, Chunk, Ledger};
use super::repair::{Mismatch, Permit, Verdict};
use super::rungs::{Manner, Rungs, Sweep};
use super::tally::Tally;
use crate::api::task::VerifyReport;
use crate::api::tuning::RepairPolicy;
use crate::control::verified::{Found, PassId};
use crate::rows::Key;
use crate::workers::context::TaskContext;
use crate::workers::error::WorkError;
use crate::workers::legs::legs;
use crate::workers::throttle::Throttle;
use crate::workers::work::{self, Work};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Suspicions settled together at most.
const SUSPICIONS: usize = 500;
/// Keys whose follower is newer that are kept for the end of the pass; more are settled at once.
const POSTPONED: usize = 1_000;
/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// One full pass over the task's table.
pub async fn run(context: &TaskContext) -> Result<(), WorkError> {
    let repair = context.migration.verify.repair == RepairPolicy::Automatic;
    all_legs(context, false, repair, None).await
}

/// As [`run`], for whoever wants to know of every difference. `repair: false` needs no journal and takes no locks.
pub async fn run_for(context: &TaskContext, repair: bool, differences: &mut dyn Differences) -> Result<(), WorkError> {
    Box::pin(all_legs(context, !repair, repair, Some(differences))).await
}

/// One leg after the other; a leg in which something is left does not keep the others from being compared. The pass is over
/// when all of them are.
async fn all_legs(
    context: &TaskContext,
    looks: bool,
    repair: bool,
    mut differences: Option<&mut dyn Differences>,
) -> Result<(), WorkError> {
    let table = work::table(context)?;
    let legs = legs(&table, context.task.direction);
    let mut ended = Vec::with_capacity(legs.len());
    let (mut before, mut verdict) = (None, Ok(()));
    for (nth, leg) in legs.iter().enumerate() {
        let work = if looks {
            Work::look(context, *leg).await?
        } else {
            Work::open(context, *leg).await?
        };
        let around = Around {
            before: before.take(),
            rest: (legs.len() - nth - 1) as u64,
        };
        let teller = differences.as_mut().map(|one| &mut **one as &mut dyn Differences);
        let leg = one_leg(work, repair, around, teller).await?;
        before = Some(leg.report);
        ended.push((leg.work, leg.id, leg.began));
        if verdict.is_ok() {
            verdict = leg.verdict;
        }
    }
    for (work, id, began) in &ended {
        if let Some(id) = id {
            ledger::end(work, id, began).await?;
        }
    }
    verdict
}

/// What else there is of the table than this leg.
struct Around {
    /// What the legs before it came to.
    before: Option<VerifyReport>,
    /// How many come after it.
    rest: u64,
}

/// A leg that was compared to its end.
struct Ended {
    work: Work,
    id: Option<PassId>,
    began: String,
    /// Of this leg and those before it.
    report: VerifyReport,
    verdict: Result<(), WorkError>,
}

async fn one_leg(
    mut work: Work,
    repair: bool,
    around: Around,
    differences: Option<&mut dyn Differences>,
) -> Result<Ended, WorkError> {
    // One lane's failure ends the others at their next step.
    work.ctx.stop = work.ctx.stop.child_token();
    let rungs = Rungs::choose(&work).await?;
    tracing::info!(table = work.name(), manner = ?rungs.manner, "comparing");
    let id = (!work.only_looks()).then(|| pass_id(&work));
    let began = match &id {
        Some(id) => ledger::begin(&work, id).await?,
        None => work.base_clock().await?,
    };
    let compared = around.before.as_ref().map_or(0, |report| report.compared);
    let total = compared + work.base_estimate() * 2 * (around.rest + 1);
    work.ctx.status.note(|status| {
        status.verify = Some(around.before.clone().unwrap_or_default());
        let progress = status.progress.insert(crate::api::task::Progress::default());
        progress.rows = compared;
        progress.rows_total = total;
    });
    // The legs of a pass together delete no more than one pass may.
    let deleted = around.before.as_ref().map_or(0, |report| report.base_missing);
    let max_deletes = work.ctx.migration.verify.max_deletes.saturating_sub(deleted);
    let tally = Tally::new(&work.table().name, began.clone(), repair, max_deletes, differences);
    let pass = Pass {
        tally: Mutex::new(tally),
        repair,
        throttle: Throttle::start(&work.ctx, 1),
        work,
        rungs,
        id,
        began,
        before: around.before,
    };
    if let Err(error) = pass.whole().await {
        return Err(pass.work.blame(error).await);
    }
    let report = pass.with_others(pass.tally().end().clone());
    let verdict = pass.tally().verdict();
    Ok(Ended {
        work: pass.work,
        id: pass.id,
        began: pass.began,
        report,
        verdict,
    })
}

/// Tells this pass from every other: a worker that starts again for the same task goes on with it.
fn pass_id(work: &Work) -> PassId {
    let context = &work.ctx;
    let started = context.status.current().started_at.map_or(0, |at| at.0.as_second());
    PassId {
        migration: work.migration_id(),
        uid: context.migration.uid.clone(),
        table: work.name(),
        pass: format!("{:?}-{}-{started}", context.task.direction, context.task.epoch),
        compared: work.fingerprint(),
    }
}

struct Pass<'d> {
    work: Work,
    rungs: Rungs,
    throttle: Throttle,
    repair: bool,
    id: Option<PassId>,
    began: String,
    tally: Mutex<Tally<'d>>,
    /// What the table's legs before this one came to.
    before: Option<VerifyReport>,
}

impl<'d> Pass<'d> {
    async fn whole(&self) -> Result<(), WorkError> {
        for sweep in self.rungs.manner.sweeps() {
            self.sweep(*sweep).await?;
        }
        self.work.same_shape().await?;
        self.settle_the_rest().await
    }

    fn with_others(&self, report: VerifyReport) -> VerifyReport {
        match &self.before {
            None => report,
            Some(before) => before.clone().and(&report),
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally<'d>> {
        // A panic elsewhere leaves counts behind that are true as far as they go.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Walks the table once, on as many connections as the copy may take.
    async fn sweep(&self, sweep: Sweep) -> Result<(), WorkError> {
        let most = match self.rungs.manner {
            Manner::Pushed => 16,
            Manner::Streamed => 4,
            Manner::LookedUp => 1,
        };
        let (ledger, before) = Ledger::open(&self.work, self.id.clone(), self.began.clone(), sweep, most).await?;
        self.tally().go_on_from(&before);
        let ledger = tokio::sync::Mutex::new(ledger);
        let lanes = self.work.ctx.migration.copy.parallelism.max(1);
        let mut lanes: FuturesUnordered<_> = (0..lanes).map(|_| self.lane(sweep, &ledger)).collect();
        let mut result = Ok(());
        // Every lane is let to its end: a repair is not left in the middle.
        while let Some(ended) = lanes.next().await {
            if ended.is_err() && result.is_ok() {
                self.work.ctx.stop.cancel();
                result = ended;
            }
        }
        result
    }

    async fn lane(&self, sweep: Sweep, ledger: &tokio::sync::Mutex<Ledger>) -> Result<(), WorkError> {
        loop {
            self.throttle.clear(&self.work.ctx).await?;
            let most = self.throttle.most_rows();
            let chunk = ledger.lock().await.next(&self.work, &self.rungs, most).await?;
            let Some(chunk) = chunk else { return Ok(()) };
            self.work.same_shape_lately().await?;
            let began = Instant::now();
            let (rows, bytes) = self.chunk(sweep, &chunk).await?;
            ledger.lock().await.size.took(began.elapsed(), bytes / rows.max(1));
            let rows = u32::try_from(rows).unwrap_or(u32::MAX);
            self.throttle.spend(&self.work.ctx, rows, bytes).await?;
            if self.tally().postponed.len() > POSTPONED {
                self.settle_postponed(sweep != Sweep::Base).await?;
            }
            self.publish().await;
        }
    }

    /// Compares one chunk and settles what it owes. Answers with its rows, and the bytes of those that were read.
    async fn chunk(&self, sweep: Sweep, chunk: &Chunk) -> Result<(u64, u64), WorkError> {
        let compared = self
            .rungs
            .compare(&self.work.ctx, sweep, &chunk.ranges, chunk.rows)
            .await?;
        self.work.saw(compared.widest);
        let mut found = Found {
            base_rows: compared.base_rows as i64,
            follower_rows: compared.follower_rows as i64,
            ..Found::default()
        };
        // Deletes wait until the pass knows how many there would be.
        let permit = Permit {
            repair: self.repair,
            delete: false,
            overwrite_newer: false,
        };
        let mut owes_nothing = true;
        for keys in compared.suspicions.chunks(SUSPICIONS) {
            for settled in self.work.settle(keys, permit).await? {
                match &settled.verdict {
                    Verdict::Equal => {}
                    Verdict::Repaired(kind) => {
                        found.repaired += 1;
                        match kind {
                            Mismatch::TargetMissing => found.target_missing += 1,
                            Mismatch::Neq => found.neq += 1,
                            // The record has no place for them of their own: it only serves a worker that starts again.
                            Mismatch::BaseMissing | Mismatch::Misplaced => found.base_missing += 1,
                        }
                    }
                    Verdict::Left(_) | Verdict::FollowerNewer | Verdict::Locked | Verdict::Refused(_) => {
                        owes_nothing = false;
                    }
                }
                self.tally().count(settled, sweep != Sweep::Base, false)?;
            }
        }
        self.tally().report.compared += compared.base_rows + compared.follower_rows;
        if owes_nothing {
            ledger::close(&self.work, self.id.as_ref(), sweep, chunk, &found).await?;
        }
        let read = compared.base_rows + compared.follower_rows;
        Ok((read, compared.bytes))
    }

    /// `surplus_counts`: what the base lacks will be met by no other sweep.
    async fn settle_postponed(&self, surplus_counts: bool) -> Result<(), WorkError> {
        let keys = std::mem::take(&mut self.tally().postponed);
        if keys.is_empty() {
            return Ok(());
        }
        if !self.work.only_looks() {
            // An application that commits one side after the other is given its lag; then the base is right.
            self.work.ctx.pause(self.work.ctx.migration.verify.lag).await?;
        }
        let permit = Permit {
            repair: self.repair,
            delete: false,
            overwrite_newer: true,
        };
        self.settle_for_good(&keys, permit, surplus_counts).await
    }

    async fn settle_for_good(&self, keys: &[Key], permit: Permit, surplus_counts: bool) -> Result<(), WorkError> {
        for settled in self.work.settle(keys, permit).await? {
            self.tally().count(settled, surplus_counts, true)?;
        }
        Ok(())
    }

    async fn settle_the_rest(&self) -> Result<(), WorkError> {
        self.settle_postponed(true).await?;
        let surplus = self.tally().may_be_deleted();
        if let Some(keys) = surplus {
            let permit = Permit {
                repair: true,
                delete: true,
                overwrite_newer: true,
            };
            self.settle_for_good(&keys, permit, true).await?;
        }
        let report = self.with_others(self.tally().end().clone());
        self.work.ctx.status.note(|status| {
            let progress = status.progress.get_or_insert_default();
            progress.rows = report.compared;
            progress.rows_total = report.compared;
            status.verify = Some(report);
        });
        // Locked rows are met again when the pass is repeated, which it only is if it is not over.
        match self.tally().verdict() {
            Err(error) if error.is_transient() => Err(error),
            _ => Ok(()),
        }
    }

    async fn publish(&self) {
        let report = self.with_others(self.tally().interim().clone());
        self.work.ctx.status.note(|status| {
            let progress = status.progress.get_or_insert_default();
            progress.rows = report.compared;
            progress.rows_total = progress.rows_total.max(report.compared);
            status.verify = Some(report);
        });
        self.work.ctx.status.publish_after(REPORT_EVERY).await;
    }
}
