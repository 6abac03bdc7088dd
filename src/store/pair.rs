//! The building of a `TablePair` from two schemas and a mapping: which columns, which key, which version, and every
//! problem at once, each with its remedy.

use std::sync::Arc;

use super::carriage::{self, carriage, held};
use super::computed::{Computed, Way};
use super::introspect::decimal_text;
use super::side::{Back, ColumnMapping, MappedColumn, PairProblem, TableMapping, TablePair, TableSide};
use super::{ColumnSchema, Engine, Ident, KeyRequest, TableSchema};
use crate::rows::{Comparison, LogicalType, Verdict, compare};
use crate::words::Side;

/// How a column is declared; SQLite takes columns without a type.
fn declared(column: &ColumnSchema) -> &str {
    if column.native.is_empty() {
        "(no declared type)"
    } else {
        &column.native
    }
}

pub(super) struct Builder<'m> {
    pub(super) source: TableSchema,
    pub(super) target: TableSchema,
    pub(super) mapping: &'m TableMapping,
    problems: Vec<PairProblem>,
    pub(super) notes: Vec<String>,
    pub(super) one_way: Vec<String>,
}

impl Builder<'_> {
    pub fn new(source: TableSchema, target: TableSchema, mapping: &TableMapping) -> Builder<'_> {
        Builder {
            source,
            target,
            mapping,
            problems: Vec::new(),
            notes: Vec::new(),
            one_way: Vec::new(),
        }
    }

    pub(super) fn problem(&mut self, reason: &'static str, message: String) {
        self.problems.push(PairProblem { reason, message });
    }

    pub fn build(mut self) -> Result<TablePair, Vec<PairProblem>> {
        let (from, to) = (self.source.name.clone(), self.target.name.clone());
        let computed = self.computed();
        let pairs = self.column_pairs(&computed);
        let mut source_columns = Vec::new();
        let mut target_columns = Vec::new();
        for (s, t) in &pairs {
            if let Some((s, t)) = self.mapped(s, t) {
                source_columns.push(s);
                target_columns.push(t);
            }
        }
        self.unmapped(&pairs, &computed);
        let keys = self.keys(&pairs);
        let version = self.version(&pairs);
        let up = self.way(Side::Source, &computed);
        let back = self.way(Side::Target, &computed);
        self.compared_names(&pairs, &computed);
        let custom = self.custom(&pairs);

        let tables = (Ident::new(from.clone()), Ident::new(to.clone()));
        let (
            Some((key, source_index, target_index)),
            Some((version, digits)),
            (Ok(source_table), Ok(target_table)),
            true,
        ) = (keys, version, tables, self.problems.is_empty())
        else {
            if self.problems.is_empty() {
                self.problem(
                    "TableMissing",
                    format!("`{from}` and `{to}` cannot be used as names of tables"),
                );
            }
            return Err(self.problems);
        };
        let source_filter = self.mapping.filter.clone();
        let target_filter = self.mapping.target_filter.clone().or_else(|| source_filter.clone());
        let (source_schema, target_schema) = (Arc::new(self.source.clone()), Arc::new(self.target.clone()));
        let sides = |way: &Way| {
            let columns =
                |plain: &[MappedColumn], of: Side| plain.iter().chain(way.columns(of)).cloned().collect::<Vec<_>>();
            let source = side(
                Side::Source,
                source_table.clone(),
                &source_schema,
                columns(&source_columns, Side::Source),
                key.clone(),
                (version, digits),
                source_filter.clone(),
                source_index.clone(),
            );
            let target = side(
                Side::Target,
                target_table.clone(),
                &target_schema,
                columns(&target_columns, Side::Target),
                key.clone(),
                (version, digits),
                target_filter.clone(),
                target_index.clone(),
            );
            (source, target, self.comparison(&pairs, way))
        };
        let (source, target, comparison) = sides(&up);
        let back = (!computed.is_empty()).then(|| {
            let (source, target, comparison) = sides(&back);
            Box::new(Back {
                source,
                target,
                comparison,
            })
        });
        Ok(TablePair {
            source,
            target,
            comparison,
            back,
            custom,
            notes: self.notes,
            one_way: self.one_way,
        })
    }

    /// A pair of columns as both sides carry it.
    fn mapped(&mut self, s: &ColumnSchema, t: &ColumnSchema) -> Option<(MappedColumn, MappedColumn)> {
        let (from, to) = (self.source.name.clone(), self.target.name.clone());
        let in_key = if self.mapping.key.is_empty() {
            self.source.primary_key.contains(&s.name)
        } else {
            self.mapping.key.contains(&s.name)
        };
        let carriage = carriage((s, self.source.engine), (t, self.target.engine), in_key);
        let (from_type, to_type) = (declared(s), declared(t));
        match &carriage.verdict {
            Verdict::Exact => {}
            Verdict::Declared(note) => self.notes.push(format!("{from}.{} ({from_type}) and {to}.{} ({to_type}): {note}", s.name, t.name)),
            Verdict::Refused(why) => self.problem(
                "ColumnsIncompatible",
                format!(
                    "source column {from}.{} is {from_type} and target column {to}.{} is {to_type}: {why}; change the target's \
                     column, or drop the column from the migration",
                    s.name, t.name
                ),
            ),
        }
        if s.nullable && !t.nullable {
            // A key is never NULL: there the source's column is what is to be mended.
            let remedy = if in_key {
                "it is of the key: make the source's column NOT NULL"
            } else {
                "make the target's column nullable"
            };
            self.problem(
                "ColumnsIncompatible",
                format!(
                    "source column {from}.{} may be NULL and target column {to}.{} may not; {remedy}",
                    s.name, t.name
                ),
            );
        }
        let source = self.own(s, &carriage.carry, self.source.engine);
        let target = self.own(t, &carriage.carry, self.target.engine);
        source.zip(target)
    }

    /// A table's own column, in the spelling that both sides share.
    pub(super) fn own(&mut self, column: &ColumnSchema, carry: &LogicalType, engine: Engine) -> Option<MappedColumn> {
        match Ident::new(column.name.clone()) {
            Ok(name) => Some(MappedColumn {
                name,
                logical: held(column, *carry == LogicalType::Bool, engine),
                carry: carry.clone(),
                native: column.native.clone(),
                nullable: column.nullable,
                computed: None,
            }),
            Err(e) => {
                self.problem("ColumnsIncompatible", e.to_string());
                None
            }
        }
    }

    /// Source and target column of every mapped column, in the source's order.
    fn column_pairs(&mut self, computed: &[Computed]) -> Vec<(ColumnSchema, ColumnSchema)> {
        let mut pairs = Vec::new();
        for s in self.source.columns.clone() {
            let behind = |computed: &Computed| computed.source.as_ref().is_some_and(|source| source.name == s.name);
            if computed.iter().any(behind) {
                continue;
            }
            let said = self.mapping.columns.iter().find(|m| m.source() == Some(&s.name));
            let wanted = match said {
                Some(ColumnMapping::Drop { .. }) => continue,
                Some(ColumnMapping::Rename { target, .. }) => target.clone(),
                Some(ColumnMapping::Computed { .. }) | None => s.name.clone(),
            };
            match self.target.column(&wanted).cloned() {
                None if s.generated => {}
                None => {
                    let message = format!(
                        "column {}.{} has no counterpart `{wanted}` in {}; add the column to the target, or map it with `target`, or leave it out with `drop: true`",
                        self.source.name, s.name, self.target.name
                    );
                    self.problem("ColumnMissing", message);
                }
                // A column that one side computes is computed there, and carried by nobody.
                Some(t) if s.generated || t.generated => {
                    if s.generated != t.generated {
                        self.notes.push(format!(
                            "{}.{} and {}.{}: one side computes the column, so it is neither carried nor compared",
                            self.source.name, s.name, self.target.name, t.name
                        ));
                    }
                }
                Some(t) => pairs.push((s, t)),
            }
        }
        for m in &self.mapping.columns {
            let Some(source) = m.source() else { continue };
            if self.source.column(source).is_none() {
                let message = format!(
                    "the mapping names column `{source}`, which {} does not have; correct `columns` in the manifest",
                    self.source.name
                );
                self.problems.push(PairProblem {
                    reason: "ColumnMissing",
                    message,
                });
            }
        }
        pairs
    }

    /// Columns that only one side has must get along without a value.
    fn unmapped(&mut self, pairs: &[(ColumnSchema, ColumnSchema)], computed: &[Computed]) {
        for c in &self.target.columns {
            let mapped =
                pairs.iter().any(|(_, t)| t.name == c.name) || computed.iter().any(|rule| rule.target.name == c.name);
            if !mapped && !c.generated && !c.nullable && c.default.is_none() && !c.auto_increment {
                self.problems.push(PairProblem {
                    reason: "ColumnMissing",
                    message: format!(
                        "column {}.{} is NOT NULL without a default and nothing is mapped to it; give it a default, or map a column to it",
                        self.target.name, c.name
                    ),
                });
            }
        }
        for c in &self.source.columns {
            let back =
                |rule: &Computed| rule.reverse.is_some() && rule.source.as_ref().is_some_and(|s| s.name == c.name);
            let mapped = pairs.iter().any(|(s, _)| s.name == c.name) || computed.iter().any(back);
            if !mapped && !c.generated && !c.nullable && c.default.is_none() && !c.auto_increment {
                self.one_way.push(format!(
                    "column {}.{} is not carried back and is NOT NULL without a default: rows that are new in the target cannot \
                     be written to the source; make it nullable or give it a default",
                    self.source.name, c.name
                ));
            }
        }
    }

    /// Positions of the key's columns, and both sides' index names.
    fn keys(&mut self, pairs: &[(ColumnSchema, ColumnSchema)]) -> Option<(Vec<usize>, String, String)> {
        let request = if self.mapping.key.is_empty() {
            KeyRequest::PrimaryKey
        } else {
            KeyRequest::Columns(&self.mapping.key)
        };
        let Some(key) = self.source.identifying_key(request).cloned() else {
            let message = if self.mapping.key.is_empty() && !self.source.primary_key.is_empty() {
                format!(
                    "the primary key of table {} may be NULL or is more than whole columns: SQLite lets it, and such a row has no \
                     identity; make the table anew with NOT NULL at ({}), or name the columns of a unique, not-null index as `key`",
                    self.source.name,
                    self.source.primary_key.join(", ")
                )
            } else if self.mapping.key.is_empty() {
                format!(
                    "table {} has no primary key: a row needs an identity; add a primary key, or name the columns of a unique, not-null index as `key`",
                    self.source.name
                )
            } else {
                format!(
                    "table {} has no unique index on exactly ({}) whose columns are all NOT NULL; create one, or name another `key`",
                    self.source.name,
                    self.mapping.key.join(", ")
                )
            };
            self.problem("KeyMissing", message);
            return None;
        };
        let mut positions = Vec::new();
        let mut target_names = Vec::new();
        for name in &key.columns {
            let Some(i) = pairs.iter().position(|(s, _)| s.name == *name) else {
                let message = format!("key column {}.{name} is not carried; do not drop it", self.source.name);
                self.problem("KeyMissing", message);
                return None;
            };
            let (s, t) = &pairs[i];
            for (c, schema) in [(s, &self.source), (t, &self.target)] {
                if let Some(why) = unfit_key(schema.engine, c) {
                    self.problems.push(PairProblem {
                        reason: "KeyUnsuitable",
                        message: format!(
                            "key column {}.{} is {}: {why}; name another unique index as `key`",
                            schema.name, c.name, c.native
                        ),
                    });
                }
            }
            positions.push(i);
            target_names.push(t.name.clone());
        }
        let Some(target_key) = self.target.identifying_key(KeyRequest::Columns(&target_names)).cloned() else {
            let message = format!(
                "table {} has no primary key or unique, not-null index on exactly ({}); create one: rows are found by it",
                self.target.name,
                target_names.join(", ")
            );
            self.problem("KeyMissing", message);
            return None;
        };
        if let Some((s, t)) = pairs
            .iter()
            .enumerate()
            .filter(|(i, _)| positions.contains(i))
            .map(|(_, p)| p)
            .find(|(s, t)| {
                let text = |c: &ColumnSchema| matches!(c.logical, LogicalType::Text { .. });
                text(s) && text(t) && ignores_case(s) != ignores_case(t)
            })
        {
            self.notes.push(format!(
                "{}.{} and {}.{}: one side's collation takes upper and lower case as the same key and the other does not",
                self.source.name, s.name, self.target.name, t.name
            ));
        }
        Some((positions, key.name, target_key.name))
    }

    fn version(&mut self, pairs: &[(ColumnSchema, ColumnSchema)]) -> Option<(usize, u8)> {
        let name = &self.mapping.version;
        let Some(i) = pairs.iter().position(|(s, _)| s.name == *name) else {
            let message = format!(
                "version column {}.{name} is not there or not carried: it says which of two copies of a row is newer; add `{name}` as a NOT NULL timestamp with 6 digits on both sides, or name another column as `version`",
                self.source.name
            );
            self.problem("VersionMissing", message);
            return None;
        };
        let (s, t) = &pairs[i];
        let mut digits = 6;
        for (c, table) in [(s, &self.source.name), (t, &self.target.name)] {
            let message = match &c.logical {
                LogicalType::Timestamp { digits: d, .. } => {
                    digits = digits.min(*d);
                    c.nullable.then(|| format!("version column {table}.{} may be NULL: a row without version is never newer; make it NOT NULL", c.name))
                }
                other => Some(format!(
                    "version column {table}.{} is a {other}, expected a timestamp; name another column as `version`",
                    c.name
                )),
            };
            if let Some(message) = message {
                self.problems.push(PairProblem {
                    reason: "VersionUnsuitable",
                    message,
                });
            }
        }
        if digits < 3 {
            self.notes.push(format!(
                "version column {}.{name} keeps {digits} fractional digits on one side: two updates within one tick have the same version, and verify settles them by the base",
                self.source.name
            ));
        }
        Some((i, digits))
    }

    /// `compare` names columns that are carried.
    fn compared_names(&mut self, pairs: &[(ColumnSchema, ColumnSchema)], computed: &[Computed]) {
        let named = self
            .mapping
            .tolerance
            .iter()
            .map(|(name, _)| name)
            .chain(&self.mapping.ignore);
        for name in named {
            if !pairs.iter().any(|(s, _)| s.name == *name) && !computed.iter().any(|rule| rule.is_called(name)) {
                self.problems.push(PairProblem {
                    reason: "ColumnMissing",
                    message: format!(
                        "`compare` names column `{name}`, which is not carried from {}; correct the manifest",
                        self.source.name
                    ),
                });
            }
        }
    }

    fn comparison(&self, pairs: &[(ColumnSchema, ColumnSchema)], way: &Way) -> Comparison {
        let mut comparison = Comparison::exact(pairs.len() + way.slots.len());
        let tolerated = self
            .mapping
            .tolerance
            .iter()
            .map(|(n, t)| (n, compare::Rule::Tolerance(*t)));
        let ignored = self.mapping.ignore.iter().map(|n| (n, compare::Rule::Ignore));
        for (name, rule) in tolerated.chain(ignored) {
            let plain = pairs.iter().position(|(s, _)| s.name == *name);
            let slot = || way.position(name).map(|at| pairs.len() + at);
            if let Some(i) = plain.or_else(slot) {
                comparison.rules[i] = rule;
            }
        }
        comparison
    }
}

