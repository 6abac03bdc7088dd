//! The resource definitions on a real API server: they install, they explain themselves, and what can never become
//! valid is refused at apply, in words that name the field and the remedy. Needs what `tests/cluster/up` needs.

// A panic is a test's report, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

const NAMESPACE: &str = "definitions-test";

struct ApiServer {
    kubeconfig: String,
    path: String,
}

impl ApiServer {
    fn up() -> Self {
        let shell = |script: &str| {
            let output = Command::new("bash")
                .args(["-c", script])
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{script}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).unwrap()
        };
        let kubeconfig = shell("tests/cluster/up").lines().last().unwrap_or_default().to_owned();
        let tools = shell(". tests/cluster/lib/paths; printf %s \"$KUBERNETES_BIN\"");
        let path = format!("{tools}:{}", std::env::var("PATH").unwrap_or_default());
        let server = Self { kubeconfig, path };
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        server.ok(
            &[
                "apply",
                "--server-side",
                "--force-conflicts",
                "-f",
                crds.to_str().unwrap(),
            ],
            None,
        );
        for name in ["datamigrations", "migrationtasks"] {
            let crd = format!("crd/{name}.datamigration.dev");
            server.ok(&["wait", "--for=condition=Established", "--timeout=60s", &crd], None);
        }
        server.ok(
            &[
                "delete",
                "namespace",
                NAMESPACE,
                "--ignore-not-found",
                "--wait",
                "--timeout=120s",
            ],
            None,
        );
        server.ok(&["create", "namespace", NAMESPACE], None);
        server
    }

    fn kubectl(&self, arguments: &[&str], input: Option<&Value>) -> Output {
        let mut child = Command::new("kubectl")
            .args(["--namespace", NAMESPACE])
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("PATH", &self.path)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if let Some(input) = input {
            child
                .stdin
                .take()
                .unwrap()
                .write_all(input.to_string().as_bytes())
                .unwrap();
        }
        child.wait_with_output().unwrap()
    }

    fn ok(&self, arguments: &[&str], input: Option<&Value>) -> String {
        let output = self.kubectl(arguments, input);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn apply(&self, manifest: &Value) {
        self.ok(&["apply", "-f", "-"], Some(manifest));
    }

    /// Asserts that the server refuses it, in these words.
    fn refuses(&self, manifest: &Value, words: &str) {
        let output = self.kubectl(&["apply", "-f", "-"], Some(manifest));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "accepted, though {words:?} was to be said");
        assert!(said.contains(words), "{words:?} is not in {said}");
    }

    fn set_status(&self, name: &str, status: &Value) {
        let patch = json!({ "status": status }).to_string();
        self.ok(
            &[
                "patch",
                "dmig",
                name,
                "--subresource=status",
                "--type=merge",
                "-p",
                &patch,
            ],
            None,
        );
    }
}

/// Suspended, so that an operator that happens to run here leaves it alone.
fn manifest(name: &str, changes: &[(&str, Value)]) -> Value {
    let mut manifest = json!({
        "apiVersion": "datamigration.dev/v1alpha1",
        "kind": "DataMigration",
        "metadata": {"name": name},
        "spec": {
            "strategy": "DualWrite",
            "phase": "SourceFirst",
            "suspend": true,
            "source": {"engine": "MySQL", "shards": [{"name": "main", "urlSecretRef": {"name": "source"}}]},
            "target": {"engine": "PostgreSQL", "shards": [{"name": "main", "urlSecretRef": {"name": "target"}}]},
            "tables": [{"name": name, "version": "updated_at"}],
            "application": {
                "configMapRef": {"name": name},
                "acknowledge": {"selector": {"matchLabels": {"app": name}}},
            },
        },
    });
    for (pointer, value) in changes {
        let mut at = &mut manifest["spec"];
        for step in pointer.split('/') {
            at = match step.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[step],
            };
        }
        *at = value.clone();
    }
    manifest
}

