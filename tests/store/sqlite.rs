//! SQLite: its catalogue, its storage classes, its collations, and what it would convert in silence.

use std::fmt::Write as _;
use std::time::Duration;

use datamigration::rows::{Key, Row, Value};
use datamigration::store::{
    Database, Engine, Lock, PairProblem, StoreError, TableMapping, TablePair, TableSide, TxOptions, samples,
};

use crate::helpers::{V1, V2, V3, mapping};
use crate::place::Place;

async fn side(db: &Database, table: &str) -> TableSide {
    pair(db, db, &mapping(table, "v")).await.unwrap().source
}

async fn pair(source: &Database, target: &Database, mapping: &TableMapping) -> Result<TablePair, Vec<PairProblem>> {
    let from = source.table(&mapping.source).await.unwrap().unwrap();
    let to = target.table(&mapping.target).await.unwrap().unwrap();
    TablePair::new(from, to, mapping)
}

async fn opened(sql: &str) -> (Place, Database) {
    let file = Place::new(crate::place::Engine::Sqlite, sql).await;
    let db = file.database("source/main").await;
    (file, db)
}

async fn put(db: &Database, side: &TableSide, rows: &[Row]) -> Result<u64, StoreError> {
    let mut tx = db.begin(TxOptions::default()).await.unwrap();
    let put = tx.put_guarded(side, rows).await;
    if put.is_ok() {
        tx.commit().await.unwrap();
    } else {
        tx.rollback().await;
    }
    put
}

async fn all(db: &Database, side: &TableSide) -> Result<Vec<Row>, StoreError> {
    let mut tx = db.begin(TxOptions::read_only()).await.unwrap();
    let rows = tx.read_after(side, None, None, 10_000).await;
    tx.rollback().await;
    rows
}

fn row(values: Vec<Value>) -> Row {
    Row { values }
}

#[tokio::test]
async fn introspection_finds_what_the_table_of_types_says() {
    let samples = samples(Engine::Sqlite);
    let mut columns = String::new();
    for (n, sample) in samples.iter().enumerate() {
        let _ = write!(columns, "c{n} {}, ", sample.native);
    }
    let (_file, db) = opened(&format!("CREATE TABLE t ({columns} untyped)")).await;
    let found = db.table("T").await.unwrap().unwrap();
    assert_eq!(found.name, "t");
    for (n, sample) in samples.iter().enumerate() {
        let column = found.column(&format!("c{n}")).unwrap();
        assert_eq!((&column.logical, &column.native), (&sample.logical, &sample.native));
    }
    assert!(db.table("absent").await.unwrap().is_none());
}

#[tokio::test]
async fn keys_are_what_identifies_a_row_and_in_which_order() {
    let (_file, db) = opened(
        "CREATE TABLE a (id INTEGER PRIMARY KEY, v DATETIME NOT NULL);
         CREATE TABLE b (x TEXT NOT NULL COLLATE NOCASE, y INT NOT NULL, v DATETIME NOT NULL, PRIMARY KEY (x, y)) WITHOUT ROWID;
         CREATE TABLE c (x TEXT PRIMARY KEY, v DATETIME NOT NULL, g INT GENERATED ALWAYS AS (1) STORED);
         CREATE TABLE d (x TEXT NOT NULL, v DATETIME NOT NULL);
         CREATE UNIQUE INDEX d_some ON d (x) WHERE x <> '';
         CREATE UNIQUE INDEX d_other ON d (lower(x));
         CREATE TABLE e (x DATETIME NOT NULL PRIMARY KEY, v DATETIME NOT NULL, FOREIGN KEY (x) REFERENCES d (x) ON DELETE CASCADE);
         CREATE VIEW w AS SELECT 1 AS id",
    )
    .await;
    let of = async |name: &str| db.table(name).await.unwrap().unwrap();
    let counted = of("a").await;
    assert_eq!(counted.primary_key, ["id"]);
    assert!(counted.unique_keys[0].primary && counted.unique_keys[0].identifies && !counted.columns[0].nullable);
    assert!(counted.columns[0].auto_increment);
    let double = of("b").await;
    assert_eq!(double.primary_key, ["x", "y"]);
    assert_eq!(double.columns[0].collation.as_deref(), Some("NOCASE"));
    let computed = of("c").await;
    assert!(computed.columns[2].generated);
    // It may be NULL, as SQLite has it.
    assert!(!computed.unique_keys[0].identifies);
    let unkeyed = of("d").await;
    assert!(unkeyed.primary_key.is_empty() && unkeyed.unique_keys.iter().all(|key| !key.identifies));
    let child = of("e").await;
    assert_eq!(
        (
            child.foreign_keys[0].referenced_table.as_str(),
            child.foreign_keys[0].on_delete.as_str()
        ),
        ("d", "CASCADE")
    );
    assert!(db.table("w").await.unwrap().is_none());

    let reason = async |table: &str, key: &[&str]| {
        let mapping = TableMapping {
            key: key.iter().map(|&name| name.to_owned()).collect(),
            ..mapping(table, "v")
        };
        let problems = pair(&db, &db, &mapping).await.unwrap_err();
        (problems[0].reason, problems[0].message.clone())
    };
    let (why, message) = reason("c", &[]).await;
    assert!(why == "KeyMissing" && message.contains("NOT NULL at (x)"), "{message}");
    assert_eq!(reason("d", &[]).await.0, "KeyMissing");
    assert_eq!(reason("d", &["x"]).await.0, "KeyMissing");
    assert_eq!(reason("e", &[]).await.0, "KeyUnsuitable");
}

