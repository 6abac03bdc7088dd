//! `MigrationTask`: one piece of data work, created by the operator. Its spec says what to do; its status is the only
//! channel from a worker to the operator.

// Printer columns repeat words on purpose; the lint takes the derive's arguments for attributes.
#![allow(clippy::duplicated_attributes)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::words::{Direction, Mode, Protocol, SecondaryWrites, Side};

/// One piece of data work.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "datamigration.dev",
    version = "v1alpha1",
    kind = "MigrationTask",
    namespaced,
    status = "MigrationTaskStatus",
    derive = "PartialEq",
    shortname = "mtask",
    category = "datamigration",
    doc = "MigrationTask is one piece of a DataMigration's work. The operator writes its spec, one worker writes its status.",
    printcolumn(name = "Migration", type_ = "string", json_path = ".spec.migration"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
    printcolumn(name = "Table", type_ = "string", json_path = ".spec.table"),
    printcolumn(name = "Direction", type_ = "string", json_path = ".spec.direction"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".spec.epoch"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Rows", type_ = "integer", json_path = ".status.progress.rows"),
    printcolumn(name = "Outstanding", type_ = "integer", json_path = ".status.verify.outstanding"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct MigrationTaskSpec {
    /// Name of the DataMigration, in the same namespace.
    pub migration: String,
    /// What to do.
    pub kind: TaskKind,
    /// Name of the table in the source. Absent for `Preflight`, `Watch`, `Fence` and `Archive`, which do all tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// For `Verify`: everything once, or windows of what changed for as long as the task lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<VerifyScope>,
    /// Which side is the base: `Forward` the source, `Reverse` the target.
    pub direction: Direction,
    /// The worker writes only while the control row of the database it writes to carries this epoch.
    pub epoch: i64,
    /// How often the ladder was entered from `SourceOnly`; evidence of a copy belongs to a round.
    #[serde(default)]
    pub round: i64,
    /// Generation of the DataMigration that asked.
    #[serde(default)]
    pub generation: i64,
    /// For `Watch`: what the control rows of all databases shall say. Absent: only report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlSpec>,
    /// For a full `Verify` that the schedule `verify.full` asks for: the moment at which it was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Time>,
}

/// Kinds of data work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TaskKind {
    /// Checks databases, privileges, tables and columns, and reads the journal.
    Preflight,
    /// Keeps the control rows as asked, and reports acknowledgements, journal and queue.
    Watch,
    /// Copies one table.
    Copy,
    /// Compares one table on both sides, and repairs the follower.
    Verify,
    /// Makes the source's tables refuse writes.
    Fence,
    /// Archives the source's tables, compares the archive, deletes the rows if asked to.
    Archive,
}

impl TaskKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "Preflight",
            Self::Watch => "Watch",
            Self::Copy => "Copy",
            Self::Verify => "Verify",
            Self::Fence => "Fence",
            Self::Archive => "Archive",
        }
    }
}

/// How much a verify looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum VerifyScope {
    /// Every row of both sides, once.
    Full,
    /// Windows of what changed, for as long as the task lives.
    Incremental,
}

/// What the control rows of all databases shall say. Numbers only grow; a journal that is ahead is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlSpec {
    /// The epoch. Raised first, on every shard of both sides.
    pub epoch: i64,
    /// No instance below this epoch may write. Raised to `epoch` once all have acknowledged it.
    pub min_epoch: i64,
    /// The application's mode in `epoch`.
    pub mode: Mode,
    /// What a failing second write means in `epoch`.
    pub secondary: SecondaryWrites,
    /// How often the ladder was entered from `SourceOnly`.
    pub round: i64,
    /// The epoch at which the present base became the base.
    pub base_since: i64,
}

impl ControlSpec {
    /// The epoch begins everything anew for the follower: what it holds has to be proved from the first row on.
    pub fn begins(&self) -> bool {
        self.base_since == self.epoch && self.min_epoch < self.epoch && self.secondary == SecondaryWrites::Lenient
    }

    /// The lowest epoch that a database of this side can carry without having lost writes; 0 where nothing is promised
    /// about its rows, so that it may be another database than the last time.
    pub fn least(&self, side: Side) -> i64 {
        let promised = self.mode.writes_both() && !self.begins();
        if side == self.mode.base() || promised {
            self.min_epoch
        } else {
            0
        }
    }
}

