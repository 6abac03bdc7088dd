//! Foreign keys and the order in which tables are filled: a row that refers to another is copied after it. The references
//! that count are those of the target, where the rows arrive.

use super::error::WorkError;
use super::legs::{Leg, legs};
use super::work::Work;
use crate::api::Migration;
use crate::api::migration::Table;
use crate::control::chunks::ChunkSet;
use crate::store::{Database, ForeignKey, TableSchema, TxOptions};
use crate::words::Side;

/// A reference that no order of copying can meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmet<'s> {
    /// To a table that does not move.
    Outside(&'s TableSchema, &'s ForeignKey),
    /// To a table whose rows, by way of other references, need this one's first; or to the table itself.
    Cycle(&'s TableSchema, &'s ForeignKey),
}

/// The tables' names, those that are referred to first, and what cannot be ordered.
pub fn order(tables: &[TableSchema]) -> (Vec<&str>, Vec<Unmet<'_>>) {
    let known = |name: &str| tables.iter().any(|table| table.name == name);
    let mut unmet = Vec::new();
    for table in tables {
        let outside = table.foreign_keys.iter().filter(|key| !known(refers_to(key)));
        unmet.extend(outside.map(|key| Unmet::Outside(table, key)));
    }
    let mut ordered: Vec<&str> = Vec::new();
    loop {
        let ready = |table: &&TableSchema| {
            !ordered.contains(&table.name.as_str())
                && table.foreign_keys.iter().all(|key| {
                    let parent = refers_to(key);
                    !known(parent) || ordered.contains(&parent)
                })
        };
        match tables.iter().find(ready) {
            Some(next) => ordered.push(&next.name),
            None => break,
        }
    }
    for table in circles(tables, &ordered) {
        let stuck = table.foreign_keys.iter().filter(|key| {
            let parent = refers_to(key);
            known(parent) && !ordered.contains(&parent)
        });
        unmet.extend(stuck.map(|key| Unmet::Cycle(table, key)));
    }
    (ordered, unmet)
}

/// Of the tables that could not be ordered those that others of them refer to; the rest only hang on to a circle.
fn circles<'s>(tables: &'s [TableSchema], ordered: &[&str]) -> Vec<&'s TableSchema> {
    let mut left: Vec<&TableSchema> = tables
        .iter()
        .filter(|table| !ordered.contains(&table.name.as_str()))
        .collect();
    loop {
        let before = left.len();
        let all = left.clone();
        left.retain(|table| {
            all.iter()
                .any(|other| other.foreign_keys.iter().any(|key| refers_to(key) == table.name))
        });
        if left.len() == before {
            return left;
        }
    }
}

/// PostgreSQL writes a name that needs it in quotes.
fn refers_to(key: &ForeignKey) -> &str {
    let name = key.referenced_table.as_str();
    name.strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'))
        .unwrap_or(name)
}

/// The tables with those that others refer to first, as the target's first shard says; what has no order, or is not there,
/// comes last.
pub async fn sorted(migration: &Migration, target: &Database, names: Vec<String>) -> Result<Vec<String>, WorkError> {
    let mut schemas = Vec::with_capacity(names.len());
    for table in names.iter().filter_map(|name| migration.table(name)) {
        schemas.extend(target.table(&table.name_on(Side::Target, 0)).await?);
    }
    let (ordered, _) = order(&schemas);
    let place = |name: &String| {
        let target = migration.table(name).map(|table| table.name_on(Side::Target, 0));
        ordered
            .iter()
            .position(|one| Some(*one) == target.as_deref())
            .unwrap_or(usize::MAX)
    };
    let mut sorted = names;
    sorted.sort_by_key(place);
    Ok(sorted)
}

