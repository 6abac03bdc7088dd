//! The dual-write library, for an application to embed: it reads the mode from the mounted ConfigMap, carries every
//! write to the sides that the mode says, in the order that keeps both the same, and acknowledges each flip.
//! It never talks to Kubernetes, and installs no TLS provider: the application's `main` does.

mod acknowledge;
mod breaker;
mod builder;
mod counters;
mod detached;
mod error;
mod finish;
mod follower;
mod gate;
mod images;
mod intent;
mod mode;
mod outcome;
mod place;
mod queue;
mod read;
mod router;
mod session;
mod sides;
mod table;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use rand::Rng;
use tokio_util::sync::CancellationToken;

pub use acknowledge::Identity;
pub use builder::Builder;
pub use counters::Counted;
pub use error::{ApplyError, Failure, ReadError, Refusal, WriteError};
pub use mode::{ModeDirectory, ModeError, Stance};
pub use read::ReadShard;
pub use session::Session;
pub use table::TableDefinition;
pub use write::MOST_KEYS;

use counters::Counters;
use detached::within;
use error::Fault;
use place::Stated;
use read::Wanted;
use write::{Apply, Core, Declared};

use crate::rows::{Key, Value};

/// The library at work. Clones share everything.
#[derive(Debug, Clone)]
pub struct DualWrite {
    core: Arc<Core>,
    identity: Arc<Identity>,
    stop: CancellationToken,
    running: Arc<AtomicUsize>,
}

/// A write under way; it counts until it is dropped.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How the library is doing, for health and readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub stance: Option<Stance>,
    /// The epoch that the base knows this process at.
    pub acknowledged: Option<i64>,
    /// A write begun now would not be refused.
    pub ready: bool,
    pub problem: Option<String>,
}

/// Pauses between attempts: short, growing, and never the same for two writers that got in each other's way.
fn pause(attempt: u32) -> Duration {
    let most = (4_u64 << attempt.min(6)).min(150);
    Duration::from_millis(rand::rng().random_range(1..=most))
}

/// How long an attempt waits for newer mode files after the database turned it away.
const MODE_WAIT: Duration = Duration::from_millis(50);

impl DualWrite {
    /// `mode_directory`: where the ConfigMap is mounted, as a directory.
    pub fn builder(mode_directory: impl Into<PathBuf>, identity: Identity) -> Builder {
        Builder::new(mode_directory.into(), identity)
    }

    /// Writes rows of one table whose keys are known beforehand: they are locked in key order before `apply` runs.
    /// The write goes on to its end when the caller goes away.
    pub async fn write<T, F>(&self, table: &str, keys: impl IntoIterator<Item = Key>, apply: F) -> Result<T, WriteError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync + 'static,
    {
        self.write_tables([(table, keys.into_iter().collect())], apply).await
    }

    /// Inserts rows of one table under keys that the database hands out; `apply` declares them
    /// ([`Session::insert_generated`], [`Session::created`]). With several shards: [`Self::write_new_at`].
    pub async fn write_new<T, F>(&self, table: &str, apply: F) -> Result<T, WriteError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync + 'static,
    {
        self.write_tables([(table, Vec::new())], apply).await
    }

    /// As [`Self::write_new`], in the shard where these values lie: the columns that decide about it, by the source's names.
    pub async fn write_new_at<'c, T, F>(
        &self,
        table: &str,
        columns: impl IntoIterator<Item = (&'c str, Value)>,
        apply: F,
    ) -> Result<T, WriteError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync + 'static,
    {
        self.write_tables_at((table, columns), [(table, Vec::new())], apply)
            .await
    }

    /// Writes rows of several tables in one transaction; every table that is written must be named. All rows lie in one
    /// shard of the side that is written first.
    pub async fn write_tables<T, F>(
        &self,
        parts: impl IntoIterator<Item = (&str, Vec<Key>)>,
        apply: F,
    ) -> Result<T, WriteError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync + 'static,
    {
        let declared = self.declared(None, parts);
        self.write_declared(declared, apply).await
    }

