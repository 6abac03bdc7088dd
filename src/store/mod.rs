//! The databases: connections whose sessions are alike on both engines, schemas, and the row operations of workers and
//! of the dual-write library. The one place that builds SQL; identifiers pass through [`Ident`], values are bound.

mod carriage;
mod cells;
mod classify;
mod computed;
mod config;
mod create;
mod custom;
mod database;
mod digest;
mod error;
mod fence;
mod fingerprint;
mod ident;
mod introspect;
mod keyset;
mod load;
mod load_copy;
mod load_put;
mod load_read;
mod measure;
mod mysql;
mod pair;
mod postgres;
mod probe;
mod rewrite;
mod rowops;
mod sample;
mod schema;
mod sharding;
mod side;
mod sketches;
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
mod sqlite_url;
mod sqlite_values;
mod tx;

pub use carriage::verdict;
pub use config::{ConnectConfig, Engine, SecretUrl, TlsMode, TxOptions};
pub use create::{Creation, Dialect, Secondary, comment, creation};
pub use custom::{ComparedSides, CustomComparison};
pub use database::Database;
pub use digest::{Range, RangeDigest};
pub use error::{CommitError, StoreError};
pub use fence::{Fence, FenceState};
pub use fingerprint::Shape;
pub use ident::Ident;
pub use introspect::{Index, samples};
pub use load::{Batch, Load, Way};
pub use load_read::Reader;
pub use measure::Replication;
pub use probe::MissingPrivilege;
pub use schema::{ColumnSchema, ForeignKey, KeyRequest, TableSchema, Trigger, UniqueKey};
pub use sharding::Division;
pub use side::{ColumnMapping, MappedColumn, PairProblem, TableMapping, TablePair, TableSide};
pub use sql::Lock;
pub use tx::Tx;

use std::time::Duration;

/// A session that holds a transaction and says nothing for this long is ended by the server: a process that stalled
/// cannot hold row locks, and "gone" means no longer than the lease plus this.
pub const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(15);

pub type Result<T, E = StoreError> = std::result::Result<T, E>;