/// Waits until the tables that this one refers to have been copied in this round.
pub async fn after_parents(work: &Work) -> Result<(), WorkError> {
    let context = &work.ctx;
    // A run of its own takes one table after the other, in order, and perhaps not all of them.
    if context.task.epoch == 0 {
        return Ok(());
    }
    let here = work.leg().target;
    for parent in parents(&context.migration, &work.follower_side().schema, here) {
        let all = legs(parent, context.task.direction);
        for leg in all.into_iter().filter(|leg| leg.target == here && leg.possible(parent)) {
            copied(work, parent, leg).await?;
        }
    }
    Ok(())
}

async fn copied(work: &Work, parent: &Table, leg: Leg) -> Result<(), WorkError> {
    let context = &work.ctx;
    let chunks = ChunkSet {
        migration: work.migration_id(),
        uid: context.migration.uid.clone(),
        table: leg.name(parent),
        round: context.task.round,
    };
    context
        .retry(async || {
            // Checked: a worker that waits must notice that the ladder has moved on.
            let mut tx = work.begin_follower(TxOptions::default()).await?;
            let totals = chunks.totals(&mut tx).await?;
            tx.rollback().await;
            if totals.divided && totals.done == totals.chunks {
                return Ok(());
            }
            Err(WorkError::Waiting {
                reason: "ParentFirst",
                message: format!(
                    "table {} refers to table {}, which is copied before it ({} of {} chunks are done); it begins by \
                     itself then",
                    work.table().name,
                    chunks.table,
                    totals.done,
                    totals.chunks
                ),
            })
        })
        .await
}

/// The migration's tables that a target table refers to in one shard.
fn parents<'m>(migration: &'m Migration, target: &TableSchema, shard: usize) -> Vec<&'m Table> {
    let referred = |name: &str| target.foreign_keys.iter().any(|key| refers_to(key) == name);
    migration
        .tables
        .iter()
        .filter(|table| {
            let name = table.name_on(Side::Target, shard);
            name != target.name && referred(&name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Engine;

    fn table(name: &str, parents: &[&str]) -> TableSchema {
        TableSchema {
            name: name.to_owned(),
            engine: Engine::Postgres,
            columns: Vec::new(),
            primary_key: Vec::new(),
            unique_keys: Vec::new(),
            foreign_keys: parents
                .iter()
                .map(|parent| ForeignKey {
                    name: format!("{name}_{parent}"),
                    columns: Vec::new(),
                    referenced_table: (*parent).to_owned(),
                    referenced_columns: Vec::new(),
                    on_delete: "NO ACTION".to_owned(),
                    on_update: "NO ACTION".to_owned(),
                })
                .collect(),
            triggers: Vec::new(),
            estimated_rows: 0,
            storage_engine: None,
            indexed_first: Vec::new(),
        }
    }

    fn names<'s>(unmet: &[Unmet<'s>]) -> Vec<(&'static str, &'s str)> {
        unmet
            .iter()
            .map(|unmet| match unmet {
                Unmet::Outside(_, key) => ("outside", key.name.as_str()),
                Unmet::Cycle(_, key) => ("cycle", key.name.as_str()),
            })
            .collect()
    }

    #[test]
    fn parents_come_first() {
        let tables = [
            table("lines", &["\"Orders\"", "goods"]),
            table("Orders", &["people"]),
            table("goods", &[]),
            table("people", &[]),
        ];
        let (order, unmet) = order(&tables);
        assert_eq!((order, unmet), (vec!["goods", "people", "Orders", "lines"], vec![]));
    }

    #[test]
    fn what_cannot_be_ordered_is_named() {
        let tables = [
            table("a", &["b"]),
            table("b", &["a", "c"]),
            table("c", &["c"]),
            table("d", &["far"]),
            table("e", &["a"]),
        ];
        let (order, unmet) = order(&tables);
        assert_eq!(order, ["d"]);
        assert_eq!(
            names(&unmet),
            [
                ("outside", "d_far"),
                ("cycle", "a_b"),
                ("cycle", "b_a"),
                ("cycle", "b_c"),
                ("cycle", "c_c")
            ]
        );
    }
}
