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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Suspicions settled together at most.
const SUSPICIONS: usize = 500;
/// Keys whose follower is newer that are kept for the end of the pass; more are settled at once.
const POSTPONED: usize = 1_000;
/// Pauses before the attempts at rows that the follower has not taken.
const AGAIN_AFTER: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
];
/// The reason of a pass that its budget ended.
const BUDGET_EXHAUSTED: &str = "BudgetExhausted";
/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// One full pass over the task's table.
pub async fn run(context: &TaskContext) -> Result<(), WorkError> {
    let repair = context.migration.verify.repair == RepairPolicy::Automatic;
    Box::pin(all_legs(context, false, repair, None)).await
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
    let mut ended: Vec<(Work, Option<PassId>, String)> = Vec::with_capacity(legs.len());
    let (mut before, mut verdict) = (None, Ok(()));
    let (started, mut spent) = (Instant::now(), 0);
    for (nth, leg) in legs.iter().enumerate() {
        let work = if looks {
            Work::look(context, *leg).await?
        } else {
            Work::open(context, *leg).await?
        };
        let around = Around {
            started,
            spent,
            before: before.take(),
            rest: (legs.len() - nth - 1) as u64,
        };
        let teller = differences.as_mut().map(|one| &mut **one as &mut dyn Differences);
        let leg = match one_leg(work, repair, around, teller).await {
            Err(error) if error.reason() == BUDGET_EXHAUSTED => {
                // What the legs before it have compared counts for the attempt that goes on.
                for (work, id, began) in &ended {
                    pause(work, id.as_ref(), began).await?;
                }
                return Err(error);
            }
            other => other?,
        };
        spent += leg.spent;
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

/// Records that a leg is to be gone on with, where that is possible: without an incremental verify in the meantime nothing
/// would vouch for what was compared before.
async fn pause(work: &Work, id: Option<&PassId>, began: &str) -> Result<bool, WorkError> {
    let Some(id) = id.filter(|_| work.keeps_events()) else {
        return Ok(false);
    };
    ledger::pause(work, id, began).await?;
    Ok(true)
}

/// What else there is of the table than this leg.
struct Around {
    /// When this worker began, and what it has spent of its budget.
    started: Instant,
    spent: u64,
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
    /// What the leg has spent of the budget.
    spent: u64,
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
    work.ensure_mismatches().await?;
    let compared = around.before.as_ref().map_or(0, |report| report.compared);
    let total = compared + work.base_estimate() * 2 * (around.rest + 1);
    work.ctx.status.note(|status| {
        status.verify = Some(around.before.clone().unwrap_or_default());
        let progress = status.progress.insert(crate::api::task::Progress::default());
        progress.rows = compared;
        progress.rows_total = total;
    });
    let local = differences.is_some();
    // The legs of a pass together delete no more than one pass may.
    let deleted = around.before.as_ref().map_or(0, |report| report.base_missing);
    let max_deletes = work.ctx.migration.verify.max_deletes.saturating_sub(deleted);
    let tally = Tally::new(&work.table().name, began.clone(), repair, max_deletes, differences);
    let pass = Pass {
        tally: Mutex::new(tally),
        local,
        repair,
        throttle: Throttle::start(&work.ctx, 1),
        work,
        rungs,
        id,
        began,
        started: around.started,
        spent: around.spent,
        stopped_short: AtomicBool::new(false),
        before: around.before,
    };
    let report = match pass.whole().await {
        Ok(report) => report,
        Err(error) => return Err(pass.work.blame(error).await),
    };
    let spent = pass.tally().spent();
    let verdict = pass.tally().verdict();
    Ok(Ended {
        work: pass.work,
        id: pass.id,
        began: pass.began,
        report,
        spent,
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
    /// Somebody waits for the differences themselves.
    local: bool,
    id: Option<PassId>,
    began: String,
    /// When this worker's part of the pass began, and what it had spent before this leg.
    started: Instant,
    spent: u64,
    /// The budget was spent before the table was walked.
    stopped_short: AtomicBool,
    tally: Mutex<Tally<'d>>,
    /// What the table's legs before this one came to.
    before: Option<VerifyReport>,
}

impl<'d> Pass<'d> {
    async fn whole(&self) -> Result<VerifyReport, WorkError> {
        for sweep in self.rungs.manner.sweeps() {
            self.sweep(*sweep).await?;
        }
        self.work.same_shape().await?;
        if self.stopped_short.load(Ordering::Relaxed) {
            return self.end_short().await;
        }
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
        for nth in 0_u64.. {
            self.throttle.clear(&self.work.ctx).await?;
            // However small the budget, every attempt comes further than the one before.
            if nth > 0 && self.budget_spent().is_some() {
                if ledger.lock().await.more() {
                    self.stopped_short.store(true, Ordering::Relaxed);
                }
                return Ok(());
            }
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
        Ok(())
    }

    /// Which part of the budget is spent, as a sentence tells it.
    fn budget_spent(&self) -> Option<String> {
        let budget = self.work.ctx.migration.verify.budget;
        let spent = self.spent + self.tally().spent();
        if let Some(most) = budget.mismatches.filter(|most| spent >= *most) {
            return Some(format!(
                "{spent} differences were found (verify.budget.mismatches: {most})"
            ));
        }
        let most = budget.duration.filter(|most| self.started.elapsed() >= *most)?;
        Some(format!("{most:?} are over (verify.budget.duration)"))
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
                        found.add(*kind);
                    }
                    // The other sweep's to count.
                    Verdict::Left(Mismatch::BaseMissing) if !self.repair && sweep == Sweep::Base => {}
                    // Written down, and this pass will not change it: it is met once.
                    Verdict::Left(kind) if !self.repair => found.add(*kind),
                    Verdict::Left(_) | Verdict::FollowerNewer | Verdict::Locked | Verdict::Refused(_) => {
                        owes_nothing = false;
                    }
                }
                self.tally().count(settled, sweep != Sweep::Base, false)?;
            }
        }
        self.write_down().await?;
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

    async fn write_down(&self) -> Result<(), WorkError> {
        let events = self.tally().take_events();
        self.work.record_mismatches(&events).await
    }

    async fn settle_for_good(&self, keys: &[Key], permit: Permit, surplus_counts: bool) -> Result<(), WorkError> {
        for settled in self.work.settle(keys, permit).await? {
            self.tally().count(settled, surplus_counts, true)?;
        }
        self.write_down().await
    }

    /// Ends a pass that has not walked the table: nothing is concluded, and the next attempt goes on from here.
    async fn end_short(&self) -> Result<VerifyReport, WorkError> {
        let resumable = pause(&self.work, self.id.as_ref(), &self.began).await?;
        let report = self.tally().interim().clone();
        let report = self.report(report).await?;
        let of = self.work.base_estimate() * 2;
        let message = format!(
            "table {}: the pass ended before the table did, because {}; {} rows of both sides of about {} are compared, {} \
             differences are left so far. This is no verdict; {}",
            self.work.table().name,
            self.budget_spent().unwrap_or_else(|| "its budget is spent".to_owned()),
            report.compared,
            of.max(report.compared),
            report.outstanding,
            if resumable {
                "the next attempt goes on from here"
            } else {
                "give it a larger budget, or none"
            }
        );
        Err(WorkError::permanent(BUDGET_EXHAUSTED, message))
    }

    /// Notes what the leg came to, and those before it.
    async fn report(&self, mut report: VerifyReport) -> Result<VerifyReport, WorkError> {
        report.mismatches = self.work.mismatch_counts().await?;
        let report = self.with_others(report);
        let noted = report.clone();
        self.work.ctx.status.note(|status| {
            let progress = status.progress.get_or_insert_default();
            progress.rows = noted.compared;
            status.verify = Some(noted);
        });
        Ok(report)
    }

    async fn settle_the_rest(&self) -> Result<VerifyReport, WorkError> {
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
        self.settle_refused().await?;
        // Every row was looked at: what this pass has not met again is settled.
        self.work.forget_mismatches_before(&self.began).await?;
        let report = self.tally().end().clone();
        let report = self.report(report).await?;
        self.work.ctx.status.note(|status| {
            let progress = status.progress.get_or_insert_default();
            progress.rows_total = progress.rows;
        });
        // Locked rows are met again when the pass is repeated, which it only is if it is not over.
        match self.tally().verdict() {
            Err(error) if error.is_transient() => Err(error),
            _ => Ok(report),
        }
    }

    /// Tries rows that the follower did not take a few more times; then they are dead letters, which the incremental
    /// verify tries again ever more rarely, and the pass need not be repeated for them.
    async fn settle_refused(&self) -> Result<(), WorkError> {
        if !self.repair || self.tally().refusals().is_empty() {
            return Ok(());
        }
        let permit = Permit {
            repair: true,
            delete: false,
            overwrite_newer: true,
        };
        for wait in AGAIN_AFTER {
            let refused = self.tally().take_refusals();
            if refused.is_empty() {
                return Ok(());
            }
            self.work.ctx.pause(wait).await?;
            let keys: Vec<Key> = refused.into_iter().map(|(key, _)| key).collect();
            self.settle_for_good(&keys, permit, true).await?;
        }
        // A shell is told of them by its exit code.
        if self.local || !self.work.keeps_events() {
            return Ok(());
        }
        let refused = self.tally().refusals().to_vec();
        if !refused.is_empty() {
            tracing::warn!(
                table = self.work.table().name,
                rows = refused.len(),
                "the follower does not take rows: dead letters"
            );
            let letters = self.work.bury_all(&refused).await?;
            self.tally().buried(letters);
        }
        Ok(())
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
