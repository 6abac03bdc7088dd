//! Everything that can happen next, and its happening. The model takes every step of every state; the simulation takes
//! one, by chance.

use datamigration::api::phase::Phase;
use datamigration::words::Side;

use crate::application::Luck;
use crate::databases::SIDES;
use crate::mutations;
use crate::promises;
use crate::state::{Edit, Rules, Shop, State};

/// Something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A pass of the operator, killed after so many actions; `None`: a whole one.
    Pass(Option<usize>),
    /// An operator looks; it does the next of what it planned; it dies, or loses its lease.
    Plan(usize),
    CarryOn(usize),
    Crash(usize),
    /// The Watch raises the epoch, closes it, reports.
    Raise(Side),
    Close(Side),
    Report,
    /// Preflight, fence or archive is done.
    Finish(usize),
    /// An instance reads the ConfigMap, acknowledges, dies, has not been heard of for long; its pod is listed.
    Read(usize),
    Acknowledge(usize),
    Die(usize),
    Fade(usize),
    Join,
    List(usize),
    /// A request begins on an instance; goes on.
    Start(usize, usize),
    Write(usize, Luck),
    /// A worker goes on; its pod is killed.
    Work(usize),
    Restart(usize),
    /// Two hours pass.
    Tick,
    /// Somebody else puts the first ConfigMap back.
    Revert,
    /// The tasks are gone; and, if so, the resource was deleted by force and created again, with no status.
    Forget(bool),
    /// The manifest's next change.
    Edit,
}

/// Most actions of a pass that a kill is tried after.
const KILLS: usize = 6;

/// Every step that is possible.
pub fn possible(rules: &Rules, state: &State) -> Vec<Step> {
    let mut steps = Vec::new();
    if state.broken.is_some() {
        return steps;
    }
    if !state.gone {
        if rules.whole_passes {
            steps.push(Step::Pass(None));
            if state.budget.kills > 0 {
                steps.extend((1..KILLS).map(|n| Step::Pass(Some(n))));
            }
        } else {
            for (operator, plan) in state.plans.iter().enumerate() {
                if plan.is_none() {
                    steps.push(Step::Plan(operator));
                    continue;
                }
                steps.push(Step::CarryOn(operator));
                if state.budget.kills > 0 {
                    steps.push(Step::Crash(operator));
                }
            }
        }
    }
    for side in SIDES {
        if state.can_raise(rules, side) {
            steps.push(Step::Raise(side));
        }
        if state.can_close(rules, side) {
            steps.push(Step::Close(side));
        }
    }
    if !rules.instant_reports && state.can_report() {
        steps.push(Step::Report);
    }
    steps.extend(
        (0..state.tasks.len())
            .filter(|task| state.can_finish(*task))
            .map(Step::Finish),
    );
    for (n, shop) in state.shops.iter().enumerate() {
        if state.can_read(n) {
            steps.push(Step::Read(n));
        }
        if state.can_acknowledge(rules, n) {
            steps.push(Step::Acknowledge(n));
        }
        if shop.alive && state.budget.deaths > 0 {
            steps.push(Step::Die(n));
        }
        if !shop.alive && !shop.faded && shop.acked.is_some() {
            steps.push(Step::Fade(n));
        }
        if shop.alive && !shop.listed {
            steps.push(Step::List(n));
        }
    }
    if state.budget.joins > 0 {
        steps.push(Step::Join);
    }
    for k in 0..state.writes.len() {
        let shops = 0..state.shops.len();
        steps.extend(
            shops
                .filter(|shop| state.can_start(k, *shop))
                .map(|shop| Step::Start(k, shop)),
        );
        if state.can_go_on(rules, k) {
            steps.push(Step::Write(k, Luck::Good));
        }
        for luck in [Luck::Fails, Luck::Unanswered] {
            if state.can_fail(rules, k, luck) {
                steps.push(Step::Write(k, luck));
            }
        }
    }
    for n in 0..state.workers.len() {
        if state.can_work(rules, n) {
            steps.push(Step::Work(n));
        }
        if state.budget.workers > 0 {
            steps.push(Step::Restart(n));
        }
    }
    if state.budget.ticks > 0 {
        steps.push(Step::Tick);
    }
    if state.budget.reverts > 0 && state.map.is_some() {
        steps.push(Step::Revert);
    }
    if state.budget.losses > 0 {
        steps.extend([Step::Forget(false), Step::Forget(true)]);
    }
    if !state.edits.is_empty() {
        steps.push(Step::Edit);
    }
    steps
}

