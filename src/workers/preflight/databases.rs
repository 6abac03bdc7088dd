//! Checks of a database as a whole: it answers, it is the one that the manifest means, and the account may do there what
//! the migration will need, fences included. What can be tried is tried, on scratch tables that are gone afterwards.

use crate::api::database::TlsModeName;
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
    if spec.engine.store() != shard.database.engine() {
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
                Engine::Postgres | Engine::Sqlite => "grant CREATE on the schema, and let the account own its tables",
            };
            let text = format!("no fence can be put up in {label}: {error}; {remedy}");
            found.failed(name, "FenceImpossible", text);
        }
    }
    Ok(())
}

/// What the manifest takes for different databases are: a scratch table of the one is not seen in another.
pub async fn distinct(context: &TaskContext, found: &mut Findings) -> Result<(), WorkError> {
    let mut all: Vec<&Shard> = Vec::new();
    for side in [Side::Source, Side::Target] {
        all.extend(context.databases(side).map(|(_, shard)| shard));
    }
    let mut same = false;
    for (nth, one) in all.iter().enumerate() {
        let others: Vec<&Shard> = all[nth + 1..]
            .iter()
            .copied()
            .filter(|other| other.database.engine() == one.database.engine())
            .collect();
        if others.is_empty() {
            continue;
        }
        let scratch = format!("_datamigration_probe_{}", uuid::Uuid::new_v4().simple());
        one.database
            .execute(&format!("CREATE TABLE {scratch} (id INT NOT NULL PRIMARY KEY)"), &[])
            .await?;
        let seen = seeing(&others, &scratch).await;
        let dropped = one.database.execute(&format!("DROP TABLE {scratch}"), &[]).await;
        let seen = seen?;
        dropped?;
        for other in seen {
            same = true;
            let text = format!(
                "{} and {} are one and the same database: a table made in the one appears in the other; correct the URL in one of \
                 the two Secrets (shards in one database are entries with the same Secret and key)",
                one.database.label(),
                other.database.label()
            );
            found.failed("Databases", "SameDatabase", text);
        }
    }
    if !same && all.len() > 1 {
        let text = match all.len() {
            2 => "source and target are two databases".to_owned(),
            more => format!("source and target are {more} databases"),
        };
        found.passed("Databases", text);
    }
    Ok(())
}

async fn seeing<'s>(others: &[&'s Shard], scratch: &str) -> Result<Vec<&'s Shard>, StoreError> {
    let mut seen = Vec::new();
    for other in others {
        if other.database.table(scratch).await?.is_some() {
            seen.push(*other);
        }
    }
    Ok(seen)
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
