//! Contestants take turns on the same rows: each round all of them once, every second round in the opposite order, each
//! into a target of its own that is gone afterwards.

use crate::child::{Assignment, Raw};
use crate::machine::{self, Server};
use crate::measure::{self, Cost};
use crate::ours::Ours;
use crate::peers;
use crate::settings::{Settings, root};
use crate::support::{Kind, Servers, TestDatabase, servers_with};
use crate::tables::Shape;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use url::Url;

/// How a contestant does it.
#[derive(Clone)]
pub enum How {
    /// The worker, with these changes to its manifest.
    Ours(Value),
    /// As many of them at one copy.
    Pods(Value, usize),
    /// Its reads alone, over so many connections.
    Reads(usize),
    /// A script of `peers`, with more of its environment; `into`: whether it needs the table to be there.
    Script {
        script: &'static str,
        more: Vec<(&'static str, String)>,
        into: bool,
    },
    /// Rows from memory on so many connections.
    Raw(usize),
}

#[derive(Clone)]
pub struct Contestant {
    pub name: String,
    pub how: How,
}

/// Each contestant with its cost in every round.
pub type Results = Vec<(String, Vec<Cost>)>;

pub struct Bench {
    pub settings: Settings,
    pub servers: &'static Servers,
    /// Both servers' processes.
    pub processes: [Server; 2],
    pub versions: String,
    pub peers: String,
    folder: tempfile::TempDir,
    parts: HashMap<Shape, Vec<PathBuf>>,
    sources: HashMap<(&'static str, Shape), TestDatabase>,
}

impl Bench {
    /// Installs what is compared with and starts the servers.
    pub async fn start(settings: Settings) -> Self {
        let root = root();
        let installed = measure::run(Command::new(root.join("benches/peers")).current_dir(&root), "");
        let said = String::from_utf8_lossy(&installed.stderr).into_owned();
        assert!(installed.status.success(), "benches/peers: {said}");
        let (pool, shared) = (settings.buffer_megabytes(), settings.buffer_megabytes() / 2);
        let servers = servers_with(&[
            ("DATABASES_BUFFER_MB", &pool.to_string()),
            ("DATABASES_SHARED_BUFFERS_MB", &shared.to_string()),
            // PostgreSQL's own default; the tests' is larger.
            ("DATABASES_MAX_WAL_SIZE", "1GB"),
        ])
        .await;
        let pids = PathBuf::from(servers.setting("DATABASES_LOGS")).with_file_name("pid");
        let process = |name: &str| {
            let text = std::fs::read_to_string(pids.join(format!("{name}.pid"))).expect("the server's pid");
            let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
            Server {
                pid: pid.expect("the server's pid"),
            }
        };
        let mut bench = Self {
            settings,
            servers,
            processes: [process("mariadb"), process("postgres")],
            versions: String::new(),
            peers: String::from_utf8_lossy(&installed.stdout).trim().to_owned(),
            folder: tempfile::tempdir().expect("a temporary folder"),
            parts: HashMap::new(),
            sources: HashMap::new(),
        };
        let versions = bench.shell(peers::VERSIONS, &[]);
        bench.versions = versions.trim().lines().collect::<Vec<_>>().join(", ");
        bench
    }

    /// The files with a table's rows, and a database that holds them.
    pub async fn source(&mut self, kind: Kind, shape: Shape) -> TestDatabase {
        if let Some(source) = self.sources.get(&(kind.word(), shape)) {
            return source.clone();
        }
        let (rows, folder) = (shape.rows(self.settings.rows), self.folder.path());
        self.parts.entry(shape).or_insert_with(|| shape.write(rows, folder));
        let source = self.filled(kind, shape).await;
        self.sources.insert((kind.word(), shape), source.clone());
        source
    }

    /// Another database with the same rows.
    pub async fn filled(&self, kind: Kind, shape: Shape) -> TestDatabase {
        eprintln!("bench: loading {} into {}", shape.name(), kind.word());
        let database = self.servers.database(kind).await;
        database.execute(&shape.definition(kind)).await;
        let script = match kind {
            Kind::MariaDb => peers::LOAD_DATA,
            Kind::Postgres => peers::FILL_POSTGRES,
        };
        let threads = ("THREADS", "1".to_owned());
        self.shell(script, &self.environment(&database, &database, shape, &[threads]));
        if kind == Kind::MariaDb {
            database.execute(&format!("ANALYZE TABLE {}", shape.name())).await;
        }
        database
    }

