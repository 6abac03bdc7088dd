//! The dual-write library, for an application to embed: it reads the mode from the mounted ConfigMap, carries every
//! write to the sides that the mode says, in the order that keeps both the same, and acknowledges each flip.
//! It never talks to Kubernetes, and installs no TLS provider: the application's `main` does.

mod acknowledge;
mod breaker;
mod counters;
mod detached;
mod error;
mod follower;
mod gate;
mod mode;
mod outcome;
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
pub use counters::Counted;
pub use error::{ApplyError, Failure, ReadError, Refusal, WriteError};
pub use mode::{ModeDirectory, ModeError, Stance};
pub use session::Session;
pub use table::TableDefinition;
pub use write::MOST_KEYS;

use acknowledge::Lease;
use breaker::Breaker;
use counters::Counters;
use detached::within;
use error::Fault;
use router::Router;
use sides::Sides;
use write::{Apply, Core, Settings};

use crate::rows::Key;
use crate::store::ConnectConfig;
use crate::words::ModeKeys;

/// What the library must know before it starts.
#[derive(Debug, Clone)]
pub struct Builder {
    mode_directory: PathBuf,
    keys: ModeKeys,
    identity: Identity,
    source: Option<ConnectConfig>,
    target: Option<ConnectConfig>,
    tables: Vec<TableDefinition>,
    settings: Settings,
    heartbeat: Duration,
    poll: Duration,
}

impl Builder {
    /// The database that is left; it may be missing once the mode is DST_ONLY.
    #[must_use]
    pub fn source(mut self, config: ConnectConfig) -> Self {
        self.source = Some(config);
        self
    }

    /// The database that is moved to; it may be missing while the mode is SRC_ONLY.
    #[must_use]
    pub fn target(mut self, config: ConnectConfig) -> Self {
        self.target = Some(config);
        self
    }

    /// A table that is written through the library; of several, parents before the children that refer to them.
    #[must_use]
    pub fn table(mut self, table: TableDefinition) -> Self {
        self.tables.push(table);
        self
    }

    /// Other names of the ConfigMap's keys.
    #[must_use]
    pub fn mode_keys(mut self, keys: ModeKeys) -> Self {
        self.keys = keys;
        self
    }

    /// Most that the second write may take before it counts as failed (500 ms). A batch of the copy holds its locks
    /// for half of that.
    #[must_use]
    pub fn follower_timeout(mut self, most: Duration) -> Self {
        self.settings.follower_timeout = most;
        self
    }

    /// How long a write is tried again while nothing was committed (5 s): lost deadlocks, lock timeouts, late modes.
    #[must_use]
    pub fn retry_for(mut self, most: Duration) -> Self {
        self.settings.retry_for = most;
        self
    }

    /// After this long without a heartbeat writes are refused (30 s).
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self.heartbeat = self.heartbeat.min(lease / 3);
        self
    }

    /// Starts reading the mode and acknowledging it. Writes are accepted as soon as the mode files are readable.
    /// Must be called within a tokio runtime.
    pub fn start(self) -> DualWrite {
        let router = Router::new(ModeDirectory::new(self.mode_directory, self.keys));
        router.refresh();
        let core = Arc::new(Core {
            settings: self.settings,
            sides: Arc::new(Sides::new(self.source, self.target, self.tables)),
            router,
            gate: gate::Gate::new(),
            breaker: Breaker::new(5, Duration::from_secs(1)),
            counters: Counters::default(),
            lease: Lease::default(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(watch_mode(core.router.clone(), self.poll, stop.clone()));
        tokio::spawn(acknowledge::run(
            core.clone(),
            self.identity.clone(),
            self.heartbeat,
            stop.clone(),
        ));
        DualWrite {
            core,
            identity: Arc::new(self.identity),
            stop,
            running: Arc::default(),
        }
    }
}

async fn watch_mode(router: Arc<Router>, every: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let router = router.clone();
        // A handful of small files on the node's memory; still no work for the runtime's own threads.
        if tokio::task::spawn_blocking(move || router.refresh()).await.is_err() {
            return;
        }
    }
}

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
        Builder {
            mode_directory: mode_directory.into(),
            keys: ModeKeys::default(),
            identity,
            source: None,
            target: None,
            tables: Vec::new(),
            settings: Settings {
                follower_timeout: Duration::from_millis(500),
                base_lock_timeout: Duration::from_secs(1),
                base_statement_timeout: Duration::from_secs(5),
                retry_for: Duration::from_secs(5),
                lease: Duration::from_secs(30),
            },
            heartbeat: Duration::from_secs(5),
            poll: Duration::from_millis(150),
        }
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
    /// ([`Session::insert_generated`], [`Session::created`]).
    pub async fn write_new<T, F>(&self, table: &str, apply: F) -> Result<T, WriteError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync + 'static,
    {
        self.write_tables([(table, Vec::new())], apply).await
    }

    /// Writes rows of several tables in one transaction; every table that is written must be named.
    pub async fn write_tables<T, F>(
        &self,
        parts: impl IntoIterator<Item = (&str, Vec<Key>)>,
        apply: F,
    ) -> Result<T, WriteError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync + 'static,
    {
        let counters = &self.core.counters;
        let parts = match self.parts(parts) {
            Ok(parts) => parts,
            Err(refusal) => {
                Counters::add(&counters.refused, 1);
                return Err(refusal.into());
            }
        };
        let (core, stop, apply) = (self.core.clone(), self.stop.clone(), Arc::new(apply) as Apply<T>);
        let running = Running::begin(&self.running);
        let task = tokio::spawn(async move {
            let _running = running;
            let result = write_until(&core, &stop, &parts, &apply).await;
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
    fn parts<'a>(
        &self,
        parts: impl IntoIterator<Item = (&'a str, Vec<Key>)>,
    ) -> Result<Vec<(usize, Vec<Key>)>, Refusal> {
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
            _ => Ok(found),
        }
    }

    /// Reads from the side that the mode names. When the follower was chosen and is away, the base answers.
    pub async fn read<T, F>(&self, apply: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync + 'static,
    {
        let core = self.core.clone();
        // To its end, whatever the caller does: a query must not be cut off.
        let task = tokio::spawn(async move { read::from_the_side_that_answers(&core, &apply).await });
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
        let problem = match &admitted {
            Some(Err(why)) => Some(why.clone()),
            _ => self.core.router.problem(),
        };
        Status {
            stance: stance.map(|stance| (*stance).clone()),
            acknowledged: self.core.lease.acknowledged(),
            ready: matches!(admitted, Some(Ok(()))) && !self.stop.is_cancelled(),
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
    parts: &[(usize, Vec<Key>)],
    apply: &Apply<T>,
) -> Result<T, WriteError> {
    let deadline = Instant::now() + core.settings.retry_for;
    let mut attempts = 0;
    loop {
        if stop.is_cancelled() && attempts == 0 {
            return Err(Refusal::Closing.into());
        }
        let Ok(turn) = tokio::time::timeout_at(deadline.into(), core.gate.enter(parts)).await else {
            return Err(Failure::Busy.into());
        };
        let stance = core.router.take().map_err(Refusal::NoMode)?;
        let fault = match core.lease.admits(&stance, core.settings.lease, Instant::now()) {
            Ok(()) => match write::attempt(core, &stance, parts, apply).await {
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