/// Rows are walked in the order of the key's index, found by it, and put over each other by it.
#[tokio::test]
async fn a_collation_is_the_keys_order() {
    for (collation, stored, order, spelled) in [
        ("BINARY", ["b", "A", "a", "B"], vec!["A", "B", "a", "b"], "b "),
        ("NOCASE", ["b", "A", "c", "D"], vec!["A", "b", "c", "D"], "B"),
        ("RTRIM", ["b  ", "a", "c ", "d"], vec!["a", "b  ", "c ", "d"], "b"),
    ] {
        // The column is compared otherwise than the key's index is ordered.
        let (_file, db) = opened(&format!(
            "CREATE TABLE t (k TEXT NOT NULL, n INT NOT NULL, v DATETIME NOT NULL); \
             CREATE UNIQUE INDEX t_k ON t (k COLLATE {collation}, n)"
        ))
        .await;
        let mapping = TableMapping {
            key: vec!["k".into(), "n".into()],
            ..mapping("t", "v")
        };
        let side = pair(&db, &db, &mapping).await.unwrap().source;
        let rows: Vec<Row> = stored
            .iter()
            .map(|k| row(vec![(*k).into(), 1.into(), V2.into()]))
            .collect();
        put(&db, &side, &rows).await.unwrap();
        let mut tx = db.begin(TxOptions::default()).await.unwrap();
        let mut walked = Vec::new();
        let mut after: Option<Key> = None;
        loop {
            let page = tx.read_after(&side, after.as_ref(), None, 1).await.unwrap();
            let Some(one) = page.first() else { break };
            walked.push(one.values[0].as_str().unwrap().to_owned());
            after = Some(side.key_of(one));
        }
        assert_eq!(walked, order, "{collation}");
        let keys: Vec<Key> = stored.iter().map(|k| Key(vec![(*k).into(), 1.into()])).collect();
        assert_eq!(tx.read_keys(&side, &keys, Lock::Update).await.unwrap().len(), 4);
        tx.rollback().await;
        // The base's spelling is right where the index takes both for one.
        put(&db, &side, &[row(vec![spelled.into(), 1.into(), V3.into()])])
            .await
            .unwrap();
        let there = all(&db, &side).await.unwrap();
        let expected = if collation == "BINARY" { 5 } else { 4 };
        assert_eq!(there.len(), expected, "{collation}");
        assert!(there.iter().any(|row| row.values[0] == spelled.into()), "{collation}");
    }
}

