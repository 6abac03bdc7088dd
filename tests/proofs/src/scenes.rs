//! The scenes that the model explores: each begins at a rung that has come to rest, and allows what its name says.

use datamigration::api::phase::Phase;
use datamigration::words::{Mode, SecondaryWrites, Side};

use crate::explore::Scene;
use crate::state::{Budget, Edit, Engine, Hand, Op, Place, Rules, Shop, State, Worker};
use crate::steps::settled;

/// A world of two instances, one clock ahead of the other, and a few rows.
fn world(rows: &[Option<u16>]) -> State {
    State::new(Phase::SourceOnly, &[0, 10], rows)
}

fn scene(name: &'static str, rules: Rules, start: State) -> Scene {
    Scene { name, rules, start }
}

/// Begins at rest at a rung; the way there is walked by what is right.
fn from(rung: Phase, rows: &[Option<u16>], flaw: Option<&'static str>, engines: (Engine, Engine)) -> (Rules, State) {
    let rules = Rules::new(engines.0, engines.1);
    let state = match rung {
        Phase::SourceOnly => world(rows),
        _ => settled(&rules, world(rows), rung),
    };
    (rules.with_flaw(flaw), state)
}

const TO_POSTGRES: (Engine, Engine) = (Engine::InnoDb, Engine::Postgres);
const TO_MARIADB: (Engine, Engine) = (Engine::Postgres, Engine::InnoDb);

/// All scenes, with what is made wrong in them.
pub fn scenes(flaw: Option<&'static str>) -> Vec<Scene> {
    vec![
        over_with_writes(flaw),
        over_with_failures(flaw),
        back_with_writes(flaw),
        first_flip(flaw),
        absent_rows(
            "absent rows, deletes, repair and copy (InnoDB to PostgreSQL)",
            flaw,
            TO_POSTGRES,
        ),
        absent_rows(
            "absent rows, deletes, repair and copy (PostgreSQL to InnoDB)",
            flaw,
            TO_MARIADB,
        ),
        the_end(flaw),
        two_operators(flaw),
        kills(flaw),
        pods(flaw),
        edits(flaw),
        stale_reports(flaw),
        stale_workers(flaw),
        created_anew(flaw),
        stale_instance(flaw),
        stale_repair(flaw),
        silent_instance(flaw),
    ]
}

/// Source to target: two requests of two instances.
fn over_with_writes(flaw: Option<&'static str>) -> Scene {
    let (rules, mut start) = from(Phase::SourceFirst, &[Some(5)], flaw, TO_POSTGRES);
    start.edits = Vec::new();
    start.desired = Phase::TargetFirst;
    start.will_write(Op::Put, 0);
    start.will_write(Op::Put, 0);
    scene("source to target, two writes", rules, start)
}

/// The same with a second write that fails, a commit that fails or is not answered.
fn over_with_failures(flaw: Option<&'static str>) -> Scene {
    let (rules, mut start) = from(Phase::SourceFirst, &[Some(5)], flaw, TO_POSTGRES);
    start.desired = Phase::TargetFirst;
    start.will_write(Op::Put, 0);
    start.budget = Budget {
        second: 1,
        commits: 1,
        deaths: 1,
        ..Budget::default()
    };
    scene(
        "source to target, a write that fails anywhere, an instance that dies",
        rules,
        start,
    )
}

fn back_with_writes(flaw: Option<&'static str>) -> Scene {
    let (rules, mut start) = from(Phase::TargetFirst, &[Some(5)], flaw, TO_POSTGRES);
    start.desired = Phase::SourceFirst;
    start.will_write(Op::Put, 0);
    start.will_write(Op::Delete, 0);
    start.budget.commits = 1;
    scene(
        "target back to source, a write and a delete, a commit that fails",
        rules,
        start,
    )
}

/// From the foot of the ladder: the copy waits for every instance.
fn first_flip(flaw: Option<&'static str>) -> Scene {
    let (rules, mut start) = from(Phase::SourceOnly, &[Some(5)], flaw, TO_POSTGRES);
    start.desired = Phase::SourceFirst;
    start.will_write(Op::Put, 0);
    start.will_write(Op::Delete, 0);
    start.edits = vec![Edit::Phase(Phase::SourceOnly)];
    scene("the first flip, a write, a delete, and a change of mind", rules, start)
}

/// Without flips: what requests, copier and repair do to each other, on a key that is there and one that is not.
fn absent_rows(name: &'static str, flaw: Option<&'static str>, engines: (Engine, Engine)) -> Scene {
    let (rules, mut start) = from(Phase::SourceFirst, &[None], flaw, engines);
    start.desired = Phase::TargetFirst;
    start.will_write(Op::Put, 0);
    start.will_write(Op::Delete, 0);
    start.will_write(Op::Put, 0);
    start.budget.second = 1;
    scene(name, rules, start)
}

fn the_end(flaw: Option<&'static str>) -> Scene {
    let (rules, mut start) = from(Phase::TargetFirst, &[Some(5)], flaw, TO_POSTGRES);
    start.desired = Phase::Archived;
    start.will_write(Op::Put, 0);
    start.edits = vec![Edit::Phase(Phase::SourceOnly)];
    start.budget.ticks = 1;
    start.budget.joins = 1;
    scene("to TargetOnly and Archived, with a pod that starts late", rules, start)
}

