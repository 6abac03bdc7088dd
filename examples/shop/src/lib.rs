//! The example application: an HTTP service of orders that writes through the dual-write library, and the load
//! generator and audit that show that nothing is lost.

pub mod audit;
pub mod config;
pub mod content;
pub mod http;
pub mod load;
pub mod orders;
pub mod record;
pub mod table;

/// The library installs no TLS provider; a program's `main` does, first of all.
pub fn install_tls() -> Result<(), &'static str> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| "another TLS provider is installed already; install aws-lc-rs alone, first in main")
}

/// Logs to standard error; `RUST_LOG` says what.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}
