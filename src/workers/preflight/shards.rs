//! Checks of sharded tables: all shards of a side are alike, a row's shard follows from its key in both engines, no shard
//! hands out keys of its own, and the base's rows lie where they belong.

use crate::api::migration::Table;
use crate::store::{TablePair, TableSchema, TxOptions};
use crate::words::{Direction, Side};
use crate::workers::clock;
use crate::workers::context::TaskContext;
use crate::workers::error::WorkError;
use crate::workers::legs::{Divisions, Leg};
use crate::workers::preflight::findings::Findings;
use std::time::{Duration, Instant};

/// How long one shard may be searched for rows that do not belong there; the full verify has no such limit.
const SEARCH: Duration = Duration::from_secs(30);

/// The table has the same columns and the same primary key in every shard of a side.
pub fn alike(side: Side, context: &TaskContext, shards: &[Option<TableSchema>], found: &mut Findings) {
    let mut there = shards
        .iter()
        .enumerate()
        .filter_map(|(at, schema)| Some((at, schema.as_ref()?)));
    let Some((first_at, first)) = there.next() else { return };
    let label = |at: usize| context.shards(side).get(at).map_or("", |shard| shard.database.label());
    for (at, other) in there {
        if let Some(what) = difference(first, other) {
            let text = format!(
                "table {} of {} and {} of {} differ: {what}; give all shards of a side the same columns and key",
                first.name,
                label(first_at),
                other.name,
                label(at)
            );
            found.failed(format!("Shards {} {}", other.name, label(at)), "ShardsDiffer", text);
        }
    }
}

fn difference(first: &TableSchema, other: &TableSchema) -> Option<String> {
    if first.primary_key != other.primary_key {
        return Some(format!(
            "the primary key is ({}) and ({})",
            first.primary_key.join(", "),
            other.primary_key.join(", ")
        ));
    }
    for (one, two) in [(first, other), (other, first)] {
        for column in &one.columns {
            let Some(same) = two.column(&column.name) else {
                return Some(format!("only {} has a column {}", one.name, column.name));
            };
            let facts =
                |of: &crate::store::ColumnSchema| (of.native.clone(), of.nullable, of.generated, of.collation.clone());
            if facts(column) != facts(same) {
                return Some(format!(
                    "column {} is {} and {}",
                    column.name, column.native, same.native
                ));
            }
        }
    }
    None
}

/// Windows of a side's shards end at one lag, each by its own clock.
pub async fn clocks(context: &TaskContext, found: &mut Findings) -> Result<(), WorkError> {
    let lag = context.migration.verify.lag;
    for side in [Side::Source, Side::Target] {
        let mut seen: Vec<(Duration, Duration, &str)> = Vec::new();
        let began = Instant::now();
        for (_, shard) in context.databases(side) {
            let before = began.elapsed();
            let clock = clock::since_beginning(&shard.database.clock().await?)?;
            // By this clock it would have been read at some moment between the two.
            seen.push((
                clock.saturating_sub(began.elapsed()),
                clock.saturating_sub(before),
                shard.database.label(),
            ));
        }
        let (Some(last), Some(first)) = (seen.iter().max(), seen.iter().min_by_key(|(_, latest, _)| *latest)) else {
            continue;
        };
        let apart = last.0.saturating_sub(first.1);
        if apart > lag {
            let text = format!(
                "the clock of {} is at least {apart:?} ahead of that of {}, and verify.lag is {lag:?}: changes could be missed; let \
                 both servers keep time (NTP), or set spec.verify.lag above it",
                last.2, first.2
            );
            found.failed(format!("Clocks {side}"), "ClocksDiffer", text);
        }
    }
    Ok(())
}

/// What only a pair of tables tells. `base`: the side whose rows are right.
pub async fn check(
    context: &TaskContext,
    table: &Table,
    leg: Leg,
    pair: &TablePair,
    base: Side,
    found: &mut Findings,
) -> Result<(), WorkError> {
    if !table.sharding.any() {
        return Ok(());
    }
    let name = format!("Sharding {}", table.name);
    let divisions = match Divisions::new(pair, table) {
        Ok(divisions) => divisions,
        Err(problems) => {
            for problem in problems {
                found.failed(name.clone(), problem.reason, problem.message);
            }
            return Ok(());
        }
    };
    for side in [Side::Source, Side::Target] {
        let plain = pair.plain(side);
        if let (Some(_), Some(key)) = (table.sharding.on(side), plain.generated_key()) {
            let text = format!(
                "{}.{} of the {side} hands out its keys, and the {side} has several shards: two of them would hand out the same key; \
                 let the application give the keys (a UUID, or a counter that is one for all shards), and take AUTO_INCREMENT or the \
                 sequence from the column in every shard",
                plain.table.as_str(),
                key.name
            );
            found.failed(name.clone(), "KeyGeneratedInShards", text);
        }
    }
    strays(context, leg, pair, &divisions, base, found).await?;
    found.passed(
        name,
        format!("a row's shard follows from its key in {} of both sides", table.name),
    );
    Ok(())
}

/// Rows of the base that lie in a shard they do not belong to have no way to the follower, and are not ours to move.
async fn strays(
    context: &TaskContext,
    leg: Leg,
    pair: &TablePair,
    divisions: &Divisions,
    base: Side,
    found: &mut Findings,
) -> Result<(), WorkError> {
    let Some(division) = divisions.on(base) else {
        return Ok(());
    };
    let direction = match base {
        Side::Source => Direction::Forward,
        Side::Target => Direction::Reverse,
    };
    let (shard, at) = (context.shard(base, leg)?, leg.at(base));
    let side = pair.base(direction);
    let condition = division
        .condition(side, at)
        .map_err(|why| WorkError::permanent("ShardColumnUnsuitable", why))?;
    let strays = side.within(&format!("NOT ({condition})"));
    let label = shard.database.label();
    let name = format!("Places {} {label}", side.table.as_str());
    let mut tx = shard
        .database
        .begin(TxOptions {
            statement_timeout: Some(SEARCH),
            ..TxOptions::read_only()
        })
        .await?;
    let counted = async {
        let rows = tx.count_rows(&strays).await?;
        let example = if rows > 0 {
            tx.chunk_end(&strays, None, 1).await?
        } else {
            None
        };
        Ok::<_, crate::store::StoreError>((rows, example))
    }
    .await;
    tx.rollback().await;
    match counted {
        Ok((0, _)) => found.passed(
            name,
            format!("every row of {} in {label} lies where it belongs", side.table.as_str()),
        ),
        Ok((rows, example)) => {
            let example = example.map_or_else(String::new, |key| format!(", such as the one with key {key}"));
            let text = format!(
                "{rows} rows of {} in {label} belong to another shard by spec.tables[].shardBy{example}: the {base} is right and never \
                 changed; correct shardBy or the order of spec.{base}.shards, or let the application move the rows",
                side.table.as_str()
            );
            found.failed(name, "RowsMisplaced", text);
        }
        Err(error) if error.is_transient() => {
            let text = format!(
                "{} of {label} could not be searched for rows of other shards within {} s ({error}); the full verify finds them",
                side.table.as_str(),
                SEARCH.as_secs()
            );
            found.warned(name, "NotSearchedWhole", text);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
