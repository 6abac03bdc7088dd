//! What a full verify has compared, range by range, kept in the follower: a pass that starts again goes on where it was,
//! and counts as verified only what was compared and settled, by the same columns and rules.

use super::ControlError;
use super::sql::{int, now, optional_key, optional_text, text, time_bind, time_text};
use crate::rows::{Key, Value};
use crate::store::Tx;

const TABLE: &str = "_datamigration_verified";
/// In place of a sweep: the pass came to its end.
const END: &str = "End";
/// In place of a sweep: its worker ended before the table did, and another one is to go on.
const PAUSED: &str = "Paused";

/// One pass over one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassId {
    /// `namespace/name`.
    pub migration: String,
    /// The DataMigration's UID.
    pub uid: String,
    /// The source table's name.
    pub table: String,
    /// Tells this pass from every other.
    pub pass: String,
    /// A digest of both schemas and of how columns are compared: ranges that were compared in another way do not count.
    pub compared: String,
}

/// What was found in a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub base_rows: i64,
    pub follower_rows: i64,
    pub target_missing: i64,
    pub neq: i64,
    pub base_missing: i64,
    pub repaired: i64,
}

/// A range as it is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Its place in the order of the key.
    pub number: i64,
    /// After this key; `None`: from the first row.
    pub lower: Option<Key>,
    /// Up to and including this key; `None`: to the last row.
    pub upper: Option<Key>,
    /// Compared, and everything that it owed settled; `None`: begun.
    pub verified: Option<Found>,
}

/// Makes the table where an earlier release's control tables lack it. Before `begin`, in a transaction of its own.
pub async fn ensure(tx: &mut Tx) -> Result<(), ControlError> {
    super::ddl::ensure(tx, TABLE).await
}

impl PassId {
    fn binds(&self) -> Vec<Value> {
        [&self.migration, &self.table, &self.pass]
            .into_iter()
            .map(|text| Value::from(text.as_str()))
            .collect()
    }

    /// Of the same direction and epoch, whichever worker began it.
    fn kin(&self, other: &str) -> bool {
        let head = |pass: &str| pass.rsplit_once('-').map(|(head, _)| head.to_owned());
        head(&self.pass) == head(other)
    }

    /// Takes over the pass of an earlier worker that ended before the table did.
    async fn take_over(&self, tx: &mut Tx) -> Result<(), ControlError> {
        let binds = [&self.migration, &self.table, &self.compared].map(|text| Value::from(text.as_str()));
        let paused = tx
            .query(
                &format!(
                    "SELECT pass FROM {TABLE} WHERE migration = ? AND table_name = ? AND compared = ? AND sweep = '{PAUSED}'"
                ),
                &binds,
            )
            .await?;
        for row in &paused {
            let pass = text(row, 0, TABLE)?;
            if !self.kin(&pass) {
                continue;
            }
            let named = [&self.migration, &self.table, &pass].map(|text| Value::from(text.as_str()));
            tx.execute(
                &format!(
                    "DELETE FROM {TABLE} WHERE migration = ? AND table_name = ? AND pass = ? AND sweep = '{PAUSED}'"
                ),
                &named,
            )
            .await?;
            if pass != self.pass {
                let renamed = [&self.pass, &self.migration, &self.table, &pass].map(|text| Value::from(text.as_str()));
                tx.execute(
                    &format!("UPDATE {TABLE} SET pass = ? WHERE migration = ? AND table_name = ? AND pass = ?"),
                    &renamed,
                )
                .await?;
            }
            return Ok(());
        }
        Ok(())
    }

    /// Begins the pass, or goes on with it: forgets what other passes recorded of the table, and what this one compared in
    /// another way. `clock`: the base's. Answers when the pass first began, by the base's clock.
    pub async fn begin(&self, tx: &mut Tx, clock: &str) -> Result<String, ControlError> {
        self.take_over(tx).await?;
        let ended = tx
            .query(
                &format!(
                    "SELECT 1 FROM {TABLE} WHERE migration = ? AND table_name = ? AND pass = ? AND sweep = '{END}'"
                ),
                &self.binds(),
            )
            .await?;
        if !ended.is_empty() {
            // A pass that came to its end is not gone on with, however soon the next one begins.
            tx.execute(
                &format!("DELETE FROM {TABLE} WHERE migration = ? AND table_name = ? AND pass = ?"),
                &self.binds(),
            )
            .await?;
        }
        let mut binds = self.binds();
        binds.push(Value::from(self.compared.as_str()));
        tx.execute(
            &format!("DELETE FROM {TABLE} WHERE migration = ? AND table_name = ? AND (pass <> ? OR compared <> ?)"),
            &binds,
        )
        .await?;
        let began = time_text(tx.engine(), "MIN(began)");
        let rows = tx
            .query(
                &format!("SELECT {began} FROM {TABLE} WHERE migration = ? AND table_name = ? AND pass = ?"),
                &self.binds(),
            )
            .await?;
        let began = optional_text(rows.first().map_or(&[Value::Null], Vec::as_slice), 0, TABLE)?;
        Ok(began.unwrap_or_else(|| clock.to_owned()))
    }

