//! `Database`: one pool of alike sessions; opens transactions.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::{AssertSqlSafe, MySqlPool, PgPool};

use super::classify::{classify, classify_connect};
use super::mysql::Flavour;
use super::tx::{Inner, Tx};
use super::{ConnectConfig, Engine, Result, StoreError, TableSchema, TxOptions};
use crate::rows::Value;

/// How long the first contact may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A database; cloning it is cheap, clones share the pool.
#[derive(Clone)]
pub struct Database {
    pub(crate) pool: Pool,
    pub(crate) label: Arc<str>,
    max_connections: u32,
}

#[derive(Clone)]
pub(crate) enum Pool {
    MySql {
        pool: MySqlPool,
        flavour: Arc<OnceLock<Flavour>>,
        options: Box<sqlx::mysql::MySqlConnectOptions>,
    },
    Postgres {
        pool: PgPool,
        options: Box<sqlx::postgres::PgConnectOptions>,
    },
    #[cfg(feature = "sqlite")]
    Sqlite {
        pool: sqlx::SqlitePool,
        options: Box<sqlx::sqlite::SqliteConnectOptions>,
        /// Whose turn it is to write.
        turn: Arc<tokio::sync::Semaphore>,
    },
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("label", &self.label)
            .field("engine", &self.engine())
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Connects once to say clearly what is wrong, if anything is.
    pub async fn connect(config: &ConnectConfig) -> Result<Database> {
        let database = Database::lazy(config)?;
        database.ping().await?;
        Ok(database)
    }

    /// Without a first contact: for a process that must start while this database is away.
    pub fn lazy(config: &ConnectConfig) -> Result<Database> {
        let parts = config.parts()?;
        if let Some(ca) = &config.ca
            && let Err(e) = std::fs::metadata(ca)
        {
            return Err(StoreError::Config {
                label: config.label.clone(),
                message: format!("the CA certificate file cannot be read: {e}"),
            });
        }
        let pool = match parts.engine {
            Engine::MySql => {
                let options = super::mysql::options(config, &parts);
                let (pool, flavour) = super::mysql::pool(config, options.clone());
                Pool::MySql {
                    pool,
                    flavour,
                    options: Box::new(options),
                }
            }
            Engine::Postgres => {
                let options = super::postgres::options(config, &parts);
                Pool::Postgres {
                    pool: super::postgres::pool(config, options.clone()),
                    options: Box::new(options),
                }
            }
            #[cfg(feature = "sqlite")]
            Engine::Sqlite => {
                super::sqlite::exists(&parts.database).map_err(|message| StoreError::Config {
                    label: config.label.clone(),
                    message,
                })?;
                let options = super::sqlite::options(&parts);
                Pool::Sqlite {
                    pool: super::sqlite::pool(config, options.clone()),
                    options: Box::new(options),
                    turn: Arc::new(tokio::sync::Semaphore::new(1)),
                }
            }
            #[cfg(not(feature = "sqlite"))]
            Engine::Sqlite => {
                return Err(StoreError::Config {
                    label: config.label.clone(),
                    message:
                        "SQLite is for runs from a shell (`datamigration copy` and `verify`); use MySQL or PostgreSQL"
                            .to_owned(),
                });
            }
        };
        Ok(Database {
            pool,
            label: config.label.as_str().into(),
            max_connections: config.max_connections.max(1),
        })
    }

