//! The data work, one file per worker, and the frame around all of them: read the task, connect, work, record the
//! result, answer with an exit code that the Job understands.

mod archive;
mod clock;
mod connect;
mod context;
mod copy;
mod drift;
mod error;
mod fence;
mod indexes;
mod kubernetes;
mod legs;
mod loader;
mod mapped;
mod order;
mod pace;
mod preflight;
mod prepared;
mod raise;
mod references;
mod sequences;
mod throttle;
mod verify;
mod watch;
mod work;

pub use connect::{SECRETS_DIR, SECRETS_DIR_VARIABLE};
pub(crate) use connect::{connect_shards, shard_config};
pub use context::{Desired, Reporter, Shard, StatusBoard, TaskContext};
pub use error::{Exit, WorkError};
pub(crate) use legs::{Leg, legs};
pub(crate) use order::sorted;
pub use verify::counts::run as count;
pub use verify::full::run_for as verify;
pub use verify::{Difference, Differences, Kind, Mismatch, Seen};

use self::connect::Contact;
use crate::api::Migration;
use crate::api::task::{TaskKind, TaskPhase, VerifyScope};
use crate::words::Side;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long a worker waits for Secrets and databases to arrive before it leaves the next attempt to its Job.
const SECRETS_FOR: Duration = Duration::from_mins(10);
/// How long the API server may be away before a worker that has nothing else left to do gives up.
const API_FOR: Duration = Duration::from_mins(3);

/// Does one MigrationTask: the whole life of a worker process.
pub async fn run(namespace: &str, task: &str) -> Exit {
    let stop = stop_on_signal();
    match Box::pin(attend(namespace, task, stop)).await {
        Ok(exit) => exit,
        Err(error) => {
            tracing::error!(%error, reason = error.reason(), "the worker could not begin");
            error.exit()
        }
    }
}

async fn attend(namespace: &str, name: &str, stop: CancellationToken) -> Result<Exit, WorkError> {
    let client = kube::Client::try_default().await.map_err(|error| WorkError::Waiting {
        reason: "ApiServer",
        message: format!("no way to the API server: {error}"),
    })?;
    let assignment = patiently(API_FOR, &stop, async || {
        kubernetes::assignment(&client, namespace, name).await
    })
    .await?;
    let task = assignment.task;
    if let Some(status) = &task.status
        && matches!(status.phase, TaskPhase::Succeeded | TaskPhase::Failed)
    {
        tracing::info!(task = name, phase = ?status.phase, "the result is already recorded");
        return Ok(Exit::Done);
    }
    let reporter = kubernetes::KubernetesReporter::start(&client, namespace, &task, pod_index(), stop.clone());
    let status = Arc::new(StatusBoard::new(Box::new(reporter), task.status.clone()));
    let result = match assignment.migration {
        Err(error) => Err(error),
        Ok(migration) => prepared(migration, task.spec, status.clone(), stop.clone()).await,
    };
    Ok(record(&status, result, &stop).await)
}

