//! One attempt at a dual write, in the order that keeps both sides the same: lock and apply on the base, put its row
//! images on the follower, commit the base, commit the follower.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use super::acknowledge::Lease;
use super::breaker::Breaker;
use super::counters::Counters;
use super::detached::within;
use super::error::{ApplyError, Failure, Fault, Refusal};
use super::follower::{self, Image, PutFault};
use super::gate::Gate;
use super::mode::Stance;
use super::outcome::{
    AfterBase, AfterPut, Answer, Committed, Put, after_base_commit, after_follower_commit, after_put,
};
use super::queue::{Owed, enqueue, queue_late};
use super::router::Router;
use super::session::{Left, Session};
use super::sides::Sides;
use crate::control::{self, Claim};
use crate::rows::{Key, Value};
use crate::store::{CommitError, Engine, Lock, StoreError, TablePair, TableSide, Tx, TxOptions};
use crate::words::{Direction, Mode, SecondaryWrites, Side};

/// Most keys of one write: both databases hold that many row locks meanwhile.
pub const MOST_KEYS: usize = 1000;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Most that the second write may take before it counts as failed.
    pub follower_timeout: Duration,
    /// Most that a statement on the base may wait for a lock.
    pub base_lock_timeout: Duration,
    /// Most that any statement on the base may take.
    pub base_statement_timeout: Duration,
    /// How long a write is tried again while nothing was committed.
    pub retry_for: Duration,
    pub lease: Duration,
}

/// What every write shares.
#[derive(Debug)]
pub(super) struct Core {
    pub settings: Settings,
    pub sides: Arc<Sides>,
    pub router: Arc<Router>,
    pub gate: Gate,
    pub breaker: Breaker,
    pub counters: Counters,
    pub lease: Lease,
}

/// The application's part: its SQL, for the side that is the base. It may run more than once; what an earlier run did
/// was rolled back.
pub type Apply<T> = Arc<dyn for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync>;

/// One table of a write, with what is known of its keys.
struct Part {
    table: usize,
    /// Its name in the source, which is its name in the control tables.
    name: String,
    keys: Vec<Key>,
    narrow: Arc<TableSide>,
    claim: Option<Claim>,
    /// Keys that were there under this transaction's lock before the application's SQL, with their versions.
    before: Vec<(Key, Value)>,
    /// Keys that were absent before it and are absent after it.
    absent: Vec<Key>,
}

impl Part {
    fn was_there(&self, key: &Key) -> Option<&Value> {
        self.before
            .iter()
            .find(|(found, _)| found == key)
            .map(|(_, version)| version)
    }
}

/// Whether both sides' shapes are known, and if not why not.
type Pairs = Result<Vec<Arc<TablePair>>, String>;

/// What an attempt means to do about the follower; said before any of it is begun, so that one that is away is not even
/// asked for its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Second {
    Try,
    /// The circuit breaker is open: the keys are queued.
    Skip,
}

pub(super) async fn attempt<T>(
    core: &Arc<Core>,
    stance: &Stance,
    declared: &[(usize, Vec<Key>)],
    apply: &Apply<T>,
) -> Result<T, Fault> {
    if stance.mode == Mode::SrcReadOnly {
        return Err(Fault::Refused(Refusal::ReadOnly));
    }
    let base = stance.mode.base();
    let tables: Vec<usize> = declared.iter().map(|(table, _)| *table).collect();
    // Shapes are looked up before any lock is held.
    let mut parts = Vec::with_capacity(tables.len());
    for (table, keys) in declared {
        let narrow = core.sides.narrow(base, *table).await?;
        let name = core.sides.tables()[*table].name().to_owned();
        parts.push(Part {
            table: *table,
            name,
            keys: keys.clone(),
            narrow,
            claim: None,
            before: Vec::new(),
            absent: Vec::new(),
        });
    }
    // Strict has no use for the breaker: it must try.
    let second = match stance.secondary {
        SecondaryWrites::Lenient if stance.follower().is_some() && !core.breaker.allows(Instant::now()) => Second::Skip,
        _ => Second::Try,
    };
    let pairs = match (stance.follower(), second) {
        (Some(_), Second::Try) => Some(pairs(core, &tables).await),
        (Some(_), Second::Skip) => Some(known_pairs(core, &tables)),
        (None, _) => None,
    };

    let mut tx = core.sides.database(base)?.begin(core.base_options()).await?;
    match on_base(core, stance, &mut parts, &mut tx).await {
        Ok(()) => {}
        Err(fault) => return Err(rolled_back(tx, fault).await),
    }
    let mut session = Session::new(tx, base, core.sides.clone());
    let applied = apply(&mut session).await;
    let Left {
        mut tx,
        created,
        changed,
    } = session.leave();
    let value = match applied {
        Ok(value) => value,
        Err(error) => return Err(rolled_back(tx, error.into()).await),
    };
    if let Err(fault) = add_created(&mut parts, created) {
        return Err(rolled_back(tx, fault).await);
    }
    let images = match stamp_and_read(stance, &mut parts, pairs.as_ref(), &mut tx).await {
        Ok(images) => images,
        Err(fault) => return Err(rolled_back(tx, fault).await),
    };
    if changed
        && images.is_some()
        && let Err(fault) = nothing_unseen_was_deleted(core, base, &parts).await
    {
        return Err(rolled_back(tx, fault).await);
    }
    finish(core, stance, &parts, (second, images), tx).await.map(|()| value)
}