/// Two operators, each seeing and acting at its own pace, dying in between.
fn two_operators(flaw: Option<&'static str>) -> Scene {
    let (mut rules, mut start) = from(Phase::SourceFirst, &[Some(5)], flaw, TO_POSTGRES);
    rules.whole_passes = false;
    start.plans = vec![None, None];
    start.desired = Phase::TargetFirst;
    start.budget.kills = 1;
    scene("two operators, stale reads, lost replies", rules, start)
}

/// An operator killed at each of its actions, on the whole way over.
fn kills(flaw: Option<&'static str>) -> Scene {
    let (rules, mut start) = from(Phase::SourceOnly, &[Some(5)], flaw, TO_POSTGRES);
    start.desired = Phase::TargetFirst;
    start.budget.kills = 2;
    start.budget.reverts = 1;
    scene(
        "the whole way over, the operator killed twice, the ConfigMap put back by others",
        rules,
        start,
    )
}

/// Pods that start late, die, fall silent.
fn pods(flaw: Option<&'static str>) -> Scene {
    let (rules, mut start) = from(Phase::SourceFirst, &[Some(5)], flaw, TO_POSTGRES);
    start.desired = Phase::TargetFirst;
    start.will_write(Op::Put, 0);
    start.budget.joins = 1;
    start.budget.deaths = 1;
    scene(
        "source to target, a pod that starts late and one that dies",
        rules,
        start,
    )
}

/// Changes of mind at any time.
fn edits(flaw: Option<&'static str>) -> Scene {
    let (rules, mut start) = from(Phase::SourceFirst, &[Some(5)], flaw, TO_POSTGRES);
    start.desired = Phase::TargetFirst;
    start.edits = vec![
        Edit::Phase(Phase::SourceFirst),
        Edit::Phase(Phase::TargetFirst),
        Edit::Suspend(true),
        Edit::Suspend(false),
        Edit::Delete,
    ];
    start.budget.ticks = 1;
    scene(
        "source to target, edits, suspension and deletion at any time",
        rules,
        start,
    )
}

/// The Watch's report is as old as it may be.
fn stale_reports(flaw: Option<&'static str>) -> Scene {
    let (mut rules, mut start) = from(Phase::SourceFirst, &[Some(5)], flaw, TO_POSTGRES);
    rules.instant_reports = false;
    start.desired = Phase::TargetFirst;
    start.budget.kills = 1;
    scene("source to target, the Watch reports late", rules, start)
}

/// Workers that do not hear that their task is gone.
fn stale_workers(flaw: Option<&'static str>) -> Scene {
    let (mut rules, mut start) = from(Phase::SourceOnly, &[Some(5)], flaw, TO_POSTGRES);
    rules.zombies = true;
    start.desired = Phase::TargetFirst;
    start.will_write(Op::Put, 0);
    start.budget.workers = 1;
    scene("the whole way over, a worker that wakes up late", rules, start)
}

/// The resource is deleted by force and created anew at its last rung, at any moment.
fn created_anew(flaw: Option<&'static str>) -> Scene {
    let (rules, mut start) = from(Phase::SourceFirst, &[Some(5)], flaw, TO_POSTGRES);
    start.desired = Phase::Archived;
    start.budget.losses = 1;
    scene("to the end, the resource created anew at any moment", rules, start)
}

/// A process that nobody knows of, as it was when it last read the ConfigMap.
fn unknown(epoch: i64, mode: Mode) -> Shop {
    Shop {
        alive: true,
        listed: false,
        place: Place {
            epoch,
            mode,
            secondary: SecondaryWrites::Lenient,
        },
        acked: None,
        faded: false,
        annotated: None,
        late: true,
        clock: 0,
    }
}

/// The target is the base, and a process that never heard of the migration still writes.
fn stale_instance(flaw: Option<&'static str>) -> Scene {
    let (rules, mut start) = from(Phase::TargetFirst, &[Some(5)], flaw, TO_POSTGRES);
    start.shops.push(unknown(0, Mode::SrcOnly));
    start.will_write(Op::Put, 0);
    start.will_write(Op::Put, 0);
    scene("the target is the base, an instance never heard of it", rules, start)
}

/// The target is the base, and a repair from the time when the source was wakes up.
fn stale_repair(flaw: Option<&'static str>) -> Scene {
    let (mut rules, mut start) = from(Phase::TargetFirst, &[Some(5)], flaw, TO_POSTGRES);
    rules.zombies = true;
    start.workers.push(Worker {
        id: 200,
        task: "orders-verify-full-orders-r1e1".to_owned(),
        base: Side::Source,
        key: 0,
        at: Hand::Idle,
        pass: None,
    });
    start.will_write(Op::Put, 0);
    start.budget.second = 1;
    scene(
        "the target is the base, a repair of the source's time wakes up",
        rules,
        start,
    )
}

/// The way over while a process that is not in the list holds a transaction open.
fn silent_instance(flaw: Option<&'static str>) -> Scene {
    let (rules, mut start) = from(Phase::SourceFirst, &[Some(5)], flaw, TO_POSTGRES);
    start.desired = Phase::TargetFirst;
    start.shops.push(unknown(1, Mode::SrcFirst));
    start.will_write(Op::Put, 0);
    start.start(0, 2);
    start.budget.second = 1;
    scene(
        "source to target, an instance that nobody lists is in the middle of a write",
        rules,
        start,
    )
}
