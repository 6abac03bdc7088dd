//! Observation: from the API objects to a `World` of plain facts. Reads only. What cannot be read is said to be
//! unknown; without the tasks nothing can be said at all, and the pass ends.

pub mod world;

use k8s_openapi::api::batch::v1::Job as KubeJob;
use k8s_openapi::api::core::v1::Pod as KubePod;
use kube::ResourceExt;

use crate::api::migration::Migration;
use crate::api::{DataMigration, EPOCH_ANNOTATION, FINALIZER, MigrationTask};
use crate::platform::{ATTEMPT_ANNOTATION, Platform, PlatformError, TASK_LABEL};
use world::{Conflict, Job, ModeMap, Pod, Seen, Task, World};

/// Looks at everything that a decision about this migration is made from.
pub async fn observe(
    platform: &dyn Platform,
    raw: &DataMigration,
    migration: &Migration,
) -> Result<World, PlatformError> {
    let jobs = platform.jobs(migration).await?;
    // Only a Job whose pod is not up yet makes anybody ask why.
    let waiting = jobs.iter().any(waits);
    let worker_pods = if waiting {
        platform.worker_pods(migration).await?
    } else {
        Vec::new()
    };
    let tasks = platform
        .tasks(migration)
        .await?
        .into_iter()
        .filter(|task| owned(task, raw))
        .map(|task| self::task(task, &jobs, &worker_pods))
        .collect();
    let mode = match platform
        .config_map(&migration.namespace, &migration.application.config_map)
        .await
    {
        Ok(None) => Seen::Absent,
        Ok(Some(map)) => Seen::Known(ModeMap {
            resource_version: map.resource_version().unwrap_or_default(),
            data: map.data.unwrap_or_default(),
        }),
        Err(error) => Seen::Unknown(error.to_string()),
    };
    let pods = match migration.application.acknowledge.selector() {
        None => Seen::Absent,
        Some(selector) => match platform.application_pods(&migration.namespace, selector).await {
            Ok(pods) => Seen::Known(pods.iter().map(pod).collect()),
            Err(error) => Seen::Unknown(error.to_string()),
        },
    };
    Ok(World {
        tasks,
        mode,
        pods,
        conflict: conflict(raw, &platform.neighbours().await),
        previous: raw.status.clone().unwrap_or_default(),
        deleting: raw.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        finalizer: raw.finalizers().iter().any(|name| name == FINALIZER),
    })
}

/// A task of an earlier resource of the same name is evidence for nothing: it goes away with its owner, by and by.
fn owned(task: &MigrationTask, raw: &DataMigration) -> bool {
    task.owner_references()
        .iter()
        .any(|owner| Some(&owner.uid) == raw.metadata.uid.as_ref())
}

fn waits(job: &KubeJob) -> bool {
    let status = job.status.as_ref();
    let finished = condition(job, "Complete").is_some() || condition(job, "Failed").is_some();
    !finished && status.and_then(|status| status.ready).unwrap_or(0) == 0
}

fn condition<'a>(job: &'a KubeJob, kind: &str) -> Option<&'a k8s_openapi::api::batch::v1::JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == kind && condition.status == "True")
}

fn task(raw: MigrationTask, jobs: &[KubeJob], pods: &[KubePod]) -> Task {
    let name = raw.name_any();
    let job = jobs.iter().find(|job| job.name_any() == name);
    Task {
        resource_version: raw.resource_version().unwrap_or_default(),
        attempt: raw
            .annotations()
            .get(ATTEMPT_ANNOTATION)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
        created: raw.creation_timestamp().map(|time| time.0),
        deleting: raw.metadata.deletion_timestamp.is_some(),
        job: job.map_or(Seen::Absent, |job| Seen::Known(self::job(job, pods))),
        status: raw.status.unwrap_or_default(),
        spec: raw.spec,
        name,
    }
}

