//! A flip under way: the ConfigMap in step with the epoch, acknowledgements, closing, and turning back while that is
//! still safe. Only one epoch is ever open, except that an open one may be taken back by a milder one of the same base.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::conditions::Reason;
use crate::api::migration::Migration;
use crate::api::phase::Phase;
use crate::api::status::FlipStatus;
use crate::api::task::ControlSpec;
use crate::decide::decision::Action;
use crate::decide::gates::{self, Gate, elapsed};
use crate::decide::position::{Flight, Leg};
use crate::decide::stance::{Stance, turns};
use crate::observe::world::{ModeMap, Seen, World};
use crate::words::{Mode, Side};

/// Put-backs in short succession after which the ConfigMap is left alone for the rest of the minute.
const PUT_BACKS: u32 = 5;
/// For this long a put-back keeps the gates closed.
pub const PUT_BACK_WINDOW: Duration = Duration::from_mins(1);

/// The record of this epoch's times: the previous one if it is of this epoch, else a new one.
pub fn record(world: &World, control: &ControlSpec, now: Timestamp) -> FlipStatus {
    match &world.previous.flip {
        Some(flip) if flip.epoch == control.epoch => flip.clone(),
        other => FlipStatus {
            epoch: control.epoch,
            started_at: Time(now),
            configured_at: None,
            acknowledged_at: None,
            put_back_at: None,
            put_backs: 0,
            given_up: other
                .as_ref()
                .and_then(|flip| flip.given_up.clone())
                .filter(|_| !turns(control)),
        },
    }
}

/// What the ConfigMap has to show in a stance.
pub fn mode_data(migration: &Migration, stance: Stance, epoch: i64, share_reads: bool) -> BTreeMap<String, String> {
    let keys = &migration.application.keys;
    let percent = if share_reads && stance == Stance::SourceFirst {
        migration.application.read_target_percent
    } else {
        0
    };
    BTreeMap::from([
        (keys.write_mode.clone(), stance.mode().to_string()),
        (keys.read_from.clone(), stance.reads().to_string()),
        (keys.read_target_percent.clone(), percent.to_string()),
        (keys.secondary_writes.clone(), stance.secondary().to_string()),
        (keys.epoch.clone(), epoch.to_string()),
    ])
}

/// Whether the ConfigMap shows what it has to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    Right,
    /// Written by this pass, or to be: nobody has meddled.
    Behind,
    /// Somebody else changed it; put back by this pass unless that happened too often.
    Reverted(String),
    Unknown(String),
}

/// Compares the ConfigMap with the epoch and puts it right.
pub fn keep_mode(
    migration: &Migration,
    world: &World,
    wanted: BTreeMap<String, String>,
    flip: &mut FlipStatus,
    now: Timestamp,
) -> (Shown, Option<Action>) {
    let name = &migration.application.config_map;
    let (differs, version) = match &world.mode {
        Seen::Unknown(why) => return (Shown::Unknown(format!("ConfigMap {name} cannot be read: {why}")), None),
        Seen::Absent => (vec![format!("ConfigMap {name} is gone")], None),
        Seen::Known(map) => (differences(map, &wanted), Some(map.resource_version.clone())),
    };
    if differs.is_empty() {
        flip.configured_at.get_or_insert(Time(now));
        let recent = flip
            .put_back_at
            .as_ref()
            .is_some_and(|at| elapsed(at.0, now) < PUT_BACK_WINDOW);
        if recent {
            return (
                Shown::Reverted(format!("somebody else changed ConfigMap {name}; it was put back")),
                None,
            );
        }
        if let Some(at) = flip.put_back_at.take() {
            // Whoever read it in between has seen this epoch from then on only.
            flip.configured_at = Some(at);
        }
        flip.put_backs = 0;
        return (Shown::Right, None);
    }
    let write = Action::WriteMode {
        data: wanted,
        resource_version: version,
    };
    let share_only = differs
        .iter()
        .all(|text| text.starts_with(&migration.application.keys.read_target_percent));
    if flip.configured_at.is_none() || share_only {
        return (Shown::Behind, Some(write));
    }
    let text = format!(
        "somebody else changed ConfigMap {name} ({}); exclude its mode keys from whatever applies it",
        differs.join(", ")
    );
    let recent = flip
        .put_back_at
        .as_ref()
        .is_some_and(|at| elapsed(at.0, now) < PUT_BACK_WINDOW);
    if recent && flip.put_backs >= PUT_BACKS {
        return (
            Shown::Reverted(format!(
                "{text}; put back {PUT_BACKS} times within a minute, the next time follows"
            )),
            None,
        );
    }
    flip.put_backs = if recent { flip.put_backs + 1 } else { 1 };
    flip.put_back_at = Some(Time(now));
    (Shown::Reverted(text), Some(write))
}

fn differences(map: &ModeMap, wanted: &BTreeMap<String, String>) -> Vec<String> {
    wanted
        .iter()
        .filter(|(key, value)| map.data.get(*key) != Some(value))
        .map(|(key, value)| match map.data.get(key) {
            Some(found) => format!("{key} is {found:?} instead of {value:?}"),
            None => format!("{key} is missing instead of {value:?}"),
        })
        .collect()
}

