//! `verify.full`: a full verify again and again, without a gate closing for it unless it finds something.

use super::at;
use crate::api::conditions::ConditionType;
use crate::api::phase::Phase;
use crate::api::schedule::Schedule;
use crate::api::task::{TaskPhase, VerifyReport, VerifyScope};
use crate::decide::decision::{Action, Decision, Finding, Truth};
use crate::decide::gates::Gate;
use crate::decide::gates::full::unburied;
use crate::decide::sim::{Sim, now};
use crate::decide::{decide, tasks};
use crate::observe::world::Task;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

fn decided(sim: &Sim, schedule: Option<&str>, now: Timestamp) -> Decision {
    let mut migration = sim.migration();
    migration.verify.full = schedule.map(|text| Schedule::parse(text, None).unwrap());
    decide(&migration, &sim.world, now)
}

/// The full verifies that are asked for, by the minute at which they were due.
fn created(decision: &Decision) -> Vec<Option<i64>> {
    let full = decision.actions.iter().filter_map(|action| match action {
        Action::CreateTask { spec, .. } if spec.scope == Some(VerifyScope::Full) => Some(spec),
        _ => None,
    });
    full.map(|spec| spec.due.as_ref().map(|due| due.0.as_second() / 60))
        .collect()
}

fn ready(decision: &Decision) -> bool {
    let verified = |finding: &&Finding| finding.kind == ConditionType::Verified;
    let found = decision.account.findings.iter().find(verified);
    found.is_some_and(|finding| finding.truth == Truth::True)
}

fn add(sim: &mut Sim, decision: &Decision) {
    for action in &decision.actions {
        if let Action::CreateTask { name, attempt, spec } = action {
            let mut task = sim.world.tasks[0].clone();
            task.name.clone_from(name);
            (task.attempt, task.spec) = (*attempt, spec.clone());
            task.status = crate::api::task::MigrationTaskStatus::default();
            task.job = crate::observe::world::Seen::Absent;
            sim.world.tasks.push(task);
        }
    }
}

fn newest_full(sim: &mut Sim) -> &mut Task {
    let full = |task: &&mut Task| task.spec.scope == Some(VerifyScope::Full);
    sim.world.tasks.iter_mut().rfind(full).unwrap()
}

fn hours(n: i64) -> Timestamp {
    now() + SignedDuration::from_hours(n)
}

#[test]
fn a_full_verify_is_asked_for_when_the_schedule_says_so_and_only_then() {
    for phase in [Phase::SourceFirst, Phase::TargetFirst] {
        let sim = at(phase);
        assert!(created(&decided(&sim, None, hours(1_000))).is_empty());
        let early = decided(&sim, Some("0 * * * *"), now());
        assert!(created(&early).is_empty(), "{phase}");
        assert!(
            early.wake.is_some_and(|wake| wake <= Duration::from_mins(61)),
            "{:?}",
            early.wake
        );
        // However many moments have passed, one verify is asked for.
        let late = decided(&sim, Some("0 * * * *"), hours(30));
        let due = created(&late);
        assert_eq!(due.len(), 1, "{phase}");
        assert!(due[0].is_some_and(|minute| minute % 60 == 0 && minute * 60 > now().as_second()));
    }
    for phase in [Phase::SourceOnly, Phase::TargetOnly] {
        assert!(
            created(&decided(&at(phase), Some("0 * * * *"), hours(30))).is_empty(),
            "{phase}"
        );
    }
}

#[test]
fn the_word_of_the_one_before_stands_until_a_later_one_finds_something() {
    let mut sim = at(Phase::SourceFirst);
    let schedule = Some("0 * * * *");
    let asked = decided(&sim, schedule, hours(2));
    add(&mut sim, &asked);
    let name = newest_full(&mut sim).name.clone();
    assert!(name.contains("-t"), "{name}");
    let under_way = decided(&sim, schedule, hours(2));
    assert!(ready(&under_way), "{:?}", under_way.account);
    assert!(created(&under_way).is_empty(), "it is there");

    // A verify that could not be finished says nothing, and is tried again.
    let ended = |task: &mut Task, phase: TaskPhase, report: Option<VerifyReport>| {
        task.status.phase = phase;
        task.status.reason = Some("DatabaseGone".to_owned());
        task.status.finished_at = Some(Time(hours(2)));
        task.status.verify = report;
    };
    ended(newest_full(&mut sim), TaskPhase::Failed, None);
    let failed = decided(&sim, schedule, hours(3));
    assert!(ready(&failed));
    assert_eq!(created(&failed).len(), 1, "another attempt");

    // One that found differences closes the gate.
    let found = VerifyReport {
        outstanding: 3,
        ..VerifyReport::default()
    };
    ended(newest_full(&mut sim), TaskPhase::Failed, Some(found));
    let closed = decided(&sim, schedule, hours(3));
    assert!(!ready(&closed));
    // Nor does its next attempt open the gate, whose own word is still to come.
    let mut again = newest_full(&mut sim).clone();
    again.attempt += 1;
    again.status = crate::api::task::MigrationTaskStatus::default();
    let first = std::mem::replace(newest_full(&mut sim), again);
    assert!(!ready(&decided(&sim, schedule, hours(3))));
    *newest_full(&mut sim) = first;

    // One that succeeded replaces what was there.
    ended(
        newest_full(&mut sim),
        TaskPhase::Succeeded,
        Some(VerifyReport::default()),
    );
    newest_full(&mut sim).status.started_at = Some(Time(hours(2)));
    let done = decided(&sim, schedule, hours(2) + SignedDuration::from_mins(30));
    assert!(ready(&done));
    let removed = done
        .actions
        .iter()
        .filter(|action| matches!(action, Action::DeleteTask { name } if name.contains("verify-full")));
    assert_eq!(removed.count(), 1, "the one that it replaces");
    assert!(created(&done).is_empty(), "{:?}", done.actions);
}

#[test]
fn names_tell_the_moments_apart() {
    let mut sim = at(Phase::SourceFirst);
    let mut spec = newest_full(&mut sim).spec.clone();
    let plain = tasks::name(&spec, "");
    spec.due = Some(Time(hours(1)));
    let first = tasks::name(&spec, "");
    spec.due = Some(Time(hours(2)));
    assert!(plain != first && first != tasks::name(&spec, "") && first.len() <= 63);
}

#[test]
fn rows_that_a_full_verify_buried_hold_the_gate_until_none_is_left() {
    let mut sim = at(Phase::SourceFirst);
    let ended = now();
    let full = newest_full(&mut sim);
    full.status.finished_at = Some(Time(ended));
    let full = full.clone();
    let report = |dead_letters| VerifyReport {
        dead_letters,
        ..VerifyReport::default()
    };
    let mut later = full.clone();
    let mut gate = |dead: u64, since: i64, epoch: i64| {
        later.status.reported_at = Some(Time(ended + SignedDuration::from_secs(since)));
        unburied(&full, &report(2), Some((&later, &report(dead))), epoch)
    };
    let epoch = full.spec.epoch;
    assert!(matches!(gate(2, 10, epoch), Gate::Hold(_, text) if text.contains("2 rows")));
    assert!(!gate(0, -10, epoch).passed(), "it was reported before they were buried");
    assert!(gate(0, 10, epoch).passed());
    assert!(!unburied(&full, &report(2), None, epoch).passed());
    assert!(
        unburied(&full, &report(2), None, epoch + 1).passed(),
        "the gates of that epoch look themselves"
    );
    assert!(unburied(&full, &report(0), None, epoch).passed());
}
