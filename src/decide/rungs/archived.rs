//! `Archived`. Enters when: the archive was read back, compared, and (if asked) the source's rows deleted. Does:
//! nothing. Leaves when: never. Goes back to: nothing.

use super::target_only::no_way_back;
use super::{Plan, Rung};
use crate::api::phase::Phase;
use crate::decide::gates::Gate;

pub fn plan(rung: &Rung) -> Plan {
    Plan::hold(
        Vec::new(),
        no_way_back(Phase::Archived, rung.desired).unwrap_or(Gate::Pass),
    )
}
