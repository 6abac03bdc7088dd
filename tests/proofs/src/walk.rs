//! The simulation: whole migrations, one random step after the other, under a stream of requests and of faults; then the
//! faults stop, and everything has to come to rest where the manifest said last, with both sides equal.

use datamigration::api::phase::Phase;
use datamigration::observe::world::World;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

use crate::application::Luck;
use crate::promises;
use crate::state::{Budget, Edit, Engine, Hand, Op, Rules, Stage, State};
use crate::steps::{Step, possible, settle, take};

/// Steps of one walk.
const STEPS: usize = 1_500;
/// Most requests of one walk: as many as the record of what was over before what can hold.
const WRITES: usize = 100;

/// What a walk came to.
#[derive(Debug, Default)]
pub struct Walked {
    pub steps: usize,
    pub writes: usize,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, usize>,
    /// The epochs that it saw before the faults stopped, and the rung where it was then.
    pub epochs: i64,
    pub climbed: Option<Phase>,
    /// The rung at its end.
    pub rung: Option<Phase>,
    pub broken: Option<String>,
    /// The last steps before something broke.
    pub trail: Vec<Step>,
}

/// One whole migration, as its seed says.
pub fn walk(seed: u64, flaw: Option<&'static str>) -> Walked {
    let mut random = StdRng::seed_from_u64(seed);
    let engines = [Engine::InnoDb, Engine::Postgres];
    let pick = |random: &mut StdRng| *engines.choose(random).unwrap_or(&Engine::InnoDb);
    let mut rules = Rules::new(pick(&mut random), pick(&mut random)).with_flaw(flaw);
    rules.whole_passes = random.random_bool(0.5);
    rules.instant_reports = random.random_bool(0.5);
    rules.zombies = true;
    let first = if random.random_bool(0.8) {
        Phase::TargetFirst
    } else {
        Phase::SourceFirst
    };
    let mut state = State::new(first, &[0, 10], &[Some(5), None, Some(7)]);
    state.plans = vec![None; if rules.whole_passes { 1 } else { 2 }];
    // Calm walks get far, wild ones get everywhere.
    let wild = *[0.1, 0.5, 1.5].choose(&mut random).unwrap_or(&1.0);
    let mut walked = Walked::default();
    let mut seen: Vec<World> = Vec::new();
    let mut ended = false;
    for _ in 0..STEPS {
        hazards(&mut random, &mut state, wild, &mut ended);
        let Some(step) = next(&mut random, &rules, &state) else {
            break;
        };
        note(&mut walked, &state, step);
        match step {
            Step::Plan(operator) if !seen.is_empty() && random.random_bool(0.05) => {
                // A list from a cache that is behind.
                *walked.faults.entry("stale list").or_default() += 1;
                if let Some(old) = seen.choose(&mut random) {
                    let old = old.clone();
                    state.plan(&rules, operator, &old);
                }
            }
            Step::Plan(operator) => {
                let now = state.world();
                state.plan(&rules, operator, &now);
                seen.push(now);
                if seen.len() > 4 {
                    seen.remove(0);
                }
            }
            step => take(&rules, &mut state, step),
        }
        walked.steps += 1;
        if let Some(what) = promises::check(&state) {
            return walked.ends(&state, Some(what));
        }
        if state.gone {
            break;
        }
    }
    walked.epochs = state.target.control.as_ref().map_or(0, |row| row.place.epoch);
    walked.climbed = state
        .target
        .control
        .as_ref()
        .map(|row| row.place.mode.base())
        .map(|base| match base {
            datamigration::words::Side::Source => Phase::SourceFirst,
            datamigration::words::Side::Target => Phase::TargetFirst,
        });
    calm(&mut random, &mut rules, &mut state, &mut walked);
    let broken = promises::check(&state).or_else(|| walked.broken.take());
    walked.ends(&state, broken)
}

impl Walked {
    fn ends(mut self, state: &State, broken: Option<String>) -> Self {
        self.writes = state.writes.iter().filter(|write| write.stage == Stage::Over).count();
        self.rung = state.phase;
        self.broken = broken;
        self
    }
}

/// What may go wrong next: a little at a time, so that most of a walk goes well.
fn hazards(random: &mut StdRng, state: &mut State, wild: f64, ended: &mut bool) {
    let mut chance = |share: f64| u8::from(random.random_bool((share * wild).min(1.0)));
    state.budget = Budget {
        kills: chance(0.03),
        second: chance(0.1),
        commits: chance(0.05),
        deaths: chance(0.004),
        joins: chance(0.004),
        workers: chance(0.02),
        ticks: chance(0.001),
        reverts: chance(0.002),
        losses: chance(0.001),
    };
    // Timers run, too.
    state.now += 1;
    if state.shops.iter().filter(|shop| shop.alive).count() < 2 || state.shops.len() > 6 {
        state.budget.deaths = 0;
    }
    if state.shops.iter().filter(|shop| shop.alive).count() > 3 || state.shops.len() > 6 {
        state.budget.joins = 0;
    } else if !state.shops.iter().any(|shop| shop.alive) {
        state.budget.joins = 1;
    }
    let open = state.writes.iter().filter(|write| write.stage != Stage::Over).count();
    if open < 2 && state.writes.len() < WRITES && random.random_bool(0.15) {
        let op = if random.random_bool(0.7) { Op::Put } else { Op::Delete };
        state.will_write(op, random.random_range(0..3));
    }
    state.edits.clear();
    let edit = match random.random_range(0..1_000) {
        0 => Some(Edit::Phase(Phase::SourceOnly)),
        1..4 => Some(Edit::Phase(Phase::SourceFirst)),
        4..8 => Some(Edit::Phase(Phase::TargetFirst)),
        8 if random.random_bool(0.3) => Some(Edit::Phase(Phase::TargetOnly)),
        9 if !state.suspend => Some(Edit::Suspend(true)),
        10..20 if state.suspend => Some(Edit::Suspend(false)),
        20 if !*ended && random.random_bool(0.05) => {
            *ended = true;
            Some(Edit::Delete)
        }
        _ => None,
    };
    state.edits.extend(edit);
}

