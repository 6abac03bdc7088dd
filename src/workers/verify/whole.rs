//! The incremental verify of a table, for as long as its task lives: the windows of every leg, the lists that all legs share
//! (deletes, and both sides' queues), and one report.

use super::incremental::{Incremental, Pass};
use super::lists::List;
use crate::api::task::VerifyReport;
use crate::words::{SecondaryWrites, Side};
use crate::workers::context::TaskContext;
use crate::workers::error::WorkError;
use crate::workers::legs::legs;
use crate::workers::throttle::Throttle;
use crate::workers::work::{self, secondary};
use std::time::{Duration, Instant};

/// How often the queues are looked at between passes.
const QUEUE_EVERY: Duration = Duration::from_secs(1);
/// As long as applications wait for a strict epoch to end, passes follow each other this closely.
const STRICT_EVERY: Duration = Duration::from_millis(300);

/// Verifies windows until told to stop or the epoch moves on.
pub async fn run(context: &TaskContext) -> Result<(), WorkError> {
    let table = work::table(context)?;
    let mut parts = Vec::new();
    for leg in legs(&table, context.task.direction) {
        parts.push(Incremental::open(context, leg).await?);
    }
    let mut verify = Whole::new(context, parts)?;
    loop {
        let began = Instant::now();
        let mut at = 0;
        if let Err(error) = verify.pass(&mut at).await {
            return Err(match verify.parts.get(at) {
                Some(part) => part.work.blame(error).await,
                None => error,
            });
        }
        verify.tell().await;
        verify.rest(began).await?;
    }
}

/// A table's incremental verify: that of every leg, the lists that all of them share, and one report.
pub struct Whole<'c> {
    pub ctx: &'c TaskContext,
    pub parts: Vec<Incremental>,
    throttle: Option<Throttle>,
    strict: bool,
    acked_at: Option<String>,
    report: VerifyReport,
    /// The last verdict that was reported, and when.
    told: Option<(Told, Instant)>,
}

/// What makes a report worth its write at once.
#[derive(Clone, PartialEq)]
struct Told {
    clean: bool,
    outstanding: u64,
    queue: bool,
    held: u64,
    past_acknowledgement: bool,
}

impl<'c> Whole<'c> {
    fn new(ctx: &'c TaskContext, parts: Vec<Incremental>) -> Result<Self, WorkError> {
        let control = parts.first().map(|part| part.work.control().clone());
        let strict = match &control {
            Some(control) => secondary(control)? == SecondaryWrites::Strict,
            None => false,
        };
        Ok(Self {
            ctx,
            parts,
            // The application waits for a strict epoch to end.
            throttle: (!strict).then(|| Throttle::start(ctx, 1)),
            strict,
            acked_at: control.and_then(|control| control.acked_at),
            report: VerifyReport::default(),
            told: None,
        })
    }

    /// `at`: the leg that is at work, for whoever wants to know which one failed.
    async fn pass(&mut self, at: &mut usize) -> Result<(), WorkError> {
        let began = crate::workers::context::now();
        let mut passes: Vec<Pass> = Vec::with_capacity(self.parts.len());
        for (nth, part) in self.parts.iter_mut().enumerate() {
            *at = nth;
            passes.push(part.begin().await?);
        }
        // The lists first: they explain what the windows would only wonder about.
        for side in [Side::Source, Side::Target] {
            self.drain(List::Queue, side, &mut passes).await?;
            self.drain(List::Deletes, side, &mut passes).await?;
        }
        let mut deleted = 0;
        for (nth, (part, pass)) in self.parts.iter_mut().zip(&mut passes).enumerate() {
            *at = nth;
            part.windows(pass, self.throttle.as_ref(), &mut deleted).await?;
        }
        let queue = self.queue().await?;
        let mut report: Option<VerifyReport> = None;
        for (part, pass) in self.parts.iter_mut().zip(&passes) {
            part.count(pass, queue, &began);
            report = Some(match report {
                None => part.report.clone(),
                Some(others) => others.and(&part.report),
            });
        }
        self.report = VerifyReport {
            queue,
            ..report.unwrap_or_default()
        };
        let name = self.parts.first().map_or("", |part| part.work.table().name.as_str());
        self.say("TooManyDeletes", passes.iter_mut().find_map(|pass| pass.held.take()));
        let refusal = passes.iter_mut().find_map(|pass| pass.refusal.take());
        let refusal = refusal.or_else(|| self.parts.iter().find_map(|part| part.letters.first.clone()));
        self.say("RowsRefused", refusal.map(|refusal| {
            format!(
                "table {name}: a row of the base cannot be put into the follower: {refusal}; correct the row or the follower's \
                 column, and it is repaired when it is tried again; every such row is in _datamigration_dead_letters"
            )
        }));
        Ok(())
    }

    /// Says in the status what keeps a pass from being clean, or that this is over.
    fn say(&self, reason: &str, message: Option<String>) {
        self.ctx.status.note(|status| {
            if message.is_some() || status.reason.as_deref() == Some(reason) {
                status.reason = message.as_ref().map(|_| reason.to_owned());
                status.message = message;
            }
        });
    }

    /// Reports a changed verdict at once, an unchanged one as often as the gate that reads it needs.
    async fn tell(&mut self) {
        let report = self.report.clone();
        let told = Told {
            clean: report.clean_since.is_some(),
            outstanding: report.outstanding,
            queue: report.queue > 0,
            held: report.deletes_held,
            past_acknowledgement: self
                .acked_at
                .as_ref()
                .is_some_and(|acknowledged| report.verified_through.as_ref() >= Some(acknowledged)),
        };
        self.ctx.status.note(|status| status.verify = Some(report));
        let heartbeat = (self.ctx.migration.gates.clean_for / 2).clamp(Duration::from_secs(1), Duration::from_mins(5));
        let due = self
            .told
            .as_ref()
            .is_none_or(|(before, at)| *before != told || at.elapsed() >= heartbeat);
        if due {
            self.ctx.status.publish().await;
            self.told = Some((told, Instant::now()));
        }
    }

    /// Waits for the next pass; an entry in a queue calls for it earlier.
    async fn rest(&self, began: Instant) -> Result<(), WorkError> {
        let context = self.ctx;
        let interval = context.migration.verify.interval;
        let wait = if self.strict {
            interval.min(STRICT_EVERY)
        } else {
            interval
        };
        loop {
            let left = wait.saturating_sub(began.elapsed());
            context.pause(left.min(QUEUE_EVERY)).await?;
            if left <= QUEUE_EVERY || self.queue().await? > 0 {
                return Ok(());
            }
        }
    }
}
