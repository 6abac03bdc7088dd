//! `datamigration copy` and `verify` as a person runs them: the binary, a manifest in a file, URLs in files, exit codes.

use crate::harness::{World, ago, fill, rows};
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::support::TestDatabase;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// Runs the binary on a manifest for these databases.
async fn run(folder: &Path, world: &World, changes: Value, arguments: &[&str]) -> Ran {
    let engine = |database: &TestDatabase| match database.kind {
        MariaDb => "MySQL",
        Postgres => "PostgreSQL",
    };
    let mut spec = json!({
        "strategy": "DualWrite",
        "phase": "SourceFirst",
        "source": {"engine": engine(&world.source), "shards": [{"name": "main", "urlSecretRef": {"name": "source"}}]},
        "target": {"engine": engine(&world.target), "shards": [{"name": "main", "urlSecretRef": {"name": "target"}}]},
        "tables": [{"name": "orders", "version": "updated_at"}],
        "application": {
            "configMapRef": {"name": "orders-database-mode"},
            "acknowledge": {"selector": {"matchLabels": {"app": "shop"}}},
        },
        "verify": {"lag": "1s"},
    });
    for (name, value) in changes.as_object().unwrap() {
        spec[name] = value.clone();
    }
    let manifest = json!({
        "apiVersion": "datamigration.dev/v1alpha1", "kind": "DataMigration",
        "metadata": {"name": "orders", "namespace": "shop"}, "spec": spec,
    });
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let file = write("manifest.yaml", serde_json::to_string(&manifest).unwrap());
    let source = write("source", world.source.url.clone());
    let target = write("target", world.target.url.clone());
    let ca = world.source.ca.to_string_lossy().into_owned();
    let output = Command::new(env!("CARGO_BIN_EXE_datamigration"))
        .arg(arguments[0])
        .args(["-f", &file, "--source-url-file", &source, "--target-url-file", &target])
        .args(["--source-ca", &ca, "--target-ca", &ca])
        .args(&arguments[1..])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

async fn tables_of_ours(database: &TestDatabase) -> i64 {
    let schema = match database.kind {
        MariaDb => "DATABASE()",
        Postgres => "'public'",
    };
    database
        .number(&format!(
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = {schema} AND table_name LIKE '%datamigration%'"
        ))
        .await
}

#[tokio::test]
async fn a_table_is_copied_compared_and_repaired_from_a_shell() {
    for (source, target) in [(MariaDb, Postgres), (Postgres, MariaDb)] {
        one_pair(source, target).await;
    }
}

async fn one_pair(source: Kind, target: Kind) {
    let folder = tempfile::tempdir().unwrap();
    let world = World::orders(source, target).await;
    fill(&world.source, 3_000).await;

    // Looking leaves nothing behind.
    let ran = run(folder.path(), &world, json!({}), &["verify", "--show", "2"]).await;
    assert_eq!(ran.code, 1, "{} {}", ran.out, ran.err);
    assert!(
        ran.out.contains("3000 target_missing, 0 neq, 0 base_missing"),
        "{}",
        ran.out
    );
    assert_eq!(
        ran.err.lines().filter(|line| line.starts_with("orders [")).count(),
        2,
        "{}",
        ran.err
    );
    assert_eq!(
        (tables_of_ours(&world.source).await, tables_of_ours(&world.target).await),
        (0, 0)
    );

    let ran = run(
        folder.path(),
        &world,
        json!({}),
        &["copy", "--json", "--parallelism", "2"],
    )
    .await;
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
    let result: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&result[0]["verdict"], &result[0]["rows"]),
        (&json!("Copied"), &json!(3000))
    );
    assert_eq!(rows(&world.source).await, rows(&world.target).await);
    assert_eq!(tables_of_ours(&world.source).await, 0, "the source is only read");

    let ran = run(folder.path(), &world, json!({}), &["verify"]).await;
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
    assert!(ran.out.starts_with("orders: equal ("), "{}", ran.out);

    let now = ago(target, 0.0);
    world
        .target
        .execute(&format!(
            "DELETE FROM orders WHERE id = 7; UPDATE orders SET note = 'x ' WHERE id = 9; \
             INSERT INTO orders (id, customer, updated_at) VALUES (9001, 'surplus', {now})"
        ))
        .await;
    let list = folder.path().join("differences.csv");
    let list = list.to_str().unwrap();
    let ran = run(
        folder.path(),
        &world,
        json!({}),
        &["verify", "--no-repair", "--export", list],
    )
    .await;
    assert_eq!(ran.code, 1, "{} {}", ran.out, ran.err);
    let mut found: Vec<String> = std::fs::read_to_string(list)
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| line.split(',').take(3).collect::<Vec<_>>().join(","))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "orders,[7],target_missing",
            "orders,[9001],base_missing",
            "orders,[9],neq"
        ]
    );

    let ran = run(folder.path(), &world, json!({}), &["verify", "--repair", "--json"]).await;
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
    let result: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(result[0]["repaired"], json!(3), "{result}");
    assert_eq!(rows(&world.source).await, rows(&world.target).await);

    // A copy that came to its end is no reason for the next one to do nothing.
    let newer = ago(source, -1.0);
    world
        .source
        .execute(&format!(
            "INSERT INTO orders (id, customer, updated_at) VALUES (5000, 'late', {newer}); \
             UPDATE orders SET note = 'newer', updated_at = {newer} WHERE id = 1"
        ))
        .await;
    let ran = run(folder.path(), &world, json!({}), &["copy"]).await;
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
    assert_eq!(rows(&world.source).await, rows(&world.target).await);
}

