//! Where a migration is, read from the journal alone: which epoch, in which stance, and how far that epoch has come.
//! The resource's own status is never asked.

use crate::api::conditions::Reason;
use crate::api::migration::Migration;
use crate::api::phase::Phase;
use crate::api::task::{ControlSpec, Journal, TaskKind, WatchReport};
use crate::decide::gates::{self, Gate};
use crate::decide::rungs::target_only::the;
use crate::decide::stance::{Stance, rung_in_flight, turns};
use crate::observe::world::{Outcome, Task, World};

/// Where a migration is.
#[derive(Debug, Clone, PartialEq)]
pub enum Position {
    /// The databases have not been read yet; nothing may be concluded.
    Unread(Gate),
    /// The databases have no journal: the application has never been flipped.
    Untouched,
    /// The journal knows of an epoch that the Watch does not: take it over before anything else.
    Adopt(ControlSpec),
    /// An epoch is under way.
    Flight(Flight),
    /// The latest epoch is acknowledged and closed.
    At {
        stance: Stance,
        control: ControlSpec,
        journal: Journal,
    },
    /// The base is right, and what was proved about the other side holds no longer: it has to be proved anew.
    Unproved {
        stance: Stance,
        control: ControlSpec,
        gate: Gate,
    },
    /// The journal contradicts what was there before.
    Strange(Gate),
}

/// An epoch that is not closed yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Flight {
    pub stance: Stance,
    pub control: ControlSpec,
    pub leg: Leg,
    pub report: WatchReport,
}

/// How far an epoch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    /// The intent is recorded; the databases do not all carry the epoch yet.
    Raising,
    /// All databases carry it: the application may be told, and has to acknowledge.
    Telling,
    /// Acknowledged; the databases do not all shut out older instances yet.
    Closing,
}

impl Position {
    pub fn control(&self) -> Option<&ControlSpec> {
        match self {
            Self::Flight(flight) => Some(&flight.control),
            Self::At { control, .. } | Self::Unproved { control, .. } | Self::Adopt(control) => Some(control),
            Self::Unread(_) | Self::Untouched | Self::Strange(_) => None,
        }
    }

    /// The rung that the journal proves; `None` while it is not known.
    pub fn rung(&self, world: &World) -> Option<Phase> {
        match self {
            Self::Unread(_) | Self::Strange(_) => None,
            Self::Untouched => Some(Phase::SourceOnly),
            Self::Adopt(control) => Stance::of(control.mode, control.secondary).map(Stance::rung),
            Self::Flight(flight) => Some(rung_in_flight(&flight.control, flight.stance)),
            Self::Unproved { stance, control, .. } if control.min_epoch < control.epoch => {
                Some(rung_in_flight(control, *stance))
            }
            Self::Unproved { stance, .. } => Some(stance.rung()),
            Self::At { stance, journal, .. } => Some(match stance {
                Stance::TargetOnly if archived(journal, world) => Phase::Archived,
                _ => stance.rung(),
            }),
        }
    }

    /// At the foot of the ladder with no epoch under way.
    pub const fn at_rest(&self) -> bool {
        matches!(
            self,
            Self::Untouched
                | Self::At {
                    stance: Stance::SourceOnly,
                    ..
                }
        )
    }
}

/// Whether the source has been archived: as the journal says, or as the archive's own worker has just recorded.
pub fn archived(journal: &Journal, world: &World) -> bool {
    journal.archived || the(world, TaskKind::Archive).is_some_and(|task| task.outcome() == Outcome::Succeeded)
}

/// Reads the position from the reports of Preflight and Watch.
pub fn position(migration: &Migration, world: &World, preflight: Option<&Task>) -> Position {
    let Some(watch) = gates::watch(world) else {
        return match preflight {
            Some(task) if task.outcome() == Outcome::Succeeded => match &task.status.journal {
                // Its report may be from before the first flip: a Watch that is gone was there for something.
                None if world.previous.epoch == 0 && told(migration, world) == 0 => Position::Untouched,
                // Whatever it says, it is read again by the Watch, and taken over from there.
                _ => unread("the journal that the databases hold is to be read"),
            },
            other => Position::Unread(gates::preflight(other)),
        };
    };
    let Some((report, journal)) = watch.report() else {
        if let Some(gate) = gates::hindered(watch) {
            return Position::Unread(gate);
        }
        if let Outcome::Failed(reason, message, _) = watch.outcome() {
            return Position::Unread(Gate::Stop(Reason::Worker(reason), message));
        }
        return unread("the journal is being read from the databases");
    };
    if let Some(position) = watch.spec.control.as_ref().and_then(|control| lost(control, report)) {
        return position;
    }
    let position = match (watch.spec.control.as_ref(), journal) {
        // What cannot be read is unknown, which is not the same as absent.
        (control, None) if report.problem.is_some() && control.is_none_or(|control| control.min_epoch > 0) => {
            unreadable(report)
        }
        (None, None) => Position::Untouched,
        (None, Some(journal)) => Position::Adopt(as_control(journal)),
        (Some(control), None) => {
            if control.min_epoch > 0 {
                strange(format!(
                    "the control tables of epoch {} are gone from the databases; restore them before anything else is done",
                    control.epoch
                ))
            } else {
                flight(control, Leg::Raising, report)
            }
        }
        (Some(control), Some(journal)) => compare(control, journal, report),
    };
    if let Position::At { stance, control, .. } = &position
        && let Some(gate) = ahead(migration, world, control, report)
    {
        return Position::Unproved {
            stance: *stance,
            control: control.clone(),
            gate,
        };
    }
    position
}

