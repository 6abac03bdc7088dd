//! `Migration`: the manifest after `validate`, every default filled. Nothing later reads the raw spec.

use k8s_openapi::api::core::v1::{HostAlias, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;
use std::time::Duration;

use super::database::{EngineName, ExistingRows, TlsModeName};
use super::phase::Phase;
use super::schedule::{Schedule, Window};
use super::spec::{CustomCompareSpec, Strategy};
use super::tuning::{QuerySide, RepairPolicy, RollbackPolicy, SecondaryIndexes};
use crate::rows::{ShardBy, numbered};
use crate::words::{ModeKeys, Protocol, Side};

/// A validated migration.
#[derive(Debug, Clone, PartialEq)]
pub struct Migration {
    pub namespace: String,
    pub name: String,
    /// UID of the DataMigration; every control row carries it.
    pub uid: String,
    pub generation: i64,
    /// A short digest of what Preflight depends on: databases, tables, way back, worker. Another digest, another preflight.
    pub fingerprint: String,
    pub strategy: Strategy,
    /// How far the ladder may be climbed.
    pub phase: Phase,
    pub suspend: bool,
    pub source: Database,
    pub target: Database,
    pub tables: Vec<Table>,
    pub application: Application,
    pub copy: CopySettings,
    pub verify: VerifySettings,
    pub gates: Gates,
    pub rollback: RollbackPolicy,
    pub archive: Option<Archive>,
    pub worker: Worker,
}

impl Migration {
    /// `namespace/name`: the name under which control tables know this migration.
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    pub fn side(&self, side: Side) -> &Database {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }
}

/// One side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    pub engine: EngineName,
    pub shards: Vec<Shard>,
    pub tls_mode: TlsModeName,
    pub tls_ca: Option<SecretKey>,
    /// Says something for the target only.
    pub existing_rows: ExistingRows,
}

/// One server of a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    pub name: String,
    pub url: SecretKey,
}

/// A key of a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretKey {
    pub name: String,
    pub key: String,
}

/// One table that moves.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// What the manifest and the control tables call it.
    pub name: String,
    /// Name in the source, with a place for the shard's number where several shards live in one database.
    pub source: String,
    /// Name in the target, likewise.
    pub target: String,
    /// Key columns, named as in the source; `None`: the primary key.
    pub key: Option<Vec<String>>,
    /// Version column, named as in the source.
    pub version: String,
    /// Condition that picks the rows, in the source's SQL.
    pub filter: Option<String>,
    /// The same in the target's SQL; `None`: as in the source.
    pub target_filter: Option<String>,
    pub columns: Vec<ColumnRule>,
    /// Columns that are carried but not compared, named as in the source.
    pub ignore: Vec<String>,
    /// Differences of floating-point columns that still count as equal, by source column.
    pub tolerance: BTreeMap<String, f64>,
    /// Columns that are compared by expressions.
    pub custom: Vec<CustomCompareSpec>,
    pub sharding: Sharding,
}

impl Table {
    /// The table's own name in one shard of a side.
    pub fn name_on(&self, side: Side, shard: usize) -> String {
        let template = match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        };
        // Checked by `validate`.
        numbered(template, shard).unwrap_or_else(|_| template.clone())
    }
}

/// How the rows of a table are divided on both sides; `None`: the side has one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sharding {
    pub source: Option<Placement>,
    pub target: Option<Placement>,
}

/// How one side's rows find their shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub by: ShardBy,
    /// How many shards there are, at least 2.
    pub shards: usize,
}

impl Sharding {
    /// Whether either side has several shards.
    pub fn any(&self) -> bool {
        self.source.is_some() || self.target.is_some()
    }

    pub fn on(&self, side: Side) -> Option<&Placement> {
        match side {
            Side::Source => self.source.as_ref(),
            Side::Target => self.target.as_ref(),
        }
    }

    /// How many shards a side has.
    pub fn shards(&self, side: Side) -> usize {
        self.on(side).map_or(1, |placement| placement.shards)
    }
}

