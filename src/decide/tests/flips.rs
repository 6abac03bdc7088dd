//! Flips that somebody holds up, undoes, or cannot acknowledge.

use super::{at, find, run};
use crate::api::phase::Phase;
use crate::api::task::{TaskKind, VerifyScope};
use crate::decide::decision::Action;
use crate::decide::gates::{self, Gate};
use crate::decide::sim::{Sim, Step, now};
use crate::decide::stance::Stance;
use crate::observe::world::Seen;
use crate::words::Side;

#[test]
fn the_copy_does_not_begin_while_an_instance_is_silent() {
    let mut sim = Sim::new(Phase::SourceFirst);
    run(&mut sim, |step| *step == Step::Read(1));
    assert!(sim.world.tasks.iter().all(|task| !task.is(TaskKind::Copy)));
    assert_eq!(sim.world.previous.phase, Some(Phase::SourceOnly));
    let waiting = sim.world.previous.waiting_for.clone().unwrap();
    assert!(waiting.contains("shop-1"), "{waiting}");
    sim.step(Step::TimePasses);
    sim.step(Step::Pass(None));
    assert_eq!(
        sim.condition("FlipAcknowledged"),
        ("False".to_owned(), "AcknowledgementTimeout".to_owned())
    );
    assert_eq!(sim.condition("Stalled").0, "True");
    // Lowered again, the open epoch is taken back.
    sim.step(Step::Desire(Phase::SourceOnly));
    sim.settle();
    assert_eq!(sim.condition("Ready").0, "True");
}

#[test]
fn a_silent_instance_ends_the_strict_epoch_before_the_swap_and_holds_it_after() {
    let mut sim = at(Phase::SourceFirst);
    sim.step(Step::Desire(Phase::TargetFirst));
    run(&mut sim, |step| *step == Step::Read(1));
    assert_eq!(sim.stance(), Stance::SourceFirstStrict);
    sim.step(Step::TimePasses);
    run(&mut sim, |step| *step == Step::Read(1));
    assert_eq!(sim.stance(), Stance::SourceFirst, "back to lenient");

    let mut sim = at(Phase::SourceFirst);
    sim.step(Step::Desire(Phase::TargetFirst));
    while sim.stance() != Stance::TargetFirstStrict {
        run_once(&mut sim);
    }
    run(&mut sim, |step| *step == Step::Read(1));
    sim.step(Step::TimePasses);
    run(&mut sim, |step| *step == Step::Read(1));
    assert_eq!(
        sim.stance(),
        Stance::TargetFirstStrict,
        "both sides carry every write: hold"
    );
    assert_eq!(sim.world.previous.phase, Some(Phase::SourceFirst));
}

#[test]
fn a_strict_epoch_that_does_not_drain_is_given_up_and_says_so() {
    let mut sim = at(Phase::SourceFirst);
    sim.step(Step::Desire(Phase::TargetFirst));
    let strict_verify = |sim: &Sim, step: &Step| {
        matches!(step, Step::Finish(n) if sim.world.tasks[*n].spec.scope == Some(VerifyScope::Incremental)
            && sim.world.tasks[*n].spec.epoch == 2)
    };
    for _ in 0..60 {
        for step in sim
            .steps()
            .into_iter()
            .filter(|step| !matches!(step, Step::Pass(Some(_))))
        {
            if matches!(step, Step::Finish(n) if n >= sim.world.tasks.len()) || strict_verify(&sim, &step) {
                continue;
            }
            sim.step(step);
        }
    }
    assert_eq!(sim.stance(), Stance::SourceFirstStrict);
    sim.step(Step::TimePasses);
    sim.step(Step::Pass(None));
    let given_up = sim.world.previous.flip.clone().unwrap().given_up.unwrap();
    assert!(given_up.contains("strictFor"), "{given_up}");
    sim.step(Step::Raise(Side::Source));
    sim.step(Step::Raise(Side::Target));
    assert_eq!(sim.stance(), Stance::SourceFirst);
}

#[test]
fn somebody_else_s_flip_is_put_back_and_closes_the_gates_but_never_wars() {
    let mut sim = at(Phase::SourceFirst);
    let mut writes = 0;
    for _ in 0..20 {
        sim.step(Step::Revert);
        writes += usize::from(
            sim.decide()
                .actions
                .iter()
                .any(|action| matches!(action, Action::WriteMode { .. })),
        );
        sim.step(Step::Pass(None));
    }
    assert_eq!(sim.condition("FlipReverted").0, "True");
    assert_eq!(writes, 5, "bounded per minute");
    sim.step(Step::TimePasses);
    sim.settle();
    assert_eq!(sim.mode_in_map()["write-mode"], "SRC_FIRST");
    sim.step(Step::TimePasses);
    sim.settle();
    assert_eq!(sim.condition("FlipReverted").0, "False");
}

#[test]
fn a_deleted_config_map_comes_back_with_the_present_epoch() {
    let mut sim = at(Phase::TargetFirst);
    sim.world.mode = Seen::Absent;
    sim.settle();
    assert_eq!(sim.mode_in_map()["epoch"], "4");
    assert_eq!(sim.mode_in_map()["write-mode"], "DST_FIRST");
}

#[test]
fn an_outage_during_a_flip_holds_it() {
    let mut sim = Sim::new(Phase::SourceFirst);
    run(&mut sim, |step| *step == Step::Read(1));
    sim.step(Step::Read(1));
    sim.outage = true;
    sim.step(Step::Finish(0));
    for _ in 0..5 {
        sim.step(Step::Pass(None));
    }
    assert_eq!(
        sim.source.as_ref().map(|row| row.min_epoch),
        Some(0),
        "what cannot be read is not acknowledged"
    );
    sim.outage = false;
    sim.settle();
    assert_eq!(sim.condition("Ready").0, "True");
}

#[test]
fn pods_that_are_gone_hold_until_their_lease_ran_out() {
    let mut sim = Sim::new(Phase::SourceFirst);
    run(&mut sim, |step| *step == Step::Read(1));
    let migration = sim.migration();
    let control = sim
        .world
        .tasks
        .iter()
        .find_map(|task| task.spec.control.clone())
        .unwrap();
    let mut report = find(&mut sim, TaskKind::Watch).status.watch.clone().unwrap();
    if let Seen::Known(pods) = &mut sim.world.pods {
        pods.remove(1);
    }
    let gate = |report: &crate::api::task::WatchReport| {
        gates::acknowledged(&migration, &sim.world, &control, report, None, now())
    };
    let Gate::Hold(_, why) = gate(&report) else {
        panic!("shop-1 may still write")
    };
    assert!(why.contains("gone"), "{why}");
    report.instances[1].seen_seconds_ago = 61;
    assert_eq!(gate(&report), Gate::Pass);
}

#[test]
fn no_pod_at_all_holds_with_a_remedy() {
    let mut sim = Sim::new(Phase::SourceFirst);
    sim.world.pods = Seen::Known(Vec::new());
    sim.settle();
    assert_eq!(sim.condition("Ready"), ("False".to_owned(), "NoPods".to_owned()));
}

fn run_once(sim: &mut Sim) {
    for step in [Step::Pass(None), Step::Raise(Side::Source), Step::Raise(Side::Target)] {
        sim.step(step);
        if sim.stance() == Stance::TargetFirstStrict {
            return;
        }
    }
    for step in sim
        .steps()
        .into_iter()
        .filter(|step| !matches!(step, Step::Pass(_) | Step::Raise(_)))
    {
        sim.step(step);
    }
}
