//! What people and workers write: the two resources, their words, and the one way from raw manifest to `Migration`.
//! Nothing outside this folder reads a raw spec.

pub mod conditions;
pub mod database;
#[cfg(test)]
pub mod fixtures;
pub mod migration;
pub mod phase;
pub mod schedule;
pub mod spec;
pub mod status;
pub mod task;
pub mod tuning;
pub mod validate;

pub use conditions::{Condition, ConditionType, Reason};
pub use migration::Migration;
pub use phase::Phase;
pub use spec::{DataMigration, DataMigrationSpec, Strategy};
pub use status::DataMigrationStatus;
pub use task::{MigrationTask, MigrationTaskSpec, MigrationTaskStatus, TaskKind, TaskPhase};
pub use validate::{Invalid, validate, validate_local};

/// API group of both resources.
pub const GROUP: &str = "datamigration.dev";
/// The one version that is served.
pub const VERSION: &str = "v1alpha1";
/// Field manager of every write by the operator.
pub const FIELD_MANAGER: &str = "datamigration";
/// Pods carry the epoch that their mounted mode files should show; patching it makes the kubelet refresh them.
pub const EPOCH_ANNOTATION: &str = "datamigration.dev/epoch";
/// Present while the operator still owes the application a safe mode.
pub const FINALIZER: &str = "datamigration.dev/safe-mode";

#[cfg(test)]
mod tests {
    use super::{DataMigration, MigrationTask};
    use kube::CustomResourceExt;

    #[test]
    fn the_definitions_in_crds_are_what_the_types_say() {
        for definition in [DataMigration::crd(), MigrationTask::crd()] {
            let plural = &definition.spec.names.plural;
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("crds")
                .join(format!("{plural}.yaml"));
            let committed = std::fs::read_to_string(&path).unwrap();
            let generated = serde_yaml_ng::to_string(&definition).unwrap();
            assert!(
                committed == generated,
                "crds/{plural}.yaml is not what the types say; run `make crds`"
            );
        }
    }

    #[test]
    fn the_example_is_valid() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/orders.yaml");
        let manifest: DataMigration = serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        super::validate(&manifest).unwrap();
    }

    /// Every field that people can set says what it is for.
    #[test]
    fn every_field_is_described() {
        fn walk(path: &str, schema: &serde_json::Value, missing: &mut Vec<String>) {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                let at = format!("{path}.{name}");
                if field["description"].as_str().is_none_or(str::is_empty) {
                    missing.push(at.clone());
                }
                walk(&at, field, missing);
                walk(&format!("{at}[]"), &field["items"], missing);
            }
        }
        for definition in [DataMigration::crd(), MigrationTask::crd()] {
            let schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
            let root = &schema["openAPIV3Schema"]["properties"];
            let mut missing = Vec::new();
            walk("spec", &root["spec"], &mut missing);
            walk("status", &root["status"], &mut missing);
            // Kubernetes' own types carry their descriptions inside.
            missing.retain(|path| {
                !path.contains("hostAliases") && !path.contains("resources") && !path.contains("selector")
            });
            assert!(missing.is_empty(), "{}: {missing:?}", definition.spec.names.kind);
        }
    }
}
