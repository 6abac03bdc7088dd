//! What must hold of every decision, whatever led to it; named once, asserted in production and in tests.
//! A decision that breaks one is not carried out.

use crate::api::migration::Migration;
use crate::api::task::{TaskKind, VerifyScope};
use crate::decide::decision::{Action, Decision};
use crate::decide::position::{self, Position};
use crate::decide::stance::{Stance, turns};
use crate::observe::world::{Outcome, World};

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant {name} is broken: {what}")]
pub struct Broken {
    pub name: &'static str,
    pub what: String,
}

/// Checks a decision against the world that it was made from.
pub fn check(migration: &Migration, world: &World, decision: &Decision) -> Result<(), Broken> {
    let position = position::position(migration, world, super::preflight_of(migration, world));
    one_irreversible_act(decision)?;
    for action in &decision.actions {
        match action {
            Action::CreateTask { spec, .. } => {
                work_only_when_acknowledged(&position, spec.kind, spec.scope, spec.epoch)?;
            }
            Action::SetControl { control, .. } => {
                known_moves_only(world, &position, control)?;
                closed_before_the_next(&position, control)?;
                proof_before_the_swap(migration, world, &position, control)?;
            }
            Action::WriteMode { data, .. } => told_only_what_is_recorded(migration, &position, data)?,
            Action::AddFinalizer
            | Action::RemoveFinalizer { .. }
            | Action::DeleteTask { .. }
            | Action::CreateJob { .. }
            | Action::DeleteJob { .. }
            | Action::SuspendJob { .. }
            | Action::AnnotatePods { .. } => {}
        }
    }
    Ok(())
}

fn broken(name: &'static str, what: String) -> Result<(), Broken> {
    Err(Broken { name, what })
}

fn one_irreversible_act(decision: &Decision) -> Result<(), Broken> {
    let acts = decision.actions.iter().filter(|action| action.irreversible()).count();
    if acts > 1 {
        broken("OneIrreversibleAct", format!("{acts} in one pass"))
    } else {
        Ok(())
    }
}

/// No data work before every instance acknowledged the epoch, nor between a swap and its acknowledgement.
fn work_only_when_acknowledged(
    position: &Position,
    kind: TaskKind,
    scope: Option<VerifyScope>,
    epoch: i64,
) -> Result<(), Broken> {
    if matches!(kind, TaskKind::Preflight | TaskKind::Watch) {
        return Ok(());
    }
    let Position::At { stance, control, .. } = position else {
        return broken("WorkOnlyWhenAcknowledged", format!("{kind:?} while {position:?}"));
    };
    let fits = match kind {
        TaskKind::Copy => *stance == Stance::SourceFirst,
        TaskKind::Verify if scope == Some(VerifyScope::Full) => !stance.strict() && stance.mode().writes_both(),
        TaskKind::Verify => stance.mode().writes_both(),
        TaskKind::Fence | TaskKind::Archive => *stance == Stance::TargetOnly,
        TaskKind::Preflight | TaskKind::Watch => true,
    };
    if fits && epoch == control.epoch {
        Ok(())
    } else {
        broken(
            "WorkOnlyWhenAcknowledged",
            format!("{kind:?} of epoch {epoch} in {stance:?} of epoch {}", control.epoch),
        )
    }
}

