//! Checks of a database as a whole: it answers, it is the one that the manifest means, and the account may do there what
//! the migration will need, fences included. What can be tried is tried, on scratch tables that are gone afterwards.

use crate::api::database::{EngineName, TlsModeName};
use crate::rows::Value;
use crate::store::{Database, Engine, StoreError, TxOptions};
use crate::words::Side;
use crate::workers::context::{Shard, TaskContext};
use crate::workers::error::WorkError;
use crate::workers::preflight::findings::Findings;

/// Connects, and says what is there. False: nothing more can be checked on this shard.
pub async fn reachable(
    context: &TaskContext,
    side: Side,
    shard: &Shard,
    found: &mut Findings,
) -> Result<bool, WorkError> {
    let name = format!("Connection {}", shard.database.label());
    if let Err(error) = shard.database.ping().await {
        if error.is_transient() {
            return Err(error.into());
        }
        found.failed(name, error.reason(), error.to_string());
        return Ok(false);
    }
    let spec = context.migration.side(side);
    let engine = match spec.engine {
        EngineName::PostgreSQL => Engine::Postgres,
        _ => Engine::MySql,
    };
    if engine != shard.database.engine() {
        found.failed(
            name,
            "EngineMismatch",
            format!(
                "spec.{side}.engine is {}, and the URL in Secret {} (key {}) is of a {} database; correct one of the two",
                spec.engine.as_str(),
                spec.shards.iter().find(|one| one.name == shard.name).map_or("", |one| one.url.name.as_str()),
                spec.shards.iter().find(|one| one.name == shard.name).map_or("", |one| one.url.key.as_str()),
                shard.database.engine()
            ),
        );
        return Ok(false);
    }
    let version = first_text(&shard.database, "SELECT CAST(version() AS CHAR(200))").await?;
    let version = version.split(" on ").next().unwrap_or_default().trim().to_owned();
    let text = format!("{} answers: {version}", shard.database.label());
    if spec.tls_mode == TlsModeName::Disabled {
        let text = format!("{text}; the connection is not encrypted: set spec.{side}.tls.mode to VerifyFull");
        found.warned(name, "NotEncrypted", text);
    } else {
        found.passed(name, text);
    }
    Ok(true)
}

/// Own tables may be made and used, and a fence can stand on one.
pub async fn privileges(shard: &Shard, found: &mut Findings) -> Result<(), WorkError> {
    let label = shard.database.label();
    let name = format!("Privileges {label}");
    let missing = shard.database.probe_scratch().await?;
    if missing.is_empty() {
        found.passed(
            name.clone(),
            format!("control tables can be created, written and dropped in {label}"),
        );
    }
    for lack in &missing {
        let text = format!(
            "the account of {label} lacks a privilege that control tables need: {}; grant {} on the database, such as \
             GRANT ALL PRIVILEGES ON <database>: {}",
            lack.what, lack.what, lack.error
        );
        found.failed(name.clone(), "PrivilegeMissing", text);
    }
    if !missing.is_empty() {
        return Ok(());
    }
    let name = format!("Fence {label}");
    match shard.database.try_fence().await {
        Ok(()) => found.passed(
            name,
            format!("a fence was put up on a scratch table of {label}, and it refused a write"),
        ),
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(error) => {
            let remedy = match shard.database.engine() {
                Engine::MySql => {
                    "grant TRIGGER on the database; with binary logging also set log_bin_trust_function_creators = 1 (or, on \
                     MySQL, grant SUPER)"
                }
                Engine::Postgres => "grant CREATE on the schema, and let the account own its tables",
            };
            let text = format!("no fence can be put up in {label}: {error}; {remedy}");
            found.failed(name, "FenceImpossible", text);
        }
    }
    Ok(())
}

/// Source and target are two databases: a scratch table of the one is not seen in the other.
pub async fn distinct(source: &Shard, target: &Shard, found: &mut Findings) -> Result<(), WorkError> {
    if source.database.engine() != target.database.engine() {
        return Ok(());
    }
    let name = "Databases".to_owned();
    let scratch = format!("_datamigration_probe_{}", uuid::Uuid::new_v4().simple());
    source
        .database
        .execute(&format!("CREATE TABLE {scratch} (id INT NOT NULL PRIMARY KEY)"), &[])
        .await?;
    let seen = target.database.table(&scratch).await;
    let dropped = source.database.execute(&format!("DROP TABLE {scratch}"), &[]).await;
    let seen = seen?.is_some();
    dropped?;
    if seen {
        let text = format!(
            "{} and {} are one and the same database: a table made in the one appears in the other; correct the URL in one of \
             the two Secrets",
            source.database.label(),
            target.database.label()
        );
        found.failed(name, "SameDatabase", text);
    } else {
        found.passed(name, "source and target are two databases");
    }
    Ok(())
}

pub(super) async fn first_text(database: &Database, sql: &str) -> Result<String, StoreError> {
    let mut tx = database.begin(TxOptions::read_only()).await?;
    let rows = tx.query(sql, &[]).await?;
    tx.rollback().await;
    Ok(match rows.into_iter().flatten().next() {
        Some(Value::Text(text)) => text,
        _ => String::new(),
    })
}