/// Both shapes, within the follower's time: one that is away must not hold the write up.
async fn pairs(core: &Core, tables: &[usize]) -> Pairs {
    let (sides, tables) = (core.sides.clone(), tables.to_vec());
    let all = async move {
        let mut pairs = Vec::with_capacity(tables.len());
        for table in tables {
            pairs.push(sides.pair(table).await.map_err(|fault| fault.text())?);
        }
        Ok(pairs)
    };
    within(core.settings.follower_timeout, all)
        .await
        .unwrap_or_else(|| Err("the follower's table was not described in time".to_owned()))
}

/// Both shapes, where they are known already: the version is stamped in digits that both sides keep.
fn known_pairs(core: &Core, tables: &[usize]) -> Pairs {
    tables
        .iter()
        .map(|table| core.sides.known_pair(*table))
        .collect::<Option<_>>()
        .ok_or_else(|| "the follower's table is not known".to_owned())
}

/// Step 1 up to the application's SQL: the epoch is checked, the keys are locked.
async fn on_base(core: &Core, stance: &Stance, parts: &mut [Part], tx: &mut Tx) -> Result<(), Fault> {
    hand_out_keys(stance, tx).await?;
    for part in parts {
        let table = core.sides.tables()[part.table].name_on(stance.mode.base());
        part.claim = control::check_instance(tx, table, stance.epoch).await?;
        if part.keys.is_empty() {
            continue;
        }
        let rows = tx.read_keys(&part.narrow, &part.keys, Lock::Update).await?;
        part.before = rows
            .iter()
            .map(|row| (part.narrow.key_of(row), part.narrow.version_of(row).clone()))
            .collect();
    }
    Ok(())
}

/// While the base is being swapped both databases hand out keys: the source odd ones, the target even ones. On
/// PostgreSQL the sequence itself does; on MySQL each session must be told, and told when it is over.
async fn hand_out_keys(stance: &Stance, tx: &mut Tx) -> Result<(), StoreError> {
    if tx.engine() != Engine::MySql || stance.epoch == 0 {
        return Ok(());
    }
    let offset = match stance.mode.base() {
        Side::Source => 1,
        Side::Target => 2,
    };
    let sql = match stance.secondary {
        SecondaryWrites::Strict if stance.mode.writes_both() => {
            format!("SET SESSION auto_increment_increment = 2, SESSION auto_increment_offset = {offset}")
        }
        _ => "SET SESSION auto_increment_increment = DEFAULT, SESSION auto_increment_offset = DEFAULT".to_owned(),
    };
    tx.execute(&sql, &[]).await.map(drop)
}

fn add_created(parts: &mut [Part], created: Vec<(usize, Key)>) -> Result<(), Fault> {
    for (table, key) in created {
        // A table that the write did not declare has neither been checked nor claimed.
        let Some(part) = parts.iter_mut().find(|part| part.table == table) else {
            let why = "a row was created in a table that the write does not name; name it when the write begins";
            return Err(Fault::Failed(Failure::Table(why.to_owned())));
        };
        if !part.keys.contains(&key) {
            part.keys.push(key);
        }
    }
    let found = parts.iter().map(|part| part.keys.len()).sum();
    if found > MOST_KEYS {
        return Err(Fault::Refused(Refusal::TooManyKeys { found, most: MOST_KEYS }));
    }
    Ok(())
}

