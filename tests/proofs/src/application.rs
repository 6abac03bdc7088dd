//! The application: instances that follow the ConfigMap and acknowledge, and requests that go through the steps of the
//! dual write. What a failure means is asked of the library's own outcome matrix.

use datamigration::words::{Mode, Side};

use crate::outcome::{
    AfterBase, AfterPut, Answer as Told, Committed, Put, after_base_commit, after_follower_commit, after_put,
};
use crate::state::{Answer, Engine, Holder, Op, Place, Row, Rules, Shop, Stage, State, Write};

/// How a step of a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Luck {
    Good,
    /// The statement fails or takes too long; a commit is refused.
    Fails,
    /// The commit happens, and its answer is lost.
    Unanswered,
}

/// What the ConfigMap says.
pub fn shown(state: &State) -> Option<Place> {
    let map = state.map.as_ref()?;
    Some(Place {
        epoch: map.get("epoch")?.parse().ok()?,
        mode: map.get("write-mode")?.parse().ok()?,
        secondary: map.get("secondary-writes")?.parse().ok()?,
    })
}

const fn follower(place: Place) -> Option<Side> {
    if place.mode.writes_both() {
        Some(place.mode.base().other())
    } else {
        None
    }
}

impl State {
    pub fn can_read(&self, shop: usize) -> bool {
        self.shops[shop].alive && shown(self).is_some_and(|place| place.epoch > self.shops[shop].place.epoch)
    }

    pub fn read(&mut self, shop: usize) {
        if let Some(place) = shown(self) {
            self.shops[shop].place = place;
        }
    }

    /// No request that was begun in an older mode is in flight.
    pub fn can_acknowledge(&self, rules: &Rules, shop: usize) -> bool {
        let Shop {
            alive, place, acked, ..
        } = self.shops[shop];
        let older = |write: &Write| {
            write.shop == shop
                && !matches!(write.stage, Stage::Waiting | Stage::Over)
                && write.place.epoch < place.epoch
        };
        alive
            && place.epoch > 0
            && acked != Some(place)
            // Its row is written in the base, where the control tables have to be.
            && self.db(place.mode.base()).control.is_some()
            && (!self.writes.iter().any(older) || rules.wrong("acknowledges-with-requests-in-flight"))
    }

    pub fn acknowledge(&mut self, shop: usize) {
        self.shops[shop].acked = Some(self.shops[shop].place);
    }

    /// The process dies with whatever it was doing; its pod is gone, its row stays a while.
    pub fn die(&mut self, shop: usize) {
        self.shops[shop].alive = false;
        self.shops[shop].listed = false;
        for k in 0..self.writes.len() {
            if self.writes[k].shop == shop && !matches!(self.writes[k].stage, Stage::Waiting | Stage::Over) {
                self.release(Holder::Write(k as u8));
                self.end(k, Answer::Unknown);
            }
        }
    }

    pub fn can_start(&self, k: usize, shop: usize) -> bool {
        let next = self.writes.iter().position(|write| write.stage == Stage::Waiting) == Some(k);
        next && self.shops[shop].alive && self.shops[shop].place.mode != Mode::SrcReadOnly
    }

    pub fn start(&mut self, k: usize, shop: usize) {
        let over = |(n, write): (usize, &Write)| if write.stage == Stage::Over { 1 << n } else { 0_u128 };
        let after = self.writes.iter().enumerate().map(over).sum();
        let place = self.shops[shop].place;
        let write = &mut self.writes[k];
        (write.shop, write.place, write.after, write.stage) = (shop, place, after, Stage::Started);
    }

    /// Whether a write can go on; a transaction that waits for a lock cannot.
    pub fn can_go_on(&self, rules: &Rules, k: usize) -> bool {
        let write = &self.writes[k];
        let me = Holder::Write(k as u8);
        let free = |holder: Option<Holder>| holder.is_none_or(|holder| holder == me);
        let base = &self.db(write.place.mode.base()).cells[write.key];
        let waits_here = rules.engine(write.place.mode.base()) == Engine::InnoDb;
        match write.stage {
            Stage::Waiting | Stage::Over => false,
            Stage::Started => free(base.holder) || (base.committed.version.is_none() && !waits_here),
            Stage::Locked => match write.op {
                Op::Put => free(base.holder),
                Op::Delete => free(base.holder) || (base.committed.version.is_none() && !waits_here),
            },
            Stage::Applied => follower(write.place).is_none_or(|side| self.follower_is_free(rules, k, side)),
            Stage::Prepared | Stage::BaseCommitted => true,
        }
    }

