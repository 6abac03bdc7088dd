//! What stands in the way, each named, none of it undoing what was proved.

use serde_json::json;

use super::{at, find, run};
use crate::api::phase::Phase;
use crate::api::task::{TaskKind, TaskPhase};
use crate::decide::sim::{Sim, Step, now};
use crate::observe::world::{Conflict, Job, Seen};

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
fn rows_that_cannot_be_carried_are_counted_and_hold_the_gate() {
    let mut sim = Sim::new(Phase::TargetFirst);
    run(&mut sim, |step| matches!(step, Step::Finish(n) if *n >= 2));
    let copy = find(&mut sim, TaskKind::Copy);
    copy.status.phase = TaskPhase::Failed;
    copy.status.reason = Some("RowsRejected".to_owned());
    copy.status.message = Some("table orders: 3 rows cannot be put into the follower".to_owned());
    copy.status.finished_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    copy.status.progress.get_or_insert_default().rejects = 3;
    sim.step(Step::Pass(None));
    assert_eq!(
        sim.condition("CopyComplete"),
        ("False".to_owned(), "RowsRejected".to_owned())
    );
    assert_eq!(sim.condition("Ready").0, "False");
    assert_eq!(sim.world.previous.rows.as_ref().unwrap().rejects, 3);
    assert_eq!(sim.world.previous.phase, Some(Phase::SourceFirst));
}
