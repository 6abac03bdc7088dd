//! The ladder climbed and descended, held, suspended, left, and taken up again.

use super::at;
use super::run;
use crate::api::phase::Phase;
use crate::api::task::{Check, TaskKind, TaskPhase};
use crate::api::tuning::RollbackPolicy;
use crate::decide::decide;
use crate::decide::decision::Action;
use crate::decide::sim::{Sim, Step, now};
use crate::decide::stance::Stance;
use crate::observe::world::Seen;
use crate::status::{same, status};

#[test]
fn the_ladder_is_climbed_to_the_end_through_every_epoch() {
    let mut sim = Sim::new(Phase::Archived);
    sim.settle();
    assert_eq!(sim.condition("Ready"), ("False".to_owned(), "ArchiveHold".to_owned()));
    assert_eq!(
        sim.source.as_ref().map(|row| row.epoch),
        Some(5),
        "SRC_FIRST, strict, swap, DST_FIRST, DST_ONLY"
    );
    sim.step(Step::TimePasses);
    sim.settle();
    assert_eq!(sim.world.previous.phase, Some(Phase::Archived));
    assert_eq!(sim.condition("Ready"), ("True".to_owned(), "Holding".to_owned()));
    assert_eq!(sim.condition("Archived").0, "True");
}

#[test]
fn and_down_again_while_there_is_a_way() {
    let mut sim = at(Phase::TargetFirst);
    assert_eq!(sim.condition("RollbackReady").0, "True");
    sim.step(Step::Desire(Phase::SourceOnly));
    sim.settle();
    assert_eq!(sim.world.previous.phase, Some(Phase::SourceOnly));
    assert_eq!(sim.mode_in_map()["write-mode"], "SRC_ONLY");
    assert_eq!(sim.source.as_ref().map(|row| row.epoch), Some(8));
    let running: Vec<_> = sim
        .world
        .tasks
        .iter()
        .filter(|task| task.job != Seen::Absent)
        .map(|task| &task.name)
        .collect();
    assert!(
        running.iter().all(|name| name.contains("preflight")),
        "nothing works at rest: {running:?}"
    );
    assert_eq!(sim.decide().actions, [], "at rest nothing is written");
}

#[test]
fn holding_writes_nothing() {
    for desired in [
        Phase::SourceOnly,
        Phase::SourceFirst,
        Phase::TargetFirst,
        Phase::TargetOnly,
        Phase::Archived,
    ] {
        let sim = at(desired);
        let decision = sim.decide();
        assert_eq!(decision.actions, [], "{desired}");
        let again = status(&decision.account, &sim.world.previous, 4, now());
        assert!(
            same(&again, &sim.world.previous),
            "{desired}: the status is not written again"
        );
        assert_eq!(sim.condition("Ready").0, "True", "{desired}");
        assert_eq!(sim.condition("Stalled").0, "False", "{desired}");
    }
}

#[test]
fn there_is_no_way_back_from_target_only() {
    let mut sim = at(Phase::TargetOnly);
    sim.step(Step::Desire(Phase::SourceFirst));
    sim.settle();
    assert_eq!(sim.world.previous.phase, Some(Phase::TargetOnly));
    assert_eq!(sim.condition("Stalled"), ("True".to_owned(), "NoWayBack".to_owned()));
}

#[test]
fn suspension_stops_work_and_leaves_strict_epochs() {
    let mut sim = at(Phase::SourceFirst);
    sim.step(Step::Suspend(true));
    sim.settle();
    for task in sim
        .world
        .tasks
        .iter()
        .filter(|task| matches!(task.spec.kind, TaskKind::Copy | TaskKind::Verify))
    {
        let open = task.status.phase != TaskPhase::Succeeded;
        assert!(
            !open || matches!(&task.job, Seen::Known(job) if job.suspended),
            "{}",
            task.name
        );
    }
    sim.step(Step::Desire(Phase::TargetFirst));
    sim.settle();
    assert_eq!(sim.stance(), Stance::SourceFirst, "no new way is begun");
    sim.step(Step::Suspend(false));
    sim.settle();
    assert_eq!(sim.world.previous.phase, Some(Phase::TargetFirst));
}

