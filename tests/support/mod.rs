//! What the integration tests share: real MariaDB and PostgreSQL servers of the test binary's own, a fresh database per
//! call, and waiting for a condition with a deadline.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used)]
// The watcher outlives this process, which therefore cannot wait for it.
#![allow(clippy::zombie_processes)]

mod database;
pub mod journal;
mod mount;
mod sequences;
mod servers;

pub use database::{Kind, TestDatabase};
pub use mount::Mount;
pub use servers::{Servers, on_mysql, servers, servers_with};

use std::future::Future;
use std::time::{Duration, Instant};

/// Asks `condition` again and again until it is true; panics with `what` when it is not within `deadline`.
pub async fn eventually<C, F>(deadline: Duration, what: &str, mut condition: C)
where
    C: FnMut() -> F,
    F: Future<Output = bool>,
{
    eventually_some(deadline, what, || {
        let holds = condition();
        async move { holds.await.then_some(()) }
    })
    .await;
}

/// As [`eventually`], for a condition that hands something back when it holds.
pub async fn eventually_some<C, F, T>(deadline: Duration, what: &str, mut condition: C) -> T
where
    C: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let began = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(began.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
