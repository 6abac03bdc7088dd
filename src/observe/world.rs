//! `World`: what one pass has seen, as plain facts. Nothing here decides, and nothing here can be asked again:
//! what could not be read is `Unknown`, which is not the same as `Absent`.

use jiff::Timestamp;
use std::collections::BTreeMap;

use crate::api::status::DataMigrationStatus;
use crate::api::task::{Journal, MigrationTaskSpec, MigrationTaskStatus, TaskKind, TaskPhase, WatchReport};

/// A fact that may be there, may not be there, or could not be learned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Seen<T> {
    Absent,
    /// Why it could not be learned.
    Unknown(String),
    Known(T),
}

impl<T> Seen<T> {
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(fact) => Some(fact),
            Self::Absent | Self::Unknown(_) => None,
        }
    }
}

/// All that a decision is made from, besides the manifest and the time.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// The migration's tasks, each with its Job.
    pub tasks: Vec<Task>,
    /// The ConfigMap that the application reads its mode from.
    pub mode: Seen<ModeMap>,
    /// The application's pods; `Absent` where no selector was given.
    pub pods: Seen<Vec<Pod>>,
    /// Another migration that stands in the way.
    pub conflict: Option<Conflict>,
    /// The status as it was written last.
    pub previous: DataMigrationStatus,
    /// When deletion was asked for.
    pub deleting: Option<Timestamp>,
    /// Whether our finalizer is on the resource.
    pub finalizer: bool,
}

/// A task and its Job.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub name: String,
    pub resource_version: String,
    /// How often this piece of work failed for good before this task.
    pub attempt: u32,
    pub created: Option<Timestamp>,
    pub deleting: bool,
    pub spec: MigrationTaskSpec,
    pub status: MigrationTaskStatus,
    pub job: Seen<Job>,
}

/// The Job of a task, as far as anybody cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub suspended: bool,
    pub deleting: bool,
    pub complete: bool,
    /// Given up by Kubernetes: reason, message, and when.
    pub failed: Option<(String, String, Option<Timestamp>)>,
    /// Its pod cannot start: reason and message.
    pub trouble: Option<(String, String)>,
}

/// How a task ended, or not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Open,
    Succeeded,
    /// Reason, message, and when.
    Failed(String, String, Option<Timestamp>),
}

impl Task {
    pub fn is(&self, kind: TaskKind) -> bool {
        self.spec.kind == kind
    }

    /// What the worker recorded; failing that, what its Job says.
    pub fn outcome(&self) -> Outcome {
        match self.status.phase {
            TaskPhase::Succeeded => Outcome::Succeeded,
            TaskPhase::Failed => Outcome::Failed(
                self.status.reason.clone().unwrap_or_else(|| "TaskFailed".to_owned()),
                self.status
                    .message
                    .clone()
                    .unwrap_or_else(|| format!("task {} failed without a message", self.name)),
                self.status
                    .finished_at
                    .as_ref()
                    .or(self.status.reported_at.as_ref())
                    .map(|time| time.0),
            ),
            TaskPhase::Pending | TaskPhase::Running => match self.job.known() {
                Some(Job {
                    failed: Some((reason, message, at)),
                    ..
                }) => Outcome::Failed(
                    "JobFailed".to_owned(),
                    format!(
                        "Job {} was given up ({reason}): {message}; its pods' logs say more",
                        self.name
                    ),
                    *at,
                ),
                _ => Outcome::Open,
            },
        }
    }

    /// What a Watch reports, once it has read the databases.
    pub fn report(&self) -> Option<(&WatchReport, Option<&Journal>)> {
        self.status
            .watch
            .as_ref()
            .map(|report| (report, self.status.journal.as_ref()))
    }
}

/// The ConfigMap's content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModeMap {
    pub data: BTreeMap<String, String>,
    pub resource_version: String,
}

/// A pod of the application.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    /// Succeeded or Failed: no process runs in it.
    pub finished: bool,
    /// The epoch that its annotation carries.
    pub annotated: Option<String>,
}

/// Another, older migration that uses the same object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Conflict {
    Table { table: String, other: String },
    ConfigMap { name: String, other: String },
}