#[test]
fn deletion_leaves_the_application_with_a_database() {
    let mut sim = at(Phase::SourceFirst);
    sim.step(Step::Delete);
    sim.settle();
    assert!(sim.gone);
    assert_eq!(sim.mode_in_map()["write-mode"], "SRC_ONLY");

    for (phase, mode) in [(Phase::TargetFirst, "DST_FIRST"), (Phase::TargetOnly, "DST_ONLY")] {
        let mut sim = at(phase);
        sim.step(Step::Delete);
        sim.settle();
        assert!(sim.gone);
        assert_eq!(sim.mode_in_map()["write-mode"], mode);
    }
}

#[test]
fn deletion_is_bounded_when_nothing_answers() {
    let mut sim = at(Phase::SourceFirst);
    sim.step(Step::Delete);
    run(&mut sim, |step| matches!(step, Step::Raise(_)));
    assert!(!sim.gone);
    sim.step(Step::TimePasses);
    sim.step(Step::Pass(None));
    assert!(sim.gone);
    assert_eq!(sim.mode_in_map()["write-mode"], "SRC_FIRST", "kept");
}

#[test]
fn a_resource_created_anew_goes_on_from_the_journal() {
    let mut before = at(Phase::TargetFirst);
    before.step(Step::Delete);
    before.settle();
    let mut sim = Sim::new(Phase::Archived);
    (sim.source, sim.target, sim.shops) = (before.source.clone(), before.target.clone(), before.shops.clone());
    sim.world.mode = before.world.mode.clone();
    for _ in 0..4 {
        sim.step(Step::Pass(None));
        if let Some(preflight) = sim.world.tasks.iter_mut().find(|task| task.is(TaskKind::Preflight)) {
            preflight.status.phase = TaskPhase::Succeeded;
            preflight.status.journal = before.source.clone();
        }
    }
    assert_eq!(sim.source, before.source, "nothing was begun anew");
    sim.settle();
    assert_eq!(
        sim.condition("Ready").1,
        "ArchiveHold",
        "through every gate, from where it was"
    );
}

#[test]
fn without_a_way_back_the_target_is_not_entered_unless_none_is_owed() {
    let mut sim = at(Phase::SourceFirst);
    let preflight = sim
        .world
        .tasks
        .iter_mut()
        .find(|task| task.is(TaskKind::Preflight))
        .unwrap();
    preflight.status.checks.push(Check {
        name: "Way back orders".to_owned(),
        ok: true,
        reason: "NotReversible".to_owned(),
        message: "orders.amount came back changed".to_owned(),
    });
    sim.settle();
    assert_eq!(sim.condition("Stalled").0, "False", "SourceFirst holds");
    sim.step(Step::Desire(Phase::TargetFirst));
    sim.settle();
    sim.step(Step::TimePasses);
    sim.settle();
    assert_eq!(sim.world.previous.phase, Some(Phase::SourceFirst));
    assert_eq!(sim.stance(), Stance::SourceFirst);
    for (kind, truth) in [("RollbackReady", "False"), ("Stalled", "True")] {
        assert_eq!(sim.condition(kind), (truth.to_owned(), "NotReversible".to_owned()));
    }
    let strict = |action: &Action| match action {
        Action::SetControl { control, .. } => {
            Stance::of(control.mode, control.secondary) == Some(Stance::SourceFirstStrict)
        }
        _ => false,
    };
    assert!(!sim.decide().actions.iter().any(strict));
    let mut migration = sim.migration();
    migration.rollback = RollbackPolicy::None;
    assert!(decide(&migration, &sim.world, now()).actions.iter().any(strict));
}
