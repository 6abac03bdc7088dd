//! Single decisions: each gate held and open, each way a flip can go wrong, names and back-off, deletion.

use serde_json::json;

use super::decision::Action;
use super::gates::{self, Gate};
use super::sim::{Sim, Step, now};
use super::stance::Stance;
use super::tasks;
use crate::api::conditions::Reason;
use crate::api::phase::Phase;
use crate::api::task::{MigrationTaskSpec, TaskKind, TaskPhase, VerifyScope};
use crate::observe::world::{Conflict, Job, Seen};
use crate::status::{same, status};
use crate::words::{Direction, Side};

fn at(desired: Phase) -> Sim {
    let mut sim = Sim::new(desired);
    sim.settle();
    if sim.world.previous.phase != Some(desired) {
        sim.step(Step::TimePasses);
        sim.settle();
    }
    assert_eq!(sim.world.previous.phase, Some(desired), "{:#?}", sim.world.previous);
    sim
}

/// Everything moves but the named steps.
fn run(sim: &mut Sim, without: impl Fn(&Step) -> bool) {
    for _ in 0..60 {
        for step in sim
            .steps()
            .into_iter()
            .filter(|step| !matches!(step, Step::Pass(Some(_))) && !without(step))
        {
            sim.step(step);
        }
    }
}

fn find(sim: &mut Sim, kind: TaskKind) -> &mut crate::observe::world::Task {
    sim.world.tasks.iter_mut().find(|task| task.is(kind)).unwrap()
}

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
fn a_failed_preflight_stops_at_the_foot_and_is_tried_again() {
    let mut sim = Sim::new(Phase::SourceFirst);
    sim.step(Step::Pass(None));
    sim.step(Step::Pass(None));
    let preflight = find(&mut sim, TaskKind::Preflight);
    preflight.status.phase = TaskPhase::Failed;
    preflight.status.finished_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    preflight.status.checks = serde_json::from_value(json!([
        {"name": "version", "ok": false, "reason": "MissingColumn", "message": "table orders has no column updated_at"}
    ]))
    .unwrap();
    sim.settle();
    assert_eq!(
        sim.condition("SchemaCompatible"),
        ("False".to_owned(), "MissingColumn".to_owned())
    );
    assert_eq!(sim.condition("Ready"), ("False".to_owned(), "MissingColumn".to_owned()));
    assert_eq!(sim.condition("Stalled").0, "True");
    assert!(sim.world.tasks.iter().all(|task| task.is(TaskKind::Preflight)));
    sim.step(Step::TimePasses);
    sim.settle();
    assert_eq!(sim.condition("Ready").0, "True", "the second attempt passed");
}

#[test]
fn a_worker_that_cannot_start_is_named() {
    let mut sim = Sim::new(Phase::SourceFirst);
    sim.step(Step::Pass(None));
    sim.step(Step::Pass(None));
    let trouble = Some(("ErrImageNeverPull".to_owned(), "the image is not there".to_owned()));
    let job = Job {
        suspended: false,
        deleting: false,
        complete: false,
        failed: None,
        trouble,
    };
    find(&mut sim, TaskKind::Preflight).job = Seen::Known(job);
    sim.step(Step::Pass(None));
    assert_eq!(
        sim.condition("Ready"),
        ("False".to_owned(), "WorkerNotStarting".to_owned())
    );
    assert!(
        sim.world
            .previous
            .waiting_for
            .clone()
            .unwrap()
            .contains("ErrImageNeverPull")
    );
}

