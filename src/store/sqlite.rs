//! SQLite: how a file is opened, whose turn it is to write, what its values look like.

use std::sync::Arc;
use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Executor as _, Row as _, SqlSafeStr as _, Sqlite,
    Transaction, TypeInfo as _, ValueRef as _,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::UrlParts;
use super::database::unbroken;
use super::sql::{Bind, Statement};
use super::{ConnectConfig, TxOptions};
use crate::rows::Value;

/// How long a statement outside of a transaction waits for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

/// The file's own journal mode stays as it is: only a run that writes changes it (`write_ahead`).
pub(crate) fn options(parts: &UrlParts) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(&parts.database)
        .create_if_missing(false)
        .busy_timeout(BUSY)
        .foreign_keys(true)
        .statement_cache_capacity(200)
        // Statements carry the users' data: they do not belong in logs.
        .disable_statement_logging()
}

/// SQLite itself only says that it cannot open a file, without its name.
pub(crate) fn exists(path: &str) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(format!("{path} is a directory; name the SQLite file in it")),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(format!(
            "the file {path} does not exist; make the file and its tables first, or correct the path in the URL"
        )),
        Err(error) => Err(format!("the file {path} cannot be looked at: {error}")),
    }
}

pub(crate) fn pool(config: &ConnectConfig, options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(config.max_connections.max(1))
        .min_connections(0)
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

/// Opens the file and reads from it: one that is no database says so then.
pub(crate) async fn try_connect(options: &SqliteConnectOptions) -> Result<(), sqlx::Error> {
    let mut conn = options.connect().await?;
    conn.execute("SELECT COUNT(*) FROM sqlite_schema").await?;
    conn.close().await
}

/// Switches the file to a write-ahead log; answers with the journal mode that it has now.
pub(crate) async fn write_ahead(options: &SqliteConnectOptions) -> Result<String, sqlx::Error> {
    let mut conn = options.connect().await?;
    let mode = sqlx::query_scalar("PRAGMA journal_mode = WAL")
        .fetch_one(&mut conn)
        .await?;
    conn.close().await?;
    Ok(mode)
}

/// A connection that can only read.
pub(crate) async fn reader(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let mut conn = options.connect().await?;
    conn.execute("PRAGMA query_only = 1").await?;
    Ok(conn)
}

/// A transaction, and the turn to write that it has.
pub(crate) struct Open {
    tx: Transaction<'static, Sqlite>,
    _turn: Option<OwnedSemaphorePermit>,
}

/// The statements that open a transaction: every limit is set anew, because connections are shared. One that may write is
/// the file's only one from its beginning: no row has to be locked, and no snapshot is too old to be written to.
fn begin_sql(options: &TxOptions) -> String {
    let wait = options
        .statement_timeout
        .map_or(options.lock_timeout, |most| most.min(options.lock_timeout));
    let (only, begin) = if options.read_only {
        (1, "BEGIN")
    } else {
        (0, "BEGIN IMMEDIATE")
    };
    format!(
        "PRAGMA busy_timeout = {}; PRAGMA query_only = {only}; {begin}",
        wait.as_millis().max(1)
    )
}

/// Writers of this process take turns here, first come, first served; SQLite alone would have them try again and again.
pub(crate) async fn begin(pool: &SqlitePool, turn: &Arc<Semaphore>, options: &TxOptions) -> Result<Open, sqlx::Error> {
    let turn = if options.read_only {
        None
    } else {
        let waited = turn.clone().acquire_owned().await;
        Some(waited.map_err(|_| sqlx::Error::PoolClosed)?)
    };
    // SQLite rolls back by itself when a disk is full, say, of which the driver does not know: it would go on with a
    // transaction that is none.
    let conn = loop {
        let conn = pool.acquire().await?;
        if !conn.is_in_transaction() {
            break conn;
        }
        let _ = conn.close().await;
    };
    let sql = AssertSqlSafe(begin_sql(options)).into_sql_str();
    unbroken(async move {
        Ok(Open {
            tx: Transaction::begin(conn, Some(sql)).await?,
            _turn: turn,
        })
    })
    .await
}

impl Open {
    pub fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }

    pub async fn execute(&mut self, sql: &str, binds: &[Value]) -> Result<u64, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        let done = if binds.is_empty() {
            sqlx::raw_sql(sql).execute(&mut *self.tx).await?
        } else {
            let query = binds.iter().fold(sqlx::query(sql), bind);
            query.execute(&mut *self.tx).await?
        };
        Ok(done.rows_affected())
    }

    pub async fn query(&mut self, sql: &str, binds: &[Value]) -> Result<Vec<Vec<Value>>, sqlx::Error> {
        let query = binds.iter().fold(sqlx::query(AssertSqlSafe(sql.to_owned())), bind);
        query.fetch_all(&mut *self.tx).await?.iter().map(decode).collect()
    }

    pub async fn run(&mut self, statement: &Statement, kept: bool) -> Result<u64, sqlx::Error> {
        let query = prepared(statement).persistent(kept);
        Ok(query.execute(&mut *self.tx).await?.rows_affected())
    }

    pub async fn fetch(&mut self, statement: &Statement, kept: bool) -> Result<Vec<Vec<Value>>, sqlx::Error> {
        let query = prepared(statement).persistent(kept);
        query.fetch_all(&mut *self.tx).await?.iter().map(decode).collect()
    }

    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.tx.commit().await
    }

    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        self.tx.rollback().await
    }
}

