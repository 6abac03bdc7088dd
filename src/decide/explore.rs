//! Breadth-first exploration: every order of steps from the foot of the ladder, with the operator killed after any
//! action, users who change their minds and waits that run out; the promises are checked in every state.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::sim::{Sim, Step};
use super::stance::Stance;
use crate::api::phase::Phase;
use crate::api::task::TaskKind;
use crate::words::{Mode, SecondaryWrites};

/// States looked at; beyond it the queue is let go.
const STATES: usize = 3_000;

/// What must hold of the world itself, whatever the operator thought.
fn promises(sim: &Sim) {
    let strict = |mode: Mode, secondary: SecondaryWrites| mode.writes_both() && secondary == SecondaryWrites::Strict;
    for one in &sim.shops {
        for other in &sim.shops {
            if one.mode.base() != other.mode.base() {
                let both = strict(one.mode, one.secondary) && strict(other.mode, other.secondary);
                assert!(both, "two bases at once without strict second writes: {:?}", sim.shops);
            }
        }
    }
    let oldest = sim.shops.iter().map(|shop| shop.epoch).min().unwrap_or(0);
    for row in [&sim.source, &sim.target].into_iter().flatten() {
        assert!(
            row.min_epoch <= oldest,
            "an instance at epoch {oldest} is shut out by {}",
            row.min_epoch
        );
    }
    for task in &sim.world.tasks {
        if matches!(task.spec.kind, TaskKind::Preflight | TaskKind::Watch) {
            continue;
        }
        assert!(
            task.spec.epoch <= oldest,
            "{} works before its epoch is acknowledged",
            task.name
        );
        // Work of an older epoch is refused by the databases; of the present one it must have been acknowledged.
        let rows = [&sim.source, &sim.target];
        let live = rows
            .iter()
            .all(|row| row.as_ref().is_some_and(|row| row.epoch == task.spec.epoch));
        if live {
            let closed = rows
                .iter()
                .all(|row| row.as_ref().is_some_and(|row| row.min_epoch == row.epoch));
            assert!(closed, "{} may write while its epoch is open", task.name);
        }
    }
    // The application never leads the databases.
    let recorded = [&sim.source, &sim.target]
        .iter()
        .map(|row| row.as_ref().map_or(0, |row| row.epoch))
        .min();
    for shop in &sim.shops {
        assert!(
            Some(shop.epoch) <= recorded,
            "an instance is at epoch {}, the databases at {recorded:?}",
            shop.epoch
        );
    }
}

fn fingerprint(sim: &Sim) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut plain = sim.clone();
    // What people read does not change what happens.
    plain.world.previous.conditions.clear();
    plain.world.previous.message = None;
    plain.world.previous.waiting_for = None;
    format!("{plain:?}").hash(&mut hasher);
    hasher.finish()
}

/// Explores from a start with a few changes of mind; returns which stances were seen.
fn explore(start: Sim, changes: &[Step], budget: usize) -> BTreeMap<Stance, usize> {
    let mut seen = HashSet::new();
    let mut stances = BTreeMap::new();
    let mut queue = VecDeque::from([(start, changes.to_vec())]);
    while let Some((sim, left)) = queue.pop_front() {
        if !seen.insert((fingerprint(&sim), left.len())) {
            continue;
        }
        promises(&sim);
        *stances.entry(sim.stance()).or_insert(0) += 1;
        if seen.len() >= budget {
            break;
        }
        for step in sim.steps() {
            let mut next = sim.clone();
            next.step(step);
            let went_down = sim
                .world
                .previous
                .phase
                .is_some_and(|was| was.at_least(Phase::TargetOnly))
                && !next
                    .world
                    .previous
                    .phase
                    .is_some_and(|is| is.at_least(Phase::TargetOnly));
            assert!(!went_down, "came back from TargetOnly");
            if next != sim {
                queue.push_back((next, left.clone()));
            }
        }
        if let Some((change, rest)) = left.split_first() {
            let mut next = sim.clone();
            next.step(*change);
            queue.push_back((next, rest.to_vec()));
        }
    }
    stances
}

/// A world that has come to rest somewhere.
fn settled(desired: Phase) -> Sim {
    let mut sim = Sim::new(desired);
    sim.settle();
    assert_eq!(
        sim.world.previous.phase,
        Some(desired),
        "{:?}",
        sim.world.previous.waiting_for
    );
    sim
}

#[test]
fn every_order_of_the_first_flip_keeps_the_promises() {
    let stances = explore(Sim::new(Phase::SourceFirst), &[Step::Desire(Phase::SourceOnly)], STATES);
    assert!(stances.contains_key(&Stance::SourceFirst), "{stances:?}");
}

#[test]
fn every_order_of_the_way_over_keeps_the_promises() {
    let mut start = settled(Phase::SourceFirst);
    start.step(Step::Desire(Phase::TargetFirst));
    let stances = explore(start, &[Step::TimePasses, Step::Desire(Phase::SourceFirst)], STATES);
    assert!(
        stances.contains_key(&Stance::SourceFirstStrict) && stances.contains_key(&Stance::TargetFirstStrict),
        "{stances:?}"
    );
}

#[test]
fn every_order_of_the_way_back_keeps_the_promises() {
    let mut start = settled(Phase::TargetFirst);
    start.step(Step::Desire(Phase::SourceOnly));
    let stances = explore(start, &[Step::TimePasses, Step::Desire(Phase::TargetOnly)], STATES);
    assert!(stances.contains_key(&Stance::SourceFirstStrict), "{stances:?}");
}

#[test]
fn every_order_of_the_end_keeps_the_promises() {
    let mut start = settled(Phase::TargetFirst);
    start.step(Step::Desire(Phase::Archived));
    let stances = explore(start, &[Step::Desire(Phase::SourceOnly), Step::TimePasses], STATES);
    assert!(stances.contains_key(&Stance::TargetOnly), "{stances:?}");
}

/// Random walks go deep where breadth-first goes wide; each ends where the manifest last said, if there is a way.
#[test]
fn long_walks_end_where_they_were_sent() {
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut sim = Sim::new(Phase::SourceFirst);
        let mut highest = false;
        for _ in 0..300 {
            let step = match random.random_range(0..60) {
                0 => Step::Desire(
                    *[Phase::SourceOnly, Phase::SourceFirst, Phase::TargetFirst]
                        .choose(&mut random)
                        .unwrap(),
                ),
                1 if random.random_range(0..6) == 0 => Step::Desire(Phase::TargetOnly),
                2 => Step::TimePasses,
                3 => Step::Suspend(random.random()),
                4 => Step::Revert,
                _ => *sim.steps().choose(&mut random).unwrap(),
            };
            sim.step(step);
            promises(&sim);
            highest |= sim.stance() == Stance::TargetOnly;
        }
        let wanted = *Phase::ALL.choose(&mut random).unwrap();
        sim.step(Step::Suspend(false));
        sim.step(Step::Desire(wanted));
        sim.step(Step::TimePasses);
        // A hold, a back-off or a minute of peace may have to pass in between.
        for _ in 0..3 {
            sim.settle();
            sim.step(Step::TimePasses);
        }
        sim.settle();
        let reached = sim.world.previous.phase;
        let expected = if highest && !wanted.at_least(Phase::TargetOnly) {
            Phase::TargetOnly
        } else {
            wanted
        };
        assert_eq!(
            reached,
            Some(expected),
            "seed {seed}: {:?}",
            sim.world.previous.waiting_for
        );
        promises(&sim);
    }
}
