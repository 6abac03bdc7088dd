//! The resource definitions on a real API server: they install, they explain themselves, and what can never become
//! valid is refused at apply, in words that name the field and the remedy. Needs what `tests/cluster/up` needs.

// A panic is a test's report, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/cluster.rs"]
mod cluster;

use serde_json::{Value, json};

use cluster::Cluster;

/// The API server with our definitions, and no operator that would answer.
struct ApiServer(Cluster);

impl ApiServer {
    fn ok(&self, arguments: &[&str]) -> String {
        self.0.kubectl(arguments)
    }

    fn apply(&self, manifest: &Value) {
        self.0.apply(manifest).unwrap();
    }

    /// Asserts that the server refuses it, in these words.
    fn refuses(&self, manifest: &Value, words: &str) {
        let said = self
            .0
            .apply(manifest)
            .expect_err(&format!("accepted, though {words:?} was to be said"));
        assert!(said.contains(words), "{words:?} is not in {said}");
    }

    fn set_status(&self, name: &str, status: &Value) {
        let patch = json!({ "status": status }).to_string();
        self.ok(&[
            "patch",
            "dmig",
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ]);
    }
}

/// Suspended: nothing is to begin by it.
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
    let server = ApiServer(Cluster::with_definitions("definitions-test"));

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
    server.refuses(
        &now(&[("application/configMapRef", json!({"name": "another"}))]),
        "spec.application.configMapRef cannot be changed above SourceOnly",
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

    let explained = server.ok(&["explain", "dmig.spec.phase"]);
    assert!(explained.contains("rung by rung"), "{explained}");
    server.ok(&[
        "patch",
        "dmig",
        "orders",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
}
