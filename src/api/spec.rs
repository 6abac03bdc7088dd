//! `DataMigration`: what a team commits. One resource, one ladder; `spec.phase` is the line that a pull request changes.
//! Every field is described here, because these words are what `kubectl explain` shows.

// Printer columns repeat words on purpose; the lint takes the derive's arguments for attributes.
#![allow(clippy::duplicated_attributes)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::database::DatabaseSpec;
use super::phase::Phase;
use super::status::DataMigrationStatus;
use super::tuning::{ArchiveSpec, CopySpec, GatesSpec, RollbackPolicy, VerifySpec, WorkerSpec};
use crate::words::Protocol;

/// How a migration is carried out.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "datamigration.dev",
    version = "v1alpha1",
    kind = "DataMigration",
    namespaced,
    status = "DataMigrationStatus",
    derive = "PartialEq",
    shortname = "dmig",
    category = "datamigration",
    validation = Rule::new("self.spec.phase == oldSelf.spec.phase || !has(oldSelf.status) || !has(oldSelf.status.phase) || !(oldSelf.status.phase in ['TargetOnly', 'Archived']) || self.spec.phase == 'Archived' || (self.spec.phase == 'TargetOnly' && oldSelf.status.phase == 'TargetOnly')").message("there is no way back from TargetOnly or Archived: the source is fenced and no longer kept in step; set spec.phase to the rung in status.phase or above"),
    validation = Rule::new("self.spec.source == oldSelf.spec.source || !has(oldSelf.status) || !has(oldSelf.status.mode) || oldSelf.status.mode == 'SRC_ONLY'").message("spec.source cannot be changed above SourceOnly; go back to SourceOnly first"),
    validation = Rule::new("self.spec.target == oldSelf.spec.target || !has(oldSelf.status) || !has(oldSelf.status.mode) || oldSelf.status.mode == 'SRC_ONLY'").message("spec.target cannot be changed above SourceOnly; go back to SourceOnly first"),
    validation = Rule::new("self.spec.tables == oldSelf.spec.tables || !has(oldSelf.status) || !has(oldSelf.status.mode) || oldSelf.status.mode == 'SRC_ONLY'").message("spec.tables cannot be changed above SourceOnly; go back to SourceOnly first, or write another DataMigration for further tables"),
    validation = Rule::new("self.spec.application.configMapRef == oldSelf.spec.application.configMapRef || !has(oldSelf.status) || !has(oldSelf.status.mode) || oldSelf.status.mode == 'SRC_ONLY'").message("spec.application.configMapRef cannot be changed above SourceOnly: the application would go on reading the old one; go back to SourceOnly first"),
    doc = "DataMigration moves live tables from one database to another under an application's traffic, rung by rung.",
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Rung of the ladder where the migration is"
    ),
    printcolumn(
        name = "Desired",
        type_ = "string",
        json_path = ".spec.phase",
        description = "Rung up to which it may climb"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether it holds at the desired rung"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready or not"
    ),
    printcolumn(
        name = "Progress",
        type_ = "string",
        json_path = ".status.progress",
        description = "Share of the rows copied"
    ),
    printcolumn(
        name = "Lag",
        type_ = "string",
        json_path = ".status.lag",
        description = "How far the incremental verify is behind"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since the resource was created"
    ),
    printcolumn(
        name = "Epoch",
        type_ = "integer",
        json_path = ".status.epoch",
        description = "Number of flips so far",
        priority = 1
    ),
    printcolumn(
        name = "Waiting for",
        type_ = "string",
        json_path = ".status.waitingFor",
        description = "What has to happen next",
        priority = 1
    )
)]
#[x_kube(validation = Rule::new("self.phase != 'Archived' || has(self.archive)").message("spec.archive is needed for phase Archived: say where the source's tables shall be archived to"))]
#[x_kube(validation = Rule::new("!has(self.source.existingRows)").message("existingRows says something about the target's tables; set it in spec.target"))]
#[serde(rename_all = "camelCase")]
pub struct DataMigrationSpec {
    /// Who carries changes across: `DualWrite` (the application writes both sides). `ChangeLog`, `Capture`, `Promotion`
    /// and `Offline` are not supported yet. Cannot be changed.
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.strategy cannot be changed; delete the DataMigration and create another one"))]
    pub strategy: Strategy,
    /// How far the ladder may be climbed: `SourceOnly`, `SourceFirst`, `TargetFirst`, `TargetOnly`, `Archived`. It is
    /// climbed rung by rung, through every gate in between. The way back is open down to `SourceOnly` until `TargetOnly`.
    pub phase: Phase,
    /// True stops all background work at the next batch; the application's mode stays as it is. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// The database the tables are in now.
    pub source: DatabaseSpec,
    /// The database the tables shall be in.
    pub target: DatabaseSpec,
    /// The tables that move together.
    #[schemars(length(min = 1, max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub tables: Vec<TableSpec>,
    /// The application whose writes and reads are flipped from one side to the other.
    pub application: ApplicationSpec,
    /// How rows are copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopySpec>,
    /// How the two sides are compared and repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifySpec>,
    /// How long evidence must hold before the next rung is entered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates: Option<GatesSpec>,
    /// Which way back is kept; the type's text is what people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackPolicy>,
    /// What becomes of the source's tables in the rung `Archived`; needed from there on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveSpec>,
    /// The pods that do the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerSpec>,
}