#[tokio::test]
async fn keys_of_several_columns_are_found_together() {
    let (_file, db) = opened(
        "CREATE TABLE t (a DECIMAL(12,3) NOT NULL, b DATE NOT NULL, c VARBINARY(9) NOT NULL, u UUID NOT NULL, v DATETIME NOT NULL, \
         PRIMARY KEY (a, b, c, u)) WITHOUT ROWID",
    )
    .await;
    let side = side(&db, "t").await;
    let uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f";
    let rows: Vec<Row> = (0..1500)
        .map(|n| {
            row(vec![
                format!("{}.5", n - 700).into(),
                "2024-02-29".into(),
                Value::Bytes(vec![0, 255]),
                uuid.into(),
                V1.into(),
            ])
        })
        .collect();
    put(&db, &side, &rows).await.unwrap();
    assert_eq!(all(&db, &side).await.unwrap(), rows, "in the order of numbers");
    let keys: Vec<Key> = rows.iter().map(|row| side.key_of(row)).collect();
    let mut tx = db.begin(TxOptions::default()).await.unwrap();
    assert_eq!(tx.read_keys(&side, &keys, Lock::None).await.unwrap().len(), 1500);
    assert_eq!(tx.delete(&side, &keys).await.unwrap(), 1500);
    tx.commit().await.unwrap();
}

/// Every value comes back as it went in: no affinity has made another one of it.
#[tokio::test]
async fn values_are_kept_as_they_are() {
    let columns: &[(&str, &[Value])] = &[
        ("BOOLEAN", &[0.into(), 1.into()]),
        ("TINYINT", &[(-128).into(), 127.into()]),
        (
            "INTEGER",
            &[i64::MIN.into(), i64::MAX.into(), 9_007_199_254_740_993.into()],
        ),
        ("BIGINT UNSIGNED", &[i64::MAX.into()]),
        (
            "REAL",
            &[
                Value::Float(0.1),
                Value::Float(5e-324),
                Value::Float(f64::MAX),
                Value::Float(f64::INFINITY),
                Value::Float(f64::NEG_INFINITY),
                Value::Float(9_007_199_254_740_992.0),
                Value::Float(1e15),
            ],
        ),
        (
            "NUMERIC",
            &[
                "0.1".into(),
                "123456789012.345".into(),
                "9223372036854775807".into(),
                "-0.000001".into(),
                "7".into(),
            ],
        ),
        (
            "DECIMAL_TEXT(65,30)",
            &["18446744073709551615.000000000000000000000000000001".into()],
        ),
        (
            "VARCHAR(9)",
            &["007".into(), "1e5".into(), "".into(), "a\0b".into(), "é😀  ".into()],
        ),
        ("TEXT", &["a".repeat(100_000).as_str().into(), "'\"`;--".into()]),
        (
            "VARBINARY(9)",
            &[
                Value::Bytes(vec![]),
                Value::Bytes(b"12".to_vec()),
                Value::Bytes(vec![0, 0xff]),
            ],
        ),
        ("BLOB", &[Value::Bytes(vec![0; 70_000])]),
        ("DATE", &["0001-01-01".into(), "9999-12-31".into(), "2024-02-29".into()]),
        ("TIME", &["00:00:00.000000".into(), "23:59:59.999999".into()]),
        ("DATETIME", &["1000-01-01 00:00:00.000001".into()]),
        ("TIMESTAMP(0)", &["2024-01-01 00:00:00.000000".into()]),
        ("JSON", &["[1]".into(), "\"1\"".into(), "null".into()]),
        ("JSON_TEXT", &["1".into(), "1.5".into(), "{\"a\":1}".into()]),
        ("UUID", &["00010203-0405-0607-0809-0a0b0c0d0e0f".into()]),
    ];
    let mut sql = String::from("CREATE TABLE t (id INTEGER PRIMARY KEY");
    for (n, (native, _)) in columns.iter().enumerate() {
        let _ = write!(sql, ", c{n} {native}");
    }
    let (_file, db) = opened(&(sql + ", v DATETIME NOT NULL)")).await;
    let side = side(&db, "t").await;
    let mut rows = Vec::new();
    for (n, (_, values)) in columns.iter().enumerate() {
        for value in *values {
            let mut cells = vec![Value::Null; columns.len() + 2];
            cells[0] = (rows.len() as i64).into();
            cells[n + 1] = value.clone();
            cells[columns.len() + 1] = V1.into();
            rows.push(row(cells));
        }
    }
    put(&db, &side, &rows).await.unwrap();
    assert_eq!(all(&db, &side).await.unwrap(), rows);
}

