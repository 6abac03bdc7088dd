//! End to end on a real cluster, through the chart: the whole ladder under load while a copy pod and the operator are
//! killed, and every kind of bad input. Needs root: it starts what it needs by the scripts in `tests/cluster`. The cluster
//! is left running for the next test; `tests/cluster/down` ends it.

#![allow(clippy::unwrap_used)] // A panic is the report.

#[path = "support/cluster.rs"]
mod cluster;

use std::path::PathBuf;

use serde_json::{Value, json};

use cluster::{Cluster, run, turn};

/// A pair of databases on the host, reachable from pods; ended when dropped.
struct Databases {
    name: &'static str,
    values: std::collections::HashMap<String, String>,
}

impl Databases {
    fn up(name: &'static str) -> Self {
        let file = run(
            "tests/cluster/databases",
            &["up"],
            &[("DATABASES_NAME", name), ("DATABASES_FRESH", "1")],
        );
        let file = PathBuf::from(file.lines().last().unwrap_or_default());
        let values = std::fs::read_to_string(&file)
            .unwrap()
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Self { name, values }
    }

    fn value(&self, key: &str) -> &str {
        self.values
            .get(key)
            .map_or_else(|| panic!("databases.env has no {key}"), String::as_str)
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        run("tests/cluster/databases", &["remove"], &[("DATABASES_NAME", self.name)]);
    }
}

#[test]
fn the_whole_ladder_loses_nothing_while_workers_and_operator_are_killed() {
    let _turn = turn();
    let output = run(
        "tests/demo/run",
        &[],
        &[
            ("DEMO_KILL_COPY", "1"),
            ("DEMO_KILL_OPERATOR", "1"),
            ("DEMO_KEEP_CLUSTER", "1"),
        ],
    );
    println!("{output}");
    let audit = output.lines().last().unwrap_or_default();
    let acknowledged: u64 = audit
        .strip_prefix("audit: ")
        .and_then(|rest| rest.split_once(" acknowledged, 0 missing, 0 stale, 0 resurrected"))
        .and_then(|(count, rest)| rest.is_empty().then(|| count.parse().ok()).flatten())
        .unwrap_or_else(|| panic!("the audit found a loss: {audit}"));
    assert!(acknowledged >= 20_000, "too little load to prove anything: {audit}");
    assert!(output.contains("status.phase: Archived"));
}

/// Runs statements on a database of the host's, each in its own transaction.
fn sql(url: &str, ca: &str, statements: &[&str]) {
    use datamigration::store::{ConnectConfig, Database, SecretUrl, TlsMode, TxOptions};
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let database = Database::connect(&ConnectConfig {
            url: SecretUrl::new(url),
            tls: TlsMode::VerifyFull,
            ca: Some(ca.into()),
            max_connections: 1,
            label: "test".into(),
            application: "test".into(),
        })
        .await
        .unwrap();
        for statement in statements {
            let mut tx = database.begin(TxOptions::default()).await.unwrap();
            tx.execute(statement, &[]).await.unwrap();
            tx.commit().await.unwrap();
        }
    });
}

/// A migration of one table, of databases whose URLs the two Secrets hold.
fn migration(name: &str, table: &str, source: &str, target: &str) -> Value {
    json!({
        "apiVersion": "datamigration.dev/v1alpha1",
        "kind": "DataMigration",
        "metadata": {"name": name},
        "spec": {
            "strategy": "DualWrite",
            "phase": "SourceFirst",
            "source": {
                "engine": "MySQL",
                "shards": [{"name": "main", "urlSecretRef": {"name": source, "key": "url"}}],
                "tls": {"mode": "VerifyFull", "caSecretRef": {"name": "ca", "key": "ca.crt"}},
            },
            "target": {
                "engine": "PostgreSQL",
                "shards": [{"name": "main", "urlSecretRef": {"name": target, "key": "url"}}],
                "tls": {"mode": "VerifyFull", "caSecretRef": {"name": "ca", "key": "ca.crt"}},
            },
            "tables": [{"name": table, "version": "updated_at"}],
            "application": {
                "configMapRef": {"name": format!("mode-{name}")},
                "acknowledge": {"by": "Instances", "selector": {"matchLabels": {"app": "none"}}, "timeout": "1m"},
            },
        },
    })
}

