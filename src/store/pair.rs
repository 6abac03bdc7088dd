//! The building of a `TablePair` from two schemas and a mapping: which columns, which key, which version, and every
//! problem at once, each with its remedy.

use std::sync::Arc;

use super::carriage::{carriage, held};
use super::side::{ColumnMapping, MappedColumn, PairProblem, TableMapping, TablePair, TableSide};
use super::{ColumnSchema, Engine, Ident, KeyRequest, TableSchema};
use crate::rows::{Comparison, LogicalType, Verdict, compare};
use crate::words::Side;

pub(super) struct Builder<'m> {
    source: TableSchema,
    target: TableSchema,
    mapping: &'m TableMapping,
    problems: Vec<PairProblem>,
    notes: Vec<String>,
}

impl Builder<'_> {
    pub fn new(source: TableSchema, target: TableSchema, mapping: &TableMapping) -> Builder<'_> {
        Builder {
            source,
            target,
            mapping,
            problems: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn problem(&mut self, reason: &'static str, message: String) {
        self.problems.push(PairProblem { reason, message });
    }

    pub fn build(mut self) -> Result<TablePair, Vec<PairProblem>> {
        let (from, to) = (self.source.name.clone(), self.target.name.clone());
        let pairs = self.column_pairs();
        let mut source_columns = Vec::new();
        let mut target_columns = Vec::new();
        for (s, t) in &pairs {
            let in_key = if self.mapping.key.is_empty() {
                self.source.primary_key.contains(&s.name)
            } else {
                self.mapping.key.contains(&s.name)
            };
            let carriage = carriage((s, self.source.engine), (t, self.target.engine), in_key);
            match &carriage.verdict {
                Verdict::Exact => {}
                Verdict::Declared(note) => self.notes.push(format!("{from}.{} ({}) and {to}.{} ({}): {note}", s.name, s.native, t.name, t.native)),
                Verdict::Refused(why) => self.problem(
                    "ColumnsIncompatible",
                    format!(
                        "column {from}.{} is {} and {to}.{} is {}: {why}; change the target's column, or drop the column from the migration",
                        s.name, s.native, t.name, t.native
                    ),
                ),
            }
            if s.nullable && !t.nullable {
                self.problem(
                    "ColumnsIncompatible",
                    format!(
                        "column {from}.{} may be NULL and {to}.{} may not; make the target's column nullable",
                        s.name, t.name
                    ),
                );
            }
            let engines = (self.source.engine, self.target.engine);
            for (c, schema_engine, list) in [(s, engines.0, &mut source_columns), (t, engines.1, &mut target_columns)] {
                match Ident::new(c.name.clone()) {
                    Ok(name) => list.push(MappedColumn {
                        name,
                        logical: held(c, carriage.carry == LogicalType::Bool, schema_engine),
                        carry: carriage.carry.clone(),
                        native: c.native.clone(),
                        nullable: c.nullable,
                    }),
                    Err(e) => self.problems.push(PairProblem {
                        reason: "ColumnsIncompatible",
                        message: e.to_string(),
                    }),
                }
            }
        }
        self.unmapped(&pairs);
        let keys = self.keys(&pairs);
        let version = self.version(&pairs);
        let comparison = self.comparison(&pairs);

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
        let filter = self.mapping.filter.clone();
        let source = side(
            Side::Source,
            source_table,
            self.source,
            source_columns,
            key.clone(),
            (version, digits),
            filter.clone(),
            source_index,
        );
        let target = side(
            Side::Target,
            target_table,
            self.target,
            target_columns,
            key,
            (version, digits),
            filter,
            target_index,
        );
        Ok(TablePair {
            source,
            target,
            comparison,
            notes: self.notes,
        })
    }

    /// Source and target column of every mapped column, in the source's order.
    fn column_pairs(&mut self) -> Vec<(ColumnSchema, ColumnSchema)> {
        let mut pairs = Vec::new();
        for s in self.source.columns.clone() {
            let said = self.mapping.columns.iter().find(|m| match m {
                ColumnMapping::Rename { source, .. } | ColumnMapping::Drop { source } => *source == s.name,
            });
            let wanted = match said {
                Some(ColumnMapping::Drop { .. }) => continue,
                Some(ColumnMapping::Rename { target, .. }) => target.clone(),
                None => s.name.clone(),
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
            let (ColumnMapping::Rename { source, .. } | ColumnMapping::Drop { source }) = m;
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
    fn unmapped(&mut self, pairs: &[(ColumnSchema, ColumnSchema)]) {
        for c in &self.target.columns {
            let mapped = pairs.iter().any(|(_, t)| t.name == c.name);
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
            let mapped = pairs.iter().any(|(s, _)| s.name == c.name);
            if !mapped && !c.generated && !c.nullable && c.default.is_none() && !c.auto_increment {
                self.notes.push(format!(
                    "{}.{} is dropped and is NOT NULL without a default: rows cannot be written back to the source",
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
            let message = if self.mapping.key.is_empty() {
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

    fn comparison(&mut self, pairs: &[(ColumnSchema, ColumnSchema)]) -> Comparison {
        let mut comparison = Comparison::exact(pairs.len());
        let tolerated = self
            .mapping
            .tolerance
            .iter()
            .map(|(n, t)| (n, compare::Rule::Tolerance(*t)));
        let ignored = self.mapping.ignore.iter().map(|n| (n, compare::Rule::Ignore));
        for (name, rule) in tolerated.chain(ignored) {
            match pairs.iter().position(|(s, _)| s.name == *name) {
                Some(i) => comparison.rules[i] = rule,
                None => self.problems.push(PairProblem {
                    reason: "ColumnMissing",
                    message: format!(
                        "`compare` names column `{name}`, which is not carried from {}; correct the manifest",
                        self.source.name
                    ),
                }),
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
        _ => None,
    }
}

fn ignores_case(column: &ColumnSchema) -> bool {
    column.collation.as_deref().is_some_and(|c| c.contains("_ci")) || column.native == "citext"
}

#[allow(clippy::too_many_arguments)] // one constructor, called twice, a few lines above
fn side(
    side: Side,
    table: Ident,
    schema: TableSchema,
    columns: Vec<MappedColumn>,
    key: Vec<usize>,
    (version, version_digits): (usize, u8),
    filter: Option<String>,
    key_index: String,
) -> TableSide {
    let mapped = |name: &str| columns.iter().any(|c| c.name.as_str() == name);
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
        schema: Arc::new(schema),
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
