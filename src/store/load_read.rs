//! `Reader`: reads batches in the fast way, over a connection of its own. What is given up half-way (a batch that grew too
//! large, a reader that nobody waits for) closes the connection: no result is left in it for somebody else to find.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

use super::cells::{BINARY_HEADER, Cell, tuples};
use super::classify::{classify, classify_connect};
use super::database::Pool;
use super::load::{Form, Lane};
use super::mysql::Flavour;
use super::sql::Bind;
use super::{Batch, Database, Load, Result, StoreError, mysql, postgres, rowops};
use crate::rows::{Key, Value};

/// What the client grants beyond the server's own limit.
const GRACE: Duration = Duration::from_secs(5);

/// Reads one table's batches.
pub struct Reader {
    database: Database,
    load: Arc<Load>,
    /// The server ends a longer statement.
    most: Duration,
    connection: Option<Connection>,
}

enum Connection {
    MySql(sqlx::MySqlConnection),
    Postgres(sqlx::PgConnection),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::SqliteConnection),
}

impl Reader {
    /// No connection is made before the first batch.
    pub fn new(database: &Database, load: Arc<Load>, most: Duration) -> Self {
        Reader {
            database: database.clone(),
            load,
            most,
            connection: None,
        }
    }

    /// At most `limit` rows with `after` < key ≤ `upto` in the key's order, fewer once they are `bytes` long. Takes no
    /// locks.
    pub async fn read(&mut self, after: Option<&Key>, upto: Option<&Key>, limit: u32, bytes: usize) -> Result<Batch> {
        // Whatever ends this early takes the connection with it.
        let connection = self.connection.take();
        let work = async {
            let mut connection = match connection {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let (batch, whole) = match &mut connection {
                Connection::MySql(conn) => self.read_mysql(conn, after, upto, limit, bytes).await?,
                Connection::Postgres(conn) if self.load.form == Form::Binary => {
                    self.copied(conn, after, upto, limit, bytes).await?
                }
                Connection::Postgres(conn) => self.read_postgres(conn, after, upto, limit, bytes).await?,
                #[cfg(feature = "sqlite")]
                Connection::Sqlite(conn) => self.read_sqlite(conn, after, upto, limit, bytes).await?,
            };
            Ok((batch, whole.then_some(connection)))
        };
        let (batch, connection) = match tokio::time::timeout(self.most + GRACE, work).await {
            Ok(read) => read?,
            Err(_) => {
                return Err(StoreError::Timeout {
                    label: self.database.label().to_owned(),
                    message: "the server did not answer in time".to_owned(),
                });
            }
        };
        self.connection = connection;
        Ok(batch)
    }

    async fn connect(&self) -> Result<Connection> {
        let refused = |error: sqlx::Error| classify_connect(self.database.label(), &error);
        let most = self.most.as_millis();
        match &self.database.pool {
            Pool::MySql { options, .. } => {
                let mut conn = options.connect().await.map_err(refused)?;
                let limit = match mysql::prepare_session(&mut conn).await.map_err(refused)? {
                    Flavour::MariaDb => format!("max_statement_time = {}", self.most.as_secs_f64()),
                    Flavour::MySql => format!("max_execution_time = {most}"),
                };
                let sql = format!("SET SESSION TRANSACTION READ ONLY; SET SESSION {limit}");
                conn.execute(AssertSqlSafe(sql)).await.map_err(refused)?;
                Ok(Connection::MySql(conn))
            }
            Pool::Postgres { options, .. } => {
                let mut conn = options.connect().await.map_err(refused)?;
                postgres::prepare_session(&mut conn).await.map_err(refused)?;
                let sql = format!("SET default_transaction_read_only = on; SET statement_timeout = {most}");
                conn.execute(AssertSqlSafe(sql)).await.map_err(refused)?;
                Ok(Connection::Postgres(conn))
            }
            #[cfg(feature = "sqlite")]
            Pool::Sqlite { options, .. } => super::sqlite::reader(options)
                .await
                .map(Connection::Sqlite)
                .map_err(refused),
        }
    }

    fn failed(&self, error: &sqlx::Error) -> StoreError {
        classify(self.database.label(), error)
    }

    fn lanes(&self) -> &[Lane] {
        match &self.load.form {
            Form::Text(lanes) | Form::Cells(lanes) => lanes,
            Form::Binary => &[],
        }
    }

    async fn read_mysql(
        &self,
        conn: &mut sqlx::MySqlConnection,
        after: Option<&Key>,
        upto: Option<&Key>,
        limit: u32,
        bytes: usize,
    ) -> Result<(Batch, bool)> {
        let statement = self.statement(after, upto, limit)?;
        let query = statement
            .binds
            .iter()
            .fold(sqlx::query(AssertSqlSafe(statement.sql.clone())), Bind::to_mysql);
        let mut found = query.fetch(conn);
        let mut made = Made::default();
        let mut last = None;
        while let Some(row) = found.try_next().await.map_err(|e| self.failed(&e))? {
            for (i, lane) in self.lanes().iter().enumerate() {
                self.add(&mut made, i, &self.load.mysql_cell(&row, i, *lane)?);
            }
            made.rows += 1;
            last = Some(row);
            if made.data.len() >= bytes {
                break;
            }
        }
        let key = last.map(|row| {
            let cells = self.load.base.key.iter().map(|&i| mysql::cell(&row, i));
            self.load
                .key(cells.collect::<Result<Vec<_>, _>>().map_err(|e| self.failed(&e))?)
        });
        Ok(made.finish(key.transpose()?, limit, bytes))
    }

    async fn read_postgres(
        &self,
        conn: &mut sqlx::PgConnection,
        after: Option<&Key>,
        upto: Option<&Key>,
        limit: u32,
        bytes: usize,
    ) -> Result<(Batch, bool)> {
        let statement = self.statement(after, upto, limit)?;
        let query = statement
            .binds
            .iter()
            .fold(sqlx::query(AssertSqlSafe(statement.sql.clone())), Bind::to_postgres);
        let mut found = query.fetch(conn);
        let mut made = Made::default();
        let mut last = None;
        while let Some(row) = found.try_next().await.map_err(|e| self.failed(&e))? {
            for (i, lane) in self.lanes().iter().enumerate() {
                self.add(&mut made, i, &self.load.postgres_cell(&row, i, *lane)?);
            }
            made.rows += 1;
            last = Some(row);
            if made.data.len() >= bytes {
                break;
            }
        }
        let key = last.map(|row| {
            let cells = self.load.base.key.iter().map(|&i| postgres::cell(&row, i));
            self.load
                .key(cells.collect::<Result<Vec<_>, _>>().map_err(|e| self.failed(&e))?)
        });
        Ok(made.finish(key.transpose()?, limit, bytes))
    }

    #[cfg(feature = "sqlite")]
    async fn read_sqlite(
        &self,
        conn: &mut sqlx::SqliteConnection,
        after: Option<&Key>,
        upto: Option<&Key>,
        limit: u32,
        bytes: usize,
    ) -> Result<(Batch, bool)> {
        let statement = self.statement(after, upto, limit)?;
        let mut found = super::sqlite::prepared(&statement).fetch(conn);
        let mut made = Made::default();
        let mut last = None;
        while let Some(row) = found.try_next().await.map_err(|e| self.failed(&e))? {
            let cells = super::sqlite::decode(&row).map_err(|e| self.failed(&e))?;
            let key: Vec<Value> = self.load.base.key.iter().map(|&i| cells[i].clone()).collect();
            for (i, raw) in cells.into_iter().enumerate() {
                self.add(&mut made, i, &Carried::Owned(self.load.exact(i, raw)?));
            }
            made.rows += 1;
            last = Some(key);
            if made.data.len() >= bytes {
                break;
            }
        }
        let key = last.map(|key| self.load.key(key)).transpose()?;
        Ok(made.finish(key, limit, bytes))
    }

    fn statement(&self, after: Option<&Key>, upto: Option<&Key>, limit: u32) -> Result<super::sql::Statement> {
        rowops::read_after(&self.load.base, after, upto, limit).map_err(|message| StoreError::Data {
            label: self.database.label().to_owned(),
            message,
        })
    }

    fn add(&self, made: &mut Made, column: usize, cell: &Carried<'_>) {
        self.load.encode(&mut made.data, column, &cell.cell());
    }

    async fn copied(
        &self,
        conn: &mut sqlx::PgConnection,
        after: Option<&Key>,
        upto: Option<&Key>,
        limit: u32,
        bytes: usize,
    ) -> Result<(Batch, bool)> {
        let settings = self.load.bounds(after, upto)?;
        if !settings.is_empty() {
            let calls: Vec<String> = settings
                .iter()
                .enumerate()
                .map(|(n, (name, _))| format!("set_config('{name}', ${}, false)", n + 1))
                .collect();
            let sql = AssertSqlSafe(format!("SELECT {}", calls.join(", ")));
            let query = settings
                .iter()
                .fold(sqlx::query(sql), |query, (_, value)| query.bind(value));
            query.execute(&mut *conn).await.map_err(|e| self.failed(&e))?;
        }
        let sql = self.load.copy_out(after.is_some(), upto.is_some(), limit);
        let mut data = Vec::new();
        let mut whole = true;
        {
            let mut found = conn.copy_out_raw(&sql).await.map_err(|e| self.failed(&e))?;
            while let Some(part) = found.try_next().await.map_err(|e| self.failed(&e))? {
                data.extend_from_slice(&part);
                if data.len() >= bytes {
                    whole = false;
                    break;
                }
            }
        }
        let malformed = || StoreError::ConnectionLost {
            label: self.database.label().to_owned(),
            message: "malformed COPY data".to_owned(),
        };
        if data.is_empty() {
            data.extend_from_slice(BINARY_HEADER);
        }
        let (rows, last, end) = tuples(&data).ok_or_else(malformed)?;
        let key = (rows > 0)
            .then(|| self.load.key_of_tuple(data.get(last..end).unwrap_or_default()))
            .transpose()?;
        data.truncate(end);
        let batch = Batch {
            data,
            rows,
            last: key,
            ended: whole && rows < limit,
        };
        Ok((batch, whole))
    }
}

/// A cell, borrowed from the row or made anew.
enum Carried<'r> {
    Raw(Cell<'r>),
    Owned(Value),
}

impl Carried<'_> {
    fn cell(&self) -> Cell<'_> {
        match self {
            Carried::Raw(cell) => *cell,
            Carried::Owned(value) => Cell::of(value),
        }
    }
}

