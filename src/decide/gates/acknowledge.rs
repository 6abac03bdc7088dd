//! The gate of a flip: every instance of the application works in its epoch, or is gone.

use jiff::Timestamp;
use std::time::Duration;

use super::{Gate, elapsed, human};
use crate::api::conditions::Reason;
use crate::api::migration::{Acknowledge, Migration};
use crate::api::task::{ControlSpec, Instance, WatchReport};
use crate::observe::world::{Pod, Seen, World};
use crate::words::SecondaryWrites;

/// An instance that has not been heard of for this long is gone: its lease and its sessions have run out.
pub const GONE_AFTER_SECONDS: i64 = 60;

/// Every instance works in this epoch or is gone.
pub fn acknowledged(
    migration: &Migration,
    world: &World,
    control: &ControlSpec,
    report: &WatchReport,
    configured_at: Option<Timestamp>,
    now: Timestamp,
) -> Gate {
    match &migration.application.acknowledge {
        Acknowledge::Delay { delay, .. } => {
            let passed = configured_at.map_or(Duration::ZERO, |since| elapsed(since, now));
            if configured_at.is_some() && passed >= *delay {
                Gate::Pass
            } else {
                Gate::Hold(
                    Reason::AwaitingAcknowledgement,
                    format!(
                        "epoch {} counts as acknowledged {} after the ConfigMap showed it",
                        control.epoch,
                        human(*delay)
                    ),
                )
            }
        }
        // Rows that cannot be read may be those of an instance that still writes.
        Acknowledge::Instances { .. } if report.problem.is_some() => {
            let problem = report.problem.clone().unwrap_or_default();
            Gate::Hold(
                Reason::DatabaseProblem,
                format!("acknowledgements cannot be read: {problem}"),
            )
        }
        Acknowledge::Instances { .. } => match &world.pods {
            Seen::Absent => Gate::Hold(
                Reason::AwaitingAcknowledgement,
                "the application's pods have not been listed".to_owned(),
            ),
            Seen::Unknown(why) => Gate::Hold(
                Reason::AwaitingAcknowledgement,
                format!("the application's pods cannot be listed: {why}"),
            ),
            Seen::Known(pods) => by_instances(control, report, pods),
        },
    }
}

fn by_instances(control: &ControlSpec, report: &WatchReport, pods: &[Pod]) -> Gate {
    let running: Vec<&Pod> = pods.iter().filter(|pod| !pod.finished).collect();
    if running.is_empty() {
        return Gate::Hold(
            Reason::NoPods,
            "no pod matches spec.application.acknowledge.selector; start the application, correct the selector, or use \
             by: Delay"
                .to_owned(),
        );
    }
    // An instance that is ahead follows somebody else.
    let follows = |row: &Instance| {
        row.epoch == control.epoch
            && row.mode.is_none_or(|mode| mode == control.mode)
            && (control.secondary == SecondaryWrites::Lenient
                || row
                    .secondary_writes
                    .is_none_or(|secondary| secondary == control.secondary))
    };
    let mut silent = Vec::new();
    for pod in &running {
        let rows: Vec<&Instance> = report.instances.iter().filter(|row| row.pod_uid == pod.uid).collect();
        // A process that died inside a living pod leaves a row that only time removes.
        let living: Vec<&&Instance> = rows
            .iter()
            .filter(|row| row.seen_seconds_ago <= GONE_AFTER_SECONDS)
            .collect();
        if rows.is_empty() {
            silent.push(format!("pod {} has never reported", pod.name));
        } else if living.is_empty() {
            silent.push(format!(
                "pod {} has not been heard of for over {GONE_AFTER_SECONDS} s",
                pod.name
            ));
        } else if let Some(behind) = living.iter().find(|row| !follows(row)) {
            let ahead = if behind.epoch > control.epoch {
                ", which nobody flipped it to; restart it"
            } else {
                ""
            };
            silent.push(format!("pod {} is at {}{ahead}", pod.name, place(behind)));
        }
    }
    for row in &report.instances {
        let gone = !pods.iter().any(|pod| pod.uid == row.pod_uid && !pod.finished);
        if gone && !follows(row) && row.seen_seconds_ago <= GONE_AFTER_SECONDS {
            silent.push(format!(
                "pod {} is gone, but was heard of {} s ago at epoch {}",
                row.pod, row.seen_seconds_ago, row.epoch
            ));
        }
    }
    if silent.is_empty() {
        Gate::Pass
    } else {
        Gate::Hold(
            Reason::AwaitingAcknowledgement,
            format!("epoch {} is not acknowledged: {}", control.epoch, list(&silent)),
        )
    }
}

/// Where an instance is.
fn place(row: &Instance) -> String {
    let mode = row.mode.map_or_else(String::new, |mode| format!(" ({mode})"));
    format!("epoch {}{mode}", row.epoch)
}

/// At most five of a list; the rest counted.
fn list(items: &[String]) -> String {
    const SHOWN: usize = 5;
    let text = items
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    match items.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text}, and {more} more"),
    }
}
