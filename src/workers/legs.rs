//! Sharded tables. A leg is one shard of the source and one of the target: the rows that lie in the one and belong to
//! the other move as an unsharded table's rows do. A task goes through all legs of its table; evidence is kept per leg.

use super::context::{Shard, TaskContext};
use super::error::WorkError;
use crate::api::migration::Table;
use crate::rows::{Key, ShardFunction};
use crate::store::{Division, PairProblem, TablePair, TableSide};
use crate::words::{Direction, Side};

/// A shard of the source and a shard of the target, by their places in the manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Leg {
    pub source: usize,
    pub target: usize,
}

impl Leg {
    /// The place on a side.
    pub fn at(self, side: Side) -> usize {
        match side {
            Side::Source => self.source,
            Side::Target => self.target,
        }
    }

    /// The leg of these places on base and follower.
    pub fn of(direction: Direction, base: usize, follower: usize) -> Self {
        match direction {
            Direction::Forward => Self {
                source: base,
                target: follower,
            },
            Direction::Reverse => Self {
                source: follower,
                target: base,
            },
        }
    }

    /// False where no row that lies where it belongs could be this leg's: x modulo 2 is known from x modulo 4.
    pub fn possible(self, table: &Table) -> bool {
        let (Some(source), Some(target)) = (&table.sharding.source, &table.sharding.target) else {
            return true;
        };
        if source.by != target.by || matches!(source.by.function, ShardFunction::Range { .. }) {
            return true;
        }
        let common = greatest_common_divisor(source.shards, target.shards);
        self.source % common == self.target % common
    }

    /// Under which control rows know what is kept per leg: the table's name, and where it is sharded the two places.
    pub fn name(self, table: &Table) -> String {
        if table.sharding.any() {
            format!("{}#{}-{}", table.name, self.source, self.target)
        } else {
            table.name.clone()
        }
    }
}

/// All legs of a table: one shard of the follower after the other.
pub fn legs(table: &Table, direction: Direction) -> Vec<Leg> {
    let (base, follower) = (direction.base(), direction.follower());
    (0..table.sharding.shards(follower))
        .flat_map(|to| (0..table.sharding.shards(base)).map(move |from| Leg::of(direction, from, to)))
        .collect()
}

/// How the rows of both sides are divided: source's, target's. `None`: the side has one shard.
#[derive(Clone, Debug)]
pub struct Divisions {
    source: Option<Division>,
    target: Option<Division>,
}

impl Divisions {
    /// As the manifest says, for tables whose shard columns have places.
    pub fn new(pair: &TablePair, table: &Table) -> Result<Self, Vec<PairProblem>> {
        let division = |side: Side| match table.sharding.on(side) {
            None => Ok(None),
            Some(placement) => Division::new(pair, &placement.by, placement.shards).map(Some),
        };
        match (division(Side::Source), division(Side::Target)) {
            (Ok(source), Ok(target)) => Ok(Self { source, target }),
            (Err(mut first), Err(second)) => {
                first.extend(
                    second
                        .into_iter()
                        .filter(|one| !first.contains(one))
                        .collect::<Vec<_>>(),
                );
                Err(first)
            }
            (Err(problems), Ok(_)) | (Ok(_), Err(problems)) => Err(problems),
        }
    }

    /// A side's division.
    pub fn on(&self, side: Side) -> Option<&Division> {
        match side {
            Side::Source => self.source.as_ref(),
            Side::Target => self.target.as_ref(),
        }
    }

    /// The shard of a side to which the row with this key belongs.
    pub fn place(&self, side: Side, key: &Key) -> Result<usize, WorkError> {
        match self.on(side) {
            None => Ok(0),
            Some(division) => division.place(key).map_err(|error| {
                WorkError::permanent(
                    "RowWithoutShard",
                    format!("the row with key {key} has no shard: {error}"),
                )
            }),
        }
    }

    /// The rows of `table`, in whichever shard, that belong to a shard of `side`.
    pub fn narrowed(&self, table: &TableSide, side: Side, shard: usize) -> Result<TableSide, WorkError> {
        let Some(division) = self.on(side) else {
            return Ok(table.clone());
        };
        let condition = division.condition(table, shard);
        let condition = condition.map_err(|why| WorkError::permanent("ShardColumnUnsuitable", why))?;
        Ok(table.within(&condition))
    }
}

