//! Foreign keys that point at a table: what the database does to other tables' rows when rows of this one go.

use crate::rows::Value;
use crate::store::{Engine, StoreError, Tx};

/// A foreign key of another table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub table: String,
    pub constraint: String,
    pub on_delete: String,
}

impl Reference {
    /// The database changes or deletes the referring rows by itself when the rows they refer to are deleted.
    pub fn deletes_by_itself(&self) -> bool {
        !matches!(self.on_delete.as_str(), "NO ACTION" | "RESTRICT")
    }
}

/// The foreign keys of other tables that refer to this one.
pub async fn referencing(tx: &mut Tx, table: &str) -> Result<Vec<Reference>, StoreError> {
    let sql = match tx.engine() {
        Engine::MySql => {
            "SELECT CAST(table_name AS CHAR), CAST(constraint_name AS CHAR), CAST(delete_rule AS CHAR)
             FROM information_schema.referential_constraints
             WHERE constraint_schema = DATABASE() AND unique_constraint_schema = DATABASE()
               AND referenced_table_name = ? AND table_name <> referenced_table_name
             ORDER BY table_name, constraint_name"
        }
        Engine::Postgres => {
            "SELECT r.relname::text, c.conname::text,
                    CASE c.confdeltype WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE'
                                       WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END
             FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid
             WHERE c.contype = 'f' AND c.confrelid = to_regclass(quote_ident(?)) AND c.conrelid <> c.confrelid
             ORDER BY r.relname, c.conname"
        }
        Engine::Sqlite => {
            "SELECT t.name, 'foreign key ' || (k.id + 1), k.on_delete
             FROM pragma_table_list AS t JOIN pragma_foreign_key_list(t.name) AS k
             WHERE t.schema = 'main' AND k.seq = 0 AND k.`table` = ? COLLATE NOCASE AND t.name <> k.`table` COLLATE NOCASE
             ORDER BY t.name, k.id"
        }
    };
    let rows = tx.query(sql, &[Value::from(table)]).await?;
    let text = |row: &[Value], at: usize| row.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(rows
        .iter()
        .map(|row| Reference {
            table: text(row, 0),
            constraint: text(row, 1),
            on_delete: text(row, 2),
        })
        .collect())
}
