//! One table's work: base and follower, their two views of the table, the control row it was begun under. What reads
//! takes no part in the epochs; what writes checks the control row first, in its own transaction.

use super::context::{Shard, TaskContext};
use super::drift;
use super::error::WorkError;
use super::mapped;
use crate::api::migration::{ColumnRule, Table};
use crate::control::{self, Control};
use crate::rows::{Comparison, Row, Value, digest};
use crate::store::{
    ColumnMapping, ComparedSides, CustomComparison, Database, Shape, TableMapping, TablePair, TableSide, Tx, TxOptions,
};
use crate::words::{Direction, Mode, SecondaryWrites, Side};
use crate::workers::verify::Seen;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One table of a migration, in one direction.
pub struct Work {
    /// The task's surroundings.
    pub ctx: TaskContext,
    pair: TablePair,
    /// Both sides as they are compared, where columns are compared by expressions.
    compared: Option<Box<ComparedSides>>,
    table: Table,
    control: Control,
    /// Whether the base carries a control row. It must from epoch 1 on.
    base_controlled: bool,
    /// Bytes of the widest row that was seen.
    widest: AtomicU64,
    /// Differences are looked at and never changed: no locks, no epoch, nothing is written.
    looks: bool,
    /// Source's and target's table as they were when the work began.
    shapes: [Shape; 2],
    /// When they were last looked at.
    looked: Mutex<Instant>,
}

