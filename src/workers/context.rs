//! What every worker is given: the validated migration, its task, the databases, and the seam to the API server. A
//! worker knows no Kubernetes: it publishes a status and reads what is desired of it, whoever is on the other side.

use super::error::WorkError;
use super::pace::Waits;
use crate::api::Migration;
use crate::api::migration::Limits;
use crate::api::task::{ControlSpec, MigrationTaskSpec, MigrationTaskStatus, TaskPhase};
use crate::store::Database;
use crate::words::Side;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a trouble may last before it is reported as the task's reason.
const TROUBLE_AFTER: Duration = Duration::from_secs(3);

/// What the task asks for that may change while its worker runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// For Watch: what the control rows shall say.
    pub control: Option<ControlSpec>,
    /// How much the work may ask of the databases; `None`: as the manifest said when the worker began.
    pub limits: Option<Limits>,
    /// Generation of the task.
    pub generation: i64,
}

/// The other side of a worker: the API server, or a test's memory.
#[async_trait::async_trait]
pub trait Reporter: Send + Sync {
    /// Replaces the task's status.
    async fn publish(&self, status: &MigrationTaskStatus) -> Result<(), WorkError>;
    /// What is desired now, and every change of it.
    fn desired(&self) -> watch::Receiver<Desired>;
    /// Of several pods at one task, the first leads: it reports progress and result. The others report what keeps them
    /// from going on, and nothing else.
    fn leads(&self) -> bool {
        true
    }
}

/// One shard, connected.
#[derive(Clone)]
pub struct Shard {
    /// As in the manifest.
    pub name: String,
    /// Its connections.
    pub database: Database,
}

/// What every worker is given.
#[derive(Clone)]
pub struct TaskContext {
    /// The manifest, every default filled.
    pub migration: Arc<Migration>,
    /// What to do.
    pub task: MigrationTaskSpec,
    /// The source's shards, as listed.
    pub source: Vec<Shard>,
    /// The target's shards, as listed.
    pub target: Vec<Shard>,
    /// The task's status.
    pub status: Arc<StatusBoard>,
    /// Set by SIGTERM.
    pub stop: CancellationToken,
    /// Names this process in chunk claims.
    pub owner: String,
}

