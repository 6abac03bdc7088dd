//! Worker processes as a shell starts them, on the databases of a world, to be killed from outside; and what can be seen
//! of their work in the follower meanwhile.

use crate::harness::World;
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::support::{TestDatabase, eventually};
use datamigration::rows::Value;
use datamigration::store::{ConnectConfig, Database, TlsMode};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};

/// The files that worker processes of one world read.
pub struct Shell {
    folder: tempfile::TempDir,
    arguments: Vec<String>,
}

/// One worker process, and where its words go.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Shell {
    /// `copy`: the manifest's `spec.copy`.
    pub fn new(source: &TestDatabase, target: &TestDatabase, copy: &serde_json::Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = |database: &TestDatabase| match database.kind {
            MariaDb => "MySQL",
            Postgres => "PostgreSQL",
        };
        let side = |database: &TestDatabase, name: &str| serde_json::json!({"engine": engine(database), "shards": [{"name": "main", "urlSecretRef": {"name": name}}]});
        let manifest = serde_json::json!({
            "apiVersion": "datamigration.dev/v1alpha1", "kind": "DataMigration",
            "metadata": {"name": "orders", "namespace": "shop"},
            "spec": {
                "strategy": "DualWrite", "phase": "SourceFirst", "copy": copy, "verify": {"lag": "1s"},
                "source": side(source, "source"), "target": side(target, "target"),
                "tables": [{"name": "orders", "version": "updated_at"}],
                "application": {
                    "configMapRef": {"name": "orders-database-mode"},
                    "acknowledge": {"selector": {"matchLabels": {"app": "shop"}}},
                },
            },
        });
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_string_lossy().into_owned()
        };
        let ca = source.ca.to_string_lossy();
        let arguments = [
            ("-f", &*write("manifest.yaml", &manifest.to_string())),
            ("--source-url-file", &*write("source", &source.url)),
            ("--target-url-file", &*write("target", &target.url)),
            ("--source-ca", &*ca),
            ("--target-ca", &*ca),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value.to_owned()])
        .collect();
        Self { folder, arguments }
    }

    /// Starts `datamigration COMMAND…`.
    pub fn start(&self, command: &[&str]) -> Process {
        let log = self.folder.path().join(format!("{:08x}.log", rand::random::<u32>()));
        let child = Command::new(env!("CARGO_BIN_EXE_datamigration"))
            .arg(command[0])
            .args(&self.arguments)
            .args(&command[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Process { child, log }
    }

    /// Runs it to its end, which has to be a good one.
    pub async fn run(&self, command: &[&str]) {
        let mut process = self.start(command);
        let status = process.child.wait().await.unwrap();
        process.well_ended(status);
    }
}

impl Process {
    /// SIGKILL; gone when it returns. False: it had come to its end before.
    pub async fn kill(mut self) -> bool {
        if self.ended() {
            return false;
        }
        self.child.start_kill().unwrap();
        let status = self.child.wait().await.unwrap();
        if status.code().is_some() {
            self.well_ended(status);
            return false;
        }
        true
    }

    /// Whether it has come to its end, which has to be a good one.
    pub fn ended(&mut self) -> bool {
        match self.child.try_wait().unwrap() {
            Some(status) => {
                self.well_ended(status);
                true
            }
            None => false,
        }
    }

    fn well_ended(&self, status: ExitStatus) {
        let log = || tail(&self.log);
        assert!(status.success(), "a worker process ended with {status}:\n{}", log());
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// What the follower has recorded of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub chunks: i64,
    pub done: i64,
    pub rows: i64,
    /// Rows that are there.
    pub held: i64,
}

/// Looks into the follower on connections that stay open: a look takes a millisecond or two.
pub struct Eye {
    database: Database,
    kind: Kind,
    name: String,
}

impl Eye {
    pub fn on(follower: &TestDatabase) -> Self {
        let config = ConnectConfig {
            url: follower.admin_url.as_str().into(),
            tls: TlsMode::VerifyFull,
            ca: Some(follower.ca.clone()),
            max_connections: 2,
            label: "eye".to_owned(),
            application: "eye".to_owned(),
        };
        Self {
            database: Database::lazy(&config).unwrap(),
            kind: follower.kind,
            name: follower.name.clone(),
        }
    }

    async fn numbers(&self, sql: &str) -> Option<Vec<i64>> {
        // `None` while the server is away.
        let rows = self.database.query(sql, &[]).await.ok()?;
        rows[0].iter().map(Value::as_i64).collect()
    }

    /// The record and the rows at one moment.
    pub async fn recorded(&self) -> Option<Recorded> {
        let big = match self.kind {
            MariaDb => "SIGNED",
            Postgres => "BIGINT",
        };
        let numbers = self
            .numbers(&format!(
                "SELECT COUNT(*), COUNT(CASE WHEN state = 'Done' THEN 1 END), CAST(COALESCE(SUM(copied_rows), 0) AS {big}), \
                 (SELECT COUNT(*) FROM orders) FROM _datamigration_chunks"
            ))
            .await?;
        Some(Recorded {
            chunks: numbers[0],
            done: numbers[1],
            rows: numbers[2],
            held: numbers[3],
        })
    }

    /// How many ranges are recorded, and how many of them as done.
    pub async fn ranges(&self) -> Option<(i64, i64)> {
        let sql = "SELECT COUNT(*), COUNT(CASE WHEN state = 'Done' THEN 1 END) FROM _datamigration_chunks";
        self.numbers(sql).await.map(|numbers| (numbers[0], numbers[1]))
    }

    /// Whether a batch is under way: a statement that puts rows, or a transaction that has put some.
    pub async fn inside_a_batch(&self) -> bool {
        let sql = match self.kind {
            MariaDb => format!(
                "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{}' AND info LIKE 'INSERT%orders%'",
                self.name
            ),
            Postgres => format!(
                "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = '{}' AND backend_xid IS NOT NULL \
                 AND (query LIKE 'COPY%' OR query LIKE 'INSERT%' OR query LIKE 'UPDATE%')",
                self.name
            ),
        };
        self.numbers(&sql).await.is_some_and(|numbers| numbers[0] > 0)
    }

    /// How many rows meet a condition.
    pub async fn rows(&self, condition: &str) -> Option<i64> {
        let sql = format!("SELECT COUNT(*) FROM orders WHERE {condition}");
        self.numbers(&sql).await.map(|numbers| numbers[0])
    }
}

/// The leases of everybody, dead or alive, run out: a living worker's range is taken over as a slow one's is.
pub async fn expire_leases(world: &World) {
    let past = crate::harness::ago(world.target.kind, 60.0);
    let sql = format!("UPDATE _datamigration_chunks SET lease_until = {past} WHERE state <> 'Done'");
    // A worker that commits a batch meanwhile may be in the way.
    eventually(Duration::from_secs(30), "leases expire", || async {
        world.target.try_execute(&sql).await.is_ok()
    })
    .await;
}
