//! Generated keys across a flip: the next base's counter (a sequence, an AUTO_INCREMENT) is moved past every key that either
//! side holds or has handed out, and while two bases hand out keys at once the source's are odd and the target's even
//! (MySQL's parity is a setting of the application's sessions). Checked again before an epoch is closed.

use super::error::WorkError;
use crate::rows::Value;
use crate::store::{Database, Engine, Ident, StoreError, TablePair, Tx, TxOptions};
use crate::words::{SecondaryWrites, Side};
use std::time::Duration;

/// Where one side's keys of one table come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    table: Ident,
    column: Ident,
    /// PostgreSQL: the sequence, quoted as the server wants it.
    sequence: Option<String>,
}

/// What a counter has to have left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    counter: Counter,
    /// The lowest key that neither side holds or has handed out.
    unused: i64,
    /// The lowest above all keys that are there.
    free: i64,
}

/// How far a side has come with its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// `None`: no rows.
    highest: Option<i64>,
    /// What is handed out next, or lower; 0 where keys are not handed out.
    next: i64,
}

impl State {
    /// Whatever is further of two.
    pub fn or_further(self, other: Self) -> Self {
        Self {
            highest: self.highest.max(other.highest),
            next: self.next.max(other.next),
        }
    }
}

impl Counter {
    /// The key column of one side that hands out its values. PostgreSQL's default of another kind than a sequence is
    /// nobody's to move.
    pub fn of(pair: &TablePair, side: Side) -> Option<Self> {
        let ours = pair.plain(side);
        let generated = ours.generated_key()?;
        if ours.engine == Engine::Postgres && generated.sequence.is_none() {
            return None;
        }
        Some(Self {
            table: ours.table.clone(),
            column: Ident::new(generated.name.clone()).ok()?,
            sequence: generated.sequence.clone(),
        })
    }

    /// The same column on the other side, whether it hands out keys there or not.
    pub fn opposite(&self, pair: &TablePair, side: Side) -> Option<Self> {
        let (ours, theirs) = match side {
            Side::Source => (pair.plain(Side::Source), pair.plain(Side::Target)),
            Side::Target => (pair.plain(Side::Target), pair.plain(Side::Source)),
        };
        let position = ours.columns.iter().position(|column| column.name == self.column)?;
        let column = theirs.columns.get(position)?.name.clone();
        let generated = theirs.schema.column(column.as_str());
        Some(Self {
            table: theirs.table.clone(),
            column,
            sequence: generated.and_then(|generated| generated.sequence.clone()),
        })
    }

    /// Reads how far it has come.
    pub async fn state(&self, tx: &mut Tx) -> Result<State, WorkError> {
        Ok(State {
            highest: highest(tx, &self.table, &self.column).await?,
            next: self.next(tx).await?,
        })
    }

    async fn next(&self, tx: &mut Tx) -> Result<i64, WorkError> {
        match (tx.engine(), &self.sequence) {
            (Engine::Postgres, None) | (Engine::Sqlite, _) => Ok(0),
            (Engine::Postgres, Some(sequence)) => {
                let (last, called) = position(tx, sequence).await?;
                Ok(if called { last.saturating_add(1) } else { last })
            }
            (Engine::MySql, _) => {
                // The catalogue's own figure may be a day old.
                let sql = format!("SHOW CREATE TABLE {}", self.table.quoted(Engine::MySql));
                let rows = tx.query(&sql, &[]).await?;
                let text = rows
                    .first()
                    .and_then(|row| row.get(1))
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                Ok(auto_increment(text))
            }
        }
    }

    fn name(&self) -> String {
        format!("{}.{}", self.table.as_str(), self.column.as_str())
    }
}

/// MySQL's counter out of the table's definition: among the options behind the last parenthesis of a line of its own.
fn auto_increment(definition: &str) -> i64 {
    let options = definition.rsplit_once("\n)").map_or("", |(_, options)| options);
    options
        .split_once("AUTO_INCREMENT=")
        .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
        .unwrap_or(1)
}