/// The rest of step 1 and the base's half of step 2: versions are stamped, the images are read under lock, deletes are
/// recorded. `None`: there is no follower in this mode.
async fn stamp_and_read(
    stance: &Stance,
    parts: &mut [Part],
    pairs: Option<&Pairs>,
    tx: &mut Tx,
) -> Result<Option<Result<Vec<Image>, String>>, Fault> {
    let direction = Direction::from_base(stance.mode.base());
    for (index, part) in parts.iter_mut().enumerate() {
        if part.keys.is_empty() {
            continue;
        }
        part.keys.sort();
        part.keys.dedup();
        let stored: Vec<(Key, Option<Value>)> = part
            .keys
            .iter()
            .map(|key| (key.clone(), part.was_there(key).cloned()))
            .collect();
        // The pair knows how many digits of a version both sides keep.
        let side = match pairs {
            Some(Ok(pairs)) => pairs[index].base(direction),
            _ => &part.narrow,
        };
        tx.stamp(side, &stored).await?;
    }
    let Some(pairs) = pairs else { return Ok(None) };
    let mut images = Vec::new();
    for (index, part) in parts.iter_mut().enumerate() {
        let side = match pairs {
            Ok(pairs) => pairs[index].base(direction),
            Err(_) => &part.narrow,
        };
        let puts = if part.keys.is_empty() {
            Vec::new()
        } else {
            tx.read_keys(side, &part.keys, Lock::Update).await?
        };
        let there: Vec<Key> = puts.iter().map(|row| side.key_of(row)).collect();
        // Absence is carried only for what this transaction deleted itself: a key that was absent before is not
        // locked, and may be another's insert by now.
        let deleted: Vec<(Key, Option<String>)> = part
            .before
            .iter()
            .filter(|(key, _)| !there.contains(key))
            .map(|(key, version)| (key.clone(), version.as_str().map(str::to_owned)))
            .collect();
        part.absent = part
            .keys
            .iter()
            .filter(|key| !there.contains(key) && part.was_there(key).is_none())
            .cloned()
            .collect();
        if let Some(claim) = &part.claim
            && !deleted.is_empty()
        {
            control::record_deletes(tx, &claim.migration, &claim.uid, &part.name, &deleted).await?;
        }
        if let Ok(pairs) = pairs {
            let deletes = deleted.into_iter().map(|(key, _)| key).collect();
            images.push(Image {
                pair: pairs[index].clone(),
                puts,
                deletes,
            });
        }
    }
    Ok(Some(match pairs {
        Ok(_) => Ok(images),
        Err(why) => Err(why.clone()),
    }))
}

/// A key that is absent cannot be locked: another writer's row may have appeared under it after the keys were locked
/// and then been deleted by the application's SQL. As long as this transaction is open, everybody else still sees such a
/// row; a look from outside tells. The next attempt finds it there, and locks it.
async fn nothing_unseen_was_deleted(core: &Core, base: Side, parts: &[Part]) -> Result<(), Fault> {
    if parts.iter().all(|part| part.absent.is_empty()) {
        return Ok(());
    }
    let options = TxOptions {
        acquire_timeout: core.settings.base_lock_timeout,
        ..TxOptions::read_only()
    };
    let mut outside = core.sides.database(base)?.begin(options).await?;
    for part in parts.iter().filter(|part| !part.absent.is_empty()) {
        let rows = outside.read_keys(&part.narrow, &part.absent, Lock::None).await?;
        if let Some(row) = rows.first() {
            let message = format!(
                "a row of {} appeared under the key {} while it was written",
                part.name,
                part.narrow.key_of(row)
            );
            return Err(Fault::Contention(Failure::Table(message)));
        }
    }
    outside.rollback().await;
    Ok(())
}

