//! The parts of the manifest that tune: copy, verify, gates, archive, worker pods.
//! All of them may be left out; `validate` fills the defaults that are named here.

use k8s_openapi::api::core::v1::{HostAlias, ResourceRequirements};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How rows are copied.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CopySpec {
    /// Connections that copy at the same time, in each pod. Default: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub parallelism: Option<u32>,
    /// Pods that copy one table at the same time, for very large tables. A change counts for tasks that begin later.
    /// Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub pods: Option<u32>,
    /// Whether target tables that are missing are created from the source's, by the preflight: columns in the target's
    /// types, NOT NULL, constant defaults, generated keys, primary key and unique indexes. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_tables: Option<bool>,
    /// When secondary indexes are built; the type's text is what people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary_indexes: Option<SecondaryIndexes>,
    /// Upper bounds on the speed of copy, full verify, and the deletes of an archive. May be changed at any time.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimitSpec>,
    /// Measures above which background work pauses, on every server of both sides. Copy, full verify and an archive's
    /// deletes wait until the measure has stayed a fifth below its limit for 5 s; the incremental verify goes on, at no
    /// more than a page of rows a second, because the gates live on it. May be changed at any time. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_when: Option<PauseWhenSpec>,
    /// When background work may run: a cron expression (minute, hour, day of month, month, day of week) for the times at
    /// which the window opens, and how long it stays open, such as `0 1 * * * +4h`. It holds for copy, full verify and an
    /// archive's deletes. May be changed at any time. Default: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// Time zone of `window`, such as `Europe/Berlin`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// When secondary (not unique) indexes of created tables are built: `Before` (default) or `After` the copy, which is faster;
/// the Copy task's status then lists the statements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecondaryIndexes {
    /// Before the rows are copied.
    #[default]
    Before,
    /// After the rows are copied.
    After,
}

/// Upper bounds on speed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitSpec {
    /// Rows per second that a task copies, compares or deletes, all its connections together; several pods have equal
    /// shares of it. Tables are tasks of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rows_per_second: Option<u32>,
    /// Bytes per second, counted in the values of the rows that a task reads, all its connections together. What the servers
    /// digest by themselves is not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub bytes_per_second: Option<u64>,
}

/// Measures of load above which background work pauses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PauseWhenSpec {
    /// Statements that the server runs at the same moment. MySQL and MariaDB: `Threads_running`, the worker's own
    /// statements among them. PostgreSQL: active sessions of others in all databases; needs the role `pg_monitor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads_running: Option<u32>,
    /// Replication lag. PostgreSQL: how far the slowest standby is behind in replaying; needs the role `pg_monitor`.
    /// MySQL and MariaDB: how far this server is behind the one it replicates from (needs REPLICATION CLIENT, in MariaDB
    /// REPLICA MONITOR); a primary does not know how far its replicas are, so with replicas connected give a `query` on a
    /// heartbeat table instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub replication_lag: Option<String>,
    /// A query of one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<PauseQuerySpec>,
}

/// A query whose answer says whether to pause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PauseQuerySpec {
    /// A statement that returns one number. It is run every 2 s in a read-only transaction, for at most 5 s.
    #[schemars(length(min = 1, max = 4096))]
    pub sql: String,
    /// Background work pauses while the number is above this one.
    pub above: f64,
    /// Where the query is asked; the type's text is what people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<QuerySide>,
}

/// Where the query is asked: `Source`, `Target`, or `Both` (default). Always on every server of the side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QuerySide {
    /// On the source's servers.
    Source,
    /// On the target's servers.
    Target,
    /// On the servers of both sides.
    #[default]
    Both,
}

/// How the sides are compared and repaired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifySpec {
    /// Incremental verify looks at rows that are at least this old. Default: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub lag: Option<String>,
    /// Time between two windows of the incremental verify. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub interval: Option<String>,
    /// When everything is compared again in `SourceFirst` and `TargetFirst`, as a cron expression (minute, hour, day of month,
    /// month, day of week) such as `0 2 * * *`. Gates that are open stay open unless it finds something that is left.
    /// Default: only where a gate asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<String>,
    /// Time zone of `full`, such as `Europe/Berlin`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Who repairs differences; the type's text is what people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<RepairPolicy>,
    /// A pass that would delete more rows than this deletes none and says so. Default: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_deletes: Option<u64>,
    /// What a full verify of a table may spend. Past it the pass ends with `BudgetExhausted`, which no gate takes for an
    /// answer, and says how far it came; the next attempt goes on from there with a new budget. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<VerifyBudgetSpec>,
}

/// How much a full verify may find, and how long it may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifyBudgetSpec {
    /// Differences that are found and not repaired at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub mismatches: Option<u64>,
    /// Time since its worker began, pauses included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub duration: Option<String>,
}

/// Who repairs differences. `Automatic` (default): the verify does, from the base. `Manual`: it only reports them, and they
/// hold the gates until somebody has made the sides equal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RepairPolicy {
    /// The verifier does, from the base.
    #[default]
    Automatic,
    /// Differences are only reported, and hold the gates until somebody has made the sides equal.
    Manual,
}

/// How long evidence must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatesSpec {
    /// The incremental verify must have been clean for this long. Default: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub clean_for: Option<String>,
    /// The longest time that second writes may be strict during a flip. Default: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub strict_for: Option<String>,
}

/// Which way back is kept while the target is the base. `Verified` (default): the source is kept in step and verified.
/// `None`: nothing is promised. `Immediate` (not supported yet): going back does not wait for a target that cannot be
/// reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RollbackPolicy {
    /// The source is kept in step and verified; going back passes the same gates.
    #[default]
    Verified,
    /// Going back does not wait for a target that cannot be reached.
    Immediate,
    /// Nothing is promised about the way back.
    None,
}

/// What becomes of the source's tables at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveSpec {
    /// Time between the fence and the archive. Default: 168h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub hold: Option<String>,
    /// Where the Parquet files go.
    pub destination: DestinationSpec,
    /// Whether the source's rows are deleted after the archive was read back and compared. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_source: Option<bool>,
}

/// Where an archive is put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!self.url.startsWith('file://') || has(self.volumeClaimRef)").message("a file:// destination needs volumeClaimRef: the PersistentVolumeClaim that is mounted there"))]
#[serde(rename_all = "camelCase")]
pub struct DestinationSpec {
    /// `s3://bucket/prefix`, or `file:///path` on the volume that `volumeClaimRef` mounts there.
    #[schemars(regex(pattern = r"^(s3|file)://.+$"))]
    pub url: String,
    /// The object store's credentials and options; every key of the Secret is one option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// For `file://`: the PersistentVolumeClaim that is mounted at the URL's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_claim_ref: Option<VolumeClaimRef>,
}

/// A whole Secret in the migration's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A PersistentVolumeClaim in the migration's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VolumeClaimRef {
    /// Name of the PersistentVolumeClaim.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The pods that do the work.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerSpec {
    /// ServiceAccount of the worker pods. Default: `datamigration-worker`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// CPU and memory of each worker pod. Default: requests of 50m and 64Mi, a memory limit of 512Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Extra host names for the worker pods, where the cluster's DNS does not know the databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_aliases: Option<Vec<HostAlias>>,
}
