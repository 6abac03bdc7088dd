//! The Job of a task: the operator's own image as a worker, with nothing but its Secrets mounted, in the strictest
//! pod security that Kubernetes knows.

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, KeyToPath, PersistentVolumeClaimVolumeSource,
    PodSecurityContext, PodSpec, PodTemplateSpec, ProjectedVolumeSource, SeccompProfile, SecretProjection,
    SecretVolumeSource, SecurityContext, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;

use super::{MIGRATION_LABEL, TASK_LABEL};
use crate::api::MigrationTask;
use crate::api::migration::{Database, Destination, Migration, SecretKey};
use crate::api::task::TaskKind;

/// Where workers find their Secrets.
const SECRETS: &str = "/etc/datamigration";
/// User and group of the worker; no such user has to exist in the image.
const USER: i64 = 65532;
/// Exit codes after which trying again is of no use: a permanent failure, and a stale epoch. Both are recorded.
const FINAL_EXIT_CODES: [i32; 2] = [3, 4];
/// Stopped on request, without a result: does not count as a failure.
const STOPPED_EXIT_CODE: i32 = 5;
/// Crashes, evictions and lost nodes are tried again for as long as the task is wanted.
const BACKOFF_LIMIT: i32 = 10_000;

/// What the operator was installed with.
#[derive(Debug, Clone)]
pub struct WorkerImage {
    pub image: String,
    pub pull_policy: String,
    pub service_account: String,
    /// Log filter of the workers: the operator's own.
    pub log: String,
}

/// Builds the Job.
pub fn job(migration: &Migration, task: &MigrationTask, owner: OwnerReference, worker: &WorkerImage) -> Job {
    let name = task.metadata.name.clone().unwrap_or_default();
    let labels = BTreeMap::from([
        (MIGRATION_LABEL.to_owned(), label(&migration.name)),
        (TASK_LABEL.to_owned(), name.clone()),
        ("app.kubernetes.io/name".to_owned(), "datamigration".to_owned()),
        ("app.kubernetes.io/component".to_owned(), "worker".to_owned()),
    ]);
    // Complete when each of them has found all work done; a pod that is lost is replaced under its own index.
    let pods = (task.spec.kind == TaskKind::Copy && migration.copy.pods > 1)
        .then(|| i32::try_from(migration.copy.pods).unwrap_or(i32::MAX));
    Job {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(migration.namespace.clone()),
            labels: Some(labels.clone()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(BACKOFF_LIMIT),
            completion_mode: pods.map(|_| "Indexed".to_owned()),
            completions: pods,
            parallelism: pods,
            pod_replacement_policy: Some("Failed".to_owned()),
            pod_failure_policy: Some(failure_policy()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(migration, task, &name, worker)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// A label's value holds 63 bytes; a longer name is cut, and told apart by the tasks' own spec.
pub fn label(name: &str) -> String {
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.', '_']).to_owned()
}

fn failure_policy() -> PodFailurePolicy {
    let on_codes = |action: &str, codes: Vec<i32>| PodFailurePolicyRule {
        action: action.to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some("worker".to_owned()),
            operator: "In".to_owned(),
            values: codes,
        }),
        on_pod_conditions: None,
    };
    PodFailurePolicy {
        rules: vec![
            on_codes("FailJob", FINAL_EXIT_CODES.to_vec()),
            PodFailurePolicyRule {
                action: "Ignore".to_owned(),
                on_exit_codes: None,
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".to_owned(),
                    status: "True".to_owned(),
                }]),
            },
            on_codes("Ignore", vec![STOPPED_EXIT_CODE]),
        ],
    }
}

fn pod(migration: &Migration, task: &MigrationTask, name: &str, worker: &WorkerImage) -> PodSpec {
    let (volumes, mounts) = volumes(migration, task.spec.kind);
    let aliases = migration.worker.host_aliases.clone();
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(
            migration
                .worker
                .service_account
                .clone()
                .unwrap_or_else(|| worker.service_account.clone()),
        ),
        // Time to finish the batch that is under way.
        termination_grace_period_seconds: Some(30),
        host_aliases: (!aliases.is_empty()).then_some(aliases),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![Container {
            name: "worker".to_owned(),
            image: Some(worker.image.clone()),
            image_pull_policy: Some(worker.pull_policy.clone()),
            args: Some(vec![
                "worker".to_owned(),
                format!("--namespace={}", migration.namespace),
                format!("--task={name}"),
            ]),
            env: Some(vec![EnvVar {
                name: "RUST_LOG".to_owned(),
                value: Some(worker.log.clone()),
                value_from: None,
            }]),
            resources: Some(migration.worker.resources.clone()),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities {
                    add: None,
                    drop: Some(vec!["ALL".to_owned()]),
                }),
                ..SecurityContext::default()
            }),
            volume_mounts: Some(mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// Secrets are optional, so that the worker itself can say which one is missing. One volume per side carries the
/// shards' URLs and the certificate authority.
fn volumes(migration: &Migration, kind: TaskKind) -> (Vec<Volume>, Vec<VolumeMount>) {
    let mut volumes = vec![Volume {
        name: "tmp".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }];
    let mut mounts = vec![mount("tmp", "/tmp", false)];
    for (side, database) in [("source", &migration.source), ("target", &migration.target)] {
        let Database {
            shards,
            tls_ca,
            engine: _,
            tls_mode: _,
            existing_rows: _,
        } = database;
        let urls = shards
            .iter()
            .map(|shard| file(&shard.url, format!("{}/url", shard.name)));
        let ca = tls_ca.iter().map(|ca| file(ca, "ca.crt".to_owned()));
        volumes.push(Volume {
            name: side.to_owned(),
            projected: Some(ProjectedVolumeSource {
                default_mode: Some(0o440),
                sources: Some(urls.chain(ca).collect()),
            }),
            ..Volume::default()
        });
        mounts.push(mount(side, &format!("{SECRETS}/{side}"), true));
    }
    if kind != TaskKind::Archive {
        return (volumes, mounts);
    }
    match migration.archive.as_ref().map(|archive| &archive.destination) {
        Some(Destination::ObjectStore { secret: Some(name), .. }) => {
            volumes.push(Volume {
                name: "archive".to_owned(),
                secret: Some(SecretVolumeSource {
                    secret_name: Some(name.clone()),
                    optional: Some(true),
                    default_mode: Some(0o440),
                    items: None,
                }),
                ..Volume::default()
            });
            mounts.push(mount("archive", &format!("{SECRETS}/archive"), true));
        }
        Some(Destination::Volume { path, claim }) => {
            volumes.push(Volume {
                name: "archive".to_owned(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim.clone(),
                    read_only: None,
                }),
                ..Volume::default()
            });
            mounts.push(mount("archive", path, false));
        }
        Some(Destination::ObjectStore { secret: None, .. }) | None => {}
    }
    (volumes, mounts)
}

