//! The shop's settings, from environment variables as a Deployment gives them. URLs hold passwords: they come from
//! mounted files or from the environment, never from arguments.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use datamigration::dualwrite::{Builder, DualWrite, Identity, TableDefinition};
use datamigration::store::{ConnectConfig, SecretUrl, TlsMode};

#[derive(Debug, Clone, Parser)]
#[command(
    version,
    about = "An HTTP service of orders that writes through the dual-write library"
)]
pub struct Config {
    /// Where the service listens.
    #[arg(long, env = "SHOP_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Directory where the ConfigMap with the mode is mounted.
    #[arg(long, env = "SHOP_MODE_DIR", default_value = "/etc/shop/mode")]
    pub mode_dir: PathBuf,
    /// File with the source's URL; without it SHOP_SOURCE_URL is taken.
    #[arg(long, env = "SHOP_SOURCE_URL_FILE")]
    pub source_url_file: Option<PathBuf>,
    /// File with the target's URL; without it SHOP_TARGET_URL is taken.
    #[arg(long, env = "SHOP_TARGET_URL_FILE")]
    pub target_url_file: Option<PathBuf>,
    /// CA certificate of the source, in PEM.
    #[arg(long, env = "SHOP_SOURCE_CA_FILE")]
    pub source_ca_file: Option<PathBuf>,
    /// CA certificate of the target, in PEM.
    #[arg(long, env = "SHOP_TARGET_CA_FILE")]
    pub target_ca_file: Option<PathBuf>,
    /// How certificates are checked.
    #[arg(long, env = "SHOP_TLS", value_enum, default_value_t = Tls::VerifyFull)]
    pub tls: Tls,
    /// Connections to each database.
    #[arg(long, env = "SHOP_CONNECTIONS", default_value_t = 16)]
    pub connections: u32,
    /// This pod's name (downward API: metadata.name).
    #[arg(long, env = "POD_NAME", default_value = "shop")]
    pub pod_name: String,
    /// This pod's UID (downward API: metadata.uid).
    #[arg(long, env = "POD_UID", default_value = "")]
    pub pod_uid: String,
    /// Milliseconds that this replica's application clock is ahead; negative: behind.
    #[arg(long, env = "SHOP_CLOCK_SHIFT_MS", default_value_t = 0, allow_hyphen_values = true)]
    pub clock_shift_ms: i64,
    /// Milliseconds that the shop goes on serving after SIGTERM, until the cluster sends it no new requests.
    #[arg(long, env = "SHOP_LINGER_MS", default_value_t = 1500)]
    pub linger_ms: u64,
    /// Opens POST /test/clock, by which a test shifts the application clock.
    #[arg(long, env = "SHOP_TEST_ENDPOINTS", default_value_t = false)]
    pub test_endpoints: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tls {
    #[value(name = "VerifyFull")]
    VerifyFull,
    #[value(name = "VerifyCA")]
    VerifyCa,
    #[value(name = "Disabled")]
    Disabled,
}

impl From<Tls> for TlsMode {
    fn from(tls: Tls) -> Self {
        match tls {
            Tls::VerifyFull => Self::VerifyFull,
            Tls::VerifyCa => Self::VerifyCa,
            Tls::Disabled => Self::Disabled,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{variable} names {path}, which cannot be read: {source}; mount the Secret there")]
    UrlFile {
        variable: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
}

/// A URL from a file, or from an environment variable; neither: this side is not configured.
pub fn url(file: Option<&PathBuf>, variable: &'static str) -> Result<Option<SecretUrl>, ConfigError> {
    match file {
        Some(path) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(SecretUrl::new(text))),
            Err(source) => Err(ConfigError::UrlFile {
                variable,
                path: path.clone(),
                source,
            }),
        },
        None => Ok(std::env::var(variable)
            .ok()
            .filter(|text| !text.is_empty())
            .map(SecretUrl::new)),
    }
}

/// How the library knows the shop's table.
pub fn orders() -> TableDefinition {
    TableDefinition::new("orders", ["id"], "updated_at")
}

impl Config {
    pub fn library(&self) -> Result<Builder, ConfigError> {
        let identity = Identity {
            pod: self.pod_name.clone(),
            // Outside a cluster there is no UID; the name has to do.
            pod_uid: if self.pod_uid.is_empty() {
                self.pod_name.clone()
            } else {
                self.pod_uid.clone()
            },
            // In a container always the same: a restarted one takes the place of the one that ended.
            process: format!("shop-{}", std::process::id()),
        };
        let connect = |url: SecretUrl, ca: &Option<PathBuf>, label: &str| ConnectConfig {
            url,
            tls: self.tls.into(),
            ca: ca.clone(),
            max_connections: self.connections,
            label: label.to_owned(),
            application: format!("shop {}", self.pod_name),
        };
        let mut builder = DualWrite::builder(&self.mode_dir, identity).table(orders());
        if let Some(url) = self::url(self.source_url_file.as_ref(), "SHOP_SOURCE_URL")? {
            builder = builder.source(connect(url, &self.source_ca_file, "source/main"));
        }
        if let Some(url) = self::url(self.target_url_file.as_ref(), "SHOP_TARGET_URL")? {
            builder = builder.target(connect(url, &self.target_ca_file, "target/main"));
        }
        Ok(builder)
    }
}
