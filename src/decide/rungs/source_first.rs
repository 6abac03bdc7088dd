//! `SourceFirst`. Enters when: every instance acknowledged SRC_FIRST. Does: copy, full verify, incremental verify.
//! Leaves when: all copied, fully verified, clean for long enough; then strict, drained, and over. Goes back to:
//! `SourceOnly`, at any time.

use super::{Plan, Rung};
use crate::api::phase::Phase;
use crate::api::task::{MigrationTaskSpec, TaskKind, VerifyScope};
use crate::decide::gates::{self, Gate};
use crate::decide::stance::Stance;
use crate::observe::world::Outcome;

pub fn plan(rung: &Rung) -> Plan {
    if rung.stance.strict() {
        strict(rung)
    } else {
        lenient(rung)
    }
}

/// All rows are in the target, and every one has been compared.
pub fn in_step(rung: &Rung) -> Gate {
    gates::copied(rung.migration, rung.world, rung.control)
        .and_then(|| gates::fully_verified(rung.migration, rung.world, rung.control, rung.stance.direction()))
}

fn lenient(rung: &Rung) -> Plan {
    if rung.desired == Phase::SourceOnly {
        return Plan::go(Vec::new(), Gate::Pass, Stance::SourceOnly);
    }
    let work = work(rung);
    if rung.suspended || rung.desired == Phase::SourceFirst {
        return Plan::hold(work, in_step(rung));
    }
    let gate =
        in_step(rung).and_then(|| gates::clean(rung.migration, rung.world, rung.control, rung.journal, rung.now));
    Plan::go(work, gate, Stance::SourceFirstStrict)
}

fn strict(rung: &Rung) -> Plan {
    if rung.suspended || !rung.desired.at_least(Phase::TargetFirst) {
        return Plan::relax(Stance::SourceFirst, None);
    }
    // After a step back from the target, the source has to be proved as base anew, at leisure.
    if !in_step(rung).passed() {
        return Plan::relax(Stance::SourceFirst, None);
    }
    let gate = gates::drained(rung.migration, rung.world, rung.control, rung.journal);
    if let (true, Gate::Hold(_, why) | Gate::Stop(_, why)) = (rung.strict_too_long, &gate) {
        let why = format!("the target was not drained within gates.strictFor: {why}");
        return Plan::relax(Stance::SourceFirst, Some(why));
    }
    Plan::go(rung.incremental_work(), gate, Stance::TargetFirstStrict)
}

fn work(rung: &Rung) -> Vec<MigrationTaskSpec> {
    let mut work = Vec::new();
    for table in &rung.migration.tables {
        let copy = gates::newest(rung.world, TaskKind::Copy, &table.name, |task| {
            task.spec.round == rung.control.round
        });
        if copy.is_none_or(|task| task.outcome() != Outcome::Succeeded) {
            work.push(rung.work(TaskKind::Copy, Some(&table.name), None));
            continue;
        }
        work.extend(rung.full_work(&table.name));
        work.push(rung.work(TaskKind::Verify, Some(&table.name), Some(VerifyScope::Incremental)));
    }
    work
}
