//! The two databases, opened when a mode needs them, and what is known of their tables. A side that no mode in force
//! needs may be down or not configured at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Failure, Fault, Refusal};
use super::table::TableDefinition;
use crate::store::{ConnectConfig, Database, Engine, StoreError, TablePair, TableSchema, TableSide};
use crate::words::Side;

#[derive(Debug)]
pub(super) struct Sides {
    source: Option<ConnectConfig>,
    target: Option<ConnectConfig>,
    tables: Vec<TableDefinition>,
    known: Mutex<Known>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Use {
    Writes,
    Heartbeats,
}

#[derive(Debug, Default)]
struct Known {
    databases: HashMap<(Side, Use), Database>,
    narrow: HashMap<(Side, usize), Arc<TableSide>>,
    pairs: HashMap<usize, Arc<TablePair>>,
}

impl Sides {
    pub fn new(source: Option<ConnectConfig>, target: Option<ConnectConfig>, tables: Vec<TableDefinition>) -> Self {
        Self {
            source,
            target,
            tables,
            known: Mutex::default(),
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

    pub fn database(&self, side: Side) -> Result<Database, Fault> {
        self.open(side, Use::Writes)
    }

    /// A connection for heartbeats alone: an acknowledgement must not stand in line behind writes that wait for locks.
    pub fn for_heartbeats(&self, side: Side) -> Result<Database, Fault> {
        self.open(side, Use::Heartbeats)
    }

    pub fn forget_heartbeats(&self, side: Side) {
        self.lock().databases.remove(&(side, Use::Heartbeats));
    }

    fn open(&self, side: Side, use_for: Use) -> Result<Database, Fault> {
        if let Some(database) = self.lock().databases.get(&(side, use_for)) {
            return Ok(database.clone());
        }
        let config = match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        };
        let mut config = config.clone().ok_or(Fault::Refused(Refusal::NotConfigured { side }))?;
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
        Ok(self.lock().databases.entry((side, use_for)).or_insert(database).clone())
    }

    /// Key and version of a table on one side.
    pub async fn narrow(&self, side: Side, table: usize) -> Result<Arc<TableSide>, Fault> {
        if let Some(narrow) = self.lock().narrow.get(&(side, table)) {
            return Ok(narrow.clone());
        }
        let schema = self.schema(side, table).await?;
        let narrow = self.tables[table]
            .narrow(side, schema)
            .map_err(|why| Fault::Failed(Failure::Table(why)))?;
        Ok(self
            .lock()
            .narrow
            .entry((side, table))
            .or_insert(Arc::new(narrow))
            .clone())
    }

    /// All mapped columns of a table on both sides.
    pub async fn pair(&self, table: usize) -> Result<Arc<TablePair>, Fault> {
        if let Some(pair) = self.lock().pairs.get(&table) {
            return Ok(pair.clone());
        }
        let (source, target) = tokio::try_join!(self.schema(Side::Source, table), self.schema(Side::Target, table))?;
        let pair = self.tables[table]
            .pair(source, target)
            .map_err(|why| Fault::Failed(Failure::Table(why)))?;
        Ok(self.lock().pairs.entry(table).or_insert(Arc::new(pair)).clone())
    }

    /// The same, if it is known already.
    pub fn known_pair(&self, table: usize) -> Option<Arc<TablePair>> {
        self.lock().pairs.get(&table).cloned()
    }

    /// After an error that a changed table would explain: the next write looks again.
    pub fn forget_shapes(&self) {
        let mut known = self.lock();
        known.narrow.clear();
        known.pairs.clear();
    }

    async fn schema(&self, side: Side, table: usize) -> Result<TableSchema, Fault> {
        let database = self.database(side)?;
        let name = self.tables[table].name_on(side);
        database.table(name).await?.ok_or_else(|| {
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
