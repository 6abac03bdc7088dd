//! What a run from a shell cannot do with a file in place of a server.

use super::findings::Findings;
use crate::api::database::EngineName;
use crate::api::spec::DataMigrationSpec;

pub(super) fn sqlite(found: &mut Findings, spec: &DataMigrationSpec) {
    let sides = [("spec.source", &spec.source), ("spec.target", &spec.target)];
    let mut files = sides
        .into_iter()
        .filter(|(_, side)| side.engine == EngineName::SQLite)
        .peekable();
    if files.peek().is_none() {
        return;
    }
    for (field, side) in files {
        if side.tls.is_some() {
            found.add(format!("{field}.tls"), "has no meaning for a SQLite file; remove it");
        }
    }
    for (field, side) in sides {
        if side.shards.len() > 1 {
            found.add(
                format!("{field}.shards"),
                "several shards are not carried from or to a SQLite file; name one on each side",
            );
        }
    }
    let Some(copy) = &spec.copy else { return };
    if copy.create_tables == Some(true) {
        found.add(
            "spec.copy.createTables",
            "is not done for a SQLite file: only the operator's preflight creates tables; create the table yourself, and \
             remove the field (and copy.secondaryIndexes)",
        );
    }
    let Some(pause) = &copy.pause_when else { return };
    for (name, given) in [
        ("threadsRunning", pause.threads_running.is_some()),
        ("replicationLag", pause.replication_lag.is_some()),
    ] {
        if given {
            found.add(
                format!("spec.copy.pauseWhen.{name}"),
                "is measured on both sides, and a SQLite file has none; remove it, or give pauseWhen.query",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::api::fixtures::with;
    use crate::api::{validate, validate_local};
    use serde_json::json;

    #[test]
    fn a_file_is_for_a_shell_alone() {
        for side in ["source", "target"] {
            let raw = with(&[(&format!("{side}/engine"), json!("SQLite"))]);
            assert!(validate_local(&raw).is_ok());
            let refused = validate(&raw).unwrap_err();
            assert_eq!(refused.len(), 1);
            assert!(
                refused[0].to_string().contains(&format!("spec.{side}.engine")),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn what_a_file_has_not_is_refused_by_name() {
        for (path, value, field) in [
            ("target/tls", json!({"mode": "VerifyFull"}), "spec.target.tls"),
            ("copy", json!({"createTables": true}), "spec.copy.createTables"),
            (
                "copy",
                json!({"pauseWhen": {"threadsRunning": 9}}),
                "spec.copy.pauseWhen.threadsRunning",
            ),
            (
                "copy",
                json!({"pauseWhen": {"replicationLag": "9s"}}),
                "spec.copy.pauseWhen.replicationLag",
            ),
        ] {
            let raw = with(&[("target/engine", json!("SQLite")), (path, value)]);
            let refused = validate_local(&raw).unwrap_err();
            assert!(
                refused.iter().any(|one| one.to_string().contains(field)),
                "{field}: {refused:?}"
            );
        }
    }
}
