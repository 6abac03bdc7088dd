//! How fast a worker goes by itself: the waits between attempts, and the size of a batch that keeps its transaction
//! short. Pure but for the clock that is passed in.

use backon::BackoffBuilder;
use std::time::{Duration, Instant};

/// Growing waits with jitter between attempts at the same thing; reset by success.
#[derive(Debug)]
pub struct Waits {
    shape: backon::ExponentialBuilder,
    next: backon::ExponentialBackoff,
    /// When the first of the present row of failures was.
    since: Option<Instant>,
}

impl Default for Waits {
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(10))
    }
}

impl Waits {
    /// Waits that start at `first` and never grow past `longest` (jitter included twice that).
    pub fn new(first: Duration, longest: Duration) -> Self {
        let shape = backon::ExponentialBuilder::default()
            .with_min_delay(first)
            .with_max_delay(longest)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times();
        Self {
            shape,
            next: shape.build(),
            since: None,
        }
    }

    /// The next wait, and how long the failures have lasted.
    pub fn failed(&mut self, now: Instant) -> (Duration, Duration) {
        let since = *self.since.get_or_insert(now);
        // The shape has no end; a day is a bound that is never taken.
        let wait = self.next.next().unwrap_or(Duration::from_hours(24));
        (wait, now.saturating_duration_since(since))
    }

    /// It worked: the next failure starts from the shortest wait.
    pub fn worked(&mut self) {
        if self.since.take().is_some() {
            self.next = self.shape.build();
        }
    }
}

/// Rows per batch, kept so that a batch's transaction lasts at most its target: an application's second write waits
/// no longer for a row that the copier holds.
#[derive(Debug, Clone)]
pub struct BatchSize {
    rows: u32,
    most: u32,
    target: Duration,
}

impl BatchSize {
    /// Starts small and grows to `most` while batches stay well under `target`.
    pub fn new(most: u32, target: Duration) -> Self {
        Self {
            rows: most.min(100),
            most: most.max(1),
            target,
        }
    }

    /// How many rows the next batch may hold.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Learns from a batch that was (about) full: too slow halves (or scales down further), well under the target grows by half.
    pub fn took(&mut self, rows: u32, took: Duration) {
        if took > self.target {
            let share = self.target.as_secs_f64() / took.as_secs_f64();
            self.rows = ((f64::from(rows) * share * 0.8) as u32).clamp(1, self.most);
        } else if u64::from(rows) * 5 >= u64::from(self.rows) * 4 && took * 2 < self.target {
            self.rows = (self.rows + self.rows / 2 + 1).min(self.most);
        }
    }

    /// A batch that ran into a lock timeout or a deadlock held too many rows.
    pub fn collided(&mut self) {
        self.rows = (self.rows / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_start_again_after_success() {
        let mut waits = Waits::new(Duration::from_millis(10), Duration::from_millis(80));
        let start = Instant::now();
        let grown: Vec<Duration> = (0..8).map(|_| waits.failed(start).0).collect();
        assert!(grown[0] < Duration::from_millis(21), "{grown:?}");
        assert!(
            grown[7] >= Duration::from_millis(80) && grown[7] <= Duration::from_millis(160),
            "{grown:?}"
        );
        let lasted = waits.failed(start + Duration::from_secs(7)).1;
        assert_eq!(lasted, Duration::from_secs(7));
        waits.worked();
        assert!(waits.failed(start).0 < Duration::from_millis(21));
    }

    #[test]
    fn a_batch_that_is_too_slow_shrinks_below_its_target() {
        let mut size = BatchSize::new(1_000, Duration::from_millis(250));
        for _ in 0..20 {
            let rows = size.rows();
            size.took(rows, Duration::from_millis(u64::from(rows)));
        }
        assert!(size.rows() <= 250 && size.rows() >= 100, "{size:?}");
        size.collided();
        assert!(size.rows() <= 125);
    }

    #[test]
    fn a_short_last_batch_teaches_nothing_about_larger_ones() {
        let mut size = BatchSize::new(1_000, Duration::from_millis(250));
        let before = size.rows();
        size.took(1, Duration::from_millis(1));
        assert_eq!(size.rows(), before);
    }
}
