//! The measured worker: the same code that a Job runs, with the API server replaced by memory.

use crate::support::Kind;
use crate::tables::Shape;
use datamigration::api::task::{
    ControlSpec, MigrationTaskSpec, MigrationTaskStatus, TaskKind, VerifyScope, WatchReport,
};
use datamigration::api::{DataMigration, Migration, validate};
use datamigration::store::{ConnectConfig, Database, TlsMode};
use datamigration::words::{Direction, Mode, SecondaryWrites};
use datamigration::workers::{Desired, Reporter, Shard, StatusBoard, TaskContext, WorkError, perform};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Names the migration in the databases: one for all runs, for a table belongs to one migration, and the source stays.
const MIGRATION: &str = "bench";
/// How long control rows may take.
const PREPARED_WITHIN: Duration = Duration::from_mins(1);

/// A migration of one table, as a child process is told of it.
#[allow(clippy::unsafe_derive_deserialize)] // What is unsafe is inside tokio's `select!`, and not about these fields.
#[derive(Clone, Serialize, Deserialize)]
pub struct Ours {
    pub source: String,
    pub target: String,
    pub table: String,
    pub key: Vec<String>,
    /// Merged over the manifest's spec.
    pub changes: Value,
    /// Differences are reported and left alone, as the others do.
    pub manual: bool,
}

impl Ours {
    pub fn new(source: &str, target: &str, shape: Shape, changes: Value) -> Self {
        Self {
            source: source.to_owned(),
            target: target.to_owned(),
            table: shape.name().to_owned(),
            key: shape.key().iter().map(|&column| column.to_owned()).collect(),
            changes,
            manual: true,
        }
    }

    /// Both control rows at epoch 1, acknowledged: what the Watch task has done long before a copy begins.
    pub async fn prepare(&self) -> Result<(), String> {
        if self.changes["copy"]["createTables"] == true {
            let (ended, status) = self.work(TaskKind::Preflight).await?;
            if ended.is_err() || status.reason.as_deref() != Some("PreflightPassed") {
                return Err(format!(
                    "preflight: {ended:?}, {:?}: {:?}",
                    status.reason, status.checks
                ));
            }
        }
        // An epoch is raised open first; only then is it closed.
        for min_epoch in [0, 1] {
            self.raise(min_epoch).await?;
        }
        Ok(())
    }

    async fn raise(&self, min_epoch: i64) -> Result<(), String> {
        let control = ControlSpec {
            epoch: 1,
            min_epoch,
            mode: Mode::SrcFirst,
            secondary: SecondaryWrites::Lenient,
            round: 1,
            base_since: 1,
        };
        let (reports, mut told) = watch::channel(MigrationTaskStatus::default());
        let context = self.context(TaskKind::Watch, Some(control), reports).await?;
        let mut worker = std::pin::pin!(perform(&context));
        let raised = told.wait_for(|status| {
            let all = |watch: &WatchReport| watch.epoch_on_all_shards && watch.min_epoch_on_all_shards;
            let acked = status
                .journal
                .as_ref()
                .is_some_and(|journal| journal.acked_at.is_some());
            status.watch.as_ref().is_some_and(all) && (min_epoch == 0 || acked)
        });
        tokio::select! {
            ended = &mut worker => return Err(format!("the Watch worker ended with {ended:?}")),
            _ = raised => {}
            () = tokio::time::sleep(PREPARED_WITHIN) => {
                let watch = context.status.current().watch.unwrap_or_default();
                return Err(format!("no control rows within {PREPARED_WITHIN:?}: {:?}", watch.problem));
            }
        }
        context.stop.cancel();
        match worker.await {
            Err(WorkError::Stopped) => Ok(()),
            ended => Err(format!("the Watch worker ended with {ended:?}")),
        }
    }

    /// Copies, or compares; the worker's last report.
    pub async fn work(&self, kind: TaskKind) -> Result<(Result<(), WorkError>, MigrationTaskStatus), String> {
        let (reports, _told) = watch::channel(MigrationTaskStatus::default());
        let context = self.context(kind, None, reports).await?;
        let ended = perform(&context).await;
        Ok((ended, context.status.current()))
    }