#[test]
fn bad_input_ends_in_a_condition_that_names_object_and_remedy() {
    let cluster = Cluster::with_operator("e2e-bad-input");
    let databases = Databases::up("e2e");
    let ca = databases.value("DATABASES_CA");
    sql(
        databases.value("MARIADB_URL"),
        ca,
        &[
            "CREATE TABLE good (id BIGINT PRIMARY KEY, note VARCHAR(100), updated_at TIMESTAMP(6) NOT NULL)",
            "CREATE TABLE no_key (id BIGINT, updated_at TIMESTAMP(6) NOT NULL)",
            "CREATE TABLE no_version (id BIGINT PRIMARY KEY)",
            "CREATE TABLE incompatible (id BIGINT PRIMARY KEY, amount VARCHAR(20), updated_at TIMESTAMP(6) NOT NULL)",
        ],
    );
    sql(
        databases.value("POSTGRES_URL"),
        ca,
        &[
            "CREATE TABLE good (id BIGINT PRIMARY KEY, note VARCHAR(100), updated_at TIMESTAMP(6) NOT NULL)",
            "CREATE TABLE no_key (id BIGINT, updated_at TIMESTAMP(6) NOT NULL)",
            "CREATE TABLE no_version (id BIGINT PRIMARY KEY)",
            "CREATE TABLE incompatible (id BIGINT PRIMARY KEY, amount BIGINT, updated_at TIMESTAMP(6) NOT NULL)",
        ],
    );

    let secret = |name: &str, key: &str, value: &str| {
        cluster
            .apply(
                &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {key: value}}),
            )
            .unwrap();
    };
    let mysql = databases.value("MARIADB_POD_URL");
    let password = mysql.split(['@', ':']).nth(2).unwrap();
    secret("mysql", "url", mysql);
    secret("postgres", "url", databases.value("POSTGRES_POD_URL"));
    secret("wrong-password", "url", &mysql.replace(password, "not-the-password"));
    // A port of the databases' own host where nothing listens.
    let port = mysql.rsplit(':').next().unwrap().split('/').next().unwrap();
    secret("nobody-there", "url", &mysql.replace(port, "1"));
    secret("ca", "ca.crt", &std::fs::read_to_string(ca).unwrap());
    // Each application runs in a mode of its own; nothing of this may touch it.
    let mode = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("mode-{name}")},
            "data": {"write-mode": "SRC_ONLY", "read-from": "SOURCE", "read-target-percent": "0",
                     "secondary-writes": "Lenient", "epoch": "0"},
        })
    };

    let cases: [(&str, &str, &str, &[&str]); 6] = [
        ("no-key", "no_key", "mysql", &["no_key", "ALTER TABLE"]),
        ("no-version", "no_version", "mysql", &["no_version", "updated_at"]),
        ("incompatible", "incompatible", "mysql", &["incompatible", "amount"]),
        ("wrong-password", "good", "wrong-password", &["source/main", "password"]),
        ("unreachable", "good", "nobody-there", &["source/main", "reach"]),
        ("no-secret", "good", "not-there", &["not-there", "url"]),
    ];
    for (name, table, source, _) in &cases {
        cluster.apply(&mode(name)).unwrap();
        cluster.apply(&migration(name, table, source, "postgres")).unwrap();
    }
    // A namespace that the chart was not told of lacks the workers' account.
    let mut nobody = migration("no-account", "no_key", "wrong-password", "postgres");
    nobody["spec"]["worker"] = json!({"serviceAccountName": "not-there-either"});
    cluster.apply(&nobody).unwrap();
    let condition = cluster.condition_where("no-account", "Ready", |found| found["reason"] == "WorkerNotStarting");
    let message = condition["message"].as_str().unwrap_or_default();
    assert!(message.contains("ServiceAccount not-there-either"), "{condition}");

    for (name, _, _, words) in &cases {
        let condition = cluster.condition_where(name, "Ready", |found| {
            found["status"] == "False" && found["reason"] != "PreflightRunning"
        });
        let message = condition["message"].as_str().unwrap_or_default();
        for word in *words {
            assert!(
                message.contains(word),
                "{name}: {word:?} is not in the message: {condition}"
            );
        }
        assert!(
            !message.contains(password) && !message.contains("not-the-password"),
            "a password is shown: {message}"
        );
    }

    // The second migration of a table says which is the first; the first goes on.
    let mut twin = migration("twin-a", "good", "mysql", "postgres");
    twin["spec"]["phase"] = json!("SourceOnly");
    cluster.apply(&twin).unwrap();
    cluster.condition("twin-a", "SchemaCompatible", "True");
    twin["metadata"]["name"] = json!("twin-b");
    cluster.apply(&twin).unwrap();
    let refused = cluster.condition("twin-b", "Stalled", "True");
    assert!(
        refused["message"].as_str().unwrap_or_default().contains("twin-a"),
        "{refused}"
    );

    // What can never become valid; `tests/definitions.rs` has the refusals at apply, the way down from TargetOnly among them.
    let mut offline = migration("offline", "good", "mysql", "postgres");
    offline["spec"]["strategy"] = json!("Offline");
    if let Err(refusal) = cluster.apply(&offline) {
        assert!(refusal.contains("strategy"), "{refusal}");
    } else {
        let condition = cluster.condition("offline", "Stalled", "True");
        assert!(
            condition["message"].as_str().unwrap_or_default().contains("strategy"),
            "{condition}"
        );
    }

    for (name, _, _, _) in &cases {
        let data = &cluster.get("configmap", &format!("mode-{name}"))["data"];
        assert_eq!(data, &mode(name)["data"], "the application's mode was touched");
    }
}
