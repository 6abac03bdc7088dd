//! `Throttled` as workers say it, as long as they run.

use super::{find, run};
use crate::api::phase::Phase;
use crate::api::task::{TaskKind, ThrottleReport};
use crate::decide::sim::{Sim, Step};

fn report(message: &str) -> ThrottleReport {
    ThrottleReport {
        reason: "LoadAboveLimit".to_owned(),
        measure: "pauseWhen.threadsRunning".to_owned(),
        message: message.to_owned(),
        ..ThrottleReport::default()
    }
}

fn told(sim: &Sim) -> String {
    let conditions = &sim.world.previous.conditions;
    let condition = conditions
        .iter()
        .find(|condition| condition.type_ == "Throttled")
        .unwrap();
    condition.message.clone()
}

#[test]
fn what_holds_a_worker_back_is_said_while_it_runs() {
    let mut sim = Sim::new(Phase::SourceFirst);
    run(&mut sim, |step| matches!(step, Step::Finish(n) if *n >= 2));
    assert_eq!(
        sim.condition("Throttled"),
        ("False".to_owned(), "NotThrottled".to_owned())
    );
    find(&mut sim, TaskKind::Copy).status.throttle = Some(report("57 threads run, above 40"));
    sim.step(Step::Pass(None));
    assert_eq!(
        sim.condition("Throttled"),
        ("True".to_owned(), "LoadAboveLimit".to_owned())
    );
    assert_eq!(told(&sim), "copy of table orders: 57 threads run, above 40");
    let waiting = sim.world.previous.waiting_for.clone().unwrap();
    assert!(waiting.ends_with("(held back: 57 threads run, above 40)"), "{waiting}");
    assert_eq!(sim.condition("Stalled").0, "False", "a slow copy is no error");

    // A worker that was stopped is not held back, whatever it said last.
    sim.step(Step::Suspend(true));
    sim.step(Step::Pass(None));
    sim.step(Step::Pass(None));
    assert_eq!(sim.condition("Throttled").0, "False");
    sim.step(Step::Suspend(false));
    sim.step(Step::Pass(None));
    sim.step(Step::Pass(None));
    assert_eq!(sim.condition("Throttled").0, "True");
    sim.settle();
    assert_eq!(sim.condition("Throttled").0, "False", "the copy is done");
}
