//! `Throttled`: what holds background work back, as its workers say it. Nobody waits for it: a slow copy is no error.

use crate::api::conditions::{ConditionType, Reason};
use crate::api::phase::Phase;
use crate::api::task::{TaskKind, ThrottleReport, VerifyScope};
use crate::decide::decision::{Finding, Truth};
use crate::observe::world::{Outcome, Seen, Task, World};

/// What a task's worker is held back by. A worker that does not run is not.
pub fn throttle(task: &Task) -> Option<&ThrottleReport> {
    let runs = matches!(&task.job, Seen::Known(job) if !job.suspended && !job.deleting);
    let open = !task.deleting && task.outcome() == Outcome::Open;
    task.status.throttle.as_ref().filter(|_| runs && open)
}

/// The condition: what most tasks have in common is said once, with the tasks before it.
pub fn throttled(world: &World, rung: Phase) -> Option<Finding> {
    let mut held: Vec<(&ThrottleReport, Vec<String>)> = Vec::new();
    for task in &world.tasks {
        let Some(report) = throttle(task) else { continue };
        match held.iter_mut().find(|(known, _)| known.message == report.message) {
            Some((_, tasks)) => tasks.push(words(task)),
            None => held.push((report, vec![words(task)])),
        }
    }
    let finding = |truth, reason, message| Finding {
        kind: ConditionType::Throttled,
        truth,
        reason,
        message,
    };
    let Some((first, _)) = held.first() else {
        let text = "no limit holds background work back".to_owned();
        return (rung != Phase::SourceOnly).then(|| finding(Truth::False, Reason::NotThrottled, text));
    };
    let reason = Reason::Worker(first.reason.clone());
    let message = held
        .iter()
        .map(|(report, tasks)| format!("{}: {}", tasks.join(", "), report.message))
        .collect::<Vec<_>>()
        .join("; ");
    Some(finding(Truth::True, reason, message))
}

fn words(task: &Task) -> String {
    let what = match (task.spec.kind, task.spec.scope) {
        (TaskKind::Copy, _) => "copy",
        (TaskKind::Verify, Some(VerifyScope::Full)) => "full verify",
        (TaskKind::Verify, _) => "incremental verify",
        (TaskKind::Archive, _) => "archive",
        (TaskKind::Preflight | TaskKind::Watch | TaskKind::Fence, _) => "work",
    };
    match &task.spec.table {
        Some(table) => format!("{what} of table {table}"),
        None => what.to_owned(),
    }
}