/// What SQLite would change on its way in, and what it holds although the column was declared for something else.
#[tokio::test]
async fn values_that_are_not_of_their_column_are_refused() {
    let (file, db) =
        opened("CREATE TABLE t (id INTEGER PRIMARY KEY, c REAL, n NUMERIC, s VARCHAR(3), v DATETIME NOT NULL)").await;
    let side = side(&db, "t").await;
    for (c, n, s) in [
        (Value::Float(f64::NAN), Value::Null, Value::Null),
        (Value::Float(-0.0), Value::Null, Value::Null),
        (Value::Null, "18446744073709551615".into(), Value::Null),
        (Value::Null, "0.1234567890123456".into(), Value::Null),
        (Value::Null, Value::Null, "abcd".into()),
    ] {
        let refused = put(&db, &side, &[row(vec![1.into(), c, n, s, V1.into()])]).await;
        assert!(matches!(refused, Err(StoreError::Data { .. })), "{refused:?}");
    }
    // Silently, had it been let: this is what the refusals are for.
    file.execute("INSERT INTO t VALUES (1, -0.0, 18446744073709551615, 7, '2024-01-01 00:00:00')")
        .await;
    let stored = file
        .texts("SELECT printf('%.17g', c) || typeof(n) || typeof(s) FROM t")
        .await;
    assert_eq!(stored[0].as_deref(), Some("0realtext"));
    let cases: &[(&str, &[&str])] = &[
        ("INT", &["'abc'", "1.5", "X'00'", "3000000000"]),
        ("BOOLEAN", &["2", "'true'"]),
        ("REAL", &["'abc'", "X'00'"]),
        ("DECIMAL(10,2)", &["'abc'", "0.125", "0.1 + 0.2", "9e999", "X'00'"]),
        ("VARCHAR(3)", &["'abcd'", "X'616263'", "CAST(X'FF' AS TEXT)"]),
        ("BLOB", &["'abc'", "1"]),
        (
            "DATE",
            &["20240101", "'2024-1-1'", "'2024-02-30'", "2460310.5", "'now'"],
        ),
        ("TIME", &["'24:00:00'", "'12:00'", "'-01:00:00'"]),
        (
            "DATETIME",
            &[
                "1704067200",
                "'2024-01-01'",
                "'2024-01-01 00:00:00+02:00'",
                "'infinity'",
            ],
        ),
        ("DATETIME(3)", &["'2024-01-01 00:00:00.0001'"]),
        ("JSON_TEXT", &["X'00'"]),
        ("JSON", &["12"]),
        ("UUID", &["7", "X'00010203040506070809000102030405'"]),
    ];
    for (native, literals) in cases {
        let (_file, db) = opened(&format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, c {native}, v DATETIME NOT NULL)"
        ))
        .await;
        let side = self::side(&db, "t").await;
        for literal in *literals {
            let insert = format!("DELETE FROM t; INSERT INTO t VALUES (1, {literal}, '2024-01-01 00:00:00')");
            db.execute(&insert, &[]).await.unwrap();
            let read = all(&db, &side).await;
            assert!(
                matches!(read, Err(StoreError::Data { .. })),
                "{literal} in {native}: {read:?}"
            );
        }
    }
}

