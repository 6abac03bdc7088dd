//! Sharded tables from a shell: the binary, a manifest, and Secrets in a directory.

use crate::sharded::{Sharded, apart};
use crate::support::Kind::{MariaDb, Postgres};
use serde_json::{Value, json};

const ROWS: i64 = 300;

/// The binary on a manifest and a directory of Secrets, laid out as a worker's are mounted.
async fn from_a_shell(folder: &std::path::Path, world: &Sharded, arguments: &[&str]) -> (i32, Value) {
    let mut spec = json!({
        "strategy": "DualWrite", "phase": "SourceFirst",
        "source": {"engine": "MySQL", "tls": {"caSecretRef": {"name": "ca"}}},
        "target": {"engine": "PostgreSQL", "tls": {"caSecretRef": {"name": "ca"}}},
        "tables": [{"name": "orders", "version": "updated_at", "shardBy": {"columns": ["user_id"], "function": "Modulo"}}],
        "application": {"configMapRef": {"name": "m"}, "acknowledge": {"selector": {"matchLabels": {"app": "shop"}}}},
        "verify": {"lag": "1s"},
    });
    for (side, places) in [("source", &world.source), ("target", &world.target)] {
        let mut shards = Vec::new();
        for (at, (database, _)) in places.shards.iter().enumerate() {
            let own = folder.join("secrets").join(side).join(format!("s{at}"));
            std::fs::create_dir_all(&own).unwrap();
            std::fs::write(own.join("url"), &database.url).unwrap();
            std::fs::copy(&database.ca, own.with_file_name("ca.crt")).unwrap();
            shards.push(json!({"name": format!("s{at}"), "urlSecretRef": {"name": format!("{side}-{at}")}}));
        }
        spec[side]["shards"] = json!(shards);
    }
    let manifest = json!({
        "apiVersion": "datamigration.dev/v1alpha1", "kind": "DataMigration",
        "metadata": {"name": "orders", "namespace": "shop"}, "spec": spec,
    });
    let file = folder.join("manifest.yaml");
    std::fs::write(&file, manifest.to_string()).unwrap();
    let ran = tokio::process::Command::new(env!("CARGO_BIN_EXE_datamigration"))
        .arg(arguments[0])
        .arg("-f")
        .arg(&file)
        .arg("--secrets")
        .arg(folder.join("secrets"))
        .args(&arguments[1..])
        .output()
        .await
        .unwrap();
    let out = serde_json::from_slice(&ran.stdout);
    let out = out.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&ran.stderr)));
    (ran.status.code().unwrap(), out)
}

#[tokio::test]
async fn shards_are_copied_and_compared_from_a_shell() {
    let by = json!({"columns": ["user_id"], "function": "Modulo"});
    let world = Sharded::new(apart(MariaDb, 2), apart(Postgres, 3), by, json!({})).await;
    let ids = world.fill(ROWS).await;
    let folder = tempfile::tempdir().unwrap();
    let (code, out) = from_a_shell(folder.path(), &world, &["copy", "--json"]).await;
    assert_eq!((code, &out[0]["rows"]), (0, &json!(ROWS)), "{out}");
    world.assert_equal().await;
    let wrong = (ids[0].1.rem_euclid(3) as usize + 1) % 3;
    world.target.put(wrong, &ids[..1], "elsewhere").await;
    let (code, out) = from_a_shell(folder.path(), &world, &["verify", "--json"]).await;
    assert_eq!(
        (code, &out[0]["misplaced"], &out[0]["reason"]),
        (1, &json!(1), &json!("DifferencesFound")),
        "{out}"
    );
    let (code, out) = from_a_shell(folder.path(), &world, &["verify", "--json", "--repair"]).await;
    assert_eq!(
        (code, &out[0]["misplaced"], &out[0]["repaired"]),
        (0, &json!(1), &json!(1)),
        "{out}"
    );
    world.assert_equal().await;
}
