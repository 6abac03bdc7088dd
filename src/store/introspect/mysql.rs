//! MySQL's and MariaDB's catalogue: `information_schema`, for the connection's own database. Each of its tables is given
//! schema (and table) as constants in the columns that it can look up: without them the server opens every table of
//! every schema, which is slow, and MariaDB 10.11 was seen to crash when a time limit ended such a scan.

use crate::rows::Value;
use crate::store::classify::FENCE_MARK;
use crate::store::{ColumnSchema, Engine, ForeignKey, Result, TableSchema, Trigger, Tx, UniqueKey};

use super::cells::{flag, number, optional, text};
use super::mysql_types::{Facts, logical};

pub(super) async fn table(tx: &mut Tx, name: &str) -> Result<Option<TableSchema>> {
    let name_bind = [Value::text(name)];
    let found = tx
        .query(
            "SELECT CAST(table_name AS CHAR), CAST(engine AS CHAR), COALESCE(table_rows, 0), CAST(VERSION() AS CHAR)
             FROM information_schema.tables
             WHERE table_schema = DATABASE() AND table_name = ? AND table_type = 'BASE TABLE'",
            &name_bind,
        )
        .await?;
    let Some(found) = found.first() else { return Ok(None) };
    let mariadb = text(found, 3).contains("MariaDB");

    let json = if mariadb {
        json_columns(tx, name).await?
    } else {
        Vec::new()
    };
    let rows = tx
        .query(
            "SELECT CAST(column_name AS CHAR), CAST(data_type AS CHAR), CAST(column_type AS CHAR), is_nullable = 'YES',
                    CAST(column_default AS CHAR), CAST(extra AS CHAR), CAST(collation_name AS CHAR),
                    character_maximum_length, character_octet_length, numeric_precision, numeric_scale, datetime_precision,
                    CAST(character_set_name AS CHAR)
             FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position",
            &name_bind,
        )
        .await?;
    let columns: Vec<ColumnSchema> = rows.iter().map(|r| column(r, &json)).collect();

    let (unique_keys, indexed_first) = indexes(tx, name, &columns).await?;
    Ok(Some(TableSchema {
        name: text(found, 0),
        engine: Engine::MySql,
        primary_key: unique_keys
            .iter()
            .find(|k| k.primary)
            .map(|k| k.columns.clone())
            .unwrap_or_default(),
        columns,
        unique_keys,
        foreign_keys: foreign_keys(tx, name).await?,
        triggers: triggers(tx, name).await?,
        estimated_rows: number(found, 2).unsigned_abs(),
        storage_engine: optional(found, 1),
        indexed_first,
    }))
}

fn column(r: &[Value], json: &[String]) -> ColumnSchema {
    let (name, data_type, native) = (text(r, 0), text(r, 1).to_lowercase(), text(r, 2));
    let extra = text(r, 5).to_uppercase();
    let nullable = flag(r, 3);
    // MariaDB writes a missing default of a nullable column as the word NULL.
    let default = optional(r, 4).filter(|d| !(nullable && d == "NULL"));
    let logical = logical(&Facts {
        data_type: &data_type,
        native: &native,
        json: json.contains(&name),
        characters: u64::try_from(number(r, 7)).ok(),
        octets: u64::try_from(number(r, 8)).ok(),
        precision: u16::try_from(number(r, 9)).ok(),
        scale: u16::try_from(number(r, 10)).ok(),
        digits: u8::try_from(number(r, 11)).unwrap_or(0),
        charset: &text(r, 12),
    });
    ColumnSchema {
        logical,
        nullable,
        default,
        generated: extra.contains("GENERATED") && !extra.contains("DEFAULT_GENERATED"),
        auto_increment: extra.contains("AUTO_INCREMENT"),
        identity_always: false,
        sequence: None,
        on_update_now: extra.contains("ON UPDATE CURRENT_TIMESTAMP"),
        collation: optional(r, 6),
        name,
        native,
    }
}

