//! A database of one test: created empty under a random name, reached by an unprivileged owner over verified TLS.

use std::path::PathBuf;

use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use url::Url;

use super::sequences::without_sequence_tables;
use super::servers::{Servers, on_mysql};

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    MariaDb,
    Postgres,
}

impl Kind {
    /// The word that the script and the env file use.
    pub fn word(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::Postgres => "postgres",
        }
    }
}

#[derive(Clone)]
pub struct TestDatabase {
    pub kind: Kind,
    pub name: String,
    /// As the application and the workers use it: user, password, host, port, database.
    pub url: String,
    /// The same database as a user who may do everything.
    pub admin_url: String,
    pub ca: PathBuf,
}

impl TestDatabase {
    pub(super) async fn create(servers: &'static Servers, kind: Kind) -> Self {
        let prefix = kind.word().to_uppercase();
        let name = format!("t{:016x}", rand::random::<u64>());
        let into = |key: &str| {
            let mut url = Url::parse(servers.setting(&format!("{prefix}_{key}"))).expect("a URL in the env file");
            url.set_path(&name);
            url.to_string()
        };
        let database = Self {
            kind,
            url: into("URL"),
            admin_url: into("ADMIN_URL"),
            ca: servers.ca(),
            name,
        };
        let system = servers.setting(&format!("{prefix}_ADMIN_URL"));
        let name = &database.name;
        match kind {
            Kind::MariaDb => {
                let sql = format!("CREATE DATABASE {name}; GRANT ALL PRIVILEGES ON {name}.* TO 'orders'@'%'");
                database.run(system, &sql).await;
            }
            Kind::Postgres => {
                database
                    .run(system, &format!("CREATE DATABASE {name} OWNER orders"))
                    .await;
            }
        }
        database
    }

    /// Runs statements (separated by `;`) as the owner; panics with the database's message when one fails.
    pub async fn execute(&self, sql: &str) {
        self.run(&self.url, sql).await;
    }

    /// Runs statements as the administrator.
    pub async fn execute_as_admin(&self, sql: &str) {
        self.run(&self.admin_url, sql).await;
    }

    /// As [`Self::execute`], for statements that are expected to be refused: the database's own message.
    pub async fn try_execute(&self, sql: &str) -> Result<(), String> {
        self.try_run(&self.url, sql).await.map_err(|error| error.to_string())
    }

    /// The first column of every row, as text; the statement casts it (`CAST(x AS CHAR)`, `x::text`) where it is not.
    pub async fn texts(&self, sql: &str) -> Vec<Option<String>> {
        let sql = self.spelled(sql);
        match self.kind {
            Kind::MariaDb => {
                let mut connection = self.mysql(&self.url).await.expect("a connection");
                sqlx::query_scalar(sql).fetch_all(&mut connection).await.expect("texts")
            }
            Kind::Postgres => {
                let mut connection = self.postgres(&self.url).await.expect("a connection");
                sqlx::query_scalar(sql).fetch_all(&mut connection).await.expect("texts")
            }
        }
    }

    /// One number, such as `SELECT COUNT(*) FROM orders`.
    pub async fn number(&self, sql: &str) -> i64 {
        let sql = self.spelled(sql);
        match self.kind {
            Kind::MariaDb => {
                let mut connection = self.mysql(&self.url).await.expect("a connection");
                sqlx::query_scalar(sql)
                    .fetch_one(&mut connection)
                    .await
                    .expect("a number")
            }
            Kind::Postgres => {
                let mut connection = self.postgres(&self.url).await.expect("a connection");
                sqlx::query_scalar(sql)
                    .fetch_one(&mut connection)
                    .await
                    .expect("a number")
            }
        }
    }

    async fn mysql(&self, url: &str) -> Result<sqlx::MySqlConnection, sqlx::Error> {
        let options: MySqlConnectOptions = url.parse()?;
        options
            .ssl_mode(MySqlSslMode::VerifyIdentity)
            .ssl_ca(&self.ca)
            .connect()
            .await
    }

    async fn postgres(&self, url: &str) -> Result<sqlx::PgConnection, sqlx::Error> {
        let options: PgConnectOptions = url.parse()?;
        options
            .ssl_mode(PgSslMode::VerifyFull)
            .ssl_root_cert(&self.ca)
            .connect()
            .await
    }

    async fn run(&self, url: &str, sql: &str) {
        self.try_run(url, sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// A statement of a test's own, as this server has it.
    fn spelled(&self, sql: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(if self.kind == Kind::MariaDb && on_mysql() {
            without_sequence_tables(sql)
        } else {
            sql.to_owned()
        })
    }

    async fn try_run(&self, url: &str, sql: &str) -> Result<(), sqlx::Error> {
        let sql = self.spelled(sql);
        match self.kind {
            Kind::MariaDb => {
                let mut connection = self.mysql(url).await?;
                sqlx::raw_sql(sql).execute(&mut connection).await?;
                connection.close().await
            }
            Kind::Postgres => {
                let mut connection = self.postgres(url).await?;
                sqlx::raw_sql(sql).execute(&mut connection).await?;
                connection.close().await
            }
        }
    }
}
