//! How much background work may ask of the databases, and when: rates, measures of load, the window.

use std::time::Duration;

use super::findings::Findings;
use crate::api::migration::{Limits, LoadQuery};
use crate::api::schedule::Window;
use crate::api::tuning::{PauseQuerySpec, PauseWhenSpec, RateLimitSpec};

pub(super) fn limits(
    found: &mut Findings,
    rate: Option<&RateLimitSpec>,
    pause: Option<&PauseWhenSpec>,
    window: Option<&String>,
    time_zone: Option<&String>,
) -> Limits {
    let rows_per_second = rate.and_then(|rate| rate.rows_per_second);
    let bytes_per_second = rate.and_then(|rate| rate.bytes_per_second);
    for (field, zero) in [
        ("rowsPerSecond", rows_per_second == Some(0)),
        ("bytesPerSecond", bytes_per_second == Some(0)),
    ] {
        if zero {
            found.add(
                format!("spec.copy.rateLimit.{field}"),
                "0 would never end; use spec.suspend to stop",
            );
        }
    }
    let threads_running = pause.and_then(|pause| pause.threads_running);
    if threads_running == Some(0) {
        found.add(
            "spec.copy.pauseWhen.threadsRunning",
            "0 would never begin; use spec.suspend to stop",
        );
    }
    let replication_lag = pause.and_then(|pause| pause.replication_lag.as_ref()).map(|text| {
        let lag = found.duration("spec.copy.pauseWhen.replicationLag", Some(text), Duration::ZERO);
        if lag < Duration::from_secs(1) {
            found.add(
                "spec.copy.pauseWhen.replicationLag",
                format!("{text} is less than 1s, which is the finest that servers tell"),
            );
        }
        lag
    });
    if time_zone.is_some() && window.is_none() {
        found.add("spec.copy.timeZone", "has no use without spec.copy.window; remove it");
    }
    Limits {
        rows_per_second,
        bytes_per_second,
        threads_running,
        replication_lag,
        query: pause
            .and_then(|pause| pause.query.as_ref())
            .map(|raw| query(found, raw)),
        window: window.and_then(|text| match Window::parse(text, time_zone.map(String::as_str)) {
            Ok(window) => Some(window),
            Err(why) => {
                found.add("spec.copy.window", why);
                None
            }
        }),
    }
}

fn query(found: &mut Findings, raw: &PauseQuerySpec) -> LoadQuery {
    if raw.sql.trim().is_empty() {
        found.add(
            "spec.copy.pauseWhen.query.sql",
            "is empty; give a statement that returns one number",
        );
    }
    if !raw.above.is_finite() {
        found.add("spec.copy.pauseWhen.query.above", "must be a finite number");
    }
    LoadQuery {
        sql: raw.sql.clone(),
        above: raw.above,
        side: raw.side.unwrap_or_default(),
    }
}
