//! Paging by key: every row once and none left out, whatever the key looks like, in the database's own order.

use std::collections::HashSet;

use datamigration::rows::{Key, Row, Value};
use datamigration::store::{ColumnMapping, Lock, TableMapping, TablePair};

use crate::helpers::{BOTH, Db, V1, V2, V3, database, key, mapping, row, small};
use crate::support::Kind;

async fn pages(db: &Db, side: &datamigration::store::TableSide, rows_each: u32) -> Vec<Row> {
    let mut all = Vec::new();
    let mut after: Option<Key> = None;
    loop {
        let (end, rows) = db
            .commit(async |tx| {
                let end = tx.chunk_end(side, after.as_ref(), rows_each).await.unwrap();
                let rows = match &end {
                    Some(end) => tx.read_after(side, after.as_ref(), Some(end), 1000).await.unwrap(),
                    None => Vec::new(),
                };
                (end, rows)
            })
            .await;
        let Some(end) = end else { return all };
        assert!(
            rows.len() as u32 <= rows_each && !rows.is_empty(),
            "a chunk of {} rows",
            rows.len()
        );
        assert_eq!(side.key_of(rows.last().unwrap()), end);
        all.extend(rows);
        after = Some(end);
    }
}

#[tokio::test]
async fn paging_meets_every_row_once() {
    let tables = [
        (
            Kind::MariaDb,
            "id BIGINT",
            "-9223372036854775808,-3,0,1,9,10,9223372036854775807",
            "id",
        ),
        (
            Kind::MariaDb,
            "id BIGINT UNSIGNED",
            "0,1,9,10,18446744073709551615",
            "id",
        ),
        (
            Kind::MariaDb,
            "id DECIMAL(30,2)",
            "-10.5,-9,0,9,10,100000000000000000000.25",
            "id",
        ),
        (
            Kind::MariaDb,
            "id VARCHAR(20) COLLATE utf8mb4_general_ci",
            "'b','A','Z','z1','é','',' x','10','9'",
            "id",
        ),
        (
            Kind::MariaDb,
            "id VARCHAR(20) COLLATE utf8mb4_bin",
            "'b','B','a','A',' '",
            "id",
        ),
        (
            Kind::MariaDb,
            "id VARBINARY(20)",
            "X'00',X'FF',X'0000',X'',X'5C27'",
            "id",
        ),
        (
            Kind::MariaDb,
            "id DATETIME(6)",
            "'2024-01-01 00:00:00.000001','2024-01-01','1000-01-01','9999-12-31'",
            "id",
        ),
        (
            Kind::MariaDb,
            "id UUID",
            "'00000000-0000-0000-0000-0000000000ff','ffffffff-0000-0000-0000-000000000000','10000000-0000-1000-8000-000000000001'",
            "id",
        ),
        (Kind::MariaDb, "id DATE", "'2024-01-10','2024-01-09','0000-00-00'", "id"),
        (
            Kind::Postgres,
            "id bigint",
            "-9223372036854775808,-3,0,1,9,10,9223372036854775807",
            "id",
        ),
        (
            Kind::Postgres,
            "id numeric",
            "-10.5,-9,0,9,10,100000000000000000000.25",
            "id",
        ),
        (Kind::Postgres, "id text", "'b','B','a','A','é','',' x','10','9'", "id"),
        (
            Kind::Postgres,
            "id varchar(9) COLLATE \"C\"",
            "'b','B','a','A','10','9'",
            "id",
        ),
        (Kind::Postgres, "id char(4)", "'b','B','a ','10','9'", "id"),
        (Kind::Postgres, "id bytea", r"'\x00','\xff','\x0000','\x'", "id"),
        (
            Kind::Postgres,
            "id timestamptz",
            "'2024-01-01 00:00:00.000001+02','2024-01-01+00','0044-03-15+00 BC','infinity'",
            "id",
        ),
        (
            Kind::Postgres,
            "id uuid",
            "'00000000-0000-0000-0000-0000000000ff','ffffffff-0000-0000-0000-000000000000'",
            "id",
        ),
        (Kind::Postgres, "id date", "'2024-01-10','2024-01-09','-infinity'", "id"),
    ];
    for kind in BOTH {
        let db = database(kind).await;
        for (n, (_, column, values, key)) in tables.iter().filter(|t| t.0 == kind).enumerate() {
            let table = format!("k{n}");
            let stamp = if kind == Kind::MariaDb {
                "DATETIME(6)"
            } else {
                "timestamptz"
            };
            let rows: String = values.split("',X'").collect::<Vec<_>>().join("',X'");
            let rows = rows
                .split(',')
                .map(|v| format!("({v}, '{V1}')"))
                .collect::<Vec<_>>()
                .join(",");
            let mode = if kind == Kind::MariaDb {
                "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO';"
            } else {
                ""
            };
            db.execute(&format!("{mode} CREATE TABLE {table} ({column} NOT NULL, v {stamp} NOT NULL, PRIMARY KEY ({key})); INSERT INTO {table} VALUES {rows}")).await;
            let side = db.side(&table, "v").await;
            let expected = db.test.number(&format!("SELECT COUNT(*) FROM {table}")).await as usize;
            for size in [1, 2, 100] {
                let met = pages(&db, &side, size).await;
                let distinct: HashSet<Key> = met.iter().map(|r| side.key_of(r)).collect();
                assert_eq!(
                    (met.len(), distinct.len()),
                    (expected, expected),
                    "{column} in chunks of {size}"
                );
            }
            // Each key finds its own row again, for reading, for the guard, and for deleting.
            let all = db.all(&side).await;
            let keys: Vec<Key> = all.iter().map(|r| side.key_of(r)).collect();
            let (found, gone) = db
                .commit(async |tx| {
                    let found = tx.read_keys(&side, &keys, Lock::Update).await.unwrap();
                    tx.put(&side, &all).await.unwrap();
                    (found, tx.delete(&side, &keys).await.unwrap())
                })
                .await;
            assert_eq!(found, all, "{column}");
            assert_eq!(gone as usize, expected, "{column}");
        }
    }
}

