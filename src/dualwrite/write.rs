//! One attempt at a dual write, in the order that keeps both sides the same: lock and apply on the base, put its row
//! images on the follower, commit the base, commit the follower. This file has the base's part.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use super::acknowledge::Lease;
use super::breaker::Breakers;
use super::counters::Counters;
use super::error::{ApplyError, Failure, Fault, Refusal};
use super::finish::finish;
use super::gate::Gate;
use super::images::shares;
use super::intent::Intent;
use super::mode::Stance;
use super::place::Stated;
use super::router::Router;
use super::session::{Left, Session};
use super::sides::Sides;
use crate::control::{self, Claim};
use crate::rows::{Key, Value};
use crate::store::{Engine, Lock, StoreError, TableSide, Tx, TxOptions};
use crate::words::{Mode, SecondaryWrites, Side};

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
    pub breakers: Breakers,
    pub counters: Counters,
    pub lease: Lease,
}

/// The application's part: its SQL, for the side that is the base. It may run more than once; what an earlier run did
/// was rolled back.
pub type Apply<T> = Arc<dyn for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync>;

/// What a write says beforehand: tables (in the order of their definitions) with their keys, and where rows lie whose keys
/// are not known yet.
#[derive(Debug)]
pub(super) struct Declared {
    pub parts: Vec<(usize, Vec<Key>)>,
    pub place: Option<(usize, Stated)>,
}

/// One table of a write, with what is known of its keys.
pub(super) struct Part {
    pub table: usize,
    /// Its name in the manifest, which is its name in the control tables.
    pub name: String,
    /// Its name in the base's shard.
    pub base_name: String,
    pub keys: Vec<Key>,
    pub narrow: Arc<TableSide>,
    pub claim: Option<Claim>,
    /// Keys that were there under this transaction's lock before the application's SQL, with their versions.
    pub before: Vec<(Key, Value)>,
    /// Keys that were absent before it and are absent after it.
    pub absent: Vec<Key>,
}

impl Part {
    pub fn was_there(&self, key: &Key) -> Option<&Value> {
        self.before
            .iter()
            .find(|(found, _)| found == key)
            .map(|(_, version)| version)
    }
}

pub(super) async fn attempt<T>(
    core: &Arc<Core>,
    stance: &Stance,
    declared: &Declared,
    apply: &Apply<T>,
) -> Result<T, Fault> {
    if stance.mode == Mode::SrcReadOnly {
        return Err(Fault::Refused(Refusal::ReadOnly));
    }
    let base = stance.mode.base();
    let shard = base_shard(&core.sides, base, declared).await?;
    // Shapes are looked up before any lock is held.
    let mut parts = Vec::with_capacity(declared.parts.len());
    for (table, keys) in &declared.parts {
        let narrow = core.sides.narrow(base, shard, *table).await?;
        let mut keys: Vec<Key> = keys.iter().map(|key| narrow.spelled(key)).collect();
        keys.sort();
        keys.dedup();
        parts.push(Part {
            table: *table,
            name: core.sides.tables()[*table].name().to_owned(),
            base_name: core.sides.name(base, shard, *table).map_err(Fault::Refused)?,
            keys,
            narrow,
            claim: None,
            before: Vec::new(),
            absent: Vec::new(),
        });
    }
    let mut intent = match stance.follower() {
        Some(follower) => Some(Intent::declared(core, stance, (follower, shard), &parts, declared).await?),
        None => None,
    };

    let mut tx = core.sides.database(base, shard)?.begin(core.base_options()).await?;
    match on_base(stance, &mut parts, &mut tx).await {
        Ok(()) => {}
        Err(fault) => return Err(rolled_back(tx, fault).await),
    }
    let mut session = Session::new(tx, (base, shard), core.sides.clone());
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
    if let Err(fault) = add_created(&core.sides, (base, shard), &mut parts, created) {
        return Err(rolled_back(tx, fault).await);
    }
    let shares = match shares(core, stance, shard, &mut parts, intent.as_mut(), &mut tx).await {
        Ok(shares) => shares,
        Err(fault) => return Err(rolled_back(tx, fault).await),
    };
    if changed
        && intent.is_some()
        && let Err(fault) = nothing_unseen_was_deleted(core, (base, shard), &parts).await
    {
        return Err(rolled_back(tx, fault).await);
    }
    let spread = shares.spread;
    finish(core, stance, shard, shares.of_databases, tx).await?;
    if spread {
        Counters::add(&core.counters.spread, 1);
    }
    Ok(value)
}

