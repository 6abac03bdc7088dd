//! Single decisions: each gate held and open, each way a flip can go wrong, names and back-off, deletion.

mod flips;
mod hostile;
mod ladder;
mod plain;
mod scheduled;
mod throttled;
mod trouble;

use super::sim::{Sim, Step};
use crate::api::phase::Phase;
use crate::api::task::TaskKind;

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
