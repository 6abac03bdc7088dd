//! What a pass decides: actions from a closed list, what is said about the migration, and when to look again.
//! Plain values; doing them is `act`'s part, writing them down is `status`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::conditions::{ConditionType, Reason};
use crate::api::phase::Phase;
use crate::api::status::{FlipStatus, RowTotals};
use crate::api::task::{ControlSpec, MigrationTaskSpec};
use crate::words::{Mode, SecondaryWrites};

/// All that the operator can do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    AddFinalizer,
    /// The application has been left with a database; the note says with which.
    RemoveFinalizer {
        note: String,
    },
    CreateTask {
        name: String,
        attempt: u32,
        spec: MigrationTaskSpec,
    },
    DeleteTask {
        name: String,
    },
    CreateJob {
        task: String,
    },
    /// A Job that ended without a result, or that nobody needs now.
    DeleteJob {
        name: String,
    },
    SuspendJob {
        name: String,
        suspend: bool,
    },
    /// The intent of an epoch, or that it is acknowledged: what the control rows shall say.
    SetControl {
        task: String,
        resource_version: String,
        control: ControlSpec,
    },
    /// The flip itself. `resource_version`: of the ConfigMap as seen; `None`: it is to be created.
    WriteMode {
        data: BTreeMap<String, String>,
        resource_version: Option<String>,
    },
    /// Makes the kubelet refresh the pods' mounted files.
    AnnotatePods {
        pods: Vec<String>,
        epoch: i64,
    },
}

impl Action {
    /// Acts that cannot be taken back once somebody has seen them. One pass does at most one of them.
    pub fn irreversible(&self) -> bool {
        use crate::api::task::TaskKind;
        match self {
            Self::SetControl { .. } | Self::WriteMode { .. } | Self::RemoveFinalizer { .. } => true,
            Self::CreateTask { spec, .. } => matches!(spec.kind, TaskKind::Fence | TaskKind::Archive),
            Self::AddFinalizer
            | Self::DeleteTask { .. }
            | Self::CreateJob { .. }
            | Self::DeleteJob { .. }
            | Self::SuspendJob { .. }
            | Self::AnnotatePods { .. } => false,
        }
    }
}

/// True, false, or not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: ConditionType,
    pub truth: Truth,
    pub reason: Reason,
    pub message: String,
}

/// What is said about the migration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Account {
    pub phase: Option<Phase>,
    pub epoch: i64,
    pub mode: Option<Mode>,
    pub secondary: Option<SecondaryWrites>,
    pub message: String,
    pub waiting_for: Option<String>,
    pub progress: Option<String>,
    pub lag: Option<String>,
    pub rows: Option<RowTotals>,
    pub flip: Option<FlipStatus>,
    pub findings: Vec<Finding>,
    /// The journal cannot be read now: what was said of other aspects stands.
    pub rest_stands: bool,
}

/// The outcome of a pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    pub actions: Vec<Action>,
    pub account: Account,
    /// When to look again, if nothing happens before.
    pub wake: Option<Duration>,
}
