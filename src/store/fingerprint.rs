//! A table's shape in one cheap catalogue query, and what changed between two looks at it: a worker that sees another
//! shape than the one it was started with stops before it reads or writes a row under the wrong assumptions.

use super::{Engine, Result, Tx};
use crate::rows::Value;

/// Columns and primary key of a table, as far as a change of them changes what rows mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// In the table's own order; empty: there is no such table.
    columns: Vec<Column>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    /// Type, collation, NOT NULL and the like, in the engine's own words.
    kind: String,
    primary: bool,
}

impl Shape {
    /// What is different now, as a sentence that names each column with both types; `None`: nothing is.
    pub fn change(&self, now: &Shape) -> Option<String> {
        if self == now {
            return None;
        }
        if now.columns.is_empty() {
            return Some("the table is gone".to_owned());
        }
        let mut changes = Vec::new();
        for was in &self.columns {
            match now.columns.iter().find(|is| is.name == was.name) {
                None => changes.push(format!("column {} ({}) is gone", was.name, was.kind)),
                Some(is) if is.kind != was.kind => {
                    changes.push(format!("column {} was {} and is {}", was.name, was.kind, is.kind));
                }
                Some(is) if is.primary != was.primary => {
                    let text = if is.primary { "now belongs" } else { "no longer belongs" };
                    changes.push(format!("column {} {text} to the primary key", was.name));
                }
                Some(_) => {}
            }
        }
        let new = |is: &&Column| !self.columns.iter().any(|was| was.name == is.name);
        changes.extend(
            now.columns
                .iter()
                .filter(new)
                .map(|is| format!("column {} ({}) is new", is.name, is.kind)),
        );
        if changes.is_empty() {
            // Every column is named in statements: their order means nothing.
            return None;
        }
        Some(changes.join(", "))
    }
}

impl Tx {
    /// The table's shape as it is now.
    pub async fn shape(&mut self, table: &str) -> Result<Shape> {
        let sql = match self.engine() {
            Engine::MySql => {
                "SELECT CAST(column_name AS CHAR), CAST(CONCAT(column_type,
                        COALESCE(CONCAT(' collate ', collation_name), ''), IF(is_nullable = 'YES', '', ' not null'),
                        IF(extra LIKE '%GENERATED%' AND extra NOT LIKE '%DEFAULT_GENERATED%', ' generated', '')) AS CHAR),
                        column_key = 'PRI'
                 FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position"
            }
            Engine::Postgres => {
                "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod)
                        || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
                        || CASE WHEN a.attgenerated <> '' THEN ' generated' ELSE '' END,
                        EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey))
                 FROM pg_attribute a
                 WHERE a.attrelid = to_regclass(quote_ident(?)) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
            }
            Engine::Sqlite => {
                "SELECT name, type || CASE WHEN `notnull` THEN ' not null' ELSE '' END
                        || CASE WHEN hidden IN (2, 3) THEN ' generated' ELSE '' END, pk > 0
                 FROM pragma_table_xinfo(?) ORDER BY cid"
            }
        };
        let rows = self.query(sql, &[Value::from(table)]).await?;
        let text = |row: &[Value], at: usize| row.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Shape {
            columns: rows
                .iter()
                .map(|row| Column {
                    name: text(row, 0),
                    kind: text(row, 1),
                    primary: matches!(row.get(2), Some(Value::Int(1))),
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(columns: &[(&str, &str, bool)]) -> Shape {
        Shape {
            columns: columns
                .iter()
                .map(|(name, kind, primary)| Column {
                    name: (*name).to_owned(),
                    kind: (*kind).to_owned(),
                    primary: *primary,
                })
                .collect(),
        }
    }

    #[test]
    fn a_change_names_columns_and_both_types() {
        let was = shape(&[
            ("id", "bigint not null", true),
            ("amount", "int", false),
            ("old", "text", false),
        ]);
        let now = shape(&[
            ("id", "bigint not null", false),
            ("amount", "bigint", false),
            ("new", "date", false),
        ]);
        assert_eq!(
            was.change(&now).unwrap(),
            "column id no longer belongs to the primary key, column amount was int and is bigint, column old (text) is gone, \
             column new (date) is new"
        );
        assert_eq!(was.change(&Shape::default()).unwrap(), "the table is gone");
    }

    #[test]
    fn the_order_of_columns_is_no_change() {
        let was = shape(&[("a", "int", true), ("b", "int", false)]);
        assert_eq!(was.change(&was.clone()), None);
        assert_eq!(was.change(&shape(&[("b", "int", false), ("a", "int", true)])), None);
    }
}