    /// All rounds of one contest into fresh targets.
    pub async fn contest(
        &mut self,
        (source, target, shape): (Kind, Kind, Shape),
        contestants: Vec<Contestant>,
    ) -> Results {
        let source = self.source(source, shape).await;
        // pgcopydb copies whole databases: one without our control tables. Its filter stumbles over their sequences.
        let plain = match source.kind {
            Kind::MariaDb => source.clone(),
            Kind::Postgres => self.filled(source.kind, shape).await,
        };
        let results = self
            .rounds(contestants, async |contestant| match contestant.how {
                How::Script { .. } => self.turn(&plain, target, shape, contestant).await,
                _ => self.turn(&source, target, shape, contestant).await,
            })
            .await;
        if plain.name != source.name {
            self.remove(plain).await;
        }
        results
    }

    /// All rounds of one contest, whatever a turn is.
    pub async fn rounds(&self, contestants: Vec<Contestant>, turn: impl AsyncFn(&Contestant) -> Cost) -> Results {
        let mut contestants: Vec<Contestant> = contestants
            .into_iter()
            .filter(|contestant| self.settings.takes(&contestant.name))
            .collect();
        let mut results: Results = contestants
            .iter()
            .map(|contestant| (contestant.name.clone(), Vec::new()))
            .collect();
        for round in 1..=self.settings.rounds {
            for contestant in &contestants {
                let cost = turn(contestant).await;
                say(round, &contestant.name, &cost);
                let own = results.iter_mut().find(|(name, _)| *name == contestant.name);
                own.expect("one of them").1.push(cost);
            }
            contestants.reverse();
        }
        results
    }

    async fn turn(&self, source: &TestDatabase, target: Kind, shape: Shape, contestant: &Contestant) -> Cost {
        let target = self.servers.database(target).await;
        let needs_table = match &contestant.how {
            How::Script { into, .. } => *into,
            How::Ours(changes) => changes["copy"]["createTables"] != true,
            How::Pods(..) | How::Reads(_) | How::Raw(_) => true,
        };
        if needs_table {
            target.execute(&shape.definition(target.kind)).await;
        }
        let mut cost = self.copied(source, &target, shape, &contestant.how).await;
        if cost.failure.is_none() && !matches!(contestant.how, How::Reads(_)) {
            let count = format!("SELECT COUNT(*) FROM {}", shape.name());
            // What a tool creates belongs to the administrator, as whom it came.
            let found = TestDatabase {
                url: target.admin_url.clone(),
                ..target.clone()
            };
            let (expected, found) = (source.number(&count).await, found.number(&count).await);
            if expected != found {
                cost.failure = Some(format!("{found} rows arrived, {expected} were to be copied"));
            }
        }
        self.remove(target).await;
        cost
    }

    /// Gives a database's space back.
    pub async fn remove(&self, database: TestDatabase) {
        let drop = match database.kind {
            Kind::MariaDb => format!("DROP DATABASE {}", database.name),
            Kind::Postgres => format!("DROP DATABASE {} WITH (FORCE)", database.name),
        };
        let elsewhere = TestDatabase {
            admin_url: self.admin(database.kind),
            ..database
        };
        elsewhere.execute_as_admin(&drop).await;
    }

    /// Gives the space of a table's sources and files back.
    pub async fn forget(&mut self, shape: Shape) {
        for path in self.parts.remove(&shape).unwrap_or_default() {
            std::fs::remove_file(path).expect("a file of our own");
        }
        for kind in [Kind::MariaDb, Kind::Postgres] {
            if let Some(source) = self.sources.remove(&(kind.word(), shape)) {
                self.remove(source).await;
            }
        }
    }

    async fn copied(&self, source: &TestDatabase, target: &TestDatabase, shape: Shape, how: &How) -> Cost {
        match how {
            How::Ours(changes) => {
                let ours = Ours::new(&source.url, &target.url, shape, changes.clone());
                self.ours(Assignment::Prepare(ours.clone()), Assignment::Copy(ours))
                    .await
            }
            How::Pods(changes, pods) => {
                let ours = Ours::new(&source.url, &target.url, shape, changes.clone());
                let work = Assignment::Pods(ours.clone(), *pods);
                self.ours(Assignment::Prepare(ours), work).await
            }
            How::Reads(lanes) => {
                let ours = Ours::new(&source.url, &target.url, shape, json!({}));
                let (command, input) = Assignment::Read(ours, *lanes).command();
                self.rest().await;
                let cost = measure::measure(&self.processes, command, &input);
                if cost.told["rows"].as_u64().is_some() {
                    cost
                } else {
                    refusing(cost)
                }
            }
            How::Script { script, more, .. } => {
                self.script(script, &self.environment(source, target, shape, more))
                    .await
            }
            How::Raw(lanes) => {
                let raw = Raw {
                    url: target.url.clone(),
                    table: shape.name().to_owned(),
                    parts: self.parts[&shape].clone(),
                    lanes: *lanes,
                };
                let (command, input) = match target.kind {
                    Kind::MariaDb => Assignment::Insert(raw),
                    Kind::Postgres => Assignment::CopyIn(raw),
                }
                .command();
                self.rest().await;
                let mut cost = measure::measure(&self.processes, command, &input);
                if let Some(seconds) = cost.told["seconds"].as_f64() {
                    cost.wall = Duration::from_secs_f64(seconds);
                }
                cost
            }
        }
    }

