//! The workers: the copier (reads without locks, writes guarded), full and incremental verify with repair under both
//! sides' locks, fence, archive, preflight. A worker checks the epoch in the follower's control row in every transaction.

use datamigration::api::task::{TaskKind, VerifyScope};
use datamigration::words::Side;

use crate::databases::SIDES;
use crate::state::{Engine, Hand, Holder, JobState, Row, Rules, State, Window, Worker};

impl State {
    fn task_of(&self, worker: &Worker) -> Option<usize> {
        self.tasks
            .iter()
            .position(|task| task.name == worker.task && task.done_at.is_none())
    }

    /// Its task's epoch: as its name says, even after the task is gone.
    fn epoch_of(worker: &Worker) -> i64 {
        let digits = worker.task.rsplit('e').next().unwrap_or_default();
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    }

    fn incremental(worker: &Worker) -> bool {
        worker.task.contains("-inc-")
    }

    fn stale(&self, rules: &Rules, worker: &Worker) -> bool {
        let row = self.db(worker.base.other()).control.as_ref();
        row.is_none_or(|row| row.place.epoch != Self::epoch_of(worker))
            && !rules.wrong("workers-do-not-check-the-epoch")
    }

    pub fn hire(&mut self, task: usize) {
        let spec = &self.tasks[task].spec;
        if !matches!(spec.kind, TaskKind::Copy | TaskKind::Verify) {
            return;
        }
        self.workers.push(Worker {
            id: self.next_worker,
            task: self.tasks[task].name.clone(),
            base: spec.direction.base(),
            key: 0,
            at: Hand::Idle,
            pass: None,
        });
        self.next_worker = self.next_worker.wrapping_add(1);
    }

    pub fn dismiss(&mut self, task: &str) {
        let gone: Vec<u8> = self
            .workers
            .iter()
            .filter(|worker| worker.task == task)
            .map(|worker| worker.id)
            .collect();
        for id in gone {
            self.release(Holder::Worker(id));
        }
        self.workers.retain(|worker| worker.task != task);
    }

    /// Workers without a task end.
    pub fn dismiss_zombies(&mut self) {
        let asked = |name: &str| self.tasks.iter().any(|task| task.name == name);
        let names = self.workers.iter().map(|worker| worker.task.clone());
        let gone: Vec<String> = names.filter(|name| !asked(name)).collect();
        for name in gone {
            self.dismiss(&name);
        }
    }

    /// The pod is killed: what was not committed is rolled back, the key is begun again.
    pub fn restart(&mut self, n: usize) {
        self.release(Holder::Worker(self.workers[n].id));
        let worker = &mut self.workers[n];
        (worker.at, worker.pass) = (Hand::Idle, None);
        if Self::incremental(worker) {
            worker.key = 0;
        }
    }

    /// Tasks that are done in one step: preflight, fence, archive.
    pub fn can_finish(&self, task: usize) -> bool {
        let task = &self.tasks[task];
        let free = |kind| kind != TaskKind::Fence || !self.source_is_written();
        task.job == JobState::Running
            && task.done_at.is_none()
            && matches!(
                task.spec.kind,
                TaskKind::Preflight | TaskKind::Fence | TaskKind::Archive
            )
            && free(task.spec.kind)
    }

    fn source_is_written(&self) -> bool {
        self.source.cells.iter().any(|cell| cell.holder.is_some())
    }

