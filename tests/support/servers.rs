//! The servers of one test binary: started by `tests/cluster/databases` on first use, removed when the process ends.

use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio::sync::OnceCell;

use super::database::{Kind, TestDatabase};

/// One MariaDB and one PostgreSQL, on loopback, with TLS and a CA of their own.
pub struct Servers {
    script: PathBuf,
    name: String,
    settings: HashMap<String, String>,
    environment: Vec<(String, String)>,
}

static SERVERS: OnceCell<Servers> = OnceCell::const_new();

/// Whether Oracle's MySQL stands in MariaDB's place (`DATABASES_MYSQL`).
pub fn on_mysql() -> bool {
    std::env::var("DATABASES_MYSQL").is_ok_and(|set| !set.is_empty())
}

/// The servers of this test process; the first caller starts them and the others wait for it.
pub async fn servers() -> &'static Servers {
    servers_with(&[("DATABASES_BUFFER_MB", "128")]).await
}

/// The same, started with other settings of `tests/cluster/databases`; to be called before [`servers`].
pub async fn servers_with(environment: &[(&str, &str)]) -> &'static Servers {
    SERVERS.get_or_init(|| Servers::start(environment)).await
}

impl Servers {
    async fn start(environment: &[(&str, &str)]) -> Self {
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let script = script();
        let name = name();
        remove_when_this_process_ends(&script, &name);
        let printed = run(&script, &name, &environment, "up").await;
        let file = PathBuf::from(printed.trim());
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("reading {}: {error}", file.display()));
        let settings = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Self {
            script,
            name,
            settings,
            environment,
        }
    }

    pub fn setting(&self, key: &str) -> &str {
        self.settings
            .get(key)
            .unwrap_or_else(|| panic!("{key} is not in the env file of databases {}", self.name))
    }

    /// The certificate of the authority that signed both servers' certificates.
    pub fn ca(&self) -> PathBuf {
        PathBuf::from(self.setting("DATABASES_CA"))
    }

    /// A fresh, empty database of that kind, owned by the unprivileged user that its URL names.
    pub async fn database(&'static self, kind: Kind) -> TestDatabase {
        TestDatabase::create(self, kind).await
    }

    pub async fn mariadb_database(&'static self) -> TestDatabase {
        self.database(Kind::MariaDb).await
    }

    pub async fn postgres_database(&'static self) -> TestDatabase {
        self.database(Kind::Postgres).await
    }

    /// SIGKILL; every test of the binary that uses this server notices, so keep such tests in a binary of their own.
    pub async fn kill(&self, kind: Kind) {
        run(
            &self.script,
            &self.name,
            &self.environment,
            &format!("kill-{}", kind.word()),
        )
        .await;
    }

    pub async fn kill_mariadb(&self) {
        self.kill(Kind::MariaDb).await;
    }

    pub async fn kill_postgres(&self) {
        self.kill(Kind::Postgres).await;
    }

    /// Starts it again on the same port with the same data, and returns when it answers.
    pub async fn start_again(&self, kind: Kind) {
        run(
            &self.script,
            &self.name,
            &self.environment,
            &format!("start-{}", kind.word()),
        )
        .await;
    }

    pub async fn start_mariadb(&self) {
        self.start_again(Kind::MariaDb).await;
    }

    pub async fn start_postgres(&self) {
        self.start_again(Kind::Postgres).await;
    }
}

/// The script lies in the repository's root, whichever workspace member the test belongs to.
fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("tests/cluster/databases"))
        .find(|script| script.is_file())
        .expect("tests/cluster/databases above this package")
}

/// The binary's name without cargo's hash, and the pid: test binaries that run at the same time do not meet.
fn name() -> String {
    let binary = std::env::current_exe().expect("the path of the test binary");
    let stem = binary.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let stem = stem.rsplit_once('-').map_or(stem.as_str(), |(stem, _)| stem);
    let stem: String = stem.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    format!("{stem}-{}", std::process::id())
}

/// Nobody drops a static, and a killed test drops nothing: a watcher outlives this process and cleans up after it. It has
/// a process group of its own, so that Ctrl-C on the tests does not take it along.
fn remove_when_this_process_ends(script: &Path, name: &str) {
    let mut watcher = std::process::Command::new("sh");
    watcher
        .args(["-c", "tail --pid=\"$1\" -f /dev/null; exec \"$2\" remove", "sh"])
        .arg(std::process::id().to_string())
        .arg(script)
        .env("DATABASES_NAME", name)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    watcher.spawn().expect("the watcher that removes the test servers");
}

async fn run(script: &Path, name: &str, environment: &[(String, String)], command: &str) -> String {
    let output = Command::new(script)
        .arg(command)
        .env("DATABASES_NAME", name)
        .envs(environment.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    assert!(
        output.status.success(),
        "{} {command} for {name}: {}\n{}",
        script.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