/// The one shard of the base in which all rows of the write lie.
async fn base_shard(sides: &Sides, base: Side, declared: &Declared) -> Result<usize, Fault> {
    let mut all: Vec<(usize, Stated)> = declared.place.iter().cloned().collect();
    for (table, keys) in &declared.parts {
        all.extend(keys.iter().map(|key| (*table, Stated::Key(key.clone()))));
    }
    let mut found: Option<(usize, &(usize, Stated))> = None;
    for one in &all {
        let shard = sides.locate(base, one.0, &one.1).await?;
        match found {
            None => found = Some((shard, one)),
            Some((first, _)) if first == shard => {}
            Some((first, other)) => {
                let text = |(table, stated): &(usize, Stated), shard: usize| {
                    format!("{stated} of {} (shard {shard})", sides.tables()[*table].name())
                };
                return Err(Fault::Refused(Refusal::SeveralShards {
                    side: base,
                    one: text(other, first),
                    other: text(one, shard),
                }));
            }
        }
    }
    match (found, sides.shards(base)) {
        (Some((shard, _)), _) => Ok(shard),
        (None, 1) => Ok(0),
        (None, shards) => Err(Fault::Refused(Refusal::ShardUnknown { side: base, shards })),
    }
}

/// Step 1 up to the application's SQL: the epoch is checked, the keys are locked.
async fn on_base(stance: &Stance, parts: &mut [Part], tx: &mut Tx) -> Result<(), Fault> {
    hand_out_keys(stance, tx).await?;
    for part in parts {
        part.claim = control::check_instance(tx, &part.base_name, stance.epoch).await?;
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

fn add_created(
    sides: &Sides,
    (base, shard): (Side, usize),
    parts: &mut [Part],
    created: Vec<(usize, Key)>,
) -> Result<(), Fault> {
    for (table, key) in created {
        // A table that the write did not declare has neither been checked nor claimed.
        let Some(part) = parts.iter_mut().find(|part| part.table == table) else {
            let why = "a row was created in a table that the write does not name; name it when the write begins";
            return Err(Fault::Failed(Failure::Table(why.to_owned())));
        };
        let key = part.narrow.spelled(&key);
        lies_here(sides, (base, shard), part, &key)?;
        if !part.keys.contains(&key) {
            part.keys.push(key);
        }
    }
    for part in parts.iter_mut() {
        part.keys.sort();
    }
    let found = parts.iter().map(|part| part.keys.len()).sum();
    if found > MOST_KEYS {
        return Err(Fault::Refused(Refusal::TooManyKeys { found, most: MOST_KEYS }));
    }
    Ok(())
}

/// A row in a shard that is not its own would be found by nobody: neither by a read of its key nor by the next write.
pub(super) fn lies_here(sides: &Sides, (base, shard): (Side, usize), part: &Part, key: &Key) -> Result<(), Fault> {
    match sides.place(base, part.table, key).map_err(Fault::Refused)? {
        place if place == shard => Ok(()),
        place => Err(Fault::Failed(Failure::Table(format!(
            "the row of {} with the key {key} belongs to shard {place} of the {base}, and this write is in shard {shard}; \
             state the key that is written, in the spelling in which it is stored",
            part.name
        )))),
    }
}

/// A key that is absent cannot be locked: another writer's row may have appeared under it after the keys were locked
/// and then been deleted by the application's SQL. As long as this transaction is open, everybody else still sees such a
/// row; a look from outside tells. The next attempt finds it there, and locks it.
async fn nothing_unseen_was_deleted(core: &Core, (base, shard): (Side, usize), parts: &[Part]) -> Result<(), Fault> {
    if parts.iter().all(|part| part.absent.is_empty()) {
        return Ok(());
    }
    let options = TxOptions {
        acquire_timeout: core.settings.base_lock_timeout,
        ..TxOptions::read_only()
    };
    let mut outside = core.sides.database(base, shard)?.begin(options).await?;
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

impl Core {
    pub fn base_options(&self) -> TxOptions {
        TxOptions {
            lock_timeout: self.settings.base_lock_timeout,
            statement_timeout: Some(self.settings.base_statement_timeout),
            ..TxOptions::default()
        }
    }

    /// A second write failed in the follower's database that has this shard as its first.
    pub fn follower_failed(&self, follower: Side, database: usize, error: &StoreError) {
        // Somebody else's lock says nothing about the follower's health.
        if matches!(error, StoreError::Deadlock { .. } | StoreError::LockTimeout { .. }) {
            return;
        }
        if !error.is_transient() {
            self.sides.forget_shapes();
        }
        self.breaker_failed(follower, database, error);
    }

    pub fn breaker_failed(&self, follower: Side, database: usize, error: &StoreError) {
        if self.breakers.failed(follower, database, Instant::now()) {
            Counters::add(&self.counters.breaker_opened, 1);
            tracing::warn!(%error, shard = database, "the follower keeps failing; second writes are queued without a try");
        }
    }
}

pub(super) async fn rolled_back(tx: Tx, fault: Fault) -> Fault {
    tx.rollback().await;
    fault
}
