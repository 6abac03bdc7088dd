//! A database of one test, on a server or in a SQLite file, whichever a test is run for.
#![allow(dead_code, clippy::expect_used)]

use std::path::PathBuf;

use crate::support::{Kind, TestDatabase, servers};
use datamigration::store::{ConnectConfig, Database, TlsMode};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, TypeInfo, ValueRef};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    MariaDb,
    Postgres,
    Sqlite,
}

impl Engine {
    /// As a manifest names it.
    pub fn word(self) -> &'static str {
        match self {
            Self::MariaDb => "MySQL",
            Self::Postgres => "PostgreSQL",
            Self::Sqlite => "SQLite",
        }
    }
}

pub enum Place {
    Server(TestDatabase),
    File(SqliteFile),
}

impl Place {
    /// A fresh database on which the statements were run.
    pub async fn new(engine: Engine, sql: &str) -> Self {
        let kind = match engine {
            Engine::MariaDb => Kind::MariaDb,
            Engine::Postgres => Kind::Postgres,
            Engine::Sqlite => return Self::File(SqliteFile::new(sql).await),
        };
        let database = servers().await.database(kind).await;
        database.execute(sql).await;
        Self::Server(database)
    }

    pub fn engine(&self) -> Engine {
        match self {
            Self::Server(database) if database.kind == Kind::MariaDb => Engine::MariaDb,
            Self::Server(_) => Engine::Postgres,
            Self::File(_) => Engine::Sqlite,
        }
    }

    pub fn url(&self) -> String {
        match self {
            Self::Server(database) => database.url.clone(),
            Self::File(file) => file.url(),
        }
    }

    /// As the product connects to it.
    pub async fn database(&self, label: &str) -> Database {
        let ca = match self {
            Self::Server(database) => Some(database.ca.clone()),
            Self::File(_) => None,
        };
        Database::connect(&ConnectConfig {
            url: self.url().as_str().into(),
            tls: TlsMode::VerifyFull,
            ca,
            max_connections: 12,
            label: label.to_owned(),
            application: "test".to_owned(),
        })
        .await
        .expect("a connection")
    }

    pub async fn execute(&self, sql: &str) {
        self.try_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub async fn try_execute(&self, sql: &str) -> Result<(), String> {
        match self {
            Self::Server(database) => database.try_execute(sql).await,
            Self::File(file) => file.try_execute(sql).await,
        }
    }

    pub async fn texts(&self, sql: &str) -> Vec<Option<String>> {
        match self {
            Self::Server(database) => database.texts(sql).await,
            Self::File(file) => file.texts(sql).await,
        }
    }

    pub async fn number(&self, sql: &str) -> i64 {
        match self {
            Self::Server(database) => database.number(sql).await,
            Self::File(file) => file.number(sql).await,
        }
    }
}

/// A SQLite file in a folder that goes with it.
pub struct SqliteFile {
    folder: tempfile::TempDir,
}

impl SqliteFile {
    /// An empty database on which the statements were run.
    pub async fn new(sql: &str) -> Self {
        let file = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        std::fs::write(file.path(), []).expect("a file");
        file.execute(sql).await;
        file
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("shop.db")
    }

    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    /// Runs statements (separated by `;`); panics with SQLite's message when one fails.
    pub async fn execute(&self, sql: &str) {
        self.try_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub async fn try_execute(&self, sql: &str) -> Result<(), String> {
        let work = async {
            let mut connection = self.connect().await?;
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
                .execute(&mut connection)
                .await?;
            connection.close().await
        };
        work.await.map_err(|error: sqlx::Error| error.to_string())
    }

    /// The first column of every row, as text; the statement makes it one where it is not.
    pub async fn texts(&self, sql: &str) -> Vec<Option<String>> {
        let mut connection = self.connect().await.expect("a connection");
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut connection)
            .await
            .expect("texts")
    }

    /// One number, such as `SELECT COUNT(*) FROM orders`.
    pub async fn number(&self, sql: &str) -> i64 {
        let mut connection = self.connect().await.expect("a connection");
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut connection)
            .await
            .expect("a number")
    }

    async fn connect(&self) -> Result<sqlx::SqliteConnection, sqlx::Error> {
        SqliteConnectOptions::new().filename(self.path()).connect().await
    }

    /// Every cell of every row as SQLite stores it.
    pub async fn cells(&self, sql: &str) -> Vec<Vec<Stored>> {
        let mut connection = self.connect().await.expect("a connection");
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut connection)
            .await
            .expect("rows");
        rows.iter()
            .map(|row| (0..row.len()).map(|n| stored(row, n)).collect())
            .collect()
    }
}

/// A value by its storage class.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

fn stored(row: &sqlx::sqlite::SqliteRow, n: usize) -> Stored {
    let raw = row.try_get_raw(n).expect("a cell");
    if raw.is_null() {
        return Stored::Null;
    }
    match raw.type_info().name() {
        "INTEGER" => Stored::Integer(row.get_unchecked(n)),
        "REAL" => Stored::Real(row.get_unchecked(n)),
        "TEXT" => Stored::Text(row.get_unchecked(n)),
        _ => Stored::Blob(row.get_unchecked(n)),
    }
}