impl Load {
    /// One cell of a MySQL row.
    fn mysql_cell<'r>(&self, row: &'r sqlx::mysql::MySqlRow, i: usize, lane: Lane) -> Result<Carried<'r>> {
        use sqlx::Row as _;
        let failed = |error: sqlx::Error| super::classify::classify(self.base.table.as_str(), &error);
        if lane == Lane::Exact {
            return Ok(Carried::Owned(self.exact(i, mysql::cell(row, i).map_err(failed)?)?));
        }
        let Some(bytes) = row.try_get_unchecked::<Option<&[u8]>, _>(i).map_err(failed)? else {
            return Ok(Carried::Raw(Cell::Null));
        };
        mysql::raw(lane, bytes)
            .map(Carried::Raw)
            .ok_or_else(|| self.malformed(i))
    }

    /// One cell of a PostgreSQL row.
    fn postgres_cell<'r>(&self, row: &'r sqlx::postgres::PgRow, i: usize, lane: Lane) -> Result<Carried<'r>> {
        use sqlx::{Row as _, ValueRef as _};
        let failed = |error: sqlx::Error| super::classify::classify(self.base.table.as_str(), &error);
        if lane == Lane::Exact {
            return Ok(Carried::Owned(self.exact(i, postgres::cell(row, i).map_err(failed)?)?));
        }
        let raw = row.try_get_raw(i).map_err(failed)?;
        if raw.is_null() {
            return Ok(Carried::Raw(Cell::Null));
        }
        let bytes = raw.as_bytes().map_err(|_| self.malformed(i))?;
        postgres::raw(lane, bytes)
            .map(Carried::Raw)
            .ok_or_else(|| self.malformed(i))
    }

    fn malformed(&self, column: usize) -> StoreError {
        StoreError::Data {
            label: self.base.table.as_str().to_owned(),
            message: format!(
                "column {}.{} holds a value that is not of the column's type",
                self.base.table.as_str(),
                self.base.columns[column].name.as_str()
            ),
        }
    }
}

/// A batch in the making.
#[derive(Default)]
struct Made {
    data: Vec<u8>,
    rows: u32,
}

impl Made {
    /// The batch, and whether its result was read to the end.
    fn finish(self, last: Option<Key>, limit: u32, bytes: usize) -> (Batch, bool) {
        let whole = self.data.len() < bytes;
        let batch = Batch {
            ended: whole && self.rows < limit,
            data: self.data,
            rows: self.rows,
            last,
        };
        (batch, whole)
    }
}