/// The statement with its values bound.
pub(crate) fn prepared(statement: &Statement) -> Query<'static, Sqlite, SqliteArguments> {
    let sql = AssertSqlSafe(statement.sql.clone());
    statement.binds.iter().fold(sqlx::query(sql), bind_all)
}

fn bind_all<'q>(query: Query<'q, Sqlite, SqliteArguments>, bound: &Bind) -> Query<'q, Sqlite, SqliteArguments> {
    bound.values.iter().fold(query, bind)
}

fn bind<'q>(query: Query<'q, Sqlite, SqliteArguments>, value: &Value) -> Query<'q, Sqlite, SqliteArguments> {
    match value {
        Value::Null => query.bind(None::<String>),
        Value::Int(n) => query.bind(*n),
        // No value of SQLite's: what could not be refused before is told apart from every number.
        Value::UInt(n) => query.bind(n.to_string()),
        Value::Float(x) => query.bind(*x),
        Value::Text(s) => query.bind(s.clone()),
        Value::Bytes(b) => query.bind(b.clone()),
    }
}

/// Every value of a row by its storage class, whatever its column was declared as.
pub(crate) fn decode(row: &SqliteRow) -> Result<Vec<Value>, sqlx::Error> {
    (0..row.len()).map(|i| cell(row, i)).collect()
}

pub(crate) fn cell(row: &SqliteRow, i: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(i)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    // Of a value that is not NULL the driver names the class, never the column's type.
    let class = raw.type_info().name().to_owned();
    Ok(match class.as_str() {
        "INTEGER" => Value::Int(row.try_get_unchecked::<i64, _>(i)?),
        "REAL" => Value::Float(row.try_get_unchecked::<f64, _>(i)?),
        "TEXT" => Value::Text(row.try_get_unchecked::<String, _>(i)?),
        "BLOB" => Value::Bytes(row.try_get_unchecked::<Vec<u8>, _>(i)?),
        other => {
            return Err(sqlx::Error::ColumnDecode {
                index: row.columns()[i].name().to_owned(),
                source: format!("unknown storage class {other}").into(),
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_sets_every_limit() {
        assert_eq!(
            begin_sql(&TxOptions::bounded(Duration::from_millis(250))),
            "PRAGMA busy_timeout = 250; PRAGMA query_only = 0; BEGIN IMMEDIATE"
        );
        assert_eq!(
            begin_sql(&TxOptions::read_only()),
            "PRAGMA busy_timeout = 5000; PRAGMA query_only = 1; BEGIN"
        );
    }
}
