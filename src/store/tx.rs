//! `Tx`: one transaction on one engine. What is said through it is bounded in time, and its commit tells "refused"
//! from "outcome unknown".

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, MySql, MySqlConnection, PgConnection, Postgres, Transaction};

use super::classify::classify;
use super::sql::{Bind, Statement};
use super::{CommitError, Engine, Ident, Result, StoreError, TxOptions, mysql, postgres, rewrite};
use crate::rows::Value;

/// What the client grants a statement beyond the server's own limit: then the server hangs or the network is gone.
const GRACE: Duration = Duration::from_secs(1);

/// Longest a COMMIT or ROLLBACK may take before its outcome counts as unknown.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A statement with more values than this is not kept prepared.
const MOST_BINDS_KEPT: usize = 64;

/// A transaction. Dropped without `commit`, it is rolled back.
pub struct Tx {
    pub(crate) inner: Inner,
    label: Arc<str>,
    options: TxOptions,
    /// The first failure after which the server will not commit: its connection is gone, or PostgreSQL aborted it.
    failed: Option<StoreError>,
    /// The connection was handed out: what was said over it is not known here.
    lent: bool,
}

pub(crate) enum Inner {
    MySql(Transaction<'static, MySql>),
    Postgres(Transaction<'static, Postgres>),
    #[cfg(feature = "sqlite")]
    Sqlite(super::sqlite::Open),
}

impl Tx {
    pub(crate) fn new(inner: Inner, label: Arc<str>, options: TxOptions) -> Tx {
        Tx {
            inner,
            label,
            options,
            failed: None,
            lent: false,
        }
    }

    pub fn engine(&self) -> Engine {
        match self.inner {
            Inner::MySql(_) => Engine::MySql,
            Inner::Postgres(_) => Engine::Postgres,
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(_) => Engine::Sqlite,
        }
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    /// Portable SQL with `?` placeholders (`??` for a literal question mark). Without values the text is sent as it
    /// is, so that DDL works. PostgreSQL: a text value compared with or put into a column of another type needs a CAST.
    pub async fn execute(&mut self, sql: &str, binds: &[Value]) -> Result<u64> {
        let limit = self.limit();
        let outcome = match &mut self.inner {
            Inner::MySql(tx) => {
                let sql = AssertSqlSafe(sql.to_owned());
                if binds.is_empty() {
                    bounded(limit, sqlx::raw_sql(sql).execute(&mut **tx))
                        .await
                        .map(|r| r.map(|r| r.rows_affected()))
                } else {
                    let query = binds.iter().fold(sqlx::query(sql), mysql::bind);
                    bounded(limit, query.execute(&mut **tx))
                        .await
                        .map(|r| r.map(|r| r.rows_affected()))
                }
            }
            Inner::Postgres(tx) => {
                let (sql, left) = to_postgres(&self.label, sql, binds)?;
                if left.is_empty() {
                    let sql = AssertSqlSafe(sql);
                    bounded(limit, sqlx::raw_sql(sql).execute(&mut **tx))
                        .await
                        .map(|r| r.map(|r| r.rows_affected()))
                } else {
                    let sql = AssertSqlSafe(sql + &postgres::signature(&left));
                    let query = left.into_iter().fold(sqlx::query(sql), postgres::bind);
                    bounded(limit, query.execute(&mut **tx))
                        .await
                        .map(|r| r.map(|r| r.rows_affected()))
                }
            }
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(open) => bounded(limit, open.execute(sql, binds)).await,
        };
        self.settle(outcome)
    }

    /// Portable SQL as for [`Tx::execute`]; the rows' values as the server typed them.
    pub async fn query(&mut self, sql: &str, binds: &[Value]) -> Result<Vec<Vec<Value>>> {
        let limit = self.limit();
        let outcome = match &mut self.inner {
            Inner::MySql(tx) => {
                let query = binds
                    .iter()
                    .fold(sqlx::query(AssertSqlSafe(sql.to_owned())), mysql::bind);
                bounded(limit, query.fetch_all(&mut **tx))
                    .await
                    .map(|r| r.and_then(|rows| rows.iter().map(mysql::decode).collect()))
            }
            Inner::Postgres(tx) => {
                let (sql, left) = to_postgres(&self.label, sql, binds)?;
                let sql = AssertSqlSafe(sql + &postgres::signature(&left));
                let query = left.into_iter().fold(sqlx::query(sql), postgres::bind);
                bounded(limit, query.fetch_all(&mut **tx))
                    .await
                    .map(|r| r.and_then(|rows| rows.iter().map(postgres::decode).collect()))
            }
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(open) => bounded(limit, open.query(sql, binds)).await,
        };
        self.settle(outcome)
    }

    /// An INSERT of one row whose key the database hands out: the key (`LAST_INSERT_ID()` / `RETURNING`).
    pub async fn insert_returning_key(&mut self, insert: &str, key_column: &Ident, binds: &[Value]) -> Result<Value> {
        let rows = match self.engine() {
            Engine::MySql => {
                self.execute(insert, binds).await?;
                self.query("SELECT LAST_INSERT_ID()", &[]).await?
            }
            engine @ (Engine::Postgres | Engine::Sqlite) => {
                let sql = format!(
                    "{} RETURNING {}",
                    insert.trim_end().trim_end_matches(';'),
                    key_column.quoted(engine)
                );
                self.query(&sql, binds).await?
            }
        };
        match rows.into_iter().next().and_then(|r| r.into_iter().next()) {
            Some(Value::Int(0)) | None => Err(StoreError::Data {
                label: self.label.to_string(),
                message: format!(
                    "the INSERT handed out no key: expected one new row with a generated `{}`",
                    key_column.as_str()
                ),
            }),
            Some(key) => Ok(key),
        }
    }

    /// The database's clock at this statement, canonical UTC with 6 digits.
    pub async fn clock(&mut self) -> Result<String> {
        let sql = match self.engine() {
            Engine::MySql => "SELECT NOW(6)",
            Engine::Postgres => "SELECT clock_timestamp()",
            // It knows milliseconds.
            Engine::Sqlite => "SELECT strftime('%Y-%m-%d %H:%M:%f000', 'now')",
        };
        let rows = self.query(sql, &[]).await?;
        match rows.into_iter().flatten().next() {
            Some(Value::Text(now)) => Ok(now),
            other => Err(self.other(format!("the clock answered {other:?}"))),
        }
    }

    /// An application's own typed queries. Neither COMMIT nor ROLLBACK may be said over it.
    pub fn mysql(&mut self) -> Option<&mut MySqlConnection> {
        self.lent = true;
        if let Inner::MySql(tx) = &mut self.inner {
            Some(&mut **tx)
        } else {
            None
        }
    }

    /// As [`Tx::mysql`].
    pub fn postgres(&mut self) -> Option<&mut PgConnection> {
        self.lent = true;
        if let Inner::Postgres(tx) = &mut self.inner {
            Some(&mut **tx)
        } else {
            None
        }
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn sqlite(&mut self) -> Option<&mut sqlx::SqliteConnection> {
        match &mut self.inner {
            Inner::Sqlite(open) => Some(open.connection()),
            _ => None,
        }
    }

    pub async fn commit(mut self) -> Result<(), CommitError> {
        if let Some(e) = self.failed.take() {
            self.rollback().await;
            return Err(CommitError::Refused(e));
        }
        // PostgreSQL answers COMMIT of an aborted transaction with a friendly ROLLBACK: a statement before it tells.
        if self.lent
            && self.engine() == Engine::Postgres
            && let Err(e) = self.query("SELECT 1", &[]).await
        {
            self.rollback().await;
            return Err(CommitError::Refused(e));
        }
        let label = self.label;
        let outcome = match self.inner {
            Inner::MySql(tx) => bounded(Some(COMMIT_TIMEOUT), tx.commit()).await,
            Inner::Postgres(tx) => bounded(Some(COMMIT_TIMEOUT), tx.commit()).await,
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(open) => bounded(Some(COMMIT_TIMEOUT), open.commit()).await,
        };
        match outcome {
            Some(Ok(())) => Ok(()),
            None => Err(CommitError::Unknown(StoreError::Timeout {
                label: label.to_string(),
                message: format!("no answer to COMMIT within {} s", COMMIT_TIMEOUT.as_secs()),
            })),
            Some(Err(e)) => {
                let answered = matches!(e, sqlx::Error::Database(_));
                match classify(&label, &e) {
                    // The server may have committed before it lost the connection or was told to stop.
                    lost @ (StoreError::ConnectionLost { .. } | StoreError::Timeout { .. }) => {
                        Err(CommitError::Unknown(lost))
                    }
                    refused if answered => Err(CommitError::Refused(refused)),
                    unclear => Err(CommitError::Unknown(unclear)),
                }
            }
        }
    }

    /// Rolls back. A failure needs no answer: the server forgets the transaction with the connection.
    pub async fn rollback(self) {
        let outcome = match self.inner {
            Inner::MySql(tx) => bounded(Some(COMMIT_TIMEOUT), tx.rollback()).await,
            Inner::Postgres(tx) => bounded(Some(COMMIT_TIMEOUT), tx.rollback()).await,
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(open) => bounded(Some(COMMIT_TIMEOUT), open.rollback()).await,
        };
        if !matches!(outcome, Some(Ok(()))) {
            tracing::debug!(database = %self.label, "rollback was not answered; the connection is dropped");
        }
    }

    /// Runs a built statement: placeholders already in the engine's spelling, binds typed per column.
    pub(crate) async fn run(&mut self, statement: &Statement) -> Result<u64> {
        let limit = self.limit();
        let sql = AssertSqlSafe(statement.sql.clone());
        let outcome = match &mut self.inner {
            Inner::MySql(tx) => {
                let query = statement
                    .binds
                    .iter()
                    .fold(sqlx::query(sql), Bind::to_mysql)
                    .persistent(kept(statement));
                bounded(limit, query.execute(&mut **tx))
                    .await
                    .map(|r| r.map(|r| r.rows_affected()))
            }
            Inner::Postgres(tx) => {
                let query = statement
                    .binds
                    .iter()
                    .fold(sqlx::query(sql), Bind::to_postgres)
                    .persistent(kept(statement));
                bounded(limit, query.execute(&mut **tx))
                    .await
                    .map(|r| r.map(|r| r.rows_affected()))
            }
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(open) => bounded(limit, open.run(statement, kept(statement))).await,
        };
        self.settle(outcome)
    }

    pub(crate) async fn fetch(&mut self, statement: &Statement) -> Result<Vec<Vec<Value>>> {
        let limit = self.limit();
        let sql = AssertSqlSafe(statement.sql.clone());
        let outcome = match &mut self.inner {
            Inner::MySql(tx) => {
                let query = statement
                    .binds
                    .iter()
                    .fold(sqlx::query(sql), Bind::to_mysql)
                    .persistent(kept(statement));
                bounded(limit, query.fetch_all(&mut **tx))
                    .await
                    .map(|r| r.and_then(|rows| rows.iter().map(mysql::decode).collect()))
            }
            Inner::Postgres(tx) => {
                let query = statement
                    .binds
                    .iter()
                    .fold(sqlx::query(sql), Bind::to_postgres)
                    .persistent(kept(statement));
                bounded(limit, query.fetch_all(&mut **tx))
                    .await
                    .map(|r| r.and_then(|rows| rows.iter().map(postgres::decode).collect()))
            }
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(open) => bounded(limit, open.fetch(statement, kept(statement))).await,
        };
        self.settle(outcome)
    }

    pub(crate) fn data(&self, message: String) -> StoreError {
        StoreError::Data {
            label: self.label.to_string(),
            message,
        }
    }

    pub(crate) fn other(&self, message: String) -> StoreError {
        StoreError::Other {
            label: self.label.to_string(),
            message,
        }
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        self.options.statement_timeout.map(|t| t + GRACE)
    }

    pub(crate) fn settle<T>(&mut self, outcome: Option<Result<T, sqlx::Error>>) -> Result<T> {
        let error = match outcome {
            Some(Ok(value)) => return Ok(value),
            Some(Err(e)) => {
                let answered = matches!(e, sqlx::Error::Database(_));
                let e = classify(&self.label, &e);
                let aborts = match self.engine() {
                    Engine::MySql => false,
                    Engine::Postgres => answered,
                    // A full disk, say, rolls the transaction back, and what comes next would be committed by itself. What
                    // a row has been refused for does not.
                    Engine::Sqlite => !matches!(e, StoreError::Duplicate { .. } | StoreError::Data { .. }),
                };
                // A deadlock rolls MySQL's whole transaction back; a commit would commit nothing, or half.
                if aborts || matches!(e, StoreError::ConnectionLost { .. } | StoreError::Deadlock { .. }) {
                    self.failed.get_or_insert(e.clone());
                }
                e
            }
            None => {
                let e = StoreError::Timeout {
                    label: self.label.to_string(),
                    message: "the server did not answer in time".to_owned(),
                };
                self.failed.get_or_insert(e.clone());
                e
            }
        };
        Err(error)
    }
}

/// Small statements are prepared once per session. The text of a large one depends on its number of rows, and each kept
/// one holds megabytes in the server for as long as the session lives.
fn kept(statement: &Statement) -> bool {
    statement.binds.len() <= MOST_BINDS_KEPT
}

pub(crate) async fn bounded<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.ok(),
        None => Some(work.await),
    }
}

fn to_postgres<'v>(label: &str, sql: &str, binds: &'v [Value]) -> Result<(String, Vec<&'v Value>)> {
    rewrite::to_postgres(sql, binds).map_err(|message| StoreError::Other {
        label: label.to_owned(),
        message,
    })
}
