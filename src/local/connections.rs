//! The databases of a local run. URLs come from files or from the environment, never from the command line.

use super::LocalError;
use super::arguments::Common;
use crate::api::Migration;
use crate::store::{Database, SecretUrl};
use crate::words::Side;
use crate::workers::{Shard, WorkError, connect_shards, shard_config};
use std::path::{Path, PathBuf};

/// Connects both sides.
pub async fn open(migration: &Migration, common: &Common) -> Result<(Vec<Shard>, Vec<Shard>), LocalError> {
    let source = side(migration, Side::Source, common).await?;
    let target = side(migration, Side::Target, common).await?;
    for (side, shards) in [(Side::Source, &source), (Side::Target, &target)] {
        for shard in shards {
            named(migration, side, &shard.database)?;
        }
    }
    for (from, to) in source.iter().flat_map(|from| target.iter().map(move |to| (from, to))) {
        if from.database.is_same_file(&to.database) {
            return Err(LocalError::Usage(
                "source and target are one SQLite file: a transaction of one side would wait for the other's; give two files"
                    .to_owned(),
            ));
        }
    }
    Ok((source, target))
}

/// The manifest says what the database is: conditions and expressions in it are in that engine's SQL.
fn named(migration: &Migration, side: Side, database: &Database) -> Result<(), LocalError> {
    let engine = migration.side(side).engine;
    if engine.store() == database.engine() {
        return Ok(());
    }
    Err(LocalError::Usage(format!(
        "spec.{}.engine is {}, and the URL is of a {} database; correct one of the two",
        side.as_str(),
        engine.as_str(),
        database.engine()
    )))
}

async fn side(migration: &Migration, side: Side, common: &Common) -> Result<Vec<Shard>, LocalError> {
    // A lane reads on one connection and writes on another; reports and control rows take a few more.
    let connections = migration.copy.parallelism * 2 + 4;
    if let Some(secrets) = &common.secrets {
        return Ok(connect_shards(migration, side, secrets, connections).await?);
    }
    let spec = migration.side(side);
    let [shard] = &spec.shards[..] else {
        return Err(LocalError::Usage(format!(
            "the {side} has {} shards: give their URLs with --secrets DIRECTORY, one in {side}/SHARD/url each",
            spec.shards.len(),
            side = side.as_str(),
        )));
    };
    let (file, ca) = match side {
        Side::Source => (&common.source_url_file, &common.source_ca),
        Side::Target => (&common.target_url_file, &common.target_ca),
    };
    let url = url(side, file.as_deref())?;
    if spec.tls_ca.is_some() && ca.is_none() {
        return Err(LocalError::Usage(format!(
            "the manifest trusts a certificate authority of its own for the {side} (spec.{side}.tls.caSecretRef): give its \
             certificate with --{side}-ca FILE",
            side = side.as_str(),
        )));
    }
    let config = shard_config(migration, side, shard, SecretUrl::new(url), ca.clone(), connections);
    let database = Database::connect(&config).await.map_err(WorkError::from)?;
    Ok(vec![Shard {
        name: shard.name.clone(),
        database,
    }])
}

fn url(side: Side, file: Option<&Path>) -> Result<String, LocalError> {
    let variable = match side {
        Side::Source => "SOURCE_URL",
        Side::Target => "TARGET_URL",
    };
    let (found, whence) = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                LocalError::Usage(format!("--{}-url-file {}: {error}", side.as_str(), path.display()))
            })?;
            (text, PathBuf::from(path).display().to_string())
        }
        None => (std::env::var(variable).unwrap_or_default(), variable.to_owned()),
    };
    let found = found.trim();
    if found.is_empty() {
        return Err(LocalError::Usage(format!(
            "where is the {side}? {whence} holds no URL; give --{side}-url-file FILE, or set {variable}, to something like \
             mysql://user:password@host:3306/database",
            side = side.as_str(),
        )));
    }
    Ok(found.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_comes_from_a_file_and_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        std::fs::write(&path, "mysql://u:p@h/d\n").unwrap();
        assert_eq!(url(Side::Source, Some(&path)).unwrap(), "mysql://u:p@h/d");
        std::fs::write(&path, "\n").unwrap();
        let error = url(Side::Target, Some(&path)).unwrap_err().to_string();
        assert!(
            error.contains("TARGET_URL") && error.contains("--target-url-file"),
            "{error}"
        );
    }
}
