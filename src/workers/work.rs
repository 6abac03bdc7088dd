//! One table's work: base and follower, their two views of the table, the control row it was begun under. What reads
//! takes no part in the epochs; what writes checks the control row first, in its own transaction.

use super::context::{Shard, TaskContext};
use super::drift;
use super::error::WorkError;
use super::legs::{Divisions, Leg};
use super::mapped;
use super::prepared::Prepared;
pub use super::prepared::{mapping, pair, table};
use crate::api::migration::Table;
use crate::control::{self, Control};
use crate::rows::{Comparison, Key, Row, Value, digest};
use crate::store::{ComparedSides, Database, Shape, TablePair, TableSide, Tx, TxOptions};
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
    /// Which of the shards.
    leg: Leg,
    divisions: Divisions,
    /// The base's rows that belong to the leg's shard of the follower.
    base: TableSide,
    /// The follower's rows that belong to the leg's shard of the base.
    follower: TableSide,
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

impl Work {
    /// Prepares the task's table, and waits until every instance has acknowledged the epoch: before that nothing is
    /// read and nothing is written.
    pub async fn open(context: &TaskContext, leg: Leg) -> Result<Self, WorkError> {
        let prepared = Prepared::new(context, leg).await?;
        let direction = context.task.direction;
        let base = context.shard(direction.base(), leg)?.database.clone();
        let follower = context.shard(direction.follower(), leg)?.database.clone();
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
                    let checked =
                        mapped::check(&mut tx, &context.migration.id(), &prepared.table, side, leg.at(side)).await;
                    tx.rollback().await;
                    checked
                })
                .await?;
        }
        Ok(prepared.work(context, leg, control, base_controlled, false))
    }

    /// Prepares the task's table to be compared and left as it is, whether or not the databases know the migration.
    pub async fn look(context: &TaskContext, leg: Leg) -> Result<Self, WorkError> {
        let prepared = Prepared::new(context, leg).await?;
        let control = Control {
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
        };
        Ok(prepared.work(context, leg, control, false, true))
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
            .retry(async || drift::shapes(&self.ctx, &self.table, self.leg).await)
            .await?;
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        drift::compare(&self.ctx, &self.table, self.leg, &self.shapes, &now)
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
        let Ok(now) = drift::shapes(&self.ctx, &self.table, self.leg).await else {
            return error;
        };
        drift::compare(&self.ctx, &self.table, self.leg, &self.shapes, &now)
            .err()
            .unwrap_or(error)
    }

    /// The base's control row as it was when the work began; its epoch is the task's.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Which of the shards.
    pub fn leg(&self) -> Leg {
        self.leg
    }

    /// Under which control rows know what is kept of this leg.
    pub fn name(&self) -> String {
        self.leg.name(&self.table)
    }

    /// The table's own name in the leg's shard of a side.
    pub fn table_on(&self, side: Side) -> String {
        self.table.name_on(side, self.leg.at(side))
    }

    /// The leg's shard of a side.
    pub fn shard(&self, side: Side) -> &Shard {
        // `open` has found it there.
        &self.ctx.shards(side)[self.leg.at(side)]
    }

    /// A side's first database, where dead letters are.
    pub fn first(&self, side: Side) -> &Database {
        &self.ctx.shards(side)[0].database
    }

    /// Whether the row with this key is the leg's by both sides' divisions.
    pub fn owns(&self, key: &Key) -> Result<bool, WorkError> {
        for side in [Side::Source, Side::Target] {
            if self.divisions.place(side, key)? != self.leg.at(side) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The base's row of a key that belongs to another shard of the base: the application's to move, so it is said in a
    /// sentence.
    pub fn stray(&self, key: &Key) -> Result<Option<String>, WorkError> {
        let side = self.direction().base();
        let place = self.divisions.place(side, key)?;
        if place == self.leg.at(side) {
            return Ok(None);
        }
        let right = self
            .ctx
            .shards(side)
            .get(place)
            .map_or("", |shard| shard.database.label());
        Ok(Some(format!(
            "the row lies in {} and belongs to {right} by spec.tables[].shardBy: the base's rows are never changed; move it there in \
             the application, or correct shardBy",
            self.base().label()
        )))
    }

    /// Whether a row of the follower with this key is in the wrong shard.
    pub fn misplaced(&self, key: &Key) -> Result<bool, WorkError> {
        let side = self.direction().follower();
        Ok(self.divisions.place(side, key)? != self.leg.at(side))
    }

    /// The base's rows of the leg's shard, whichever shard of the follower they belong to.
    pub fn base_whole(&self) -> &TableSide {
        self.pair.base(self.direction())
    }

    /// The same of the follower's shard.
    pub fn follower_whole(&self) -> &TableSide {
        self.pair.follower(self.direction())
    }

    /// The side that is right.
    pub fn base(&self) -> &Database {
        &self.shard(self.direction().base()).database
    }

    /// The side that is kept in step.
    pub fn follower(&self) -> &Database {
        &self.shard(self.direction().follower()).database
    }

    /// The table in the base, as far as it is the leg's.
    pub fn base_side(&self) -> &TableSide {
        &self.base
    }

    /// The table in the follower, as far as it is the leg's.
    pub fn follower_side(&self) -> &TableSide {
        &self.follower
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

    /// The planner's estimate of the base's rows, and the leg's share of them.
    pub fn base_estimate(&self) -> u64 {
        let follower = self.direction().follower();
        self.base_side().schema.estimated_rows / self.table.sharding.shards(follower) as u64
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
            format!(
                "{:?} {:?} {:?}",
                self.comparison().rules,
                self.base.filter,
                self.follower.filter
            ),
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

impl Prepared {
    fn work(self, context: &TaskContext, leg: Leg, control: Control, base_controlled: bool, looks: bool) -> Work {
        let direction = context.task.direction;
        let compared = self.pair.compared_of(direction, &self.base, &self.follower);
        Work {
            ctx: context.clone(),
            compared: compared.map(Box::new),
            pair: self.pair,
            table: self.table,
            leg,
            divisions: self.divisions,
            base: self.base,
            follower: self.follower,
            control,
            base_controlled,
            widest: AtomicU64::new(0),
            looks,
            shapes: self.shapes,
            looked: Mutex::new(Instant::now()),
        }
    }
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
