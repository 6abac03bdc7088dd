//! The gates that the rows themselves open: copied, compared in full, clean for long enough, drained.

use jiff::Timestamp;
use std::time::Duration;

use super::{Gate, elapsed, full, hindered, human, newest, watch};
use crate::api::conditions::Reason;
use crate::api::migration::Migration;
use crate::api::task::{ControlSpec, Journal, TaskKind, VerifyReport, VerifyScope};
use crate::decide::throttled::throttle;
use crate::observe::world::{Outcome, Task, World};
use crate::words::Direction;

/// Incremental evidence older than this says nothing about now.
pub const EVIDENCE_AGE: Duration = Duration::from_mins(12);

/// The copy of every table in this round is done.
pub fn copied(migration: &Migration, world: &World, control: &ControlSpec) -> Gate {
    every_table(migration, |table| {
        match newest(world, TaskKind::Copy, table, |task| task.spec.round == control.round) {
            None => Gate::Hold(Reason::Copying, format!("the copy of table {table} is to begin")),
            Some(task) => match task.outcome() {
                Outcome::Succeeded => Gate::Pass,
                Outcome::Failed(reason, message, _) => Gate::Stop(Reason::Worker(reason), message),
                Outcome::Open => hindered(task).unwrap_or_else(|| {
                    let text = task.status.progress.as_ref().map_or_else(String::new, |progress| {
                        format!(
                            ": {} of about {} rows",
                            progress.rows,
                            progress.rows_total.max(progress.rows)
                        )
                    });
                    Gate::Hold(
                        Reason::Copying,
                        format!("table {table} is being copied{text}{}", held_back(task)),
                    )
                }),
            },
        }
    })
}

/// A full verify that counts for the present base ended with nothing outstanding, for every table.
pub fn fully_verified(migration: &Migration, world: &World, control: &ControlSpec, direction: Direction) -> Gate {
    every_table(migration, |table| match full::full(world, table, control, direction) {
        None => Gate::Hold(
            Reason::Verifying,
            format!("the full verify of table {table} is to begin"),
        ),
        Some(task) => match task.outcome() {
            Outcome::Failed(reason, message, _) => Gate::Stop(Reason::Worker(reason), message),
            Outcome::Succeeded => {
                let report = task.status.verify.clone().unwrap_or_default();
                settled(table, &report).and_then(|| {
                    let incremental = incremental(world, table, control);
                    full::unburied(task, &report, incremental, control.epoch)
                })
            }
            Outcome::Open => hindered(task).unwrap_or_else(|| {
                let text = task.status.verify.as_ref().map_or_else(String::new, |report| {
                    format!(
                        ": {} rows compared, {} outstanding",
                        report.compared, report.outstanding
                    )
                });
                Gate::Hold(
                    Reason::Verifying,
                    format!("table {table} is being verified in full{text}{}", held_back(task)),
                )
            }),
        },
    })
}

/// What makes the work slow, for whoever wonders why it is.
fn held_back(task: &Task) -> String {
    throttle(task).map_or_else(String::new, |report| format!(" (held back: {})", report.message))
}

fn settled(table: &str, report: &VerifyReport) -> Gate {
    if report.deletes_held > 0 {
        Gate::Stop(
            Reason::DeletesHeld,
            format!(
                "{} rows of table {table} would have to be deleted from the follower, more than spec.verify.maxDeletes; look at them, then raise it",
                report.deletes_held
            ),
        )
    } else if report.outstanding > 0 {
        Gate::Hold(
            Reason::DifferencesOutstanding,
            format!("{} differences in table {table} are not settled", report.outstanding),
        )
    } else {
        Gate::Pass
    }
}

/// The incremental verify has been clean for long enough, in this epoch.
pub fn clean(migration: &Migration, world: &World, control: &ControlSpec, journal: &Journal, now: Timestamp) -> Gate {
    every_table(migration, |table| {
        let Some((task, report)) = incremental(world, table, control) else {
            return incremental_missing(world, table, control);
        };
        let clean_for = migration.gates.clean_for;
        settled(table, report)
            .and_then(|| caught_up(table, report, journal))
            .and_then(|| {
                let Some((since, at)) = report.clean_since.as_ref().zip(task.status.reported_at.as_ref()) else {
                    return Gate::Hold(
                        Reason::NotCleanLongEnough,
                        format!("table {table} is not clean: its latest window needed repair, or keys are queued"),
                    );
                };
                // Both times are the worker's own, so the two clocks need not agree.
                let clean = elapsed(since.0, at.0);
                if clean < clean_for {
                    Gate::Hold(
                        Reason::NotCleanLongEnough,
                        format!(
                            "table {table} has been clean for {} of {}",
                            human(clean),
                            human(clean_for)
                        ),
                    )
                } else if elapsed(at.0, now) > EVIDENCE_AGE {
                    Gate::Hold(
                        Reason::EvidenceStale,
                        format!(
                            "the verify of table {table} has not reported for {}",
                            human(elapsed(at.0, now))
                        ),
                    )
                } else {
                    Gate::Pass
                }
            })
    })
    .and_then(|| queue_empty(world))
}