    /// As [`Self::write_tables`], in the shard where a row of the first table with these values lies.
    pub async fn write_tables_at<'c, T, F>(
        &self,
        (table, columns): (&str, impl IntoIterator<Item = (&'c str, Value)>),
        parts: impl IntoIterator<Item = (&str, Vec<Key>)>,
        apply: F,
    ) -> Result<T, WriteError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync + 'static,
    {
        let declared = self.declared(Some((table, Stated::columns(columns))), parts);
        self.write_declared(declared, apply).await
    }

    async fn write_declared<T, F>(&self, declared: Result<Declared, Refusal>, apply: F) -> Result<T, WriteError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync + 'static,
    {
        let counters = &self.core.counters;
        let declared = match declared {
            Ok(declared) => declared,
            Err(refusal) => {
                Counters::add(&counters.refused, 1);
                return Err(refusal.into());
            }
        };
        let (core, stop, apply) = (self.core.clone(), self.stop.clone(), Arc::new(apply) as Apply<T>);
        let running = Running::begin(&self.running);
        let task = tokio::spawn(async move {
            let _running = running;
            let result = write_until(&core, &stop, &declared, &apply).await;
            // Counted here and not by the caller, who may have gone away.
            let counter = match &result {
                Ok(_) => &core.counters.ok,
                Err(WriteError::Refused(_)) => &core.counters.refused,
                Err(WriteError::Failed(_)) => &core.counters.failed,
                Err(WriteError::OutcomeUnknown(_)) => &core.counters.unknown,
            };
            Counters::add(counter, 1);
            result
        });
        task.await.unwrap_or_else(|error| {
            // Only a panic ends it early, and that may have been anywhere.
            Counters::add(&counters.unknown, 1);
            Err(WriteError::OutcomeUnknown(format!(
                "the write's task ended early: {error}"
            )))
        })
    }

    /// Indexes of the tables in the order of their definitions, keys in order.
    fn declared<'a>(
        &self,
        place: Option<(&str, Stated)>,
        parts: impl IntoIterator<Item = (&'a str, Vec<Key>)>,
    ) -> Result<Declared, Refusal> {
        let place = match place {
            Some((table, stated)) => Some((self.core.sides.index(table)?, stated)),
            None => None,
        };
        let mut found: Vec<(usize, Vec<Key>)> = Vec::new();
        for (table, keys) in parts {
            let index = self.core.sides.index(table)?;
            match found.iter_mut().find(|(at, _)| *at == index) {
                Some((_, all)) => all.extend(keys),
                None => found.push((index, keys)),
            }
        }
        found.sort_by_key(|(index, _)| *index);
        for (_, keys) in &mut found {
            keys.sort();
            keys.dedup();
        }
        match found.iter().map(|(_, keys)| keys.len()).sum() {
            count if count > MOST_KEYS => Err(Refusal::TooManyKeys {
                found: count,
                most: MOST_KEYS,
            }),
            _ => Ok(Declared { parts: found, place }),
        }
    }

    /// Reads from the side that the mode names. When the follower was chosen and is away, the base answers. With several
    /// shards: [`Self::read_key`], [`Self::read_at`], [`Self::read_shards`].
    pub async fn read<T, F>(&self, apply: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync + 'static,
    {
        self.read_wanted(Wanted::Anything, apply).await
    }

    /// As [`Self::read`], in the shard of the row with this key.
    pub async fn read_key<T, F>(&self, table: &str, key: Key, apply: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync + 'static,
    {
        let table = self.core.sides.index(table).map_err(ReadError::Place)?;
        self.read_wanted(Wanted::Row(table, Stated::Key(key)), apply).await
    }

    /// As [`Self::read`], in the shard of the rows with these values: the columns that decide about it, by the source's
    /// names.
    pub async fn read_at<'c, T, F>(
        &self,
        table: &str,
        columns: impl IntoIterator<Item = (&'c str, Value)>,
        apply: F,
    ) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync + 'static,
    {
        let table = self.core.sides.index(table).map_err(ReadError::Place)?;
        self.read_wanted(Wanted::Row(table, Stated::columns(columns)), apply)
            .await
    }

    /// All shards of the side that the mode names, for reads that no shard answers alone; one side for all of them.
    pub fn read_shards(&self) -> Result<Vec<ReadShard>, ReadError> {
        read::shards(&self.core)
    }

    async fn read_wanted<T, F>(&self, wanted: Wanted, apply: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync + 'static,
    {
        let core = self.core.clone();
        // To its end, whatever the caller does: a query must not be cut off.
        let task = tokio::spawn(async move { read::from_the_side_that_answers(&core, &wanted, &apply).await });
        task.await
            .unwrap_or_else(|error| Err(ReadError::Application(error.into())))
    }

    pub fn counters(&self) -> Counted {
        let epoch = self.core.router.current().map_or(-1, |stance| stance.epoch);
        self.core.counters.epoch.store(epoch, Ordering::Relaxed);
        self.core.counters.snapshot()
    }

    pub fn status(&self) -> Status {
        let stance = self.core.router.current();
        let admitted = stance.as_ref().map(|stance| {
            self.core
                .lease
                .admits(stance, self.core.settings.lease, Instant::now())
                .map_err(|refusal| refusal.to_string())
        });
        let misfit = self.core.sides.problem().map(str::to_owned);
        let fits = misfit.is_none();
        let problem = match &admitted {
            Some(Err(why)) => Some(why.clone()),
            _ => misfit.or_else(|| self.core.router.problem()),
        };
        Status {
            stance: stance.map(|stance| (*stance).clone()),
            acknowledged: self.core.lease.acknowledged(),
            ready: fits && matches!(admitted, Some(Ok(()))) && !self.stop.is_cancelled(),
            problem,
        }
    }

    /// Ends in order: no new writes, those under way to their end, and this process's row taken away.
    pub async fn close(&self) {
        self.stop.cancel();
        while self.running.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (core, identity) = (self.core.clone(), self.identity.clone());
        let last = within(Duration::from_secs(2), async move {
            acknowledge::forget(&core, &identity).await
        })
        .await;
        if !matches!(last, Some(Ok(()))) {
            tracing::info!("this process's row could not be taken away; the operator waits for its lease instead");
        }
    }
}

/// Attempts until one ends for good. Each takes the stance anew, because nothing of the one before is left.
async fn write_until<T>(
    core: &Arc<Core>,
    stop: &CancellationToken,
    declared: &Declared,
    apply: &Apply<T>,
) -> Result<T, WriteError> {
    let deadline = Instant::now() + core.settings.retry_for;
    let mut attempts = 0;
    loop {
        if stop.is_cancelled() && attempts == 0 {
            return Err(Refusal::Closing.into());
        }
        let Ok(turn) = tokio::time::timeout_at(deadline.into(), core.gate.enter(&declared.parts)).await else {
            return Err(Failure::Busy.into());
        };
        let stance = core.router.take().map_err(Refusal::NoMode)?;
        let fault = match core.lease.admits(&stance, core.settings.lease, Instant::now()) {
            Ok(()) => match write::attempt(core, &stance, declared, apply).await {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            },
            Err(refusal) => Fault::Refused(refusal),
        };
        let epoch = stance.epoch;
        drop(stance);
        drop(turn);
        attempts += 1;
        let over = Instant::now() >= deadline;
        match fault {
            Fault::Contention(failure) if over => return Err(failure.into()),
            Fault::Stale(why) if over => return Err(Refusal::Stale(why).into()),
            Fault::Contention(_) => tokio::time::sleep(pause(attempts)).await,
            Fault::Stale(_) => {
                core.router.refresh();
                if core.router.current().is_some_and(|stance| stance.epoch == epoch) {
                    tokio::time::sleep(MODE_WAIT).await;
                }
            }
            // The first heartbeat of a new epoch is on its way.
            Fault::Refused(Refusal::NotAcknowledged { .. }) if !over => tokio::time::sleep(MODE_WAIT).await,
            Fault::Refused(refusal) => return Err(refusal.into()),
            Fault::Failed(failure) => {
                if matches!(&failure, Failure::Store(error) if !matches!(error, crate::store::StoreError::Duplicate { .. }))
                {
                    core.sides.forget_shapes();
                }
                return Err(failure.into());
            }
            Fault::Unknown(why) => return Err(WriteError::OutcomeUnknown(why)),
        }
        Counters::add(&core.counters.retries, 1);
    }
}
