//! The world as observe and act meet it: read objects, write objects, tell events. One trait, so that the same engine
//! runs against a cluster and against anything that looks like one.

pub mod job;
pub mod kubernetes;

use async_trait::async_trait;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;

use crate::api::migration::Migration;
use crate::api::task::{ControlSpec, MigrationTaskSpec};
use crate::api::{DataMigration, DataMigrationStatus, MigrationTask};

/// Label of tasks, Jobs and worker pods: the migration that they belong to.
pub const MIGRATION_LABEL: &str = "datamigration.dev/migration";
/// Label of worker pods: the task that they work on.
pub const TASK_LABEL: &str = "datamigration.dev/task";
/// Annotation of tasks: how often this piece of work failed for good before.
pub const ATTEMPT_ANNOTATION: &str = "datamigration.dev/attempt";

/// A read or write that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// Somebody else was faster; the next pass sees what they wrote.
    #[error("{what}: changed by somebody else in the meantime")]
    Conflict { what: String },
    #[error("{what}: not found")]
    NotFound { what: String },
    #[error("{what}: not permitted: {message}; check the operator's ClusterRole")]
    Forbidden { what: String, message: String },
    #[error("{what}: {message}")]
    Other { what: String, message: String },
}

/// Something that people should see in `kubectl describe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub warning: bool,
    pub reason: String,
    pub action: String,
    pub note: String,
}

/// All that the operator reads and writes.
#[async_trait]
pub trait Platform: Send + Sync {
    async fn migration(&self, namespace: &str, name: &str) -> Result<Option<DataMigration>, PlatformError>;
    /// All migrations that are known, to find two that move one table.
    async fn neighbours(&self) -> Vec<DataMigration>;
    async fn tasks(&self, migration: &Migration) -> Result<Vec<MigrationTask>, PlatformError>;
    async fn jobs(&self, migration: &Migration) -> Result<Vec<Job>, PlatformError>;
    async fn worker_pods(&self, migration: &Migration) -> Result<Vec<Pod>, PlatformError>;
    async fn application_pods(&self, namespace: &str, selector: &LabelSelector) -> Result<Vec<Pod>, PlatformError>;
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, PlatformError>;

    async fn set_finalizers(&self, raw: &DataMigration, finalizers: Vec<String>) -> Result<(), PlatformError>;
    async fn create_task(
        &self,
        raw: &DataMigration,
        name: &str,
        attempt: u32,
        spec: &MigrationTaskSpec,
    ) -> Result<(), PlatformError>;
    async fn delete_task(&self, namespace: &str, name: &str) -> Result<(), PlatformError>;
    async fn create_job(&self, migration: &Migration, task: &str) -> Result<(), PlatformError>;
    async fn delete_job(&self, namespace: &str, name: &str) -> Result<(), PlatformError>;
    async fn suspend_job(&self, namespace: &str, name: &str, suspend: bool) -> Result<(), PlatformError>;
    async fn set_control(
        &self,
        namespace: &str,
        task: &str,
        resource_version: &str,
        control: &ControlSpec,
    ) -> Result<(), PlatformError>;
    async fn write_mode(
        &self,
        namespace: &str,
        name: &str,
        data: &BTreeMap<String, String>,
        resource_version: Option<&str>,
    ) -> Result<(), PlatformError>;
    async fn annotate_pod(&self, namespace: &str, name: &str, epoch: i64) -> Result<(), PlatformError>;
    async fn write_status(&self, raw: &DataMigration, status: &DataMigrationStatus) -> Result<(), PlatformError>;
    async fn publish(&self, raw: &DataMigration, event: &Event) -> Result<(), PlatformError>;
}
