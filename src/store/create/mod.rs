//! A target table made from the source's: its columns in the target's types, key, unique indexes, and the secondary
//! indexes as statements of their own. Pure text; what cannot be made again is said.

mod defaults;
mod types;

use super::ident::literal;
use super::introspect::Index;
use super::side::{ColumnMapping, TableMapping};
use super::{ColumnSchema, Engine, Ident, TableSchema};
pub use types::Dialect;

/// How a table is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    name: Ident,
    engine: Engine,
    /// Columns, key and unique indexes.
    parts: Vec<String>,
    /// The indexes that only make reading faster.
    pub secondary: Vec<Secondary>,
    /// What the source has and the new table has not.
    pub notes: Vec<String>,
}

impl Creation {
    /// The statements that make the table: one on MySQL, and one transaction on PostgreSQL. With `mark`, secondary
    /// indexes are left out, and the table carries the mark.
    pub fn statements(&self, mark: Option<&str>) -> Vec<String> {
        let table = self.name.quoted(self.engine);
        match self.engine {
            Engine::MySql => {
                let mut parts = self.parts.clone();
                if mark.is_none() {
                    let keys = self.secondary.iter();
                    parts.extend(keys.map(|one| format!("KEY {} {}", quoted(&one.name, one.engine), one.columns)));
                }
                let mark = mark
                    .map(|mark| format!(" COMMENT={}", literal(mark, self.engine)))
                    .unwrap_or_default();
                vec![format!(
                    "CREATE TABLE {table} ({}) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4{mark}",
                    parts.join(", ")
                )]
            }
            Engine::Postgres | Engine::Sqlite => {
                let mut statements = vec![format!("CREATE TABLE {table} ({})", self.parts.join(", "))];
                match mark {
                    Some(mark) => statements.push(comment(&self.name, mark, self.engine)),
                    None => statements.extend(self.secondary.iter().map(|one| one.statement(false))),
                }
                statements
            }
        }
    }
}

/// One secondary index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secondary {
    /// Unquoted, for comparison with what is there.
    pub name: String,
    /// The columns, quoted, in parentheses.
    columns: String,
    table: String,
    engine: Engine,
}

impl Secondary {
    /// The statement that builds it. `online`: without keeping writers away (PostgreSQL: outside of any transaction).
    pub fn statement(&self, online: bool) -> String {
        let name = quoted(&self.name, self.engine);
        match (self.engine, online) {
            (Engine::MySql, true) => format!(
                "ALTER TABLE {} ADD INDEX {name} {}, ALGORITHM=INPLACE, LOCK=NONE",
                self.table, self.columns
            ),
            (Engine::Postgres, true) => {
                format!("CREATE INDEX CONCURRENTLY {name} ON {} {}", self.table, self.columns)
            }
            (_, false) | (Engine::Sqlite, true) => format!("CREATE INDEX {name} ON {} {}", self.table, self.columns),
        }
    }
}

/// A name that was checked before; one that no statement can hold makes one that every server refuses.
fn quoted(name: &str, engine: Engine) -> String {
    Ident::new(name).map_or_else(|_| String::new(), |name| name.quoted(engine))
}

/// The target's table. Errors are sentences: what has no counterpart, and what to do.
pub fn creation(
    source: &TableSchema,
    indexes: &[Index],
    mapping: &TableMapping,
    to: Dialect,
) -> Result<Creation, Vec<String>> {
    let maker = Maker {
        source,
        mapping,
        to,
        problems: Vec::new(),
        notes: Vec::new(),
    };
    maker.make(indexes)
}

