//! The full verifies of a table: the one that a gate asks for, and those that `verify.full` asks for again and again. A
//! later one replaces an earlier one once it has something to say: until then the earlier one's word stands.

use jiff::Timestamp;
use std::collections::BTreeSet;

use super::{Gate, newest, verify_counts};
use crate::api::conditions::Reason;
use crate::api::migration::Migration;
use crate::api::task::{ControlSpec, TaskKind, VerifyReport, VerifyScope};
use crate::observe::world::{Outcome, Task, World};
use crate::words::Direction;

/// The moment at which the schedule asked for it; `None`: a gate did.
fn due(task: &Task) -> Option<Timestamp> {
    task.spec.due.as_ref().map(|due| due.0)
}

/// The full verify whose word counts for the present base, whatever it is.
pub fn full<'a>(world: &'a World, table: &str, control: &ControlSpec, direction: Direction) -> Option<&'a Task> {
    let counts = |task: &Task| verify_counts(task, control, direction, VerifyScope::Full);
    dues(world, table, &counts)
        .into_iter()
        .rev()
        .filter_map(|moment| {
            newest(world, TaskKind::Verify, table, |task| {
                counts(task) && due(task) == moment
            })
        })
        .find(|task| says(task))
        .or_else(|| newest(world, TaskKind::Verify, table, counts))
}

fn dues(world: &World, table: &str, counts: &impl Fn(&Task) -> bool) -> BTreeSet<Option<Timestamp>> {
    world
        .tasks
        .iter()
        .filter(|task| task.is(TaskKind::Verify) && !task.deleting && task.spec.table.as_deref() == Some(table))
        .filter(|task| counts(task))
        .map(due)
        .collect()
}

/// Whether a verify takes the word from an earlier one: it found the sides equal, or found what is not settled. One that
/// did not come to an end says nothing, unless it is tried again: what the attempt before it found has gone with it.
fn says(task: &Task) -> bool {
    let again = task.attempt > 0;
    let found = || {
        let report = task.status.verify.as_ref();
        report.is_some_and(|report| report.outstanding > 0 || report.deletes_held > 0)
    };
    match task.outcome() {
        Outcome::Succeeded => true,
        Outcome::Failed(..) => again || due(task).is_none() || found(),
        Outcome::Open => again || due(task).is_none(),
    }
}

/// What has to be done about the full verify of a table.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One for the gate, or once more the one that was due then.
    Now(Option<Timestamp>),
    /// The schedule's next moment, where there is one.
    At(Option<Timestamp>),
}

/// Which full verify a table needs now. A moment of the schedule that passed while another was at work, or nobody was
/// there, calls for one verify, however many passed.
pub fn wanted(
    migration: &Migration,
    world: &World,
    table: &str,
    control: &ControlSpec,
    direction: Direction,
    now: Timestamp,
) -> Wanted {
    let Some(task) = full(world, table, control, direction) else {
        return Wanted::Now(None);
    };
    if task.outcome() != Outcome::Succeeded {
        return Wanted::Now(due(task));
    }
    let Some(schedule) = &migration.verify.full else {
        return Wanted::At(None);
    };
    let counts = |task: &Task| verify_counts(task, control, direction, VerifyScope::Full);
    let begun = dues(world, table, &counts).pop_last().flatten();
    if begun > due(task) {
        return Wanted::Now(begun);
    }
    let began = task.status.started_at.as_ref().map(|at| at.0).or(task.created);
    let after = due(task).max(began).unwrap_or(now);
    match schedule.next(after) {
        Some(moment) if moment <= now => Wanted::Now(Some(moment)),
        next => Wanted::At(next),
    }
}

/// Whether a later full verify of the same table has succeeded, so that this one is no longer needed.
pub fn superseded(world: &World, task: &Task, control: &ControlSpec, direction: Direction) -> bool {
    task.spec.scope == Some(VerifyScope::Full)
        && world.tasks.iter().any(|other| {
            other.is(TaskKind::Verify)
                && !other.deleting
                && other.spec.table == task.spec.table
                && verify_counts(other, control, direction, VerifyScope::Full)
                && due(other) > due(task)
                && other.outcome() == Outcome::Succeeded
        })
}

/// Rows that a full verify buried hold the gate until the incremental verify, which goes on trying them, has none left.
pub fn unburied(task: &Task, report: &VerifyReport, incremental: Option<(&Task, &VerifyReport)>, epoch: i64) -> Gate {
    if report.dead_letters == 0 {
        return Gate::Pass;
    }
    let ended = task.status.finished_at.as_ref().map(|at| at.0);
    let none_left = match incremental {
        Some((later, now)) => now.dead_letters == 0 && later.status.reported_at.as_ref().map(|at| at.0) > ended,
        // In a later epoch its own gates wait for its first report.
        None => task.spec.epoch != epoch,
    };
    if none_left {
        return Gate::Pass;
    }
    Gate::Hold(
        Reason::DeadLetters,
        format!(
            "{} rows of table {} were not taken by the follower in several attempts; each is in _datamigration_dead_letters of the \
             base with the database's reason: correct the rows or the follower's column, and they are repaired when they are \
             tried again",
            incremental.map_or(report.dead_letters, |(_, now)| now.dead_letters.max(1)),
            task.spec.table.as_deref().unwrap_or_default()
        ),
    )
}
