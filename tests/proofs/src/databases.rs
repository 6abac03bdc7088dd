//! Control rows, their raising and closing by the Watch, and what the Watch reports.

use datamigration::api::task::{ControlSpec, TaskKind};
use datamigration::words::Side;

use crate::state::{Control, Hand, Holder, JobState, Place, Report, Rules, Stage, State};

pub const SIDES: [Side; 2] = [Side::Source, Side::Target];

impl State {
    /// The task of the Watch that runs.
    fn watching(&self) -> Option<usize> {
        self.tasks
            .iter()
            .position(|task| task.spec.kind == TaskKind::Watch && task.job == JobState::Running)
    }

    fn asked(&self) -> Option<ControlSpec> {
        self.watching().and_then(|task| self.tasks[task].spec.control.clone())
    }

    /// Whether a transaction that holds the control row's shared lock is open.
    fn in_flight(&self, side: Side) -> bool {
        let writes = self.writes.iter().any(|write| {
            let (base, follower) = (write.place.mode.base() == side, write.place.mode.writes_both());
            match write.stage {
                Stage::Waiting | Stage::Started | Stage::Over => false,
                Stage::Locked | Stage::Applied => base,
                Stage::Prepared => base || (follower && write.second),
                Stage::BaseCommitted => !base && follower && write.second,
            }
        });
        // A repair checks the epoch in both of its transactions, the copier in the follower's.
        let workers = self.workers.iter().any(|worker| match worker.at {
            Hand::Idle | Hand::CopyRead(_) => false,
            Hand::CopyPut => worker.base != side,
            Hand::BaseRead(_) => worker.base == side,
            Hand::FollowerLocked(..) => true,
        });
        writes || workers
    }

    fn lost(&self, control: &ControlSpec, side: Side) -> bool {
        self.db(side).control.as_ref().map_or(0, |row| row.place.epoch) < control.least(side)
    }

    pub fn can_raise(&self, rules: &Rules, side: Side) -> bool {
        let Some(asked) = self.asked() else { return false };
        let behind = self
            .db(side)
            .control
            .as_ref()
            .is_none_or(|row| row.place.epoch < asked.epoch);
        let strange = SIDES.iter().any(|side| {
            self.lost(&asked, *side)
                || self
                    .db(*side)
                    .control
                    .as_ref()
                    .is_some_and(|row| row.place.epoch > asked.epoch)
        });
        behind && !strange && (!self.in_flight(side) || rules.wrong("raise-does-not-wait"))
    }

    /// Whether a raise or a closing waits for the transactions in flight: whoever begins one now waits behind it.
    pub fn somebody_waits(&self) -> bool {
        let Some(asked) = self.asked() else { return false };
        SIDES.iter().any(|side| {
            let due = self.db(*side).control.as_ref().is_none_or(|row| {
                row.place.epoch < asked.epoch || (asked.min_epoch == asked.epoch && row.min_epoch < asked.epoch)
            });
            due && self.in_flight(*side)
        })
    }

    pub fn raise(&mut self, side: Side) {
        let Some(asked) = self.asked() else { return };
        let before = self.db(side).control.clone();
        self.db_mut(side).control = Some(Control {
            place: Place {
                epoch: asked.epoch,
                mode: asked.mode,
                secondary: asked.secondary,
            },
            min_epoch: before.as_ref().map_or(0, |row| row.min_epoch),
            round: asked.round,
            base_since: asked.base_since,
            acked_at: None,
            archived: before.is_some_and(|row| row.archived),
        });
    }

    pub fn can_close(&self, rules: &Rules, side: Side) -> bool {
        let Some(asked) = self.asked() else { return false };
        let base = asked.mode.base();
        let all = SIDES.iter().all(|side| {
            self.db(*side)
                .control
                .as_ref()
                .is_some_and(|row| row.place.epoch == asked.epoch)
        });
        let noted = side == base || self.db(base).control.as_ref().is_some_and(|row| row.acked_at.is_some());
        let open = |row: &Control| row.min_epoch < asked.epoch || row.acked_at.is_none();
        all && noted
            && asked.min_epoch == asked.epoch
            && self.db(side).control.as_ref().is_some_and(open)
            && (!self.in_flight(side) || rules.wrong("raise-does-not-wait"))
    }

    pub fn close(&mut self, side: Side) {
        let Some(asked) = self.asked() else { return };
        let base = asked.mode.base();
        let at = if side == base {
            self.mark += 1;
            Some(self.mark)
        } else {
            self.db(base).control.as_ref().and_then(|row| row.acked_at)
        };
        if let Some(row) = &mut self.db_mut(side).control {
            row.min_epoch = asked.min_epoch;
            row.acked_at = at;
        }
    }

    /// What the Watch would report now.
    fn look(&self) -> Option<Report> {
        let asked = self.tasks[self.watching()?].spec.control.clone();
        let rows: Vec<&Control> = SIDES
            .iter()
            .filter_map(|side| self.db(*side).control.as_ref())
            .collect();
        let all = |get: fn(&Control) -> i64, wanted: i64| rows.len() == 2 && rows.iter().all(|row| get(row) == wanted);
        // The lowest row, unless nobody asked for the higher one.
        let highest = rows.iter().max_by_key(|row| row.place.epoch);
        let unasked = highest.filter(|row| asked.as_ref().is_none_or(|asked| row.place.epoch > asked.epoch));
        let shown = unasked.or_else(|| rows.iter().min_by_key(|row| row.place.epoch));
        let acked_at = rows.iter().map(|row| row.acked_at).min().flatten();
        Some(Report {
            journal: shown.map(|shown| Control {
                min_epoch: rows.iter().map(|row| row.min_epoch).min().unwrap_or(0),
                acked_at: acked_at.filter(|_| rows.len() == 2 && rows.iter().all(|row| row.place == shown.place)),
                archived: rows.iter().any(|row| row.archived),
                ..(*shown).clone()
            }),
            fenced: self.source.fenced,
            raised: asked
                .as_ref()
                .is_some_and(|asked| all(|row| row.place.epoch, asked.epoch)),
            admitted: asked
                .as_ref()
                .is_some_and(|asked| all(|row| row.min_epoch, asked.min_epoch)),
            lost: SIDES
                .into_iter()
                .filter(|side| asked.as_ref().is_some_and(|asked| self.lost(asked, *side)))
                .collect(),
            instances: self
                .shops
                .iter()
                .enumerate()
                .filter_map(|(n, shop)| shop.acked.map(|place| (n, place, shop.faded)))
                .collect(),
            queue: SIDES
                .iter()
                .flat_map(|side| &self.db(*side).cells)
                .filter(|cell| cell.queued)
                .count() as u64,
        })
    }

    pub fn can_report(&self) -> bool {
        self.watching()
            .is_some_and(|task| self.tasks[task].report != self.look())
    }

    pub fn report(&mut self) {
        if let Some(task) = self.watching() {
            self.tasks[task].report = self.look();
        }
    }

    /// Everything that somebody holds is let go, and nothing of it stays.
    pub fn release(&mut self, holder: Holder) {
        for side in SIDES {
            for cell in &mut self.db_mut(side).cells {
                if cell.holder == Some(holder) {
                    cell.holder = None;
                    cell.pending = None;
                }
                if cell.advisory == Some(holder) {
                    cell.advisory = None;
                }
            }
        }
    }
}