impl TaskContext {
    /// The shards of a side.
    pub fn shards(&self, side: Side) -> &[Shard] {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// `Stopped` when told to stop.
    pub fn go_on(&self) -> Result<(), WorkError> {
        if self.stop.is_cancelled() {
            Err(WorkError::Stopped)
        } else {
            Ok(())
        }
    }

    /// Waits, or ends with `Stopped`.
    pub async fn pause(&self, wait: Duration) -> Result<(), WorkError> {
        tokio::select! {
            () = self.stop.cancelled() => Err(WorkError::Stopped),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    /// Does one step until it succeeds, fails for good, or the worker is told to stop. What lasts is reported as the
    /// task's reason, and the reason goes away with the trouble.
    pub async fn retry<T>(&self, step: impl AsyncFnMut() -> Result<T, WorkError>) -> Result<T, WorkError> {
        self.retry_but(|_| false, step).await
    }

    /// As `retry`, but hands the errors that `mine` picks to the caller at once.
    pub async fn retry_but<T>(
        &self,
        mine: impl Fn(&WorkError) -> bool,
        mut step: impl AsyncFnMut() -> Result<T, WorkError>,
    ) -> Result<T, WorkError> {
        let mut waits = Waits::default();
        loop {
            self.go_on()?;
            match step().await {
                Ok(done) => {
                    self.status.relieved(&mut waits).await;
                    return Ok(done);
                }
                Err(error) if mine(&error) || !error.is_transient() => return Err(error),
                Err(error) => {
                    let (wait, lasted) = waits.failed(Instant::now());
                    tracing::warn!(%error, ?lasted, "trying again in {wait:?}");
                    if lasted >= TROUBLE_AFTER {
                        self.status.troubled(&error).await;
                    }
                    self.pause(wait).await?;
                }
            }
        }
    }
}

/// The task's status as this worker knows it, and the rule when it is worth a write: when something changed, but
/// progress alone not more often than every few seconds.
pub struct StatusBoard {
    reporter: Box<dyn Reporter>,
    state: Mutex<Board>,
    /// Of two publishers the later state wins.
    publishing: tokio::sync::Mutex<()>,
}

struct Board {
    status: MigrationTaskStatus,
    published: Option<(MigrationTaskStatus, Instant)>,
    /// A trouble stands in `reason`; its relief removes it.
    trouble: bool,
}

impl StatusBoard {
    /// Continues an earlier worker's status: the time it began, and how far it came.
    pub fn new(reporter: Box<dyn Reporter>, earlier: Option<MigrationTaskStatus>) -> Self {
        // Findings of an earlier worker may be about an older spec: they are found anew before they are reported.
        let mut status = MigrationTaskStatus {
            phase: TaskPhase::Running,
            observed_generation: reporter.desired().borrow().generation,
            started_at: earlier.as_ref().and_then(|earlier| earlier.started_at.clone()),
            progress: earlier.and_then(|earlier| earlier.progress),
            ..MigrationTaskStatus::default()
        };
        status.started_at.get_or_insert_with(now);
        Self {
            reporter,
            state: Mutex::new(Board {
                status,
                published: None,
                trouble: false,
            }),
            publishing: tokio::sync::Mutex::new(()),
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // A panic elsewhere leaves plain data behind: still the best there is to report.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is desired now, and every change of it.
    pub fn desired(&self) -> watch::Receiver<Desired> {
        self.reporter.desired()
    }

    /// Whether this worker speaks for its task.
    pub fn leads(&self) -> bool {
        self.reporter.leads()
    }

    /// Changes the status without publishing it.
    pub fn note(&self, change: impl FnOnce(&mut MigrationTaskStatus)) {
        change(&mut self.board().status);
    }

    /// The status as it stands.
    pub fn current(&self) -> MigrationTaskStatus {
        self.board().status.clone()
    }

    /// Publishes if anything but the report's own time changed and the last report is at least `spacing` old.
    pub async fn publish_after(&self, spacing: Duration) {
        let due = {
            let board = self.board();
            match &board.published {
                None => true,
                Some((published, at)) => at.elapsed() >= spacing && *published != board.status,
            }
        };
        if due {
            self.publish().await;
        }
    }

    /// Publishes now. A failure is logged: the next report carries the same and more.
    pub async fn publish(&self) {
        if let Err(error) = self.try_publish().await {
            tracing::warn!(%error, "the status could not be reported; the next report will carry it");
        }
    }

    /// Publishes now, or says why not.
    pub async fn try_publish(&self) -> Result<(), WorkError> {
        let _one_at_a_time = self.publishing.lock().await;
        let (plain, dated) = {
            let board = self.board();
            let mut dated = board.status.clone();
            dated.reported_at = Some(now());
            (board.status.clone(), dated)
        };
        self.reporter.publish(&dated).await?;
        self.board().published = Some((plain, Instant::now()));
        Ok(())
    }

    /// Reports what keeps the worker from going on.
    pub async fn troubled(&self, error: &WorkError) {
        {
            let mut board = self.board();
            board.trouble = true;
            board.status.reason = Some(error.reason().to_owned());
            board.status.message = Some(error.to_string());
        }
        self.publish_after(Duration::from_secs(2)).await;
    }

    /// What kept the worker from going on is over; the next report says so.
    pub fn clear_trouble(&self) {
        let mut board = self.board();
        if std::mem::take(&mut board.trouble) {
            board.status.reason = None;
            board.status.message = None;
        }
    }

    async fn relieved(&self, waits: &mut Waits) {
        waits.worked();
        let had_trouble = {
            let mut board = self.board();
            if board.trouble {
                board.status.reason = None;
                board.status.message = None;
            }
            std::mem::take(&mut board.trouble)
        };
        if had_trouble {
            self.publish().await;
        }
    }
}

/// The worker's clock.
pub fn now() -> Time {
    Time(Timestamp::now())
}
