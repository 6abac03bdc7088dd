//! Gates: one small function each, from facts to Pass, Hold or Stop, with a reason for machines and a sentence for
//! people. A gate that is not open yet is no error; one that only somebody's act can open is a Stop.

mod acknowledge;
mod evidence;
pub mod full;

use jiff::Timestamp;
use std::time::Duration;

use crate::api::conditions::Reason;
use crate::api::migration::Migration;
use crate::api::task::{Check, TaskKind};
use crate::api::tuning::RollbackPolicy;
use crate::observe::world::{Outcome, Task, World};

pub use acknowledge::{GONE_AFTER_SECONDS, acknowledged};
pub use evidence::{EVIDENCE_AGE, clean, copied, drained, fully_verified, incremental, verify_counts};

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

/// What the target holds can be carried back to the source, as preflight has tried; not asked where no way back is owed.
pub fn reversible(migration: &Migration, preflight: Option<&Task>) -> Gate {
    if migration.rollback == RollbackPolicy::None {
        return Gate::Pass;
    }
    let lost: Vec<&str> = preflight
        .into_iter()
        .flat_map(|task| &task.status.checks)
        .filter(|check| check.reason == Reason::NotReversible.as_str())
        .map(|check| check.message.as_str())
        .collect();
    if lost.is_empty() {
        Gate::Pass
    } else {
        Gate::Stop(Reason::NotReversible, lost.join("; "))
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
