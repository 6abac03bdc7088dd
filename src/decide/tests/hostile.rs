//! What nobody should do and somebody does: tasks deleted by hand, mode files with epochs of their own, databases that
//! come back without what they had. Nothing of it may skip a gate, leave evidence standing, or end in a hang.

use serde_json::json;
use std::collections::BTreeMap;

use super::at;
use crate::api::phase::Phase;
use crate::api::task::{TaskKind, VerifyScope};
use crate::decide::decision::Action;
use crate::decide::gates::{self, Gate};
use crate::decide::sim::{Shop, Sim, Step, now};
use crate::decide::stance::Stance;
use crate::observe::world::{ModeMap, Outcome, Seen};
use crate::words::{Direction, Mode, SecondaryWrites, Side};

fn without_watch(sim: &mut Sim) {
    sim.world.tasks.retain(|task| !task.is(TaskKind::Watch));
}

fn shows(sim: &mut Sim, mode: &str, epoch: i64) {
    let data = [
        ("write-mode", mode),
        ("read-from", "SOURCE"),
        ("read-target-percent", "0"),
        ("secondary-writes", "Lenient"),
        ("epoch", &epoch.to_string()),
    ];
    sim.world.mode = Seen::Known(ModeMap {
        data: data
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect::<BTreeMap<_, _>>(),
        resource_version: String::new(),
    });
}

fn works_at(sim: &mut Sim, epoch: i64, mode: Mode) {
    for shop in &mut sim.shops {
        *shop = Shop {
            epoch,
            mode,
            secondary: SecondaryWrites::Lenient,
        };
    }
}

#[test]
fn a_watch_that_was_deleted_does_not_make_the_migration_untouched() {
    for (from, to) in [
        (Phase::SourceFirst, Phase::SourceOnly),
        (Phase::TargetFirst, Phase::TargetFirst),
    ] {
        let mut sim = at(from);
        without_watch(&mut sim);
        // Preflight's report is from before the first flip: no journal.
        sim.step(Step::Desire(to));
        sim.step(Step::Pass(None));
        assert_eq!(
            sim.world.previous.phase,
            Some(from),
            "it is not said to be where it is not"
        );
        sim.settle();
        assert_eq!(sim.world.previous.phase, Some(to));
        assert_eq!(sim.stance().rung(), to);
    }
}

#[test]
fn nor_does_the_resource_go_as_if_it_had_never_been_flipped() {
    let mut sim = at(Phase::SourceFirst);
    without_watch(&mut sim);
    sim.step(Step::Delete);
    sim.step(Step::Pass(None));
    assert!(!sim.gone);
    sim.settle();
    assert!(sim.gone);
    assert_eq!(sim.mode_in_map()["write-mode"], "SRC_ONLY");
}

#[test]
fn a_lost_config_map_and_a_lost_watch_do_not_send_the_application_back() {
    let mut sim = at(Phase::TargetFirst);
    without_watch(&mut sim);
    sim.world.mode = Seen::Absent;
    sim.settle();
    assert_eq!(sim.mode_in_map()["write-mode"], "DST_FIRST");
    assert_eq!(sim.stance(), Stance::TargetFirst);
}

#[test]
fn an_instance_that_is_ahead_has_not_acknowledged() {
    let mut sim = at(Phase::SourceFirst);
    let migration = sim.migration();
    let control = gates::watch(&sim.world)
        .and_then(|task| task.spec.control.clone())
        .unwrap();
    sim.shops[1] = Shop {
        epoch: 99,
        mode: Mode::DstOnly,
        secondary: SecondaryWrites::Lenient,
    };
    sim.step(Step::Read(0));
    let report = gates::watch(&sim.world)
        .and_then(|task| task.status.watch.clone())
        .unwrap();
    let Gate::Hold(_, why) = gates::acknowledged(&migration, &sim.world, &control, &report, None, now()) else {
        panic!("an instance of a mode that nobody gave it counts as acknowledged")
    };
    assert!(why.contains("shop-1") && why.contains("99"), "{why}");
}