#[test]
fn the_younger_of_two_migrations_does_nothing() {
    let mut sim = Sim::new(Phase::SourceFirst);
    sim.world.conflict = Some(Conflict::Table {
        table: "orders".to_owned(),
        other: "older".to_owned(),
    });
    sim.settle();
    assert!(sim.world.tasks.is_empty());
    assert_eq!(
        sim.condition("Stalled"),
        ("True".to_owned(), "TableConflict".to_owned())
    );
    assert!(sim.world.previous.waiting_for.clone().unwrap().contains("older"));
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
fn a_journal_that_goes_back_stops_everything() {
    let mut sim = at(Phase::SourceFirst);
    sim.step(Step::Desire(Phase::TargetFirst));
    sim.settle();
    let row = sim.target.as_mut().unwrap();
    (row.epoch, row.min_epoch) = (1, 1);
    sim.step(Step::Read(0));
    sim.step(Step::Pass(None));
    assert_eq!(
        sim.condition("Stalled"),
        ("True".to_owned(), "JournalUnexpected".to_owned())
    );
}

#[test]
fn a_database_that_cannot_be_read_undoes_nothing() {
    for desired in [Phase::SourceFirst, Phase::TargetFirst, Phase::TargetOnly] {
        let mut sim = at(desired);
        let before = sim.world.tasks.clone();
        sim.outage = true;
        sim.step(Step::Desire(Phase::Archived));
        for _ in 0..5 {
            sim.step(Step::Pass(None));
        }
        let names =
            |tasks: &[crate::observe::world::Task]| tasks.iter().map(|task| task.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&sim.world.tasks), names(&before));
        assert_eq!(sim.world.previous.phase, Some(desired));
        assert_eq!(
            sim.condition("Ready"),
            ("False".to_owned(), "DatabaseProblem".to_owned())
        );
        assert_eq!(sim.condition("CopyComplete").0, "True", "what was proved stands");
        // Neither does one that is read again, in whatever order the parts wake up.
        sim.outage = false;
        sim.step(Step::Desire(desired));
        sim.settle();
        assert_eq!(sim.condition("Ready").0, "True");
    }
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

#[test]
fn a_worker_s_own_reason_is_shown_and_its_work_tried_again() {
    let mut sim = Sim::new(Phase::SourceFirst);
    run(&mut sim, |step| matches!(step, Step::Finish(n) if *n >= 2));
    let copy = find(&mut sim, TaskKind::Copy);
    copy.status.phase = TaskPhase::Failed;
    copy.status.reason = Some("DiskFull".to_owned());
    copy.status.message = Some("target/main: no space left".to_owned());
    copy.status.finished_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    sim.step(Step::Pass(None));
    assert_eq!(
        sim.condition("CopyComplete"),
        ("False".to_owned(), "DiskFull".to_owned())
    );
    assert_eq!(sim.condition("Stalled").0, "True");
    sim.step(Step::TimePasses);
    sim.settle();
    assert_eq!(sim.condition("CopyComplete").0, "True");
    let names: Vec<_> = sim
        .world
        .tasks
        .iter()
        .filter(|task| task.is(TaskKind::Copy))
        .map(|task| task.name.as_str())
        .collect();
    assert_eq!(names, ["orders-copy-orders-r1e1-a1"]);
}

#[test]
fn names_say_what_the_work_is_and_fit_into_a_label() {
    let mut spec = MigrationTaskSpec {
        migration: "orders".to_owned(),
        kind: TaskKind::Verify,
        table: Some("orders".to_owned()),
        scope: Some(VerifyScope::Full),
        direction: Direction::Forward,
        epoch: 3,
        round: 1,
        generation: 4,
        control: None,
    };
    assert_eq!(tasks::name(&spec, ""), "orders-verify-full-orders-r1e3");
    spec.table = Some("Order_Lines".to_owned());
    let first = tasks::name(&spec, "");
    spec.table = Some("order_lines".to_owned());
    assert_ne!(first, tasks::name(&spec, ""), "names that only look alike stay apart");
    spec.table = Some("a".repeat(63));
    let long = tasks::name(&spec, "");
    assert!(
        long.len() <= 57
            && long
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
        "{long}"
    );
}

#[test]
fn gates_chain_and_the_first_closed_one_speaks() {
    let hold = || Gate::Hold(Reason::Copying, "a".to_owned());
    assert_eq!(Gate::Pass.and_then(hold), hold());
    assert_eq!(hold().and_then(|| panic!("not asked")), hold());
}
