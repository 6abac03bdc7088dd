//! The decision: from manifest and facts to actions and an account, as a pure function. Any pass from any state takes
//! the next step towards what the manifest asks, and a pass that was lost or repeated changes nothing.

pub mod account;
pub mod decision;
mod finish;
pub mod flip;
pub mod gates;
pub mod invariants;
mod pass;
pub mod position;
pub mod rungs;
pub mod stance;
pub mod tasks;
mod throttled;

#[cfg(test)]
mod explore;
#[cfg(test)]
mod purity;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use std::time::Duration;

use crate::api::migration::Migration;
use crate::api::phase::Phase;
use crate::api::status::FlipStatus;
use crate::api::task::{MigrationTaskSpec, TaskKind};
use crate::observe::world::{Outcome, Task, World};
use crate::words::Direction;

pub use decision::{Account, Action, Decision, Finding, Truth};
use flip::Shown;
use gates::Gate;
use position::{Flight, Position};
use stance::Stance;
use tasks::Upkeep;

/// Deletion never takes longer than this, whatever the databases do.
pub const DELETION_BOUND: Duration = Duration::from_mins(3);
/// While an epoch is open, look again at least this often: pods may have gone without a word.
const IN_FLIGHT: Duration = Duration::from_secs(5);

/// One pass.
struct Pass<'a> {
    migration: &'a Migration,
    world: &'a World,
    now: Timestamp,
    desired: Phase,
    suspended: bool,
    preflight: Option<&'a Task>,
    position: Position,
    upkeep: Upkeep,
    actions: Vec<Action>,
}

/// What a pass found about the flip and the next step; `account` makes sentences of it.
struct Outlook {
    flip: Option<FlipStatus>,
    shown: Option<Shown>,
    /// What holds now; `Pass`: nothing, this is the desired rung.
    gate: Gate,
    /// The open epoch took too long.
    overdue: Option<String>,
    next: Option<Stance>,
}

/// Decides what to do now.
pub fn decide(migration: &Migration, world: &World, now: Timestamp) -> Decision {
    let preflight = preflight_of(migration, world);
    let position = position::position(migration, world, preflight);
    let desired = if world.deleting.is_some() {
        safe_rung(&position, world)
    } else {
        migration.phase
    };
    let mut pass = Pass {
        migration,
        world,
        now,
        desired,
        // Leaving the application in a safe mode is no background work.
        suspended: migration.suspend && world.deleting.is_none(),
        preflight,
        position,
        upkeep: Upkeep::default(),
        actions: Vec::new(),
    };
    let outlook = pass.outlook();
    pass.finish(&outlook)
}

/// Preflight of this very manifest.
fn preflight_of<'a>(migration: &Migration, world: &'a World) -> Option<&'a Task> {
    let name = tasks::name(&preflight_work(migration), &migration.fingerprint);
    let mine = |task: &&Task| task.is(TaskKind::Preflight) && !task.deleting && task.name.starts_with(&name);
    // A verdict stands until the next attempt has its own.
    world
        .tasks
        .iter()
        .filter(mine)
        .max_by_key(|task| (task.outcome() != Outcome::Open, task.attempt))
}

fn preflight_work(migration: &Migration) -> MigrationTaskSpec {
    whole(migration, TaskKind::Preflight)
}

fn whole(migration: &Migration, kind: TaskKind) -> MigrationTaskSpec {
    MigrationTaskSpec {
        migration: migration.name.clone(),
        kind,
        table: None,
        scope: None,
        direction: Direction::Forward,
        epoch: 0,
        round: 0,
        generation: migration.generation,
        control: None,
        due: None,
    }
}

/// The rung to leave the application on when the resource goes away.
fn safe_rung(position: &Position, world: &World) -> Phase {
    match position {
        Position::Flight(Flight { stance, .. }) | Position::At { stance, .. } | Position::Unproved { stance, .. } => {
            match stance {
                Stance::SourceOnly | Stance::SourceFirst | Stance::SourceFirstStrict => Phase::SourceOnly,
                Stance::TargetFirstStrict | Stance::TargetFirst => Phase::TargetFirst,
                Stance::TargetOnly => position.rung(world).unwrap_or(Phase::TargetOnly),
            }
        }
        _ => Phase::SourceOnly,
    }
}

/// Whether a failed piece of work is still wanted and will be tried again.
pub fn failed(world: &World) -> impl Iterator<Item = (&Task, String, String)> {
    world
        .tasks
        .iter()
        .filter(|task| !task.deleting)
        .filter_map(|task| match task.outcome() {
            Outcome::Failed(reason, message, _) => Some((task, reason, message)),
            Outcome::Open | Outcome::Succeeded => None,
        })
}