#[test]
fn the_first_epoch_is_above_what_the_application_has_seen() {
    let mut sim = Sim::new(Phase::SourceFirst);
    shows(&mut sim, "SRC_ONLY", 7);
    works_at(&mut sim, 7, Mode::SrcOnly);
    sim.settle();
    assert_eq!(sim.world.previous.phase, Some(Phase::SourceFirst));
    assert!(
        sim.shops.iter().all(|shop| shop.mode == Mode::SrcFirst),
        "{:?}",
        sim.shops
    );
    assert_eq!(sim.source.as_ref().map(|row| row.epoch), Some(8));
}

#[test]
fn an_application_on_the_target_without_a_journal_is_not_flipped_to_the_source() {
    let mut sim = Sim::new(Phase::SourceFirst);
    shows(&mut sim, "DST_FIRST", 7);
    works_at(&mut sim, 7, Mode::DstFirst);
    sim.settle();
    assert_eq!(sim.condition("Stalled").0, "True");
    assert!(sim.shops.iter().all(|shop| shop.mode == Mode::DstFirst));
    assert!(sim.world.tasks.iter().all(|task| !task.is(TaskKind::Copy)));
}

#[test]
fn a_target_that_lost_its_journal_is_copied_and_verified_anew() {
    for lost in [None, Some(0)] {
        let mut sim = at(Phase::SourceFirst);
        assert_eq!(sim.condition("Verified").0, "True");
        match lost {
            None => sim.target = None,
            Some(epoch) => {
                let row = sim.target.as_mut().unwrap();
                (row.epoch, row.min_epoch) = (epoch, epoch);
            }
        }
        sim.step(Step::Desire(Phase::TargetFirst));
        sim.step(Step::Read(0));
        sim.step(Step::Pass(None));
        assert_ne!(
            sim.condition("Verified").0,
            "True",
            "what was proved is about rows that are gone"
        );
        sim.step(Step::Desire(Phase::SourceFirst));
        sim.settle();
        assert_eq!(sim.world.previous.phase, Some(Phase::SourceFirst));
        let copies: Vec<i64> = sim
            .world
            .tasks
            .iter()
            .filter(|task| task.is(TaskKind::Copy) && task.outcome() == Outcome::Succeeded)
            .map(|task| task.spec.round)
            .collect();
        assert_eq!(copies, [2], "the rows are copied again");
        assert_eq!(sim.condition("Verified").0, "True");
        sim.step(Step::Desire(Phase::TargetFirst));
        sim.settle();
        assert_eq!(sim.world.previous.phase, Some(Phase::TargetFirst));
    }
}

#[test]
fn a_source_that_lost_its_journal_is_proved_anew_before_there_is_a_way_back() {
    let mut sim = at(Phase::TargetFirst);
    let before = sim.source.as_ref().unwrap().epoch;
    sim.source = None;
    sim.step(Step::Desire(Phase::SourceFirst));
    sim.step(Step::Read(0));
    sim.step(Step::Pass(None));
    assert_ne!(sim.condition("ReverseVerified").0, "True");
    sim.step(Step::Desire(Phase::TargetFirst));
    sim.settle();
    assert_eq!(sim.stance(), Stance::TargetFirst);
    let proved = sim.world.tasks.iter().any(|task| {
        task.spec.scope == Some(VerifyScope::Full)
            && task.spec.direction == Direction::Reverse
            && task.spec.epoch > before
            && task.outcome() == Outcome::Succeeded
    });
    assert!(proved, "every row of the source has been compared since");
}

#[test]
fn a_base_that_lost_its_journal_stops_everything_and_nothing_counts_as_proved() {
    let mut sim = at(Phase::SourceFirst);
    sim.source = None;
    sim.step(Step::Desire(Phase::TargetFirst));
    sim.settle();
    assert_eq!(
        sim.condition("Stalled"),
        ("True".to_owned(), "JournalUnexpected".to_owned())
    );
    assert_ne!(sim.condition("Verified").0, "True");
    assert_ne!(sim.condition("CopyComplete").0, "True");
    assert_eq!(
        sim.mode_in_map()["write-mode"],
        "SRC_FIRST",
        "the application is left where it was"
    );
    assert_eq!(sim.source, None, "what was lost is not written as if it had been there");
}

