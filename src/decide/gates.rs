//! Gates: one small function each, from facts to Pass, Hold or Stop, with a reason for machines and a sentence for
//! people. A gate that is not open yet is no error; one that only somebody's act can open is a Stop.

use jiff::Timestamp;
use std::time::Duration;

use crate::api::conditions::Reason;
use crate::api::migration::{Acknowledge, Migration};
use crate::api::task::{Check, ControlSpec, Instance, Journal, TaskKind, VerifyReport, VerifyScope, WatchReport};
use crate::observe::world::{Outcome, Pod, Seen, Task, World};
use crate::words::{Direction, SecondaryWrites};

/// An instance that has not been heard of for this long is gone: its lease and its sessions have run out.
pub const GONE_AFTER_SECONDS: i64 = 60;
/// Incremental evidence older than this says nothing about now.
pub const EVIDENCE_AGE: Duration = Duration::from_mins(12);

/// The verdict of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    Pass,
    Hold(Reason, String),
    /// Will not open by itself.
    Stop(Reason, String),
}

impl Gate {
    pub const fn passed(&self) -> bool {
        matches!(self, Self::Pass)
    }

    /// This gate, and when it is open the next one.
    #[must_use]
    pub fn and_then(self, next: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Pass => next(),
            closed => closed,
        }
    }
}

/// Nothing else uses the same table or the same ConfigMap.
pub fn alone(world: &World) -> Gate {
    use crate::observe::world::Conflict;
    match &world.conflict {
        None => Gate::Pass,
        Some(Conflict::Table { table, other }) => Gate::Stop(
            Reason::TableConflict,
            format!(
                "table {table} of this source is already moved by DataMigration {other}, which is older; remove the table from one of the two"
            ),
        ),
        Some(Conflict::ConfigMap { name, other }) => Gate::Stop(
            Reason::ConfigMapConflict,
            format!(
                "ConfigMap {name} is already flipped by DataMigration {other}, which is older; give this migration a ConfigMap of its own"
            ),
        ),
    }
}

/// Preflight of this very manifest found nothing in the way.
pub fn preflight(task: Option<&Task>) -> Gate {
    let Some(task) = task else {
        return Gate::Hold(
            Reason::PreflightRunning,
            "databases, privileges, tables and columns are to be checked".to_owned(),
        );
    };
    match task.outcome() {
        Outcome::Succeeded => Gate::Pass,
        Outcome::Open => hindered(task).unwrap_or_else(|| {
            Gate::Hold(
                Reason::PreflightRunning,
                "databases, privileges, tables and columns are being checked".to_owned(),
            )
        }),
        Outcome::Failed(reason, message, _) => {
            let failed: Vec<&Check> = task.status.checks.iter().filter(|check| !check.ok).collect();
            match failed.first() {
                None => Gate::Stop(Reason::Worker(reason), message),
                Some(first) => Gate::Stop(
                    Reason::Worker(if first.reason.is_empty() {
                        reason
                    } else {
                        first.reason.clone()
                    }),
                    failed
                        .iter()
                        .map(|check| check.message.as_str())
                        .collect::<Vec<_>>()
                        .join("; "),
                ),
            }
        }
    }
}

/// What keeps an open task from going on, and somebody has to know: its pod does not start, or its worker says so.
pub fn hindered(task: &Task) -> Option<Gate> {
    if let Some((reason, message)) = task.job.known().and_then(|job| job.trouble.as_ref()) {
        let text = format!("the worker of task {} does not start ({reason}): {message}", task.name);
        return Some(Gate::Hold(Reason::WorkerNotStarting, text));
    }
    let (reason, message) = task.status.reason.as_ref().zip(task.status.message.as_ref())?;
    Some(Gate::Hold(Reason::Worker(reason.clone()), message.clone()))
}

/// Every instance works in this epoch or is gone.
pub fn acknowledged(
    migration: &Migration,
    world: &World,
    control: &ControlSpec,
    report: &WatchReport,
    configured_at: Option<Timestamp>,
    now: Timestamp,
) -> Gate {
    match &migration.application.acknowledge {
        Acknowledge::Delay { delay, .. } => {
            let passed = configured_at.map_or(Duration::ZERO, |since| elapsed(since, now));
            if configured_at.is_some() && passed >= *delay {
                Gate::Pass
            } else {
                Gate::Hold(
                    Reason::AwaitingAcknowledgement,
                    format!(
                        "epoch {} counts as acknowledged {} after the ConfigMap showed it",
                        control.epoch,
                        human(*delay)
                    ),
                )
            }
        }
        // Rows that cannot be read may be those of an instance that still writes.
        Acknowledge::Instances { .. } if report.problem.is_some() => {
            let problem = report.problem.clone().unwrap_or_default();
            Gate::Hold(
                Reason::DatabaseProblem,
                format!("acknowledgements cannot be read: {problem}"),
            )
        }
        Acknowledge::Instances { .. } => match &world.pods {
            Seen::Absent => Gate::Hold(
                Reason::AwaitingAcknowledgement,
                "the application's pods have not been listed".to_owned(),
            ),
            Seen::Unknown(why) => Gate::Hold(
                Reason::AwaitingAcknowledgement,
                format!("the application's pods cannot be listed: {why}"),
            ),
            Seen::Known(pods) => by_instances(control, report, pods),
        },
    }
}