impl Handover {
    /// `ours` and `theirs`: both sides as they are.
    pub fn new(counter: Counter, ours: State, theirs: State) -> Self {
        let above = |highest: Option<i64>| highest.map_or(1, |highest| highest.saturating_add(1));
        let free = above(ours.highest).max(above(theirs.highest));
        Self {
            counter,
            unused: free.max(theirs.next),
            free,
        }
    }

    /// MySQL's part, which ends any transaction it is said in, and so comes before the epoch's own: the counter is moved,
    /// if it has to be. That an account may not is no obstacle as long as no key that is there is handed out again, which
    /// `check` finds out.
    pub async fn move_auto_increment(&self, database: &Database) -> Result<(), WorkError> {
        if database.engine() != Engine::MySql {
            return Ok(());
        }
        let mut tx = database.begin(TxOptions::bounded(Duration::from_secs(2))).await?;
        let next = self.counter.next(&mut tx).await?;
        if next >= self.unused {
            tx.rollback().await;
            return Ok(());
        }
        let table = self.counter.table.quoted(Engine::MySql);
        let moved = tx
            .execute(&format!("ALTER TABLE {table} AUTO_INCREMENT = {}", self.unused), &[])
            .await;
        tx.rollback().await;
        match moved {
            Ok(_) => {
                tracing::info!(
                    table = self.counter.table.as_str(),
                    next = self.unused,
                    "AUTO_INCREMENT moved"
                );
                Ok(())
            }
            Err(error @ StoreError::Privilege { .. }) => {
                tracing::warn!(%error, table = self.counter.table.as_str(), "AUTO_INCREMENT is left where it is");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// PostgreSQL's part, in the transaction that raises or closes the epoch: no write of an application is in flight
    /// there, and no other worker can come between.
    pub async fn move_sequence(&self, tx: &mut Tx, side: Side, secondary: SecondaryWrites) -> Result<(), WorkError> {
        match &self.counter.sequence {
            Some(name) if tx.engine() == Engine::Postgres => {
                hand_over(tx, side, secondary, name, self.unused - 1).await
            }
            _ => Ok(()),
        }
    }

    /// The counter is past every key that is there, or the epoch is not closed.
    pub async fn check(&self, tx: &mut Tx) -> Result<(), WorkError> {
        let next = self.counter.next(tx).await?;
        if next >= self.free {
            return Ok(());
        }
        Err(WorkError::permanent(
            "CounterLags",
            format!(
                "the counter of {} in {} hands out {next} next, and keys up to {} are there: new rows would be refused as duplicates; \
                 the epoch is not closed before it is past them. Give the account ALTER on the table, or move the counter yourself",
                self.counter.name(),
                tx.label(),
                self.free - 1
            ),
        ))
    }
}

/// The highest value of a table's key column.
async fn highest(tx: &mut Tx, table: &Ident, column: &Ident) -> Result<Option<i64>, WorkError> {
    let engine = tx.engine();
    let sql = format!("SELECT MAX({}) FROM {}", column.quoted(engine), table.quoted(engine));
    match tx.query(&sql, &[]).await?.into_iter().flatten().next() {
        Some(Value::Int(highest)) => Ok(Some(highest)),
        None | Some(Value::Null) => Ok(None),
        Some(other) => Err(WorkError::permanent(
            "KeyUnsuitable",
            format!(
                "the highest {} of {} is {other:?}: beyond what a sequence can hand out",
                column.as_str(),
                table.as_str()
            ),
        )),
    }
}

/// What a sequence has to be for an epoch.
fn wanted(side: Side, secondary: SecondaryWrites, last: i64, called: bool, highest: Option<i64>) -> (i64, i64) {
    let increment = match secondary {
        SecondaryWrites::Strict => 2,
        SecondaryWrites::Lenient => 1,
    };
    let unused = if called { last.saturating_add(1) } else { last };
    let mut next = unused
        .max(highest.map_or(1, |highest| highest.saturating_add(1)))
        .max(1);
    let odd = side == Side::Source;
    if increment == 2 && (next % 2 == 1) != odd {
        next = next.saturating_add(1);
    }
    (increment, next)
}

/// Last value, and whether it has been handed out.
async fn position(tx: &mut Tx, sequence: &str) -> Result<(i64, bool), WorkError> {
    let state = tx
        .query(&format!("SELECT last_value, is_called FROM {sequence}"), &[])
        .await?;
    match state.first().map(Vec::as_slice) {
        Some([Value::Int(last), called]) => Ok((*last, !matches!(called, Value::Int(0)))),
        _ => Err(WorkError::permanent(
            "SequenceUnreadable",
            format!("sequence {sequence} answers {state:?}"),
        )),
    }
}

async fn hand_over(
    tx: &mut Tx,
    side: Side,
    secondary: SecondaryWrites,
    name: &str,
    highest: i64,
) -> Result<(), WorkError> {
    let (last, called) = position(tx, name).await?;
    let by = tx
        .query(
            "SELECT seqincrement FROM pg_catalog.pg_sequence WHERE seqrelid = CAST(? AS regclass)",
            &[Value::Text(name.to_owned())],
        )
        .await?;
    let by = by
        .into_iter()
        .flatten()
        .next()
        .and_then(|value| value.as_i64())
        .unwrap_or(1);
    let (increment, next) = wanted(side, secondary, last, called, Some(highest));
    // A team's own step other than 1 is left as it is, outside of strict epochs.
    if by != increment && (increment == 2 || by == 2) {
        tx.execute(&format!("ALTER SEQUENCE {name} INCREMENT BY {increment}"), &[])
            .await?;
    }
    tx.query(
        "SELECT setval(CAST(? AS regclass), ?, false)",
        &[Value::Text(name.to_owned()), Value::Int(next)],
    )
    .await?;
    tracing::info!(sequence = name, increment, next, "sequence handed over");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use SecondaryWrites::{Lenient, Strict};

    #[test]
    fn the_two_sides_never_hand_out_the_same_key() {
        for highest in [None, Some(-5), Some(0), Some(41), Some(42)] {
            for last in [1, 7, 41, 42, 43, 100] {
                let (by, source) = wanted(Side::Source, Strict, last, true, highest);
                assert_eq!((by, source % 2), (2, 1));
                let (by, target) = wanted(Side::Target, Strict, last, true, highest);
                assert_eq!((by, target % 2), (2, 0));
                assert!(source > last && target > last);
                assert!(source > highest.unwrap_or(0) && target > highest.unwrap_or(0));
            }
        }
    }

    #[test]
    fn a_counter_is_moved_past_what_either_side_holds_or_has_handed_out() {
        let counter = || Counter {
            table: Ident::new("orders").unwrap(),
            column: Ident::new("id").unwrap(),
            sequence: None,
        };
        let state = |highest, next| State { highest, next };
        let handover = |ours, theirs| {
            let handover = Handover::new(counter(), ours, theirs);
            (handover.free, handover.unused)
        };
        // Keys up to 1,000 were handed out there, and the last hundred rows are gone.
        assert_eq!(handover(state(Some(900), 901), state(Some(900), 1_001)), (901, 1_001));
        assert_eq!(handover(state(None, 1), state(Some(41), 0)), (42, 42));
        assert_eq!(handover(state(None, 0), state(None, 0)), (1, 1));
        assert_eq!(handover(state(Some(-5), 1), state(None, 1)), (1, 1));
    }

    #[test]
    fn auto_increment_is_read_from_the_options_alone() {
        let table = "CREATE TABLE `orders` (\n  `id` bigint(20) NOT NULL AUTO_INCREMENT COMMENT 'AUTO_INCREMENT=7',\n  PRIMARY KEY \
                     (`id`)\n) ENGINE=InnoDB AUTO_INCREMENT=42 DEFAULT CHARSET=utf8mb4";
        assert_eq!(auto_increment(table), 42);
        assert_eq!(auto_increment("CREATE TABLE `o` (\n  `id` int\n) ENGINE=InnoDB"), 1);
    }

    #[test]
    fn a_lenient_epoch_counts_by_one_and_wastes_nothing() {
        assert_eq!(wanted(Side::Target, Lenient, 42, true, Some(10)), (1, 43));
        assert_eq!(wanted(Side::Target, Lenient, 1, false, None), (1, 1));
        assert_eq!(wanted(Side::Target, Lenient, 1, false, Some(200_000)), (1, 200_001));
    }
}