#[tokio::test]
async fn composite_keys_page_and_lock_in_order() {
    for kind in BOTH {
        let db = database(kind).await;
        let (stamp, text) = if kind == Kind::MariaDb {
            ("DATETIME(6)", "VARCHAR(10)")
        } else {
            ("timestamptz", "varchar(10)")
        };
        db.execute(&format!("CREATE TABLE c (a INT NOT NULL, b {text} NOT NULL, d BIGINT NOT NULL, v {stamp} NOT NULL, PRIMARY KEY (a, b, d))")).await;
        let side = db.side("c", "v").await;
        let mut rows = Vec::new();
        for a in [-1, 0, 2] {
            for b in ["", "x", "y"] {
                rows.extend([-5, 0, 7].map(|d: i64| Row {
                    values: vec![Value::Int(a), b.into(), d.into(), V1.into()],
                }));
            }
        }
        db.commit(async |tx| tx.put_guarded(&side, &rows).await.unwrap()).await;
        for size in [1, 4, 27, 28] {
            assert_eq!(pages(&db, &side, size).await, rows, "{kind:?} in chunks of {size}");
        }
        let keys: Vec<Key> = rows.iter().rev().step_by(5).map(|r| side.key_of(r)).collect();
        let read = db
            .commit(async |tx| tx.read_keys(&side, &keys, Lock::Update).await.unwrap())
            .await;
        let order: Vec<Key> = read.iter().map(|r| side.key_of(r)).collect();
        assert!(order.is_sorted() && order.len() == keys.len());
    }
}

#[tokio::test]
async fn a_subset_filters_every_read_and_a_key_need_not_be_primary() {
    for kind in BOTH {
        let db = database(kind).await;
        let stamp = if kind == Kind::MariaDb {
            "DATETIME(6)"
        } else {
            "timestamptz"
        };
        db.execute(&format!(
            "CREATE TABLE s (pk INT PRIMARY KEY, id INT NOT NULL UNIQUE, old_name INT, extra INT, v {stamp} NOT NULL);
            INSERT INTO s VALUES (1, 10, 1, 1, '{V1}'), (2, 5, 0, 1, '{V1}'), (3, 7, 1, 1, '{V2}')"
        ))
        .await;
        let schema = db.db.table("s").await.unwrap().unwrap();
        let with = TableMapping {
            key: vec!["id".into()],
            filter: Some("pk <> 2".into()),
            columns: vec![ColumnMapping::Drop { source: "extra".into() }],
            ..mapping("s", "v")
        };
        let side = TablePair::new(schema.clone(), schema.clone(), &with).unwrap().source;
        let ids = |rows: &[Row]| {
            rows.iter()
                .map(|r| side.key_of(r).0[0].as_i64().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&db.all(&side).await), [7, 10]);
        let by_key = db
            .commit(async |tx| tx.read_keys(&side, &[key(5), key(10)], Lock::None).await.unwrap())
            .await;
        assert_eq!(ids(&by_key), [10]);
        let window = db
            .commit(async |tx| tx.read_window(&side, V1, V3, None, 10).await.unwrap())
            .await;
        assert_eq!(ids(&window), [10, 7]);
        assert_eq!(window[0].values.len(), 4, "a dropped column is not read");
        let problems = TablePair::new(
            schema.clone(),
            schema,
            &TableMapping {
                key: vec!["old_name".into()],
                version: "gone".into(),
                ..mapping("s", "v")
            },
        )
        .unwrap_err();
        assert_eq!(
            problems.iter().map(|p| p.reason).collect::<Vec<_>>(),
            ["KeyMissing", "VersionMissing"]
        );
    }
}

#[tokio::test]
async fn a_window_is_read_in_pages_by_version_and_key() {
    for kind in BOTH {
        let (db, side) = small(kind, false).await;
        let rows: Vec<Row> = (0..20).map(|id| row(id, "n", [V1, V2, V3][id as usize % 3])).collect();
        db.commit(async |tx| tx.put(&side, &rows).await.unwrap()).await;
        let mut met: Vec<Row> = Vec::new();
        loop {
            let page = db
                .commit(async |tx| {
                    let last = met
                        .last()
                        .map(|r| (side.version_of(r).as_str().unwrap(), side.key_of(r)));
                    tx.read_window(&side, V1, V3, last.as_ref().map(|(v, k)| (*v, k)), 4)
                        .await
                        .unwrap()
                })
                .await;
            if page.is_empty() {
                break;
            }
            met.extend(page);
        }
        let mut expected: Vec<Row> = rows.into_iter().filter(|r| *side.version_of(r) != V3.into()).collect();
        expected.sort_by_key(|r| (side.version_of(r).clone(), side.key_of(r)));
        assert_eq!(met, expected, "{kind:?}");
    }
}
