//! Acting: an exhaustive match over the closed list of actions, in order; the first that fails ends the pass.
//! What was not done is decided again from what is there then.

use kube::ResourceExt;

use crate::api::migration::Migration;
use crate::api::{DataMigration, FINALIZER};
use crate::decide::Action;
use crate::platform::{Event, Platform, PlatformError};

/// Carries out a decision's actions; returns how many were done.
pub async fn act(
    platform: &dyn Platform,
    raw: &DataMigration,
    migration: &Migration,
    actions: &[Action],
) -> Result<usize, PlatformError> {
    for (done, action) in actions.iter().enumerate() {
        tracing::debug!(migration = %migration.id(), ?action, done, "acting");
        one(platform, raw, migration, action).await?;
    }
    Ok(actions.len())
}

async fn one(
    platform: &dyn Platform,
    raw: &DataMigration,
    migration: &Migration,
    action: &Action,
) -> Result<(), PlatformError> {
    let namespace = migration.namespace.as_str();
    match action {
        Action::AddFinalizer => {
            let mut finalizers = raw.finalizers().to_vec();
            finalizers.push(FINALIZER.to_owned());
            platform.set_finalizers(raw, finalizers).await
        }
        Action::RemoveFinalizer { note } => remove_finalizer(platform, raw, note).await,
        Action::CreateTask { name, attempt, spec } => platform.create_task(raw, name, *attempt, spec).await,
        Action::DeleteTask { name } => platform.delete_task(namespace, name).await,
        Action::CreateJob { task } => platform.create_job(migration, task).await,
        Action::DeleteJob { name } => platform.delete_job(namespace, name).await,
        Action::SuspendJob { name, suspend } => platform.suspend_job(namespace, name, *suspend).await,
        Action::SetControl {
            task,
            resource_version,
            control,
        } => {
            tracing::info!(migration = %migration.id(), epoch = control.epoch, min_epoch = control.min_epoch,
                mode = %control.mode, secondary = %control.secondary, "recording intent");
            platform.set_control(namespace, task, resource_version, control).await
        }
        Action::WriteMode { data, resource_version } => {
            tracing::info!(migration = %migration.id(), ?data, "flipping the ConfigMap");
            let name = &migration.application.config_map;
            platform
                .write_mode(namespace, name, data, resource_version.as_deref())
                .await
        }
        Action::AnnotatePods { pods, epoch } => {
            let all = pods.iter().map(|pod| platform.annotate_pod(namespace, pod, *epoch));
            futures::future::try_join_all(all).await.map(drop)
        }
    }
}

/// Lets the resource go, and says how the application was left.
pub async fn remove_finalizer(platform: &dyn Platform, raw: &DataMigration, note: &str) -> Result<(), PlatformError> {
    let event = Event {
        warning: false,
        reason: "Deleted".to_owned(),
        action: "Delete".to_owned(),
        note: note.to_owned(),
    };
    // The resource must not hang because an event could not be told.
    if let Err(error) = platform.publish(raw, &event).await {
        tracing::warn!(%error, "event not told");
    }
    let rest = raw
        .finalizers()
        .iter()
        .filter(|name| *name != FINALIZER)
        .cloned()
        .collect();
    platform.set_finalizers(raw, rest).await
}