/// The epoch that the ConfigMap shows; 0 where it shows none.
pub fn told(migration: &Migration, world: &World) -> i64 {
    let shown = world
        .mode
        .known()
        .and_then(|map| map.data.get(&migration.application.keys.epoch));
    shown.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A database that carries less than what was closed there is not the one that was copied and compared.
fn lost(control: &ControlSpec, report: &WatchReport) -> Option<Position> {
    let lost = |side| report.lost.contains(&side) && control.least(side) > 0;
    let base = control.mode.base();
    if !(lost(base) || lost(base.other())) {
        return None;
    }
    let why = report
        .problem
        .clone()
        .unwrap_or_else(|| "a database has lost writes, by a failover or a restored backup".to_owned());
    let stance = Stance::of(control.mode, control.secondary)?;
    let swapping = turns(control) && stance.strict() && control.min_epoch < control.epoch;
    if lost(base) || swapping {
        return Some(strange(format!(
            "{why}; the {base} is the base: find out what it has lost, and restore its control tables before anything else \
             is done"
        )));
    }
    Some(Position::Unproved {
        stance,
        control: control.clone(),
        gate: Gate::Hold(
            Reason::JournalUnexpected,
            format!("{why}; the {base} is right, and everything is proved anew from there"),
        ),
    })
}

/// Instances that work in an epoch which nobody flipped them to write where nobody knows.
fn ahead(migration: &Migration, world: &World, control: &ControlSpec, report: &WatchReport) -> Option<Gate> {
    let map = &migration.application.config_map;
    let shown = told(migration, world);
    let what = if shown > control.epoch {
        format!("ConfigMap {map} shows epoch {shown}")
    } else {
        let row = report
            .instances
            .iter()
            .find(|row| row.epoch > control.epoch && row.seen_seconds_ago <= gates::GONE_AFTER_SECONDS)?;
        format!("pod {} works in epoch {}", row.pod, row.epoch)
    };
    Some(Gate::Hold(
        Reason::FlipReverted,
        format!(
            "{what}, and epoch {} is the latest: somebody else flipped the application; it is given a new epoch, and \
             everything is proved anew",
            control.epoch
        ),
    ))
}

fn compare(control: &ControlSpec, journal: &Journal, report: &WatchReport) -> Position {
    if journal.epoch > control.epoch {
        return Position::Adopt(ControlSpec {
            min_epoch: journal.min_epoch.max(control.min_epoch),
            ..as_control(journal)
        });
    }
    if journal.epoch < control.least(control.mode.base().other()) {
        return strange(format!(
            "the journal went back from epoch {} to {}: a database has lost writes, by a failover or a restored backup",
            control.min_epoch, journal.epoch
        ));
    }
    // An epoch that was closed stays closed while a database cannot be read.
    let partly = !report.epoch_on_all_shards || !report.min_epoch_on_all_shards;
    if partly && report.problem.is_some() && control.min_epoch == control.epoch {
        return unreadable(report);
    }
    if journal.epoch < control.epoch || !report.epoch_on_all_shards {
        return flight(control, Leg::Raising, report);
    }
    if (journal.mode, journal.secondary) != (control.mode, control.secondary) {
        return strange(format!(
            "epoch {} is {} in the journal and {} in the Watch task; somebody else flips these tables",
            journal.epoch, journal.mode, control.mode
        ));
    }
    if control.min_epoch < control.epoch && journal.min_epoch < journal.epoch {
        return flight(control, Leg::Telling, report);
    }
    if journal.min_epoch < journal.epoch || !report.min_epoch_on_all_shards || journal.acked_at.is_none() {
        return flight(control, Leg::Closing, report);
    }
    match Stance::of(control.mode, control.secondary) {
        Some(stance) => {
            // Closed in the databases is closed, even if the Watch's spec has not caught up (a pass that was lost).
            let control = ControlSpec {
                min_epoch: journal.min_epoch,
                ..control.clone()
            };
            Position::At {
                stance,
                control,
                journal: journal.clone(),
            }
        }
        None => unknown_mode(control),
    }
}

fn flight(control: &ControlSpec, leg: Leg, report: &WatchReport) -> Position {
    match Stance::of(control.mode, control.secondary) {
        Some(stance) => Position::Flight(Flight {
            stance,
            control: control.clone(),
            leg,
            report: report.clone(),
        }),
        None => unknown_mode(control),
    }
}

fn unknown_mode(control: &ControlSpec) -> Position {
    strange(format!(
        "epoch {} has mode {}, which strategy DualWrite never uses",
        control.epoch, control.mode
    ))
}

fn unreadable(report: &WatchReport) -> Position {
    let problem = report
        .problem
        .clone()
        .unwrap_or_else(|| "a database cannot be read".to_owned());
    Position::Unread(Gate::Hold(Reason::DatabaseProblem, problem))
}

fn unread(why: &str) -> Position {
    Position::Unread(Gate::Hold(Reason::JournalUnknown, why.to_owned()))
}

fn strange(why: String) -> Position {
    Position::Strange(Gate::Stop(Reason::JournalUnexpected, why))
}

fn as_control(journal: &Journal) -> ControlSpec {
    ControlSpec {
        epoch: journal.epoch,
        min_epoch: journal.min_epoch,
        mode: journal.mode,
        secondary: journal.secondary,
        round: journal.round,
        base_since: journal.base_since,
    }
}
