//! A leg's tables before any work on them: what the manifest and both catalogues say, paired, and how rows are divided
//! between shards.

use super::context::{Shard, TaskContext};
use super::drift;
use super::error::WorkError;
use super::legs::{Divisions, Leg};
use crate::api::migration::{ColumnRule, Table};
use crate::store::{ColumnMapping, CustomComparison, PairProblem, Shape, TableMapping, TablePair, TableSide};
use crate::words::Side;

/// What the manifest says of a table, in the store's words, with its names in one leg.
pub fn mapping(table: &Table, leg: Leg) -> TableMapping {
    TableMapping {
        source: table.name_on(Side::Source, leg.source),
        target: table.name_on(Side::Target, leg.target),
        key: table.key.clone().unwrap_or_default(),
        version: table.version.clone(),
        filter: table.filter.clone(),
        target_filter: table.target_filter.clone(),
        columns: table
            .columns
            .iter()
            .map(|rule| match rule {
                ColumnRule::Rename { source, target } => ColumnMapping::Rename {
                    source: source.clone(),
                    target: target.clone(),
                },
                ColumnRule::Drop { source } => ColumnMapping::Drop { source: source.clone() },
                ColumnRule::Computed {
                    source,
                    target,
                    expression,
                    reverse,
                } => ColumnMapping::Computed {
                    source: source.clone(),
                    target: target.clone(),
                    expression: expression.clone(),
                    reverse: reverse.clone(),
                },
            })
            .collect(),
        ignore: table.ignore.clone(),
        tolerance: table
            .tolerance
            .iter()
            .map(|(column, most)| (column.clone(), *most))
            .collect(),
        custom: table
            .custom
            .iter()
            .map(|one| CustomComparison {
                column: one.column.clone(),
                source: one.source.clone(),
                target: one.target.clone(),
            })
            .collect(),
    }
}

/// Reads both schemas of a leg and pairs their columns.
pub async fn pair(context: &TaskContext, table: &Table, leg: Leg) -> Result<TablePair, WorkError> {
    let mapping = mapping(table, leg);
    let source = schema(context.shard(Side::Source, leg)?, &mapping.source).await?;
    let target = schema(context.shard(Side::Target, leg)?, &mapping.target).await?;
    TablePair::new(source, target, &mapping).map_err(|problems| unsuitable(table, &problems))
}

fn unsuitable(table: &Table, problems: &[PairProblem]) -> WorkError {
    let reason = problems.first().map_or("TableUnsuitable", |problem| problem.reason);
    let found: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    WorkError::permanent(reason, format!("table {}: {}", table.name, found.join("; ")))
}

async fn schema(shard: &Shard, name: &str) -> Result<crate::store::TableSchema, WorkError> {
    shard.database.table(name).await?.ok_or_else(|| {
        WorkError::permanent(
            "TableMissing",
            format!(
                "table {name} is not in {}; create it, or correct spec.tables in the manifest",
                shard.database.label()
            ),
        )
    })
}

/// The task's table, as the manifest has it.
pub fn table(context: &TaskContext) -> Result<Table, WorkError> {
    let name = context.task.table.as_deref().ok_or_else(|| {
        WorkError::permanent(
            "InvalidTask",
            "a task of this kind needs spec.table; tasks are written by the operator",
        )
    })?;
    context.migration.table(name).cloned().ok_or_else(|| {
        WorkError::Stale(format!(
            "table {name} is no longer in the manifest; its task has nothing to do"
        ))
    })
}

/// The task's table, as the manifest has it and as both databases of a leg do.
pub struct Prepared {
    pub table: Table,
    pub shapes: [Shape; 2],
    pub pair: TablePair,
    pub divisions: Divisions,
    pub base: TableSide,
    pub follower: TableSide,
}

impl Prepared {
    /// Looks at both tables.
    pub async fn new(context: &TaskContext, leg: Leg) -> Result<Self, WorkError> {
        let table = table(context)?;
        // Before the schemas: a change in between is seen as one, later.
        let shapes = context
            .retry(async || drift::shapes(context, &table, leg).await)
            .await?;
        let paired = async || {
            let pair = pair(context, &table, leg).await?;
            let divisions = Divisions::new(&pair, &table).map_err(|problems| unsuitable(&table, &problems))?;
            Ok((pair, divisions))
        };
        let (pair, divisions) = match context.retry(paired).await {
            // A run of its own has had no preflight: what does not fit may never have fitted.
            Err(error) if context.task.epoch == 0 => return Err(error),
            other => other.map_err(drift::no_longer_fits)?,
        };
        let direction = context.task.direction;
        let (base, follower) = (direction.base(), direction.follower());
        // Each side is asked for the rows that belong to the other's shard. What lies in a wrong shard is so compared, too.
        let base_side = divisions.narrowed(pair.base(direction), follower, leg.at(follower))?;
        let follower_side = divisions.narrowed(pair.follower(direction), base, leg.at(base))?;
        Ok(Self {
            table,
            shapes,
            pair,
            divisions,
            base: base_side,
            follower: follower_side,
        })
    }
}