/// Steps 2 to 4, as the matrix says.
async fn finish(
    core: &Arc<Core>,
    stance: &Stance,
    parts: &[Part],
    (intended, images): (Second, Option<Result<Vec<Image>, String>>),
    mut tx: Tx,
) -> Result<(), Fault> {
    let owed: Vec<Owed> = parts
        .iter()
        .filter(|part| !part.keys.is_empty())
        .map(|part| Owed {
            table: core.sides.tables()[part.table].name_on(stance.mode.base()).to_owned(),
            name: part.name.clone(),
            keys: part.keys.clone(),
            claim: part.claim.clone(),
        })
        .collect();
    let (mut second, mut queued) = (None, false);
    if let (Some(follower), Some(images)) = (stance.follower(), images) {
        let (put, why) = match second_write(core, stance, follower, intended, images).await {
            Ok(waiting) => {
                second = waiting;
                (Put::Done, String::new())
            }
            Err(PutFault::Stale(why)) => (Put::Stale, why),
            Err(PutFault::Failed(error)) => {
                Counters::add(&core.counters.follower_failures, 1);
                (Put::Failed, error.to_string())
            }
        };
        match after_put(put, stance.secondary) {
            AfterPut::CommitBase => {}
            AfterPut::QueueThenCommitBase => {
                tracing::debug!(%why, "second write failed; its keys are queued");
                if let Err(fault) = enqueue(&owed, &mut tx, &why).await {
                    return Err(rolled_back(tx, fault).await);
                }
                queued = true;
            }
            AfterPut::RollBack => {
                let fault = match put {
                    Put::Stale => Fault::Stale(why),
                    _ => Fault::Contention(Failure::SecondWrite(why)),
                };
                return Err(rolled_back(tx, fault).await);
            }
        }
    }

    let (base, error) = committed(tx.commit().await);
    match after_base_commit(base, second.is_some()) {
        AfterBase::Succeed => {
            if queued {
                Counters::add(&core.counters.queued, owed.iter().map(Owed::count).sum());
            }
            Ok(())
        }
        AfterBase::Fail => {
            roll_back_second(second).await;
            Err(error.map_or_else(|| Fault::Unknown("the commit gave no reason".to_owned()), Fault::from))
        }
        AfterBase::TellUnknown => {
            roll_back_second(second).await;
            let why = error.map_or_else(String::new, |error| error.to_string());
            if stance.follower().is_some() {
                queue_late(
                    core,
                    stance,
                    owed,
                    &format!("the base's commit was not answered: {why}"),
                )
                .await;
            }
            Err(Fault::Unknown(format!("the base's commit was not answered: {why}")))
        }
        AfterBase::CommitFollower => {
            let Some(second) = second else { return Ok(()) };
            let (follower, error) = committed(second.commit().await);
            let queued = match &error {
                None => None,
                Some(error) => {
                    Counters::add(&core.counters.follower_failures, 1);
                    core.follower_failed(error);
                    Some(queue_late(core, stance, owed, &format!("the follower's commit failed: {error}")).await)
                }
            };
            match after_follower_commit(follower, stance.secondary, queued) {
                Answer::Ok => Ok(()),
                Answer::OutcomeUnknown => Err(Fault::Unknown(format!(
                    "the base has committed and the follower has not{}: {}",
                    if queued == Some(true) {
                        "; its keys are queued for repair"
                    } else {
                        ", nor could its keys be queued"
                    },
                    error.map_or_else(String::new, |error| error.to_string())
                ))),
            }
        }
    }
}

/// The second write, unless the breaker was open when the attempt began.
async fn second_write(
    core: &Arc<Core>,
    stance: &Stance,
    follower: Side,
    intended: Second,
    images: Result<Vec<Image>, String>,
) -> Result<Option<Tx>, PutFault> {
    let failed = |message: String| StoreError::Other {
        label: follower.to_string(),
        message,
    };
    if intended == Second::Skip {
        return Err(PutFault::Failed(failed(
            "not tried: the last second writes failed (circuit breaker)".to_owned(),
        )));
    }
    let result = match images {
        Ok(images) => follower::put(core, follower, stance, images).await,
        Err(why) => {
            let error = failed(why);
            core.breaker_failed(&error);
            return Err(PutFault::Failed(error));
        }
    };
    match &result {
        Ok(_) => core.breaker.succeeded(),
        Err(PutFault::Stale(_)) => {}
        Err(PutFault::Failed(error)) => core.follower_failed(error),
    }
    result
}

impl Core {
    pub fn base_options(&self) -> TxOptions {
        TxOptions {
            lock_timeout: self.settings.base_lock_timeout,
            statement_timeout: Some(self.settings.base_statement_timeout),
            ..TxOptions::default()
        }
    }

    fn follower_failed(&self, error: &StoreError) {
        // Somebody else's lock says nothing about the follower's health.
        if matches!(error, StoreError::Deadlock { .. } | StoreError::LockTimeout { .. }) {
            return;
        }
        if !error.is_transient() {
            self.sides.forget_shapes();
        }
        self.breaker_failed(error);
    }

    fn breaker_failed(&self, error: &StoreError) {
        if self.breaker.failed(Instant::now()) {
            Counters::add(&self.counters.breaker_opened, 1);
            tracing::warn!(%error, "the follower keeps failing; second writes are queued without a try");
        }
    }
}

fn committed(result: Result<(), CommitError>) -> (Committed, Option<StoreError>) {
    match result {
        Ok(()) => (Committed::Yes, None),
        Err(CommitError::Refused(error)) => (Committed::No, Some(error)),
        Err(CommitError::Unknown(error)) => (Committed::Unknown, Some(error)),
    }
}

pub(super) async fn rolled_back(tx: Tx, fault: Fault) -> Fault {
    tx.rollback().await;
    fault
}

async fn roll_back_second(second: Option<Tx>) {
    if let Some(second) = second {
        second.rollback().await;
    }
}
