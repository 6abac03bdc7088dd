//! Application instances: each process upserts its row to acknowledge an epoch and to show that it lives.

use super::{
    ControlError, ddl,
    sql::{int, now, seconds_since, text},
};
use crate::{
    rows::Value,
    store::{Engine, Tx},
};

const TABLE: &str = "_datamigration_instances";

/// What an instance says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The migration and its UID, from the claim of the instance's tables.
    pub migration: String,
    pub uid: String,
    /// The pod's UID and the process's id in it: together they identify the row.
    pub pod_uid: String,
    pub process: String,
    /// The pod's name, for people.
    pub pod: String,
    /// The epoch it acknowledges: no request begun in an older mode is in flight.
    pub epoch: i64,
    pub mode: String,
    pub secondary_writes: String,
    /// `Ordered` or `Sequential`.
    pub protocol: String,
    /// Second writes that failed since the process began.
    pub failed_second_writes: i64,
}

/// An instance and how long ago the database saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenInstance {
    pub instance: Instance,
    pub seen_seconds_ago: i64,
}

/// Acknowledges an epoch and refreshes the lease, in one row.
pub async fn heartbeat(tx: &mut Tx, instance: &Instance) -> Result<(), ControlError> {
    let engine = tx.engine();
    let now = now(engine);
    let upsert = match engine {
        Engine::MySql => {
            "ON DUPLICATE KEY UPDATE pod = VALUES(pod), uid = VALUES(uid), epoch = VALUES(epoch), mode = VALUES(mode), \
             secondary_writes = VALUES(secondary_writes), protocol = VALUES(protocol), seen_at = VALUES(seen_at), \
             failed_second_writes = VALUES(failed_second_writes)"
        }
        Engine::Postgres | Engine::Sqlite => {
            "ON CONFLICT (migration, pod_uid, process) DO UPDATE SET pod = excluded.pod, uid = excluded.uid, \
             epoch = excluded.epoch, mode = excluded.mode, secondary_writes = excluded.secondary_writes, \
             protocol = excluded.protocol, seen_at = excluded.seen_at, failed_second_writes = excluded.failed_second_writes"
        }
    };
    tx.execute(
        &format!(
            "INSERT INTO {TABLE} (migration, pod_uid, process, pod, uid, epoch, mode, secondary_writes, protocol, seen_at, \
             failed_second_writes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, {now}, ?) {upsert}"
        ),
        &[
            Value::from(instance.migration.as_str()),
            Value::from(instance.pod_uid.as_str()),
            Value::from(instance.process.as_str()),
            Value::from(instance.pod.as_str()),
            Value::from(instance.uid.as_str()),
            Value::Int(instance.epoch),
            Value::from(instance.mode.as_str()),
            Value::from(instance.secondary_writes.as_str()),
            Value::from(instance.protocol.as_str()),
            Value::Int(instance.failed_second_writes),
        ],
    )
    .await?;
    Ok(())
}

/// Takes the row of a process that ends in order; one that is killed is gone when its lease is over.
pub async fn forget_instance(tx: &mut Tx, migration: &str, pod_uid: &str, process: &str) -> Result<(), ControlError> {
    tx.execute(
        &format!("DELETE FROM {TABLE} WHERE migration = ? AND pod_uid = ? AND process = ?"),
        &[Value::from(migration), Value::from(pod_uid), Value::from(process)],
    )
    .await?;
    Ok(())
}

/// All instances of a migration that this database knows.
pub async fn instances(tx: &mut Tx, migration: &str) -> Result<Vec<SeenInstance>, ControlError> {
    if !ddl::exists(tx).await? {
        return Ok(Vec::new());
    }
    let age = seconds_since(tx.engine(), "seen_at");
    let rows = tx
        .query(
            &format!(
                "SELECT migration, uid, pod_uid, process, pod, epoch, mode, secondary_writes, protocol, \
                 failed_second_writes, {age} FROM {TABLE} WHERE migration = ? ORDER BY pod, process"
            ),
            &[Value::from(migration)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(SeenInstance {
                instance: Instance {
                    migration: text(row, 0, TABLE)?,
                    uid: text(row, 1, TABLE)?,
                    pod_uid: text(row, 2, TABLE)?,
                    process: text(row, 3, TABLE)?,
                    pod: text(row, 4, TABLE)?,
                    epoch: int(row, 5, TABLE)?,
                    mode: text(row, 6, TABLE)?,
                    secondary_writes: text(row, 7, TABLE)?,
                    protocol: text(row, 8, TABLE)?,
                    failed_second_writes: int(row, 9, TABLE)?,
                },
                seen_seconds_ago: int(row, 10, TABLE)?,
            })
        })
        .collect()
}
