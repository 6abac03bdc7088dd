//! Random tables: their key, their columns, their rows, and what is done to the follower behind the product's back.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use crate::kinds::{BOTH, Datum, KEYS, Kind, MARIADB, POSTGRES};
use crate::place::Engine;
use crate::support::on_mysql;

/// One table of a case. Rows hold the key's values first.
#[derive(Debug, Clone)]
pub struct Table {
    pub key: Vec<Kind>,
    pub columns: Vec<Kind>,
    pub rows: Vec<Vec<Datum>>,
    pub changes: Vec<Change>,
}

/// One corruption of the follower, of a row that no other one touches.
#[derive(Debug, Clone)]
pub struct Change {
    row: Index,
    column: Index,
    what: What,
    /// A row of the same shape: what comes instead.
    other: Vec<Datum>,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Set,
    Delete,
    Insert,
}

pub fn tables(source: Engine, target: Engine, changes: usize) -> impl Strategy<Value = Table> {
    let mut kinds = BOTH.to_vec();
    if source == target {
        kinds.extend(match source {
            Engine::MariaDb => MARIADB,
            Engine::Postgres => POSTGRES,
            Engine::Sqlite => &[],
        });
    }
    let fits = |kind: &Kind, key| kind.fits(source, key) && kind.fits(target, key);
    kinds.retain(|kind| fits(kind, false));
    // A float of 32 bits is one of 64 there, which does not find its way back.
    kinds.retain(|kind| *kind != Kind::Float || source != Engine::Sqlite || source == target);
    let mut keys: Vec<Kind> = KEYS.iter().filter(|kind| fits(kind, true)).copied().collect();
    if on_mysql() {
        // MariaDB's own.
        kinds.retain(|kind| *kind != Kind::Uuid);
        keys.retain(|kind| *kind != Kind::Uuid);
    }
    (subsequence(keys, 1..=2), proptest::collection::vec(select(kinds), 1..9)).prop_flat_map(move |(key, columns)| {
        let row: Vec<BoxedStrategy<Datum>> = key
            .iter()
            .map(|kind| kind.values())
            .chain(
                columns
                    .iter()
                    .map(|kind| prop_oneof![7 => kind.values(), 1 => Just(Datum::Null)].boxed()),
            )
            .collect();
        let what = prop_oneof![6 => Just(What::Set), 1 => Just(What::Delete), 1 => Just(What::Insert)];
        let change =
            (any::<Index>(), any::<Index>(), what, row.clone()).prop_map(|(row, column, what, other)| Change {
                row,
                column,
                what,
                other,
            });
        (
            proptest::collection::vec(row, changes..changes * 3 + 1),
            proptest::collection::vec(change, changes),
        )
            .prop_map(move |(rows, changes)| {
                let mut seen = BTreeSet::new();
                let rows = rows
                    .into_iter()
                    .filter(|row| seen.insert(identity(&row[..key.len()])))
                    .collect();
                Table {
                    key: key.clone(),
                    columns: columns.clone(),
                    rows,
                    changes,
                }
            })
    })
}

/// What makes two keys the same to some engine.
fn identity(key: &[Datum]) -> Vec<String> {
    key.iter()
        .map(|datum| match datum {
            Datum::Number(n) => {
                let (whole, fraction) = n.split_once('.').unwrap_or((n, ""));
                let negative = whole.starts_with('-');
                let whole = whole.trim_start_matches('-').trim_start_matches('0');
                let fraction = fraction.trim_end_matches('0');
                let sign = negative && !(whole.is_empty() && fraction.is_empty());
                format!("{sign}{whole}.{fraction}")
            }
            // The same moment with and without a fraction of zeros.
            Datum::Quoted(s) => s.trim_end_matches(".000000").to_owned(),
            other => format!("{other:?}"),
        })
        .collect()
}

impl Table {
    /// Names and kinds of all columns. A name is new in every case: servers keep statements prepared by their text.
    pub fn named(&self, case: u32) -> Vec<(String, Kind)> {
        self.key
            .iter()
            .chain(&self.columns)
            .enumerate()
            .map(|(n, kind)| (format!("c{case}_{n}"), *kind))
            .collect()
    }

    pub fn create(&self, engine: Engine, case: u32) -> String {
        let named = self.named(case);
        let columns: Vec<String> = named
            .iter()
            .enumerate()
            .map(|(n, (name, kind))| {
                let null = if n < self.key.len() { "NOT NULL" } else { "NULL" };
                format!("{name} {} {null}", kind.native(engine))
            })
            .collect();
        let key: Vec<&str> = named[..self.key.len()].iter().map(|(name, _)| name.as_str()).collect();
        let stamp = match engine {
            Engine::MariaDb | Engine::Sqlite => "DATETIME(6)",
            Engine::Postgres => "timestamp(6)",
        };
        format!(
            "CREATE TABLE orders ({}, updated_at {stamp} NOT NULL, PRIMARY KEY ({}))",
            columns.join(", "),
            key.join(", ")
        )
    }

    pub fn insert(&self, engine: Engine, case: u32, rows: &[Vec<Datum>]) -> String {
        let named = self.named(case);
        let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        let rows: Vec<String> = rows
            .iter()
            .map(|row| {
                let cells: Vec<String> = row
                    .iter()
                    .zip(&named)
                    .map(|(datum, (_, kind))| kind.literal(engine, datum))
                    .collect();
                format!("({}, '2024-01-01 00:00:00')", cells.join(", "))
            })
            .collect();
        format!(
            "INSERT INTO orders ({}, updated_at) VALUES {}",
            names.join(", "),
            rows.join(", ")
        )
    }

    /// Statements that corrupt the follower.
    pub fn corrupt(&self, engine: Engine, case: u32) -> Vec<String> {
        let named = self.named(case);
        let mut taken: BTreeSet<Vec<String>> = BTreeSet::new();
        let mut statements = Vec::new();
        for change in &self.changes {
            if matches!(change.what, What::Insert) || self.rows.is_empty() {
                let key = identity(&change.other[..self.key.len()]);
                let new = !self.rows.iter().any(|row| identity(&row[..self.key.len()]) == key);
                if new && taken.insert(key) {
                    statements.push(self.insert(engine, case, std::slice::from_ref(&change.other)));
                }
                continue;
            }
            let row = change.row.get(&self.rows);
            if !taken.insert(identity(&row[..self.key.len()])) {
                continue;
            }
            let place: Vec<String> = row
                .iter()
                .zip(&named)
                .take(self.key.len())
                .map(|(datum, (name, kind))| format!("{name} = {}", kind.literal(engine, datum)))
                .collect();
            let place = place.join(" AND ");
            if matches!(change.what, What::Delete) {
                statements.push(format!("DELETE FROM orders WHERE {place}"));
                continue;
            }
            let n = self.key.len() + change.column.index(self.columns.len());
            let (name, kind) = &named[n];
            let value = kind.literal(engine, &change.other[n]);
            statements.push(format!("UPDATE orders SET {name} = {value} WHERE {place}"));
        }
        statements
    }
}
