//! Who copies which key range, and how far: chunk claims with owner and lease, kept in the follower so that progress
//! moves in the same transaction as the rows. Boundaries are found as the copy goes; the last chunk has no upper end.

use super::ControlError;
use super::sql::{int, later, now, optional_key};
use crate::rows::{Key, Value};
use crate::store::{Engine, StoreError, Tx};
use std::time::Duration;

const CHUNKS: &str = "_datamigration_chunks";

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
    pub async fn claim(&self, tx: &mut Tx, owner: &str) -> Result<Claim, ControlError> {
        let now = now(tx.engine());
        let open = tx
            .query(
                &format!(
                    "SELECT chunk, lower_key, upper_key, copied_rows, CASE WHEN lease_until < {now} THEN 1 ELSE 0 END \
                     FROM {CHUNKS} WHERE {THIS} AND state <> 'Done' ORDER BY chunk"
                ),
                &self.binds(),
            )
            .await?;
        let others = !open.is_empty();
        for row in open {
            let expired = int(&row, 4, CHUNKS)? != 0;
            if !expired {
                continue;
            }
            let chunk = Chunk {
                number: int(&row, 0, CHUNKS)?,
                lower: optional_key(&row, 1, CHUNKS)?,
                upper: optional_key(&row, 2, CHUNKS)?,
                rows: int(&row, 3, CHUNKS)?,
            };
            // Conditional: of two that saw the same expired lease, one changes the row.
            let lease = later(tx.engine(), LEASE);
            let mut binds = vec![Value::Text(owner.to_owned())];
            binds.extend(self.binds());
            binds.push(Value::Int(chunk.number));
            let taken = tx
                .execute(
                    &format!(
                        "UPDATE {CHUNKS} SET owner = ?, lease_until = {lease} \
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
                &format!("SELECT chunk, upper_key FROM {CHUNKS} WHERE {THIS} ORDER BY chunk DESC LIMIT 1"),
                &self.binds(),
            )
            .await?;
        Ok(match last.first() {
            None => Claim::Extend { after: None, number: 0 },
            Some(row) => match optional_key(row, 1, CHUNKS)? {
                Some(upper) => Claim::Extend {
                    after: Some(upper),
                    number: int(row, 0, CHUNKS)? + 1,
                },
                None if others => Claim::Busy,
                None => Claim::AllDone,
            },
        })
    }

    /// Records the next range as claimed. False: another worker was faster.
    pub async fn insert(&self, tx: &mut Tx, chunk: &Chunk, owner: &str) -> Result<bool, ControlError> {
        let lease = later(tx.engine(), LEASE);
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
                    "INSERT INTO {CHUNKS} (migration, table_name, round, chunk, uid, lower_key, upper_key, \
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
    /// from where it believes the chunk to be. False: the claim was taken over, or the checkpoint went backwards; the
    /// caller rolls back.
    pub async fn advance(
        &self,
        tx: &mut Tx,
        chunk: &Chunk,
        to: Option<&Key>,
        rows: i64,
        done: bool,
        owner: &str,
    ) -> Result<bool, ControlError> {
        let lease = later(tx.engine(), LEASE);
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
                    "UPDATE {CHUNKS} SET lower_key = ?, copied_rows = ?, state = ?, lease_until = {lease} \
                     WHERE {THIS} AND chunk = ? AND owner = ? AND state <> 'Done' AND copied_rows = ?"
                ),
                &binds,
            )
            .await?;
        Ok(changed == 1)
    }

    /// The chunk as recorded, if this owner still holds it unfinished.
    pub async fn read(&self, tx: &mut Tx, number: i64, owner: &str) -> Result<Option<Chunk>, ControlError> {
        let mut binds = self.binds();
        binds.extend([Value::Int(number), Value::Text(owner.to_owned())]);
        let found = tx
            .query(
                &format!(
                    "SELECT chunk, lower_key, upper_key, copied_rows FROM {CHUNKS} \
                     WHERE {THIS} AND chunk = ? AND owner = ? AND state <> 'Done'"
                ),
                &binds,
            )
            .await?;
        found
            .first()
            .map(|row| {
                Ok(Chunk {
                    number: int(row, 0, CHUNKS)?,
                    lower: optional_key(row, 1, CHUNKS)?,
                    upper: optional_key(row, 2, CHUNKS)?,
                    rows: int(row, 3, CHUNKS)?,
                })
            })
            .transpose()
    }

    /// Where the copy stands.
    pub async fn totals(&self, tx: &mut Tx) -> Result<Totals, ControlError> {
        let found = tx
            .query(
                &format!(
                    "SELECT COUNT(*), COUNT(CASE WHEN state = 'Done' THEN 1 END), CAST(COALESCE(SUM(copied_rows), 0) AS {big}), \
                     COUNT(CASE WHEN upper_key IS NULL THEN 1 END) FROM {CHUNKS} WHERE {THIS}",
                    big = match tx.engine() {
                        Engine::MySql => "SIGNED",
                        Engine::Postgres | Engine::Sqlite => "BIGINT",
                    }
                ),
                &self.binds(),
            )
            .await?;
        match found.first() {
            Some(row) => Ok(Totals {
                chunks: int(row, 0, CHUNKS)?,
                done: int(row, 1, CHUNKS)?,
                rows: int(row, 2, CHUNKS)?,
                divided: int(row, 3, CHUNKS)? > 0,
            }),
            None => Ok(Totals::default()),
        }
    }

    /// Ranges of earlier rounds prove nothing any more.
    pub async fn forget_earlier_rounds(&self, tx: &mut Tx) -> Result<(), ControlError> {
        for table in [CHUNKS, super::rejects::REJECTS] {
            tx.execute(
                &format!("DELETE FROM {table} WHERE migration = ? AND table_name = ? AND round < ?"),
                &self.binds(),
            )
            .await?;
        }
        Ok(())
    }
}

fn key_value(key: Option<&Key>) -> Value {
    key.map_or(Value::Null, |key| Value::Text(key.to_json()))
}
