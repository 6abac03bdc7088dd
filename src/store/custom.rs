//! Columns that are compared as the manifest says: by an expression of each side's own SQL instead of by their values. Such
//! a comparison is one more column that is read, and never written, beside those that are carried.

use super::ColumnSchema;
use super::pair::Builder;
use super::side::{MappedColumn, TablePair, TableSide};
use crate::rows::compare::Rule;
use crate::rows::{Comparison, LogicalType};
use crate::words::{Direction, Side};

/// What the manifest says: `column` as it is named in the source, and what is compared in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomComparison {
    pub column: String,
    /// In the source's SQL.
    pub source: String,
    /// In the target's SQL.
    pub target: String,
}

/// The same, with the column's position found.
#[derive(Debug, Clone)]
pub(super) struct Custom {
    at: usize,
    source: String,
    target: String,
}

/// Both sides as a comparison reads them: the carried columns first, then what is compared in place of some.
#[derive(Debug, Clone)]
pub struct ComparedSides {
    pub base: TableSide,
    pub follower: TableSide,
    pub comparison: Comparison,
}

impl Builder<'_> {
    /// Finds the columns; only those that are carried as they are.
    pub(super) fn custom(&mut self, pairs: &[(ColumnSchema, ColumnSchema)]) -> Vec<Custom> {
        let mut found = Vec::new();
        for one in &self.mapping.custom {
            let Some(at) = pairs.iter().position(|(source, _)| source.name == one.column) else {
                let message = format!(
                    "`compare.custom` names column `{}`, which {} does not have or which is not carried as it is; correct the \
                     manifest",
                    one.column, self.source.name
                );
                self.problem("ColumnMissing", message);
                continue;
            };
            let (source, target) = &pairs[at];
            if matches!(source.logical, LogicalType::Native { .. })
                || matches!(target.logical, LogicalType::Native { .. })
            {
                let message = format!(
                    "column {}.{} is {}: an expression has no common form with it, so `compare.custom` cannot name it",
                    self.source.name, source.name, source.native
                );
                self.problem("ColumnsIncompatible", message);
                continue;
            }
            found.push(Custom {
                at,
                source: one.source.clone(),
                target: one.target.clone(),
            });
        }
        found
    }
}

impl TablePair {
    /// Both sides as they are compared, where that is not by the carried columns alone.
    pub fn compared(&self, direction: Direction) -> Option<ComparedSides> {
        self.compared_of(direction, self.base(direction), self.follower(direction))
    }

    /// The same of those rows that these sides take.
    pub fn compared_of(&self, direction: Direction, base: &TableSide, follower: &TableSide) -> Option<ComparedSides> {
        if self.custom.is_empty() {
            return None;
        }
        let mut comparison = self.comparison(direction).clone();
        for custom in &self.custom {
            if let Some(rule) = comparison.rules.get_mut(custom.at) {
                *rule = Rule::Ignore;
            }
            comparison.rules.push(Rule::Exact);
        }
        Some(ComparedSides {
            base: self.beside(base),
            follower: self.beside(follower),
            comparison,
        })
    }

    fn beside(&self, side: &TableSide) -> TableSide {
        let more = self.custom.iter().filter_map(|custom| {
            let column = side.columns.get(custom.at)?;
            let expression = match side.side {
                Side::Source => &custom.source,
                Side::Target => &custom.target,
            };
            Some(MappedColumn {
                logical: column.carry.clone(),
                nullable: true,
                computed: Some(expression.clone()),
                ..column.clone()
            })
        });
        TableSide {
            columns: side.columns.iter().cloned().chain(more).collect(),
            ..side.clone()
        }
    }
}
