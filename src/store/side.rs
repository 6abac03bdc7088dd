//! `TableSide` and `TablePair`: one table as a migration sees it on one side, and both sides with their columns in one
//! order. Built once from the two schemas and the mapping; every problem is found here, before any row moves.

use std::sync::Arc;

use super::pair::Builder;
use super::{ColumnSchema, Engine, Ident, StoreError, TableSchema};
use crate::rows::{Comparison, Key, LogicalType, Row, Value};
use crate::words::{Direction, Side};

/// What the manifest says of one table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableMapping {
    pub source: String,
    pub target: String,
    /// Source column names; empty: the primary key.
    pub key: Vec<String>,
    /// Source column name.
    pub version: String,
    /// Condition in SQL, in column names that both sides have.
    pub filter: Option<String>,
    pub columns: Vec<ColumnMapping>,
    /// Source column names that are not compared.
    pub ignore: Vec<String>,
    /// Source column names and the absolute difference that still counts as equal.
    pub tolerance: Vec<(String, f64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnMapping {
    Rename {
        source: String,
        target: String,
    },
    /// The source's column is not carried.
    Drop {
        source: String,
    },
}

/// Why a pair cannot be migrated: a CamelCase reason and a sentence with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PairProblem {
    pub reason: &'static str,
    pub message: String,
}

/// One mapped column on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedColumn {
    pub name: Ident,
    /// What this side's column holds.
    pub logical: LogicalType,
    /// In whose canonical spelling both sides are read.
    pub carry: LogicalType,
    pub native: String,
    pub nullable: bool,
}

/// One table on one side: what every row operation takes.
#[derive(Debug, Clone)]
pub struct TableSide {
    pub side: Side,
    pub engine: Engine,
    pub table: Ident,
    pub schema: Arc<TableSchema>,
    /// In the order of the pair: a row's values are in this order on both sides.
    pub columns: Vec<MappedColumn>,
    /// Positions in `columns` of the key's columns, in key order.
    pub key: Vec<usize>,
    /// Position of the version column.
    pub version: usize,
    /// Fractional digits of a version that both sides keep.
    pub version_digits: u8,
    pub filter: Option<String>,
    /// Name of the index behind the key.
    pub key_index: String,
    /// Names of the other unique indexes.
    pub other_unique: Vec<String>,
    /// Columns that are not mapped and stamp themselves on update (MySQL): a put keeps them as they are.
    pub(crate) self_stamping: Vec<Ident>,
    /// Some mapped column is GENERATED ALWAYS AS IDENTITY.
    pub(crate) overriding: bool,
}

impl TableSide {
    pub fn key_of(&self, row: &Row) -> Key {
        Key(self.key.iter().map(|&i| row.values[i].clone()).collect())
    }

    pub fn version_of<'r>(&self, row: &'r Row) -> &'r Value {
        &row.values[self.version]
    }

    pub fn key_columns(&self) -> impl Iterator<Item = &MappedColumn> {
        self.key.iter().map(|&i| &self.columns[i])
    }

    /// The single AUTO_INCREMENT / sequence column of the key, if it has one.
    pub fn generated_key(&self) -> Option<&ColumnSchema> {
        self.key_columns()
            .filter_map(|c| self.schema.column(c.name.as_str()))
            .find(|c| c.auto_increment)
    }

    /// The key of this text (`row_key` in control tables), checked against the key's number of columns.
    pub fn parse_key(&self, json: &str) -> Result<Key, StoreError> {
        let data = |message: String| StoreError::Data {
            label: self.table.as_str().to_owned(),
            message,
        };
        let key = Key::from_json(json).map_err(|e| data(e.to_string()))?;
        if key.0.len() == self.key.len() {
            Ok(key)
        } else {
            Err(data(format!(
                "the key {key} has {} values, the table's key has {} columns",
                key.0.len(),
                self.key.len()
            )))
        }
    }
}

/// Both sides of one table.
#[derive(Debug, Clone)]
pub struct TablePair {
    pub source: TableSide,
    pub target: TableSide,
    pub comparison: Comparison,
    /// What a person should know, and which is no obstacle.
    pub notes: Vec<String>,
}

impl TablePair {
    pub fn side(&self, side: Side) -> &TableSide {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    pub fn base(&self, direction: Direction) -> &TableSide {
        self.side(direction.base())
    }

    pub fn follower(&self, direction: Direction) -> &TableSide {
        self.side(direction.follower())
    }

    /// All problems at once, so that a manifest is corrected in one go.
    pub fn new(
        source: TableSchema,
        target: TableSchema,
        mapping: &TableMapping,
    ) -> Result<TablePair, Vec<PairProblem>> {
        Builder::new(source, target, mapping).build()
    }
}