/// Takes a step.
pub fn take(rules: &Rules, state: &mut State, step: Step) {
    match step {
        Step::Pass(killed) => {
            if killed.is_some() {
                state.budget.kills -= 1;
            }
            state.pass(rules, killed);
        }
        Step::Plan(operator) => {
            let seen = state.world();
            state.plan(rules, operator, &seen);
        }
        Step::CarryOn(operator) => state.carry_on(operator),
        Step::Crash(operator) => {
            state.budget.kills -= 1;
            state.plans[operator] = None;
        }
        Step::Raise(side) => state.raise(side),
        Step::Close(side) => state.close(side),
        Step::Report => state.report(),
        Step::Finish(task) => state.finish(task),
        Step::Read(shop) => state.read(shop),
        Step::Acknowledge(shop) => state.acknowledge(shop),
        Step::Die(shop) => {
            state.budget.deaths -= 1;
            state.die(shop);
        }
        Step::Fade(shop) => state.shops[shop].faded = true,
        Step::Join => join(state),
        Step::List(shop) => state.shops[shop].listed = true,
        Step::Start(k, shop) => state.start(k, shop),
        Step::Write(k, luck) => mutations::with(rules.flaw, || state.go_on(rules, k, luck)),
        Step::Work(n) => state.work(rules, n),
        Step::Restart(n) => {
            state.budget.workers -= 1;
            state.restart(n);
        }
        Step::Tick => {
            state.budget.ticks -= 1;
            state.now += 7_200;
        }
        Step::Revert => {
            state.budget.reverts -= 1;
            let map = state.map.get_or_insert_default();
            map.insert("write-mode".to_owned(), "SRC_ONLY".to_owned());
            map.insert("epoch".to_owned(), "0".to_owned());
        }
        Step::Forget(resource) => {
            state.budget.losses -= 1;
            state.forget(resource);
        }
        Step::Edit => match state.edits.remove(0) {
            Edit::Phase(phase) => state.desired = phase,
            Edit::Suspend(suspend) => state.suspend = suspend,
            Edit::Delete => state.deleting = Some(state.now),
        },
    }
    if rules.instant_reports {
        state.report();
    }
}

/// A pod starts; it reads the ConfigMap as it was mounted, and the operator lists it later.
fn join(state: &mut State) {
    state.budget.joins -= 1;
    let place = crate::application::shown(state).unwrap_or(state.shops[0].place);
    state.shops.push(Shop {
        alive: true,
        listed: false,
        place,
        acked: None,
        faded: false,
        annotated: None,
        late: true,
        clock: 5,
    });
}

/// Everything goes well and by itself until nothing moves any more. False: it never came to rest.
pub fn settle(rules: &Rules, state: &mut State) -> bool {
    for _ in 0..400 {
        let before = state.clone();
        let pass = if rules.whole_passes {
            vec![Step::Pass(None)]
        } else {
            state.plans = vec![None; state.plans.len()];
            Vec::new()
        };
        for step in pass {
            if !state.gone {
                take(rules, state, step);
            }
        }
        if !rules.whole_passes && !state.gone {
            state.pass(rules, None);
        }
        for _ in 0..1_000 {
            state.report();
            let calm = |step: &Step| {
                matches!(
                    step,
                    Step::Raise(_)
                        | Step::Close(_)
                        | Step::Finish(_)
                        | Step::Read(_)
                        | Step::Acknowledge(_)
                        | Step::Fade(_)
                        | Step::List(_)
                        | Step::Write(_, Luck::Good)
                        | Step::Work(_)
                )
            };
            let steps = possible(rules, state);
            let blocked = |step: &Step| matches!(step, Step::Write(_, Luck::Fails));
            let next = steps
                .iter()
                .find(|step| calm(step))
                .or_else(|| steps.iter().find(|step| blocked(step)));
            match next {
                Some(step) => take(rules, state, *step),
                None => break,
            }
            if let Some(what) = promises::check(state) {
                state.breaks(what);
            }
        }
        state.report();
        if state.broken.is_some() || *state == before {
            return true;
        }
    }
    false
}

/// A world that has come to rest at a rung, with nothing left that may go wrong.
pub fn settled(rules: &Rules, mut state: State, rung: Phase) -> State {
    state.desired = rung;
    for _ in 0..4 {
        assert!(settle(rules, &mut state), "it never comes to rest: {state:#?}");
        state.now += 7_200;
        if let Some(flip) = &mut state.flip {
            flip.put_back_at = None;
        }
    }
    assert!(settle(rules, &mut state), "it never comes to rest: {state:#?}");
    assert_eq!(
        state.phase,
        Some(rung),
        "broken: {:?}; {:#?}",
        state.broken,
        state.tasks
    );
    state
}