/// A target lost while second writes are strict: every write fails until they are lenient again.
#[test]
fn a_target_lost_in_a_strict_epoch_ends_it() {
    let mut sim = at(Phase::SourceFirst);
    sim.step(Step::Desire(Phase::TargetFirst));
    while sim.stance() != Stance::SourceFirstStrict || sim.shops.iter().any(|shop| shop.epoch < 2) {
        sim.step(Step::Pass(None));
        for step in [
            Step::Raise(Side::Source),
            Step::Raise(Side::Target),
            Step::Read(0),
            Step::Read(1),
        ] {
            sim.step(step);
        }
    }
    sim.target = None;
    sim.step(Step::Desire(Phase::SourceFirst));
    sim.settle();
    assert_eq!(sim.mode_in_map()["secondary-writes"], "Lenient");
    assert_eq!(sim.mode_in_map()["write-mode"], "SRC_FIRST");
}

/// The intent of an epoch is lost with the Watch after one database has recorded it.
#[test]
fn half_an_epoch_is_taken_over_and_finished() {
    for side in [Side::Source, Side::Target] {
        let mut sim = at(Phase::SourceFirst);
        sim.step(Step::Desire(Phase::TargetFirst));
        while gates::watch(&sim.world)
            .and_then(|task| task.spec.control.as_ref())
            .unwrap()
            .epoch
            < 2
        {
            sim.step(Step::Pass(None));
        }
        sim.step(Step::Raise(side));
        without_watch(&mut sim);
        sim.settle();
        assert_eq!(
            sim.world.previous.phase,
            Some(Phase::TargetFirst),
            "{:?}",
            sim.world.previous.waiting_for
        );
    }
}

#[test]
fn an_attempt_s_number_from_outside_is_no_reason_to_fall() {
    let mut sim = Sim::new(Phase::SourceFirst);
    sim.step(Step::Pass(None));
    sim.step(Step::Pass(None));
    let preflight = sim
        .world
        .tasks
        .iter_mut()
        .find(|task| task.is(TaskKind::Preflight))
        .unwrap();
    preflight.attempt = u32::MAX;
    preflight.name = format!("{}-a{}", preflight.name, u32::MAX);
    preflight.status =
        serde_json::from_value(json!({"phase": "Failed", "finishedAt": "2020-01-01T00:00:00Z"})).unwrap();
    let creates = sim
        .decide()
        .actions
        .iter()
        .filter(|action| matches!(action, Action::CreateTask { .. }))
        .count();
    assert!(creates <= 1);
}

/// Somebody edits the mode files by hand and, knowing that instances follow higher epochs only, raises theirs.
#[test]
fn an_epoch_that_somebody_made_up_is_overtaken_and_everything_proved_anew() {
    for (phase, foreign) in [
        (Phase::SourceFirst, Mode::SrcOnly),
        (Phase::SourceOnly, Mode::DstFirst),
        (Phase::TargetFirst, Mode::DstOnly),
    ] {
        let mut sim = at(Phase::SourceFirst);
        sim.step(Step::Desire(phase));
        sim.settle();
        shows(&mut sim, foreign.as_str(), 99);
        sim.step(Step::Read(0));
        sim.step(Step::Read(1));
        sim.settle();
        assert_eq!(sim.world.previous.phase, Some(phase));
        let stance = sim.stance();
        assert!(
            sim.shops
                .iter()
                .all(|shop| shop.mode == stance.mode() && shop.epoch > 99),
            "{:?}",
            sim.shops
        );
        if phase == Phase::SourceFirst {
            let copied = sim
                .world
                .tasks
                .iter()
                .any(|task| task.is(TaskKind::Copy) && task.spec.round == 2);
            assert!(copied, "deletes of that time are in no list");
        }
    }
}
