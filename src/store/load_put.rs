//! Puts a batch into the follower in the cheapest form that it takes: COPY into PostgreSQL, wide INSERTs whose text never
//! changes into MySQL and SQLite. The caller's transaction carries the progress too.

use std::sync::Arc;

use sqlx::error::BoxDynError;
use sqlx::mysql::MySqlArguments;
use sqlx::{Arguments, AssertSqlSafe, Database, Executor, IntoArguments, MySql, PgConnection};

use super::cells::{self, BINARY_TRAILER, Cell};
use super::load::Form;
use super::tx::Inner;
use super::{Batch, Load, Result, Tx, Way, rowops};

/// COPY data is sent in pieces: one at a time is encrypted, while the server works at the one before.
const PIECE: usize = 128 * 1024;
/// Rows of one INSERT, largest first. Each number is a statement that is prepared once per connection and kept, so there
/// are few; a batch is a sum of them.
const SHAPES: [usize; 4] = [256, 32, 4, 1];
/// Parameters of one INSERT: the server holds each in memory for as long as the statement is prepared.
const MOST_PARAMETERS: usize = 8_192;

impl Tx {
    /// Puts a batch. `Fresh` is refused as `Duplicate` where a row is there already; nothing but a rollback is left then.
    /// The future must be awaited to its end: what was sent over the connection cannot be taken back.
    pub async fn load(&mut self, load: &Load, batch: &Batch, way: Way) -> Result<()> {
        if batch.rows == 0 {
            return Ok(());
        }
        let outcome = match &mut self.inner {
            Inner::Postgres(tx) => match way {
                Way::Fresh => {
                    let table = load.follower.table.quoted(super::Engine::Postgres);
                    copy(tx, load, batch, &table).await
                }
                Way::Guarded => staged(tx, load, batch).await,
            },
            Inner::MySql(tx) => insert::<MySql>(tx, load, batch).await,
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(open) => insert::<sqlx::Sqlite>(open.connection(), load, batch).await,
        };
        self.settle(Some(outcome))
    }
}

async fn copy(conn: &mut PgConnection, load: &Load, batch: &Batch, table: &str) -> Result<(), sqlx::Error> {
    let mut copy = conn.copy_in_raw(&load.copy_in(table)).await?;
    for piece in batch.data.chunks(PIECE) {
        copy.send(piece).await?;
    }
    if load.form == Form::Binary {
        copy.send(BINARY_TRAILER).await?;
    }
    copy.finish().await.map(|_| ())
}

async fn staged(conn: &mut PgConnection, load: &Load, batch: &Batch) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(load.create_stage()))
        .execute(&mut *conn)
        .await?;
    copy(conn, load, batch, &load.stage()).await?;
    sqlx::raw_sql(AssertSqlSafe(load.put_from_stage()))
        .execute(&mut *conn)
        .await?;
    Ok(())
}

async fn insert<DB>(conn: &mut DB::Connection, load: &Load, batch: &Batch) -> Result<(), sqlx::Error>
where
    DB: Database,
    DB::Arguments: Parameters + IntoArguments<DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let columns = load.follower.columns.len();
    let shapes = SHAPES
        .iter()
        .copied()
        .filter(|rows| rows * columns <= MOST_PARAMETERS || *rows == 1);
    let mut left = batch.rows as usize;
    let mut packed = Packed(batch.data.as_slice());
    for rows in shapes {
        if left < rows {
            continue;
        }
        let sql: Arc<str> = rowops::insert_many(&load.follower, rows).into();
        let size = packed.0.len() / left * rows;
        let mut next = Some(packed.arguments::<DB::Arguments>(rows * columns, size)?);
        while let Some(arguments) = next.take() {
            left -= rows;
            let statement = sqlx::query_with(AssertSqlSafe(sql.clone()), arguments);
            // While the server works at one statement, the next one's parameters are written down.
            let (done, following) = futures::join!(statement.execute(&mut *conn), async {
                (left >= rows)
                    .then(|| packed.arguments::<DB::Arguments>(rows * columns, size))
                    .transpose()
            });
            done?;
            next = following?;
        }
    }
    Ok(())
}

/// The cells of a batch that have not been sent yet.
struct Packed<'b>(&'b [u8]);

impl Packed<'_> {
    /// Takes so many cells off; `size`: about how many bytes they are.
    fn arguments<A: Parameters>(&mut self, cells: usize, size: usize) -> Result<A, sqlx::Error> {
        let mut arguments = A::default();
        arguments.reserve(cells, size);
        for _ in 0..cells {
            let (cell, rest) = cells::unpack(self.0).ok_or_else(|| sqlx::Error::Encode("a batch is cut off".into()))?;
            self.0 = rest;
            arguments.bind(&cell).map_err(sqlx::Error::Encode)?;
        }
        Ok(arguments)
    }
}

/// The values of one INSERT.
trait Parameters: Arguments {
    fn bind(&mut self, cell: &Cell<'_>) -> Result<(), BoxDynError>;
}

impl Parameters for MySqlArguments {
    fn bind(&mut self, cell: &Cell<'_>) -> Result<(), BoxDynError> {
        match cell {
            Cell::Null => self.add(None::<&str>),
            Cell::Int(n) => self.add(*n),
            Cell::Unsigned(n) => self.add(*n),
            Cell::Float(x) => self.add(*x),
            Cell::Float32(x) => self.add(f64::from(*x)),
            Cell::Text(text) => self.add(*text),
            Cell::Bytes(bytes) => self.add(*bytes),
        }
    }
}

#[cfg(feature = "sqlite")]
impl Parameters for sqlx::sqlite::SqliteArguments {
    fn bind(&mut self, cell: &Cell<'_>) -> Result<(), BoxDynError> {
        match cell {
            Cell::Null => Arguments::add(self, None::<&str>),
            Cell::Int(n) => Arguments::add(self, *n),
            // Its columns hold no larger ones.
            Cell::Unsigned(n) => Arguments::add(self, i64::try_from(*n)?),
            Cell::Float(x) => Arguments::add(self, *x),
            Cell::Float32(x) => Arguments::add(self, f64::from(*x)),
            Cell::Text(text) => Arguments::add(self, *text),
            Cell::Bytes(bytes) => Arguments::add(self, *bytes),
        }
    }
}
