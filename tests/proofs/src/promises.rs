//! What must hold of the world itself, in every state, whatever the operator thought.

use datamigration::api::task::TaskKind;
use datamigration::words::{Mode, SecondaryWrites, Side};

use crate::application::changes;
use crate::databases::SIDES;
use crate::state::{Answer, Op, Place, State};

/// The promises by name; each returns what is wrong.
pub type Promise = (&'static str, fn(&State) -> Option<String>);

pub const PROMISES: [Promise; 7] = [
    (
        "decisions keep the invariants of decide, guards keep their word",
        |state| state.broken.clone(),
    ),
    (
        "an acknowledged write is in the base at every moment",
        acknowledged_writes,
    ),
    ("two bases at once only with strict second writes on both", two_bases),
    (
        "no living instance that was there all the time is shut out",
        nobody_is_shut_out,
    ),
    ("work waits for the acknowledgement of its epoch", work_waits),
    ("the application never leads the databases", nobody_leads),
    (
        "nothing comes back from TargetOnly, and a straggler fails loudly",
        the_end_is_the_end,
    ),
];

/// The first promise that does not hold.
pub fn check(state: &State) -> Option<String> {
    PROMISES
        .iter()
        .find_map(|(name, promise)| promise(state).map(|what| format!("{name}: {what}")))
}

fn living(state: &State) -> impl Iterator<Item = (usize, Place)> {
    let shops = state.shops.iter().enumerate();
    shops.filter(|(_, shop)| shop.alive).map(|(n, shop)| (n, shop.place))
}

fn acknowledged_writes(state: &State) -> Option<String> {
    for side in SIDES {
        if !living(state).any(|(_, place)| place.mode.base() == side && admitted(state, side, place)) {
            continue;
        }
        for (j, write) in state.writes.iter().enumerate() {
            if write.answer != Some(Answer::Ok) || !changes(write) {
                continue;
            }
            let held = state.db(side).cells[write.key].committed;
            let own = held.by as usize == j + 1 || (write.op == Op::Delete && held.version.is_none());
            // Anything else must be of a write that had not ended when this one began.
            let older = held.by == 0 || write.after & (1 << (held.by - 1)) != 0;
            if !own && older {
                return Some(format!(
                    "write {j} of key {} is missing in the {side}: {held:?}",
                    write.key
                ));
            }
        }
    }
    None
}

/// An instance that the database would refuse uses nothing as its base.
fn admitted(state: &State, side: Side, place: Place) -> bool {
    state
        .db(side)
        .control
        .as_ref()
        .is_none_or(|row| place.epoch >= row.min_epoch)
}

fn two_bases(state: &State) -> Option<String> {
    let places: Vec<Place> = living(state)
        .map(|(_, place)| place)
        .filter(|place| admitted(state, place.mode.base(), *place))
        .collect();
    let strict = |place: &Place| place.mode.writes_both() && place.secondary == SecondaryWrites::Strict;
    let source = places.iter().filter(|place| place.mode.base() == Side::Source);
    let mut target = places.iter().filter(|place| place.mode.base() == Side::Target);
    for one in source {
        if let Some(other) = target.find(|other| !(strict(one) && strict(other))) {
            return Some(format!("{one:?} and {other:?}"));
        }
    }
    None
}

fn nobody_is_shut_out(state: &State) -> Option<String> {
    for (n, place) in living(state).filter(|(n, _)| !state.shops[*n].late) {
        for side in SIDES {
            let shut = state
                .db(side)
                .control
                .as_ref()
                .filter(|row| place.epoch < row.min_epoch);
            if let Some(row) = shut {
                return Some(format!(
                    "instance {n} at epoch {} by {} of the {side}",
                    place.epoch, row.min_epoch
                ));
            }
        }
    }
    None
}

fn work_waits(state: &State) -> Option<String> {
    let rows: Vec<_> = SIDES
        .iter()
        .filter_map(|side| state.db(*side).control.as_ref())
        .collect();
    for task in &state.tasks {
        if matches!(task.spec.kind, TaskKind::Preflight | TaskKind::Watch) || task.done_at.is_some() {
            continue;
        }
        // Work of an older epoch is refused by the databases; of the present one it must have been acknowledged.
        let live = rows.len() == 2 && rows.iter().all(|row| row.place.epoch == task.spec.epoch);
        if live && rows.iter().any(|row| row.min_epoch < row.place.epoch) {
            return Some(format!("{} may write while its epoch is open", task.name));
        }
        let ahead = rows.iter().all(|row| row.place.epoch < task.spec.epoch);
        if ahead {
            return Some(format!("{} is of an epoch that no database carries", task.name));
        }
    }
    None
}

fn nobody_leads(state: &State) -> Option<String> {
    let recorded = SIDES
        .iter()
        .map(|side| state.db(*side).control.as_ref().map_or(0, |row| row.place.epoch))
        .min()
        .unwrap_or(0);
    let ahead = living(state).find(|(_, place)| place.epoch > recorded);
    ahead.map(|(n, place)| format!("instance {n} is at epoch {}, the databases at {recorded}", place.epoch))
}

fn the_end_is_the_end(state: &State) -> Option<String> {
    if state.source.fenced {
        let lowest = state
            .target
            .control
            .as_ref()
            .map(|row| (row.place.mode, row.min_epoch, row.place.epoch));
        if !matches!(lowest, Some((Mode::DstOnly, min, epoch)) if min == epoch) {
            return Some(format!("the source is fenced while the target says {lowest:?}"));
        }
    }
    let archived = SIDES
        .iter()
        .any(|side| state.db(*side).control.as_ref().is_some_and(|row| row.archived));
    (archived && !state.source.fenced).then(|| "archived without a fence".to_owned())
}
