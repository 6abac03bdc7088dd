//! Rows read to be compared: streamed one at a time and reduced to sketches on the way, so that a page of rows of any
//! width takes the memory of their keys.

use futures::TryStreamExt;
use sqlx::AssertSqlSafe;
use std::time::Duration;

use super::classify::classify;
use super::rowops::{read_after, read_keys, read_window};
use super::sql::{Bind, Lock, Statement, cell};
use super::{Engine, Result, StoreError, TableSide, Tx, mysql, postgres};
use crate::rows::{Comparison, Key, Row, Sketch, Value};

/// A stream that has not ended by then is given up; the server's own limit is shorter.
const MOST: Duration = Duration::from_secs(90);
/// Keys asked for in one statement.
const KEYS: usize = 1_000;

impl Tx {
    /// Rows after `after` up to and including `upto`, as sketches, in the key's order; takes no locks.
    pub async fn sketch_range(
        &mut self,
        side: &TableSide,
        comparison: &Comparison,
        after: Option<&Key>,
        upto: Option<&Key>,
        limit: u32,
    ) -> Result<Vec<Sketch>> {
        let statement = read_after(side, after, upto, limit).map_err(|why| self.data(why))?;
        self.sketches(side, comparison, &statement).await
    }

    /// The rows that have these keys, as sketches; takes no locks.
    pub async fn sketch_keys(
        &mut self,
        side: &TableSide,
        comparison: &Comparison,
        keys: &[Key],
    ) -> Result<Vec<Sketch>> {
        let mut found = Vec::with_capacity(keys.len());
        for some in keys.chunks(KEYS) {
            let statement = read_keys(side, some, Lock::None).map_err(|why| self.data(why))?;
            found.extend(self.sketches(side, comparison, &statement).await?);
        }
        Ok(found)
    }

    /// As `read_window`, as sketches.
    pub async fn sketch_window(
        &mut self,
        side: &TableSide,
        comparison: &Comparison,
        (from, to): (&str, &str),
        after: Option<(&str, &Key)>,
        limit: u32,
    ) -> Result<Vec<Sketch>> {
        let statement = read_window(side, from, to, after, limit).map_err(|why| self.data(why))?;
        self.sketches(side, comparison, &statement).await
    }

    async fn sketches(
        &mut self,
        side: &TableSide,
        comparison: &Comparison,
        statement: &Statement,
    ) -> Result<Vec<Sketch>> {
        let mut found = Vec::new();
        self.each(statement, |cells| {
            let values = cells.into_iter().zip(&side.columns);
            let values = values.map(|(raw, column)| {
                cell(side.engine, column, raw).map_err(|why| misfit(side, column.name.as_str(), &why))
            });
            let row = Row {
                values: values.collect::<Result<_, String>>()?,
            };
            found.push(comparison.sketch(&row, &side.key, side.version));
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Hands every row over as it arrives. What `take` refuses is said once the stream has ended: a stream that is left
    /// in the middle would leave its connection there.
    pub(super) async fn each(
        &mut self,
        statement: &Statement,
        mut take: impl FnMut(Vec<Value>) -> Result<(), String> + Send,
    ) -> Result<()> {
        let label = self.label().to_owned();
        let sql = AssertSqlSafe(statement.sql.clone());
        let kept = statement.binds.len() <= 64;
        let mut refused: Option<String> = None;
        let mut one = |cells: Vec<Value>| {
            if refused.is_none() {
                refused = take(cells).err();
            }
        };
        let stream = async {
            match self.engine() {
                Engine::MySql => {
                    let Some(connection) = self.mysql() else { return Ok(()) };
                    let query = statement.binds.iter().fold(sqlx::query(sql), Bind::to_mysql);
                    let mut rows = query.persistent(kept).fetch(connection);
                    while let Some(row) = rows.try_next().await? {
                        one(mysql::decode(&row)?);
                    }
                }
                Engine::Postgres => {
                    let Some(connection) = self.postgres() else {
                        return Ok(());
                    };
                    let query = statement.binds.iter().fold(sqlx::query(sql), Bind::to_postgres);
                    let mut rows = query.persistent(kept).fetch(connection);
                    while let Some(row) = rows.try_next().await? {
                        one(postgres::decode(&row)?);
                    }
                }
                #[cfg(not(feature = "sqlite"))]
                Engine::Sqlite => {}
                #[cfg(feature = "sqlite")]
                Engine::Sqlite => {
                    let Some(connection) = self.sqlite() else { return Ok(()) };
                    let mut rows = super::sqlite::prepared(statement).persistent(kept).fetch(connection);
                    while let Some(row) = rows.try_next().await? {
                        one(super::sqlite::decode(&row)?);
                    }
                }
            }
            Ok::<_, sqlx::Error>(())
        };
        match tokio::time::timeout(MOST, stream).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(classify(&label, &error)),
            Err(_) => {
                return Err(StoreError::Timeout {
                    label,
                    message: "the server did not send all rows in time".to_owned(),
                });
            }
        }
        refused.map_or(Ok(()), |message| Err(StoreError::Data { label, message }))
    }
}

fn misfit(side: &TableSide, column: &str, why: &str) -> String {
    format!(
        "column {}.{column} holds a value that cannot be carried: {why}",
        side.table.as_str()
    )
}
