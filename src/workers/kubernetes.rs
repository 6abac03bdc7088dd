//! The worker's one place that knows Kubernetes: reads its own MigrationTask and DataMigration, follows what is desired and
//! what may be asked of the databases, applies the task's status, and nothing else.

use super::context::{Desired, Reporter};
use super::error::WorkError;
use crate::api::task::{MigrationTask, MigrationTaskStatus, TaskKind, TaskPhase};
use crate::api::{DataMigration, Migration, validate};
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::watch_object;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Field manager of the task's status: fields that a later report leaves out go away. Each further pod of a task has one
/// of its own, so that what it reports goes away with its own trouble and with nobody else's.
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
    /// Which of the task's pods this is, where it has several; the first leads.
    index: Option<u32>,
    desired: watch::Sender<Desired>,
}

impl KubernetesReporter {
    /// Follows the task until `stop`; a task that goes away sets `stop`, for nobody waits for its result any more.
    pub fn start(
        client: &Client,
        namespace: &str,
        task: &MigrationTask,
        index: Option<u32>,
        stop: CancellationToken,
    ) -> Self {
        let api: Api<MigrationTask> = Api::namespaced(client.clone(), namespace);
        let name = task.name_any();
        let uid = task.uid().unwrap_or_default();
        let (desired, _) = watch::channel(desired_of(task));
        if matches!(task.spec.kind, TaskKind::Copy | TaskKind::Verify | TaskKind::Archive) {
            let migrations: Api<DataMigration> = Api::namespaced(client.clone(), namespace);
            let owner = task.spec.migration.clone();
            tokio::spawn(follow_limits(migrations, owner, desired.clone(), stop.clone()));
        }
        tokio::spawn(follow(api.clone(), name.clone(), uid.clone(), desired.clone(), stop));
        Self {
            api,
            namespace: namespace.to_owned(),
            name,
            uid,
            index,
            desired,
        }
    }

    /// A result that another pod of the task has recorded is final. The version that was looked at goes with the report,
    /// which is refused if somebody was faster.
    async fn unfinished(&self) -> Result<Option<String>, WorkError> {
        let task = self.api.get(&self.name).await.map_err(|error| self.failed(&error))?;
        let finished = task
            .status
            .as_ref()
            .is_some_and(|status| matches!(status.phase, TaskPhase::Succeeded | TaskPhase::Failed));
        Ok((!finished).then(|| task.resource_version().unwrap_or_default()))
    }

    fn failed(&self, error: &kube::Error) -> WorkError {
        api(
            "report the status of",
            "MigrationTask",
            &self.namespace,
            &self.name,
            error,
        )
    }
}

/// What a pod that does not lead says of its task: why it cannot go on, or that nobody can. Its success is its exit code.
fn helper_status(status: &MigrationTaskStatus) -> serde_json::Value {
    let mut told = serde_json::Map::new();
    let mut tell = |name: &str, value: serde_json::Value| {
        if !value.is_null() {
            told.insert(name.to_owned(), value);
        }
    };
    if status.phase != TaskPhase::Succeeded {
        tell("reason", serde_json::json!(status.reason));
        tell("message", serde_json::json!(status.message));
    }
    if status.phase == TaskPhase::Failed {
        tell("phase", serde_json::json!(status.phase));
        tell("finishedAt", serde_json::json!(status.finished_at));
    }
    serde_json::Value::Object(told)
}

#[async_trait::async_trait]
impl Reporter for KubernetesReporter {
    async fn publish(&self, status: &MigrationTaskStatus) -> Result<(), WorkError> {
        // The UID keeps a late report away from another task of the same name.
        let mut metadata = serde_json::json!({"name": self.name, "uid": self.uid});
        if self.index.is_some() {
            let Some(version) = self.unfinished().await? else {
                tracing::info!(task = self.name, "another pod has recorded the task's result");
                return Ok(());
            };
            metadata["resourceVersion"] = version.into();
        }
        let (manager, status) = match self.index {
            None | Some(0) => (FIELD_MANAGER.to_owned(), serde_json::json!(status)),
            Some(index) => (format!("{FIELD_MANAGER}-{index}"), helper_status(status)),
        };
        let body = serde_json::json!({
            "apiVersion": MigrationTask::api_version(&()),
            "kind": MigrationTask::kind(&()),
            "metadata": metadata,
            "status": status,
        });
        self.api
            .patch_status(&self.name, &PatchParams::apply(&manager).force(), &Patch::Apply(&body))
            .await
            .map_err(|error| self.failed(&error))?;
        Ok(())
    }

    fn desired(&self) -> watch::Receiver<Desired> {
        self.desired.subscribe()
    }

    fn leads(&self) -> bool {
        self.index.unwrap_or(0) == 0
    }
}

fn desired_of(task: &MigrationTask) -> Desired {
    Desired {
        control: task.spec.control.clone(),
        generation: task.metadata.generation.unwrap_or(0),
        limits: None,
    }
}

/// Limits of load hold from the moment they are edited; the rest of the manifest is the operator's to act on.
async fn follow_limits(
    api: Api<DataMigration>,
    name: String,
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
            Some(Ok(Some(raw))) => match validate(&raw) {
                Ok(migration) => {
                    let limits = Some(migration.copy.limits);
                    desired.send_if_modified(|held| {
                        let changed = held.limits != limits;
                        held.limits = limits;
                        changed
                    });
                }
                Err(found) => {
                    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                    tracing::warn!(migration = name, "the limits stay as they were: {}", found.join("; "));
                }
            },
            // Its tasks go with it.
            Some(Ok(None)) => {}
            Some(Err(error)) => {
                tracing::warn!(
                    migration = name, %error,
                    "changes of the limits cannot be followed; trying again. The worker's ServiceAccount has to be allowed to \
                     get, list and watch datamigrations"
                );
            }
            None => {
                tracing::warn!(migration = name, "the stream of the migration's changes ended");
                return;
            }
        }
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
                    let new = Desired {
                        limits: held.limits.clone(),
                        ..desired_of(&task)
                    };
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
             ServiceAccount may get, list and watch migrationtasks and datamigrations, and patch migrationtasks/status"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_does_not_lead_tells_its_trouble_and_nothing_else() {
        let mut status = MigrationTaskStatus {
            phase: TaskPhase::Running,
            progress: Some(crate::api::task::Progress::default()),
            ..MigrationTaskStatus::default()
        };
        assert_eq!(helper_status(&status), serde_json::json!({}));
        status.reason = Some("Unreachable".to_owned());
        status.message = Some("no answer".to_owned());
        let told = serde_json::json!({"reason": "Unreachable", "message": "no answer"});
        assert_eq!(helper_status(&status), told);
        status.phase = TaskPhase::Failed;
        assert_eq!(helper_status(&status)["phase"], "Failed");
        status.phase = TaskPhase::Succeeded;
        assert_eq!(helper_status(&status), serde_json::json!({}));
    }
}
