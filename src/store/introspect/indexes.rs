//! A table's indexes as they can be built again: by name, columns and order. What more an index can be (a prefix, an
//! expression, a condition, another method) is only told.

use crate::rows::Value;
use crate::store::{Engine, Result, Tx};

use super::cells::{flag, optional, text};

/// One index.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts of a catalogue, not states of a machine
pub struct Index {
    pub name: String,
    /// In order, each with whether it is descending.
    pub columns: Vec<(String, bool)>,
    pub unique: bool,
    pub primary: bool,
    /// Whole columns in a tree, nothing else: it can be built on another engine.
    pub plain: bool,
    /// PostgreSQL: false for what an interrupted CREATE INDEX CONCURRENTLY has left.
    pub valid: bool,
}

impl Tx {
    /// The table's indexes, by name.
    pub async fn indexes(&mut self, table: &str) -> Result<Vec<Index>> {
        let sql = match self.engine() {
            Engine::MySql => {
                "SELECT CAST(index_name AS CHAR), CAST(column_name AS CHAR), collation = 'D', non_unique = 0, index_name = 'PRIMARY',
                        sub_part IS NULL AND index_type = 'BTREE', 1
                 FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ?
                 ORDER BY index_name, seq_in_index"
            }
            Engine::Postgres => {
                "SELECT c.relname::text, a.attname::text, (i.indoption[k.place - 1] & 1) = 1, i.indisunique, i.indisprimary,
                        i.indpred IS NULL AND i.indexprs IS NULL AND m.amname = 'btree' AND i.indnatts = i.indnkeyatts, i.indisvalid
                 FROM pg_index i
                 JOIN pg_class c ON c.oid = i.indexrelid
                 JOIN pg_am m ON m.oid = c.relam
                 CROSS JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place)
                 LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0
                 WHERE i.indrelid = to_regclass(quote_ident(?)) ORDER BY c.relname, k.place"
            }
            Engine::Sqlite => {
                "SELECT i.name, c.name, c.`desc`, i.`unique`, i.origin = 'pk', i.partial = 0, 1
                 FROM pragma_index_list(?) AS i JOIN pragma_index_xinfo(i.name) AS c WHERE c.key = 1 ORDER BY i.name, c.seqno"
            }
        };
        let rows = self.query(sql, &[Value::from(table)]).await?;
        let mut found: Vec<Index> = Vec::new();
        for row in &rows {
            let name = text(row, 0);
            if found.last().is_none_or(|index| index.name != name) {
                found.push(Index {
                    name,
                    columns: Vec::new(),
                    unique: flag(row, 3),
                    primary: flag(row, 4),
                    plain: true,
                    valid: flag(row, 6),
                });
            }
            if let Some(index) = found.last_mut() {
                index.plain &= flag(row, 5);
                match optional(row, 1) {
                    Some(column) => index.columns.push((column, flag(row, 2))),
                    None => index.plain = false,
                }
            }
        }
        Ok(found)
    }

    /// What is written on the table itself; empty: nothing.
    pub async fn comment(&mut self, table: &str) -> Result<String> {
        let sql = match self.engine() {
            Engine::MySql => {
                "SELECT CAST(table_comment AS CHAR) FROM information_schema.tables
                 WHERE table_schema = DATABASE() AND table_name = ?"
            }
            Engine::Postgres => "SELECT obj_description(to_regclass(quote_ident(?)), 'pg_class')",
            // Nothing can be written on a table there.
            Engine::Sqlite => return Ok(String::new()),
        };
        let rows = self.query(sql, &[Value::from(table)]).await?;
        Ok(rows.first().map(|row| text(row, 0)).unwrap_or_default())
    }
}
