//! Checks of what the manifest says in SQL: conditions and expressions are run on real rows of the side whose SQL they are,
//! and a sample goes to the target's columns and back, so that a way back that does not exist is known before it is needed.

use crate::api::migration::Table;
use crate::api::tuning::RollbackPolicy;
use crate::rows::{Key, Row};
use crate::store::{Lock, StoreError, TablePair, TableSide, TxOptions};
use crate::words::{Direction, Side};
use crate::workers::context::{Shard, TaskContext};
use crate::workers::error::WorkError;
use crate::workers::preflight::findings::Findings;
use std::collections::BTreeMap;
use std::time::Duration;

/// The reason of a mapping without a way back; the gate before `TargetFirst` looks for it.
pub const NOT_REVERSIBLE: &str = "NotReversible";
/// Rows that are tried.
const SAMPLE: u32 = 1_000;
/// Rows that are shown as examples.
const EXAMPLES: usize = 3;

/// All of it, for a table whose columns fit.
pub async fn check(
    context: &TaskContext,
    (source, target): (&Shard, &Shard),
    table: &Table,
    pair: &TablePair,
    found: &mut Findings,
) -> Result<(), WorkError> {
    let before = found.failures();
    for (shard, side, field) in [
        (source, pair.base(Direction::Forward), "expression"),
        (target, pair.base(Direction::Reverse), "reverse"),
    ] {
        condition(shard, side, table, found).await?;
        expressions(shard, side, 0, &format!("columns[].{field}"), found).await?;
    }
    if let Some(sides) = pair.compared(Direction::Forward) {
        let field = "compare.custom[]";
        for (shard, side, name) in [(source, &sides.base, "source"), (target, &sides.follower, "target")] {
            let carried = pair.source.columns.len();
            expressions(shard, side, carried, &format!("{field}.{name}"), found).await?;
        }
    }
    if found.failures() > before {
        return Ok(());
    }
    let mut lost = pair.one_way.clone();
    if pair.computes() && lost.is_empty() {
        lost.extend(there_and_back(source, target, pair).await?);
    }
    way_back(context, table, pair, &lost, found);
    Ok(())
}

async fn condition(shard: &Shard, side: &TableSide, table: &Table, found: &mut Findings) -> Result<(), WorkError> {
    let Some(filter) = &side.filter else { return Ok(()) };
    let name = format!("Where {} {}", side.table.as_str(), shard.database.label());
    let mut tx = shard.database.begin(patient()).await?;
    let tried = tx.try_filter(side, SAMPLE).await;
    tx.rollback().await;
    match tried {
        Ok(()) => found.passed(
            name,
            format!("the condition ({filter}) can be used in {}", shard.database.label()),
        ),
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(error) => {
            let field = match (side.side, &table.target_filter) {
                (Side::Source, _) => "correct spec.tables[].where".to_owned(),
                (Side::Target, Some(_)) => "correct spec.tables[].whereTarget".to_owned(),
                (Side::Target, None) => {
                    "it is used there as it is in `where`: give the same condition in the target's SQL and \
                                         column names as spec.tables[].whereTarget"
                        .to_owned()
                }
            };
            let text = format!(
                "the condition ({filter}) cannot be used on table {} of {}: {error}; {field}",
                side.table.as_str(),
                shard.database.label()
            );
            found.failed(name, "ConditionFails", text);
        }
    }
    Ok(())
}

/// `from`: the first column that is looked at.
async fn expressions(
    shard: &Shard,
    side: &TableSide,
    from: usize,
    field: &str,
    found: &mut Findings,
) -> Result<(), WorkError> {
    for (at, column) in side.columns.iter().enumerate().skip(from) {
        let Some(expression) = &column.computed else { continue };
        let label = shard.database.label();
        let name = format!("Expression {} {label}", column.name.as_str());
        let mut tx = shard.database.begin(patient()).await?;
        let tried = tx.try_column(side, at, SAMPLE).await;
        tx.rollback().await;
        match tried {
            Ok(()) => found.passed(
                name,
                format!("the expression ({expression}) computes a {} in {label}", column.carry),
            ),
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) => {
                let text = format!(
                    "column {}: its expression ({expression}), run on table {} of {label}, does not give a {}: {error}; correct \
                     spec.tables[].{field}",
                    column.name.as_str(),
                    side.table.as_str(),
                    column.carry
                );
                found.failed(name, "ExpressionFails", text);
            }
        }
    }
    Ok(())
}

