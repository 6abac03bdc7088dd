//! Generated keys across a flip: the next base's sequences are moved past every key that either side holds, and while
//! two bases hand out keys at once the source's are odd and the target's even. MySQL's AUTO_INCREMENT follows the rows
//! by itself, and its parity is a setting of the application's sessions: nothing is done there.

use super::error::WorkError;
use crate::rows::Value;
use crate::store::{Engine, Ident, TablePair, Tx};
use crate::words::{SecondaryWrites, Side};

/// A sequence of one side, and the highest key that either side holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Quoted as the server wants it.
    pub name: String,
    /// Over both sides; `None`: no rows.
    pub highest: Option<i64>,
}

/// Where the keys of one pair come from on one side.
pub fn of_pair(pair: &TablePair, side: Side) -> Option<(String, Ident, Ident)> {
    let ours = pair.plain(side);
    if ours.engine != Engine::Postgres {
        return None;
    }
    let generated = ours.generated_key()?;
    let sequence = generated.sequence.clone()?;
    let position = ours
        .columns
        .iter()
        .position(|column| column.name.as_str() == generated.name)?;
    Some((
        sequence,
        pair.plain(Side::Source).columns.get(position)?.name.clone(),
        pair.plain(Side::Target).columns.get(position)?.name.clone(),
    ))
}

/// The highest value of a table's key column.
pub async fn highest(tx: &mut Tx, table: &Ident, column: &Ident) -> Result<Option<i64>, WorkError> {
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

/// Makes the base's sequence fit for an epoch, in the transaction that raises it: no write of an application is in
/// flight there, and no other worker can come between.
pub async fn hand_over(
    tx: &mut Tx,
    side: Side,
    secondary: SecondaryWrites,
    sequence: &Sequence,
) -> Result<(), WorkError> {
    let name = &sequence.name;
    let state = tx
        .query(&format!("SELECT last_value, is_called FROM {name}"), &[])
        .await?;
    let (Some(Value::Int(last)), Some(called)) = (
        state.first().and_then(|row| row.first()),
        state.first().and_then(|row| row.get(1)),
    ) else {
        return Err(WorkError::permanent(
            "SequenceUnreadable",
            format!("sequence {name} answers {state:?}"),
        ));
    };
    let called = !matches!(called, Value::Int(0));
    let by = tx
        .query(
            "SELECT seqincrement FROM pg_catalog.pg_sequence WHERE seqrelid = CAST(? AS regclass)",
            &[Value::Text(name.clone())],
        )
        .await?;
    let by = by
        .into_iter()
        .flatten()
        .next()
        .and_then(|value| value.as_i64())
        .unwrap_or(1);
    let (increment, next) = wanted(side, secondary, *last, called, sequence.highest);
    // A team's own step other than 1 is left as it is, outside of strict epochs.
    if by != increment && (increment == 2 || by == 2) {
        tx.execute(&format!("ALTER SEQUENCE {name} INCREMENT BY {increment}"), &[])
            .await?;
    }
    tx.query(
        "SELECT setval(CAST(? AS regclass), ?, false)",
        &[Value::Text(name.clone()), Value::Int(next)],
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
    fn a_lenient_epoch_counts_by_one_and_wastes_nothing() {
        assert_eq!(wanted(Side::Target, Lenient, 42, true, Some(10)), (1, 43));
        assert_eq!(wanted(Side::Target, Lenient, 1, false, None), (1, 1));
        assert_eq!(wanted(Side::Target, Lenient, 1, false, Some(200_000)), (1, 200_001));
    }
}
