//! What the suite's tests share: a connected database of their own, a mapped table, rows.

use datamigration::rows::{Key, Row, Value};
use datamigration::store::{ConnectConfig, Database, TableMapping, TablePair, TableSide, TlsMode, Tx, TxOptions};

use crate::support::{Kind, TestDatabase, servers};

pub const BOTH: [Kind; 2] = [Kind::MariaDb, Kind::Postgres];

pub struct Db {
    pub test: TestDatabase,
    pub db: Database,
}

pub fn config(test: &TestDatabase, url: &str) -> ConnectConfig {
    ConnectConfig {
        url: url.into(),
        tls: TlsMode::VerifyFull,
        ca: Some(test.ca.clone()),
        max_connections: 4,
        label: format!("{:?}/main", test.kind),
        application: "store-test".into(),
    }
}

pub async fn database(kind: Kind) -> Db {
    let test = servers().await.database(kind).await;
    let db = Database::connect(&config(&test, &test.url)).await.unwrap();
    Db { test, db }
}

impl Db {
    pub async fn begin(&self) -> Tx {
        self.db.begin(TxOptions::default()).await.unwrap()
    }

    pub async fn execute(&self, sql: &str) {
        self.test.execute(sql).await;
    }

    /// The table paired with itself: what one side's row operations need.
    pub async fn side(&self, table: &str, version: &str) -> TableSide {
        pair(self, self, &mapping(table, version)).await.source
    }

    /// Runs the given part in a transaction that is committed.
    pub async fn commit<T>(&self, work: impl AsyncFnOnce(&mut Tx) -> T) -> T {
        let mut tx = self.begin().await;
        let out = work(&mut tx).await;
        tx.commit().await.unwrap();
        out
    }

    pub async fn all(&self, side: &TableSide) -> Vec<Row> {
        self.commit(async |tx| tx.read_after(side, None, None, 100_000).await.unwrap())
            .await
    }
}

pub fn mapping(table: &str, version: &str) -> TableMapping {
    TableMapping {
        source: table.into(),
        target: table.into(),
        version: version.into(),
        ..TableMapping::default()
    }
}

pub async fn pair(source: &Db, target: &Db, mapping: &TableMapping) -> TablePair {
    let from = source.db.table(&mapping.source).await.unwrap().unwrap();
    let to = target.db.table(&mapping.target).await.unwrap().unwrap();
    TablePair::new(from, to, mapping).unwrap()
}

/// `(id, note, version)` rows of the small table most tests use.
pub fn row(id: i64, note: &str, version: &str) -> Row {
    Row {
        values: vec![id.into(), note.into(), Value::text(version)],
    }
}

pub fn key(id: i64) -> Key {
    Key(vec![id.into()])
}

pub const V1: &str = "2024-01-01 00:00:00.000001";
pub const V2: &str = "2024-01-01 00:00:00.000002";
pub const V3: &str = "2024-01-01 00:00:00.000003";

/// The small table: `t(id, note, v)`, with a second unique index on `note` when asked.
pub async fn small(kind: Kind, unique_note: bool) -> (Db, TableSide) {
    let db = database(kind).await;
    let (text, stamp) = match kind {
        Kind::MariaDb => ("VARCHAR(50)", "DATETIME(6)"),
        Kind::Postgres => ("varchar(50)", "timestamptz"),
    };
    let unique = if unique_note {
        ", CONSTRAINT t_note UNIQUE (note)"
    } else {
        ""
    };
    db.execute(&format!(
        "CREATE TABLE t (id BIGINT PRIMARY KEY, note {text} NOT NULL, v {stamp} NOT NULL{unique})"
    ))
    .await;
    let side = db.side("t", "v").await;
    (db, side)
}
