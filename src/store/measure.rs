//! How busy a server is, asked of the server itself: running statements, replication, and a query of the user's own.
//! What cannot be learned is an error that says what is missing; it is never taken for calm.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Column, Row as _};

use super::classify::classify;
use super::{Database, Engine, Result, StoreError, Tx, TxOptions, mysql, postgres};
use crate::rows::Value;

/// A measurement that takes longer says that the server is busy.
const MOST: Duration = Duration::from_secs(5);

/// What a server knows of replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// It follows nobody, and nobody follows it.
    Alone,
    /// It follows another server, or the slowest of its followers says so of itself.
    Behind(Duration),
    /// Its followers' positions in its log, and what the slowest last said of itself.
    Positions {
        /// Where its log ends.
        head: u64,
        /// Up to where the slowest follower has replayed it.
        replayed: u64,
        /// The lag that the slowest follower reported.
        reported: Duration,
    },
}

impl Database {
    /// Statements that the server runs now, all databases together, this one apart. PostgreSQL: without those of sessions
    /// that carry our own application name.
    pub async fn running_statements(&self) -> Result<u64> {
        let mut tx = self.measuring().await?;
        let found = match tx.engine() {
            Engine::MySql => tx
                .status("Threads_running")
                .await
                .map(|running| running.map(|running| running.saturating_sub(1))),
            Engine::Postgres => running_postgres(&mut tx).await,
            // A file serves nobody.
            Engine::Sqlite => Ok(None),
        };
        tx.rollback().await;
        found?.ok_or_else(|| self.unmeasured("the server does not say how many statements it runs"))
    }

    /// How far replication is behind, as far as this server can know.
    pub async fn replication(&self) -> Result<Replication> {
        let mut tx = self.measuring().await?;
        let found = match tx.engine() {
            Engine::MySql => replication_mysql(&mut tx).await,
            Engine::Postgres => replication_postgres(&mut tx).await,
            Engine::Sqlite => Ok(Replication::Alone),
        };
        tx.rollback().await;
        found
    }

    /// The one number that a statement answers with. It is sent as it is, in a read-only transaction.
    pub async fn one_number(&self, sql: &str) -> Result<f64> {
        let mut tx = self.measuring().await?;
        let rows = tx.verbatim(sql).await;
        tx.rollback().await;
        let rows = rows?;
        let [row] = rows.as_slice() else {
            let message = format!("the statement returned {} rows; it has to return one", rows.len());
            return Err(self.unmeasured(&message));
        };
        let [(_, value)] = row.as_slice() else {
            let message = format!("the statement returned {} columns; it has to return one", row.len());
            return Err(self.unmeasured(&message));
        };
        let number = match value {
            Value::Int(n) => Some(*n as f64),
            Value::UInt(n) => Some(*n as f64),
            Value::Float(x) => Some(*x),
            Value::Text(text) => text.trim().parse().ok(),
            Value::Null | Value::Bytes(_) => None,
        };
        number
            .filter(|number: &f64| number.is_finite())
            .ok_or_else(|| self.unmeasured("the statement returned no number"))
    }

    async fn measuring(&self) -> Result<Tx> {
        self.begin(TxOptions {
            statement_timeout: Some(MOST),
            acquire_timeout: MOST,
            ..TxOptions::read_only()
        })
        .await
    }

    fn unmeasured(&self, message: &str) -> StoreError {
        StoreError::Data {
            label: self.label().to_owned(),
            message: message.to_owned(),
        }
    }
}

