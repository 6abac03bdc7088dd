//! `SourceOnly`. Enters when: nothing has been flipped, or the way back ended. Does: nothing. Leaves when: preflight
//! passed and a higher rung is desired. Goes back to: nothing.

use super::{Plan, Rung};
use crate::api::phase::Phase;
use crate::decide::gates::Gate;
use crate::decide::stance::Stance;

pub fn plan(rung: &Rung) -> Plan {
    leave(rung.desired, rung.suspended)
}

/// The same for a migration that has no journal yet. Preflight is asked before every climb, by `decide` itself.
pub fn leave(desired: Phase, suspended: bool) -> Plan {
    if desired == Phase::SourceOnly || suspended {
        Plan::hold(Vec::new(), Gate::Pass)
    } else {
        Plan::go(Vec::new(), Gate::Pass, Stance::SourceFirst)
    }
}