fn job(raw: &KubeJob, pods: &[KubePod]) -> Job {
    let name = raw.name_any();
    let own = |pod: &&KubePod| pod.labels().get(TASK_LABEL) == Some(&name);
    Job {
        suspended: raw.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false),
        deleting: raw.metadata.deletion_timestamp.is_some(),
        complete: condition(raw, "Complete").is_some(),
        failed: condition(raw, "Failed").map(|found| {
            (
                found.reason.clone().unwrap_or_default(),
                found.message.clone().unwrap_or_default(),
                found.last_transition_time.as_ref().map(|time| time.0),
            )
        }),
        trouble: waits(raw)
            .then(|| {
                pods.iter()
                    .filter(own)
                    .find_map(trouble)
                    .or_else(|| no_pod(raw, pods.iter().any(|pod| own(&pod))))
            })
            .flatten(),
    }
}

/// Kubernetes has begun with the Job and could not make a pod for it. Why is only in an event of the Job's, which the
/// operator may not read.
fn no_pod(job: &KubeJob, has_pod: bool) -> Option<(String, String)> {
    let status = job.status.as_ref()?;
    let none = [status.active, status.failed, status.succeeded, status.terminating]
        .iter()
        .all(|count| count.unwrap_or(0) == 0);
    if has_pod || !none || status.start_time.is_none() || job.spec.as_ref()?.suspend == Some(true) {
        return None;
    }
    let account = job
        .spec
        .as_ref()?
        .template
        .spec
        .as_ref()?
        .service_account_name
        .as_deref();
    Some((
        "NoPod".to_owned(),
        format!(
            "Kubernetes made no pod for Job {name}; usually ServiceAccount {account} is not in namespace {namespace} (name the \
             namespace in the chart's workerNamespaces), or a quota or Pod Security forbids the pod: \
             kubectl describe job {name} -n {namespace} says which",
            name = job.name_any(),
            account = account.unwrap_or("default"),
            namespace = job.namespace().unwrap_or_default(),
        ),
    ))
}

/// Why a pod does not start, where its status says so.
fn trouble(pod: &KubePod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() != Some("Pending") {
        return None;
    }
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled" && condition.status == "False" && condition.reason.is_some()
    });
    if let Some(condition) = unscheduled {
        let reason = condition.reason.clone().unwrap_or_default();
        return Some((reason, condition.message.clone().unwrap_or_default()));
    }
    status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone()?;
        // On its way is no trouble.
        if matches!(reason.as_str(), "ContainerCreating" | "PodInitializing") {
            return None;
        }
        Some((reason, waiting.message.clone().unwrap_or_default()))
    })
}

fn pod(raw: &KubePod) -> Pod {
    let phase = raw.status.as_ref().and_then(|status| status.phase.as_deref());
    Pod {
        name: raw.name_any(),
        uid: raw.uid().unwrap_or_default(),
        finished: matches!(phase, Some("Succeeded" | "Failed")),
        annotated: raw.annotations().get(EPOCH_ANNOTATION).cloned(),
    }
}

