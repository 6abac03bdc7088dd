//! The worker's one place that knows Kubernetes: reads its own MigrationTask and DataMigration, follows what is desired,
//! applies the task's status, and nothing else.

use super::context::{Desired, Reporter};
use super::error::WorkError;
use crate::api::task::{MigrationTask, MigrationTaskStatus};
use crate::api::{DataMigration, Migration, validate};
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::watch_object;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Field manager of the task's status: fields that a later report leaves out go away.
const FIELD_MANAGER: &str = "datamigration-worker";

/// The task and the migration it belongs to, as the API server has them.
pub struct Assignment {
    /// The task.
    pub task: MigrationTask,
    /// The manifest, validated.
    pub migration: Result<Migration, WorkError>,
}

/// Reads the task and its migration.
pub async fn assignment(client: &Client, namespace: &str, name: &str) -> Result<Assignment, WorkError> {
    let tasks: Api<MigrationTask> = Api::namespaced(client.clone(), namespace);
    let Some(task) = tasks
        .get_opt(name)
        .await
        .map_err(|error| api("read", "MigrationTask", namespace, name, &error))?
    else {
        return Err(WorkError::Stale(format!(
            "MigrationTask {namespace}/{name} is gone; nobody waits for its result"
        )));
    };
    let owner = &task.spec.migration;
    let migrations: Api<DataMigration> = Api::namespaced(client.clone(), namespace);
    let raw = migrations
        .get_opt(owner)
        .await
        .map_err(|error| api("read", "DataMigration", namespace, owner, &error))?;
    let migration = match raw {
        None => Err(WorkError::Stale(format!(
            "DataMigration {namespace}/{owner} is gone; its task {name} has nothing to do"
        ))),
        Some(raw) => validate(&raw).map_err(|found| {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            WorkError::permanent(
                "InvalidSpec",
                format!("DataMigration {namespace}/{owner}: {}", found.join("; ")),
            )
        }),
    };
    Ok(Assignment { task, migration })
}

/// Publishes to the API server, and follows the task.
pub struct KubernetesReporter {
    api: Api<MigrationTask>,
    namespace: String,
    name: String,
    uid: String,
    desired: watch::Sender<Desired>,
}

impl KubernetesReporter {
    /// Follows the task until `stop`; a task that goes away sets `stop`, for nobody waits for its result any more.
    pub fn start(client: Client, namespace: &str, task: &MigrationTask, stop: CancellationToken) -> Self {
        let api: Api<MigrationTask> = Api::namespaced(client, namespace);
        let name = task.name_any();
        let uid = task.uid().unwrap_or_default();
        let (desired, _) = watch::channel(desired_of(task));
        tokio::spawn(follow(api.clone(), name.clone(), uid.clone(), desired.clone(), stop));
        Self {
            api,
            namespace: namespace.to_owned(),
            name,
            uid,
            desired,
        }
    }
}

#[async_trait::async_trait]
impl Reporter for KubernetesReporter {
    async fn publish(&self, status: &MigrationTaskStatus) -> Result<(), WorkError> {
        // The UID keeps a late report away from another task of the same name.
        let body = serde_json::json!({
            "apiVersion": MigrationTask::api_version(&()),
            "kind": MigrationTask::kind(&()),
            "metadata": {"name": self.name, "uid": self.uid},
            "status": status,
        });
        self.api
            .patch_status(
                &self.name,
                &PatchParams::apply(FIELD_MANAGER).force(),
                &Patch::Apply(&body),
            )
            .await
            .map_err(|error| {
                api(
                    "report the status of",
                    "MigrationTask",
                    &self.namespace,
                    &self.name,
                    &error,
                )
            })?;
        Ok(())
    }

    fn desired(&self) -> watch::Receiver<Desired> {
        self.desired.subscribe()
    }
}

fn desired_of(task: &MigrationTask) -> Desired {
    Desired {
        control: task.spec.control.clone(),
        generation: task.metadata.generation.unwrap_or(0),
    }
}

async fn follow(
    api: Api<MigrationTask>,
    name: String,
    uid: String,
    desired: watch::Sender<Desired>,
    stop: CancellationToken,
) {
    let mut seen = std::pin::pin!(watch_object(api, &name).backoff(watcher::DefaultBackoff::default()));
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = seen.next() => event,
        };
        match event {
            Some(Ok(Some(task))) if task.uid().unwrap_or_default() == uid => {
                desired.send_if_modified(|held| {
                    let new = desired_of(&task);
                    let changed = *held != new;
                    *held = new;
                    changed
                });
            }
            Some(Ok(_)) => {
                tracing::info!(task = name, "the task is gone or replaced: stopping");
                stop.cancel();
                return;
            }
            Some(Err(error)) => tracing::warn!(task = name, %error, "the task cannot be followed; trying again"),
            None => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                tracing::warn!(task = name, "the stream of the task's changes ended");
                return;
            }
        }
    }
}

fn api(what: &str, kind: &str, namespace: &str, name: &str, error: &kube::Error) -> WorkError {
    WorkError::Waiting {
        reason: "ApiServer",
        message: format!(
            "cannot {what} {kind} {namespace}/{name}: {error}; check that the API server runs and that the worker's \
             ServiceAccount may get, list and watch migrationtasks, get datamigrations and patch migrationtasks/status"
        ),
    }
}
