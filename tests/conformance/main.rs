//! Conformance: tables of random shapes, types, keys and values are copied and verified by the real workers in every
//! pair of engines, held against an oracle that shares no code with them; then values of the follower are corrupted by
//! plain SQL, and the verifier must find all of them and nothing else.
//!
//! `CONFORMANCE_CASES` tables per pair of engines (2), `CONFORMANCE_CORRUPTIONS` tried in each (30), `CONFORMANCE_SEED` (1).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod generate;
#[allow(dead_code)]
#[path = "../workers/harness.rs"]
mod harness;
mod kinds;
mod oracle;
mod pair;
#[path = "../support/place.rs"]
mod place;
#[path = "../support/mod.rs"]
mod support;

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use generate::{Table, tables};
use pair::Pair;
use place::Engine::{self, MariaDb, Postgres, Sqlite};
use place::Place;

#[test]
fn mariadb_to_mariadb() {
    conforms(MariaDb, MariaDb);
}

#[test]
fn postgres_to_postgres() {
    conforms(Postgres, Postgres);
}

#[test]
fn mariadb_to_postgres() {
    conforms(MariaDb, Postgres);
}

#[test]
fn postgres_to_mariadb() {
    conforms(Postgres, MariaDb);
}

#[test]
fn mariadb_to_sqlite() {
    conforms(MariaDb, Sqlite);
}

#[test]
fn postgres_to_sqlite() {
    conforms(Postgres, Sqlite);
}

#[test]
fn sqlite_to_mariadb() {
    conforms(Sqlite, MariaDb);
}

#[test]
fn sqlite_to_postgres() {
    conforms(Sqlite, Postgres);
}

#[test]
fn sqlite_to_sqlite() {
    conforms(Sqlite, Sqlite);
}

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn conforms(source: Engine, target: Engine) {
    let cases = setting("CONFORMANCE_CASES", 2);
    let corruptions = setting("CONFORMANCE_CORRUPTIONS", 30) as usize;
    let seed = setting("CONFORMANCE_SEED", 1);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_be_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let pair = runtime.block_on(Pair::new(source, target));
    let (case, planted, rows) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let outcome = runner.run(&tables(source, target, corruptions), |table| {
        case.set(case.get() + 1);
        let found = runtime.block_on(check(&pair, &table, case.get()))?;
        planted.set(planted.get() + found);
        rows.set(rows.get() + table.rows.len());
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, table)) => panic!(
            "{source:?} to {target:?}, CONFORMANCE_SEED={seed}, a table of {} rows with key {:?} and columns {:?}: {reason}",
            table.rows.len(),
            table.key,
            table.columns
        ),
        Err(aborted) => panic!("{source:?} to {target:?}: {aborted}"),
    }
    println!(
        "{source:?} to {target:?}: {} tables, {} rows, {} corruptions: all found, no false alarm",
        case.get(),
        rows.get(),
        planted.get()
    );
}

/// The corruptions that were found.
async fn check(pair: &Pair, table: &Table, case: u32) -> Result<usize, TestCaseError> {
    let fail = |what: String| TestCaseError::fail(what);
    for (database, rows) in [(&pair.source, true), (&pair.target, false)] {
        run(database, "DROP TABLE orders").await?;
        run(database, &table.create(database.engine(), case)).await?;
        if rows && !table.rows.is_empty() {
            run(database, &table.insert(database.engine(), case, &table.rows)).await?;
        }
    }
    run(
        &pair.target,
        "DELETE FROM _datamigration_chunks; DELETE FROM _datamigration_rejects",
    )
    .await?;
    let copied = pair.copy().await;
    copied.map_err(|error| fail(format!("copy: {error}")))?;
    let columns = table.named(case);
    let (base, follower) = (
        oracle::rows(&pair.source, &columns).await,
        oracle::rows(&pair.target, &columns).await,
    );
    if base.len() != table.rows.len() {
        return Err(fail(format!(
            "{} rows were inserted, {} are there",
            table.rows.len(),
            base.len()
        )));
    }
    if base != follower {
        let differing = base.iter().zip(&follower).find(|(a, b)| a != b);
        return Err(fail(format!("after the copy the oracle finds {differing:?}")));
    }
    let verified = verify(pair).await?;
    if verified != Counts::default() {
        return Err(fail(format!("a false alarm: {verified:?}")));
    }
    for statement in table.corrupt(pair.target.engine(), case) {
        run(&pair.target, &statement).await?;
    }
    let expected = Counts::between(&base, &oracle::rows(&pair.target, &columns).await, table.key.len());
    let found = verify(pair).await?;
    if found != expected {
        return Err(fail(format!("{expected:?} were planted, {found:?} found")));
    }
    let repaired = oracle::rows(&pair.target, &columns).await;
    if base != repaired {
        let differing = base.iter().zip(&repaired).find(|(a, b)| a != b);
        return Err(fail(format!("after the repair the oracle finds {differing:?}")));
    }
    Ok(expected.all() as usize)
}

/// A statement of the test itself.
async fn run(database: &Place, sql: &str) -> Result<(), TestCaseError> {
    database.try_execute(sql).await.map_err(|error| {
        let sql: String = sql.chars().take(300).collect();
        TestCaseError::fail(format!("{error}: {sql}"))
    })
}

/// What a pass finds, or should.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    target_missing: u64,
    neq: u64,
    base_missing: u64,
    outstanding: u64,
}

impl Counts {
    fn between(base: &[Vec<String>], follower: &[Vec<String>], key: usize) -> Self {
        let by_key = |rows: &[Vec<String>]| -> BTreeMap<Vec<String>, Vec<String>> {
            rows.iter().map(|row| (row[..key].to_vec(), row.clone())).collect()
        };
        let (base, follower) = (by_key(base), by_key(follower));
        let mut counts = Counts::default();
        for (key, row) in &base {
            match follower.get(key) {
                None => counts.target_missing += 1,
                Some(held) if held != row => counts.neq += 1,
                Some(_) => {}
            }
        }
        counts.base_missing = follower.keys().filter(|key| !base.contains_key(*key)).count() as u64;
        counts
    }

    fn all(&self) -> u64 {
        self.target_missing + self.neq + self.base_missing
    }
}

async fn verify(pair: &Pair) -> Result<Counts, TestCaseError> {
    // A pass of its own, not the earlier one begun again.
    run(&pair.target, "DELETE FROM _datamigration_verified").await?;
    let ended = pair.verify().await;
    let report = ended.map_err(|error| TestCaseError::fail(format!("verify: {error}")))?;
    Ok(Counts {
        target_missing: report.target_missing,
        neq: report.neq,
        base_missing: report.base_missing,
        outstanding: report.outstanding,
    })
}
