//! The cluster. Every read is live, every write either carries the version that was read or applies our own fields
//! alone; nothing here decides anything.

use async_trait::async_trait;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::Selector;
use kube::runtime::events::{Event as KubeEvent, EventType, Recorder};
use kube::runtime::reflector::Store;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::job::{WorkerImage, job, label};
use super::{ATTEMPT_ANNOTATION, Event, MIGRATION_LABEL, Platform, PlatformError};
use crate::api::migration::Migration;
use crate::api::task::{ControlSpec, MigrationTaskSpec};
use crate::api::{DataMigration, DataMigrationStatus, EPOCH_ANNOTATION, FIELD_MANAGER, MigrationTask};

/// A cluster, as the operator's ServiceAccount may see it.
pub struct Kubernetes {
    client: Client,
    worker: WorkerImage,
    recorder: Recorder,
    /// The controllers' caches, to find neighbours without asking the server.
    known: Mutex<Vec<Store<DataMigration>>>,
}

impl Kubernetes {
    pub fn new(client: Client, worker: WorkerImage, recorder: Recorder) -> Self {
        Self {
            client,
            worker,
            recorder,
            known: Mutex::new(Vec::new()),
        }
    }

    /// Lets neighbours be looked up in a controller's cache.
    pub fn know(&self, store: Store<DataMigration>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).push(store);
    }

    pub fn stores(&self) -> Vec<Store<DataMigration>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }
}

fn of(migration: &Migration) -> ListParams {
    ListParams::default().labels(&format!("{MIGRATION_LABEL}={}", label(&migration.name)))
}

/// Says what was tried, and sorts the answers that callers treat differently.
fn failed(what: impl FnOnce() -> String) -> impl FnOnce(kube::Error) -> PlatformError {
    move |error| match &error {
        kube::Error::Api(status) => match status.code {
            404 => PlatformError::NotFound { what: what() },
            409 => PlatformError::Conflict { what: what() },
            401 | 403 => PlatformError::Forbidden {
                what: what(),
                message: status.message.clone(),
            },
            _ => PlatformError::Other {
                what: what(),
                message: status.message.clone(),
            },
        },
        other => PlatformError::Other {
            what: what(),
            message: other.to_string(),
        },
    }
}

/// It is gone, which was the aim.
fn gone_is_fine(result: Result<(), PlatformError>) -> Result<(), PlatformError> {
    match result {
        Err(PlatformError::NotFound { .. }) => Ok(()),
        other => other,
    }
}

/// It is there already: an earlier pass got further than it knew.
fn there_is_fine(result: Result<(), PlatformError>) -> Result<(), PlatformError> {
    match result {
        Err(PlatformError::Conflict { .. }) => Ok(()),
        other => other,
    }
}

#[async_trait]
impl Platform for Kubernetes {
    async fn migration(&self, namespace: &str, name: &str) -> Result<Option<DataMigration>, PlatformError> {
        self.api(namespace)
            .get_opt(name)
            .await
            .map_err(failed(|| format!("reading DataMigration {namespace}/{name}")))
    }

    async fn neighbours(&self) -> Vec<DataMigration> {
        let caches = self.stores();
        caches.iter().flat_map(Store::state).map(Arc::unwrap_or_clone).collect()
    }

    async fn tasks(&self, migration: &Migration) -> Result<Vec<MigrationTask>, PlatformError> {
        let list = self
            .api::<MigrationTask>(&migration.namespace)
            .list(&of(migration))
            .await;
        let list = list.map_err(failed(|| format!("listing the tasks of {}", migration.id())))?;
        Ok(list
            .items
            .into_iter()
            .filter(|task| task.spec.migration == migration.name)
            .collect())
    }

    async fn jobs(&self, migration: &Migration) -> Result<Vec<Job>, PlatformError> {
        let list = self.api::<Job>(&migration.namespace).list(&of(migration)).await;
        Ok(list
            .map_err(failed(|| format!("listing the Jobs of {}", migration.id())))?
            .items)
    }

