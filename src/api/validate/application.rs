//! The application: its ConfigMap and how it acknowledges.

use std::time::Duration;

use super::findings::{Findings, duplicates};
use crate::api::migration::{Acknowledge, Application};
use crate::api::spec::{AcknowledgeBy, ApplicationSpec, ConfigMapKeys};
use crate::words::{ModeKeys, Protocol};

pub(super) fn application(found: &mut Findings, raw: &ApplicationSpec) -> Option<Application> {
    let at = "spec.application";
    let acknowledge = &raw.acknowledge;
    let selector = acknowledge.selector.clone().filter(|selector| {
        selector.match_labels.as_ref().is_some_and(|labels| !labels.is_empty())
            || selector.match_expressions.as_ref().is_some_and(|list| !list.is_empty())
    });
    let timeout = found.duration(
        &format!("{at}.acknowledge.timeout"),
        acknowledge.timeout.as_ref(),
        Duration::from_mins(5),
    );
    let by = acknowledge.by.unwrap_or_default();
    if by != AcknowledgeBy::Delay && acknowledge.delay.is_some() {
        found.add(
            format!("{at}.acknowledge.delay"),
            "is for by: Delay only; remove it, or set by to Delay",
        );
    }
    if by != AcknowledgeBy::Delay && raw.protocol.is_some() {
        found.add(
            format!("{at}.protocol"),
            "is for by: Delay only; instances state their protocol themselves",
        );
    }
    let acknowledge = match by {
        AcknowledgeBy::Instances => {
            if let Some(selector) = selector {
                Some(Acknowledge::Instances { selector })
            } else {
                found.add(
                    format!("{at}.acknowledge.selector"),
                    "is empty; give labels that match the application's pods, or every pod of the namespace would count",
                );
                None
            }
        }
        AcknowledgeBy::Rollout => {
            found.not_yet(format!("{at}.acknowledge.by"), "Rollout", "use Instances or Delay");
            None
        }
        AcknowledgeBy::Delay => {
            if acknowledge.delay.is_none() {
                found.add(
                    format!("{at}.acknowledge.delay"),
                    "is missing; say after which time every instance has seen a flip",
                );
            }
            let delay = found.duration(
                &format!("{at}.acknowledge.delay"),
                acknowledge.delay.as_ref(),
                Duration::ZERO,
            );
            Some(Acknowledge::Delay { delay, selector })
        }
    };
    let percent = raw.reads.as_ref().and_then(|reads| reads.target_percent).unwrap_or(0);
    if percent > 100 {
        found.add(
            format!("{at}.reads.targetPercent"),
            format!("{percent} is not between 0 and 100"),
        );
    }
    let keys = mode_keys(raw.config_map_ref.keys.clone().unwrap_or_default());
    let all = [
        &keys.write_mode,
        &keys.read_from,
        &keys.read_target_percent,
        &keys.secondary_writes,
        &keys.epoch,
    ];
    duplicates(
        found,
        &format!("{at}.configMapRef.keys"),
        "key",
        all.iter().map(|key| key.as_str()),
    );
    for key in all {
        if key.is_empty() || key.len() > 253 || !key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            found.add(
                format!("{at}.configMapRef.keys"),
                format!("{key:?} is not a key that a ConfigMap may have"),
            );
        }
    }
    Some(Application {
        config_map: raw.config_map_ref.name.clone(),
        keys,
        acknowledge: acknowledge?,
        acknowledge_timeout: timeout,
        protocol: raw.protocol.unwrap_or(Protocol::Ordered),
        read_target_percent: percent,
    })
}

fn mode_keys(raw: ConfigMapKeys) -> ModeKeys {
    let usual = ModeKeys::default();
    ModeKeys {
        write_mode: raw.write_mode.unwrap_or(usual.write_mode),
        read_from: raw.read_from.unwrap_or(usual.read_from),
        read_target_percent: raw.read_target_percent.unwrap_or(usual.read_target_percent),
        secondary_writes: raw.secondary_writes.unwrap_or(usual.secondary_writes),
        epoch: raw.epoch.unwrap_or(usual.epoch),
    }
}
