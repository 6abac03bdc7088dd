//! Condition types and reasons, each named once. A reason that a worker found passes through as its own word.

use std::fmt;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Aspects of a migration that are true, false or not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// It holds at the desired rung.
    Ready,
    /// It is on its way, or waits at a gate.
    Reconciling,
    /// It cannot go on until somebody acts.
    Stalled,
    /// Preflight found nothing that stands in the way.
    SchemaCompatible,
    /// Every instance of the application follows the latest flip.
    FlipAcknowledged,
    /// All rows have been copied in this round.
    CopyComplete,
    /// The target equals the source, which is the base.
    Verified,
    /// The source equals the target, which is the base.
    ReverseVerified,
    /// Going back one rung is possible now.
    RollbackReady,
    /// Background work is slowed down or paused.
    Throttled,
    /// A table changed its shape in the middle.
    SchemaDrift,
    /// Somebody else changed the mode in the ConfigMap.
    FlipReverted,
    /// The source's tables refuse writes.
    SourceFenced,
    /// The source has been archived.
    Archived,
}

impl ConditionType {
    /// The order in which people read them.
    pub const ALL: [Self; 14] = [
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
        Self::SchemaCompatible,
        Self::FlipAcknowledged,
        Self::CopyComplete,
        Self::Verified,
        Self::ReverseVerified,
        Self::RollbackReady,
        Self::Throttled,
        Self::SchemaDrift,
        Self::FlipReverted,
        Self::SourceFenced,
        Self::Archived,
    ];

    /// What is so when it is true.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ready => "It holds at the desired rung",
            Self::Reconciling => "It is on its way, or waits at a gate",
            Self::Stalled => "It cannot go on until somebody acts",
            Self::SchemaCompatible => "Preflight found nothing that stands in the way",
            Self::FlipAcknowledged => "Every instance of the application follows the latest flip",
            Self::CopyComplete => "All rows have been copied in this round",
            Self::Verified => "The target equals the source, which is the base",
            Self::ReverseVerified => "The source equals the target, which is the base",
            Self::RollbackReady => "Going back one rung is possible now",
            Self::Throttled => "Background work is slowed down or paused",
            Self::SchemaDrift => "A table changed its shape in the middle",
            Self::FlipReverted => "Somebody else changed the mode in the ConfigMap",
            Self::SourceFenced => "The source's tables refuse writes",
            Self::Archived => "The source has been archived",
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::SchemaCompatible => "SchemaCompatible",
            Self::FlipAcknowledged => "FlipAcknowledged",
            Self::CopyComplete => "CopyComplete",
            Self::Verified => "Verified",
            Self::ReverseVerified => "ReverseVerified",
            Self::RollbackReady => "RollbackReady",
            Self::Throttled => "Throttled",
            Self::SchemaDrift => "SchemaDrift",
            Self::FlipReverted => "FlipReverted",
            Self::SourceFenced => "SourceFenced",
            Self::Archived => "Archived",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a condition is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reason {
    Holding,
    Climbing,
    SteppingBack,
    Suspended,
    Deleting,
    Invalid,
    TableConflict,
    ConfigMapConflict,
    NoWayBack,
    WayBackOpen,
    PreflightRunning,
    PreflightFailed,
    PreflightPassed,
    JournalUnknown,
    JournalUnexpected,
    DatabaseProblem,
    RaisingEpoch,
    FlippingConfigMap,
    AwaitingAcknowledgement,
    AcknowledgementTimeout,
    NoPods,
    Acknowledged,
    ClosingEpoch,
    NoFlipYet,
    NotStarted,
    Copying,
    Copied,
    Verifying,
    Verified,
    DifferencesOutstanding,
    NotCleanLongEnough,
    EvidenceStale,
    QueueNotEmpty,
    Draining,
    StrictForExceeded,
    DeletesHeld,
    DeadLetters,
    FlipReverted,
    PutBack,
    AsFlipped,
    Fencing,
    Fenced,
    ArchiveHold,
    ArchiveNotConfigured,
    Archiving,
    Archived,
    RollbackNotKept,
    NotThrottled,
    NotReversible,
    Progressing,
    WorkerNotStarting,
    TaskFailed,
    /// A reason in a worker's own word.
    Worker(String),
}

impl Reason {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Holding => "Holding",
            Self::Climbing => "Climbing",
            Self::SteppingBack => "SteppingBack",
            Self::Suspended => "Suspended",
            Self::Deleting => "Deleting",
            Self::Invalid => "Invalid",
            Self::TableConflict => "TableConflict",
            Self::ConfigMapConflict => "ConfigMapConflict",
            Self::NoWayBack => "NoWayBack",
            Self::WayBackOpen => "WayBackOpen",
            Self::PreflightRunning => "PreflightRunning",
            Self::PreflightFailed => "PreflightFailed",
            Self::PreflightPassed => "PreflightPassed",
            Self::JournalUnknown => "JournalUnknown",
            Self::JournalUnexpected => "JournalUnexpected",
            Self::DatabaseProblem => "DatabaseProblem",
            Self::RaisingEpoch => "RaisingEpoch",
            Self::FlippingConfigMap => "FlippingConfigMap",
            Self::AwaitingAcknowledgement => "AwaitingAcknowledgement",
            Self::AcknowledgementTimeout => "AcknowledgementTimeout",
            Self::NoPods => "NoPods",
            Self::Acknowledged => "Acknowledged",
            Self::ClosingEpoch => "ClosingEpoch",
            Self::NoFlipYet => "NoFlipYet",
            Self::NotStarted => "NotStarted",
            Self::Copying => "Copying",
            Self::Copied => "Copied",
            Self::Verifying => "Verifying",
            Self::Verified => "Verified",
            Self::DifferencesOutstanding => "DifferencesOutstanding",
            Self::NotCleanLongEnough => "NotCleanLongEnough",
            Self::EvidenceStale => "EvidenceStale",
            Self::QueueNotEmpty => "QueueNotEmpty",
            Self::Draining => "Draining",
            Self::StrictForExceeded => "StrictForExceeded",
            Self::DeletesHeld => "DeletesHeld",
            Self::DeadLetters => "DeadLetters",
            Self::FlipReverted => "FlipReverted",
            Self::PutBack => "PutBack",
            Self::AsFlipped => "AsFlipped",
            Self::Fencing => "Fencing",
            Self::Fenced => "Fenced",
            Self::ArchiveHold => "ArchiveHold",
            Self::ArchiveNotConfigured => "ArchiveNotConfigured",
            Self::Archiving => "Archiving",
            Self::Archived => "Archived",
            Self::RollbackNotKept => "RollbackNotKept",
            Self::NotThrottled => "NotThrottled",
            Self::NotReversible => "NotReversible",
            Self::Progressing => "Progressing",
            Self::WorkerNotStarting => "WorkerNotStarting",
            Self::TaskFailed => "TaskFailed",
            Self::Worker(word) => word,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