/// The guard compares moments, however the application has spelled them.
#[tokio::test]
async fn an_older_row_never_overwrites_a_newer_one() {
    let (file, db) = opened(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT UNIQUE, v TIMESTAMP NOT NULL);
         INSERT INTO t VALUES (1, 'a', '2024-01-01T00:00:00Z'), (2, 'b', '2024-01-01 00:00:00.5'), \
         (3, 'c', '2024-01-01 00:00:00+00:00'), (4, 'd', '2024-01-01 00:00:00.000001')",
    )
    .await;
    let side = side(&db, "t").await;
    let given = |id: i64, note: &str, v: &str| row(vec![id.into(), note.into(), v.into()]);
    put(
        &db,
        &side,
        &[
            given(1, "equal", "2024-01-01 00:00:00.000000"),
            given(2, "older", "2024-01-01 00:00:00.499999"),
            given(3, "newer", "2024-01-01 00:00:00.000001"),
            given(4, "older", "2024-01-01 00:00:00.000000"),
        ],
    )
    .await
    .unwrap();
    let notes = file.texts("SELECT note FROM t ORDER BY id").await;
    assert_eq!(notes, ["a", "b", "newer", "d"].map(|note| Some(note.to_owned())));
    let mut tx = db.begin(TxOptions::read_only()).await.unwrap();
    let window = tx
        .read_window(
            &side,
            "2024-01-01 00:00:00.000001",
            "2024-01-01 00:00:00.500000",
            None,
            10,
        )
        .await
        .unwrap();
    tx.rollback().await;
    let ids: Vec<&Value> = window.iter().map(|row| &row.values[0]).collect();
    assert_eq!(ids, [&Value::Int(3), &Value::Int(4)]);
    // Another row's unique value is never taken over.
    let taken = put(&db, &side, &[given(9, "b", V3)]).await;
    assert!(
        matches!(&taken, Err(StoreError::Duplicate { index, .. }) if index == "t.note"),
        "{taken:?}"
    );
}

/// Writers wait for their turn, readers for nobody, and what only reads cannot write.
#[tokio::test]
async fn writers_take_turns() {
    let (file, db) = opened(
        "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, v DATETIME NOT NULL); \
         INSERT INTO t VALUES (1, '2024-01-01 00:00:00')",
    )
    .await;
    let writers = (0..8).map(async |n| {
        let mut tx = db.begin(TxOptions::bounded(Duration::from_secs(5))).await.unwrap();
        let seen = tx.query("SELECT COUNT(*) FROM t", &[]).await.unwrap();
        tx.execute("INSERT INTO t VALUES (?, '2024-01-01 00:00:00')", &[Value::Int(n + 10)])
            .await
            .unwrap();
        tx.commit().await.unwrap();
        seen[0][0].as_i64().unwrap()
    });
    let mut seen = futures::future::join_all(writers).await;
    seen.sort_unstable();
    assert_eq!(seen, (1..=8).collect::<Vec<_>>(), "one after the other");

    let held = db.begin(TxOptions::default()).await.unwrap();
    let mut reader = db.begin(TxOptions::read_only()).await.unwrap();
    assert_eq!(
        reader.query("SELECT COUNT(*) FROM t", &[]).await.unwrap(),
        [[Value::Int(9)]]
    );
    let refused = reader.execute("DELETE FROM t", &[]).await;
    assert!(matches!(refused, Err(StoreError::Privilege { .. })), "{refused:?}");
    reader.rollback().await;
    let bounded = TxOptions::bounded(Duration::from_millis(50));
    let waited = db.begin(bounded).await.err();
    assert!(matches!(waited, Some(StoreError::LockTimeout { .. })), "{waited:?}");
    // Another process is told by the file itself.
    let other = file.database("other").await;
    let waited = other.begin(bounded).await.err();
    assert!(waited.as_ref().is_some_and(StoreError::is_transient), "{waited:?}");
    held.rollback().await;
    other.begin(bounded).await.unwrap().rollback().await;
}

#[tokio::test]
async fn a_file_that_is_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = |path: &std::path::Path| datamigration::store::ConnectConfig {
        url: format!("sqlite://{}", path.display()).as_str().into(),
        tls: datamigration::store::TlsMode::Disabled,
        ca: None,
        max_connections: 1,
        label: "source/main".into(),
        application: "test".into(),
    };
    let absent = folder.path().join("absent.db");
    let error = Database::connect(&config(&absent)).await.unwrap_err();
    assert!(matches!(error, StoreError::Config { .. }), "{error:?}");
    assert!(!absent.exists(), "no file was made");
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "x".repeat(5000)).unwrap();
    let error = Database::connect(&config(&text)).await.unwrap_err();
    assert!(matches!(error, StoreError::Config { .. }), "{error:?}");
    assert!(error.to_string().contains("not a database"), "{error}");
}