struct Maker<'s> {
    source: &'s TableSchema,
    mapping: &'s TableMapping,
    to: Dialect,
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Maker<'_> {
    fn make(mut self, indexes: &[Index]) -> Result<Creation, Vec<String>> {
        let engine = self.to.engine();
        let table = quoted(&self.mapping.target, engine);
        let computed = self.mapping.columns.iter().filter_map(|rule| match rule {
            ColumnMapping::Computed { target, .. } => Some(target.clone()),
            _ => None,
        });
        for target in computed.collect::<Vec<_>>() {
            self.problems.push(format!(
                "column {target} is computed by an expression, whose type is not known before it is run: create the table yourself"
            ));
        }
        let mut parts = Vec::new();
        for column in &self.source.columns {
            let Some(name) = self.target_name(&column.name) else {
                continue;
            };
            if column.generated {
                self.notes.push(format!(
                    "{}.{} is computed by the source and is not made; add it to the target if the application reads it",
                    self.source.name, column.name
                ));
                continue;
            }
            let keyed = indexes
                .iter()
                .any(|index| index.columns.iter().any(|(name, _)| *name == column.name));
            let leads = indexes
                .iter()
                .any(|index| index.columns.first().is_some_and(|(name, _)| *name == column.name));
            if let Some(text) = self.column(column, &name, keyed, leads) {
                parts.push(text);
            }
        }
        let mut secondary = Vec::new();
        for index in indexes {
            let Some(columns) = self.index_columns(index) else {
                continue;
            };
            let name = self.index_name(&index.name);
            if index.primary {
                parts.push(format!("PRIMARY KEY {columns}"));
            } else if index.unique {
                let word = match engine {
                    Engine::MySql => format!("UNIQUE KEY {} {columns}", quoted(&name, engine)),
                    Engine::Postgres | Engine::Sqlite => {
                        format!("CONSTRAINT {} UNIQUE {columns}", quoted(&name, engine))
                    }
                };
                parts.push(word);
            } else {
                secondary.push(Secondary {
                    name,
                    columns,
                    table: table.clone(),
                    engine,
                });
            }
        }
        for key in &self.source.foreign_keys {
            self.notes.push(format!(
                "foreign key {} of {} is not made; add it once the target is the base",
                key.name, self.source.name
            ));
        }
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let name = Ident::new(self.mapping.target.clone()).map_err(|error| vec![error.to_string()])?;
        Ok(Creation {
            name,
            engine,
            parts,
            secondary,
            notes: self.notes,
        })
    }

    fn target_name(&self, source: &str) -> Option<String> {
        match self.mapping.columns.iter().find(|rule| rule.source() == Some(source)) {
            Some(ColumnMapping::Drop { .. } | ColumnMapping::Computed { .. }) => None,
            Some(ColumnMapping::Rename { target, .. }) => Some(target.clone()),
            None => Some(source.to_owned()),
        }
    }

    fn column(&mut self, column: &ColumnSchema, name: &str, keyed: bool, leads: bool) -> Option<String> {
        let kind = match types::native(column, self.source.engine, self.to, keyed) {
            Ok(kind) => kind,
            Err(why) => {
                self.problems.push(format!(
                    "column {}.{} ({}): {why}; create the table yourself, or leave the column out with `drop: true`",
                    self.source.name, column.name, column.native
                ));
                return None;
            }
        };
        let engine = self.to.engine();
        let mut text = format!("{} {kind}", quoted(name, engine));
        text.push_str(if column.nullable { " NULL" } else { " NOT NULL" });
        if column.auto_increment {
            match engine {
                // An INTEGER PRIMARY KEY does by itself.
                Engine::Sqlite => {}
                // An unsigned 64-bit number has no integer type there, and only those hand out keys.
                Engine::Postgres if kind.starts_with("numeric") => self.notes.push(format!(
                    "{}.{} hands out keys and is made as {kind}, which does not: give it a default from a sequence of its own",
                    self.source.name, column.name
                )),
                Engine::Postgres => text.push_str(" GENERATED BY DEFAULT AS IDENTITY"),
                Engine::MySql if leads => text.push_str(" AUTO_INCREMENT"),
                Engine::MySql => self.notes.push(format!(
                    "{}.{} hands out keys and leads no index: AUTO_INCREMENT is not made",
                    self.source.name, column.name
                )),
            }
        } else if let Some(default) = &column.default {
            match defaults::carried(default, column, self.source.engine, engine) {
                Some(default) => {
                    text.push_str(" DEFAULT ");
                    text.push_str(&default);
                }
                None => self.notes.push(format!(
                    "the default of {}.{} ({default}) is not made: it means nothing to the target",
                    self.source.name, column.name
                )),
            }
        }
        Some(text)
    }

    /// `None`: the index cannot be made there, which is noted.
    fn index_columns(&mut self, index: &Index) -> Option<String> {
        let engine = self.to.engine();
        let names: Option<Vec<String>> = index
            .columns
            .iter()
            .map(|(column, descending)| {
                let made = self.source.column(column).is_some_and(|column| !column.generated);
                let name = self.target_name(column).filter(|_| made)?;
                let order = if *descending && !index.primary && !index.unique {
                    " DESC"
                } else {
                    ""
                };
                Some(format!("{}{order}", quoted(&name, engine)))
            })
            .collect();
        match names {
            Some(names) if index.plain => Some(format!("({})", names.join(", "))),
            _ => {
                self.notes.push(format!(
                    "index {} of {} is more than whole columns that are carried, and is not made",
                    index.name, self.source.name
                ));
                None
            }
        }
    }

    /// PostgreSQL's and SQLite's indexes share one space of names, MySQL's are each table's own.
    fn index_name(&self, name: &str) -> String {
        let mut name = match (self.source.engine, self.to.engine()) {
            (Engine::MySql, Engine::Postgres | Engine::Sqlite) => format!("{}_{name}", self.mapping.target),
            _ => name.to_owned(),
        };
        while name.len() > 63 {
            name.pop();
        }
        name
    }
}

/// The statements that write a mark on a table, or take it away with an empty text.
pub fn comment(table: &Ident, text: &str, engine: Engine) -> String {
    let (table, text) = (table.quoted(engine), literal(text, engine));
    match engine {
        Engine::MySql => format!("ALTER TABLE {table} COMMENT = {text}"),
        Engine::Postgres => format!("COMMENT ON TABLE {table} IS {text}"),
        // Nothing can be written on a table there, and nothing has been.
        Engine::Sqlite => "SELECT 1".to_owned(),
    }
}

#[cfg(test)]
mod tests;