impl Tx {
    /// A statement without values, exactly as written; each value with its column's name.
    async fn verbatim(&mut self, sql: &str) -> Result<Vec<Vec<(String, Value)>>> {
        let label = self.label().to_owned();
        let sql = AssertSqlSafe(sql.to_owned());
        let answered = match self.engine() {
            Engine::MySql => match self.mysql() {
                Some(connection) => within(sqlx::query(sql).fetch_all(connection)).await.map(|rows| {
                    rows.and_then(|rows| {
                        rows.iter()
                            .map(|row| {
                                let names = row.columns().iter().map(|column| column.name().to_owned());
                                Ok(names.zip(mysql::decode(row)?).collect())
                            })
                            .collect()
                    })
                }),
                None => Some(Ok(Vec::new())),
            },
            Engine::Postgres => match self.postgres() {
                Some(connection) => within(sqlx::query(sql).fetch_all(connection)).await.map(|rows| {
                    rows.and_then(|rows| {
                        rows.iter()
                            .map(|row| {
                                let names = row.columns().iter().map(|column| column.name().to_owned());
                                Ok(names.zip(postgres::decode(row)?).collect())
                            })
                            .collect()
                    })
                }),
                None => Some(Ok(Vec::new())),
            },
            #[cfg(not(feature = "sqlite"))]
            Engine::Sqlite => Some(Ok(Vec::new())),
            #[cfg(feature = "sqlite")]
            Engine::Sqlite => match self.sqlite() {
                Some(connection) => within(sqlx::query(sql).fetch_all(connection)).await.map(|rows| {
                    rows.and_then(|rows| {
                        rows.iter()
                            .map(|row| {
                                let names = row.columns().iter().map(|column| column.name().to_owned());
                                Ok(names.zip(super::sqlite::decode(row)?).collect())
                            })
                            .collect()
                    })
                }),
                None => Some(Ok(Vec::new())),
            },
        };
        match answered {
            Some(rows) => rows.map_err(|error| classify(&label, &error)),
            None => Err(StoreError::Timeout {
                label,
                message: "the measurement was not answered in time".to_owned(),
            }),
        }
    }