/// `--counts` finds rows that are missing or too many, and says that it has looked at nothing else.
#[tokio::test]
async fn rows_are_counted_range_by_range() {
    let folder = tempfile::tempdir().unwrap();
    for (source, target) in [(MariaDb, Postgres), (Postgres, Postgres)] {
        let world = World::orders(source, target).await;
        fill(&world.source, 25_000).await;
        fill(&world.target, 25_000).await;
        world.target.execute("UPDATE orders SET note = 'x' WHERE id = 3").await;
        let ran = run(folder.path(), &world, json!({}), &["verify", "--counts"]).await;
        assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
        assert!(ran.out.contains("all that was looked at"), "{}", ran.out);

        // As many rows on both sides, and not in the same ranges.
        world.target.execute("DELETE FROM orders WHERE id = 15000").await;
        let ran = run(folder.path(), &world, json!({}), &["verify", "--counts"]).await;
        let text = "the base has 25000 rows, the follower 24999; 1 ranges differ, the first: the keys after [10000] up to [20000]";
        assert!(
            ran.code == 1 && ran.out.contains(text),
            "{} {} {}",
            ran.code,
            ran.out,
            ran.err
        );
        world.source.execute("DELETE FROM orders WHERE id = 3").await;
        let ran = run(folder.path(), &world, json!({}), &["verify", "--counts", "--json"]).await;
        let result: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(
            (ran.code, &result[0]["reason"]),
            (1, &json!("CountsDiffer")),
            "{}",
            ran.out
        );
        assert_eq!(tables_of_ours(&world.target).await, 0);
    }
}