/// One of the possible steps. Operator and Watch, instances, requests and workers each have their turn, however many of
/// them there are.
fn next(random: &mut StdRng, rules: &Rules, state: &State) -> Option<Step> {
    let mut turns: [Vec<Step>; 4] = Default::default();
    let waits = state.somebody_waits();
    for step in possible(rules, state) {
        let turn = match step {
            _ if fault(step).is_some() => 0,
            _ if waits && begins(state, step) && random.random_bool(0.95) => continue,
            // The other operator has lost its lease, and wakes up now and then.
            Step::Plan(1) | Step::CarryOn(1) if random.random_bool(0.9) => continue,
            Step::Start(..) | Step::Write(..) => 1,
            Step::Work(_) | Step::Finish(_) => 2,
            _ => 3,
        };
        turns[turn].push(step);
    }
    // What may go wrong was drawn already: it does, more often than not.
    let wants = match random.random_range(0..10) {
        0..3 => 0,
        3..5 => 1,
        5..7 => 2,
        _ => 3,
    };
    let turn = &turns[wants];
    turn.choose(random)
        .or_else(|| turns.iter().rev().find_map(|turn| turn.choose(random)))
        .copied()
}

/// Whether a step begins a transaction.
fn begins(state: &State, step: Step) -> bool {
    match step {
        Step::Start(..) => true,
        Step::Write(k, Luck::Good) => state.writes[k].stage == Stage::Started,
        Step::Work(n) => matches!(state.workers[n].at, Hand::Idle | Hand::CopyRead(_)),
        _ => false,
    }
}

/// What kind of fault a step is; `None`: the way things go.
fn fault(step: Step) -> Option<&'static str> {
    match step {
        Step::Pass(Some(_)) | Step::Crash(_) => Some("operator crash"),
        Step::Die(_) => Some("instance death"),
        Step::Join => Some("late pod"),
        Step::Write(_, Luck::Fails) => Some("failed write"),
        Step::Write(_, Luck::Unanswered) => Some("lost reply"),
        Step::Restart(_) => Some("worker kill"),
        Step::Tick => Some("delay"),
        Step::Revert => Some("foreign ConfigMap"),
        Step::Forget(false) => Some("lost tasks"),
        Step::Forget(true) => Some("resource created anew"),
        Step::Edit => Some("edit"),
        _ => None,
    }
}

fn note(walked: &mut Walked, state: &State, step: Step) {
    let conflict = match step {
        // Something has happened since it looked.
        Step::CarryOn(operator) if state.plans.len() > 1 && operator == 1 => Some("second operator"),
        _ => None,
    };
    if let Some(kind) = fault(step).or(conflict) {
        *walked.faults.entry(kind).or_default() += 1;
    }
    walked.trail.push(step);
    if walked.trail.len() > 60 {
        walked.trail.remove(0);
    }
}

/// The faults stop: what was begun ends, what is asked for is reached, and then nothing moves.
fn calm(random: &mut StdRng, rules: &mut Rules, state: &mut State, walked: &mut Walked) {
    if state.gone {
        return;
    }
    rules.whole_passes = true;
    rules.instant_reports = true;
    // A worker that nobody asks for any more comes to its end.
    rules.zombies = false;
    state.dismiss_zombies();
    state.plans = vec![None];
    state.budget = Budget::default();
    state.edits.clear();
    state.suspend = false;
    if !state.shops.iter().any(|shop| shop.alive) {
        state.budget.joins = 1;
        take(rules, state, Step::Join);
    }
    let wanted = *Phase::ALL.choose(random).unwrap_or(&Phase::TargetFirst);
    let end = state.phase.is_some_and(|phase| phase.at_least(Phase::TargetOnly));
    state.desired = wanted;
    for _ in 0..5 {
        if !settle(rules, state) {
            walked.broken = Some("it never comes to rest".to_owned());
            return;
        }
        if state.gone || state.broken.is_some() {
            return;
        }
        state.now += 7_200;
    }
    if !settle(rules, state) {
        walked.broken = Some("it never comes to rest".to_owned());
    }
    let never = end || state.phase.is_some_and(|phase| phase.at_least(Phase::TargetOnly));
    let reached = state.phase == Some(wanted) || (never && !wanted.at_least(Phase::TargetOnly));
    if state.deleting.is_none() && !reached {
        let seen = state.world();
        let waits = state.decide(rules, &seen).account.waiting_for;
        let at = state.phase;
        walked.broken = Some(format!(
            "it was sent to {wanted}, came to rest at {at:?} and waits for {waits:?}"
        ));
    }
    let equal = |key: usize| {
        let (source, target) = (&state.source.cells[key].committed, &state.target.cells[key].committed);
        source.version == target.version && (source.version.is_none() || source.by == target.by)
    };
    let kept = matches!(state.phase, Some(Phase::SourceFirst | Phase::TargetFirst)) && state.deleting.is_none();
    if kept && walked.broken.is_none() && !(0..state.source.cells.len()).all(equal) {
        walked.broken = Some("both sides are kept, and they are not equal".to_owned());
    }
}
