//! Who copies which key range, and how far: chunk claims with owner and lease, kept in the follower so that progress
//! moves in the same transaction as the rows. Boundaries are found as the copy goes; the last chunk has no upper end.

use super::error::WorkError;
use crate::control::now;
use crate::rows::{Key, Value};
use crate::store::{Engine, StoreError, Tx};
use std::time::Duration;

/// How long a claim lasts without progress; after that another worker may take the chunk over.
pub const LEASE: Duration = Duration::from_secs(20);

/// Which copy the chunks belong to.
#[derive(Clone, Debug)]
pub struct ChunkSet {
    /// `namespace/name`.
    pub migration: String,
    /// The DataMigration's UID.
    pub uid: String,
    /// The source table's name.
    pub table: String,
    /// Copy evidence belongs to a round.
    pub round: i64,
}

/// A claimed key range: rows with `lower` < key ≤ `upper` are still to be copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Its place in the order of the key.
    pub number: i64,
    /// Moves up with every batch; `None`: from the first row.
    pub lower: Option<Key>,
    /// `None`: to the last row.
    pub upper: Option<Key>,
    /// Rows copied so far.
    pub rows: i64,
}

/// What there is to do for a worker that asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// This range is its own now.
    Chunk(Chunk),
    /// Nothing is free; the next range begins after this key and has this number.
    Extend {
        /// Where the table was last divided.
        after: Option<Key>,
        /// The number the next chunk gets.
        number: i64,
    },
    /// The table is divided to its end; others still copy.
    Busy,
    /// Every range is done.
    AllDone,
}

/// Counts over a chunk set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Chunks known so far.
    pub chunks: i64,
    /// Chunks done.
    pub done: i64,
    /// Rows copied.
    pub rows: i64,
    /// The table is divided to its end.
    pub divided: bool,
}

const THIS: &str = "migration = ? AND table_name = ? AND round = ?";

impl ChunkSet {
    fn binds(&self) -> Vec<Value> {
        vec![
            Value::Text(self.migration.clone()),
            Value::Text(self.table.clone()),
            Value::Int(self.round),
        ]
    }

    /// Takes over a range whose lease ran out, or says what else there is to do.
    pub async fn claim(&self, tx: &mut Tx, owner: &str) -> Result<Claim, WorkError> {
        let now = now(tx.engine());
        let open = tx
            .query(
                &format!(
                    "SELECT chunk, lower_key, upper_key, copied_rows, CASE WHEN lease_until < {now} THEN 1 ELSE 0 END \
                     FROM _datamigration_chunks WHERE {THIS} AND state <> 'Done' ORDER BY chunk"
                ),
                &self.binds(),
            )
            .await?;
        let others = !open.is_empty();
        for row in open {
            let expired = int(&row, 4)? != 0;
            if !expired {
                continue;
            }
            let chunk = Chunk {
                number: int(&row, 0)?,
                lower: key(&row, 1)?,
                upper: key(&row, 2)?,
                rows: int(&row, 3)?,
            };
            // Conditional: of two that saw the same expired lease, one changes the row.
            let lease = after(tx.engine(), LEASE);
            let mut binds = vec![Value::Text(owner.to_owned())];
            binds.extend(self.binds());
            binds.push(Value::Int(chunk.number));
            let taken = tx
                .execute(
                    &format!(
                        "UPDATE _datamigration_chunks SET owner = ?, lease_until = {lease} \
                         WHERE {THIS} AND chunk = ? AND state <> 'Done' AND lease_until < {now}"
                    ),
                    &binds,
                )
                .await?;
            if taken == 1 {
                return Ok(match self.read(tx, chunk.number, owner).await? {
                    Some(chunk) => Claim::Chunk(chunk),
                    None => Claim::Busy,
                });
            }
        }
        let last = tx
            .query(
                &format!("SELECT chunk, upper_key FROM _datamigration_chunks WHERE {THIS} ORDER BY chunk DESC LIMIT 1"),
                &self.binds(),
            )
            .await?;
        Ok(match last.first() {
            None => Claim::Extend { after: None, number: 0 },
            Some(row) => match key(row, 1)? {
                Some(upper) => Claim::Extend {
                    after: Some(upper),
                    number: int(row, 0)? + 1,
                },
                None if others => Claim::Busy,
                None => Claim::AllDone,
            },
        })
    }