/// What a worker has to say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationTaskStatus {
    /// Where the task is.
    #[serde(default)]
    pub phase: TaskPhase,
    /// Why, as one CamelCase word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, as a sentence: object, what was expected, what was found, what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Generation of the task that this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// When the worker first began, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// When it last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_at: Option<Time>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// `Copy`: the statements by which secondary indexes were built when all rows were there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<String>,
    /// `Preflight`: every check that was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// `Preflight` and `Watch`: the journal as read from the databases. Absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    /// `Watch`: what only the databases know. Present once the databases were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<WatchReport>,
    /// `Verify`: verdict and counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyReport>,
    /// `Fence`: what was fenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<FenceReport>,
    /// `Archive`: what was archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveReport>,
    /// What slows the worker down or makes it wait. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<ThrottleReport>,
}

/// What slows a worker down or makes it wait. Written when that changes, not with every measurement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThrottleReport {
    /// Why, as one CamelCase word: `RateLimit`, `LoadAboveLimit`, `MeasureUnreadable`, `OutsideWindow`, `WorkerStrained`.
    pub reason: String,
    /// The measure, named as in the manifest.
    pub measure: String,
    /// The server where it was measured, as `side/shard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Its value when it was found above its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// All of this as a sentence, with what ends it.
    pub message: String,
}

/// Where a task is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaskPhase {
    /// No worker has reported yet.
    #[default]
    Pending,
    /// A worker is at it.
    Running,
    /// Done; the result is in this status.
    Succeeded,
    /// Given up; reason and message say why.
    Failed,
}

/// How far a task is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Rows done.
    #[serde(default)]
    pub rows: u64,
    /// Rows to do; an estimate until the end.
    #[serde(default)]
    pub rows_total: u64,
    /// Chunks known so far.
    #[serde(default)]
    pub chunks: u64,
    /// Chunks done.
    #[serde(default)]
    pub chunks_done: u64,
    /// Bytes done.
    #[serde(default)]
    pub bytes: u64,
    /// Rows that were set aside, because they cannot be read exactly or the follower does not take them: their keys and
    /// the reasons are in `_datamigration_rejects` of the follower. The copy is not complete while there are any.
    #[serde(default)]
    pub rejects: u64,
}

/// One check of a preflight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Whether it is as it has to be.
    pub ok: bool,
    /// The finding as one CamelCase word.
    #[serde(default)]
    pub reason: String,
    /// The finding as a sentence, with the remedy.
    #[serde(default)]
    pub message: String,
}

/// The control rows as read from the databases; where they differ, the lowest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// The epoch.
    pub epoch: i64,
    /// No instance below this epoch may write.
    pub min_epoch: i64,
    /// The application's mode in `epoch`.
    pub mode: Mode,
    /// What a failing second write means in `epoch`.
    pub secondary: SecondaryWrites,
    /// How often the ladder was entered from `SourceOnly`.
    pub round: i64,
    /// The epoch at which the present base became the base.
    pub base_since: i64,
    /// The base's clock when `minEpoch` reached `epoch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acked_at: Option<String>,
    /// Whether the source's tables refuse writes.
    #[serde(default)]
    pub fenced: bool,
    /// Whether the source has been archived.
    #[serde(default)]
    pub archived: bool,
    /// UID of the DataMigration that wrote it.
    #[serde(default)]
    pub uid: String,
}

/// What only the databases know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WatchReport {
    /// Whether every shard of both sides carries `control.epoch`.
    #[serde(default)]
    pub epoch_on_all_shards: bool,
    /// Whether every shard of both sides carries `control.minEpoch`.
    #[serde(default)]
    pub min_epoch_on_all_shards: bool,
    /// The base's clock at the time of the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
    /// The application's instances. Reported again when one changes its epoch, appears, or falls silent for longer
    /// than its lease and the sessions' idle timeout together (60 s).
    #[serde(default)]
    pub instances: Vec<Instance>,
    /// Keys queued for repair, both sides together.
    #[serde(default)]
    pub queue: u64,
    /// What keeps the databases from being read or raised, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Sides with a shard that carries less than an epoch which was closed there: it was replaced, restored, or failed
    /// over to a replica without its last writes. Nothing is raised before the operator has answered with a new epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Side>,
}

/// One process of the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Name of its pod.
    pub pod: String,
    /// UID of its pod.
    pub pod_uid: String,
    /// Which process of the pod.
    pub process: String,
    /// The epoch it works in; no request of an older one is in flight.
    pub epoch: i64,
    /// Its mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What a failing second write means to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary_writes: Option<SecondaryWrites>,
    /// How it orders the two commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Seconds since its last heartbeat, by the base's clock.
    #[serde(default)]
    pub seen_seconds_ago: i64,
    /// Second writes that failed since it started.
    #[serde(default)]
    pub failed_second_writes: u64,
}