/// Sends a sample through the target's columns, in a scratch table there, and compares what comes back.
async fn there_and_back(source: &Shard, target: &Shard, pair: &TablePair) -> Result<Option<String>, WorkError> {
    let (up, plain) = (pair.base(Direction::Forward), pair.plain(Side::Source));
    let mut tx = source.database.begin(patient()).await?;
    let sent = tx.read_after(up, None, None, SAMPLE).await?;
    let keys: Vec<Key> = sent.iter().map(|row| up.key_of(row)).collect();
    let held = if keys.is_empty() {
        Vec::new()
    } else {
        tx.read_keys(plain, &keys, Lock::None).await?
    };
    tx.rollback().await;
    if sent.is_empty() {
        return Ok(None);
    }
    let came = match through_target(target, pair, &sent).await {
        Ok(came) => by_key(pair.base(Direction::Reverse), came),
        // What the target does not take is the copy's to reject, row by row, and no matter of the way back.
        Err(StoreError::Data { message, .. } | StoreError::Duplicate { message, .. }) => {
            return Ok(Some(format!(
                "the first {} rows could not all be sent through the target's columns: {message}",
                sent.len()
            )));
        }
        Err(error) => return Err(error.into()),
    };
    let held = by_key(plain, held);
    let comparison = pair.comparison(Direction::Reverse);
    let mut examples = Vec::new();
    let mut differing = 0_usize;
    for row in &sent {
        let key = up.key_of(row);
        let (Some(was), Some(is)) = (held.get(&key), came.get(&key)) else {
            continue;
        };
        // Changed between the two reads.
        if plain.version_of(was) != up.version_of(row) {
            continue;
        }
        let columns = comparison.differing(is, was);
        if columns.is_empty() {
            continue;
        }
        differing += 1;
        if examples.len() < EXAMPLES {
            examples.extend(columns.iter().take(1).map(|&at| example(plain, &key, at, was, is)));
        }
    }
    Ok((differing > 0).then(|| {
        format!(
            "of {} rows that were sent through the target's columns and back {differing} came back changed: {}",
            sent.len(),
            examples.join(", ")
        )
    }))
}

fn example(side: &TableSide, key: &Key, at: usize, was: &Row, is: &Row) -> String {
    let name = side.columns[at].name.as_str();
    format!(
        "key {key}: {name} {:?} came back as {:?}",
        was.values[at], is.values[at]
    )
}

async fn through_target(target: &Shard, pair: &TablePair, rows: &[Row]) -> Result<Vec<Row>, StoreError> {
    let mut tx = target
        .database
        .begin(TxOptions {
            read_only: false,
            ..patient()
        })
        .await?;
    let scratch = tx.scratch_like(pair.follower(Direction::Forward)).await?;
    let came = async {
        tx.put(&scratch, rows).await?;
        let back = pair.base(Direction::Reverse).on(&scratch);
        tx.read_after(&back, None, None, SAMPLE).await
    }
    .await;
    let dropped = match &came {
        Ok(_) => tx.drop_scratch(&scratch).await,
        // PostgreSQL's is gone with its transaction; the session's end takes MySQL's.
        Err(_) => Ok(()),
    };
    tx.rollback().await;
    dropped.and(came)
}

fn way_back(context: &TaskContext, table: &Table, pair: &TablePair, lost: &[String], found: &mut Findings) {
    let name = format!("Way back {}", table.name);
    if lost.is_empty() {
        if pair.computes() {
            found.passed(
                name,
                format!("what is computed for {} finds its way back, on a sample", table.target),
            );
        }
        return;
    }
    let remedy = match context.migration.rollback {
        RollbackPolicy::None => "spec.rollback is None: TargetFirst is entered all the same, without a way back",
        _ => "SourceFirst can be entered; TargetFirst cannot, unless this is corrected or spec.rollback is None",
    };
    let text = format!(
        "rows of table {} cannot be carried back to the source: {}. {remedy}",
        table.name,
        lost.join("; ")
    );
    found.warned(name, NOT_REVERSIBLE, text);
}

fn by_key(side: &TableSide, rows: Vec<Row>) -> BTreeMap<Key, Row> {
    rows.into_iter().map(|row| (side.key_of(&row), row)).collect()
}

fn patient() -> TxOptions {
    TxOptions {
        statement_timeout: Some(Duration::from_secs(30)),
        ..TxOptions::read_only()
    }
}