async fn prepared(
    migration: Migration,
    task: crate::api::MigrationTaskSpec,
    status: Arc<StatusBoard>,
    stop: CancellationToken,
) -> Result<(), WorkError> {
    let secrets = connect::secrets_dir();
    // One connection per copying task and a few for control rows and progress.
    let connections = migration.copy.parallelism + 4;
    let contact = match task.kind {
        TaskKind::Preflight | TaskKind::Watch => Contact::Later,
        TaskKind::Copy | TaskKind::Verify | TaskKind::Fence | TaskKind::Archive => Contact::Now,
    };
    status.publish().await;
    let (source, target) = {
        let began = Instant::now();
        let mut waits = pace::Waits::new(Duration::from_millis(500), Duration::from_secs(5));
        loop {
            let both = async {
                let source = connect::connect(&migration, Side::Source, &secrets, connections, contact).await?;
                let target = connect::connect(&migration, Side::Target, &secrets, connections, contact).await?;
                Ok::<_, WorkError>((source, target))
            };
            match both.await {
                Ok(both) => break both,
                Err(error) if error.is_transient() && began.elapsed() < SECRETS_FOR => {
                    status.troubled(&error).await;
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = stop.cancelled() => return Err(WorkError::Stopped),
                () = tokio::time::sleep(waits.failed(Instant::now()).0) => {}
            }
        }
    };
    status.clear_trouble();
    let owner = format!(
        "{}/{}",
        std::env::var("HOSTNAME").unwrap_or_else(|_| "worker".to_owned()),
        uuid::Uuid::new_v4()
    );
    let context = TaskContext {
        migration: Arc::new(migration),
        task,
        source,
        target,
        status,
        stop,
        owner,
    };
    perform(&context).await
}

/// The work of a task, whatever its kind.
pub async fn perform(context: &TaskContext) -> Result<(), WorkError> {
    match context.task.kind {
        TaskKind::Watch => watch::run(context).await,
        TaskKind::Copy => Box::pin(copy::run(context)).await,
        TaskKind::Verify => match context.task.scope {
            Some(VerifyScope::Full) => Box::pin(verify::full::run(context)).await,
            Some(VerifyScope::Incremental) => Box::pin(verify::whole::run(context)).await,
            None => Err(WorkError::permanent(
                "InvalidTask",
                "a Verify task needs spec.scope: Full or Incremental; tasks are written by the operator, leave them to it",
            )),
        },
        TaskKind::Preflight => Box::pin(preflight::run(context)).await,
        TaskKind::Fence => Box::pin(fence::run(context)).await,
        TaskKind::Archive => Box::pin(archive::run(context)).await,
    }
}

/// Records the result, patiently: a worker's work counts only once the operator can read it.
pub async fn record(status: &StatusBoard, result: Result<(), WorkError>, stop: &CancellationToken) -> Exit {
    let mut exit = match &result {
        Ok(()) => Exit::Done,
        Err(error) => error.exit(),
    };
    // Who does not work is not held back.
    status.note(|status| status.throttle = None);
    status.note(|status| match &result {
        Ok(()) => {
            status.phase = TaskPhase::Succeeded;
            status.finished_at = Some(context::now());
        }
        // The Job tries again, or the task goes on after a suspend: it is not finished.
        Err(WorkError::Stopped) => {}
        Err(error) => {
            status.reason = Some(error.reason().to_owned());
            status.message = Some(error.to_string());
            if !error.is_transient() {
                status.phase = TaskPhase::Failed;
                status.finished_at = Some(context::now());
            }
        }
    });
    match &result {
        Ok(()) => tracing::info!("done"),
        Err(error) => tracing::warn!(%error, reason = error.reason(), ?exit, "ended"),
    }
    let began = Instant::now();
    let mut waits = pace::Waits::new(Duration::from_millis(200), Duration::from_secs(5));
    // A pod that is being stopped has its grace period and no more.
    let most = if stop.is_cancelled() {
        Duration::from_secs(10)
    } else {
        API_FOR
    };
    while let Err(error) = status.try_publish().await {
        if began.elapsed() > most {
            tracing::error!(%error, "the result could not be recorded");
            if exit == Exit::Done {
                exit = Exit::Retry;
            }
            break;
        }
        tokio::time::sleep(waits.failed(Instant::now()).0).await;
    }
    exit
}

/// Which of the task's pods this is, where it has several: an Indexed Job tells each its number.
fn pod_index() -> Option<u32> {
    std::env::var("JOB_COMPLETION_INDEX").ok()?.parse().ok()
}

async fn patiently<T>(
    most: Duration,
    stop: &CancellationToken,
    mut step: impl AsyncFnMut() -> Result<T, WorkError>,
) -> Result<T, WorkError> {
    let began = Instant::now();
    let mut waits = pace::Waits::default();
    loop {
        match step().await {
            Err(error) if error.is_transient() && began.elapsed() < most => {
                tracing::warn!(%error, "trying again");
                tokio::select! {
                    () = stop.cancelled() => return Err(WorkError::Stopped),
                    () = tokio::time::sleep(waits.failed(Instant::now()).0) => {}
                }
            }
            other => return other,
        }
    }
}

/// Set by SIGTERM and SIGINT.
pub(crate) fn stop_on_signal() -> CancellationToken {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        match signal(kind) {
            Ok(mut signals) => {
                let stop = stop.clone();
                tokio::spawn(async move {
                    signals.recv().await;
                    stop.cancel();
                });
            }
            Err(error) => tracing::warn!(%error, "signals cannot be heard; a stop will end the process at once"),
        }
    }
    stop
}