/// Verdict and counts of a verify.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifyReport {
    /// Since when no repair was needed and the queues were empty. Absent while that is not so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_since: Option<Time>,
    /// The base's clock up to which everything has been compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_through: Option<String>,
    /// Differences that are not settled yet.
    #[serde(default)]
    pub outstanding: u64,
    /// Rows compared.
    #[serde(default)]
    pub compared: u64,
    /// Rows of the base that the follower lacked.
    #[serde(default)]
    pub target_missing: u64,
    /// Rows with different content.
    #[serde(default)]
    pub neq: u64,
    /// Rows of the follower that the base lacks.
    #[serde(default)]
    pub base_missing: u64,
    /// Rows that the follower has in another shard than they belong to.
    #[serde(default)]
    pub misplaced: u64,
    /// Rows repaired.
    #[serde(default)]
    pub repaired: u64,
    /// Rows of the base that the follower does not take. A full verify tries them several times, then buries them; those that
    /// it could not bury are outstanding.
    #[serde(default)]
    pub rejects: u64,
    /// Keys queued for repair, of this table, both sides together.
    #[serde(default)]
    pub queue: u64,
    /// Rows that the follower did not take in several attempts: the incremental verify, in whose `outstanding` they are counted,
    /// tries them again ever more rarely. Each is in `_datamigration_dead_letters` of the base, with the database's reason.
    #[serde(default)]
    pub dead_letters: u64,
    /// Differences that are written down in `_datamigration_mismatches` of the base until they are settled, by kind: at
    /// most about 10,000 of a table. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatches: Option<MismatchCounts>,
    /// Windows finished.
    #[serde(default)]
    pub windows: u64,
    /// Deletes held back because a pass would have exceeded `verify.maxDeletes`.
    #[serde(default)]
    pub deletes_held: u64,
}

/// Differences that are written down and not settled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MismatchCounts {
    /// Rows of the base that the follower lacks.
    #[serde(default)]
    pub target_missing: u64,
    /// Rows with different content.
    #[serde(default)]
    pub neq: u64,
    /// Rows of the follower that the base lacks.
    #[serde(default)]
    pub base_missing: u64,
    /// Rows of the follower in another shard than they belong to.
    #[serde(default)]
    pub misplaced: u64,
    /// Rows that writers held, or changed, whenever they were looked at.
    #[serde(default)]
    pub unsettled: u64,
}

impl MismatchCounts {
    /// Both together.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self {
            target_missing: self.target_missing + other.target_missing,
            neq: self.neq + other.neq,
            base_missing: self.base_missing + other.base_missing,
            misplaced: self.misplaced + other.misplaced,
            unsettled: self.unsettled + other.unsettled,
        }
    }
}

impl VerifyReport {
    /// Both together: the counts of two parts of one table. What holds of the table holds of both.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self {
            clean_since: self
                .clean_since
                .zip(other.clean_since.clone())
                .map(|(a, b)| if a.0 < b.0 { b } else { a }),
            verified_through: self
                .verified_through
                .zip(other.verified_through.clone())
                .map(|(a, b)| a.min(b)),
            outstanding: self.outstanding + other.outstanding,
            compared: self.compared + other.compared,
            target_missing: self.target_missing + other.target_missing,
            neq: self.neq + other.neq,
            base_missing: self.base_missing + other.base_missing,
            misplaced: self.misplaced + other.misplaced,
            repaired: self.repaired + other.repaired,
            rejects: self.rejects + other.rejects,
            queue: self.queue + other.queue,
            dead_letters: self.dead_letters + other.dead_letters,
            mismatches: match (self.mismatches, &other.mismatches) {
                (Some(one), Some(two)) => Some(one.and(two)),
                (one, two) => one.or_else(|| two.clone()),
            },
            windows: self.windows.min(other.windows),
            deletes_held: self.deletes_held + other.deletes_held,
        }
    }
}

/// What was fenced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FenceReport {
    /// Tables of the source that refuse writes.
    #[serde(default)]
    pub tables: Vec<String>,
}

/// What was archived.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveReport {
    /// The tables, each with what its archive holds.
    #[serde(default)]
    pub tables: Vec<ArchivedTable>,
    /// Whether the archive was read back and found equal to the source.
    #[serde(default)]
    pub compared: bool,
    /// Whether the source's rows were deleted afterwards.
    #[serde(default)]
    pub deleted: bool,
}

/// The archive of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchivedTable {
    /// Name in the source.
    pub table: String,
    /// Rows in the archive.
    pub rows: u64,
    /// Checksum of the archive.
    pub sha256: String,
    /// Where it is.
    pub object: String,
}
