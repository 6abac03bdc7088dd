//! What can end or interrupt a worker's work, and what the process then answers: one error type for all workers,
//! sorted into what passes by itself, what a person must change, and what is no longer this worker's to do.

use crate::control::ControlError;
use crate::store::{CommitError, StoreError};

/// Exit codes of the worker process; the Job's podFailurePolicy reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The result is recorded in the task's status.
    Done = 0,
    /// Could not finish now; the Job tries again.
    Retry = 1,
    /// Only a person can change this; recorded in the task's status.
    Permanent = 3,
    /// The databases are at another epoch; recorded, never retried.
    Stale = 4,
    /// Told to stop (suspend, eviction): stopped after the batch, nothing is lost.
    Stopped = 5,
}

/// Why a worker did not go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The database's own error; `is_transient` says whether waiting can help.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// COMMIT was sent and its answer never came: whoever asked re-reads its checkpoint, nobody simply repeats.
    #[error("the outcome of a commit is unknown: {0}")]
    UnknownOutcome(StoreError),
    /// The control row is not at this worker's epoch.
    #[error("{0}")]
    Stale(String),
    /// Another worker holds the chunk this one was copying (its lease ran out).
    #[error("{0}")]
    ClaimLost(String),
    /// Waiting does not help.
    #[error("{message}")]
    Permanent {
        /// CamelCase, for the condition.
        reason: &'static str,
        /// Names the object, what was expected, what was found, what to do.
        message: String,
    },
    /// Something outside the databases that may still arrive (a Secret, the API server).
    #[error("{message}")]
    Waiting {
        /// CamelCase, for the condition.
        reason: &'static str,
        /// Names the object and what to do.
        message: String,
    },
    /// The stop token was set.
    #[error("told to stop; stopped after the batch")]
    Stopped,
}

impl WorkError {
    /// A permanent failure with its reason.
    pub fn permanent(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Permanent {
            reason,
            message: message.into(),
        }
    }

    /// Whether waiting and doing the same again can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::UnknownOutcome(_) | Self::ClaimLost(_) | Self::Waiting { .. } => true,
            Self::Stale(_) | Self::Permanent { .. } | Self::Stopped => false,
        }
    }

    /// The reason that goes into the task's status.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Store(error) => error.reason(),
            Self::UnknownOutcome(_) => "CommitOutcomeUnknown",
            Self::Stale(_) => "StaleEpoch",
            Self::ClaimLost(_) => "ClaimLost",
            Self::Permanent { reason, .. } | Self::Waiting { reason, .. } => reason,
            Self::Stopped => "Stopped",
        }
    }

    /// Writers held the rows: shorter transactions or another moment help, not the passing of time alone.
    pub fn is_lock_conflict(&self) -> bool {
        matches!(
            self,
            Self::Store(StoreError::LockTimeout { .. } | StoreError::Deadlock { .. } | StoreError::Timeout { .. })
        )
    }

    /// The database has an objection to a row, not to the moment.
    pub fn is_row_problem(&self) -> bool {
        matches!(self, Self::Store(refused) if refused.is_row_problem())
    }

    /// What the process answers when this ends it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Stale(_) => Exit::Stale,
            Self::Stopped => Exit::Stopped,
            other if other.is_transient() => Exit::Retry,
            _ => Exit::Permanent,
        }
    }
}

impl From<ControlError> for WorkError {
    fn from(error: ControlError) -> Self {
        let message = error.to_string();
        match error {
            ControlError::Store(error) => Self::Store(error),
            ControlError::Stale { .. } | ControlError::Ahead { .. } => Self::Stale(message),
            ControlError::Missing { .. } => Self::permanent("JournalMissing", message),
            ControlError::Claimed { .. } => Self::permanent("TableClaimed", message),
            ControlError::Damaged { .. } => Self::permanent("ControlTableDamaged", message),
        }
    }
}

impl From<CommitError> for WorkError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Refused(error) => Self::Store(error),
            CommitError::Unknown(error) => Self::UnknownOutcome(error),
        }
    }
}