/// Who carries changes from the base to the follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// The application writes both sides, with the dual-write library or by the ConfigMap contract.
    DualWrite,
    /// Triggers log keys, a chaser replays them.
    ChangeLog,
    /// Row changes from the binary log or logical decoding.
    Capture,
    /// The database's own replication.
    Promotion,
    /// The source is fenced while rows are copied.
    Offline,
}

impl Strategy {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DualWrite => "DualWrite",
            Self::ChangeLog => "ChangeLog",
            Self::Capture => "Capture",
            Self::Promotion => "Promotion",
            Self::Offline => "Offline",
        }
    }
}

/// One table that moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableSpec {
    /// Name of the table, by which everything speaks of it; also in the source, unless its shards have numbered names
    /// (`source`).
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Name of the table in the source with a place for the shard's number, such as `orders_{shard:02}` (00, 01, …; `{shard}`:
    /// 0, 1, …): so several shards can live in one database, as entries of `spec.source.shards` with the same Secret.
    /// Default: `name` in every shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub source: Option<String>,
    /// Name of the table in the target; with a place for the shard's number likewise. Default: `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub target: Option<String>,
    /// The columns that identify a row, named as in the source. Default: the primary key. Any unique key without NULL
    /// will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub key: Option<Vec<String>>,
    /// The column that says which of two copies of a row is newer, named as in the source; set by the application on
    /// every write.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// A condition in the source's SQL and column names that picks the rows to move. A row that no longer meets it is
    /// deleted from the follower. Default: all rows.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub filter: Option<String>,
    /// The same condition in the target's SQL and column names: needed where columns are renamed, dropped or computed, or
    /// where the two engines write it differently. Rows of the target that do not meet it are left alone; `true` takes the
    /// whole table. Default: `where` as it is.
    #[serde(default, rename = "whereTarget", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub target_filter: Option<String>,
    /// What happens to single columns. Default: every column keeps its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub columns: Option<Vec<ColumnSpec>>,
    /// How rows are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<CompareSpec>,
    /// How rows find their shard; needed where a side has several shards, and of no use otherwise. A row that lies in
    /// another shard of the follower is `misplaced`: verify finds it, repair moves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_by: Option<ShardBySpec>,
}

/// What happens to one column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ColumnSpec {
    /// Name of the column in the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Name of the column in the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// True: the column is not carried over. Needs `source`. For a way back it must be nullable or have a default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop: Option<bool>,
    /// The target column's value as an expression of the source's SQL over one row's columns (named without their table).
    /// Needs `target`; `source` names the column that it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub expression: Option<String>,
    /// The way back: the source column's value as an expression of the target's SQL. Without it there is no way back from
    /// `TargetFirst`, unless the expression only adds a column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub reverse: Option<String>,
}

/// How the rows of a table are compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompareSpec {
    /// Columns that are carried but not compared, named as in the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore: Option<Vec<String>>,
    /// For floating-point columns, named as in the source: the difference that still counts as equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<BTreeMap<String, f64>>,
    /// Columns that are carried as they are and compared by an expression of each side, such as `lower(email)` beside
    /// `email`, where the sides may hold what means the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub custom: Option<Vec<CustomCompareSpec>>,
}

/// How one column is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomCompareSpec {
    /// The column, named as in the source.
    #[schemars(length(min = 1, max = 63))]
    pub column: String,
    /// What is compared, as an expression of the source's SQL over one row's columns; of the column's own type.
    #[schemars(length(min = 1, max = 4096))]
    pub source: String,
    /// The same in the target's SQL and column names.
    #[schemars(length(min = 1, max = 4096))]
    pub target: String,
}

