//! One long-lived worker per migration: keeps the control rows of every shard as the task asks (raising, never
//! lowering), and reports what only the databases know: journal, acknowledgements, queue. Reports are written when
//! something changed, and now and then as a sign of life.

use super::context::{Desired, Shard, TaskContext};
use super::error::WorkError;
use super::raise::Raiser;
use super::work::{mode, secondary};
use crate::api::task::{ControlSpec, Instance, Journal, WatchReport};
use crate::control::{self, Control};
use crate::store::TxOptions;
use crate::words::Side;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often the databases are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A sign of life although nothing changed.
const HEARTBEAT: Duration = Duration::from_mins(1);
/// A flip's stages that one look may go through: tables and epoch, lowest admitted epoch, its time on base and others.
const STAGES: usize = 5;
/// An instance silent for longer is reported again: its lease and its sessions' idle timeout together.
const SILENT_AFTER: i64 = 60;

/// What was read of the databases in one look.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Every shard of both sides, in order: its control row.
    pub rows: Vec<Seen>,
}

/// One shard's control row.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which side the shard is on.
    pub side: Side,
    /// Its place among the shards of its side.
    pub at: usize,
    /// What the database says; an error is a sentence.
    pub row: Result<Option<Control>, String>,
}

/// Watches until told to stop.
pub async fn run(context: &TaskContext) -> Result<(), WorkError> {
    let mut desired = context.status.desired();
    let mut told: Option<(Told, Instant)> = None;
    let mut raiser = Raiser::new(context);
    loop {
        context.go_on()?;
        let wanted: Desired = desired.borrow_and_update().clone();
        let (mut seen, mut problem) = (look(context).await, None);
        if let Some(control) = &wanted.control {
            for _ in 0..STAGES {
                let reached = raiser.converge(&seen, control).await;
                problem = reached.problem;
                if !reached.changed {
                    break;
                }
                // What was just raised is read again rather than assumed.
                seen = look(context).await;
            }
        }
        let journal = journal(&seen, wanted.control.as_ref())?;
        let report = report(context, &seen, journal.as_ref(), wanted.control.as_ref(), problem).await;
        let now = Told::of(&report, journal.as_ref(), wanted.generation);
        context.status.note(|status| {
            // A side that cannot be read now has not lost its journal.
            if seen.rows.iter().all(|seen| seen.row.is_ok()) || journal.is_some() {
                status.journal = journal;
            }
            status.watch = Some(report);
            // The findings are about the spec that was read before them, whatever has been asked since.
            status.observed_generation = wanted.generation;
        });
        if told
            .as_ref()
            .is_none_or(|(before, at)| *before != now || at.elapsed() >= HEARTBEAT)
        {
            context.status.publish().await;
            told = Some((now, Instant::now()));
        }
        tokio::select! {
            () = context.stop.cancelled() => return Err(WorkError::Stopped),
            changed = desired.changed() => {
                if changed.is_err() {
                    context.pause(LOOK_EVERY).await?;
                }
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// What makes a report worth its write: no clocks, no counts that only grow.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    generation: i64,
    journal: Option<Journal>,
    flags: (bool, bool),
    lost: Vec<Side>,
    queue: bool,
    problem: Option<String>,
    instances: Vec<(String, String, i64, String, bool)>,
}

impl Told {
    fn of(report: &WatchReport, journal: Option<&Journal>, generation: i64) -> Self {
        let instances = report
            .instances
            .iter()
            .map(|instance| {
                (
                    instance.pod_uid.clone(),
                    instance.process.clone(),
                    instance.epoch,
                    format!(
                        "{:?}{:?}{:?}",
                        instance.mode, instance.secondary_writes, instance.protocol
                    ),
                    instance.seen_seconds_ago > SILENT_AFTER,
                )
            })
            .collect();
        Self {
            generation,
            journal: journal.cloned(),
            flags: (report.epoch_on_all_shards, report.min_epoch_on_all_shards),
            lost: report.lost.clone(),
            queue: report.queue > 0,
            problem: report.problem.clone(),
            instances,
        }
    }
}

/// Reads every shard's control row; a database that cannot be read is a finding, not an end.
async fn look(context: &TaskContext) -> Look {
    let mut rows = Vec::new();
    for side in [Side::Source, Side::Target] {
        for (at, shard) in context.databases(side) {
            let row = read_row(context, shard).await.map_err(|error| error.to_string());
            rows.push(Seen { side, at, row });
        }
    }
    Look { rows }
}

/// The journal, once: an error when a shard cannot be read.
pub(super) async fn read_journal(context: &TaskContext) -> Result<Option<Journal>, WorkError> {
    let mut rows = Vec::new();
    for side in [Side::Source, Side::Target] {
        for (at, shard) in context.databases(side) {
            let row = Ok(read_row(context, shard).await?);
            rows.push(Seen { side, at, row });
        }
    }
    journal(&Look { rows }, None)
}

async fn read_row(context: &TaskContext, shard: &Shard) -> Result<Option<Control>, WorkError> {
    let options = TxOptions {
        read_only: true,
        ..TxOptions::bounded(Duration::from_secs(2))
    };
    let mut tx = shard.database.begin(options).await?;
    let row = control::journal(&mut tx, &context.migration.id()).await?;
    tx.rollback().await;
    Ok(row)
}

/// The journal: where the shards differ, the lowest, as long as it is known what they are on their way to. An epoch that
/// nobody asked this worker for was begun by an earlier one: it is told, so that it is taken over and finished. None when
/// no shard that can be read has a row; one without a row does not undo what the others know.
fn journal(look: &Look, wanted: Option<&ControlSpec>) -> Result<Option<Journal>, WorkError> {
    let rows: Vec<&Control> = look
        .rows
        .iter()
        .filter_map(|seen| seen.row.as_ref().ok()?.as_ref())
        .collect();
    let order = |row: &&&Control| (row.epoch, row.min_epoch);
    let highest = rows.iter().max_by_key(order);
    let unasked = highest.filter(|row| wanted.is_none_or(|wanted| row.epoch > wanted.epoch));
    let Some(shown) = unasked.or_else(|| rows.iter().min_by_key(order)) else {
        return Ok(None);
    };
    // Of every database of the source: what one of them has is not yet true of the side.
    let of_source = |holds: &dyn Fn(&Control) -> bool| {
        let mut source = look.rows.iter().filter(|seen| seen.side == Side::Source).peekable();
        source.peek().is_some() && source.all(|seen| matches!(&seen.row, Ok(Some(row)) if holds(row)))
    };
    Ok(Some(Journal {
        epoch: shown.epoch,
        min_epoch: rows.iter().map(|row| row.min_epoch).min().unwrap_or(shown.min_epoch),
        mode: mode(shown)?,
        secondary: secondary(shown)?,
        round: shown.round,
        base_since: shown.base_since,
        acked_at: acked_at(&rows, shown.epoch),
        fenced: of_source(&|row| row.fenced),
        // While rows are being deleted the archive still has work to do.
        archived: of_source(&|row| match row.archived {
            control::Archived::No => false,
            control::Archived::Compared => row.intent.is_none(),
            control::Archived::Deleted => true,
        }),
        uid: shown.uid.clone(),
    }))
}

/// Known only once every shard has it, for the epoch that all are at.
fn acked_at(rows: &[&Control], epoch: i64) -> Option<String> {
    let mut all = rows
        .iter()
        .map(|row| row.acked_at.as_ref().filter(|_| row.epoch == epoch));
    let first = all.next()??;
    all.all(|other| other.is_some()).then(|| first.clone())
}

async fn report(
    context: &TaskContext,
    look: &Look,
    journal: Option<&Journal>,
    wanted: Option<&ControlSpec>,
    problem: Option<String>,
) -> WatchReport {
    let all = |check: &dyn Fn(&Control) -> bool| {
        wanted.is_some()
            && look
                .rows
                .iter()
                .all(|seen| seen.row.as_ref().ok().and_then(Option::as_ref).is_some_and(check))
    };
    let mut problems: Vec<String> = problem.into_iter().collect();
    problems.extend(look.rows.iter().filter_map(|seen| seen.row.as_ref().err().cloned()));
    let mut report = WatchReport {
        epoch_on_all_shards: all(&|row| wanted.is_some_and(|wanted| row.epoch == wanted.epoch)),
        min_epoch_on_all_shards: all(&|row| wanted.is_some_and(|wanted| row.min_epoch >= wanted.min_epoch)),
        lost: lost(look, wanted),
        ..WatchReport::default()
    };
    let base = journal.map_or(Side::Source, |journal| journal.mode.base());
    let mut instances: BTreeMap<(String, String), Instance> = BTreeMap::new();
    for seen in &look.rows {
        // Without a control row there are no control tables to read.
        let Ok(Some(_)) = &seen.row else { continue };
        let shard = &context.shards(seen.side)[seen.at];
        match gather(context, shard).await {
            Ok(gathered) => {
                report.queue += gathered.queue;
                if seen.side == base && seen.at == 0 {
                    report.clock = Some(gathered.clock);
                }
                for instance in gathered.instances {
                    let key = (instance.pod_uid.clone(), instance.process.clone());
                    let newer = instances.get(&key).is_none_or(|held| {
                        (instance.epoch, -instance.seen_seconds_ago) > (held.epoch, -held.seen_seconds_ago)
                    });
                    if newer {
                        instances.insert(key, instance);
                    }
                }
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    problems.dedup();
    report.instances = instances.into_values().collect();
    report.problem = (!problems.is_empty()).then(|| problems.join("; "));
    report
}

fn lost(look: &Look, wanted: Option<&ControlSpec>) -> Vec<Side> {
    let mut sides: Vec<Side> = look
        .rows
        .iter()
        .filter(|seen| wanted.is_some_and(|wanted| seen.lost(wanted)))
        .map(|seen| seen.side)
        .collect();
    sides.dedup();
    sides
}

struct Gathered {
    clock: String,
    queue: u64,
    instances: Vec<Instance>,
}

async fn gather(context: &TaskContext, shard: &Shard) -> Result<Gathered, WorkError> {
    let migration = context.migration.id();
    let options = TxOptions {
        read_only: true,
        ..TxOptions::bounded(Duration::from_secs(2))
    };
    let mut tx = shard.database.begin(options).await?;
    let clock = tx.clock().await?;
    let queue = control::queue_depth(&mut tx, &migration, None).await?.unsigned_abs();
    let instances = control::instances(&mut tx, &migration).await?;
    tx.rollback().await;
    let instances = instances
        .into_iter()
        .map(
            |control::SeenInstance {
                 instance,
                 seen_seconds_ago,
             }| Instance {
                pod: instance.pod,
                pod_uid: instance.pod_uid,
                process: instance.process,
                epoch: instance.epoch,
                // Words of another release are no reason to hide the instance.
                mode: instance.mode.parse().ok(),
                secondary_writes: instance.secondary_writes.parse().ok(),
                protocol: instance.protocol.parse().ok(),
                seen_seconds_ago,
                failed_second_writes: instance.failed_second_writes.unsigned_abs(),
            },
        )
        .collect();
    Ok(Gathered {
        clock,
        queue,
        instances,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(side: Side, at: usize, fenced: bool, archived: control::Archived, intent: Option<&str>) -> Seen {
        let row = Control {
            migration: "shop/orders".to_owned(),
            uid: "uid".to_owned(),
            epoch: 5,
            min_epoch: 5,
            mode: "DST_ONLY".to_owned(),
            secondary: "Lenient".to_owned(),
            round: 1,
            base_since: 4,
            acked_at: None,
            fenced,
            archived,
            intent: intent.map(str::to_owned),
        };
        Seen {
            side,
            at,
            row: Ok(Some(row)),
        }
    }

    fn told(rows: Vec<Seen>) -> (bool, bool) {
        let journal = journal(&Look { rows }, None).unwrap().unwrap();
        (journal.fenced, journal.archived)
    }

    #[test]
    fn a_source_of_several_databases_is_fenced_and_archived_when_all_of_them_are() {
        use control::Archived::{Compared, Deleted, No};
        let target = || seen(Side::Target, 0, false, No, None);
        let first = || seen(Side::Source, 0, true, Deleted, None);
        let with = |second: Seen| told(vec![first(), second, target()]);
        assert_eq!(with(seen(Side::Source, 1, false, No, None)), (false, false));
        assert_eq!(with(seen(Side::Source, 1, true, No, None)), (true, false));
        assert_eq!(
            with(seen(Side::Source, 1, true, Compared, Some("delete"))),
            (true, false)
        );
        assert_eq!(with(seen(Side::Source, 1, true, Compared, None)), (true, true));
        let unreadable = Seen {
            row: Err("away".to_owned()),
            ..seen(Side::Source, 1, true, Deleted, None)
        };
        assert_eq!(
            with(unreadable),
            (false, false),
            "what cannot be read is not known to be archived"
        );
        assert_eq!(told(vec![first(), target()]), (true, true));
    }
}