    fn follower_is_free(&self, rules: &Rules, k: usize, side: Side) -> bool {
        let (write, me) = (&self.writes[k], Holder::Write(k as u8));
        let cell = &self.db(side).cells[write.key];
        let free = |holder: Option<Holder>| holder.is_none_or(|holder| holder == me);
        if !changes(write) || self.refused(side, write.place) {
            return true;
        }
        match rules.engine(side) {
            Engine::InnoDb => free(cell.holder),
            Engine::Postgres => {
                let row = free(cell.holder) || (write.image.version.is_none() && cell.committed.version.is_none());
                row && (free(cell.advisory) || rules.wrong("no-advisory-lock"))
            }
        }
    }

    /// The control row, or the fence, shuts the instance out.
    fn refused(&self, side: Side, place: Place) -> bool {
        let db = self.db(side);
        db.control.as_ref().is_some_and(|row| place.epoch < row.min_epoch) || (side == Side::Source && db.fenced)
    }

    /// Whether a write may fail where it is.
    pub fn can_fail(&self, rules: &Rules, k: usize, luck: Luck) -> bool {
        let write = &self.writes[k];
        let second = follower(write.place).is_some() && changes(write);
        match (write.stage, luck) {
            // Who waits for a lock gives up by and by.
            (Stage::Applied, Luck::Fails) => second && (self.budget.second > 0 || !self.can_go_on(rules, k)),
            (Stage::Prepared | Stage::BaseCommitted, Luck::Fails | Luck::Unanswered) => self.budget.commits > 0,
            _ => false,
        }
    }

    /// One step of a write.
    pub fn go_on(&mut self, rules: &Rules, k: usize, luck: Luck) {
        match (self.writes[k].stage, luck) {
            (Stage::Applied, Luck::Fails) if self.can_go_on(rules, k) => self.budget.second -= 1,
            (Stage::Applied, _) => {}
            (_, Luck::Fails | Luck::Unanswered) => self.budget.commits -= 1,
            _ => {}
        }
        match self.writes[k].stage {
            Stage::Waiting | Stage::Over => {}
            Stage::Started => self.lock(rules, k),
            Stage::Locked => self.apply(rules, k),
            Stage::Applied => self.put(rules, k, luck),
            Stage::Prepared => self.commit_base(rules, k, luck),
            Stage::BaseCommitted => self.commit_follower(rules, k, luck),
        }
    }

    fn lock(&mut self, rules: &Rules, k: usize) {
        let write = self.writes[k].clone();
        let base = write.place.mode.base();
        if self.refused(base, write.place) && !rules.wrong("base-does-not-check-the-epoch") {
            return self.end(k, Answer::Failed);
        }
        let cell = self.cell(base, write.key);
        let there = cell.committed.version.is_some();
        if there {
            cell.holder = Some(Holder::Write(k as u8));
        }
        self.writes[k].was_there = there;
        self.writes[k].stage = Stage::Locked;
    }

    fn apply(&mut self, rules: &Rules, k: usize) {
        let write = self.writes[k].clone();
        let (base, me) = (write.place.mode.base(), Holder::Write(k as u8));
        let clock = self.shops[write.shop].clock;
        let cell = self.cell(base, write.key);
        let by = k as u8 + 1;
        let image = match write.op {
            Op::Put => {
                let version = cell.committed.version.map_or(clock, |stored| clock.max(stored + 1));
                cell.holder = Some(me);
                Row {
                    version: Some(version),
                    by,
                }
            }
            Op::Delete if write.was_there => Row { version: None, by },
            Op::Delete if cell.committed.version.is_some() => {
                // Another's row appeared under a key that was not locked: a look from outside tells.
                if !rules.wrong("deletes-what-it-did-not-lock") {
                    self.release(me);
                    return self.end(k, Answer::Failed);
                }
                cell.holder = Some(me);
                Row { version: None, by }
            }
            // Nothing was there, nothing was done.
            Op::Delete => cell.committed,
        };
        if cell.holder == Some(me) {
            cell.pending = Some(image);
        }
        self.writes[k].image = image;
        self.writes[k].stage = Stage::Applied;
    }