    /// Measures the worker; what was to be done before it is not counted.
    pub async fn ours(&self, before: Assignment, work: Assignment) -> Cost {
        let (command, input) = before.command();
        let prepared = measure::measure(&[], command, &input);
        if prepared.failure.is_some() || prepared.told["refused"].is_string() {
            return refusing(prepared);
        }
        self.rest().await;
        let (command, input) = work.command();
        let cost = measure::measure(&self.processes, command, &input);
        match cost.told["reason"].as_str() {
            Some("Done" | "DifferencesFound") if cost.failure.is_none() => cost,
            _ => refusing(cost),
        }
    }

    /// Measures a script.
    pub async fn script(&self, script: &str, environment: &[(String, String)]) -> Cost {
        let work = tempfile::tempdir().expect("a temporary folder");
        let mut command = bash(script, environment);
        command.env("WORK", work.path());
        self.rest().await;
        measure::measure(&self.processes, command, "")
    }

    async fn rest(&self) {
        machine::rest(&self.processes, Duration::from_secs(20)).await;
    }

    /// Runs a script that has to succeed; what it printed.
    pub fn shell(&self, script: &str, environment: &[(String, String)]) -> String {
        let environment = if environment.is_empty() {
            &[("PEERS".to_owned(), self.peers.clone())][..]
        } else {
            environment
        };
        let output = measure::run(&mut bash(script, environment), "");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{script}\nended with {}: {error}",
            output.status
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn admin(&self, kind: Kind) -> String {
        let key = format!("{}_ADMIN_URL", kind.word().to_uppercase());
        self.servers.setting(&key).to_owned()
    }

    /// What `peers` says a script finds in its environment.
    pub fn environment(
        &self,
        source: &TestDatabase,
        target: &TestDatabase,
        shape: Shape,
        more: &[(&'static str, String)],
    ) -> Vec<(String, String)> {
        let admin = Url::parse(&self.admin(Kind::MariaDb)).expect("a URL");
        let password = admin.password().unwrap_or_default().to_owned();
        let parts: Vec<String> = self.parts[&shape]
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let own = [
            ("MY_PORT", self.servers.setting("MARIADB_PORT").to_owned()),
            ("PG_PORT", self.servers.setting("POSTGRES_PORT").to_owned()),
            ("MYSQL_PWD", password.clone()),
            ("PGPASSWORD", password),
            ("SOURCE", source.name.clone()),
            ("TARGET", target.name.clone()),
            ("TABLE", shape.name().to_owned()),
            ("KEYS", shape.key().join(" ")),
            ("COLUMNS", shape.values().join(" ")),
            ("PARTS", parts.join(" ")),
            ("PEERS", self.peers.clone()),
            ("MORE", String::new()),
        ];
        own.into_iter()
            .chain(more.iter().cloned())
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

fn bash(script: &str, environment: &[(String, String)]) -> Command {
    let head = if environment.iter().any(|(name, _)| name == "MY_PORT") {
        peers::HEAD
    } else {
        "set -euo pipefail\n"
    };
    let mut command = Command::new("bash");
    command
        .args(["-c", &format!("{head}{script}")])
        .envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

fn refusing(mut cost: Cost) -> Cost {
    let said = [&cost.told["refused"], &cost.told["message"]]
        .into_iter()
        .find_map(Value::as_str)
        .map(str::to_owned);
    cost.failure = said.or(cost.failure).or(Some("no result".to_owned()));
    cost
}

fn say(round: usize, name: &str, cost: &Cost) {
    let failure = cost.failure.as_deref().unwrap_or_default();
    eprintln!(
        "bench: round {round}: {name}: {:.2} s, {:.2} s of CPU (client {:.2}, servers {:.2}; others {:.2}) {failure}",
        cost.wall.as_secs_f64(),
        cost.cpu(),
        cost.client,
        cost.servers,
        cost.others,
    );
}
