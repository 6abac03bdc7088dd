//! The text of the row operations, as each engine gets it.

use super::*;
use crate::rows::LogicalType;
use crate::store::keyset::{Pick, keys};
use crate::store::{ColumnSchema, TableMapping, TablePair, TableSchema, UniqueKey};

fn column(engine: Engine, name: &str, logical: LogicalType) -> ColumnSchema {
    let native = match (&logical, engine) {
        (LogicalType::Int { .. }, _) => "bigint",
        (LogicalType::Timestamp { .. }, Engine::MySql) => "datetime(6)",
        (LogicalType::Timestamp { .. }, Engine::Postgres) => "timestamp with time zone",
        (LogicalType::Decimal { .. }, _) => "numeric(10,2)",
        _ => "character varying(20)",
    };
    ColumnSchema {
        name: name.into(),
        logical,
        native: native.into(),
        nullable: false,
        default: None,
        generated: false,
        auto_increment: false,
        identity_always: false,
        sequence: None,
        on_update_now: false,
        collation: None,
    }
}

fn schema(engine: Engine, other_unique: bool) -> TableSchema {
    let utc = engine == Engine::Postgres;
    let mut columns = vec![
        column(engine, "shop", LogicalType::text(Some(20))),
        column(
            engine,
            "id",
            LogicalType::Int {
                bits: 64,
                unsigned: false,
            },
        ),
        column(
            engine,
            "total",
            LogicalType::Decimal {
                precision: 10,
                scale: 2,
            },
        ),
        column(
            engine,
            "updated_at",
            LogicalType::Timestamp {
                utc,
                digits: if utc { 6 } else { 3 },
            },
        ),
    ];
    if engine == Engine::MySql {
        columns.push(ColumnSchema {
            on_update_now: true,
            nullable: true,
            ..column(engine, "touched", LogicalType::Timestamp { utc, digits: 0 })
        });
    }
    let unique = |name: &str, columns: &[&str], primary| UniqueKey {
        name: name.into(),
        columns: columns.iter().map(|&c| c.into()).collect(),
        primary,
        identifies: true,
    };
    let mut unique_keys = vec![unique("PRIMARY", &["shop", "id"], true)];
    if other_unique {
        unique_keys.push(unique("by_total", &["total"], false));
    }
    TableSchema {
        name: "orders".into(),
        engine,
        columns,
        primary_key: vec!["shop".into(), "id".into()],
        unique_keys,
        foreign_keys: vec![],
        triggers: vec![],
        estimated_rows: 0,
        storage_engine: None,
        indexed_first: vec![],
    }
}

fn pair(other_unique: bool) -> TablePair {
    let mapping = TableMapping {
        source: "orders".into(),
        target: "orders".into(),
        version: "updated_at".into(),
        filter: Some("total > 0".into()),
        columns: vec![crate::store::ColumnMapping::Drop {
            source: "touched".into(),
        }],
        ..TableMapping::default()
    };
    TablePair::new(
        schema(Engine::MySql, other_unique),
        schema(Engine::Postgres, other_unique),
        &mapping,
    )
    .unwrap()
}

fn key(n: i64) -> Key {
    Key(vec!["a".into(), n.into()])
}

fn row() -> Row {
    Row {
        values: vec!["a".into(), 7.into(), "1.5".into(), "2024-01-01 00:00:00.123000".into()],
    }
}

fn on_both(f: impl Fn(&TableSide) -> Result<Statement, String>) -> String {
    let pair = pair(false);
    [&pair.source, &pair.target].map(|side| f(side).unwrap().sql).join("\n")
}

#[test]
fn reading() {
    insta::assert_snapshot!(on_both(|s| read_after(s, Some(&key(1)), Some(&key(9)), 10)));
    insta::assert_snapshot!(on_both(|s| keys(s, (Some(&key(1)), None), Pick::Nth(1000))));
    insta::assert_snapshot!(on_both(|s| keys(s, (None, None), Pick::Last)));
    insta::assert_snapshot!(on_both(|s| read_keys(s, &[key(1), key(2)], Lock::NoKeyUpdate)));
    insta::assert_snapshot!(on_both(|s| read_window(
        s,
        "2024-01-01 00:00:00.000000",
        "2024-01-02 00:00:00.123456",
        Some(("2024-01-01 00:00:00.000000", &key(1))),
        10
    )));
}

#[test]
fn writing() {
    insta::assert_snapshot!(on_both(|s| upsert(s, &[row(), row()], false)));
    insta::assert_snapshot!(on_both(|s| upsert(s, &[row()], true)));
    insta::assert_snapshot!(on_both(|s| delete(s, &[key(1)])));
    insta::assert_snapshot!(on_both(|s| stamp(s, &[(key(1), None)])));
    insta::assert_snapshot!(on_both(|s| stamp(
        s,
        &[(key(1), Some("2024-01-01 00:00:00.123456".into()))]
    )));
    insta::assert_snapshot!(on_both(|s| stamp(
        s,
        &[(key(1), None), (key(2), Some("2024-01-01 00:00:00.123456".into()))]
    )));
}

#[test]
fn the_guard_is_assigned_last_and_a_foreign_unique_value_is_not_overwritten() {
    let pair = pair(true);
    let sql = upsert(&pair.source, &[row()], true).unwrap().sql;
    let update = sql.split("ON DUPLICATE KEY UPDATE ").nth(1).unwrap();
    assert!(
        update.starts_with("`shop` = IF(`orders`.`shop` <=> VALUES(`shop`) AND `orders`.`id` <=> VALUES(`id`), "),
        "{update}"
    );
    let version = update.find("`updated_at` = ").unwrap();
    assert!(
        update[version..].ends_with("VALUES(`updated_at`), `orders`.`updated_at`)"),
        "{update}"
    );
    assert!(update.contains("`touched` = `orders`.`touched`"), "{update}");
}

#[test]
fn a_window_ends_before_the_tick_that_has_begun() {
    let pair = pair(false);
    let s = read_window(
        &pair.source,
        "2024-01-01 00:00:00.000000",
        "2024-01-02 00:00:00.123456",
        None,
        1,
    )
    .unwrap();
    assert_eq!(s.binds[1].values, ["2024-01-02 00:00:00.123000".into()]);
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_sent() {
    let pair = pair(false);
    let mut row = row();
    row.values[2] = "1.555".into();
    assert!(
        upsert(&pair.target, &[row.clone()], false)
            .unwrap_err()
            .contains("orders.total")
    );
    row.values[2] = "1.5".into();
    // Bound as a list of 64-bit numbers, a larger one would arrive as NULL.
    row.values[1] = "18446744073709551615".into();
    assert!(
        upsert(&pair.target, &[row.clone()], false)
            .unwrap_err()
            .contains("orders.id")
    );
    row.values.pop();
    assert!(upsert(&pair.target, &[row], false).is_err());
    assert!(delete(&pair.target, &[Key(vec![1.into()])]).is_err());
}

#[test]
fn the_key_lock_depends_on_table_and_key() {
    assert_eq!(key_lock("orders", &key(1)), key_lock("orders", &key(1)));
    assert_ne!(key_lock("orders", &key(1)), key_lock("orders", &key(2)));
    assert_ne!(key_lock("orders", &key(1)), key_lock("order", &key(1)));
}
