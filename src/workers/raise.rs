//! Brings the control rows of all shards to what the task asks, one stage at a time and only upwards: tables and claims,
//! epoch (with the sequences in the same transaction), then the lowest admitted epoch, then the time of it.

use super::context::{Shard, TaskContext};
use super::error::WorkError;
use super::legs::Leg;
use super::mapped;
use super::pace::Waits;
use super::sequences::{Counter, Handover, State};
use super::watch::{Look, Seen};
use super::work::{pair, short};
use crate::api::migration::Table;
use crate::api::task::ControlSpec;
use crate::control::{self, Archived, Control};
use crate::store::TxOptions;
use crate::words::{Mode, SecondaryWrites, Side};
use std::time::{Duration, Instant};

/// A raise waits no longer for the transactions in flight, at first and at most: every writer that begins meanwhile
/// waits behind it.
const RAISE_WAIT: (Duration, Duration) = (Duration::from_millis(400), Duration::from_millis(1_600));

/// In the watermarks: the base's clock when every instance had acknowledged it as the base, where every table's first
/// window starts.
pub const ALL_TABLES: &str = "*";

/// What a pass over the shards came to.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// Something was written: the rows have to be read again.
    pub changed: bool,
    /// Why it is not all done, as a sentence.
    pub problem: Option<String>,
}

/// Raises, and backs off where it has to wait for others.
pub struct Raiser<'c> {
    context: &'c TaskContext,
    waits: Waits,
    wait: Duration,
    not_before: Option<Instant>,
    problem: Option<String>,
}

impl<'c> Raiser<'c> {
    /// Nothing has been tried yet.
    pub fn new(context: &'c TaskContext) -> Self {
        Self {
            context,
            waits: Waits::new(Duration::from_millis(200), Duration::from_secs(5)),
            wait: RAISE_WAIT.0,
            not_before: None,
            problem: None,
        }
    }