/// What the manifest says of a table, in the store's words.
pub fn mapping(table: &Table) -> TableMapping {
    TableMapping {
        source: table.name.clone(),
        target: table.target.clone(),
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

/// Reads both schemas and pairs their columns.
pub async fn pair(context: &TaskContext, table: &Table) -> Result<TablePair, WorkError> {
    let source = schema(only(&context.source, "source")?, &table.name).await?;
    let target = schema(only(&context.target, "target")?, &table.target).await?;
    TablePair::new(source, target, &mapping(table)).map_err(|problems| {
        let reason = problems.first().map_or("TableUnsuitable", |problem| problem.reason);
        let found: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        WorkError::permanent(reason, format!("table {}: {}", table.name, found.join("; ")))
    })
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

/// The one shard of a side that is not sharded.
pub fn only<'s>(shards: &'s [Shard], side: &str) -> Result<&'s Shard, WorkError> {
    match shards {
        [shard] => Ok(shard),
        _ => Err(WorkError::permanent(
            "ShardsUnsupported",
            format!(
                "the {side} has {} shards; this version moves rows between one shard and one shard",
                shards.len()
            ),
        )),
    }
}

impl Work {
    /// Prepares the task's table, and waits until every instance has acknowledged the epoch: before that nothing is
    /// read and nothing is written.
    pub async fn open(context: &TaskContext) -> Result<Self, WorkError> {
        let (table, shapes, pair) = prepared(context).await?;
        let (base, follower) = ends(context)?;
        let (control, base_controlled) = context
            .retry(async || {
                let row = journal(&base, context).await?;
                let base_controlled = row.is_some();
                // Epoch 0 owes the base nothing: a local run writes its row where it writes rows.
                let row = match row {
                    None if context.task.epoch == 0 => journal(&follower, context).await?,
                    row => row,
                };
                Ok((acknowledged(context, row)?, base_controlled))
            })
            .await?;
        if control.epoch > 0 {
            let side = context.task.direction.base();
            context
                .retry(async || {
                    let mut tx = base.begin(TxOptions::read_only()).await?;
                    let checked = mapped::check(&mut tx, &context.migration.id(), &table, side).await;
                    tx.rollback().await;
                    checked
                })
                .await?;
        }
        Ok(Self {
            ctx: context.clone(),
            compared: pair.compared(context.task.direction).map(Box::new),
            pair,
            table,
            control,
            base_controlled,
            widest: AtomicU64::new(0),
            looks: false,
            shapes,
            looked: Mutex::new(Instant::now()),
        })
    }

    /// Prepares the task's table to be compared and left as it is, whether or not the databases know the migration.
    pub async fn look(context: &TaskContext) -> Result<Self, WorkError> {
        let (table, shapes, pair) = prepared(context).await?;
        ends(context)?;
        Ok(Self {
            ctx: context.clone(),
            compared: pair.compared(context.task.direction).map(Box::new),
            pair,
            table,
            control: Control {
                migration: context.migration.id(),
                uid: context.migration.uid.clone(),
                epoch: context.task.epoch,
                min_epoch: context.task.epoch,
                mode: Mode::SrcOnly.as_str().to_owned(),
                secondary: SecondaryWrites::Lenient.as_str().to_owned(),
                round: context.task.round,
                base_since: 0,
                acked_at: None,
                fenced: false,
                archived: control::Archived::No,
                intent: None,
            },
            base_controlled: false,
            widest: AtomicU64::new(0),
            looks: true,
            shapes,
            looked: Mutex::new(Instant::now()),
        })
    }

    /// Whether this work may only look.
    pub fn only_looks(&self) -> bool {
        self.looks
    }

    fn direction(&self) -> Direction {
        self.ctx.task.direction
    }

    /// `namespace/name`.
    pub fn migration_id(&self) -> String {
        self.ctx.migration.id()
    }

    /// The table as the manifest has it.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Both tables still have the shape that they had when the work began; else `SchemaDrift`. Asked for wherever a
    /// range or a window begins, and before a result is reported.
    pub async fn same_shape(&self) -> Result<(), WorkError> {
        let now = self
            .ctx
            .retry(async || drift::shapes(&self.ctx, &self.table).await)
            .await?;
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        drift::compare(&self.ctx, &self.table, &self.shapes, &now)
    }

    /// The same for small steps: at most once a second.
    pub async fn same_shape_lately(&self) -> Result<(), WorkError> {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.same_shape().await
    }

    /// What ended the work, unless a changed table explains it better.
    pub async fn blame(&self, error: WorkError) -> WorkError {
        let telling = matches!(error, WorkError::Store(_) | WorkError::Permanent { .. }) && !error.is_transient();
        if !telling {
            return error;
        }
        // Asked once and at once: other lanes may have been told to stop by this very error.
        let Ok(now) = drift::shapes(&self.ctx, &self.table).await else {
            return error;
        };
        drift::compare(&self.ctx, &self.table, &self.shapes, &now)
            .err()
            .unwrap_or(error)
    }

    /// The base's control row as it was when the work began; its epoch is the task's.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The only shard of a side.
    pub fn shard(&self, side: Side) -> &Shard {
        // `open` has checked that each side has exactly one.
        &self.ctx.shards(side)[0]
    }

    /// The side that is right.
    pub fn base(&self) -> &Database {
        &self.shard(self.direction().base()).database
    }

    /// The side that is kept in step.
    pub fn follower(&self) -> &Database {
        &self.shard(self.direction().follower()).database
    }

    /// The table in the base.
    pub fn base_side(&self) -> &TableSide {
        self.pair.base(self.direction())
    }

    /// The table in the follower.
    pub fn follower_side(&self) -> &TableSide {
        self.pair.follower(self.direction())
    }

    /// The base's table as it is read to be compared: the carried columns, then what is compared in place of some.
    pub fn base_compared(&self) -> &TableSide {
        self.compared
            .as_ref()
            .map_or_else(|| self.base_side(), |sides| &sides.base)
    }

    /// The follower's table as it is read to be compared.
    pub fn follower_compared(&self) -> &TableSide {
        self.compared
            .as_ref()
            .map_or_else(|| self.follower_side(), |sides| &sides.follower)
    }

    /// A row as it is carried, of one that was read to be compared.
    pub fn carried(&self, row: &Row) -> Row {
        let columns = self.base_side().columns.len();
        Row {
            values: row.values.iter().take(columns).cloned().collect(),
        }
    }

    /// The planner's estimate of the base's rows.
    pub fn base_estimate(&self) -> u64 {
        self.base_side().schema.estimated_rows
    }

    /// Whether the two rows count as the same.
    pub fn equal(&self, base: &Row, follower: &Row) -> bool {
        self.comparison().equal(base, follower)
    }

    /// How rows are compared.
    pub fn comparison(&self) -> &Comparison {
        match &self.compared {
            Some(sides) => &sides.comparison,
            None => self.pair.comparison(self.direction()),
        }
    }

    /// Whether a range of keys means the same rows on both sides.
    pub fn ranges_alike(&self) -> bool {
        self.pair.ranges_alike()
    }

    /// Whether both servers come to the same digest for equal rows.
    pub fn digests_alike(&self) -> bool {
        self.pair.digests_alike()
    }

    /// Changes when either table does, or the way in which their rows are compared.
    pub fn fingerprint(&self) -> String {
        let (source, target) = (&self.pair.source, &self.pair.target);
        let parts = [
            source.schema.fingerprint(),
            target.schema.fingerprint(),
            format!("{:?} {:?} {:?}", self.comparison().rules, source.filter, target.filter),
            self.base_compared()
                .columns
                .iter()
                .chain(&self.follower_compared().columns)
                .filter_map(|column| column.computed.as_deref())
                .collect::<Vec<_>>()
                .join(", "),
        ];
        let values: Vec<Value> = parts.into_iter().map(Value::Text).collect();
        format!("{:032x}", digest::of(&values).0)
    }

    /// Notes how wide a row was.
    pub fn saw(&self, bytes: u64) {
        self.widest.fetch_max(bytes, Ordering::Relaxed);
    }

    /// How many rows may be held at a time, at most `most`: what they hold together is bounded, however wide they are.
    pub fn together(&self, most: usize) -> usize {
        match self.widest.load(Ordering::Relaxed) {
            0 => most.min(8),
            widest => usize::try_from(HELD / widest).unwrap_or(most).clamp(1, most),
        }
    }

    /// Whether the first row's version is newer than the second's.
    pub fn newer(&self, first: &Row, second: &Row) -> bool {
        self.version(first) > self.version(second)
    }

    /// The version of a row: canonical UTC text, ordered as text.
    pub fn version<'r>(&self, row: &'r Row) -> Option<&'r str> {
        match self.base_side().version_of(row) {
            Value::Text(version) => Some(version),
            _ => None,
        }
    }

    /// What a report says of both rows.
    pub fn seen(&self, base: Option<&Row>, follower: Option<&Row>) -> Seen {
        let version = |row: &Row| self.version(row).map(str::to_owned);
        let columns = match (base, follower) {
            (Some(row), Some(held)) => self.comparison().differing(row, held),
            _ => Vec::new(),
        };
        let names = &self.base_compared().columns;
        Seen {
            base: base.and_then(version),
            follower: follower.and_then(version),
            columns: columns
                .into_iter()
                .filter_map(|at| names.get(at).map(|column| column.name.as_str().to_owned()))
                .collect(),
        }
    }

    /// The base's clock.
    pub async fn base_clock(&self) -> Result<String, WorkError> {
        self.ctx.retry(async || Ok(self.base().clock().await?)).await
    }

    /// For reading rows and reports: no control row, no locks.
    pub async fn begin_plain(&self, database: &Database) -> Result<Tx, WorkError> {
        Ok(database.begin(reading()).await?)
    }

    /// For writing: the database has to be at this worker's epoch, and stays there until the transaction ends.
    pub async fn begin_checked(&self, database: &Database, options: TxOptions) -> Result<Tx, WorkError> {
        let statement_timeout = options.statement_timeout.or(Some(LONGEST));
        let mut tx = database
            .begin(TxOptions {
                statement_timeout,
                ..options
            })
            .await?;
        control::check_worker(&mut tx, &self.migration_id(), self.ctx.task.epoch).await?;
        Ok(tx)
    }

    /// For locking rows of the base, which is never written.
    pub async fn begin_base(&self, options: TxOptions) -> Result<Tx, WorkError> {
        if self.base_controlled {
            return self.begin_checked(self.base(), options).await;
        }
        let statement_timeout = options.statement_timeout.or(Some(LONGEST));
        Ok(self
            .base()
            .begin(TxOptions {
                statement_timeout,
                ..options
            })
            .await?)
    }

    /// For writing to the follower.
    pub async fn begin_follower(&self, options: TxOptions) -> Result<Tx, WorkError> {
        self.begin_checked(self.follower(), options).await
    }
}