impl TaskContext {
    /// A leg's shard of a side.
    pub fn shard(&self, side: Side, leg: Leg) -> Result<&Shard, WorkError> {
        self.shards(side).get(leg.at(side)).ok_or_else(|| {
            WorkError::permanent(
                "ShardMissing",
                format!(
                    "the {side} has {} shards, shard {} of them was asked for; tasks are written by the operator, leave them to it",
                    self.shards(side).len(),
                    leg.at(side)
                ),
            )
        })
    }

    /// The migration's table that has this name in the database of a side's shard, and in which shard.
    pub fn moves(&self, side: Side, shard: usize, name: &str) -> Option<(&Table, usize)> {
        let shards = self.together_with(side, shard);
        let tables = self.migration.tables.iter();
        tables
            .flat_map(|table| shards.iter().map(move |at| (table, *at)))
            .find(|(table, at)| table.name_on(side, *at) == name)
    }

    /// The databases of a side: shards that the manifest gives the same URL live in one, whose first is answered.
    pub fn databases(&self, side: Side) -> impl Iterator<Item = (usize, &Shard)> {
        let first = first_of_each(&self.migration.side(side).shards);
        self.shards(side)
            .iter()
            .enumerate()
            .filter(move |(at, _)| first.get(*at).is_none_or(|first| first == at))
    }

    /// The places of all shards that live in the same database as this one.
    pub fn together_with(&self, side: Side, at: usize) -> Vec<usize> {
        let first = first_of_each(&self.migration.side(side).shards);
        let own = first.get(at).copied().unwrap_or(at);
        (0..self.shards(side).len())
            .filter(|other| first.get(*other).copied().unwrap_or(*other) == own)
            .collect()
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// For each shard the place of the first one with the same URL.
fn first_of_each(shards: &[crate::api::migration::Shard]) -> Vec<usize> {
    shards
        .iter()
        .enumerate()
        .map(|(at, shard)| shards.iter().position(|other| other.url == shard.url).unwrap_or(at))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixtures::{orders, with};
    use crate::api::validate;
    use serde_json::json;

    fn table(source: usize, target: usize) -> Table {
        let shards = |count: usize| -> Vec<serde_json::Value> {
            (0..count)
                .map(|at| json!({"name": format!("s{at}"), "urlSecretRef": {"name": format!("s{at}")}}))
                .collect()
        };
        let raw = with(&[
            ("source/shards", json!(shards(source))),
            ("target/shards", json!(shards(target))),
            ("tables/0/shardBy", json!({"columns": ["id"], "function": "Modulo"})),
        ]);
        validate(&raw).unwrap().tables[0].clone()
    }

    #[test]
    fn every_row_that_lies_right_has_its_leg() {
        for (from, to) in [(1, 3), (3, 1), (2, 3), (2, 4), (4, 6)] {
            let table = table(from, to);
            for direction in [Direction::Forward, Direction::Reverse] {
                let legs = legs(&table, direction);
                assert_eq!(legs.len(), from * to);
                for x in 0..100 {
                    let leg = Leg {
                        source: x % from,
                        target: x % to,
                    };
                    assert!(legs.contains(&leg) && leg.possible(&table), "{x} of {from} to {to}");
                }
            }
        }
        let possible = |table: &Table| {
            legs(table, Direction::Forward)
                .into_iter()
                .filter(|leg| leg.possible(table))
                .count()
        };
        assert_eq!(
            (possible(&table(2, 4)), possible(&table(2, 3)), possible(&table(4, 6))),
            (4, 6, 12)
        );
    }

    #[test]
    fn an_unsharded_table_has_one_leg_of_its_own_name() {
        let migration = validate(&orders()).unwrap();
        let table = &migration.tables[0];
        assert_eq!(legs(table, Direction::Forward), [Leg::default()]);
        assert_eq!(Leg::default().name(table), table.name);
        assert_eq!(Leg { source: 1, target: 2 }.name(&self::table(2, 3)), "orders#1-2");
    }
}