/// An application that works on the target although no journal knows of it: the base would be changed without proof.
pub fn not_on_the_target(migration: &Migration, world: &World) -> Gate {
    let keys = &migration.application.keys;
    let mode = world
        .mode
        .known()
        .and_then(|map| map.data.get(&keys.write_mode)?.parse::<Mode>().ok());
    match mode {
        Some(mode) if mode.base() == Side::Target => Gate::Stop(
            Reason::JournalUnexpected,
            format!(
                "ConfigMap {} shows {mode}, and the databases hold no journal of this migration: restore their \
                 _datamigration_* tables; or, if the source has everything, set {} to SRC_ONLY",
                migration.application.config_map, keys.write_mode
            ),
        ),
        _ => Gate::Pass,
    }
}

/// Pods whose annotation does not carry the epoch.
pub fn annotate(world: &World, epoch: i64) -> Option<Action> {
    let wanted = epoch.to_string();
    let pods: Vec<String> = world
        .pods
        .known()?
        .iter()
        .filter(|pod| !pod.finished && pod.annotated.as_ref() != Some(&wanted))
        .map(|pod| pod.name.clone())
        .collect();
    (!pods.is_empty()).then_some(Action::AnnotatePods { pods, epoch })
}

/// Takes an open epoch back, where both its instances and those of the next one have the same base.
pub fn turn_back(
    flight: &Flight,
    desired: Phase,
    suspended: bool,
    overdue: Option<String>,
) -> Option<(Stance, Option<String>)> {
    if flight.leg == Leg::Closing {
        return None;
    }
    match (flight.stance, turns(&flight.control)) {
        (Stance::SourceFirst, _) if desired == Phase::SourceOnly => Some((Stance::SourceOnly, None)),
        (Stance::SourceFirstStrict, false) => {
            let lowered = suspended || !desired.at_least(Phase::TargetFirst);
            (lowered || overdue.is_some()).then_some((Stance::SourceFirst, overdue))
        }
        (Stance::TargetFirstStrict, false) => {
            let raised = suspended || desired.at_least(Phase::TargetFirst);
            (raised || overdue.is_some()).then_some((Stance::TargetFirst, overdue))
        }
        _ => None,
    }
}

/// What an open epoch waits for, and whether it has waited too long.
pub fn awaits(
    migration: &Migration,
    world: &World,
    flight: &Flight,
    shown: &Shown,
    flip: &FlipStatus,
    now: Timestamp,
) -> Gate {
    let epoch = flight.control.epoch;
    match flight.leg {
        Leg::Raising => match &flight.report.problem {
            Some(problem) => Gate::Hold(Reason::DatabaseProblem, problem.clone()),
            None => Gate::Hold(
                Reason::RaisingEpoch,
                format!(
                    "epoch {epoch} ({}) is being recorded in both databases",
                    flight.stance.words()
                ),
            ),
        },
        Leg::Closing => match &flight.report.problem {
            Some(problem) => Gate::Hold(Reason::DatabaseProblem, problem.clone()),
            None => Gate::Hold(
                Reason::ClosingEpoch,
                format!("the databases are shutting out instances below epoch {epoch}"),
            ),
        },
        Leg::Telling => match shown {
            Shown::Unknown(why) => Gate::Hold(Reason::FlippingConfigMap, why.clone()),
            Shown::Reverted(why) => Gate::Hold(Reason::FlipReverted, why.clone()),
            Shown::Behind => Gate::Hold(
                Reason::FlippingConfigMap,
                format!(
                    "ConfigMap {} is being flipped to {}",
                    migration.application.config_map,
                    flight.stance.words()
                ),
            ),
            Shown::Right => gates::acknowledged(
                migration,
                world,
                &flight.control,
                &flight.report,
                flip.configured_at.as_ref().map(|at| at.0),
                now,
            ),
        },
    }
}

/// Why an open epoch is overdue, if it is.
pub fn overdue(
    migration: &Migration,
    flight: &Flight,
    flip: &FlipStatus,
    gate: &Gate,
    now: Timestamp,
) -> Option<String> {
    let (Gate::Hold(_, why) | Gate::Stop(_, why)) = gate else {
        return None;
    };
    let timeout = migration.application.acknowledge_timeout;
    if flip
        .configured_at
        .as_ref()
        .is_some_and(|at| elapsed(at.0, now) > timeout)
    {
        return Some(format!(
            "not acknowledged within {} (spec.application.acknowledge.timeout): {why}",
            gates::human(timeout)
        ));
    }
    let strict_for = migration.gates.strict_for;
    (flight.stance.strict() && elapsed(flip.started_at.0, now) > strict_for).then(|| {
        format!(
            "the strict epoch lasted longer than {} (spec.gates.strictFor): {why}",
            gates::human(strict_for)
        )
    })
}