/// A key must be comparable and ordered in one way: in the index and by `<`.
fn unfit_key(engine: Engine, column: &ColumnSchema) -> Option<&'static str> {
    match (&column.logical, engine) {
        (LogicalType::Float32 | LogicalType::Float64, _) => Some("floats do not identify rows exactly"),
        (LogicalType::Json, _) => Some("JSON does not identify rows"),
        (LogicalType::Enum { .. } | LogicalType::Set { .. }, Engine::MySql) => {
            Some("an enumeration is ordered by position and compared by text")
        }
        (LogicalType::Native { .. }, _) => Some("such values may be equal and spelled differently"),
        (LogicalType::Time { .. } | LogicalType::Timestamp { .. }, Engine::Sqlite) => {
            Some("times are texts there, and one moment has several spellings")
        }
        (LogicalType::Decimal { .. }, Engine::Sqlite) if decimal_text(&column.native) => {
            Some("such a number is a text there, and one number has several spellings")
        }
        _ => None,
    }
}

fn ignores_case(column: &ColumnSchema) -> bool {
    column.collation.as_deref().is_some_and(carriage::ignores_case) || column.native == "citext"
}

#[allow(clippy::too_many_arguments)] // one constructor, called twice, above
fn side(
    side: Side,
    table: Ident,
    schema: &Arc<TableSchema>,
    columns: Vec<MappedColumn>,
    key: Vec<usize>,
    (version, version_digits): (usize, u8),
    filter: Option<String>,
    key_index: String,
) -> TableSide {
    let mapped = |name: &str| columns.iter().any(|c| c.computed.is_none() && c.name.as_str() == name);
    let self_stamping = schema
        .columns
        .iter()
        .filter(|c| c.on_update_now && !mapped(&c.name))
        .filter_map(|c| Ident::new(c.name.clone()).ok())
        .collect();
    let overriding = schema.columns.iter().any(|c| c.identity_always && mapped(&c.name));
    let other_unique = schema
        .unique_keys
        .iter()
        .filter(|k| k.name != key_index)
        .map(|k| k.name.clone())
        .collect();
    TableSide {
        side,
        engine: schema.engine,
        table,
        schema: schema.clone(),
        columns,
        key,
        version,
        version_digits,
        filter,
        key_index,
        other_unique,
        self_stamping,
        overriding,
    }
}

#[cfg(test)]
#[path = "pair_tests.rs"]
mod tests;