    async fn context(
        &self,
        kind: TaskKind,
        control: Option<ControlSpec>,
        reports: watch::Sender<MigrationTaskStatus>,
    ) -> Result<TaskContext, String> {
        let migration = self.migration()?;
        let connections = migration.copy.parallelism + 4;
        let (desired, _) = watch::channel(Desired {
            control: control.clone(),
            limits: None,
            generation: 1,
        });
        Ok(TaskContext {
            source: shard(&self.source, "source", connections).await?,
            target: shard(&self.target, "target", connections).await?,
            migration: Arc::new(migration),
            task: MigrationTaskSpec {
                migration: MIGRATION.to_owned(),
                kind,
                table: matches!(kind, TaskKind::Copy | TaskKind::Verify).then(|| self.table.clone()),
                scope: (kind == TaskKind::Verify).then_some(VerifyScope::Full),
                direction: Direction::Forward,
                epoch: 1,
                round: 1,
                generation: 1,
                control,
                due: None,
            },
            status: Arc::new(StatusBoard::new(Box::new(Memory { reports, desired }), None)),
            stop: CancellationToken::new(),
            owner: format!("bench-{}", std::process::id()),
        })
    }

    fn migration(&self) -> Result<Migration, String> {
        let engine = |url: &str| match kind_of(url) {
            Kind::MariaDb => "MySQL",
            Kind::Postgres => "PostgreSQL",
        };
        let side = |url: &str| {
            json!({
                "engine": engine(url),
                "shards": [{"name": "main", "urlSecretRef": {"name": "none"}}],
                "tls": {"mode": "Disabled"},
            })
        };
        let mut raw = json!({
            "apiVersion": "datamigration.dev/v1alpha1",
            "kind": "DataMigration",
            "metadata": {"name": MIGRATION, "namespace": "bench", "uid": MIGRATION, "generation": 1},
            "spec": {
                "strategy": "DualWrite",
                "phase": "SourceFirst",
                "source": side(&self.source),
                "target": side(&self.target),
                "tables": [{"name": self.table, "key": self.key, "version": "updated_at"}],
                "application": {
                    "configMapRef": {"name": "mode"},
                    "acknowledge": {"selector": {"matchLabels": {"app": "bench"}}},
                },
                "verify": {"lag": "1s"},
            },
        });
        merge(&mut raw["spec"], &self.changes);
        let raw: DataMigration = serde_json::from_value(raw).map_err(|error| error.to_string())?;
        let mut migration = validate(&raw).map_err(|found| format!("this version refuses it: {found:?}"))?;
        if self.manual {
            migration.verify.repair = datamigration::api::tuning::RepairPolicy::Manual;
        }
        Ok(migration)
    }
}

pub fn kind_of(url: &str) -> Kind {
    if url.starts_with("mysql:") {
        Kind::MariaDb
    } else {
        Kind::Postgres
    }
}

async fn shard(url: &str, side: &str, connections: u32) -> Result<Vec<Shard>, String> {
    Ok(vec![Shard {
        name: "main".to_owned(),
        database: connect(url, side, connections).await?,
    }])
}

/// As the tools beside it: on loopback, in the clear.
pub async fn connect(url: &str, side: &str, connections: u32) -> Result<Database, String> {
    Database::connect(&ConnectConfig {
        url: url.into(),
        tls: TlsMode::Disabled,
        ca: None,
        max_connections: connections,
        label: format!("{side}/main"),
        application: "bench".to_owned(),
    })
    .await
    .map_err(|error| error.to_string())
}

fn merge(into: &mut Value, from: &Value) {
    match from {
        Value::Object(fields) => {
            if !into.is_object() {
                *into = json!({});
            }
            for (name, value) in fields {
                merge(&mut into[name], value);
            }
        }
        other => *into = other.clone(),
    }
}

struct Memory {
    reports: watch::Sender<MigrationTaskStatus>,
    desired: watch::Sender<Desired>,
}

#[async_trait::async_trait]
impl Reporter for Memory {
    async fn publish(&self, status: &MigrationTaskStatus) -> Result<(), WorkError> {
        self.reports.send_replace(status.clone());
        Ok(())
    }

    fn desired(&self) -> watch::Receiver<Desired> {
        self.desired.subscribe()
    }
}
