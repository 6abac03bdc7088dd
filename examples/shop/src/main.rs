//! The shop service: reads its settings, starts the dual-write library, serves HTTP, and on SIGTERM ends in order.

use std::time::Duration;

use clap::Parser;
use shop::config::Config;
use shop::{http, orders::Orders};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    shop::log();
    match serve(Config::parse()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the shop cannot go on");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    shop::install_tls()?;
    let library = config.library()?.start();
    let orders = Orders::new(library.clone(), config.clock_shift_ms);
    let listener = tokio::net::TcpListener::bind(config.listen).await?;
    tracing::info!(address = %listener.local_addr()?, pod = %config.pod_name, "listening");
    axum::serve(listener, http::router(orders, config.test_endpoints))
        .with_graceful_shutdown(told_to_stop(Duration::from_millis(config.linger_ms)))
        .await?;
    library.close().await;
    tracing::info!("ended in order");
    Ok(())
}

/// A pod that is told to end is still sent requests until every node has heard of it: it answers them.
async fn told_to_stop(linger: Duration) {
    terminated().await;
    tokio::time::sleep(linger).await;
}

/// SIGTERM, as the kubelet sends it, or Ctrl-C.
async fn terminated() {
    let interrupt = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt => {}
            }
        }
        Err(_) => drop(interrupt.await),
    }
}
