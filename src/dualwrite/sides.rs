//! The databases of the two sides, opened when a mode needs them, and what is known of their tables. A side that no mode in
//! force needs may be down or not configured at all. A side's shards are numbered in the order of their configuration;
//! several may lie in one database, under different names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Failure, Fault, Refusal};
use super::place::{Placing, Stated};
use super::table::TableDefinition;
use crate::rows::Key;
use crate::store::{ConnectConfig, Database, Engine, StoreError, TablePair, TableSchema, TableSide};
use crate::words::Side;

#[derive(Debug)]
pub(super) struct Sides {
    source: Shards,
    target: Shards,
    tables: Vec<TableDefinition>,
    known: Mutex<Known>,
}

/// One side's shards.
#[derive(Debug)]
struct Shards {
    configs: Vec<ConnectConfig>,
    /// For each shard the first one that lies in the same database: they share connections and transactions.
    databases: Vec<usize>,
    /// How each table is spread over them.
    placing: Vec<Placing>,
}

impl Shards {
    fn new(side: Side, configs: Vec<ConnectConfig>, tables: &[TableDefinition]) -> Self {
        let first = |config: &ConnectConfig| {
            configs
                .iter()
                .position(|other| other.url.expose() == config.url.expose())
        };
        let databases: Vec<usize> = configs
            .iter()
            .enumerate()
            .map(|(shard, config)| first(config).unwrap_or(shard))
            .collect();
        let placing = tables.iter().map(|table| Placing::new(table, side, &databases));
        Self {
            placing: placing.collect(),
            configs,
            databases,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Use {
    Writes,
    Heartbeats,
}

/// What was found out, by side, shard and table, or by table, source's shard and target's shard.
#[derive(Debug, Default)]
struct Known {
    databases: HashMap<(Side, usize, Use), Database>,
    narrow: HashMap<(Side, usize, usize), Arc<TableSide>>,
    pairs: HashMap<(usize, usize, usize), Arc<TablePair>>,
}

impl Sides {
    pub fn new(source: Vec<ConnectConfig>, target: Vec<ConnectConfig>, tables: Vec<TableDefinition>) -> Self {
        Self {
            source: Shards::new(Side::Source, source, &tables),
            target: Shards::new(Side::Target, target, &tables),
            tables,
            known: Mutex::default(),
        }
    }

    fn side(&self, side: Side) -> &Shards {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    pub fn tables(&self) -> &[TableDefinition] {
        &self.tables
    }

    pub fn index(&self, name: &str) -> Result<usize, Refusal> {
        self.tables
            .iter()
            .position(|table| table.name() == name)
            .ok_or_else(|| Refusal::UnknownTable(name.to_owned()))
    }

    /// How many shards a side has.
    pub fn shards(&self, side: Side) -> usize {
        self.side(side).configs.len().max(1)
    }

    /// The first shard that lies in the same database as this one.
    pub fn first_in_database(&self, side: Side, shard: usize) -> usize {
        self.side(side).databases.get(shard).copied().unwrap_or(shard)
    }

    /// Every database of both sides, by the first shard that lies there.
    pub fn databases(&self) -> impl Iterator<Item = (Side, usize)> {
        [Side::Source, Side::Target].into_iter().flat_map(|side| {
            let databases = self.side(side).databases.iter().enumerate();
            databases
                .filter(|(shard, first)| shard == *first)
                .map(move |(shard, _)| (side, shard))
        })
    }

    /// Why no row of some table can be written, whatever the mode.
    pub fn problem(&self) -> Option<&str> {
        self.source
            .placing
            .iter()
            .chain(&self.target.placing)
            .find_map(|placing| match placing {
                Placing::Wrong(why) => Some(why.as_str()),
                Placing::One | Placing::By { .. } => None,
            })
    }

    /// A table's name in one shard.
    pub fn name(&self, side: Side, shard: usize, table: usize) -> Result<String, Refusal> {
        self.tables[table]
            .name_in(side, shard)
            .map_err(|error| Refusal::Definition(error.to_string()))
    }

    pub fn placing(&self, side: Side, table: usize) -> &Placing {
        &self.side(side).placing[table]
    }

    /// The shard of a row whose key is spelled as the databases spell it.
    pub fn place(&self, side: Side, table: usize, key: &Key) -> Result<usize, Refusal> {
        let (placing, definition) = (self.placing(side, table), &self.tables[table]);
        if let Placing::One = placing {
            return Ok(0);
        }
        let stated = Stated::Key(key.clone());
        match placing.values(definition, &stated)? {
            Some(values) => placing.of(definition, &stated, &values),
            None => Ok(0),
        }
    }

    /// The shard of a row as the application states it, in whatever spelling.
    pub async fn locate(&self, side: Side, table: usize, stated: &Stated) -> Result<usize, Fault> {
        let (placing, definition) = (self.placing(side, table), &self.tables[table]);
        let Some(values) = placing.values(definition, stated).map_err(Fault::Refused)? else {
            return Ok(0);
        };
        let first = placing.of(definition, stated, &values).map_err(Fault::Refused)?;
        // The tables of all shards are alike: any of them says how the values are spelled.
        let narrow = self.narrow(side, first, table).await?;
        self.placed(side, table, stated, &narrow).map_err(Fault::Refused)
    }

    /// The same, where either side's table tells how its values are spelled.
    pub fn placed(&self, side: Side, table: usize, stated: &Stated, spelling: &TableSide) -> Result<usize, Refusal> {
        let (placing, definition) = (self.placing(side, table), &self.tables[table]);
        match placing.values(definition, stated)? {
            Some(values) => placing.of(definition, stated, &placing.spelled(spelling, values)),
            None => Ok(0),
        }
    }

    pub fn database(&self, side: Side, shard: usize) -> Result<Database, Fault> {
        self.open(side, shard, Use::Writes)
    }

    /// A connection for heartbeats alone: an acknowledgement must not stand in line behind writes that wait for locks.
    /// Of several shards the first one has the instances.
    pub fn for_heartbeats(&self, side: Side) -> Result<Database, Fault> {
        self.open(side, 0, Use::Heartbeats)
    }

    pub fn forget_heartbeats(&self, side: Side) {
        self.lock().databases.remove(&(side, 0, Use::Heartbeats));
    }

    fn open(&self, side: Side, shard: usize, use_for: Use) -> Result<Database, Fault> {
        let shard = self.first_in_database(side, shard);
        if let Some(database) = self.lock().databases.get(&(side, shard, use_for)) {
            return Ok(database.clone());
        }
        let config = self.side(side).configs.get(shard);
        let mut config = config.cloned().ok_or(Fault::Refused(Refusal::NotConfigured { side }))?;
        if use_for == Use::Heartbeats {
            config.max_connections = 1;
        }
        let database = Database::lazy(&config)?;
        if database.engine() == Engine::Sqlite {
            return Err(Fault::from(StoreError::Config {
                label: config.label,
                message: "an application writes to MySQL or PostgreSQL; SQLite is for runs from a shell".to_owned(),
            }));
        }
        let mut known = self.lock();
        Ok(known
            .databases
            .entry((side, shard, use_for))
            .or_insert(database)
            .clone())
    }

    /// Key and version of a table in one shard.
    pub async fn narrow(&self, side: Side, shard: usize, table: usize) -> Result<Arc<TableSide>, Fault> {
        if let Some(narrow) = self.lock().narrow.get(&(side, shard, table)) {
            return Ok(narrow.clone());
        }
        let schema = self.schema(side, shard, table).await?;
        let narrow = self.tables[table]
            .narrow(side, schema)
            .map_err(|why| Fault::Failed(Failure::Table(why)))?;
        Ok(self
            .lock()
            .narrow
            .entry((side, shard, table))
            .or_insert(Arc::new(narrow))
            .clone())
    }

    /// All mapped columns of a table in a shard of the source and one of the target.
    pub async fn pair(&self, table: usize, source: usize, target: usize) -> Result<Arc<TablePair>, Fault> {
        if let Some(pair) = self.known_pair(table, source, target) {
            return Ok(pair);
        }
        let (from, to) = tokio::try_join!(
            self.schema(Side::Source, source, table),
            self.schema(Side::Target, target, table)
        )?;
        let pair = self.tables[table]
            .pair(from, to)
            .map_err(|why| Fault::Failed(Failure::Table(why)))?;
        Ok(self
            .lock()
            .pairs
            .entry((table, source, target))
            .or_insert(Arc::new(pair))
            .clone())
    }

    /// The same, if it is known already.
    pub fn known_pair(&self, table: usize, source: usize, target: usize) -> Option<Arc<TablePair>> {
        self.lock().pairs.get(&(table, source, target)).cloned()
    }

    /// After an error that a changed table would explain: the next write looks again.
    pub fn forget_shapes(&self) {
        let mut known = self.lock();
        known.narrow.clear();
        known.pairs.clear();
    }

    async fn schema(&self, side: Side, shard: usize, table: usize) -> Result<TableSchema, Fault> {
        let database = self.database(side, shard)?;
        let name = self.name(side, shard, table).map_err(Fault::Refused)?;
        database.table(&name).await?.ok_or_else(|| {
            Fault::from(StoreError::MissingTable {
                label: database.label().to_owned(),
                message: format!("there is no table {name}"),
            })
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // A cache: whatever a panic left in it is still true.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