fn file(secret: &SecretKey, path: String) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name: secret.name.clone(),
            optional: Some(true),
            items: Some(vec![KeyToPath {
                key: secret.key.clone(),
                path,
                mode: None,
            }]),
        }),
        ..VolumeProjection::default()
    }
}

fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixtures::{orders, with};
    use crate::api::validate;
    use serde_json::json;

    fn build(migration: &Migration, kind: &str) -> serde_json::Value {
        let task: MigrationTask = serde_json::from_value(json!({
            "apiVersion": "datamigration.dev/v1alpha1", "kind": "MigrationTask",
            "metadata": {"name": "orders-x", "namespace": "shop"},
            "spec": {"migration": "orders", "kind": kind, "direction": "Forward", "epoch": 1},
        }))
        .unwrap();
        let worker = WorkerImage {
            image: "datamigration:test".to_owned(),
            pull_policy: "Never".to_owned(),
            service_account: "datamigration-worker".to_owned(),
            log: "info".to_owned(),
        };
        serde_json::to_value(job(migration, &task, OwnerReference::default(), &worker)).unwrap()
    }

    #[test]
    fn secrets_are_mounted_where_workers_look() {
        let manifest = with(&[("source/tls", json!({"caSecretRef": {"name": "orders-ca"}}))]);
        let job = build(&validate(&manifest).unwrap(), "Copy");
        let pod = &job["spec"]["template"]["spec"];
        let source = &pod["volumes"][1]["projected"]["sources"];
        assert_eq!(source[0]["secret"]["name"], "orders-mysql");
        assert_eq!(source[0]["secret"]["optional"], true);
        assert_eq!(
            source[0]["secret"]["items"][0],
            json!({"key": "url", "path": "main/url"})
        );
        assert_eq!(
            source[1]["secret"]["items"][0],
            json!({"key": "ca.crt", "path": "ca.crt"})
        );
        assert_eq!(
            pod["containers"][0]["volumeMounts"][1]["mountPath"],
            "/etc/datamigration/source"
        );
    }

    #[test]
    fn pods_are_restricted_and_no_secret_is_in_arguments_or_environment() {
        let job = build(&validate(&orders()).unwrap(), "Copy");
        let pod = &job["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert!(
            container["env"]
                .as_array()
                .unwrap()
                .iter()
                .all(|env| env["valueFrom"].is_null())
        );
        assert_eq!(
            container["args"],
            json!(["worker", "--namespace=shop", "--task=orders-x"])
        );
    }

    #[test]
    fn several_pods_of_a_copy_are_an_indexed_job() {
        let migration = validate(&with(&[("copy", json!({"pods": 3}))])).unwrap();
        let spec = |kind| build(&migration, kind)["spec"].clone();
        let copy = spec("Copy");
        assert_eq!(
            (&copy["completionMode"], &copy["completions"], &copy["parallelism"]),
            (&json!("Indexed"), &json!(3), &json!(3))
        );
        assert_eq!(spec("Verify")["completionMode"], json!(null));
        let one = build(&validate(&orders()).unwrap(), "Copy");
        assert_eq!(one["spec"]["completionMode"], json!(null));
    }

    #[test]
    fn only_the_archive_gets_the_archive_s_volume() {
        let archive = json!({"destination": {"url": "file:///archive", "volumeClaimRef": {"name": "claim"}}});
        let migration = validate(&with(&[("archive", archive)])).unwrap();
        let mounts = |kind| {
            let job = build(&migration, kind);
            job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
                .as_array()
                .unwrap()
                .len()
        };
        assert_eq!(mounts("Archive"), mounts("Copy") + 1);
    }
}
