//! What the library must know before it starts: the mode's directory, who this process is, both sides' databases, the
//! tables, and its times.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::DualWrite;
use super::acknowledge::{self, Identity, Lease};
use super::breaker::Breakers;
use super::counters::Counters;
use super::gate::Gate;
use super::mode::ModeDirectory;
use super::router::Router;
use super::sides::Sides;
use super::table::TableDefinition;
use super::write::{Core, Settings};
use crate::store::ConnectConfig;
use crate::words::ModeKeys;

/// What the library must know before it starts.
#[derive(Debug, Clone)]
pub struct Builder {
    mode_directory: PathBuf,
    keys: ModeKeys,
    identity: Identity,
    source: Vec<ConnectConfig>,
    target: Vec<ConnectConfig>,
    tables: Vec<TableDefinition>,
    settings: Settings,
    heartbeat: Duration,
    poll: Duration,
}

impl Builder {
    pub(super) fn new(mode_directory: PathBuf, identity: Identity) -> Self {
        Self {
            mode_directory,
            keys: ModeKeys::default(),
            identity,
            source: Vec::new(),
            target: Vec::new(),
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

    /// The database that is left; it may be missing once the mode is DST_ONLY.
    #[must_use]
    pub fn source(self, config: ConnectConfig) -> Self {
        self.source_shards([config])
    }

    /// The database that is moved to; it may be missing while the mode is SRC_ONLY.
    #[must_use]
    pub fn target(self, config: ConnectConfig) -> Self {
        self.target_shards([config])
    }

    /// A source of several shards, in the order of the manifest's `shards`: a shard's number is its position. Shards with
    /// the same URL share connections; the tables' names then carry the shard's number (`orders_{shard:02}`).
    #[must_use]
    pub fn source_shards(mut self, shards: impl IntoIterator<Item = ConnectConfig>) -> Self {
        self.source = shards.into_iter().collect();
        self
    }

    /// As [`Self::source_shards`], for the target.
    #[must_use]
    pub fn target_shards(mut self, shards: impl IntoIterator<Item = ConnectConfig>) -> Self {
        self.target = shards.into_iter().collect();
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
        let sides = Arc::new(Sides::new(self.source, self.target, self.tables));
        if let Some(problem) = sides.problem() {
            tracing::error!(%problem, "writes of this table are refused");
        }
        let core = Arc::new(Core {
            settings: self.settings,
            router,
            gate: Gate::new(),
            breakers: Breakers::new(sides.databases(), 5, Duration::from_secs(1)),
            sides,
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
