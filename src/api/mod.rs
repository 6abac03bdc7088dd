//! What people and workers write: the two resources, their words, and the one way from raw manifest to `Migration`.
//! Nothing outside this folder reads a raw spec.

pub mod conditions;
pub mod database;
#[cfg(test)]
pub mod fixtures;
pub mod migration;
pub mod phase;
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
pub use validate::{Invalid, validate};

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