    pub fn engine(&self) -> Engine {
        match self.pool {
            Pool::MySql { .. } => Engine::MySql,
            Pool::Postgres { .. } => Engine::Postgres,
            #[cfg(feature = "sqlite")]
            Pool::Sqlite { .. } => Engine::Sqlite,
        }
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether both are the same SQLite file, by whatever path.
    pub fn is_same_file(&self, other: &Database) -> bool {
        #[cfg(feature = "sqlite")]
        if let (Pool::Sqlite { options: a, .. }, Pool::Sqlite { options: b, .. }) = (&self.pool, &other.pool) {
            let real = |path: &std::path::Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            return real(a.get_filename()) == real(b.get_filename());
        }
        let _ = other;
        false
    }

    /// A new connection, opened and closed: the clearest answer to "can it be reached".
    pub async fn ping(&self) -> Result<()> {
        let attempt = async {
            match &self.pool {
                Pool::MySql { options, .. } => super::mysql::try_connect(options).await,
                Pool::Postgres { options, .. } => super::postgres::try_connect(options).await,
                #[cfg(feature = "sqlite")]
                Pool::Sqlite { options, .. } => super::sqlite::try_connect(options).await,
            }
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(classify_connect(&self.label, &e)),
            Err(_) => Err(StoreError::Unreachable {
                label: self.label.to_string(),
                message: format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
            }),
        }
    }

    /// Opens a transaction. Connections that died in the pool (the server was restarted) are replaced: nothing was
    /// sent over them that could be lost.
    pub async fn begin(&self, options: TxOptions) -> Result<Tx> {
        let within = options.acquire_timeout;
        match tokio::time::timeout(within, self.begin_fresh(&options)).await {
            Ok(result) => result,
            Err(_) => Err(self.no_connection(within)),
        }
    }

    async fn begin_fresh(&self, options: &TxOptions) -> Result<Tx> {
        let mut stale = 0;
        loop {
            match self.begin_once(options).await {
                Ok(inner) => return Ok(Tx::new(inner, self.label.clone(), *options)),
                Err(e) => {
                    let e = classify(&self.label, &e);
                    // One attempt more than the pool can hold dead connections.
                    if !matches!(e, StoreError::ConnectionLost { .. }) || stale > self.max_connections {
                        return Err(match e {
                            StoreError::ConnectionLost { label, message } => StoreError::Unreachable { label, message },
                            other => other,
                        });
                    }
                    stale += 1;
                }
            }
        }
    }

    async fn begin_once(&self, options: &TxOptions) -> Result<Inner, sqlx::Error> {
        match &self.pool {
            Pool::MySql { pool, flavour, .. } => {
                // The flavour is known once a connection was opened, which acquiring does.
                let conn = pool.acquire().await?;
                let sql = super::mysql::begin_sql(*flavour.get().unwrap_or(&Flavour::MariaDb), options);
                let sql = sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(sql));
                unbroken(sqlx::Transaction::begin(conn, Some(sql)))
                    .await
                    .map(Inner::MySql)
            }
            Pool::Postgres { pool, .. } => {
                let conn = pool.acquire().await?;
                let sql = sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(super::postgres::begin_sql(options)));
                unbroken(sqlx::Transaction::begin(conn, Some(sql)))
                    .await
                    .map(Inner::Postgres)
            }
            #[cfg(feature = "sqlite")]
            Pool::Sqlite { pool, turn, .. } => super::sqlite::begin(pool, turn, options).await.map(Inner::Sqlite),
        }
    }

    fn no_connection(&self, within: Duration) -> StoreError {
        let (size, idle) = match &self.pool {
            Pool::MySql { pool, .. } => (pool.size(), pool.num_idle()),
            Pool::Postgres { pool, .. } => (pool.size(), pool.num_idle()),
            #[cfg(feature = "sqlite")]
            Pool::Sqlite { .. } => {
                return StoreError::LockTimeout {
                    label: self.label.to_string(),
                    message: format!("other transactions held the file for {} ms", within.as_millis()),
                };
            }
        };
        let label = self.label.to_string();
        if size >= self.max_connections && idle == 0 {
            let message = format!("all {size} connections were busy for {} ms", within.as_millis());
            StoreError::Timeout { label, message }
        } else {
            StoreError::Unreachable {
                label,
                message: format!("no answer within {} ms", within.as_millis()),
            }
        }
    }

    /// The database's own clock: canonical UTC with 6 digits.
    pub async fn clock(&self) -> Result<String> {
        let mut tx = self.begin(TxOptions::read_only()).await?;
        let now = tx.clock().await?;
        tx.rollback().await;
        Ok(now)
    }

    /// The table's shape; `None` when there is no such table (views are none).
    pub async fn table(&self, name: &str) -> Result<Option<TableSchema>> {
        let mut tx = self.begin(TxOptions::read_only()).await?;
        let schema = tx.table(name).await?;
        tx.rollback().await;
        Ok(schema)
    }

    /// One statement in a transaction of its own, committed.
    pub async fn execute(&self, sql: &str, binds: &[Value]) -> Result<u64> {
        let mut tx = self.begin(TxOptions::default()).await?;
        let affected = tx.execute(sql, binds).await?;
        tx.commit().await.map_err(super::CommitError::into_inner)?;
        Ok(affected)
    }

    /// One query in a transaction of its own.
    pub async fn query(&self, sql: &str, binds: &[Value]) -> Result<Vec<Vec<Value>>> {
        let mut tx = self.begin(TxOptions::read_only()).await?;
        let rows = tx.query(sql, binds).await?;
        tx.rollback().await;
        Ok(rows)
    }

    /// One statement in no transaction, for as long as it takes: what PostgreSQL refuses to do inside one. Lock waits are
    /// bounded. Runs to its end even when nobody waits for it any more.
    pub async fn execute_alone(&self, sql: &str, lock_timeout: Duration) -> Result<()> {
        let Pool::Postgres { pool, .. } = &self.pool else {
            let options = TxOptions {
                lock_timeout,
                ..TxOptions::default()
            };
            let mut tx = self.begin(options).await?;
            tx.execute(sql, &[]).await?;
            return tx.commit().await.map_err(super::CommitError::into_inner);
        };
        let (pool, label) = (pool.clone(), self.label.clone());
        let limits = format!(
            "SET lock_timeout = {}; SET statement_timeout = 0",
            lock_timeout.as_millis()
        );
        let sql = sql.to_owned();
        let alone = async move {
            let mut connection = pool.acquire().await?;
            sqlx::raw_sql(AssertSqlSafe(limits)).execute(&mut *connection).await?;
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
            Ok(())
        };
        unbroken(alone).await.map_err(|e| classify(&label, &e))
    }

    /// Before a run writes to this database. A SQLite file gets a write-ahead log, for good: with a rollback journal whoever
    /// reads keeps a writer from committing, and a writer that waits for its commit keeps everybody from reading.
    #[cfg(feature = "sqlite")]
    pub async fn prepare_to_write(&self) -> Result<()> {
        if let Pool::Sqlite { options, .. } = &self.pool {
            let mode = super::sqlite::write_ahead(options)
                .await
                .map_err(|e| classify(&self.label, &e))?;
            if !mode.eq_ignore_ascii_case("wal") {
                return Err(StoreError::Config {
                    label: self.label.to_string(),
                    message: format!(
                        "the file keeps its journal mode {mode} and takes no write-ahead log, which a run that writes needs; put \
                         it on a local disk"
                    ),
                });
            }
        }
        Ok(())
    }

    /// Closes the pool; transactions under way are finished first.
    pub async fn close(&self) {
        match &self.pool {
            Pool::MySql { pool, .. } => pool.close().await,
            Pool::Postgres { pool, .. } => pool.close().await,
            #[cfg(feature = "sqlite")]
            Pool::Sqlite { pool, .. } => pool.close().await,
        }
    }
}

/// Runs to its end even when nobody waits for it any more, and then rolls back. A BEGIN that is dropped on its way gives
/// its connection back to the pool inside a transaction of which the driver knows nothing: the next one would be part of
/// it, read-only perhaps.
pub(super) async fn unbroken<T: Send + 'static>(
    begin: impl Future<Output = Result<T, sqlx::Error>> + Send + 'static,
) -> Result<T, sqlx::Error> {
    tokio::spawn(begin).await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}