    pub fn finish(&mut self, task: usize) {
        self.tasks[task].done_at = Some(self.now);
        match self.tasks[task].spec.kind {
            TaskKind::Fence => self.source.fenced = true,
            TaskKind::Archive => {
                if !self.source.fenced {
                    self.breaks("the source was archived before it was fenced");
                }
                for side in SIDES {
                    if let Some(row) = &mut self.db_mut(side).control {
                        row.archived = true;
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether a worker has something to do and is not waiting for a lock.
    pub fn can_work(&self, rules: &Rules, n: usize) -> bool {
        let worker = &self.workers[n];
        let running = self
            .task_of(worker)
            .is_some_and(|task| self.tasks[task].job == JobState::Running);
        if !running && !rules.zombies {
            return false;
        }
        let me = Holder::Worker(worker.id);
        let free = |holder: Option<Holder>| holder.is_none_or(|holder| holder == me);
        let keys = self.source.cells.len();
        let follower = worker.base.other();
        let waits = |side| rules.engine(side) == Engine::InnoDb;
        match worker.at {
            Hand::Idle if worker.key >= keys => true,
            Hand::Idle if Self::incremental(worker) && worker.pass.is_none() => self.wants_a_pass(worker),
            Hand::Idle if worker.task.contains("-copy-") => true,
            Hand::Idle => {
                let cell = &self.db(worker.base).cells[worker.key];
                let absent = cell.committed.version.is_none();
                rules.wrong("repairs-without-locks") || free(cell.holder) || (absent && !waits(worker.base))
            }
            Hand::CopyRead(_) | Hand::FollowerLocked(..) => free(self.db(follower).cells[worker.key].holder),
            Hand::CopyPut => true,
            Hand::BaseRead(_) => {
                let cell = &self.db(follower).cells[worker.key];
                let absent = cell.committed.version.is_none();
                let row = free(cell.holder) || (absent && !waits(follower));
                self.stale(rules, worker) || (row && (waits(follower) || free(cell.advisory)))
            }
        }
    }

    fn todo(&self, base: Side) -> u8 {
        let bits = (0..self.source.cells.len()).filter(|key| {
            self.db(base).cells[*key].dirty || SIDES.iter().any(|side| self.db(*side).cells[*key].queued)
        });
        bits.map(|key| 1 << key).sum()
    }

    fn wants_a_pass(&self, worker: &Worker) -> bool {
        let Some(task) = self.task_of(worker) else { return false };
        self.todo(worker.base) != 0
            || self.tasks[task].window.as_ref().is_none_or(|window| {
                window.through < self.mark || !window.clean || window.queue > 0 || window.at < self.now
            })
    }

    /// One step of a worker.
    pub fn work(&mut self, rules: &Rules, n: usize) {
        let worker = self.workers[n].clone();
        let (me, follower) = (Holder::Worker(worker.id), worker.base.other());
        if worker.key >= self.source.cells.len() {
            return self.came_to_the_end(n);
        }
        match worker.at {
            Hand::Idle if Self::incremental(&worker) && worker.pass.is_none() => {
                let todo = self.todo(worker.base);
                self.workers[n].pass = Some((self.mark, todo, todo != 0));
            }
            Hand::Idle if worker.pass.is_some_and(|(_, todo, _)| todo & (1 << worker.key) == 0) => {
                self.workers[n].key += 1;
            }
            Hand::Idle if worker.task.contains("-copy-") => {
                let row = self.db(worker.base).cells[worker.key].committed;
                if row.version.is_some() {
                    self.workers[n].at = Hand::CopyRead(row);
                } else {
                    self.workers[n].key += 1;
                }
            }
            Hand::Idle => {
                let locks = !rules.wrong("repairs-without-locks");
                for side in SIDES {
                    self.cell(side, worker.key).fresh = false;
                }
                let cell = self.cell(worker.base, worker.key);
                let there = cell.committed.version.is_some();
                if there && locks {
                    cell.holder = Some(me);
                }
                let row = cell.committed;
                self.workers[n].at = Hand::BaseRead(there.then_some(row));
            }
            Hand::CopyRead(row) => self.copy(rules, n, row),
            Hand::CopyPut => {
                let cell = self.cell(follower, worker.key);
                if let (true, Some(row)) = (cell.holder == Some(me), cell.pending) {
                    cell.committed = row;
                }
                self.release(me);
                self.next_key(n);
            }
            Hand::BaseRead(row) => {
                if self.stale(rules, &worker) {
                    self.release(me);
                    return self.give_up(n);
                }
                let postgres = rules.engine(follower) == Engine::Postgres;
                let cell = self.cell(follower, worker.key);
                if postgres {
                    cell.advisory = Some(me);
                }
                let there = cell.committed.version.is_some();
                if there {
                    cell.holder = Some(me);
                }
                self.workers[n].at = Hand::FollowerLocked(row, there);
            }
            Hand::FollowerLocked(row, there) => self.settle(rules, n, row, there),
        }
    }

    /// The guarded put: a missing row is inserted, an older one is set, any other is left alone.
    fn copy(&mut self, rules: &Rules, n: usize, row: Row) {
        let worker = self.workers[n].clone();
        if self.stale(rules, &worker) {
            return self.give_up(n);
        }
        let cell = self.cell(worker.base.other(), worker.key);
        let held = cell.committed;
        let newer = match (held.version, row.version) {
            (Some(held), Some(read)) => {
                if rules.wrong("copier-is-not-guarded") {
                    true
                } else if rules.wrong("copier-overwrites-equal-versions") {
                    held <= read
                } else {
                    held < read
                }
            }
            (None, _) => true,
            (Some(_), None) => false,
        };
        if !newer {
            return self.next_key(n);
        }
        if held.version.is_some() && held.version >= row.version && held != row {
            self.breaks("the copier replaced a row that was not older");
        }
        let cell = self.cell(worker.base.other(), worker.key);
        cell.holder = Some(Holder::Worker(worker.id));
        cell.pending = Some(row);
        self.workers[n].at = Hand::CopyPut;
    }

    /// The last step of a repair: the follower is made what the base is.
    fn settle(&mut self, rules: &Rules, n: usize, row: Option<Row>, there: bool) {
        let worker = self.workers[n].clone();
        let (me, follower) = (Holder::Worker(worker.id), worker.base.other());
        let appeared = row.is_none() && self.db(worker.base).cells[worker.key].committed.version.is_some();
        if appeared && !rules.wrong("repair-does-not-look-again") {
            self.release(me);
            self.workers[n].at = Hand::Idle;
            return;
        }
        let gone = self.db(worker.base).cells[worker.key].committed;
        let cell = self.cell(follower, worker.key);
        match row {
            Some(row) => cell.committed = row,
            // Who deleted it is only told for whoever asks afterwards.
            None if there || cell.committed.version.is_none() => cell.committed = Row { version: None, ..gone },
            None => {}
        }
        for side in SIDES {
            let base = worker.base == side;
            let forgets = rules.wrong("queue-entry-is-lost");
            let cell = self.cell(side, worker.key);
            if !cell.fresh || forgets {
                cell.queued = false;
            }
            if base && Self::incremental(&worker) {
                cell.dirty = false;
            }
        }
        self.release(me);
        self.next_key(n);
    }

    fn next_key(&mut self, n: usize) {
        self.workers[n].at = Hand::Idle;
        self.workers[n].key += 1;
    }

    /// The database says that the epoch is over.
    fn give_up(&mut self, n: usize) {
        let worker = &mut self.workers[n];
        (worker.at, worker.key, worker.pass) = (Hand::Idle, 0, None);
        // It waits until its task is taken away.
        if !Self::incremental(worker) {
            let task = worker.task.clone();
            self.dismiss(&task);
        }
    }

    fn came_to_the_end(&mut self, n: usize) {
        let worker = self.workers[n].clone();
        let Some(task) = self.task_of(&worker) else {
            return self.dismiss(&worker.task);
        };
        if let Some((through, _, found)) = worker.pass {
            let queue = SIDES
                .iter()
                .flat_map(|side| &self.db(*side).cells)
                .filter(|cell| cell.queued)
                .count();
            self.tasks[task].window = Some(Window {
                through,
                queue: queue as u8,
                clean: !found,
                at: self.now,
            });
            (self.workers[n].key, self.workers[n].pass) = (0, None);
            return;
        }
        if self.tasks[task].spec.scope == Some(VerifyScope::Incremental) {
            self.workers[n].key = 0;
            return;
        }
        self.tasks[task].done_at = Some(self.now);
        self.dismiss(&worker.task);
    }
}