#[tokio::test]
async fn what_stands_in_the_way_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::orders(MariaDb, Postgres).await;
    fill(&world.source, 10).await;
    fill(&world.target, 10).await;

    let ran = run(folder.path(), &world, json!({}), &["copy"]).await;
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("already holds rows"), "{}", ran.err);
    assert_eq!(tables_of_ours(&world.target).await, 0);

    let ran = run(folder.path(), &world, json!({}), &["verify", "-t", "payments"]).await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("the manifest has no such table; it has orders"),
        "{}",
        ran.err
    );
    let ran = run(folder.path(), &world, json!({"strategy": "Offline"}), &["verify"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("spec.strategy"), "{}", ran.err);

    let ran = run(
        folder.path(),
        &world,
        json!({"copy": {"createTables": true}}),
        &["copy"],
    )
    .await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.err
            .contains("spec.copy.createTables: only the operator's preflight"),
        "{}",
        ran.err
    );
    assert_eq!(tables_of_ours(&world.target).await, 0);
    let misspelt = json!([{"name": "orders", "version": "updated_at", "whree": "id < 3"}]);
    let ran = run(folder.path(), &world, json!({"tables": misspelt}), &["verify"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("spec.tables[0].whree: no such field"), "{}", ran.err);

    let adopt = json!({"engine": "PostgreSQL", "existingRows": "Adopt",
        "shards": [{"name": "main", "urlSecretRef": {"name": "target"}}]});
    let ran = run(folder.path(), &world, json!({"target": adopt}), &["verify", "--repair"]).await;
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);

    world.target.execute("DROP TABLE orders").await;
    let ran = run(folder.path(), &world, json!({}), &["verify"]).await;
    assert_eq!(ran.code, 3);
    assert!(
        ran.out.contains("not finished") && ran.out.contains("table orders is not in target/main"),
        "{}",
        ran.out
    );
}

/// A row that the follower refuses is named like any other difference: on the terminal, in the export, in the result.
#[tokio::test]
async fn rows_that_the_follower_refuses_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::orders(MariaDb, Postgres).await;
    fill(&world.source, 20).await;
    world
        .target
        .execute("ALTER TABLE orders ADD CONSTRAINT no_seven CHECK (id NOT IN (7, 9))")
        .await;
    let ran = run(folder.path(), &world, json!({}), &["copy"]).await;
    assert_eq!(ran.code, 1, "{} {}", ran.out, ran.err);
    assert!(
        ran.out
            .starts_with("orders: 18 of 20 rows copied, 2 could not be carried"),
        "{}",
        ran.out
    );

    let list = folder.path().join("differences.csv");
    let list = list.to_str().unwrap();
    let arguments = ["verify", "--repair", "--export", list, "--json"];
    let ran = run(folder.path(), &world, json!({}), &arguments).await;
    assert_eq!(ran.code, 1, "{} {}", ran.out, ran.err);
    let result: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&result[0]["reason"], &result[0]["rejects"]),
        (&json!("RowsRefused"), &json!(2)),
        "{result}"
    );
    let mut told: Vec<&str> = ran.err.lines().filter(|line| line.starts_with("orders [")).collect();
    told.sort_unstable();
    assert!(
        told.len() == 2 && told[0].starts_with("orders [7] refused: ") && told[1].starts_with("orders [9] refused: "),
        "{}",
        ran.err
    );
    let written = std::fs::read_to_string(list).unwrap();
    let mut lines: Vec<&str> = written.lines().skip(1).collect();
    lines.sort_unstable();
    assert!(
        lines.len() == 2
            && lines[0].starts_with("orders,[7],refused,")
            && lines.iter().all(|line| line.contains("no_seven")),
        "{written}"
    );
}

/// Where an operator's migration is under way its control rows are obeyed, and its epoch shuts a local run out.
#[tokio::test]
async fn a_local_run_obeys_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::orders(MariaDb, Postgres).await;
    fill(&world.source, 100).await;
    let ran = run(folder.path(), &world, json!({}), &["copy"]).await;
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
    // The operator begins: nothing that the local run copied counts as copied.
    world.source_first().await;
    assert!(world.copy(0).run().await.is_err(), "epoch 0 is over");
    let copied = "SELECT COUNT(*) FROM _datamigration_chunks WHERE round > 0";
    assert_eq!(world.target.number(copied).await, 0);
    let ran = run(folder.path(), &world, json!({}), &["copy"]).await;
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
    assert!(
        world.target.number(copied).await > 0,
        "it works in the operator's round"
    );
    let ran = run(folder.path(), &world, json!({}), &["verify", "--direction", "reverse"]).await;
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("epoch 1 (SRC_FIRST)"), "{}", ran.err);
}