    fn put(&mut self, rules: &Rules, k: usize, luck: Luck) {
        let write = self.writes[k].clone();
        let me = Holder::Write(k as u8);
        let Some(side) = follower(write.place).filter(|_| changes(&write)) else {
            self.writes[k].stage = Stage::Prepared;
            return;
        };
        let result = if luck == Luck::Fails {
            Put::Failed
        } else if self.refused(side, write.place) && !rules.wrong("follower-does-not-check-the-epoch") {
            Put::Stale
        } else {
            Put::Done
        };
        if result == Put::Done {
            let guarded = rules.wrong("guarded-second-write");
            let postgres = rules.engine(side) == Engine::Postgres && !rules.wrong("no-advisory-lock");
            let cell = self.cell(side, write.key);
            if postgres {
                cell.advisory = Some(me);
            }
            let nothing = write.image.version.is_none() && cell.committed.version.is_none();
            let older = guarded && write.image.version.is_some() && write.image.version <= cell.committed.version;
            if !nothing && !older {
                cell.holder = Some(me);
                cell.pending = Some(write.image);
            }
            self.writes[k].second = true;
        }
        match after_put(result, write.place.secondary) {
            AfterPut::CommitBase => {}
            AfterPut::QueueThenCommitBase => self.writes[k].queued = true,
            AfterPut::RollBack => {
                self.release(me);
                return self.end(k, Answer::Failed);
            }
        }
        self.writes[k].stage = Stage::Prepared;
    }

    fn commit_base(&mut self, rules: &Rules, k: usize, luck: Luck) {
        let write = self.writes[k].clone();
        let base = write.place.mode.base();
        let outcome = match luck {
            Luck::Good => Committed::Yes,
            Luck::Fails => Committed::No,
            Luck::Unanswered => Committed::Unknown,
        };
        if outcome != Committed::No {
            self.commit(k, base, rules);
            if write.queued {
                self.enqueue(base, write.key);
            }
        }
        match after_base_commit(outcome, write.second) {
            AfterBase::CommitFollower => self.writes[k].stage = Stage::BaseCommitted,
            AfterBase::Succeed => self.end(k, Answer::Ok),
            AfterBase::Fail => {
                self.release(Holder::Write(k as u8));
                self.end(k, Answer::Failed);
            }
            AfterBase::TellUnknown => {
                self.release(Holder::Write(k as u8));
                if write.place.mode.writes_both() {
                    self.queue_late(k);
                }
                self.end(k, Answer::Unknown);
            }
        }
    }

    fn commit_follower(&mut self, rules: &Rules, k: usize, luck: Luck) {
        let write = self.writes[k].clone();
        let side = write.place.mode.base().other();
        let outcome = match luck {
            Luck::Good => Committed::Yes,
            Luck::Fails => Committed::No,
            Luck::Unanswered => Committed::Unknown,
        };
        if outcome != Committed::No {
            self.commit(k, side, rules);
        }
        self.release(Holder::Write(k as u8));
        let queued = (outcome != Committed::Yes).then(|| self.queue_late(k));
        let told = after_follower_commit(outcome, write.place.secondary, queued);
        self.end(k, if told == Told::Ok { Answer::Ok } else { Answer::Unknown });
    }

    fn commit(&mut self, k: usize, side: Side, rules: &Rules) {
        let write = self.writes[k].clone();
        let me = Holder::Write(k as u8);
        if self.refused(side, write.place) && side == Side::Source && self.source.fenced {
            self.breaks("a fenced source took a write");
        }
        let base = side == write.place.mode.base();
        let recorded = write.image.version.is_some() || !rules.wrong("deletes-are-not-recorded");
        let cell = self.cell(side, write.key);
        if cell.holder == Some(me) {
            if let Some(row) = cell.pending.take() {
                cell.committed = row;
                cell.dirty |= base && recorded;
            }
            cell.holder = None;
        }
        if write.op == Op::Delete && write.was_there && cell.committed.version.is_none() {
            // It was gone already; who deleted it is only told for whoever asks afterwards.
            cell.committed.by = k as u8 + 1;
        }
        if cell.advisory == Some(me) {
            cell.advisory = None;
        }
    }

    fn enqueue(&mut self, side: Side, key: usize) {
        let cell = self.cell(side, key);
        (cell.queued, cell.fresh) = (true, true);
    }

    /// The entry is written after the base has committed, if the epoch still lets it.
    fn queue_late(&mut self, k: usize) -> bool {
        let (place, key) = (self.writes[k].place, self.writes[k].key);
        let taken = !self.refused(place.mode.base(), place);
        if taken {
            self.enqueue(place.mode.base(), key);
        }
        taken
    }

    fn end(&mut self, k: usize, answer: Answer) {
        self.writes[k].stage = Stage::Over;
        self.writes[k].answer = Some(answer);
    }
}

/// Whether a write did anything that the follower has to hear of.
pub const fn changes(write: &Write) -> bool {
    matches!(write.op, Op::Put) || write.was_there
}
