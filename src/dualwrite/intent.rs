//! What an attempt means to do about each of the follower's shards, and the tables' shapes there. It is said before any
//! lock is held, so that a shard which is away is not even asked for its tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::detached::within;
use super::error::Fault;
use super::mode::Stance;
use super::write::{Core, Declared, Part};
use crate::rows::Key;
use crate::store::TablePair;
use crate::words::{SecondaryWrites, Side};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Second {
    Try,
    /// The circuit breaker is open: the keys are queued.
    Skip,
}

/// The shapes of the write's tables in the base's shard and one of the follower's, in the order of its parts; and if
/// they are not known, why.
pub(super) type Pairs = Result<Vec<Arc<TablePair>>, String>;

#[derive(Debug)]
pub(super) struct Intent {
    pub follower: Side,
    base_shard: usize,
    tables: Vec<usize>,
    secondary: SecondaryWrites,
    /// By shard.
    shapes: BTreeMap<usize, Pairs>,
    /// By the first shard of a database.
    databases: BTreeMap<usize, Second>,
    /// With the follower as base this write would be refused: nothing says beforehand in which shard it is.
    pub homeless: bool,
}

impl Intent {
    /// For the shards of the keys that are known beforehand; for all shards where none is.
    pub async fn declared(
        core: &Arc<Core>,
        stance: &Stance,
        (follower, base_shard): (Side, usize),
        parts: &[Part],
        declared: &Declared,
    ) -> Result<Self, Fault> {
        let mut intent = Self {
            follower,
            base_shard,
            tables: parts.iter().map(|part| part.table).collect(),
            secondary: stance.secondary,
            shapes: BTreeMap::new(),
            databases: BTreeMap::new(),
            homeless: false,
        };
        let mut shards = Vec::new();
        for part in parts {
            for key in &part.keys {
                shards.push(intent.place(core, part, key)?);
            }
        }
        if let Some((table, stated)) = &declared.place {
            // The base's table says how the values are spelled: a follower that is away is not asked. And what says nothing
            // about the follower's shard is no fault: the sides may be divided by different columns.
            let spelling = core.sides.narrow(follower.other(), base_shard, *table).await?;
            shards.extend(core.sides.placed(follower, *table, stated, &spelling).ok());
        }
        if shards.is_empty() {
            shards.extend(0..core.sides.shards(follower));
            intent.homeless = shards.len() > 1;
        }
        intent.look_at(core, shards).await;
        Ok(intent)
    }

    /// The follower's shard of a row.
    pub fn place(&self, core: &Core, part: &Part, key: &Key) -> Result<usize, Fault> {
        core.sides.place(self.follower, part.table, key).map_err(Fault::Refused)
    }

    /// Decides about these shards and looks their tables up, each within the follower's time; what is decided already
    /// stays.
    pub async fn look_at(&mut self, core: &Arc<Core>, mut shards: Vec<usize>) {
        shards.sort_unstable();
        shards.dedup();
        shards.retain(|shard| !self.shapes.contains_key(shard));
        let mut asked = Vec::new();
        for shard in shards {
            let database = core.sides.first_in_database(self.follower, shard);
            let (follower, secondary) = (self.follower, self.secondary);
            // A breaker lets one request through per pause, so it is asked once. Strict has no use for it: it must try.
            let second = *self.databases.entry(database).or_insert_with(|| match secondary {
                SecondaryWrites::Lenient if !core.breakers.allows(follower, database, Instant::now()) => Second::Skip,
                _ => Second::Try,
            });
            match second {
                Second::Skip => {
                    let known = self.known(core, shard);
                    self.shapes.insert(shard, known);
                }
                Second::Try => asked.push(shard),
            }
        }
        let answers = asked.iter().map(|shard| self.ask(core, *shard));
        let answers = futures::future::join_all(answers).await;
        self.shapes.extend(asked.into_iter().zip(answers));
    }

    pub fn second(&self, database: usize) -> Second {
        self.databases.get(&database).copied().unwrap_or(Second::Try)
    }

    pub fn shapes(&self, shard: usize) -> Pairs {
        self.shapes
            .get(&shard)
            .cloned()
            .unwrap_or_else(|| Err("the follower's table was not looked up".to_owned()))
    }

    /// Any shard's shapes: all shards of a side are alike.
    pub fn any(&self) -> Pairs {
        let mut why = "the follower's table is not known".to_owned();
        for shapes in self.shapes.values() {
            match shapes {
                Ok(pairs) => return Ok(pairs.clone()),
                Err(error) => why.clone_from(error),
            }
        }
        Err(why)
    }

    fn shards(&self, follower: usize) -> (usize, usize) {
        match self.follower {
            Side::Target => (self.base_shard, follower),
            Side::Source => (follower, self.base_shard),
        }
    }

    /// Where they are known already: the version is stamped in digits that both sides keep.
    fn known(&self, core: &Core, shard: usize) -> Pairs {
        let (source, target) = self.shards(shard);
        self.tables
            .iter()
            .map(|table| core.sides.known_pair(*table, source, target))
            .collect::<Option<_>>()
            .ok_or_else(|| "the follower's table is not known".to_owned())
    }

    /// One that is away must not hold the write up.
    async fn ask(&self, core: &Core, shard: usize) -> Pairs {
        if let Ok(pairs) = self.known(core, shard) {
            return Ok(pairs);
        }
        let (source, target) = self.shards(shard);
        let (sides, tables) = (core.sides.clone(), self.tables.clone());
        let all = async move {
            let mut pairs = Vec::with_capacity(tables.len());
            for table in tables {
                let pair = sides.pair(table, source, target).await;
                pairs.push(pair.map_err(|fault| fault.text())?);
            }
            Ok(pairs)
        };
        within(core.settings.follower_timeout, all)
            .await
            .unwrap_or_else(|| Err("the follower's table was not described in time".to_owned()))
    }
}