    async fn worker_pods(&self, migration: &Migration) -> Result<Vec<Pod>, PlatformError> {
        let list = self.api::<Pod>(&migration.namespace).list(&of(migration)).await;
        Ok(list
            .map_err(failed(|| format!("listing the worker pods of {}", migration.id())))?
            .items)
    }

    async fn application_pods(&self, namespace: &str, selector: &LabelSelector) -> Result<Vec<Pod>, PlatformError> {
        let selector: Selector = selector.clone().try_into().map_err(|error| PlatformError::Other {
            what: "reading spec.application.acknowledge.selector".to_owned(),
            message: format!("{error}"),
        })?;
        let list = self
            .api::<Pod>(namespace)
            .list(&ListParams::default().labels_from(&selector))
            .await;
        Ok(list
            .map_err(failed(|| format!("listing the application's pods in {namespace}")))?
            .items)
    }

    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, PlatformError> {
        self.api(namespace)
            .get_opt(name)
            .await
            .map_err(failed(|| format!("reading ConfigMap {namespace}/{name}")))
    }

    async fn set_finalizers(&self, raw: &DataMigration, finalizers: Vec<String>) -> Result<(), PlatformError> {
        let namespace = raw.namespace().unwrap_or_default();
        let patch = json!({"metadata": {"resourceVersion": raw.resource_version(), "finalizers": finalizers}});
        let api = self.api::<DataMigration>(&namespace);
        let result = api
            .patch(&raw.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await;
        gone_is_fine(result.map(drop).map_err(failed(|| {
            format!("changing finalizers of DataMigration {}", raw.name_any())
        })))
    }

    async fn create_task(
        &self,
        raw: &DataMigration,
        name: &str,
        attempt: u32,
        spec: &MigrationTaskSpec,
    ) -> Result<(), PlatformError> {
        let namespace = raw.namespace().unwrap_or_default();
        let task = MigrationTask {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.clone()),
                labels: Some(BTreeMap::from([(MIGRATION_LABEL.to_owned(), label(&raw.name_any()))])),
                annotations: Some(BTreeMap::from([(ATTEMPT_ANNOTATION.to_owned(), attempt.to_string())])),
                owner_references: raw.controller_owner_ref(&()).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: spec.clone(),
            status: None,
        };
        let created = self
            .api::<MigrationTask>(&namespace)
            .create(&PostParams::default(), &task)
            .await;
        there_is_fine(
            created
                .map(drop)
                .map_err(failed(|| format!("creating MigrationTask {namespace}/{name}"))),
        )
    }

    async fn delete_task(&self, namespace: &str, name: &str) -> Result<(), PlatformError> {
        let deleted = self
            .api::<MigrationTask>(namespace)
            .delete(name, &DeleteParams::background())
            .await;
        gone_is_fine(
            deleted
                .map(drop)
                .map_err(failed(|| format!("deleting MigrationTask {namespace}/{name}"))),
        )
    }

    async fn create_job(&self, migration: &Migration, task: &str) -> Result<(), PlatformError> {
        let namespace = &migration.namespace;
        let found: MigrationTask = self
            .api(namespace)
            .get(task)
            .await
            .map_err(failed(|| format!("reading MigrationTask {namespace}/{task}")))?;
        let Some(owner) = found.controller_owner_ref(&()) else {
            return Err(PlatformError::NotFound {
                what: format!("MigrationTask {namespace}/{task}"),
            });
        };
        let job = job(migration, &found, owner, &self.worker);
        let created = self.api::<Job>(namespace).create(&PostParams::default(), &job).await;
        there_is_fine(
            created
                .map(drop)
                .map_err(failed(|| format!("creating Job {namespace}/{task}"))),
        )
    }

