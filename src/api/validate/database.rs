//! The two sides: engine, servers, TLS.

use super::Place;
use super::findings::{Findings, duplicates};
use crate::api::database::{DatabaseSpec, EngineName, ExistingRows, SecretKeyRef, TlsModeName};
use crate::api::migration::{Database, SecretKey, Shard};

/// A task goes through all pairs of shards, one after the other.
const MOST_SHARDS: usize = 64;

pub(super) fn database(found: &mut Findings, field: &str, raw: &DatabaseSpec, place: Place) -> Database {
    if raw.engine == EngineName::SQLite && place == Place::Cluster {
        found.add(
            format!("{field}.engine"),
            "SQLite is for local runs only (datamigration copy and verify, from a shell); use MySQL or PostgreSQL",
        );
    }
    if raw.shards.is_empty() {
        found.add(format!("{field}.shards"), "names no server; name one");
    }
    if raw.shards.len() > MOST_SHARDS {
        found.add(
            format!("{field}.shards"),
            format!("has {} entries; expected at most {MOST_SHARDS}", raw.shards.len()),
        );
    }
    duplicates(
        found,
        &format!("{field}.shards"),
        "name",
        raw.shards.iter().map(|shard| shard.name.as_str()),
    );
    let shards = raw
        .shards
        .iter()
        .map(|shard| Shard {
            name: shard.name.clone(),
            url: secret_key(&shard.url_secret_ref, "url"),
        })
        .collect();
    let tls = raw.tls.clone().unwrap_or_default();
    let tls_mode = tls.mode.unwrap_or_default();
    if tls_mode == TlsModeName::Disabled && tls.ca_secret_ref.is_some() {
        found.add(
            format!("{field}.tls.caSecretRef"),
            "has no use with mode Disabled; remove one of the two",
        );
    }
    Database {
        engine: raw.engine,
        shards,
        tls_mode,
        tls_ca: tls
            .ca_secret_ref
            .as_ref()
            .map(|reference| secret_key(reference, "ca.crt")),
        existing_rows: raw.existing_rows.unwrap_or(ExistingRows::Refuse),
    }
}

fn secret_key(raw: &SecretKeyRef, default: &str) -> SecretKey {
    SecretKey {
        name: raw.name.clone(),
        key: raw.key.clone().unwrap_or_else(|| default.to_owned()),
    }
}
