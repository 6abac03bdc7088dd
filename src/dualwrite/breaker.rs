//! The circuit breaker before the follower: after some failures in a row second writes are not tried but queued, so
//! that a follower which hangs does not hold the base's locks for its whole timeout on every request. One request per
//! pause tries again. Every follower shard has its own.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::words::Side;

/// A breaker for each database of both sides, by the first shard that lies there.
#[derive(Debug)]
pub(super) struct Breakers(HashMap<(Side, usize), Breaker>);

impl Breakers {
    pub fn new(databases: impl IntoIterator<Item = (Side, usize)>, threshold: u32, pause: Duration) -> Self {
        let breaker = |database| (database, Breaker::new(threshold, pause));
        Self(databases.into_iter().map(breaker).collect())
    }

    pub fn allows(&self, side: Side, database: usize, now: Instant) -> bool {
        self.0.get(&(side, database)).is_none_or(|breaker| breaker.allows(now))
    }

    pub fn succeeded(&self, side: Side, database: usize) {
        if let Some(breaker) = self.0.get(&(side, database)) {
            breaker.succeeded();
        }
    }

    /// Returns whether this failure opened it.
    pub fn failed(&self, side: Side, database: usize, now: Instant) -> bool {
        self.0.get(&(side, database)).is_some_and(|breaker| breaker.failed(now))
    }
}

#[derive(Debug)]
pub struct Breaker {
    threshold: u32,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// When the last try was let through while open; `None` is closed.
    open_since: Option<Instant>,
}

impl Breaker {
    pub fn new(threshold: u32, pause: Duration) -> Self {
        Self {
            threshold: threshold.max(1),
            pause,
            state: Mutex::default(),
        }
    }

    /// Whether to try now. While open this lets one caller through per pause.
    pub fn allows(&self, now: Instant) -> bool {
        let mut state = self.lock();
        match state.open_since {
            None => true,
            Some(since) if now.duration_since(since) >= self.pause => {
                state.open_since = Some(now);
                true
            }
            Some(_) => false,
        }
    }

    pub fn succeeded(&self) {
        *self.lock() = State::default();
    }

    /// Returns whether this failure opened it.
    pub fn failed(&self, now: Instant) -> bool {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures < self.threshold {
            return false;
        }
        let opened = state.open_since.is_none();
        state.open_since = Some(now);
        opened
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held; were it so, the counts would still be counts.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_the_threshold_and_lets_one_through_per_pause() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let breaker = Breaker::new(3, Duration::from_secs(1));
        assert!(!breaker.failed(at(0)));
        assert!(!breaker.failed(at(1)));
        assert!(breaker.allows(at(1)), "closed below the threshold");
        assert!(breaker.failed(at(2)), "the third failure opens it");
        assert!(!breaker.allows(at(500)));
        assert!(breaker.allows(at(1002)), "one try after the pause");
        assert!(!breaker.allows(at(1003)), "and only one");
        assert!(!breaker.failed(at(1100)), "it was open already");
        assert!(!breaker.allows(at(2050)));
        assert!(breaker.allows(at(2100)));
        breaker.succeeded();
        assert!(breaker.allows(at(2101)) && breaker.allows(at(2102)), "closed again");
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let now = Instant::now();
        let breaker = Breaker::new(2, Duration::from_secs(1));
        breaker.failed(now);
        breaker.succeeded();
        assert!(!breaker.failed(now));
        assert!(breaker.allows(now));
    }

    #[test]
    fn one_shard_that_fails_does_not_stop_the_others() {
        let now = Instant::now();
        let shards = [(Side::Target, 0), (Side::Target, 1), (Side::Source, 0)];
        let breakers = Breakers::new(shards, 1, Duration::from_secs(1));
        assert!(breakers.failed(Side::Target, 1, now));
        let open = shards.map(|(side, shard)| breakers.allows(side, shard, now));
        assert_eq!(open, [true, false, true]);
        breakers.succeeded(Side::Target, 1);
        assert!(breakers.allows(Side::Target, 1, now));
    }
}
