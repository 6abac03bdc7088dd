//! What a table looks like, as far as a migration must know: columns, keys, foreign keys, triggers.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Engine;
use crate::rows::LogicalType;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    pub name: String,
    pub engine: Engine,
    pub columns: Vec<ColumnSchema>,
    /// In key order; empty without a primary key.
    pub primary_key: Vec<String>,
    /// Every unique index, the primary key's included.
    pub unique_keys: Vec<UniqueKey>,
    pub foreign_keys: Vec<ForeignKey>,
    pub triggers: Vec<Trigger>,
    /// The planner's estimate, for progress.
    pub estimated_rows: u64,
    /// MySQL's storage engine; only a transactional one can be migrated.
    pub storage_engine: Option<String>,
    /// Leading columns of every index, to tell whether the version column has one.
    pub indexed_first: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // independent facts of a catalogue, not states of a machine
pub struct ColumnSchema {
    pub name: String,
    pub logical: LogicalType,
    /// The engine's own spelling of the type, as it may stand in a CAST (PostgreSQL) or a CREATE TABLE (MySQL).
    pub native: String,
    pub nullable: bool,
    /// The default's expression.
    pub default: Option<String>,
    /// Computed by the database from other columns: never written.
    pub generated: bool,
    /// AUTO_INCREMENT, serial or identity.
    pub auto_increment: bool,
    /// PostgreSQL GENERATED ALWAYS AS IDENTITY: explicit values need OVERRIDING SYSTEM VALUE.
    pub identity_always: bool,
    /// The sequence behind the column (PostgreSQL), quoted as the server wants it.
    pub sequence: Option<String>,
    /// MySQL's ON UPDATE CURRENT_TIMESTAMP.
    pub on_update_now: bool,
    pub collation: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueKey {
    pub name: String,
    /// In index order. Empty for an index on expressions.
    pub columns: Vec<String>,
    pub primary: bool,
    /// Every column is NOT NULL, the whole column is indexed, and the index has no condition: it identifies rows.
    pub identifies: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    pub name: String,
    pub columns: Vec<String>,
    pub referenced_table: String,
    pub referenced_columns: Vec<String>,
    /// `NO ACTION`, `RESTRICT`, `CASCADE`, `SET NULL`, `SET DEFAULT`.
    pub on_delete: String,
    pub on_update: String,
}

impl ForeignKey {
    /// The database changes rows of this table by itself when the referenced one changes.
    pub fn writes_by_itself(&self) -> bool {
        [&self.on_delete, &self.on_update]
            .iter()
            .any(|a| !matches!(a.as_str(), "NO ACTION" | "RESTRICT"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    pub name: String,
    /// "BEFORE UPDATE", …
    pub event: String,
    pub row_level: bool,
    /// A fence of this product.
    pub fence: bool,
}

/// Which columns identify a row.
#[derive(Debug, Clone, Copy)]
pub enum KeyRequest<'a> {
    PrimaryKey,
    Columns(&'a [String]),
}

impl TableSchema {
    pub fn column(&self, name: &str) -> Option<&ColumnSchema> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The unique index whose columns are exactly these, in any order, and which identifies rows.
    pub fn identifying_key(&self, request: KeyRequest<'_>) -> Option<&UniqueKey> {
        match request {
            KeyRequest::PrimaryKey => self.unique_keys.iter().find(|k| k.primary),
            KeyRequest::Columns(wanted) => self
                .unique_keys
                .iter()
                .filter(|k| k.identifies && k.columns.len() == wanted.len())
                .find(|k| wanted.iter().all(|w| k.columns.contains(w))),
        }
    }

    /// Changes when the shape of the table does: a worker that sees another one stops.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let mut feed = |s: &str| {
            hash.update((s.len() as u64).to_be_bytes());
            hash.update(s.as_bytes());
        };
        for c in &self.columns {
            feed(&c.name);
            feed(&c.native);
            feed(if c.nullable { "null" } else { "not null" });
            feed(if c.generated { "generated" } else { "stored" });
        }
        feed(&self.primary_key.join("\u{1f}"));
        crate::rows::digest::hexadecimal(&hash.finalize()[..16])
    }
}