/// The task's table, as the manifest has it and as both databases do.
async fn prepared(context: &TaskContext) -> Result<(Table, [Shape; 2], TablePair), WorkError> {
    let name = context.task.table.clone().ok_or_else(|| {
        WorkError::permanent(
            "InvalidTask",
            "a task of this kind needs spec.table; tasks are written by the operator",
        )
    })?;
    let table = context.migration.table(&name).cloned().ok_or_else(|| {
        WorkError::Stale(format!(
            "table {name} is no longer in the manifest; its task has nothing to do"
        ))
    })?;
    // Before the schemas: a change in between is seen as one, later.
    let shapes = context.retry(async || drift::shapes(context, &table).await).await?;
    let pair = context.retry(async || pair(context, &table).await).await;
    let pair = match pair {
        // A run of its own has had no preflight: what does not fit may never have fitted.
        Err(error) if context.task.epoch == 0 => return Err(error),
        other => other.map_err(drift::no_longer_fits)?,
    };
    Ok((table, shapes, pair))
}

/// Base and follower, each of one shard.
fn ends(context: &TaskContext) -> Result<(Database, Database), WorkError> {
    let direction = context.task.direction;
    let base = only(context.shards(direction.base()), "base")?;
    let follower = only(context.shards(direction.follower()), "follower")?;
    Ok((base.database.clone(), follower.database.clone()))
}

