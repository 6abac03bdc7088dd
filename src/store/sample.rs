//! Trying on real rows what a manifest brings as SQL, before anything depends on it: its conditions, its expressions, and
//! whether what they compute finds its way back. Nothing that is there is changed.

use super::sql::{Sql, Statement, cell, rendered};
use super::{Engine, Ident, Result, TableSide, Tx};

impl Tx {
    /// Applies the side's condition to some rows.
    pub async fn try_filter(&mut self, side: &TableSide, rows: u32) -> Result<()> {
        let table = side.table.quoted(side.engine);
        let mut sql = Sql::new(side);
        // Whatever the condition picks, no more rows than these are read.
        sql.push(&format!(
            "SELECT 1 FROM (SELECT * FROM {table} LIMIT {rows}) AS {table} WHERE 1 = 1"
        ))
        .filter();
        self.fetch(&sql.finish()).await.map(drop)
    }

    /// Reads one column of some rows, expression or not.
    pub async fn try_column(&mut self, side: &TableSide, column: usize, rows: u32) -> Result<()> {
        let cells = self.fetch(&one_column(side, column, rows)).await?;
        let column = &side.columns[column];
        for raw in cells.into_iter().flatten() {
            cell(side.engine, column, raw).map_err(|why| self.data(why))?;
        }
        Ok(())
    }

    /// An empty table with the columns and keys of the side's own, which only this session sees; the side to use it by.
    /// PostgreSQL drops it with the transaction, MySQL when it is told to or the session ends.
    pub async fn scratch_like(&mut self, side: &TableSide) -> Result<TableSide> {
        let scratch = Ident::new(format!("_datamigration_probe_{}", uuid::Uuid::new_v4().simple()))?;
        let (name, table) = (scratch.quoted(side.engine), side.table.quoted(side.engine));
        let sql = match side.engine {
            Engine::MySql => format!("CREATE TEMPORARY TABLE {name} LIKE {table}"),
            Engine::Postgres => format!(
                "CREATE TEMPORARY TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING INDEXES) ON COMMIT DROP"
            ),
            Engine::Sqlite => return Err(self.other("SQLite cannot make a table like another one".to_owned())),
        };
        self.execute(&sql, &[]).await?;
        Ok(on_scratch(side, &scratch))
    }

    /// Ends a scratch table.
    pub async fn drop_scratch(&mut self, scratch: &TableSide) -> Result<()> {
        let name = scratch.table.quoted(scratch.engine);
        let temporary = match scratch.engine {
            Engine::MySql => "TEMPORARY ",
            Engine::Postgres | Engine::Sqlite => "",
        };
        self.execute(&format!("DROP {temporary}TABLE {name}"), &[])
            .await
            .map(drop)
    }
}

impl TableSide {
    /// The same columns, read from or put into the scratch table.
    #[must_use]
    pub fn on(&self, scratch: &TableSide) -> TableSide {
        on_scratch(self, &scratch.table)
    }
}

fn on_scratch(side: &TableSide, scratch: &Ident) -> TableSide {
    TableSide {
        table: scratch.clone(),
        filter: None,
        // PostgreSQL's copy of the table has no identity to override, and names its indexes anew.
        overriding: false,
        ..side.clone()
    }
}

fn one_column(side: &TableSide, column: usize, rows: u32) -> Statement {
    let mut sql = Sql::new(side);
    let text = rendered(side.engine, &side.columns[column]);
    sql.push("SELECT ")
        .push(&text)
        .push(" FROM ")
        .table()
        .push(" WHERE 1 = 1");
    sql.filter().order_by_key(false).push(&format!(" LIMIT {rows}"));
    sql.finish()
}
