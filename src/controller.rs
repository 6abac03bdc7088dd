//! The operator's process: leads by a Lease, watches what can change a decision, makes passes, and ends in order.

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::core::{Selector, SelectorExt};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::api::{DataMigration, MigrationTask};
use crate::lease::{self, Lease};
use crate::platform::MIGRATION_LABEL;
use crate::platform::job::WorkerImage;
use crate::platform::kubernetes::Kubernetes;
use crate::reconcile::{ReconcileError, reconcile};

/// What the operator is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Namespaces to serve; empty: all.
    pub namespaces: Vec<String>,
    pub worker: WorkerImage,
    /// Name of this operator among others, and the namespace of the Lease.
    pub identity: String,
    pub lease_namespace: String,
}

/// Why the operator cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    #[error("cannot find out how to reach the Kubernetes API: {0}; set KUBECONFIG or run in a pod")]
    Config(#[from] kube::config::InferConfigError),
    #[error("cannot reach the Kubernetes API: {0}")]
    Client(#[from] kube::Error),
    #[error(transparent)]
    Lease(#[from] lease::LeaseError),
    #[error("another operator took the Lease; this one stops")]
    LeaseLost,
}

struct Context {
    platform: Arc<Kubernetes>,
}

/// Runs until asked to stop.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), ControllerError> {
    let client = Client::try_from(kube::Config::infer().await?)?;
    let lease = Lease::new(client.clone(), &options.lease_namespace, &options.identity);
    tracing::info!(
        identity = options.identity,
        namespace = options.lease_namespace,
        "waiting for the Lease"
    );
    tokio::select! {
        got = lease.acquire() => got?,
        () = stop.cancelled() => return Ok(()),
    }
    tracing::info!("leading");
    let ended = CancellationToken::new();
    let keeping = tokio::spawn({
        let (lease, ended) = (lease.clone(), ended.clone());
        async move { lease.keep(ended).await }
    });
    let halt = stop.child_token();
    let work = lead(client, &options, halt.clone());
    tokio::pin!(work);
    let lost = async { keeping.await.map_or(true, |kept| kept.is_err()) };
    tokio::select! {
        () = &mut work => {
            ended.cancel();
            lease.release().await;
            Ok(())
        }
        // Without the Lease not one more write: the process ends, and with it everything under way.
        _ = lost => Err(ControllerError::LeaseLost),
    }
}

async fn lead(client: Client, options: &Options, stop: CancellationToken) {
    let reporter = Reporter {
        controller: "datamigration".to_owned(),
        instance: Some(options.identity.clone()),
    };
    let recorder = Recorder::new(client.clone(), reporter);
    let platform = Arc::new(Kubernetes::new(client.clone(), options.worker.clone(), recorder));
    let scopes: Vec<Option<&str>> = if options.namespaces.is_empty() {
        vec![None]
    } else {
        options
            .namespaces
            .iter()
            .map(|namespace| Some(namespace.as_str()))
            .collect()
    };
    let controllers = scopes
        .into_iter()
        .map(|scope| control(&client, scope, platform.clone(), stop.clone()));
    futures::future::join_all(controllers).await;
}

fn api<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match scope {
        None => Api::all(client.clone()),
        Some(namespace) => Api::namespaced(client.clone(), namespace),
    }
}

async fn control(client: &Client, scope: Option<&str>, platform: Arc<Kubernetes>, stop: CancellationToken) {
    let ours = watcher::Config::default().labels(MIGRATION_LABEL);
    let all = watcher::Config::default;
    let controller = Controller::new(api::<DataMigration>(client, scope), all());
    let store = controller.store();
    platform.know(store.clone());
    let (of_map, of_pod) = (store.clone(), store.clone());
    controller
        // Two quick changes make one pass.
        .with_config(
            controller::Config::default()
                .debounce(Duration::from_millis(50))
                .concurrency(8),
        )
        .owns(api::<MigrationTask>(client, scope), all())
        .watches(api::<Job>(client, scope), ours.clone(), |job: Job| by_label(&job))
        .watches(api::<ConfigMap>(client, scope), all(), move |map: ConfigMap| {
            by_config_map(&of_map, &map)
        })
        .watches(api::<Pod>(client, scope), all(), move |pod: Pod| by_pod(&of_pod, &pod))
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(pass, on_error, Arc::new(Context { platform }))
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "pass ended early");
            }
        })
        .await;
}

async fn pass(raw: Arc<DataMigration>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let namespace = raw.namespace().unwrap_or_default();
    let next = reconcile(context.platform.as_ref(), &namespace, &raw.name_any(), Timestamp::now()).await?;
    Ok(Action::requeue(next))
}

// The controller hands these over by value.
#[allow(clippy::needless_pass_by_value)]
/// Errors are shown and tried again after a pause that is short against a flip and long against a broken API server.
fn on_error(raw: Arc<DataMigration>, error: &ReconcileError, _context: Arc<Context>) -> Action {
    tracing::warn!(migration = raw.name_any(), namespace = raw.namespace().unwrap_or_default(), %error, "pass failed");
    match error {
        ReconcileError::Platform(_) => Action::requeue(Duration::from_secs(2)),
        ReconcileError::Invariant { .. } => Action::requeue(Duration::from_secs(30)),
    }
}

fn by_label<K: ResourceExt>(object: &K) -> Option<ObjectRef<DataMigration>> {
    let name = object.labels().get(MIGRATION_LABEL)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

fn by_config_map(store: &Store<DataMigration>, map: &ConfigMap) -> Vec<ObjectRef<DataMigration>> {
    let matches = |migration: &DataMigration| migration.spec.application.config_map_ref.name == map.name_any();
    in_namespace(store, map.namespace().as_deref(), matches)
}

fn by_pod(store: &Store<DataMigration>, pod: &Pod) -> Vec<ObjectRef<DataMigration>> {
    if let Some(own) = by_label(pod) {
        return vec![own];
    }
    let labels: BTreeMap<String, String> = pod.labels().clone();
    in_namespace(store, pod.namespace().as_deref(), |migration| {
        let selector = migration.spec.application.acknowledge.selector.clone();
        selector
            .and_then(|selector| Selector::try_from(selector).ok())
            .is_some_and(|selector| selector.matches(&labels))
    })
}

fn in_namespace(
    store: &Store<DataMigration>,
    namespace: Option<&str>,
    matches: impl Fn(&DataMigration) -> bool,
) -> Vec<ObjectRef<DataMigration>> {
    let all = store.state();
    let mine = all
        .iter()
        .filter(|migration| migration.namespace().as_deref() == namespace && matches(migration));
    mine.map(|migration| ObjectRef::from_obj(migration.as_ref())).collect()
}
