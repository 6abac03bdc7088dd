//! How hard and how long: copy, verify, gates, worker pods.

use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::findings::Findings;
use super::limits;
use crate::api::migration::{CopySettings, Gates, VerifyBudget, VerifySettings, Worker};
use crate::api::schedule::Schedule;
use crate::api::tuning::{CopySpec, GatesSpec, SecondaryIndexes, VerifyBudgetSpec, VerifySpec, WorkerSpec};

pub(super) fn copy(found: &mut Findings, raw: CopySpec) -> CopySettings {
    let CopySpec {
        parallelism,
        pods,
        create_tables,
        secondary_indexes,
        rate_limit,
        pause_when,
        window,
        time_zone,
    } = raw;
    let pods = pods.unwrap_or(1);
    if !(1..=64).contains(&pods) {
        found.add("spec.copy.pods", format!("{pods} is not between 1 and 64"));
    }
    let create_tables = create_tables.unwrap_or_default();
    let secondary_indexes = secondary_indexes.unwrap_or_default();
    if secondary_indexes == SecondaryIndexes::After && !create_tables {
        found.add(
            "spec.copy.secondaryIndexes",
            "After is about tables that datamigration creates; set copy.createTables: true, or remove it",
        );
    }
    let parallelism = parallelism.unwrap_or(4);
    if !(1..=64).contains(&parallelism) {
        found.add(
            "spec.copy.parallelism",
            format!("{parallelism} is not between 1 and 64"),
        );
    }
    CopySettings {
        parallelism,
        pods,
        create_tables,
        secondary_indexes,
        limits: limits::limits(
            found,
            rate_limit.as_ref(),
            pause_when.as_ref(),
            window.as_ref(),
            time_zone.as_ref(),
        ),
    }
}

pub(super) fn verify(found: &mut Findings, raw: VerifySpec) -> VerifySettings {
    let VerifySpec {
        lag,
        interval,
        full,
        repair,
        max_deletes,
        budget,
        time_zone,
    } = raw;
    let full = match (&full, &time_zone) {
        (Some(text), zone) => Schedule::parse(text, zone.as_deref())
            .map_err(|why| found.add("spec.verify.full", why))
            .ok(),
        (None, Some(_)) => {
            found.add(
                "spec.verify.timeZone",
                "is the time zone of verify.full; give that too, or remove it",
            );
            None
        }
        (None, None) => None,
    };
    VerifySettings {
        lag: found.duration("spec.verify.lag", lag.as_ref(), Duration::from_mins(1)),
        interval: found.duration("spec.verify.interval", interval.as_ref(), Duration::from_secs(30)),
        repair: repair.unwrap_or_default(),
        max_deletes: max_deletes.unwrap_or(1000),
        full,
        budget: budget.map(|raw| budget_of(found, &raw)).unwrap_or_default(),
    }
}

fn budget_of(found: &mut Findings, raw: &VerifyBudgetSpec) -> VerifyBudget {
    if raw.mismatches == Some(0) {
        found.add(
            "spec.verify.budget.mismatches",
            "0 would end every pass before it begins; 1 ends it at the first difference",
        );
    }
    let duration = raw
        .duration
        .as_ref()
        .map(|text| found.duration("spec.verify.budget.duration", Some(text), Duration::MAX));
    if duration.is_some_and(|duration| duration.is_zero()) {
        found.add(
            "spec.verify.budget.duration",
            "0 leaves no time to compare anything; leave it out for as long as it takes",
        );
    }
    VerifyBudget {
        mismatches: raw.mismatches,
        duration,
    }
}

pub(super) fn gates(found: &mut Findings, raw: &GatesSpec) -> Gates {
    let gates = Gates {
        clean_for: found.duration("spec.gates.cleanFor", raw.clean_for.as_ref(), Duration::from_mins(10)),
        strict_for: found.duration("spec.gates.strictFor", raw.strict_for.as_ref(), Duration::from_mins(5)),
    };
    if gates.strict_for.is_zero() {
        found.add(
            "spec.gates.strictFor",
            "0 leaves no time to change the base; 5m is usual",
        );
    }
    gates
}

pub(super) fn worker(raw: WorkerSpec) -> Worker {
    let quantity = |pairs: &[(&str, &str)]| {
        Some(
            pairs
                .iter()
                .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
                .collect(),
        )
    };
    Worker {
        service_account: raw.service_account_name,
        resources: raw.resources.unwrap_or_else(|| ResourceRequirements {
            requests: quantity(&[("cpu", "50m"), ("memory", "64Mi")]),
            limits: quantity(&[("memory", "512Mi")]),
            ..ResourceRequirements::default()
        }),
        host_aliases: raw.host_aliases.unwrap_or_default(),
    }
}