#[test]
fn what_can_never_become_valid_is_refused_at_apply() {
    let server = ApiServer::up();

    for (changes, words) in [
        (vec![("strategy", json!("Magic"))], "spec.strategy: Unsupported value"),
        (
            vec![("phase", json!("Archived"))],
            "spec.archive is needed for phase Archived",
        ),
        (vec![("source/existingRows", json!("Adopt"))], "set it in spec.target"),
        (
            vec![("application/acknowledge", json!({"by": "Instances"}))],
            "acknowledge.selector is needed",
        ),
        (
            vec![("application/acknowledge", json!({"by": "Delay"}))],
            "acknowledge.delay is needed",
        ),
        (
            vec![("application/reads", json!({"targetPercent": 101}))],
            "should be less than or equal to 100",
        ),
        (
            vec![("archive", json!({"destination": {"url": "file:///a"}}))],
            "volumeClaimRef",
        ),
        (
            vec![("archive", json!({"destination": {"url": "ftp://a"}}))],
            "spec.archive.destination.url",
        ),
        (
            vec![("gates", json!({"cleanFor": "ten minutes"}))],
            "spec.gates.cleanFor",
        ),
        (vec![("tables", json!([]))], "should have at least 1 items"),
        (
            vec![(
                "tables",
                json!([{"name": "a", "version": "v"}, {"name": "a", "version": "v"}]),
            )],
            "Duplicate value",
        ),
        (
            vec![("source/shards/0/name", json!("Main!"))],
            "spec.source.shards[0].name",
        ),
    ] {
        server.refuses(&manifest("never", &changes), words);
    }

    // At the foot of the ladder everything but the strategy may still be corrected.
    server.apply(&manifest("orders", &[]));
    server.refuses(
        &manifest("orders", &[("strategy", json!("Offline"))]),
        "spec.strategy cannot be changed",
    );
    server.apply(&manifest("orders", &[("tables/0/version", json!("changed_at"))]));

    // Above it databases and tables stay what they are; the phase may go up and down.
    server.set_status(
        "orders",
        &json!({"phase": "SourceFirst", "epoch": 1, "mode": "SRC_FIRST"}),
    );
    let now = |changes: &[(&str, Value)]| {
        let mut all = vec![("tables/0/version", json!("changed_at"))];
        all.extend_from_slice(changes);
        manifest("orders", &all)
    };
    server.refuses(
        &now(&[("tables/0/version", json!("updated_at"))]),
        "spec.tables cannot be changed above SourceOnly",
    );
    server.refuses(
        &now(&[("source/engine", json!("PostgreSQL"))]),
        "spec.source cannot be changed above SourceOnly",
    );
    server.refuses(
        &now(&[("target/engine", json!("MySQL"))]),
        "spec.target cannot be changed above SourceOnly",
    );
    server.apply(&now(&[("phase", json!("TargetOnly"))]));
    server.apply(&now(&[("phase", json!("SourceOnly"))]));
    server.apply(&now(&[("phase", json!("TargetOnly"))]));

    // From TargetOnly there is no way down.
    server.set_status(
        "orders",
        &json!({"phase": "TargetOnly", "epoch": 5, "mode": "DST_ONLY"}),
    );
    for lower in ["SourceOnly", "SourceFirst", "TargetFirst"] {
        server.refuses(&now(&[("phase", json!(lower))]), "there is no way back from TargetOnly");
    }
    let archive = ("archive", json!({"destination": {"url": "s3://archive/orders"}}));
    server.apply(&now(&[("phase", json!("Archived")), archive.clone()]));
    server.set_status("orders", &json!({"phase": "Archived"}));
    server.refuses(&now(&[("phase", json!("TargetOnly")), archive]), "there is no way back");

    // A status may always be written, also of a resource that asks for what it cannot have.
    server.set_status("orders", &json!({"message": "archived"}));

    let explained = server.ok(&["explain", "dmig.spec.phase"], None);
    assert!(explained.contains("rung by rung"), "{explained}");
    server.ok(
        &[
            "patch",
            "dmig",
            "orders",
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":null}}"#,
        ],
        None,
    );
    server.ok(&["delete", "namespace", NAMESPACE, "--wait=false"], None);
}