    /// A counter of MySQL's own.
    async fn status(&mut self, name: &str) -> Result<Option<u64>> {
        let rows = self.verbatim(&format!("SHOW GLOBAL STATUS LIKE '{name}'")).await?;
        let value = rows.first().and_then(|row| row.get(1)).map(|(_, value)| value);
        Ok(match value {
            Some(Value::Text(text)) => text.parse().ok(),
            Some(Value::Int(n)) => u64::try_from(*n).ok(),
            _ => None,
        })
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(MOST + Duration::from_secs(1), work).await.ok()
}

/// Without that role PostgreSQL shows other users' sessions without what they do: they would count as idle.
const MAY_SEE: &str = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')";

async fn may_see(tx: &mut Tx, what: &str) -> Result<()> {
    let rows = tx.verbatim(MAY_SEE).await?;
    // Booleans are 0 and 1.
    if matches!(rows.first().and_then(|row| row.first()), Some((_, Value::Int(1)))) {
        return Ok(());
    }
    Err(StoreError::Privilege {
        label: tx.label().to_owned(),
        message: format!("{what} of other users cannot be seen; GRANT pg_monitor to the worker's role"),
    })
}

async fn running_postgres(tx: &mut Tx) -> Result<Option<u64>> {
    may_see(tx, "sessions").await?;
    let rows = tx
        .verbatim(
            "SELECT CAST(COUNT(*) AS BIGINT) FROM pg_catalog.pg_stat_activity WHERE state = 'active' AND \
             backend_type = 'client backend' AND pid <> pg_backend_pid() AND \
             application_name <> current_setting('application_name')",
        )
        .await?;
    Ok(match rows.first().and_then(|row| row.first()) {
        Some((_, Value::Int(n))) => u64::try_from(*n).ok(),
        _ => None,
    })
}

async fn replication_postgres(tx: &mut Tx) -> Result<Replication> {
    let standby = tx
        .verbatim(
            "SELECT CASE WHEN NOT pg_is_in_recovery() THEN NULL \
             WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 \
             ELSE CAST(COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0) * 1000 AS BIGINT) END",
        )
        .await?;
    if let Some((_, Value::Int(milliseconds))) = standby.first().and_then(|row| row.first()) {
        return Ok(Replication::Behind(Duration::from_millis(
            milliseconds.max(&0).unsigned_abs(),
        )));
    }
    may_see(tx, "standbys").await?;
    let rows = tx
        .verbatim(
            "SELECT CAST(COUNT(replay_lsn) AS BIGINT), CAST(pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS BIGINT), \
             CAST(pg_wal_lsn_diff(MIN(replay_lsn), '0/0') AS BIGINT), \
             CAST(COALESCE(EXTRACT(EPOCH FROM MAX(replay_lag)), 0) * 1000 AS BIGINT) \
             FROM pg_catalog.pg_stat_replication WHERE state IN ('streaming', 'catchup')",
        )
        .await?;
    let numbers: Vec<Option<i64>> = rows
        .first()
        .map(|row| row.iter().map(|(_, value)| value.as_i64()).collect())
        .unwrap_or_default();
    match numbers.as_slice() {
        [Some(1..), Some(head), Some(replayed), Some(reported)] => Ok(Replication::Positions {
            head: head.unsigned_abs(),
            replayed: replayed.unsigned_abs(),
            reported: Duration::from_millis(reported.unsigned_abs()),
        }),
        // Receivers of the log that replay nothing, such as an archive of it, are no replicas.
        _ => Ok(Replication::Alone),
    }
}

async fn replication_mysql(tx: &mut Tx) -> Result<Replication> {
    let channels = match tx.verbatim("SHOW REPLICA STATUS").await {
        // The older word, on servers that do not know the newer one.
        Err(StoreError::Other { .. }) => tx.verbatim("SHOW SLAVE STATUS").await,
        other => other,
    };
    let channels = channels.map_err(|error| match error {
        StoreError::Privilege { label, message } => StoreError::Privilege {
            label,
            message: format!(
                "{message}; GRANT REPLICATION CLIENT (MariaDB: REPLICA MONITOR) ON *.* to the worker's user"
            ),
        },
        other => other,
    })?;
    let mut worst = Duration::ZERO;
    for channel in &channels {
        let behind = channel
            .iter()
            .find(|(name, _)| matches!(name.as_str(), "Seconds_Behind_Source" | "Seconds_Behind_Master"));
        match behind.map(|(_, value)| value) {
            Some(Value::Int(seconds)) => worst = worst.max(Duration::from_secs(seconds.max(&0).unsigned_abs())),
            Some(Value::UInt(seconds)) => worst = worst.max(Duration::from_secs(*seconds)),
            _ => {
                return Err(StoreError::Data {
                    label: tx.label().to_owned(),
                    message: "this server is a replica whose replication does not run, so nobody knows how far it is behind; \
                              start replication, or reset it"
                        .to_owned(),
                });
            }
        }
    }
    if !channels.is_empty() {
        return Ok(Replication::Behind(worst));
    }
    match replicas(tx).await? {
        0 => Ok(Replication::Alone),
        n => Err(StoreError::Data {
            label: tx.label().to_owned(),
            message: format!(
                "{n} replicas follow this server, and a primary does not know how far they are behind; give \
                 pauseWhen.query on a heartbeat table instead of replicationLag"
            ),
        }),
    }
}

/// Replicas that are connected. MariaDB counts them; MySQL lists their connections to those who may see all.
async fn replicas(tx: &mut Tx) -> Result<u64> {
    if let Some(connected) = tx.status("Slaves_connected").await? {
        return Ok(connected);
    }
    let rows = tx.verbatim("SHOW REPLICAS").await.map_err(|error| match error {
        StoreError::Privilege { label, message } => StoreError::Privilege {
            label,
            message: format!(
                "{message}; GRANT REPLICATION SLAVE ON *.* to the worker's user, to see whether it has replicas"
            ),
        },
        other => other,
    })?;
    Ok(rows.len() as u64)
}
