//! What a caller of the dual write is told when a write did not succeed. The three kinds are three promises, and only
//! the first two may be told to a user as "nothing happened".

use std::time::Duration;

use crate::control::ControlError;
use crate::store::StoreError;
use crate::words::Side;

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The write was not begun, or the database turned this process away.
    #[error("refused, nothing happened: {0}")]
    Refused(#[from] Refusal),
    /// It was begun and rolled back.
    #[error("failed, nothing happened: {0}")]
    Failed(#[from] Failure),
    /// It may have happened or not. Never simply try again: read first.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(String),
}

#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("there is no mode yet: {0}")]
    NoMode(String),
    #[error("the mode is SRC_READ_ONLY: writes are paused until the migration goes on")]
    ReadOnly,
    #[error("epoch {epoch} is not acknowledged yet: {why}")]
    NotAcknowledged { epoch: i64, why: String },
    #[error(
        "the last heartbeat was {} s ago and the lease is {} s: {why}; writes begin again with the next heartbeat",
        age.as_secs(),
        lease.as_secs()
    )]
    LeaseOver {
        age: Duration,
        lease: Duration,
        why: String,
    },
    #[error("the database turned this process away: {0}")]
    Stale(String),
    #[error("table {0:?} is not defined; give it to the builder")]
    UnknownTable(String),
    #[error("{found} keys in one write, at most {most} are possible; split the write")]
    TooManyKeys { found: usize, most: usize },
    #[error("the {side} database is needed in this mode and is not configured")]
    NotConfigured { side: Side },
    /// A side's shards and a table's definition do not fit together.
    #[error("{0}")]
    Definition(String),
    #[error("{stated} of table {table} lies in no shard: {why}")]
    NoPlace { table: String, stated: String, why: String },
    /// A transaction over several databases of the side that is right would need a two-phase commit.
    #[error(
        "one write would touch several shards of the {side}, which is written first: {one} and {other}; write each shard by \
         itself"
    )]
    SeveralShards { side: Side, one: String, other: String },
    #[error(
        "the {side} has {shards} shards and nothing says which one is meant; state a key or the values of the shard columns \
         (`write_new_at`, `write_tables_at`, `read_key`, `read_at`), or read all shards (`read_shards`)"
    )]
    ShardUnknown { side: Side, shards: usize },
    #[error(
        "column {column} of table {table} decides about the shard and its value is handed out by the shard: no shard can be \
         chosen before the INSERT; shard by columns whose values are known beforehand, or hand out the key in the application"
    )]
    GeneratedShardColumn { table: String, column: String },
    #[error("the process is shutting down")]
    Closing,
}

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Control(ControlError),
    /// The table's shape does not fit its definition.
    #[error("{0}")]
    Table(String),
    #[error("other writes of the same key took too long; try again")]
    Busy,
    /// While the base is being swapped a write needs both sides.
    #[error("the second write failed and the epoch is strict: {0}")]
    SecondWrite(String),
    /// The application's own: it did not want to go on.
    #[error("{0}")]
    Application(Box<dyn std::error::Error + Send + Sync>),
}

/// What the application's part of a write may end in.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Application(Box<dyn std::error::Error + Send + Sync>),
}

impl ApplyError {
    /// The application's own reason to stop; everything is rolled back.
    pub fn application(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Application(error.into())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("there is no mode yet: {0}")]
    NoMode(String),
    #[error("the {side} database is needed in this mode and is not configured")]
    NotConfigured { side: Side },
    /// Nothing says which shard, or the tables' definitions do not fit the shards.
    #[error(transparent)]
    Place(Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Application(Box<dyn std::error::Error + Send + Sync>),
}

/// Why one attempt at a write ended; nothing of it is left in any database, except for `Unknown`.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another transaction was in the way, or a connection broke before anything was committed: worth another try.
    Contention(Failure),
    /// The mode has moved on: worth another try in the next one.
    Stale(String),
    Refused(Refusal),
    Failed(Failure),
    Unknown(String),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            // The fence is put up when no instance should write here any more.
            StoreError::Fenced { .. } => Self::Stale(error.to_string()),
            error if error.is_transient() => Self::Contention(Failure::Store(error)),
            error => Self::Failed(Failure::Store(error)),
        }
    }
}

impl From<ControlError> for Fault {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Store(error) => error.into(),
            ControlError::Stale { .. } | ControlError::Missing { .. } => Self::Stale(error.to_string()),
            other => Self::Failed(Failure::Control(other)),
        }
    }
}

impl From<ApplyError> for Fault {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Store(error) => error.into(),
            ApplyError::Application(error) => Self::Failed(Failure::Application(error)),
        }
    }
}

impl Fault {
    pub fn text(&self) -> String {
        match self {
            Self::Contention(failure) | Self::Failed(failure) => failure.to_string(),
            Self::Stale(why) | Self::Unknown(why) => why.clone(),
            Self::Refused(refusal) => refusal.to_string(),
        }
    }
}