    /// Records the next range as claimed. False: another worker was faster.
    pub async fn insert(&self, tx: &mut Tx, chunk: &Chunk, owner: &str) -> Result<bool, WorkError> {
        let lease = after(tx.engine(), LEASE);
        let mut binds = self.binds();
        binds.extend([
            Value::Int(chunk.number),
            Value::Text(self.uid.clone()),
            key_value(chunk.lower.as_ref()),
            key_value(chunk.upper.as_ref()),
            Value::Text(owner.to_owned()),
        ]);
        let inserted = tx
            .execute(
                &format!(
                    "INSERT INTO _datamigration_chunks (migration, table_name, round, chunk, uid, lower_key, upper_key, \
                     owner, state, copied_rows, lease_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'Running', 0, {lease})"
                ),
                &binds,
            )
            .await;
        match inserted {
            Ok(_) => Ok(true),
            Err(StoreError::Duplicate { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves the lower end up (or closes the chunk) in the transaction that holds the rows. Only the owner can, and only
    /// from where it believes the chunk to be: a claim that was taken over, or a checkpoint that went backwards, is seen.
    pub async fn advance(
        &self,
        tx: &mut Tx,
        chunk: &Chunk,
        to: Option<&Key>,
        rows: i64,
        done: bool,
        owner: &str,
    ) -> Result<(), WorkError> {
        let lease = after(tx.engine(), LEASE);
        let mut binds = vec![
            key_value(to.or(chunk.lower.as_ref())),
            Value::Int(chunk.rows + rows),
            Value::Text(if done { "Done" } else { "Running" }.to_owned()),
        ];
        binds.extend(self.binds());
        binds.extend([
            Value::Int(chunk.number),
            Value::Text(owner.to_owned()),
            Value::Int(chunk.rows),
        ]);
        let changed = tx
            .execute(
                &format!(
                    "UPDATE _datamigration_chunks SET lower_key = ?, copied_rows = ?, state = ?, lease_until = {lease} \
                     WHERE {THIS} AND chunk = ? AND owner = ? AND state <> 'Done' AND copied_rows = ?"
                ),
                &binds,
            )
            .await?;
        if changed == 1 {
            return Ok(());
        }
        Err(WorkError::ClaimLost(format!(
            "chunk {} of table {} is no longer claimed by {owner} at the recorded progress; another worker goes on with it",
            chunk.number, self.table
        )))
    }

    /// The chunk as recorded, if this owner still holds it unfinished.
    pub async fn read(&self, tx: &mut Tx, number: i64, owner: &str) -> Result<Option<Chunk>, WorkError> {
        let mut binds = self.binds();
        binds.extend([Value::Int(number), Value::Text(owner.to_owned())]);
        let found = tx
            .query(
                &format!(
                    "SELECT chunk, lower_key, upper_key, copied_rows FROM _datamigration_chunks \
                     WHERE {THIS} AND chunk = ? AND owner = ? AND state <> 'Done'"
                ),
                &binds,
            )
            .await?;
        found
            .first()
            .map(|row| {
                Ok(Chunk {
                    number: int(row, 0)?,
                    lower: key(row, 1)?,
                    upper: key(row, 2)?,
                    rows: int(row, 3)?,
                })
            })
            .transpose()
    }

    /// Where the copy stands.
    pub async fn totals(&self, tx: &mut Tx) -> Result<Totals, WorkError> {
        let found = tx
            .query(
                &format!(
                    "SELECT COUNT(*), COUNT(CASE WHEN state = 'Done' THEN 1 END), CAST(COALESCE(SUM(copied_rows), 0) AS {big}), \
                     COUNT(CASE WHEN upper_key IS NULL THEN 1 END) FROM _datamigration_chunks WHERE {THIS}",
                    big = match tx.engine() {
                        Engine::MySql => "SIGNED",
                        Engine::Postgres => "BIGINT",
                    }
                ),
                &self.binds(),
            )
            .await?;
        match found.first() {
            Some(row) => Ok(Totals {
                chunks: int(row, 0)?,
                done: int(row, 1)?,
                rows: int(row, 2)?,
                divided: int(row, 3)? > 0,
            }),
            None => Ok(Totals::default()),
        }
    }

    /// Ranges of earlier rounds prove nothing any more.
    pub async fn forget_earlier_rounds(&self, tx: &mut Tx) -> Result<(), WorkError> {
        for table in ["_datamigration_chunks", "_datamigration_rejects"] {
            tx.execute(
                &format!("DELETE FROM {table} WHERE migration = ? AND table_name = ? AND round < ?"),
                &self.binds(),
            )
            .await?;
        }
        Ok(())
    }
}

/// The database's own clock plus a duration.
fn after(engine: Engine, wait: Duration) -> String {
    let micros = wait.as_micros();
    match engine {
        Engine::MySql => format!("(UTC_TIMESTAMP(6) + INTERVAL {micros} MICROSECOND)"),
        Engine::Postgres => format!("((clock_timestamp() AT TIME ZONE 'UTC') + INTERVAL '{micros} microseconds')"),
    }
}

fn key_value(key: Option<&Key>) -> Value {
    key.map_or(Value::Null, |key| Value::Text(key.to_json()))
}

/// An integer of a control table's row.
fn int(row: &[Value], at: usize) -> Result<i64, WorkError> {
    match row.get(at) {
        Some(Value::Int(value)) => Ok(*value),
        other => Err(unexpected(at, "an integer", other)),
    }
}

/// A text of a control table's row; NULL is `None`.
fn text(row: &[Value], at: usize) -> Result<Option<String>, WorkError> {
    match row.get(at) {
        Some(Value::Text(value)) => Ok(Some(value.clone())),
        Some(Value::Null) => Ok(None),
        other => Err(unexpected(at, "text", other)),
    }
}

fn key(row: &[Value], at: usize) -> Result<Option<Key>, WorkError> {
    text(row, at)?
        .map(|json| {
            Key::from_json(&json).map_err(|error| {
                WorkError::permanent(
                    "ControlTableDamaged",
                    format!("a key in a control table cannot be read: {json}: {error}"),
                )
            })
        })
        .transpose()
}

fn unexpected(at: usize, expected: &str, found: Option<&Value>) -> WorkError {
    WorkError::permanent(
        "ControlTableDamaged",
        format!(
            "column {at} of a control table's row should be {expected}, found {found:?}; the _datamigration_* tables are \
             written by datamigration alone: restore them, or start the migration again from SourceOnly"
        ),
    )
}
