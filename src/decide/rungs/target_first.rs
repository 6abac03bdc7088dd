//! `TargetFirst`. Enters when: every instance acknowledged DST_FIRST, strict first. Does: full and incremental verify
//! with the target as base, which keeps the way back open. Leaves when: that is clean for long enough. Goes back to:
//! `SourceFirst`, through the same strict epochs, when the source is proved equal.

use super::{Plan, Rung};
use crate::api::phase::Phase;
use crate::api::tuning::RollbackPolicy;
use crate::decide::gates::{self, Gate};
use crate::decide::stance::Stance;

pub fn plan(rung: &Rung) -> Plan {
    if rung.stance.strict() {
        strict(rung)
    } else {
        lenient(rung)
    }
}

/// Every row has been compared since the target became the base.
pub fn in_step(rung: &Rung) -> Gate {
    gates::fully_verified(rung.migration, rung.world, rung.control, rung.stance.direction())
}

/// The source is equal enough to become the base again.
pub fn way_back(rung: &Rung) -> Gate {
    in_step(rung).and_then(|| gates::clean(rung.migration, rung.world, rung.control, rung.journal, rung.now))
}

fn lenient(rung: &Rung) -> Plan {
    let mut work = rung.incremental_work();
    for table in &rung.migration.tables {
        work.extend(rung.full_work(&table.name));
    }
    if rung.suspended || rung.desired == Phase::TargetFirst {
        return Plan::hold(work, in_step(rung));
    }
    let next = if rung.desired.at_least(Phase::TargetOnly) {
        if rung.migration.rollback == RollbackPolicy::None {
            // Nobody will go back: a source that cannot be kept in step is no reason to keep it.
            return Plan::go(work, Gate::Pass, Stance::TargetOnly);
        }
        Stance::TargetOnly
    } else {
        Stance::TargetFirstStrict
    };
    Plan::go(work, way_back(rung), next)
}

fn strict(rung: &Rung) -> Plan {
    // On the way up there is nothing to wait for; on the way down the target has to have been proved as base.
    if rung.suspended || rung.desired.at_least(Phase::TargetFirst) || !in_step(rung).passed() {
        return Plan::relax(Stance::TargetFirst, None);
    }
    let gate = gates::drained(rung.migration, rung.world, rung.control, rung.journal);
    if let (true, Gate::Hold(_, why) | Gate::Stop(_, why)) = (rung.strict_too_long, &gate) {
        let why = format!("the source was not drained within gates.strictFor: {why}");
        return Plan::relax(Stance::TargetFirst, Some(why));
    }
    Plan::go(rung.incremental_work(), gate, Stance::SourceFirstStrict)
}
