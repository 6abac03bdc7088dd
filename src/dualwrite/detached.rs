//! Work on a database that is given up but never cut off: a driver's future that is dropped between a question and its
//! answer leaves a connection behind which the pool may wait for without end.

use std::future::Future;
use std::time::Duration;

/// Runs to its end in a task of its own and is waited for at most this long. What comes later is dropped: an open
/// transaction is rolled back then.
pub(super) async fn within<T: Send + 'static>(
    most: Duration,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    match tokio::time::timeout(most, tokio::spawn(work)).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(_)) | Err(_) => None,
    }
}
