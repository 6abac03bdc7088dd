//! `TableSide` and `TablePair`: one table as a migration sees it on one side, and both sides with their columns in one
//! order. Built once from the two schemas and the mapping; every problem is found here, before any row moves.

use std::sync::Arc;

use super::custom::{Custom, CustomComparison};
use super::pair::Builder;
use super::{ColumnSchema, Engine, Ident, StoreError, TableSchema};
use crate::rows::canonical::canonical;
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
    /// Condition in the source's SQL that picks the rows.
    pub filter: Option<String>,
    /// The same condition in the target's SQL; `None`: as in the source.
    pub target_filter: Option<String>,
    pub columns: Vec<ColumnMapping>,
    /// Source column names that are not compared.
    pub ignore: Vec<String>,
    /// Source column names and the absolute difference that still counts as equal.
    pub tolerance: Vec<(String, f64)>,
    /// Columns that are compared by expressions.
    pub custom: Vec<CustomComparison>,
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
    /// The target's column is computed from the source's row, and on the way back the source's from the target's row.
    Computed {
        /// The source's column that stands behind it, and is not carried under its own name.
        source: Option<String>,
        target: String,
        /// In the source's SQL.
        expression: String,
        /// In the target's SQL.
        reverse: Option<String>,
    },
}

impl ColumnMapping {
    /// The source's column that the rule speaks of.
    pub fn source(&self) -> Option<&str> {
        match self {
            Self::Rename { source, .. } | Self::Drop { source } => Some(source),
            Self::Computed { source, .. } => source.as_deref(),
        }
    }
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
    /// The base's value is this expression in its own SQL; `name` is then the follower's column. Such a column is read
    /// and never written.
    pub computed: Option<String>,
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

    /// A key in the spelling in which this side's rows carry it (a UUID in lower case, a decimal without zeros at its end),
    /// whoever wrote it down. What has no such spelling stays: the database will refuse it by itself.
    pub fn spelled(&self, key: &Key) -> Key {
        let carry = |at: usize| Some(&self.columns.get(*self.key.get(at)?)?.carry);
        let value = |(at, value): (usize, &Value)| {
            let spelled = carry(at).and_then(|carry| canonical(carry, value.clone()).ok());
            spelled.unwrap_or_else(|| value.clone())
        };
        Key(key.0.iter().enumerate().map(value).collect())
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

/// Both sides of one table. Where expressions map columns, a side is read in one way as base and in another as follower.
#[derive(Debug, Clone)]
pub struct TablePair {
    /// As the source is the base.
    pub source: TableSide,
    /// As the target follows.
    pub target: TableSide,
    pub(super) comparison: Comparison,
    /// As the target is the base, where that is not the same turned round.
    pub(super) back: Option<Box<Back>>,
    /// Columns that are compared by expressions.
    pub(super) custom: Vec<Custom>,
    /// What a person should know, and which is no obstacle.
    pub notes: Vec<String>,
    /// Why rows cannot be carried back to the source, each with its remedy.
    pub one_way: Vec<String>,
}

/// The pair while the target is the base.
#[derive(Debug, Clone)]
pub(super) struct Back {
    pub source: TableSide,
    pub target: TableSide,
    pub comparison: Comparison,
}

impl TablePair {
    pub fn base(&self, direction: Direction) -> &TableSide {
        match (direction, &self.back) {
            (Direction::Forward, _) => &self.source,
            (Direction::Reverse, Some(back)) => &back.target,
            (Direction::Reverse, None) => &self.target,
        }
    }

    pub fn follower(&self, direction: Direction) -> &TableSide {
        match (direction, &self.back) {
            (Direction::Forward, _) => &self.target,
            (Direction::Reverse, Some(back)) => &back.source,
            (Direction::Reverse, None) => &self.source,
        }
    }

    /// A side as it follows: every column is the table's own.
    pub fn plain(&self, side: Side) -> &TableSide {
        match side {
            Side::Source => self.follower(Direction::Reverse),
            Side::Target => self.follower(Direction::Forward),
        }
    }

    /// How the base's rows are compared with the follower's.
    pub fn comparison(&self, direction: Direction) -> &Comparison {
        match (direction, &self.back) {
            (Direction::Reverse, Some(back)) => &back.comparison,
            _ => &self.comparison,
        }
    }

    /// Whether expressions map columns.
    pub fn computes(&self) -> bool {
        self.back.is_some()
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
