//! The two databases of a suite's run and the workers between them: under an acknowledged epoch where both are servers,
//! as a run from a shell works where one is a SQLite file.

use std::sync::Arc;

use datamigration::api::task::{MigrationTaskSpec, MigrationTaskStatus, TaskKind, VerifyReport, VerifyScope};
use datamigration::api::{DataMigration, Migration, validate_local};
use datamigration::control::{self, Archived, Control};
use datamigration::store::{Database, TxOptions};
use datamigration::words::Direction;
use datamigration::workers::{Desired, Reporter, Shard, StatusBoard, TaskContext, WorkError, perform};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::harness::{self, World};
use crate::place::Engine::{MariaDb, Postgres, Sqlite};
use crate::place::{Engine, Place};
use crate::support::Kind;

pub struct Pair {
    pub source: Place,
    pub target: Place,
    source_db: Database,
    target_db: Database,
    migration: Migration,
    epoch: i64,
}

/// Nobody listens: results are taken from the status board.
struct Quiet(watch::Sender<Desired>);

#[async_trait::async_trait]
impl Reporter for Quiet {
    async fn publish(&self, _: &MigrationTaskStatus) -> Result<(), WorkError> {
        Ok(())
    }

    fn desired(&self) -> watch::Receiver<Desired> {
        self.0.subscribe()
    }
}

fn schema(engine: Engine) -> String {
    let orders = match engine {
        MariaDb => harness::table(Kind::MariaDb),
        Postgres => harness::table(Kind::Postgres),
        Sqlite => "CREATE TABLE orders (id BIGINT NOT NULL PRIMARY KEY, updated_at DATETIME NOT NULL)",
    };
    let types = match engine {
        Postgres => "CREATE TYPE mood AS ENUM ('sad', 'so so', 'glad'); CREATE EXTENSION hstore; ",
        MariaDb | Sqlite => "",
    };
    format!("{types}{orders}")
}

impl Pair {
    pub async fn new(source: Engine, target: Engine) -> Self {
        let kind = |engine| match engine {
            MariaDb => Some(Kind::MariaDb),
            Postgres => Some(Kind::Postgres),
            Sqlite => None,
        };
        match (kind(source), kind(target)) {
            (Some(from), Some(to)) => Self::servers(from, to, &schema(source), &schema(target)).await,
            _ => Self::with_file(source, target).await,
        }
    }

    async fn servers(from: Kind, to: Kind, source: &str, target: &str) -> Self {
        let world = World::with(from, to, serde_json::json!({}), source, target).await;
        world.source_first().await;
        Self {
            source: Place::Server(world.source),
            target: Place::Server(world.target),
            source_db: world.source_db,
            target_db: world.target_db,
            migration: world.migration,
            epoch: 1,
        }
    }

    async fn with_file(source: Engine, target: Engine) -> Self {
        let side = |engine: Engine| serde_json::json!({"engine": engine.word(), "shards": [{"name": "main", "urlSecretRef": {"name": "url"}}]});
        let raw: DataMigration = serde_json::from_value(serde_json::json!({
            "apiVersion": "datamigration.dev/v1alpha1",
            "kind": "DataMigration",
            "metadata": {"name": "orders", "namespace": "shop", "uid": "local"},
            "spec": {
                "strategy": "DualWrite",
                "phase": "SourceFirst",
                "source": side(source),
                "target": side(target),
                "tables": [{"name": "orders", "version": "updated_at"}],
                "application": {
                    "configMapRef": {"name": "orders-database-mode"},
                    "acknowledge": {"selector": {"matchLabels": {"app": "shop"}}},
                },
                "verify": {"lag": "1s"},
            },
        }))
        .unwrap();
        let migration = validate_local(&raw).unwrap();
        let source = Place::new(source, &schema(source)).await;
        let target = Place::new(target, &schema(target)).await;
        let pair = Self {
            source_db: source.database("source/main").await,
            target_db: target.database("target/main").await,
            source,
            target,
            migration,
            epoch: 0,
        };
        pair.target_db.prepare_to_write().await.unwrap();
        let mut tx = pair.target_db.begin(TxOptions::default()).await.unwrap();
        control::create(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = pair.target_db.begin(TxOptions::default()).await.unwrap();
        let row = Control {
            migration: pair.migration.id(),
            uid: pair.migration.uid.clone(),
            epoch: 0,
            min_epoch: 0,
            mode: "SRC_ONLY".to_owned(),
            secondary: "Lenient".to_owned(),
            round: 0,
            base_since: 0,
            acked_at: None,
            fenced: false,
            archived: Archived::No,
            intent: None,
        };
        control::raise(&mut tx, &row).await.unwrap();
        tx.commit().await.unwrap();
        pair
    }

    fn task(&self, kind: TaskKind, scope: Option<VerifyScope>) -> TaskContext {
        let shard = |database: &Database| {
            vec![Shard {
                name: "main".to_owned(),
                database: database.clone(),
            }]
        };
        let quiet = Quiet(watch::channel(Desired::default()).0);
        TaskContext {
            migration: Arc::new(self.migration.clone()),
            task: MigrationTaskSpec {
                round: self.epoch,
                ..harness::spec(kind, scope, Direction::Forward, self.epoch)
            },
            source: shard(&self.source_db),
            target: shard(&self.target_db),
            status: Arc::new(StatusBoard::new(Box::new(quiet), None)),
            stop: CancellationToken::new(),
            owner: format!("test-{:08x}", rand::random::<u32>()),
        }
    }

    pub async fn copy(&self) -> Result<(), WorkError> {
        perform(&self.task(TaskKind::Copy, None)).await
    }

    /// One full pass, with repair.
    pub async fn verify(&self) -> Result<VerifyReport, WorkError> {
        let context = self.task(TaskKind::Verify, Some(VerifyScope::Full));
        perform(&context).await?;
        Ok(context.status.current().verify.unwrap_or_default())
    }
}