/// MariaDB's JSON is a longtext with the check `json_valid(column)`.
async fn json_columns(tx: &mut Tx, name: &str) -> Result<Vec<String>> {
    let rows = tx
        .query(
            "SELECT CAST(check_clause AS CHAR) FROM information_schema.check_constraints
             WHERE constraint_schema = DATABASE() AND table_name = ?",
            &[Value::text(name)],
        )
        .await?;
    Ok(rows
        .iter()
        .filter_map(|r| {
            let clause = text(r, 0);
            let inner = clause
                .trim()
                .strip_prefix("json_valid(`")?
                .strip_suffix("`)")?
                .replace("``", "`");
            Some(inner)
        })
        .collect())
}

async fn indexes(tx: &mut Tx, name: &str, columns: &[ColumnSchema]) -> Result<(Vec<UniqueKey>, Vec<String>)> {
    let rows = tx
        .query(
            "SELECT CAST(index_name AS CHAR), CAST(column_name AS CHAR), non_unique = 0, sub_part IS NOT NULL
             FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ?
             ORDER BY index_name, seq_in_index",
            &[Value::text(name)],
        )
        .await?;
    let mut keys: Vec<UniqueKey> = Vec::new();
    let mut first = Vec::new();
    let mut previous = String::new();
    for r in &rows {
        let index = text(r, 0);
        let column = optional(r, 1);
        if index != previous {
            first.extend(column.clone());
            previous.clone_from(&index);
        }
        if !flag(r, 2) {
            continue;
        }
        let whole = !flag(r, 3);
        let not_null = column
            .as_ref()
            .is_some_and(|c| columns.iter().any(|k| k.name == *c && !k.nullable));
        if keys.last().is_none_or(|k| k.name != index) {
            keys.push(UniqueKey {
                primary: index == "PRIMARY",
                name: index,
                columns: Vec::new(),
                identifies: true,
            });
        }
        if let Some(key) = keys.last_mut() {
            key.identifies &= whole && not_null;
            key.columns.extend(column);
        }
    }
    Ok((keys, first))
}

async fn foreign_keys(tx: &mut Tx, name: &str) -> Result<Vec<ForeignKey>> {
    let rows = tx
        .query(
            "SELECT CAST(r.constraint_name AS CHAR), CAST(k.column_name AS CHAR), CAST(k.referenced_table_name AS CHAR),
                    CAST(k.referenced_column_name AS CHAR), CAST(r.delete_rule AS CHAR), CAST(r.update_rule AS CHAR)
             FROM information_schema.referential_constraints r
             JOIN information_schema.key_column_usage k
               ON k.constraint_schema = r.constraint_schema AND k.constraint_name = r.constraint_name AND k.table_name = r.table_name
             WHERE r.constraint_schema = DATABASE() AND r.table_name = ? AND k.table_schema = DATABASE() AND k.table_name = ?
             ORDER BY r.constraint_name, k.ordinal_position",
            &[Value::text(name), Value::text(name)],
        )
        .await?;
    let mut keys: Vec<ForeignKey> = Vec::new();
    for r in &rows {
        let constraint = text(r, 0);
        if keys.last().is_none_or(|k| k.name != constraint) {
            keys.push(ForeignKey {
                name: constraint,
                columns: Vec::new(),
                referenced_table: text(r, 2),
                referenced_columns: Vec::new(),
                on_delete: text(r, 4),
                on_update: text(r, 5),
            });
        }
        if let Some(key) = keys.last_mut() {
            key.columns.push(text(r, 1));
            key.referenced_columns.push(text(r, 3));
        }
    }
    Ok(keys)
}

async fn triggers(tx: &mut Tx, name: &str) -> Result<Vec<Trigger>> {
    let rows = tx
        .query(
            "SELECT CAST(trigger_name AS CHAR), CAST(action_timing AS CHAR), CAST(event_manipulation AS CHAR), CAST(action_statement AS CHAR)
             FROM information_schema.triggers
             WHERE trigger_schema = DATABASE() AND event_object_schema = DATABASE() AND event_object_table = ?
             ORDER BY trigger_name",
            &[Value::text(name)],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|r| Trigger {
            name: text(r, 0),
            event: format!("{} {}", text(r, 1), text(r, 2)),
            row_level: true,
            fence: text(r, 3).contains(FENCE_MARK),
        })
        .collect())
}