/// Every flip is one of the moves that exist, and no number goes down.
fn known_moves_only(world: &World, position: &Position, next: &crate::api::task::ControlSpec) -> Result<(), Broken> {
    let Some(to) = Stance::of(next.mode, next.secondary) else {
        return match position {
            // A strange journal is taken over as it is; nothing follows from it.
            Position::Adopt(_) => Ok(()),
            _ => broken("KnownMovesOnly", format!("mode {}", next.mode)),
        };
    };
    let before = super::gates::watch(world).and_then(|task| task.spec.control.as_ref());
    if let Some(before) = before {
        let shrinks = next.epoch < before.epoch
            || next.min_epoch < before.min_epoch
            || next.round < before.round
            || next.base_since < before.base_since;
        if shrinks {
            return broken("NumbersOnlyGrow", format!("{before:?} -> {next:?}"));
        }
    }
    let from = match position {
        Position::Untouched => Stance::SourceOnly,
        Position::Unproved { stance, .. } if stance.lenient() == to => return Ok(()),
        Position::At { stance, .. } | Position::Unproved { stance, .. } => *stance,
        Position::Flight(flight) if flight.control.epoch == next.epoch => return Ok(()),
        Position::Flight(flight) => flight.stance,
        Position::Adopt(_) => return Ok(()),
        Position::Unread(_) | Position::Strange(_) => {
            return broken("KnownMovesOnly", format!("a flip while {position:?}"));
        }
    };
    if from.may_become(to) {
        Ok(())
    } else {
        broken("KnownMovesOnly", format!("{from:?} -> {to:?}"))
    }
}

/// Two epochs are open at once only when the newer takes the older back, on the same base.
fn closed_before_the_next(position: &Position, next: &crate::api::task::ControlSpec) -> Result<(), Broken> {
    let Position::Flight(flight) = position else {
        return Ok(());
    };
    if next.epoch == flight.control.epoch {
        return Ok(());
    }
    let to = Stance::of(next.mode, next.secondary);
    let back = matches!(
        (flight.stance, to),
        (Stance::SourceFirst, Some(Stance::SourceOnly))
            | (Stance::SourceFirstStrict, Some(Stance::SourceFirst))
            | (Stance::TargetFirstStrict, Some(Stance::TargetFirst))
    );
    let swapping = turns(&flight.control) && flight.stance.strict();
    if back && !swapping {
        Ok(())
    } else {
        broken("NeverTwoFlips", format!("{:?} -> {to:?} while open", flight.stance))
    }
}

/// The base is left only with every row proved, in a drained strict epoch.
fn proof_before_the_swap(
    migration: &Migration,
    world: &World,
    position: &Position,
    next: &crate::api::task::ControlSpec,
) -> Result<(), Broken> {
    let Position::At {
        stance,
        control,
        journal,
    } = position
    else {
        return Ok(());
    };
    let Some(to) = Stance::of(next.mode, next.secondary) else {
        return Ok(());
    };
    let leaves = stance.base() != to.base() || to == Stance::TargetOnly;
    if !leaves || next.epoch == control.epoch {
        return Ok(());
    }
    if stance.base() != to.base() && !super::gates::drained(migration, world, control, journal).passed() {
        return broken("DrainedBeforeTheSwap", format!("{stance:?} -> {to:?}"));
    }
    for table in &migration.tables {
        let proved = world.tasks.iter().any(|task| {
            task.is(TaskKind::Verify)
                && task.spec.table.as_deref() == Some(&table.name)
                && task.outcome() == Outcome::Succeeded
                && super::gates::verify_counts(task, control, stance.direction(), VerifyScope::Full)
        });
        if !proved {
            return broken(
                "ProofBeforeTheSwap",
                format!("table {} was not verified for base {}", table.name, stance.base()),
            );
        }
    }
    Ok(())
}

/// The application is never told of an epoch that the databases do not carry.
fn told_only_what_is_recorded(
    migration: &Migration,
    position: &Position,
    data: &std::collections::BTreeMap<String, String>,
) -> Result<(), Broken> {
    let keys = &migration.application.keys;
    let told = data.get(&keys.epoch).and_then(|text| text.parse::<i64>().ok());
    let recorded = match position {
        Position::Untouched => Some(0),
        Position::Flight(flight) if flight.leg != position::Leg::Raising => Some(flight.control.epoch),
        Position::At { control, .. } => Some(control.epoch),
        _ => None,
    };
    if told.is_some() && told == recorded {
        Ok(())
    } else {
        broken(
            "ToldOnlyWhatIsRecorded",
            format!("epoch {told:?} while the databases carry {recorded:?}"),
        )
    }
}