fn by_instances(control: &ControlSpec, report: &WatchReport, pods: &[Pod]) -> Gate {
    let running: Vec<&Pod> = pods.iter().filter(|pod| !pod.finished).collect();
    if running.is_empty() {
        return Gate::Hold(
            Reason::NoPods,
            "no pod matches spec.application.acknowledge.selector; start the application, correct the selector, or use \
             by: Delay"
                .to_owned(),
        );
    }
    let follows = |row: &Instance| {
        row.epoch >= control.epoch
            && (row.epoch > control.epoch || row.mode.is_none_or(|mode| mode == control.mode))
            && (row.epoch > control.epoch
                || control.secondary == SecondaryWrites::Lenient
                || row
                    .secondary_writes
                    .is_none_or(|secondary| secondary == control.secondary))
    };
    let mut silent = Vec::new();
    for pod in &running {
        let rows: Vec<&Instance> = report.instances.iter().filter(|row| row.pod_uid == pod.uid).collect();
        // A process that died inside a living pod leaves a row that only time removes.
        let living: Vec<&&Instance> = rows
            .iter()
            .filter(|row| row.seen_seconds_ago <= GONE_AFTER_SECONDS)
            .collect();
        if rows.is_empty() {
            silent.push(format!("pod {} has never reported", pod.name));
        } else if living.is_empty() {
            silent.push(format!(
                "pod {} has not been heard of for over {GONE_AFTER_SECONDS} s",
                pod.name
            ));
        } else if let Some(behind) = living.iter().find(|row| !follows(row)) {
            silent.push(format!("pod {} is at {}", pod.name, place(behind)));
        }
    }
    for row in &report.instances {
        let gone = !pods.iter().any(|pod| pod.uid == row.pod_uid && !pod.finished);
        if gone && !follows(row) && row.seen_seconds_ago <= GONE_AFTER_SECONDS {
            silent.push(format!(
                "pod {} is gone, but was heard of {} s ago at epoch {}",
                row.pod, row.seen_seconds_ago, row.epoch
            ));
        }
    }
    if silent.is_empty() {
        Gate::Pass
    } else {
        Gate::Hold(
            Reason::AwaitingAcknowledgement,
            format!("epoch {} is not acknowledged: {}", control.epoch, list(&silent)),
        )
    }
}

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
                    Gate::Hold(Reason::Copying, format!("table {table} is being copied{text}"))
                }),
            },
        }
    })
}

/// A full verify that counts for the present base ended with nothing outstanding, for every table.
pub fn fully_verified(migration: &Migration, world: &World, control: &ControlSpec, direction: Direction) -> Gate {
    every_table(migration, |table| {
        let counts = |task: &Task| verify_counts(task, control, direction, VerifyScope::Full);
        match newest(world, TaskKind::Verify, table, counts) {
            None => Gate::Hold(
                Reason::Verifying,
                format!("the full verify of table {table} is to begin"),
            ),
            Some(task) => match task.outcome() {
                Outcome::Failed(reason, message, _) => Gate::Stop(Reason::Worker(reason), message),
                Outcome::Succeeded => {
                    let report = task.status.verify.clone().unwrap_or_default();
                    settled(table, &report)
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
                        format!("table {table} is being verified in full{text}"),
                    )
                }),
            },
        }
    })
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

/// The latest attempt of a piece of work.
pub fn newest<'a>(world: &'a World, kind: TaskKind, table: &str, counts: impl Fn(&Task) -> bool) -> Option<&'a Task> {
    let mine =
        |task: &&Task| task.is(kind) && !task.deleting && task.spec.table.as_deref() == Some(table) && counts(task);
    // Evidence that succeeded is not undone by a later attempt.
    let done = world
        .tasks
        .iter()
        .filter(mine)
        .find(|task| task.outcome() == Outcome::Succeeded);
    done.or_else(|| {
        world
            .tasks
            .iter()
            .filter(mine)
            .max_by_key(|task| (task.spec.epoch, task.attempt))
    })
}

/// The migration's Watch.
pub fn watch(world: &World) -> Option<&Task> {
    world
        .tasks
        .iter()
        .filter(|task| task.is(TaskKind::Watch) && !task.deleting)
        .max_by_key(|task| task.attempt)
}

pub fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(since).try_into().unwrap_or(Duration::ZERO)
}

/// A duration as people write it.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let text: Vec<String> = parts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect();
    let text = text.concat();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Where an instance is.
fn place(row: &Instance) -> String {
    let mode = row.mode.map_or_else(String::new, |mode| format!(" ({mode})"));
    format!("epoch {}{mode}", row.epoch)
}

/// At most five of a list; the rest counted.
fn list(items: &[String]) -> String {
    const SHOWN: usize = 5;
    let text = items
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    match items.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text}, and {more} more"),
    }
}
