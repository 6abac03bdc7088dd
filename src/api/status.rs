//! The status of a `DataMigration`: small, written by the operator alone, and readable as a report.
//! Timers that decisions lean on are here too; losing them only makes a wait start again.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::Condition;
use super::phase::Phase;
use crate::words::{Mode, SecondaryWrites};

/// What the operator has seen and done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataMigrationStatus {
    /// Generation of the spec that this status speaks of; -1 before the operator has looked.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,
    /// Rung where the migration is, as the journal in the databases proves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Number of the latest flip of the application's mode.
    #[serde(default)]
    pub epoch: i64,
    /// The application's mode in that epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What a failing second write means in that epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary_writes: Option<SecondaryWrites>,
    /// One sentence: where the migration is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// One sentence: what has to happen before the next step. Absent while nothing is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// Share of the rows copied, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// How far the incremental verify is behind the base's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<String>,
    /// Totals over all tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<RowTotals>,
    /// The flip that is under way, or the latest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flip: Option<FlipStatus>,
    /// What is true of the migration, one entry per aspect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

const fn never_observed() -> i64 {
    -1
}

impl Default for DataMigrationStatus {
    fn default() -> Self {
        Self {
            observed_generation: never_observed(),
            phase: None,
            epoch: 0,
            mode: None,
            secondary_writes: None,
            message: None,
            waiting_for: None,
            progress: None,
            lag: None,
            rows: None,
            flip: None,
            conditions: Vec::new(),
        }
    }
}

/// Totals over all tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RowTotals {
    /// Rows copied in this round.
    pub copied: u64,
    /// Rows to copy, estimated where the database only estimates.
    pub total: u64,
    /// Rows compared by the latest verify of each table.
    pub compared: u64,
    /// Rows repaired by the latest verify of each table.
    pub repaired: u64,
    /// Differences that are not settled yet.
    pub outstanding: u64,
    /// Rows that cannot be carried: set aside by the copy of this round, or refused in the latest verify of each table.
    #[serde(default)]
    pub rejects: u64,
}

/// Times of a flip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlipStatus {
    /// Epoch of the flip.
    pub epoch: i64,
    /// When its intent was first seen recorded.
    pub started_at: Time,
    /// When the ConfigMap was first seen to show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_at: Option<Time>,
    /// When it was first seen acknowledged by every instance and closed in the databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<Time>,
    /// When somebody else's change of the ConfigMap was last put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put_back_at: Option<Time>,
    /// How often that happened in short succession.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub put_backs: u32,
    /// Why the previous attempt to change the base was given up, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<String>,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}
