//! SQLite's catalogue: its pragmas, asked as tables, for the file's main schema.

use crate::rows::Value;
use crate::store::{ColumnSchema, Engine, ForeignKey, Ident, Result, TableSchema, Trigger, Tx, UniqueKey};

use super::cells::{flag, number, optional, text};
use super::sqlite_types::logical;

/// How the key of the rowid is called, which has no index.
const ROWID: &str = "rowid";

pub(super) async fn table(tx: &mut Tx, name: &str) -> Result<Option<TableSchema>> {
    let found = tx
        .query(
            "SELECT name, wr, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name = ? COLLATE NOCASE",
            &[Value::from(name)],
        )
        .await?;
    let Some(found) = found.first() else { return Ok(None) };
    let (name, without_rowid, strict) = (text(found, 0), flag(found, 1), flag(found, 2));
    let bind = [Value::text(name.as_str())];

    let rows = tx
        .query(
            "SELECT name, type, `notnull`, dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid",
            &bind,
        )
        .await?;
    let mut primary: Vec<(i64, String)> = rows
        .iter()
        .map(|r| (number(r, 4), text(r, 0)))
        .filter(|(place, _)| *place > 0)
        .collect();
    primary.sort();
    let primary_key: Vec<String> = primary.into_iter().map(|(_, name)| name).collect();
    let indexes = indexes(tx, &bind).await?;
    // The primary key is the rowid itself where SQLite made no index for it.
    let rowid = match &primary_key[..] {
        [one] if !without_rowid && !indexes.iter().any(|index| index.primary) => Some(one.clone()),
        _ => None,
    };
    let mut columns: Vec<ColumnSchema> = rows.iter().map(|r| column(r, strict, rowid.as_deref())).collect();
    let unique_keys = keys(&indexes, rowid, &mut columns);
    let mut indexed_first: Vec<String> = indexes
        .iter()
        .filter_map(|index| index.columns.first()?.0.clone())
        .collect();
    indexed_first.extend(
        unique_keys
            .iter()
            .filter(|k| k.name == ROWID)
            .flat_map(|k| k.columns.clone()),
    );
    let estimated_rows = if without_rowid { 0 } else { highest(tx, &name).await? };
    Ok(Some(TableSchema {
        engine: Engine::Sqlite,
        columns,
        primary_key,
        unique_keys,
        foreign_keys: foreign_keys(tx, &bind).await?,
        triggers: triggers(tx, &bind).await?,
        estimated_rows,
        storage_engine: None,
        indexed_first,
        name,
    }))
}

/// The table's highest rowid: SQLite keeps no count of rows.
async fn highest(tx: &mut Tx, name: &str) -> Result<u64> {
    let table = Ident::new(name)?.quoted(Engine::Sqlite);
    let rows = tx.query(&format!("SELECT MAX(rowid) FROM {table}"), &[]).await?;
    Ok(rows.first().map_or(0, |r| u64::try_from(number(r, 0)).unwrap_or(0)))
}

fn column(r: &[Value], strict: bool, rowid: Option<&str>) -> ColumnSchema {
    let (name, native) = (text(r, 0), text(r, 1));
    let rowid = rowid == Some(name.as_str());
    ColumnSchema {
        logical: logical(&native, strict),
        nullable: !flag(r, 2) && !rowid,
        default: optional(r, 3),
        generated: matches!(number(r, 5), 2 | 3),
        auto_increment: rowid,
        identity_always: false,
        sequence: None,
        on_update_now: false,
        collation: None,
        name,
        native,
    }
}

struct Index {
    name: String,
    unique: bool,
    primary: bool,
    partial: bool,
    /// Each column and its collation; no name: an expression.
    columns: Vec<(Option<String>, String)>,
}

async fn indexes(tx: &mut Tx, table: &[Value]) -> Result<Vec<Index>> {
    let rows = tx
        .query(
            "SELECT i.name, i.`unique`, i.origin = 'pk', i.partial, c.name, c.coll
             FROM pragma_index_list(?) AS i JOIN pragma_index_xinfo(i.name) AS c
             WHERE c.key = 1 ORDER BY i.origin <> 'pk', i.name, c.seqno",
            table,
        )
        .await?;
    let mut found: Vec<Index> = Vec::new();
    for r in &rows {
        let name = text(r, 0);
        if found.last().is_none_or(|index| index.name != name) {
            found.push(Index {
                name,
                unique: flag(r, 1),
                primary: flag(r, 2),
                partial: flag(r, 3),
                columns: Vec::new(),
            });
        }
        if let Some(index) = found.last_mut() {
            index.columns.push((optional(r, 4), text(r, 5)));
        }
    }
    Ok(found)
}

/// The unique keys. Columns get the collation of the first of them that they are in: it is that index's order in which
/// rows are walked. A key with another collation for the same column identifies nothing.
fn keys(indexes: &[Index], rowid: Option<String>, columns: &mut [ColumnSchema]) -> Vec<UniqueKey> {
    let mut keys: Vec<UniqueKey> = rowid
        .map(|column| UniqueKey {
            name: ROWID.to_owned(),
            columns: vec![column],
            primary: true,
            identifies: true,
        })
        .into_iter()
        .collect();
    for index in indexes.iter().filter(|index| index.unique) {
        let names: Option<Vec<String>> = index.columns.iter().map(|(name, _)| name.clone()).collect();
        let mut identifies = !index.partial && names.is_some();
        for (name, collation) in &index.columns {
            let column = columns.iter_mut().find(|column| Some(&column.name) == name.as_ref());
            identifies &= column.is_some_and(|column| {
                !column.nullable && column.collation.get_or_insert_with(|| collation.clone()) == collation
            });
        }
        keys.push(UniqueKey {
            name: index.name.clone(),
            columns: names.unwrap_or_default(),
            // SQLite lets a primary key be NULL unless it was told otherwise.
            primary: index.primary && identifies,
            identifies,
        });
    }
    keys
}

async fn foreign_keys(tx: &mut Tx, table: &[Value]) -> Result<Vec<ForeignKey>> {
    let rows = tx
        .query(
            "SELECT id, `from`, `table`, `to`, on_delete, on_update FROM pragma_foreign_key_list(?) ORDER BY id, seq",
            table,
        )
        .await?;
    let mut keys: Vec<ForeignKey> = Vec::new();
    for r in &rows {
        // They have no names that could be asked for.
        let name = format!("foreign key {} to {}", number(r, 0) + 1, text(r, 2));
        if keys.last().is_none_or(|k| k.name != name) {
            keys.push(ForeignKey {
                name,
                columns: Vec::new(),
                referenced_table: text(r, 2),
                referenced_columns: Vec::new(),
                on_delete: text(r, 4),
                on_update: text(r, 5),
            });
        }
        if let Some(key) = keys.last_mut() {
            key.columns.push(text(r, 1));
            key.referenced_columns.extend(optional(r, 3));
        }
    }
    Ok(keys)
}

async fn triggers(tx: &mut Tx, table: &[Value]) -> Result<Vec<Trigger>> {
    let rows = tx
        .query(
            "SELECT name FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE ORDER BY name",
            table,
        )
        .await?;
    Ok(rows
        .iter()
        .map(|r| Trigger {
            name: text(r, 0),
            event: "see its definition".to_owned(),
            row_level: true,
            fence: false,
        })
        .collect())
}