/// How a row finds its shard: a number that is the place, from 0, among the side's `shards`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.function == 'Hash' || self.columns.size() == 1").message("Modulo and Range take exactly one column"))]
#[x_kube(validation = Rule::new("has(self.bounds) == (self.function == 'Range')").message("bounds belong to function Range, and Range needs them"))]
pub struct ShardBySpec {
    /// The columns that decide, named as in the source, in the order in which they are hashed. They must be columns of the
    /// table's `key`, so that a row's shard follows from its key.
    #[schemars(length(min = 1, max = 16))]
    pub columns: Vec<String>,
    /// How they decide. `Modulo`: one integer column, modulo the number of shards, never negative. `Hash`: the first 32 bits
    /// of the MD5 of the columns' texts with their lengths, modulo the number of shards (docs/sharding.md has it for other
    /// languages). `Range`: one integer column, by `bounds`.
    pub function: ShardFunction,
    /// For `Range`: where each shard but the first begins, ascending, one bound less than shards. A value that is not below
    /// a bound belongs behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub bounds: Option<Vec<i64>>,
    /// The source's own way, where both sides have several shards and divide rows differently. Default: the same for both,
    /// each with its own number of shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SideShardBySpec>,
}

/// How a row of the source finds its shard there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.function == 'Hash' || self.columns.size() == 1").message("Modulo and Range take exactly one column"))]
#[x_kube(validation = Rule::new("has(self.bounds) == (self.function == 'Range')").message("bounds belong to function Range, and Range needs them"))]
pub struct SideShardBySpec {
    /// As `shardBy.columns`.
    #[schemars(length(min = 1, max = 16))]
    pub columns: Vec<String>,
    /// As `shardBy.function`.
    pub function: ShardFunction,
    /// As `shardBy.bounds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub bounds: Option<Vec<i64>>,
}

/// How columns choose a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ShardFunction {
    /// One integer, modulo the number of shards.
    Modulo,
    /// MD5 of one or more columns, modulo the number of shards.
    Hash,
    /// One integer between bounds.
    Range,
}

/// The application, as far as the migration touches it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationSpec {
    /// The ConfigMap that the application reads its mode from; created if absent, never deleted.
    pub config_map_ref: ConfigMapRef,
    /// How the operator learns that every instance follows a flip.
    pub acknowledge: AcknowledgeSpec,
    /// How the application orders the two commits; the type's text is what people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Where reads go while both sides are kept in step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<ReadsSpec>,
}

/// A ConfigMap in the migration's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Names of the keys, where the application wants others than the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<ConfigMapKeys>,
}

/// Names of the ConfigMap's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeys {
    /// Default: `write-mode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_mode: Option<String>,
    /// Default: `read-from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_from: Option<String>,
    /// Default: `read-target-percent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_target_percent: Option<String>,
    /// Default: `secondary-writes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary_writes: Option<String>,
    /// Default: `epoch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
}

/// How a flip is known to have reached every instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("(has(self.by) && self.by == 'Delay') || has(self.selector)").message("acknowledge.selector is needed: labels that match the application's pods"))]
#[x_kube(validation = Rule::new("!has(self.by) || self.by != 'Delay' || has(self.delay)").message("acknowledge.delay is needed for by: Delay"))]
#[serde(rename_all = "camelCase")]
pub struct AcknowledgeSpec {
    /// Where acknowledgements come from; the type's text is what people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<AcknowledgeBy>,
    /// The application's pods. Needed for `Instances`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// After this time the silent pods are named in a condition, and a flip that can still be taken back is. Default: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub timeout: Option<String>,
    /// For `Delay`: the time after which every instance has seen a flip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub delay: Option<String>,
}

/// Where acknowledgements come from. `Instances` (default): each instance writes its epoch into the base database.
/// `Delay`: a stated time passes. `Rollout` (not supported yet): Deployments are rolled and waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AcknowledgeBy {
    /// From the application's instances, through the base database.
    #[default]
    Instances,
    /// From a finished rollout of the application's Deployments.
    Rollout,
    /// From the clock.
    Delay,
}

/// Where reads go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadsSpec {
    /// Share of the reads that goes to the target in `SourceFirst`, 0 to 100. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub target_percent: Option<u8>,
}