/// What happens to a column that is not simply carried under its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnRule {
    Rename {
        source: String,
        target: String,
    },
    Drop {
        source: String,
    },
    Computed {
        source: Option<String>,
        target: String,
        /// In the source's SQL.
        expression: String,
        /// In the target's SQL.
        reverse: Option<String>,
    },
}

impl ColumnRule {
    /// The source's column that the rule speaks of.
    pub fn source(&self) -> Option<&str> {
        match self {
            Self::Rename { source, .. } | Self::Drop { source } => Some(source),
            Self::Computed { source, .. } => source.as_deref(),
        }
    }

    /// The target's column that the rule speaks of.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Rename { target, .. } | Self::Computed { target, .. } => Some(target),
            Self::Drop { .. } => None,
        }
    }
}

/// The application.
#[derive(Debug, Clone, PartialEq)]
pub struct Application {
    pub config_map: String,
    pub keys: ModeKeys,
    pub acknowledge: Acknowledge,
    /// After this time silent pods are named, and a flip that can be taken back is.
    pub acknowledge_timeout: Duration,
    pub protocol: Protocol,
    pub read_target_percent: u8,
}

/// How a flip is known to have reached every instance.
#[derive(Debug, Clone, PartialEq)]
pub enum Acknowledge {
    /// By the rows that the application's instances write.
    Instances { selector: LabelSelector },
    /// By the clock.
    Delay {
        delay: Duration,
        selector: Option<LabelSelector>,
    },
}

impl Acknowledge {
    /// The application's pods, where they are known.
    pub fn selector(&self) -> Option<&LabelSelector> {
        match self {
            Self::Instances { selector } => Some(selector),
            Self::Delay { selector, .. } => selector.as_ref(),
        }
    }
}

/// How rows are copied.
#[derive(Debug, Clone, PartialEq)]
pub struct CopySettings {
    pub parallelism: u32,
    /// Pods of one task.
    pub pods: u32,
    /// Missing target tables are made from the source's.
    pub create_tables: bool,
    /// When the secondary indexes of such tables are built.
    pub secondary_indexes: SecondaryIndexes,
    pub limits: Limits,
}

/// How much background work may ask of the databases, and when.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    pub rows_per_second: Option<u32>,
    pub bytes_per_second: Option<u64>,
    /// Background work pauses while a server runs more statements than this.
    pub threads_running: Option<u32>,
    /// Background work pauses while a replica is further behind.
    pub replication_lag: Option<Duration>,
    pub query: Option<LoadQuery>,
    /// `None`: always.
    pub window: Option<Window>,
}

/// A query of the user's own whose answer says whether to pause.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadQuery {
    pub sql: String,
    pub above: f64,
    pub side: QuerySide,
}

impl LoadQuery {
    /// Whether the servers of a side are asked.
    pub fn asks(&self, side: Side) -> bool {
        match self.side {
            QuerySide::Both => true,
            QuerySide::Source => side == Side::Source,
            QuerySide::Target => side == Side::Target,
        }
    }
}

/// How the sides are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifySettings {
    pub lag: Duration,
    pub interval: Duration,
    pub repair: RepairPolicy,
    pub max_deletes: u64,
    pub budget: VerifyBudget,
    /// When everything is compared again; `None`: only where a gate asks for it.
    pub full: Option<Schedule>,
}

/// What a full verify may spend; `None`: as much as it takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifyBudget {
    /// Differences found and not repaired at once.
    pub mismatches: Option<u64>,
    pub duration: Option<Duration>,
}

/// How long evidence must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gates {
    pub clean_for: Duration,
    pub strict_for: Duration,
}

/// What becomes of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    pub hold: Duration,
    pub destination: Destination,
    pub delete_source: bool,
}

/// Where an archive goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A directory on a volume that is mounted at `path`.
    Volume { path: String, claim: String },
    /// An object store; the Secret's keys are its options.
    ObjectStore { url: String, secret: Option<String> },
}

/// The worker pods.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// `None`: the one that the operator was installed with.
    pub service_account: Option<String>,
    pub resources: ResourceRequirements,
    pub host_aliases: Vec<HostAlias>,
}