async fn journal(database: &Database, context: &TaskContext) -> Result<Option<Control>, WorkError> {
    let mut tx = database.begin(TxOptions::read_only()).await?;
    let row = control::journal(&mut tx, &context.migration.id()).await?;
    tx.rollback().await;
    Ok(row)
}

/// Whether the work may begin under this control row.
fn acknowledged(context: &TaskContext, row: Option<Control>) -> Result<Control, WorkError> {
    let epoch = context.task.epoch;
    let Some(row) = row else {
        return Err(WorkError::Waiting {
            reason: "NoJournal",
            message: format!(
                "the base carries no control row of {} yet; the Watch task writes it",
                context.migration.id()
            ),
        });
    };
    if row.epoch != epoch {
        return Err(WorkError::Stale(format!(
            "the control row of {} is at epoch {}, this worker was started for epoch {epoch}: it writes nothing",
            context.migration.id(),
            row.epoch
        )));
    }
    let base = mode(&row)?.base();
    if base != context.task.direction.base() {
        return Err(WorkError::Stale(format!(
            "in epoch {epoch} the base is the {}, this task takes the {} for it",
            base.as_str(),
            context.task.direction.base().as_str()
        )));
    }
    if row.min_epoch < epoch {
        return Err(WorkError::Waiting {
            reason: "NotAcknowledged",
            message: format!(
                "not every instance of the application has acknowledged epoch {epoch} (the databases still admit epoch {}): \
                 no row is read before",
                row.min_epoch
            ),
        });
    }
    Ok(row)
}

/// The application's mode in the row's epoch.
pub fn mode(row: &Control) -> Result<Mode, WorkError> {
    row.mode
        .parse()
        .map_err(|error| WorkError::permanent("ControlTableDamaged", format!("_datamigration_control: {error}")))
}

/// What a failing second write means in the row's epoch.
pub fn secondary(row: &Control) -> Result<SecondaryWrites, WorkError> {
    row.secondary
        .parse()
        .map_err(|error| WorkError::permanent("ControlTableDamaged", format!("_datamigration_control: {error}")))
}

/// How often small steps look at the tables' shapes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a transaction waits for a writer's lock before it lets go of its own.
pub const LOCK_WAIT: Duration = Duration::from_millis(500);

/// Bytes of rows that are held at a time while they are settled: each is held a few times over.
const HELD: u64 = 8 << 20;

/// For reading rows: no statement may hang for ever.
pub fn reading() -> TxOptions {
    TxOptions {
        statement_timeout: Some(LONGEST),
        ..TxOptions::read_only()
    }
}

/// No statement of a worker takes longer: a server that hangs is left and asked again.
const LONGEST: Duration = Duration::from_mins(1);

/// Bounded statements and lock waits; a connection may take longer to be had.
pub fn short(most: Duration) -> TxOptions {
    TxOptions {
        acquire_timeout: Duration::from_secs(5),
        ..TxOptions::bounded(most)
    }
}
