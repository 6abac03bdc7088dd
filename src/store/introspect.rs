//! Reading a table's shape from the server's own catalogue.

use super::{Engine, Result, TableSchema, Tx};

mod cells;
mod indexes;
mod mysql;
mod mysql_types;
mod postgres;
mod postgres_types;
mod samples;
mod sqlite;
mod sqlite_types;

pub use indexes::Index;
pub use samples::samples;
pub(super) use sqlite_types::{Affinity, affinity, decimal_text};

impl Tx {
    /// The table's shape; `None` when there is no such table in the current database or schema (views are none).
    pub async fn table(&mut self, name: &str) -> Result<Option<TableSchema>> {
        match self.engine() {
            Engine::MySql => mysql::table(self, name).await,
            Engine::Postgres => postgres::table(self, name).await,
            Engine::Sqlite => sqlite::table(self, name).await,
        }
    }
}
