//! Differences that verify found and did not mend, one row per key, in the base: what they are, both versions, when they
//! were first and last seen, and how often. A key has no direction; a row goes when both sides were seen to agree on it.

use super::ControlError;
use super::sql::{int, key, now, optional_text, placeholders, text, time_bind};
use crate::rows::digest::{self, hexadecimal};
use crate::rows::{Key, Value};
use crate::store::{Engine, Tx};
use std::collections::BTreeMap;

const TABLE: &str = "_datamigration_mismatches";

/// Rows of a table that are kept, about: beyond that, differences are counted and no longer written down.
pub const MOST_MISMATCHES: u64 = 10_000;
/// Rows written, or removed, by one statement.
const TOGETHER: usize = 100;

/// One key that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MismatchEvent {
    pub key: Key,
    /// `target_missing`, `neq`, `base_missing`, or `unsettled` where nobody could tell.
    pub kind: String,
    /// The base row's version; `None`: no row.
    pub base_version: Option<String>,
    /// The follower row's version; `None`: no row.
    pub follower_version: Option<String>,
    /// How often it was found.
    pub attempts: i64,
}

/// Makes the table where an earlier release's control tables lack it.
pub async fn ensure_mismatches(tx: &mut Tx) -> Result<(), ControlError> {
    super::ddl::ensure(tx, TABLE).await
}

/// What stands for a key of any length in an index.
fn hash(key: &Key) -> Value {
    let text = Value::Text(key.to_json());
    Value::Text(hexadecimal(&digest::of([&text]).0.to_be_bytes()))
}

/// Writes differences down, or that they were found again. `table`: its SOURCE name.
pub async fn record_mismatches(
    tx: &mut Tx,
    migration: &str,
    uid: &str,
    table: &str,
    events: &[MismatchEvent],
) -> Result<(), ControlError> {
    let engine = tx.engine();
    let now = now(engine);
    let upsert = match engine {
        Engine::MySql => {
            "ON DUPLICATE KEY UPDATE uid = VALUES(uid), kind = VALUES(kind), base_version = VALUES(base_version), \
             follower_version = VALUES(follower_version), last_seen = VALUES(last_seen), attempts = attempts + 1"
        }
        Engine::Postgres | Engine::Sqlite => {
            "ON CONFLICT (migration, table_name, key_hash) DO UPDATE SET uid = excluded.uid, kind = excluded.kind, \
             base_version = excluded.base_version, follower_version = excluded.follower_version, \
             last_seen = excluded.last_seen, attempts = _datamigration_mismatches.attempts + 1"
        }
    };
    let version = |version: &Option<String>| version.as_deref().map_or(Value::Null, Value::from);
    for some in events.chunks(TOGETHER) {
        let row = format!("(?, ?, ?, ?, ?, ?, ?, ?, 1, {now}, {now})");
        let rows = vec![row.as_str(); some.len()].join(", ");
        let binds: Vec<Value> = some
            .iter()
            .flat_map(|event| {
                [
                    Value::from(migration),
                    Value::from(table),
                    hash(&event.key),
                    Value::from(uid),
                    Value::Text(event.key.to_json()),
                    Value::from(event.kind.as_str()),
                    version(&event.base_version),
                    version(&event.follower_version),
                ]
            })
            .collect();
        tx.execute(
            &format!(
                "INSERT INTO {TABLE} (migration, table_name, key_hash, uid, row_key, kind, base_version, follower_version, \
                 attempts, first_seen, last_seen) VALUES {rows} {upsert}"
            ),
            &binds,
        )
        .await?;
    }
    Ok(())
}

/// The differences of a table that were not looked at for longest, none of them since `before` (canonical time).
pub async fn mismatches(
    tx: &mut Tx,
    migration: &str,
    table: &str,
    before: &str,
    limit: u32,
) -> Result<Vec<MismatchEvent>, ControlError> {
    let rows = tx
        .query(
            &format!(
                "SELECT row_key, kind, base_version, follower_version, attempts FROM {TABLE} WHERE migration = ? AND \
                 table_name = ? AND last_seen < {} ORDER BY last_seen, key_hash LIMIT {limit}",
                time_bind(tx.engine())
            ),
            &[Value::from(migration), Value::from(table), Value::from(before)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(MismatchEvent {
                key: key(row, 0, TABLE)?,
                kind: text(row, 1, TABLE)?,
                base_version: optional_text(row, 2, TABLE)?,
                follower_version: optional_text(row, 3, TABLE)?,
                attempts: int(row, 4, TABLE)?,
            })
        })
        .collect()
}

/// How many differences of a table are written down, by kind.
pub async fn count_mismatches(
    tx: &mut Tx,
    migration: &str,
    table: &str,
) -> Result<BTreeMap<String, u64>, ControlError> {
    let rows = tx
        .query(
            &format!("SELECT kind, COUNT(*) FROM {TABLE} WHERE migration = ? AND table_name = ? GROUP BY kind"),
            &[Value::from(migration), Value::from(table)],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((text(row, 0, TABLE)?, int(row, 1, TABLE)?.unsigned_abs())))
        .collect()
}

/// Takes out the differences of these keys: both sides were seen to agree.
pub async fn forget_mismatches(tx: &mut Tx, migration: &str, table: &str, keys: &[Key]) -> Result<(), ControlError> {
    for some in keys.chunks(TOGETHER) {
        let mut binds = vec![Value::from(migration), Value::from(table)];
        binds.extend(some.iter().map(hash));
        tx.execute(
            &format!(
                "DELETE FROM {TABLE} WHERE migration = ? AND table_name = ? AND key_hash IN ({})",
                placeholders(some.len())
            ),
            &binds,
        )
        .await?;
    }
    Ok(())
}

/// Takes out the differences of a table that a whole pass, begun at this moment, has not met again.
pub async fn forget_mismatches_before(
    tx: &mut Tx,
    migration: &str,
    table: &str,
    began: &str,
) -> Result<(), ControlError> {
    tx.execute(
        &format!(
            "DELETE FROM {TABLE} WHERE migration = ? AND table_name = ? AND last_seen < {}",
            time_bind(tx.engine())
        ),
        &[Value::from(migration), Value::from(table), Value::from(began)],
    )
    .await?;
    Ok(())
}