    /// Does the next stage that is due. A failure is a finding: what could be raised is, the rest is tried again.
    pub async fn converge(&mut self, look: &Look, wanted: &ControlSpec) -> Reached {
        if let Some(problem) = ahead(look, wanted).or_else(|| behind(self.context, look, wanted)) {
            return Reached {
                changed: false,
                problem: Some(problem),
            };
        }
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return Reached {
                changed: false,
                problem: self.problem.clone(),
            };
        }
        let (mut changed, mut failures) = (false, Vec::new());
        for seen in &look.rows {
            match self.raise_shard(look, seen, wanted).await {
                Ok(raised) => changed |= raised,
                Err(error) => failures.push(error.to_string()),
            }
        }
        if failures.is_empty() {
            self.waits.worked();
            self.wait = RAISE_WAIT.0;
            self.not_before = None;
            self.problem = None;
        } else {
            self.wait = (self.wait * 2).min(RAISE_WAIT.1);
            self.not_before = Some(Instant::now() + self.waits.failed(Instant::now()).0);
            failures.dedup();
            self.problem = Some(failures.join("; "));
        }
        Reached {
            changed,
            problem: self.problem.clone(),
        }
    }

    async fn raise_shard(&self, look: &Look, seen: &Seen, wanted: &ControlSpec) -> Result<bool, WorkError> {
        // Unreadable: said by the look itself.
        let Ok(row) = &seen.row else { return Ok(false) };
        let shard = &self.context.shards(seen.side)[seen.at];
        match row {
            Some(row) if row.epoch == wanted.epoch => {
                let due = wanted.min_epoch == wanted.epoch && (row.min_epoch < wanted.epoch || row.acked_at.is_none());
                // Only when every shard carries the epoch are the instances below it shut out anywhere.
                if due && look.all(|row| row.epoch == wanted.epoch) {
                    self.admit(look, seen, shard, wanted).await
                } else {
                    Ok(false)
                }
            }
            _ => self.raise(seen, shard, row.as_ref(), wanted).await.map(|()| true),
        }
    }

    /// Epoch, mode and what belongs to it, on one shard.
    async fn raise(
        &self,
        seen: &Seen,
        shard: &Shard,
        row: Option<&Control>,
        wanted: &ControlSpec,
    ) -> Result<(), WorkError> {
        let migration = &self.context.migration;
        if row.is_none() {
            let mut tx = shard.database.begin(TxOptions::default()).await?;
            control::create(&mut tx).await?;
            tx.commit().await?;
        }
        let handovers = self.handovers(seen.side, wanted).await?;
        for handover in &handovers {
            handover.move_auto_increment(&shard.database).await?;
        }
        let mut tx = shard.database.begin(short(self.wait)).await?;
        let shards = self.context.together_with(seen.side, seen.at);
        let names: Vec<String> = migration
            .tables
            .iter()
            .flat_map(|table| shards.iter().map(|shard| table.name_on(seen.side, *shard)))
            .collect();
        let tables: Vec<&str> = names.iter().map(String::as_str).collect();
        // A round takes its tables with it as they are when it begins, or when a database has to be begun anew.
        let fresh = row.is_none() || wanted.min_epoch == 0 || (wanted.begins() && wanted.mode == Mode::SrcFirst);
        if !fresh {
            for table in &migration.tables {
                for shard in &shards {
                    mapped::check(&mut tx, &migration.id(), table, seen.side, *shard).await?;
                }
            }
        }
        // Takes the control rows exclusively: waits for the writes in flight, and shuts out all others until it commits.
        control::claim_tables(&mut tx, &migration.id(), &migration.uid, &tables).await?;
        if fresh {
            mapped::record(&mut tx, &migration.id(), &migration.tables, seen.side, &shards).await?;
        }
        let row = Control {
            migration: migration.id(),
            uid: migration.uid.clone(),
            epoch: wanted.epoch,
            min_epoch: 0,
            mode: wanted.mode.as_str().to_owned(),
            secondary: wanted.secondary.as_str().to_owned(),
            round: wanted.round,
            base_since: wanted.base_since,
            acked_at: None,
            fenced: false,
            archived: Archived::No,
            intent: None,
        };
        control::raise(&mut tx, &row).await?;
        for handover in &handovers {
            handover.move_sequence(&mut tx, seen.side, wanted.secondary).await?;
        }
        tx.commit().await?;
        tracing::info!(
            shard = shard.database.label(),
            epoch = wanted.epoch,
            mode = wanted.mode.as_str(),
            "epoch raised"
        );
        Ok(())
    }

    /// What the base's counters have to be past, read before anybody is made to wait. Where only one side is written,
    /// nothing may depend on the other, which may be gone.
    async fn handovers(&self, side: Side, wanted: &ControlSpec) -> Result<Vec<Handover>, WorkError> {
        let both = wanted.mode.writes_both();
        if side != wanted.mode.base() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for table in &self.context.migration.tables {
            match self.handover(table, side).await {
                Ok(handover) => found.extend(handover),
                Err(error) if !both || (wanted.secondary == SecondaryWrites::Lenient && !error.is_transient()) => {
                    // A way back must not depend on a table that is no longer there.
                    tracing::warn!(%error, table = table.name, "its counter is left as it is");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn handover(&self, table: &Table, side: Side) -> Result<Option<Handover>, WorkError> {
        // Several shards of a side never hand out keys: preflight has refused such tables.
        if table.sharding.on(side).is_some() {
            return Ok(None);
        }
        let other = match side {
            Side::Source => Side::Target,
            Side::Target => Side::Source,
        };
        let mut handover: Option<(Counter, State, State)> = None;
        for at in 0..table.sharding.shards(other) {
            let leg = match side {
                Side::Source => Leg { source: 0, target: at },
                Side::Target => Leg { source: at, target: 0 },
            };
            let pair = pair(self.context, table, leg).await?;
            let Some(ours) = Counter::of(&pair, side) else {
                return Ok(None);
            };
            let Some(theirs) = ours.opposite(&pair, side) else {
                return Ok(None);
            };
            let theirs = self.state(other, leg, &theirs).await?;
            let own = self.state(side, leg, &ours).await?;
            handover = Some(match handover {
                None => (ours, own, theirs),
                // Past what any of the other side's shards holds.
                Some((_, _, before)) => (ours, own, theirs.or_further(before)),
            });
        }
        Ok(handover.map(|(ours, own, theirs)| Handover::new(ours, own, theirs)))
    }

    async fn state(&self, side: Side, leg: Leg, counter: &Counter) -> Result<State, WorkError> {
        let shard = self.context.shard(side, leg)?;
        let mut tx = shard.database.begin(TxOptions::read_only()).await?;
        let state = counter.state(&mut tx).await?;
        tx.rollback().await;
        Ok(state)
    }

    /// Shuts out instances below the epoch, for every one has acknowledged it. The base's first shard comes first and
    /// notes its clock with no write in flight; the others repeat what it says.
    async fn admit(&self, look: &Look, seen: &Seen, shard: &Shard, wanted: &ControlSpec) -> Result<bool, WorkError> {
        let migration = &self.context.migration;
        let base = wanted.mode.base();
        let first = look.rows.iter().find(|row| row.side == base && row.at == 0);
        let noted = first
            .and_then(|first| first.row.as_ref().ok()?.as_ref())
            .and_then(|row| row.acked_at.clone());
        // Keys have been handed out since the epoch was raised, in the older mode too: now none is any more.
        let handovers = self.handovers(seen.side, wanted).await?;
        for handover in &handovers {
            handover.move_auto_increment(&shard.database).await?;
        }
        let mut tx = shard.database.begin(short(self.wait)).await?;
        if seen.side == base && seen.at == 0 {
            let acked_at = control::acknowledge_epoch_here(&mut tx, &migration.id(), wanted.epoch).await?;
            if wanted.epoch == wanted.base_since {
                let (id, uid) = (migration.id(), &migration.uid);
                control::advance_watermark(&mut tx, &id, uid, ALL_TABLES, wanted.base_since, &acked_at).await?;
            }
        } else if let Some(acked_at) = noted {
            control::acknowledge_epoch(&mut tx, &migration.id(), wanted.epoch, &acked_at).await?;
            if seen.side == base && wanted.epoch == wanted.base_since {
                // Windows over this shard go by its own clock.
                let (id, uid, here) = (migration.id(), &migration.uid, tx.clock().await?);
                control::advance_watermark(&mut tx, &id, uid, ALL_TABLES, wanted.base_since, &here).await?;
            }
        } else {
            tx.rollback().await;
            return Ok(false);
        }
        for handover in &handovers {
            handover.move_sequence(&mut tx, seen.side, wanted.secondary).await?;
            handover.check(&mut tx).await?;
        }
        tx.commit().await?;
        tracing::info!(
            shard = shard.database.label(),
            min_epoch = wanted.min_epoch,
            "older instances are shut out"
        );
        Ok(true)
    }
}

impl Look {
    /// Whether every shard was read and has a row of which this holds.
    pub fn all(&self, holds: impl Fn(&Control) -> bool) -> bool {
        self.rows
            .iter()
            .all(|seen| matches!(&seen.row, Ok(Some(row)) if holds(row)))
    }
}

impl Seen {
    /// Whether the shard carries less than what was closed there before.
    pub fn lost(&self, wanted: &ControlSpec) -> bool {
        let Ok(row) = &self.row else { return false };
        row.as_ref().map_or(0, |row| row.epoch) < wanted.least(self.side)
    }
}

/// A database without what it had is not the one that the evidence is about. Raising its row would hide that.
fn behind(context: &TaskContext, look: &Look, wanted: &ControlSpec) -> Option<String> {
    let lost = look.rows.iter().find(|seen| seen.lost(wanted))?;
    let label = context.shards(lost.side)[lost.at].database.label();
    let least = wanted.least(lost.side);
    Some(match &lost.row {
        Ok(Some(row)) => format!(
            "{label} went back from epoch {least} to {}: it has lost writes, by a failover or a restored backup; nothing is \
             raised there",
            row.epoch
        ),
        _ => format!(
            "{label} has no control row, though epoch {least} was closed there: its tables were lost, or it is another \
             database; nothing is raised there"
        ),
    })
}

/// The journal is right about where the migration is; a task that asks for less was written by somebody who did not
/// know it.
fn ahead(look: &Look, wanted: &ControlSpec) -> Option<String> {
    look.rows.iter().filter_map(|seen| seen.row.as_ref().ok()?.as_ref()).find(|row| row.epoch > wanted.epoch).map(|row| {
        format!(
            "the databases are at epoch {} ({}), the task asks for epoch {}: nothing is lowered; the operator goes on from the \
             journal",
            row.epoch,
            row.mode,
            wanted.epoch
        )
    })
}
