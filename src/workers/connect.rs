//! From mounted Secrets to connected databases. The Secrets are mounted as optional, so that a missing one can be named
//! here instead of leaving a pod that never starts.

use super::context::Shard;
use super::error::WorkError;
use crate::api::database::TlsModeName;
use crate::api::migration::{Migration, SecretKey};
use crate::store::{ConnectConfig, Database, SecretUrl, TlsMode};
use crate::words::Side;
use std::path::{Path, PathBuf};

/// Where the Job mounts the Secrets.
pub const SECRETS_DIR: &str = "/etc/datamigration";
/// Overrides the place, for workers outside a cluster.
pub const SECRETS_DIR_VARIABLE: &str = "DATAMIGRATION_SECRETS_DIR";

/// The root of the mounted Secrets.
pub fn secrets_dir() -> PathBuf {
    std::env::var_os(SECRETS_DIR_VARIABLE).map_or_else(|| PathBuf::from(SECRETS_DIR), PathBuf::from)
}

/// Whether a database has to answer before the work begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// The work needs it.
    Now,
    /// Whether it answers is what the work finds out.
    Later,
}

/// Connects every shard of a side.
pub async fn connect(
    migration: &Migration,
    side: Side,
    secrets: &Path,
    connections: u32,
    contact: Contact,
) -> Result<Vec<Shard>, WorkError> {
    let spec = migration.side(side);
    let folder = secrets.join(side.as_str());
    let ca = match &spec.tls_ca {
        None => None,
        Some(secret) => {
            let path = folder.join("ca.crt");
            read(&path, secret, &migration.namespace, side, "the certificate authority")?;
            Some(path)
        }
    };
    let mut shards: Vec<Shard> = Vec::with_capacity(spec.shards.len());
    for (at, shard) in spec.shards.iter().enumerate() {
        // Shards in one database share its connections.
        let same = spec.shards[..at].iter().position(|other| other.url == shard.url);
        if let Some(database) = same.and_then(|at| shards.get(at)).map(|one| one.database.clone()) {
            shards.push(Shard {
                name: shard.name.clone(),
                database,
            });
            continue;
        }
        let path = folder.join(&shard.name).join("url");
        let url = read(
            &path,
            &shard.url,
            &migration.namespace,
            side,
            &format!("the URL of shard {}", shard.name),
        )?;
        let config = shard_config(migration, side, shard, SecretUrl::new(url), ca.clone(), connections);
        let database = match contact {
            Contact::Now => Database::connect(&config).await?,
            Contact::Later => Database::lazy(&config)?,
        };
        shards.push(Shard {
            name: shard.name.clone(),
            database,
        });
    }
    Ok(shards)
}

/// How a shard is connected, as the manifest says.
pub fn shard_config(
    migration: &Migration,
    side: Side,
    shard: &crate::api::migration::Shard,
    url: SecretUrl,
    ca: Option<PathBuf>,
    connections: u32,
) -> ConnectConfig {
    ConnectConfig {
        url,
        tls: match migration.side(side).tls_mode {
            TlsModeName::VerifyFull => TlsMode::VerifyFull,
            TlsModeName::VerifyCA => TlsMode::VerifyCa,
            TlsModeName::Disabled => TlsMode::Disabled,
        },
        ca,
        max_connections: connections,
        label: format!("{}/{}", side.as_str(), shard.name),
        application: "datamigration".to_owned(),
    }
}

/// Connects every shard of a side now, its Secrets laid out as a worker's are mounted.
pub async fn connect_shards(
    migration: &Migration,
    side: Side,
    secrets: &Path,
    connections: u32,
) -> Result<Vec<Shard>, WorkError> {
    connect(migration, side, secrets, connections, Contact::Now).await
}

fn read(path: &Path, secret: &SecretKey, namespace: &str, side: Side, what: &str) -> Result<String, WorkError> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => Ok(text),
        Ok(_) => Err(missing(secret, namespace, side, what, "the key is there and empty")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(missing(secret, namespace, side, what, "not found"))
        }
        Err(error) => Err(missing(secret, namespace, side, what, &error.to_string())),
    }
}

fn missing(secret: &SecretKey, namespace: &str, side: Side, what: &str, found: &str) -> WorkError {
    WorkError::Waiting {
        reason: "SecretMissing",
        message: format!(
            "{what} of the {side} is expected under key {key:?} of Secret {namespace}/{name}: {found}; create the Secret with \
             that key (kubectl create secret generic {name} -n {namespace} --from-literal={key}=…), and the worker goes on \
             by itself",
            side = side.as_str(),
            key = secret.key,
            name = secret.name,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_secret_is_named_with_its_key() {
        let secret = SecretKey {
            name: "orders-mysql".to_owned(),
            key: "url".to_owned(),
        };
        let error = read(
            Path::new("/nowhere/url"),
            &secret,
            "shop",
            Side::Source,
            "the URL of shard main",
        )
        .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("Secret shop/orders-mysql") && message.contains("\"url\""),
            "{message}"
        );
        assert_eq!(error.reason(), "SecretMissing");
        assert!(error.is_transient());
    }

    #[test]
    fn an_empty_secret_counts_as_missing_and_its_value_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        std::fs::write(&path, " \n").unwrap();
        let secret = SecretKey {
            name: "s".to_owned(),
            key: "k".to_owned(),
        };
        assert_eq!(
            read(&path, &secret, "n", Side::Target, "the URL").unwrap_err().reason(),
            "SecretMissing"
        );
        std::fs::write(&path, "mysql://u:p@h/d\n").unwrap();
        assert_eq!(
            read(&path, &secret, "n", Side::Target, "the URL").unwrap(),
            "mysql://u:p@h/d\n"
        );
    }
}