    async fn delete_job(&self, namespace: &str, name: &str) -> Result<(), PlatformError> {
        let deleted = self
            .api::<Job>(namespace)
            .delete(name, &DeleteParams::background())
            .await;
        gone_is_fine(
            deleted
                .map(drop)
                .map_err(failed(|| format!("deleting Job {namespace}/{name}"))),
        )
    }

    async fn suspend_job(&self, namespace: &str, name: &str, suspend: bool) -> Result<(), PlatformError> {
        let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
        let patched = self
            .api::<Job>(namespace)
            .patch(name, &PatchParams::default(), &patch)
            .await;
        gone_is_fine(
            patched
                .map(drop)
                .map_err(failed(|| format!("suspending Job {namespace}/{name}"))),
        )
    }

    async fn set_control(
        &self,
        namespace: &str,
        task: &str,
        resource_version: &str,
        control: &ControlSpec,
    ) -> Result<(), PlatformError> {
        let patch = json!({"metadata": {"resourceVersion": resource_version}, "spec": {"control": control}});
        let api = self.api::<MigrationTask>(namespace);
        let patched = api.patch(task, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map(drop).map_err(failed(|| {
            format!("recording epoch {} in MigrationTask {task}", control.epoch)
        }))
    }

    async fn write_mode(
        &self,
        namespace: &str,
        name: &str,
        data: &BTreeMap<String, String>,
        resource_version: Option<&str>,
    ) -> Result<(), PlatformError> {
        let api = self.api::<ConfigMap>(namespace);
        let what = || format!("flipping ConfigMap {namespace}/{name}");
        let Some(resource_version) = resource_version else {
            // Created, never applied: an object that appeared in the meantime is looked at first.
            let map = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    ..ObjectMeta::default()
                },
                data: Some(data.clone()),
                ..ConfigMap::default()
            };
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            return api.create(&params, &map).await.map(drop).map_err(failed(what));
        };
        // Our keys alone are applied, so force takes nothing else from anybody; the version that was read is demanded.
        let patch = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "resourceVersion": resource_version},
            "data": data,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        api.patch(name, &params, &Patch::Apply(patch))
            .await
            .map(drop)
            .map_err(failed(what))
    }

    async fn annotate_pod(&self, namespace: &str, name: &str, epoch: i64) -> Result<(), PlatformError> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {EPOCH_ANNOTATION: epoch.to_string()}}}));
        let patched = self
            .api::<Pod>(namespace)
            .patch(name, &PatchParams::default(), &patch)
            .await;
        gone_is_fine(
            patched
                .map(drop)
                .map_err(failed(|| format!("annotating pod {namespace}/{name}"))),
        )
    }

    async fn write_status(&self, raw: &DataMigration, status: &DataMigrationStatus) -> Result<(), PlatformError> {
        let namespace = raw.namespace().unwrap_or_default();
        // Applied as a whole by one manager: a field that is no longer said disappears.
        let patch = json!({
            "apiVersion": "datamigration.dev/v1alpha1",
            "kind": "DataMigration",
            "metadata": {"name": raw.name_any(), "uid": raw.uid()},
            "status": status,
        });
        let api = self.api::<DataMigration>(&namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patched = api.patch_status(&raw.name_any(), &params, &Patch::Apply(patch)).await;
        gone_is_fine(patched.map(drop).map_err(failed(|| {
            format!("writing the status of {namespace}/{}", raw.name_any())
        })))
    }

    async fn publish(&self, raw: &DataMigration, event: &Event) -> Result<(), PlatformError> {
        let kube_event = KubeEvent {
            type_: if event.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: event.reason.clone(),
            // The API holds 1,024 bytes.
            note: Some(event.note.chars().take(1000).collect()),
            action: event.action.clone(),
            secondary: None,
        };
        let published = self.recorder.publish(&kube_event, &raw.object_ref(&())).await;
        published.map_err(failed(|| {
            format!("telling event {} of {}", event.reason, raw.name_any())
        }))
    }
}
