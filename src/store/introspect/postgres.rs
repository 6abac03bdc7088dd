//! PostgreSQL's catalogue: `pg_class` and its relatives, for the table that the search path finds.

use crate::rows::Value;
use crate::store::classify::FENCE_MARK;
use crate::store::{ColumnSchema, Engine, ForeignKey, Result, TableSchema, Trigger, Tx, UniqueKey};

use super::cells::{flag, number, optional, text};
use super::postgres_types::{Facts, logical};

pub(super) async fn table(tx: &mut Tx, name: &str) -> Result<Option<TableSchema>> {
    let found = tx
        .query(
            "SELECT c.oid::bigint, c.relname::text, GREATEST(c.reltuples, 0)::bigint FROM pg_class c
             WHERE c.oid = to_regclass(quote_ident(?)) AND c.relkind IN ('r', 'p')",
            &[Value::text(name)],
        )
        .await?;
    let Some(found) = found.first() else { return Ok(None) };
    let oid = Value::Int(number(found, 0));
    let oid = std::slice::from_ref(&oid);

    let rows = tx
        .query(
            "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod),
                    CASE WHEN t.typtype = 'd' THEN b.typname ELSE t.typname END::text,
                    CASE WHEN t.typtype = 'd' THEN b.typtype ELSE t.typtype END::text,
                    CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
                    NOT (a.attnotnull OR t.typnotnull), pg_get_expr(d.adbin, d.adrelid), a.attgenerated <> '', a.attidentity::text,
                    pg_get_serial_sequence(a.attrelid::regclass::text, a.attname), l.collname::text,
                    CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) ELSE format_type(a.atttypid, a.atttypmod) END,
                    (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder)::text FROM pg_enum e
                     WHERE e.enumtypid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END)
             FROM pg_attribute a
             JOIN pg_type t ON t.oid = a.atttypid
             LEFT JOIN pg_type b ON b.oid = t.typbasetype
             LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
             LEFT JOIN pg_collation l ON l.oid = a.attcollation
             WHERE a.attrelid = ? AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            oid,
        )
        .await?;
    let columns: Vec<ColumnSchema> = rows.iter().map(|r| column(r)).collect();
    let (unique_keys, indexed_first) = indexes(tx, oid, &columns).await?;
    Ok(Some(TableSchema {
        name: text(found, 1),
        engine: Engine::Postgres,
        primary_key: unique_keys
            .iter()
            .find(|k| k.primary)
            .map(|k| k.columns.clone())
            .unwrap_or_default(),
        columns,
        unique_keys,
        foreign_keys: foreign_keys(tx, oid).await?,
        triggers: triggers(tx, oid).await?,
        estimated_rows: number(found, 2).unsigned_abs(),
        storage_engine: None,
        indexed_first,
    }))
}

fn column(r: &[Value]) -> ColumnSchema {
    let generated = flag(r, 7);
    let identity = text(r, 8);
    let default = optional(r, 6).filter(|_| !generated);
    let sequence = optional(r, 9);
    ColumnSchema {
        name: text(r, 0),
        logical: logical(&Facts {
            native: &text(r, 11),
            base: &text(r, 2),
            kind: &text(r, 3),
            modifier: number(r, 4),
            labels: optional(r, 12).as_deref(),
        }),
        native: text(r, 1),
        nullable: flag(r, 5),
        generated,
        auto_increment: sequence.is_some() || default.as_deref().is_some_and(|d| d.starts_with("nextval(")),
        identity_always: identity == "a",
        sequence,
        default,
        on_update_now: false,
        collation: optional(r, 10),
    }
}

async fn indexes(tx: &mut Tx, oid: &[Value], columns: &[ColumnSchema]) -> Result<(Vec<UniqueKey>, Vec<String>)> {
    let rows = tx
        .query(
            "SELECT c.relname::text, i.indisprimary, i.indisunique, i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate AND i.indisvalid,
                    a.attname::text
             FROM pg_index i
             JOIN pg_class c ON c.oid = i.indexrelid
             CROSS JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place)
             LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0
             WHERE i.indrelid = ? ORDER BY c.relname, k.place",
            oid,
        )
        .await?;
    let mut keys: Vec<UniqueKey> = Vec::new();
    let mut first = Vec::new();
    let mut previous = String::new();
    for r in &rows {
        let index = text(r, 0);
        let column = optional(r, 4);
        if index != previous {
            first.extend(column.clone());
            previous.clone_from(&index);
        }
        if !flag(r, 2) {
            continue;
        }
        if keys.last().is_none_or(|k| k.name != index) {
            keys.push(UniqueKey {
                name: index,
                columns: Vec::new(),
                primary: flag(r, 1),
                identifies: flag(r, 3),
            });
        }
        if let Some(key) = keys.last_mut() {
            key.identifies &= column
                .as_ref()
                .is_some_and(|c| columns.iter().any(|k| k.name == *c && !k.nullable));
            key.columns.extend(column);
        }
    }
    Ok((keys, first))
}

async fn foreign_keys(tx: &mut Tx, oid: &[Value]) -> Result<Vec<ForeignKey>> {
    let rows = tx
        .query(
            "SELECT c.conname::text, a.attname::text, c.confrelid::regclass::text, f.attname::text, c.confdeltype::text, c.confupdtype::text
             FROM pg_constraint c
             CROSS JOIN LATERAL unnest(c.conkey, c.confkey) WITH ORDINALITY AS k(here, there, place)
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.here
             JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = k.there
             WHERE c.contype = 'f' AND c.conrelid = ? ORDER BY c.conname, k.place",
            oid,
        )
        .await?;
    let action = |code: String| {
        match code.as_str() {
            "a" => "NO ACTION",
            "r" => "RESTRICT",
            "c" => "CASCADE",
            "n" => "SET NULL",
            _ => "SET DEFAULT",
        }
        .to_owned()
    };
    let mut keys: Vec<ForeignKey> = Vec::new();
    for r in &rows {
        let constraint = text(r, 0);
        if keys.last().is_none_or(|k| k.name != constraint) {
            keys.push(ForeignKey {
                name: constraint,
                columns: Vec::new(),
                referenced_table: text(r, 2),
                referenced_columns: Vec::new(),
                on_delete: action(text(r, 4)),
                on_update: action(text(r, 5)),
            });
        }
        if let Some(key) = keys.last_mut() {
            key.columns.push(text(r, 1));
            key.referenced_columns.push(text(r, 3));
        }
    }
    Ok(keys)
}

async fn triggers(tx: &mut Tx, oid: &[Value]) -> Result<Vec<Trigger>> {
    let rows = tx
        .query(
            "SELECT t.tgname::text, t.tgtype::int, p.prosrc FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
             WHERE t.tgrelid = ? AND NOT t.tgisinternal AND t.tgenabled <> 'D' ORDER BY t.tgname",
            oid,
        )
        .await?;
    Ok(rows
        .iter()
        .map(|r| {
            let bits = number(r, 1);
            let when = match bits & 0x42 {
                0x02 => "BEFORE",
                0x40 => "INSTEAD OF",
                _ => "AFTER",
            };
            let events: Vec<&str> = [(0x04, "INSERT"), (0x08, "DELETE"), (0x10, "UPDATE"), (0x20, "TRUNCATE")]
                .into_iter()
                .filter(|(bit, _)| bits & bit != 0)
                .map(|(_, name)| name)
                .collect();
            Trigger {
                name: text(r, 0),
                event: format!("{when} {}", events.join(" OR ")),
                row_level: bits & 1 != 0,
                fence: text(r, 2).contains(FENCE_MARK),
            }
        })
        .collect())
}
