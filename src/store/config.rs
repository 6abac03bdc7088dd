//! How to reach a database: URL (never printed), TLS, pool, and the options of one transaction.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::StoreError;

/// `MySql` is also MariaDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Engine {
    MySql,
    Postgres,
    /// A file; only in runs from a shell.
    Sqlite,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::MySql => "MySQL",
            Engine::Postgres => "PostgreSQL",
            Engine::Sqlite => "SQLite",
        })
    }
}

/// A connection URL. Neither `Debug` nor any error shows it: it holds a password.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    pub fn new(url: impl Into<String>) -> Self {
        SecretUrl(url.into().trim().to_owned())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretUrl(..)")
    }
}

impl From<&str> for SecretUrl {
    fn from(s: &str) -> Self {
        SecretUrl::new(s)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TlsMode {
    /// The certificate's issuer and the host's name are checked.
    #[default]
    VerifyFull,
    /// The certificate's issuer is checked.
    VerifyCa,
    Disabled,
}

#[derive(Debug, Clone)]
pub struct ConnectConfig {
    pub url: SecretUrl,
    pub tls: TlsMode,
    /// PEM file; without it the public roots are trusted.
    pub ca: Option<PathBuf>,
    pub max_connections: u32,
    /// For errors: "source/main".
    pub label: String,
    /// Shown by the database's process list where it has a place for it.
    pub application: String,
}

impl ConnectConfig {
    /// The engine that the URL's scheme names.
    pub fn engine(&self) -> Result<Engine, StoreError> {
        self.parts().map(|p| p.engine)
    }

    pub(crate) fn parts(&self) -> Result<UrlParts, StoreError> {
        let config = |message: &str| StoreError::Config {
            label: self.label.clone(),
            message: message.to_owned(),
        };
        let shape = "expected mysql://USER:PASSWORD@HOST:PORT/DATABASE or postgres://USER:PASSWORD@HOST:PORT/DATABASE, \
                     or sqlite:///DIRECTORY/FILE where a run from a shell takes it";
        let url = url::Url::parse(self.url.expose())
            .map_err(|e| config(&format!("the connection URL cannot be read ({e}); {shape}")))?;
        let engine = match url.scheme() {
            "mysql" | "mariadb" => Engine::MySql,
            "postgres" | "postgresql" => Engine::Postgres,
            "sqlite" => Engine::Sqlite,
            _ => return Err(config(&format!("the connection URL has an unknown scheme; {shape}"))),
        };
        let decoded = |s: &str| percent_decode(s).ok_or_else(|| config("the connection URL has a broken % escape"));
        if engine == Engine::Sqlite {
            return super::sqlite_url::parts(&url).map_err(|why| config(&why));
        }
        let host = url
            .host_str()
            .filter(|h| !h.is_empty())
            .ok_or_else(|| config(&format!("the connection URL names no host; {shape}")))?;
        let database = decoded(url.path().trim_start_matches('/'))?;
        if database.is_empty() {
            return Err(config(&format!("the connection URL names no database; {shape}")));
        }
        Ok(UrlParts {
            engine,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(match engine {
                Engine::MySql => 3306,
                Engine::Postgres => 5432,
                Engine::Sqlite => 0,
            }),
            user: decoded(url.username())?,
            password: url.password().map(decoded).transpose()?,
            database,
        })
    }
}

pub(crate) struct UrlParts {
    pub engine: Engine,
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
}

pub(super) fn percent_decode(s: &str) -> Option<String> {
    let mut out = Vec::with_capacity(s.len());
    let mut bytes = s.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let pair = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

/// Options of one transaction. The isolation is always READ COMMITTED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxOptions {
    /// How long a statement waits for a lock. MySQL knows whole seconds only: there a shorter wait also needs
    /// `statement_timeout`.
    pub lock_timeout: Duration,
    /// Most that any one statement may take. The client gives up a little later by itself, for servers that hang.
    pub statement_timeout: Option<Duration>,
    pub read_only: bool,
    /// How long to wait for a connection.
    pub acquire_timeout: Duration,
}

impl Default for TxOptions {
    fn default() -> Self {
        TxOptions {
            lock_timeout: Duration::from_secs(5),
            statement_timeout: None,
            read_only: false,
            acquire_timeout: Duration::from_secs(5),
        }
    }
}

impl TxOptions {
    pub fn read_only() -> Self {
        TxOptions {
            read_only: true,
            ..TxOptions::default()
        }
    }

    /// Every wait of the transaction bounded by one duration: what a follower gets.
    pub fn bounded(most: Duration) -> Self {
        TxOptions {
            lock_timeout: most,
            statement_timeout: Some(most),
            read_only: false,
            acquire_timeout: most,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> ConnectConfig {
        ConnectConfig {
            url: url.into(),
            tls: TlsMode::Disabled,
            ca: None,
            max_connections: 1,
            label: "source/main".into(),
            application: "test".into(),
        }
    }

    #[test]
    fn a_url_is_taken_apart() {
        let p = config("mysql://us%40er:p%2Fw@db.example:3307/shop").parts().unwrap();
        assert_eq!((p.engine, p.host.as_str(), p.port), (Engine::MySql, "db.example", 3307));
        assert_eq!(
            (p.user.as_str(), p.password.as_deref(), p.database.as_str()),
            ("us@er", Some("p/w"), "shop")
        );
        let p = config("postgresql://u@[::1]/d").parts().unwrap();
        assert_eq!(
            (p.engine, p.host.as_str(), p.port, p.password),
            (Engine::Postgres, "::1", 5432, None)
        );
    }

    #[test]
    fn nothing_shows_the_password() {
        for url in [
            "mysql://u:hunter2@h:99999/d",
            "redis://u:hunter2@h/d",
            "mysql://u:hunter2@h",
            "mysql://u:hunter2%zz@h/d",
            "hunter2",
        ] {
            let c = config(url);
            let Err(e) = c.parts() else {
                panic!("a broken URL was taken")
            };
            assert!(!format!("{e} {e:?} {c:?}").contains("hunter2"), "{e}");
            assert!(e.to_string().contains("source/main"), "{e}");
        }
    }
}