/// An older migration of the same namespace that uses the same table of the same source, or the same ConfigMap.
fn conflict(raw: &DataMigration, neighbours: &[DataMigration]) -> Option<Conflict> {
    let age = |migration: &DataMigration| (migration.creation_timestamp().map(|time| time.0), migration.name_any());
    let older = neighbours
        .iter()
        .filter(|other| other.uid() != raw.uid() && other.namespace() == raw.namespace() && age(other) < age(raw));
    for other in older {
        let name = other.name_any();
        let url = |migration: &DataMigration| {
            migration
                .spec
                .source
                .shards
                .iter()
                .map(|shard| shard.url_secret_ref.clone())
                .collect::<Vec<_>>()
        };
        let shared = url(other).iter().any(|reference| url(raw).contains(reference));
        let table = raw
            .spec
            .tables
            .iter()
            .find(|table| other.spec.tables.iter().any(|its| its.name == table.name));
        if let (true, Some(table)) = (shared, table) {
            return Some(Conflict::Table {
                table: table.name.clone(),
                other: name,
            });
        }
        let map = &raw.spec.application.config_map_ref.name;
        if &other.spec.application.config_map_ref.name == map {
            return Some(Conflict::ConfigMap {
                name: map.clone(),
                other: name,
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixtures::{orders, with};
    use serde_json::json;

    fn named(mut manifest: DataMigration, name: &str, created: &str) -> DataMigration {
        manifest.metadata.name = Some(name.to_owned());
        manifest.metadata.uid = Some(name.to_owned());
        manifest.metadata.creation_timestamp = Some(serde_json::from_value(json!(created)).unwrap());
        manifest
    }

    #[test]
    fn the_younger_of_two_migrations_of_one_table_is_refused() {
        let old = named(orders(), "old", "2026-01-01T00:00:00Z");
        let young = named(orders(), "young", "2026-01-02T00:00:00Z");
        let all = [old.clone(), young.clone()];
        assert_eq!(conflict(&old, &all), None);
        let found = conflict(&young, &all);
        assert_eq!(
            found,
            Some(Conflict::Table {
                table: "orders".to_owned(),
                other: "old".to_owned()
            })
        );
    }

    #[test]
    fn two_tables_of_one_source_do_not_meet_unless_in_the_config_map() {
        let old = named(orders(), "old", "2026-01-01T00:00:00Z");
        let other = with(&[("tables/0/name", json!("customers"))]);
        let young = named(other.clone(), "young", "2026-01-02T00:00:00Z");
        let map = "orders-database-mode".to_owned();
        let found = conflict(&young, std::slice::from_ref(&old));
        assert_eq!(
            found,
            Some(Conflict::ConfigMap {
                name: map,
                other: "old".to_owned()
            })
        );
        let mut apart = young;
        apart.spec.application.config_map_ref.name = "another".to_owned();
        assert_eq!(conflict(&apart, &[old]), None);
    }

    #[test]
    fn a_job_for_which_no_pod_can_be_made_is_trouble() {
        let with = |status: serde_json::Value| -> KubeJob {
            serde_json::from_value(json!({
                "metadata": {"name": "orders-preflight", "namespace": "shop"},
                "spec": {"template": {"spec": {"serviceAccountName": "worker", "containers": []}}},
                "status": status,
            }))
            .unwrap()
        };
        let (reason, message) = job(&with(json!({"startTime": "2026-01-01T00:00:00Z"})), &[])
            .trouble
            .unwrap();
        assert_eq!(reason, "NoPod");
        assert!(message.contains("ServiceAccount worker") && message.contains("describe job orders-preflight -n shop"));
        for fine in [
            json!({}),
            json!({"startTime": "2026-01-01T00:00:00Z", "active": 1}),
            json!({"startTime": "2026-01-01T00:00:00Z", "failed": 1}),
        ] {
            assert_eq!(job(&with(fine), &[]).trouble, None);
        }
    }

    #[test]
    fn a_task_that_another_resource_of_the_name_left_behind_does_not_count() {
        let raw = orders();
        let task = |owner: &str| -> MigrationTask {
            serde_json::from_value(json!({
                "apiVersion": "datamigration.dev/v1alpha1", "kind": "MigrationTask",
                "metadata": {"name": "orders-copy-orders-r1e1", "ownerReferences": [
                    {"apiVersion": "datamigration.dev/v1alpha1", "kind": "DataMigration", "name": "orders", "uid": owner}]},
                "spec": {"migration": "orders", "kind": "Copy", "direction": "Forward", "epoch": 1},
            }))
            .unwrap()
        };
        assert!(owned(&task("u-1"), &raw));
        assert!(!owned(&task("u-0"), &raw));
    }

    #[test]
    fn a_pod_without_its_image_is_trouble() {
        let pod: KubePod = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "status": {"phase": "Pending", "containerStatuses": [{
                "name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ErrImageNeverPull", "message": "image is not present"}},
            }]},
        }))
        .unwrap();
        assert_eq!(
            trouble(&pod),
            Some(("ErrImageNeverPull".to_owned(), "image is not present".to_owned()))
        );
    }
}
