//! The circuit breaker before the follower: after some failures in a row second writes are not tried but queued, so
//! that a follower which hangs does not hold the base's locks for its whole timeout on every request. One request per
//! pause tries again.

use std::sync::Mutex;
use std::time::{Duration, Instant};

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
}
