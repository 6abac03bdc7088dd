//! The two databases of a migration, as they stand in the manifest: engine, shards, TLS.
//! Addresses and passwords are in Secrets, which only the Jobs mount.

use crate::store::Engine;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A database, or a set of shards of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseSpec {
    /// The kind of server: `MySQL` (also MariaDB) or `PostgreSQL`. `SQLite` is a file, for runs from a shell
    /// (`datamigration copy` and `verify`) only; the operator refuses it.
    pub engine: EngineName,
    /// The shards, in the order of their numbers, from 0. One entry: not sharded. Several: rows are divided between them by
    /// `tables[].shardBy`. Entries with the same Secret and key are shards in one database, whose tables are told apart by a
    /// place for the shard's number in `tables[].source` or `tables[].target`.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub shards: Vec<ShardSpec>,
    /// How connections are encrypted and checked. Default: mode `VerifyFull` with the system's certificate authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// What to do when the target's tables already hold rows; the type's text is what people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing_rows: Option<ExistingRows>,
}

/// A kind of database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EngineName {
    /// MySQL or MariaDB.
    MySQL,
    /// PostgreSQL.
    PostgreSQL,
    /// SQLite; for local runs only.
    SQLite,
}

impl EngineName {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MySQL => "MySQL",
            Self::PostgreSQL => "PostgreSQL",
            Self::SQLite => "SQLite",
        }
    }

    /// The same in the store's words.
    pub const fn store(self) -> Engine {
        match self {
            Self::MySQL => Engine::MySql,
            Self::PostgreSQL => Engine::Postgres,
            Self::SQLite => Engine::Sqlite,
        }
    }
}

/// One shard of a side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShardSpec {
    /// A short name, unique on this side, used in messages.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$"))]
    pub name: String,
    /// Where the connection URL is, such as `mysql://user:password@host:3306/database`.
    pub url_secret_ref: SecretKeyRef,
}

/// A key of a Secret in the migration's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key within the Secret. Default: `url`, or `ca.crt` for a certificate authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// How connections to a side are encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsSpec {
    /// What is checked of a server's certificate; the type's text is what people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<TlsModeName>,
    /// The certificate authority to trust. Default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

/// What is checked of a server's certificate. `VerifyFull` (default): certificate and host name. `VerifyCA`: the
/// certificate alone. `Disabled`: nothing, the connection is not encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsModeName {
    /// Certificate and host name.
    #[default]
    VerifyFull,
    /// The certificate, not the host name.
    VerifyCA,
    /// Nothing: the connection is not encrypted.
    Disabled,
}

/// For the target only: what to do when its tables already hold rows at the start. `Refuse` (default): do not begin.
/// `Adopt`: compare them with the source, and repair or delete what differs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExistingRows {
    /// A reason not to begin.
    #[default]
    Refuse,
    /// They belong to the migration: kept, repaired or deleted as the source says.
    Adopt,
}