    /// Records that the pass came to its end.
    pub async fn end(&self, tx: &mut Tx, began: &str) -> Result<(), ControlError> {
        self.open(tx, END, began, (0, None, None)).await
    }

    /// Records that the worker ended before the table did: the next one goes on from here.
    pub async fn pause(&self, tx: &mut Tx, began: &str) -> Result<(), ControlError> {
        self.open(tx, PAUSED, began, (0, None, None)).await
    }

    /// The ranges of a sweep, in the order of the key.
    pub async fn ranges(&self, tx: &mut Tx, sweep: &str) -> Result<Vec<Recorded>, ControlError> {
        let mut binds = self.binds();
        binds.push(Value::from(sweep));
        let rows = tx
            .query(
                &format!(
                    "SELECT chunk, lower_key, upper_key, state, base_rows, follower_rows, target_missing, neq, base_missing, \
                     repaired FROM {TABLE} WHERE migration = ? AND table_name = ? AND pass = ? AND sweep = ? ORDER BY chunk"
                ),
                &binds,
            )
            .await?;
        rows.iter()
            .map(|row| {
                let found = Found {
                    base_rows: int(row, 4, TABLE)?,
                    follower_rows: int(row, 5, TABLE)?,
                    target_missing: int(row, 6, TABLE)?,
                    neq: int(row, 7, TABLE)?,
                    base_missing: int(row, 8, TABLE)?,
                    repaired: int(row, 9, TABLE)?,
                };
                Ok(Recorded {
                    number: int(row, 0, TABLE)?,
                    lower: optional_key(row, 1, TABLE)?,
                    upper: optional_key(row, 2, TABLE)?,
                    verified: (text(row, 3, TABLE)? == "Verified").then_some(found),
                })
            })
            .collect()
    }

    /// Records ranges that are about to be compared.
    pub async fn open(
        &self,
        tx: &mut Tx,
        sweep: &str,
        began: &str,
        (number, lower, upper): (i64, Option<&Key>, Option<&Key>),
    ) -> Result<(), ControlError> {
        let engine = tx.engine();
        let key = |key: Option<&Key>| key.map_or(Value::Null, |key| Value::Text(key.to_json()));
        let mut binds = self.binds();
        binds.extend([
            Value::from(sweep),
            Value::Int(number),
            Value::from(self.uid.as_str()),
            Value::from(self.compared.as_str()),
            key(lower),
            key(upper),
            Value::from(began),
        ]);
        tx.execute(
            &format!(
                "INSERT INTO {TABLE} (migration, table_name, pass, sweep, chunk, uid, compared, lower_key, upper_key, state, \
                 base_rows, follower_rows, target_missing, neq, base_missing, repaired, began, changed_at) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'Open', 0, 0, 0, 0, 0, 0, {}, {})",
                time_bind(engine),
                now(engine)
            ),
            &binds,
        )
        .await?;
        Ok(())
    }

    /// Records that a range is compared and settled, with what was found. Only the very range that was: another worker of
    /// the same pass may have recorded another one under the number.
    pub async fn close(
        &self,
        tx: &mut Tx,
        sweep: &str,
        (number, lower, upper): (i64, Option<&Key>, Option<&Key>),
        found: &Found,
    ) -> Result<(), ControlError> {
        let mut binds = [
            found.base_rows,
            found.follower_rows,
            found.target_missing,
            found.neq,
            found.base_missing,
            found.repaired,
        ]
        .map(Value::Int)
        .to_vec();
        binds.extend(self.binds());
        let key = |key: Option<&Key>| Value::Text(key.map(Key::to_json).unwrap_or_default());
        binds.extend([Value::from(sweep), Value::Int(number), key(lower), key(upper)]);
        tx.execute(
            &format!(
                "UPDATE {TABLE} SET state = 'Verified', base_rows = ?, follower_rows = ?, target_missing = ?, neq = ?, \
                 base_missing = ?, repaired = ?, changed_at = {} \
                 WHERE migration = ? AND table_name = ? AND pass = ? AND sweep = ? AND chunk = ? \
                 AND COALESCE(lower_key, '') = ? AND COALESCE(upper_key, '') = ?",
                now(tx.engine())
            ),
            &binds,
        )
        .await?;
        Ok(())
    }
}
