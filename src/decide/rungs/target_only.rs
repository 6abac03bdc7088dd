//! `TargetOnly`. Enters when: every instance acknowledged DST_ONLY. Does: fences the source; then, if asked, holds and
//! archives. Leaves when: the archive is complete. Goes back to: nothing, the source is no longer kept in step.

use super::{Plan, Rung};
use crate::api::conditions::Reason;
use crate::api::phase::{Phase, Step};
use crate::api::task::TaskKind;
use crate::decide::gates::{self, Gate};
use crate::observe::world::{Outcome, Task, World};

pub fn plan(rung: &Rung) -> Plan {
    let mut work = vec![rung.work(TaskKind::Fence, None, None)];
    if let Some(stop) = no_way_back(Phase::TargetOnly, rung.desired) {
        return Plan::hold(work, stop);
    }
    if rung.desired == Phase::TargetOnly || rung.suspended {
        return Plan::hold(work, fenced(rung.world));
    }
    let due = fenced(rung.world).and_then(|| held(rung));
    if due.passed() {
        work.push(rung.work(TaskKind::Archive, None, None));
    }
    Plan::hold(work, due.and_then(|| archived(rung.world)))
}

/// The gate that a lower rung will never open.
pub fn no_way_back(at: Phase, desired: Phase) -> Option<Gate> {
    match at.towards(desired) {
        Step::Never(why) => Some(Gate::Stop(
            Reason::NoWayBack,
            format!("spec.phase is {desired}, but {why}; set it to {at} or above"),
        )),
        Step::Stay | Step::Up(_) | Step::Down(_) => None,
    }
}

/// The source's tables refuse writes.
pub fn fenced(world: &World) -> Gate {
    match the(world, TaskKind::Fence) {
        None => Gate::Hold(Reason::Fencing, "the source's tables are to be fenced".to_owned()),
        Some(task) => ended(task, Reason::Fencing, "the source's tables are being fenced"),
    }
}

/// The archive has been written, read back, compared.
pub fn archived(world: &World) -> Gate {
    match the(world, TaskKind::Archive) {
        None => Gate::Hold(Reason::Archiving, "the archive is to begin".to_owned()),
        Some(task) => ended(task, Reason::Archiving, "the source's tables are being archived"),
    }
}

fn held(rung: &Rung) -> Gate {
    let Some(archive) = &rung.migration.archive else {
        return Gate::Stop(
            Reason::ArchiveNotConfigured,
            "spec.archive is missing; say where to archive to".to_owned(),
        );
    };
    let since = the(rung.world, TaskKind::Fence).and_then(|task| task.status.finished_at.as_ref());
    let held = since.map_or(std::time::Duration::ZERO, |at| gates::elapsed(at.0, rung.now));
    if held >= archive.hold {
        Gate::Pass
    } else {
        Gate::Hold(
            Reason::ArchiveHold,
            format!(
                "the source is kept as it is for {} of {} (spec.archive.hold)",
                gates::human(held),
                gates::human(archive.hold)
            ),
        )
    }
}

/// When the hold ends, for the next look.
pub fn hold_left(rung: &Rung) -> Option<std::time::Duration> {
    let since = the(rung.world, TaskKind::Fence)?.status.finished_at.as_ref()?.0;
    rung.migration
        .archive
        .as_ref()?
        .hold
        .checked_sub(gates::elapsed(since, rung.now))
}

pub fn the(world: &World, kind: TaskKind) -> Option<&Task> {
    let mine = || world.tasks.iter().filter(move |task| task.is(kind) && !task.deleting);
    mine()
        .find(|task| task.outcome() == Outcome::Succeeded)
        .or_else(|| mine().max_by_key(|task| task.attempt))
}

fn ended(task: &Task, reason: Reason, doing: &str) -> Gate {
    match task.outcome() {
        Outcome::Succeeded => Gate::Pass,
        Outcome::Failed(word, message, _) => Gate::Stop(Reason::Worker(word), message),
        Outcome::Open => gates::hindered(task).unwrap_or_else(|| Gate::Hold(reason, doing.to_owned())),
    }
}