/// After the acknowledgement of a strict epoch, everything written before it has been compared and the queues are empty.
pub fn drained(migration: &Migration, world: &World, control: &ControlSpec, journal: &Journal) -> Gate {
    every_table(migration, |table| {
        let Some((task, report)) = incremental(world, table, control) else {
            return incremental_missing(world, table, control);
        };
        settled(table, report)
            .and_then(|| hindered(task).unwrap_or(Gate::Pass))
            .and_then(|| caught_up(table, report, journal))
    })
    .and_then(|| queue_empty(world))
}

fn caught_up(table: &str, report: &VerifyReport, journal: &Journal) -> Gate {
    let (Some(through), Some(acknowledged)) = (&report.verified_through, &journal.acked_at) else {
        return Gate::Hold(
            Reason::Draining,
            format!("the first window of table {table} is not done"),
        );
    };
    if report.queue > 0 {
        return Gate::Hold(
            Reason::QueueNotEmpty,
            format!("{} keys of table {table} are queued for repair", report.queue),
        );
    }
    // Canonical timestamps of one clock: text order is time order.
    if through < acknowledged {
        return Gate::Hold(
            Reason::Draining,
            format!(
                "table {table} is verified through {through}, and has to be past the acknowledgement at {acknowledged}"
            ),
        );
    }
    Gate::Pass
}

fn queue_empty(world: &World) -> Gate {
    let queue = watch(world)
        .and_then(Task::report)
        .map_or(0, |(report, _)| report.queue);
    if queue > 0 {
        Gate::Hold(Reason::QueueNotEmpty, format!("{queue} keys are queued for repair"))
    } else {
        Gate::Pass
    }
}

/// The report of the incremental verify of this very epoch.
pub fn incremental<'a>(world: &'a World, table: &str, control: &ControlSpec) -> Option<(&'a Task, &'a VerifyReport)> {
    let task = incremental_task(world, table, control)?;
    matches!(task.outcome(), Outcome::Open).then_some(())?;
    task.status.verify.as_ref().map(|report| (task, report))
}

fn incremental_task<'a>(world: &'a World, table: &str, control: &ControlSpec) -> Option<&'a Task> {
    newest(world, TaskKind::Verify, table, |task| {
        task.spec.scope == Some(VerifyScope::Incremental)
            && task.spec.epoch == control.epoch
            && task.spec.direction == Direction::from_base(control.mode.base())
    })
}

fn incremental_missing(world: &World, table: &str, control: &ControlSpec) -> Gate {
    match incremental_task(world, table, control) {
        None => Gate::Hold(
            Reason::Verifying,
            format!("the incremental verify of table {table} is to begin"),
        ),
        Some(task) => match task.outcome() {
            Outcome::Failed(reason, message, _) => Gate::Stop(Reason::Worker(reason), message),
            Outcome::Open | Outcome::Succeeded => hindered(task).unwrap_or_else(|| {
                Gate::Hold(
                    Reason::Verifying,
                    format!("the incremental verify of table {table} has not reported yet"),
                )
            }),
        },
    }
}

/// Whether a verify is evidence for the present base.
pub fn verify_counts(task: &Task, control: &ControlSpec, direction: Direction, scope: VerifyScope) -> bool {
    task.spec.scope == Some(scope)
        && task.spec.direction == direction
        && task.spec.epoch >= control.base_since
        && task.spec.round == control.round
}

fn every_table(migration: &Migration, gate: impl Fn(&str) -> Gate) -> Gate {
    // The one that cannot open by itself is told first.
    let mut first = Gate::Pass;
    for table in &migration.tables {
        match gate(&table.name) {
            stop @ Gate::Stop(..) => return stop,
            hold @ Gate::Hold(..) if first.passed() => first = hold,
            Gate::Pass | Gate::Hold(..) => {}
        }
    }
    first
}
