//! Columns that expressions map: which of the two tables' columns they stand for, and how they are read on the way up
//! (the source computes what the target's column holds) and on the way back (the target computes the source's).

use super::pair::Builder;
use super::side::{ColumnMapping, MappedColumn};
use super::{ColumnSchema, Engine};
use crate::rows::{LogicalType, Verdict, judge};
use crate::words::Side;

/// One rule with its columns.
#[derive(Debug, Clone)]
pub(super) struct Computed {
    /// The source's column behind it.
    pub source: Option<ColumnSchema>,
    pub target: ColumnSchema,
    expression: String,
    /// Only with `source`: the way back needs a place to go to.
    pub reverse: Option<String>,
}

impl Computed {
    /// By which the manifest may call it.
    pub fn is_called(&self, name: &str) -> bool {
        self.target.name == name || self.source.as_ref().is_some_and(|source| source.name == name)
    }
}

/// The computed columns in one direction: what the base computes, and the follower's column that holds it.
#[derive(Debug, Clone)]
pub(super) struct Way {
    base: Side,
    pub slots: Vec<(MappedColumn, MappedColumn)>,
    names: Vec<Computed>,
}

impl Way {
    pub fn columns(&self, side: Side) -> impl Iterator<Item = &MappedColumn> {
        let of_base = side == self.base;
        self.slots
            .iter()
            .map(move |(base, follower)| if of_base { base } else { follower })
    }

    pub fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|rule| rule.is_called(name))
    }
}

impl Builder<'_> {
    /// The rules with expressions, their columns found.
    pub(super) fn computed(&mut self) -> Vec<Computed> {
        let mut found = Vec::new();
        for rule in &self.mapping.columns {
            let ColumnMapping::Computed {
                source,
                target,
                expression,
                reverse,
            } = rule
            else {
                continue;
            };
            let Some(to) = self.target.column(target).cloned() else {
                let message = format!(
                    "the mapping computes column `{target}`, which {} does not have; add the column to the target, or correct \
                     `columns` in the manifest",
                    self.target.name
                );
                self.problem("ColumnMissing", message);
                continue;
            };
            if to.generated {
                let message = format!(
                    "column {}.{target} is computed by the target itself and cannot be given a value; drop the expression",
                    self.target.name
                );
                self.problem("ColumnsIncompatible", message);
                continue;
            }
            // A column that is named and missing is found where all names are looked up.
            let from = source.as_ref().and_then(|name| self.source.column(name)).cloned();
            let from = match (from, source, reverse) {
                (None, None, Some(_)) => {
                    let behind = self.behind(target, expression);
                    if behind.is_none() {
                        let message = format!(
                            "the mapping computes column `{target}` and has a `reverse`, but it is not clear which column of {} \
                             the way back fills; name it as `source`",
                            self.source.name
                        );
                        self.problem("ColumnMissing", message);
                    }
                    behind
                }
                (from, ..) => from,
            };
            match (&from, reverse) {
                (Some(from), None) => {
                    let message = format!(
                        "column {}.{target} is computed from {}.{} and has no `reverse`: what is written to the target cannot be \
                         carried back; give the expression of the way back as `reverse`",
                        self.target.name, self.source.name, from.name
                    );
                    self.one_way.push(message);
                }
                (None, None) => self.notes.push(format!(
                    "{}.{target} is computed from the source and has no `reverse`: it is not carried back",
                    self.target.name
                )),
                _ => {}
            }
            found.push(Computed {
                reverse: reverse.clone().filter(|_| from.is_some()),
                source: from,
                target: to,
                expression: expression.clone(),
            });
        }
        found
    }

    /// The one column of the source that the expression names and that nothing else carries.
    fn behind(&self, target: &str, expression: &str) -> Option<ColumnSchema> {
        let words: Vec<&str> = expression.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        let mut candidates = self.source.columns.iter().filter(|column| {
            words.contains(&column.name.as_str())
                && (column.name == target || self.target.column(&column.name).is_none())
                && !self.mapping.columns.iter().any(|m| m.source() == Some(&column.name))
        });
        let first = candidates.next().cloned();
        first.filter(|_| candidates.next().is_none())
    }

    /// What the rules come to when this side is the base.
    pub(super) fn way(&mut self, base: Side, computed: &[Computed]) -> Way {
        let mut way = Way {
            base,
            slots: Vec::new(),
            names: Vec::new(),
        };
        for rule in computed {
            let (follower, expression) = match (base, &rule.source, &rule.reverse) {
                (Side::Source, ..) => (&rule.target, &rule.expression),
                (Side::Target, Some(source), Some(reverse)) => (source, reverse),
                (Side::Target, ..) => continue,
            };
            let engines = match base {
                Side::Source => (self.source.engine, self.target.engine),
                Side::Target => (self.target.engine, self.source.engine),
            };
            let mut carriage = judge(&follower.logical, &follower.logical);
            if let LogicalType::Native { name, .. } = &follower.logical {
                carriage.verdict = Verdict::Refused(format!("an expression has no common form with {name}"));
            }
            if let Verdict::Refused(why) = carriage.verdict {
                let message = format!(
                    "column {} ({}) is computed by the mapping: {why}; change the column's type",
                    follower.name, follower.native
                );
                self.problem("ColumnsIncompatible", message);
                continue;
            }
            let small = follower.logical == LogicalType::Bool && engines == (Engine::MySql, Engine::MySql);
            let carry = if small {
                LogicalType::Int {
                    bits: 64,
                    unsigned: false,
                }
            } else {
                carriage.carry
            };
            let Some(own) = self.own(follower, &carry, engines.1) else {
                continue;
            };
            let read = MappedColumn {
                logical: carry,
                computed: Some(expression.clone()),
                nullable: true,
                ..own.clone()
            };
            way.slots.push((read, own));
            way.names.push(rule.clone());
        }
        way
    }
}
