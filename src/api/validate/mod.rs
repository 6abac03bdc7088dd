//! The one way from a raw manifest to a `Migration`: every default is filled, and every field that cannot be honoured
//! is refused by name with the remedy. Nothing is ignored in silence.

mod application;
mod archive;
mod database;
mod findings;
mod fragment;
mod limits;
mod local;
mod sharding;
mod tables;
#[cfg(test)]
mod tests;
mod tuning;

use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::migration::Migration;
use super::phase::Phase;
use super::spec::{DataMigration, DataMigrationSpec, Strategy};
use super::tuning::RollbackPolicy;
use crate::words::hex;
use findings::{Findings, duplicates};

pub use findings::{Invalid, parse_duration};

/// Where a manifest is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// By the operator and its Jobs.
    Cluster,
    /// By a run from a shell.
    Local,
}

/// Checks a manifest and fills its defaults.
pub fn validate(raw: &DataMigration) -> Result<Migration, Vec<Invalid>> {
    check(raw, Place::Cluster)
}

/// The same for a run from a shell, which also takes SQLite.
pub fn validate_local(raw: &DataMigration) -> Result<Migration, Vec<Invalid>> {
    check(raw, Place::Local)
}

fn check(raw: &DataMigration, place: Place) -> Result<Migration, Vec<Invalid>> {
    let spec = &raw.spec;
    let mut found = Findings::default();

    if spec.strategy != Strategy::DualWrite {
        found.not_yet("spec.strategy", spec.strategy.as_str(), "use DualWrite");
    }
    let source = database::database(&mut found, "spec.source", &spec.source, place);
    let target = database::database(&mut found, "spec.target", &spec.target, place);
    if place == Place::Local {
        local::sqlite(&mut found, spec);
    }
    if spec.source.existing_rows.is_some() {
        found.add(
            "spec.source.existingRows",
            "says something about the target's tables only; remove it here",
        );
    }
    if spec.tables.is_empty() {
        found.add("spec.tables", "names no table; name at least one");
    }
    let tables = spec
        .tables
        .iter()
        .enumerate()
        .map(|(at, raw)| tables::table(&mut found, at, raw, (&source, &target)))
        .collect::<Vec<_>>();
    duplicates(
        &mut found,
        "spec.tables",
        "name",
        tables.iter().map(|table| table.name.as_str()),
    );
    sharding::apart(&mut found, &tables, (&source, &target));

    let application = application::application(&mut found, &spec.application);
    let copy = tuning::copy(&mut found, spec.copy.clone().unwrap_or_default());
    let verify = tuning::verify(&mut found, spec.verify.clone().unwrap_or_default());
    let gates = tuning::gates(&mut found, &spec.gates.clone().unwrap_or_default());
    let rollback = spec.rollback.unwrap_or_default();
    if rollback == RollbackPolicy::Immediate {
        found.not_yet("spec.rollback", "Immediate", "use Verified or None");
    }
    let archive = spec.archive.as_ref().and_then(|raw| archive::archive(&mut found, raw));
    if spec.phase == Phase::Archived && spec.archive.is_none() {
        found.add(
            "spec.archive",
            "is needed for phase Archived: say where the source's tables shall be archived to",
        );
    }
    let worker = tuning::worker(spec.worker.clone().unwrap_or_default());

    let Some(application) = application.filter(|_| found.0.is_empty()) else {
        return Err(found.0);
    };
    Ok(Migration {
        namespace: raw.namespace().unwrap_or_default(),
        name: raw.name_any(),
        uid: raw.uid().unwrap_or_default(),
        generation: raw.metadata.generation.unwrap_or_default(),
        fingerprint: fingerprint(spec),
        strategy: spec.strategy,
        phase: spec.phase,
        suspend: spec.suspend,
        source,
        target,
        tables,
        application,
        copy,
        verify,
        gates,
        rollback,
        archive,
        worker,
    })
}

/// Serialising a spec that came out of JSON cannot fail; if it did, the digest would merely be that of nothing.
fn fingerprint(spec: &DataMigrationSpec) -> String {
    let made = spec
        .copy
        .as_ref()
        .map(|copy| (copy.create_tables, copy.secondary_indexes));
    let checked = (
        &spec.source,
        &spec.target,
        &spec.tables,
        &spec.rollback,
        &spec.worker,
        made.filter(|(tables, _)| *tables == Some(true)),
    );
    let digest = Sha256::digest(serde_json::to_vec(&checked).unwrap_or_default());
    hex(&digest, 4)
}
