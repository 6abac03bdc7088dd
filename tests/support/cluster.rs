//! The test cluster with our chart installed, for tests that look at it as a user does: through kubectl and helm. One
//! cluster serves a machine; `tests/cluster/up` starts it unless `KUBECONFIG` names one, and it is left running.

#![allow(dead_code, clippy::unwrap_used)] // Each test uses a part; a panic is the report.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;

/// The tests of one binary take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Held while a test has the cluster to itself.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a command in the repository's root; its standard output, or a panic with all it printed.
pub fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = output(program, arguments, environment, None);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?} ended with {}:\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn output(program: &str, arguments: &[&str], environment: &[(&str, &str)], input: Option<&Value>) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} did not start: {error}"));
    // Dropped at the end of the statement: the command sees the end of its input.
    let mut stdin = child.stdin.take().unwrap();
    if let Some(input) = input {
        stdin.write_all(input.to_string().as_bytes()).unwrap();
    }
    drop(stdin);
    child.wait_with_output().unwrap()
}

pub struct Cluster {
    kubeconfig: String,
    path: String,
    namespace: &'static str,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// The cluster with the chart installed (the definitions among it), the operator running, and `namespace` fresh.
    pub fn with_operator(namespace: &'static str) -> Self {
        let cluster = Self::up(namespace);
        let binary = env!("CARGO_BIN_EXE_datamigration");
        run(
            "tests/cluster/image",
            &[binary, "localhost/datamigration:test"],
            &cluster.environment(),
        );
        cluster.install(1);
        cluster
    }

    /// The same without a running operator: nothing answers what is applied but the API server.
    pub fn with_definitions(namespace: &'static str) -> Self {
        let cluster = Self::up(namespace);
        cluster.install(0);
        for name in ["datamigrations", "migrationtasks"] {
            let crd = format!("crd/{name}.datamigration.dev");
            cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &crd]);
        }
        cluster
    }

    fn up(namespace: &'static str) -> Self {
        let turn = turn();
        let kubeconfig = run("tests/cluster/up", &[], &[]);
        let tools = ". tests/cluster/lib/paths; printf %s \"$KUBERNETES_BIN:$HELM_BIN\"";
        let tools = run("bash", &["-c", tools], &[]);
        let cluster = Self {
            kubeconfig: kubeconfig.lines().last().unwrap_or_default().to_owned(),
            path: format!("{tools}:{}", std::env::var("PATH").unwrap_or_default()),
            namespace,
            _turn: turn,
        };
        let gone = ["--ignore-not-found", "--wait", "--timeout=120s"];
        cluster.run("kubectl", &[&["delete", "namespace", namespace][..], &gone].concat());
        cluster.run("kubectl", &["create", "namespace", namespace]);
        cluster
    }

    fn install(&self, replicas: u8) {
        let image = "image.repository=localhost/datamigration,image.tag=test,image.pullPolicy=Never";
        let ours = format!("operator.replicas={replicas},workerNamespaces={{{}}}", self.namespace);
        let release = ["upgrade", "--install", "datamigration", "charts/datamigration"];
        let place = ["--namespace", "datamigration-system", "--create-namespace"];
        let values = ["--wait", "--timeout", "120s", "--set", image, "--set", &ours];
        self.run("helm", &[&release[..], &place, &values].concat());
    }

    fn environment(&self) -> [(&str, &str); 2] {
        [("KUBECONFIG", &self.kubeconfig), ("PATH", &self.path)]
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        run(program, arguments, &self.environment())
    }

    /// kubectl in this test's namespace; its standard output.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.run("kubectl", &[&["--namespace", self.namespace], arguments].concat())
    }

    /// Applies a manifest; `Err` with the API server's words when it refuses.
    pub fn apply(&self, manifest: &Value) -> Result<(), String> {
        let arguments = ["--namespace", self.namespace, "apply", "-f", "-"];
        let output = output("kubectl", &arguments, &self.environment(), Some(manifest));
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    pub fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", kind, name, "-o", "json"])).unwrap()
    }

    /// Waits until a condition of a migration has this status; gives the condition back.
    pub fn condition(&self, migration: &str, kind: &str, status: &str) -> Value {
        self.condition_where(migration, kind, |found| found["status"] == status)
    }

    /// Waits until a condition of a migration is as `wanted` says; gives it back.
    pub fn condition_where(&self, migration: &str, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            let resource = self.get("dmig", migration);
            let found = resource["status"]["conditions"]
                .as_array()
                .and_then(|all| all.iter().find(|condition| condition["type"] == kind))
                .cloned()
                .unwrap_or(Value::Null);
            if wanted(&found) {
                assert_eq!(
                    found["observedGeneration"], resource["metadata"]["generation"],
                    "{found}"
                );
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "{migration}: waited in vain for {kind}; status: {:#}",
                resource["status"]
            );
            std::thread::park_timeout(Duration::from_millis(300));
        }
    }
}

impl Drop for Cluster {
    /// An operator that stays would go on writing the status of whatever the next test applies.
    fn drop(&mut self) {
        // While it still runs: its finalizers are its own to remove. No failure here may hide the test's own.
        for (program, arguments) in [
            (
                "kubectl",
                &["delete", "namespace", self.namespace, "--wait", "--timeout=60s"][..],
            ),
            (
                "helm",
                &[
                    "uninstall",
                    "datamigration",
                    "--namespace",
                    "datamigration-system",
                    "--wait",
                ],
            ),
        ] {
            let ended = output(program, arguments, &self.environment(), None);
            if !ended.status.success() {
                eprintln!("{program} {arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
            }
        }
    }
}
