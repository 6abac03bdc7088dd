//! `manifest.json`: what the archive of one table holds. It is written last, so a table that has one is exported whole,
//! and its own checksum stands for everything that it names.

use serde::{Deserialize, Serialize};

use super::parquet::Column;

/// The archive of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// `namespace/name` of the DataMigration, and its UID.
    pub migration: String,
    pub uid: String,
    /// Side and shard, such as `source/main`.
    pub database: String,
    pub engine: String,
    pub table: String,
    /// Of the table's columns and key, to notice a change.
    pub fingerprint: String,
    /// The subset that was archived; absent: every row.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The columns that identify a row; rows are in this order.
    pub key: Vec<String>,
    pub columns: Vec<Column>,
    pub rows: u64,
    /// The source's clock when the export ended.
    pub exported_at: String,
    pub parts: Vec<Part>,
}

/// One Parquet object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// Its name beside the manifest.
    pub object: String,
    pub rows: u64,
    pub bytes: u64,
    /// Of the object's bytes.
    pub sha256: String,
    /// Of the rows' values, whatever the encoding.
    pub rows_digest: String,
    /// Keys of the first and last row, as JSON arrays.
    pub first_key: String,
    pub last_key: String,
}

/// The version that is written and read.
pub const FORMAT: u32 = 1;
