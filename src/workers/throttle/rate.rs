//! Rows and bytes per second, shared by all connections of a worker: each takes its share of time in advance, and
//! nobody saves up for later. Pure; the clock is passed in.

use std::time::{Duration, Instant};

use crate::api::migration::Limits;

/// One resource's rate.
#[derive(Debug, Clone, Default)]
struct Rate {
    per_second: Option<f64>,
    /// Until then what was taken is being paid for.
    free_at: Option<Instant>,
}

impl Rate {
    /// How long to wait before so much may be used.
    fn take(&mut self, amount: f64, now: Instant) -> Duration {
        let Some(per_second) = self.per_second else {
            return Duration::ZERO;
        };
        let start = self.free_at.map_or(now, |at| at.max(now));
        // A batch is bounded in rows and bytes; a day is a bound that is never taken.
        let cost = Duration::try_from_secs_f64(amount / per_second).unwrap_or(Duration::from_hours(24));
        self.free_at = Some(start + cost);
        start.saturating_duration_since(now)
    }

    fn set(&mut self, per_second: Option<f64>) {
        if self.per_second != per_second {
            *self = Self {
                per_second,
                free_at: None,
            };
        }
    }
}

/// The rates of one worker.
#[derive(Debug, Clone)]
pub struct Pacer {
    rows: Rate,
    bytes: Rate,
    /// How many workers share the limits.
    workers: f64,
    /// Time that was waited since it was last asked for, over all connections.
    waited: Duration,
    /// Until when somebody waits.
    waiting_until: Option<Instant>,
    /// The rate that made the last one wait.
    bound_by: Bound,
}

/// Which rate is the narrower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Rows,
    Bytes,
}

impl Pacer {
    /// This worker's share of the limits.
    pub fn new(limits: &Limits, workers: u32) -> Self {
        let mut pacer = Self {
            rows: Rate::default(),
            bytes: Rate::default(),
            workers: f64::from(workers.max(1)),
            waited: Duration::ZERO,
            waiting_until: None,
            bound_by: Bound::Rows,
        };
        pacer.set(limits);
        pacer
    }

    /// New limits hold from now on; what was taken under the old ones is forgotten.
    pub fn set(&mut self, limits: &Limits) {
        self.rows
            .set(limits.rows_per_second.map(|rows| f64::from(rows) / self.workers));
        self.bytes
            .set(limits.bytes_per_second.map(|bytes| bytes as f64 / self.workers));
        self.waiting_until = None;
    }

    /// How long to wait before a batch may be written.
    pub fn take(&mut self, rows: u32, bytes: u64, now: Instant) -> Duration {
        let for_rows = self.rows.take(f64::from(rows), now);
        let for_bytes = self.bytes.take(bytes as f64, now);
        let wait = for_rows.max(for_bytes);
        if !wait.is_zero() {
            self.bound_by = if for_bytes > for_rows {
                Bound::Bytes
            } else {
                Bound::Rows
            };
            self.waited += wait;
            self.waiting_until = self.waiting_until.max(Some(now + wait));
        }
        wait
    }

    /// Rows of a batch at most: a second's share, so that a new limit is felt within seconds.
    pub fn most_rows(&self) -> u32 {
        self.rows
            .per_second
            .map_or(u32::MAX, |rows| rows.clamp(1.0, f64::from(u32::MAX)) as u32)
    }

    /// Which rate makes somebody wait now, or has made them wait for at least so long since this was last asked.
    pub fn bound(&mut self, at_least: Duration, now: Instant) -> Option<Bound> {
        let waited = std::mem::take(&mut self.waited);
        let waits = self.waiting_until.is_some_and(|until| until > now + at_least);
        (waits || waited >= at_least.max(Duration::from_millis(1))).then_some(self.bound_by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(rows: Option<u32>, bytes: Option<u64>) -> Limits {
        Limits {
            rows_per_second: rows,
            bytes_per_second: bytes,
            ..Limits::default()
        }
    }

    #[test]
    fn the_rate_holds_over_all_who_share_it() {
        let mut pacer = Pacer::new(&limits(Some(1_000), None), 1);
        let now = Instant::now();
        assert_eq!(pacer.take(500, 0, now), Duration::ZERO);
        assert_eq!(pacer.take(500, 0, now), Duration::from_millis(500));
        assert_eq!(pacer.take(1, 0, now), Duration::from_secs(1));
        let second = Duration::from_secs(1);
        assert_eq!(pacer.bound(second, now), Some(Bound::Rows));
        assert_eq!(pacer.bound(second, now), None, "it is asked for once");
        assert_eq!(
            Pacer::new(&limits(None, None), 1).take(1_000_000, 1 << 40, now),
            Duration::ZERO
        );
    }

    #[test]
    fn the_narrower_of_the_two_rates_holds() {
        let mut pacer = Pacer::new(&limits(Some(1_000), Some(10_000)), 1);
        let now = Instant::now();
        pacer.take(100, 20_000, now);
        assert_eq!(pacer.take(1, 1, now), Duration::from_secs(2));
        let (at_least, later) = (Duration::from_millis(500), now + Duration::from_secs(1));
        assert_eq!(pacer.bound(at_least, now), Some(Bound::Bytes));
        assert_eq!(pacer.bound(at_least, later), Some(Bound::Bytes), "it waits still");
        assert_eq!(pacer.bound(at_least, later + Duration::from_secs(1)), None);
    }

    #[test]
    fn a_new_limit_holds_at_once_and_forgets_the_debt() {
        let mut pacer = Pacer::new(&limits(Some(1), None), 1);
        let now = Instant::now();
        pacer.take(1_000, 0, now);
        pacer.set(&limits(Some(1), None));
        assert!(
            pacer.take(1, 0, now) > Duration::from_mins(15),
            "unchanged limits change nothing"
        );
        pacer.set(&limits(Some(1_000), None));
        assert_eq!(pacer.most_rows(), 1_000);
        assert_eq!(pacer.take(1_000, 0, now), Duration::ZERO);
        assert_eq!(pacer.take(1, 0, now), Duration::from_secs(1));
    }

    proptest! {
        /// However many connections take whatever batches: over any stretch of time no more is let through than the rate
        /// allows, but for the one batch that is always let in; and workers that share a limit keep it together.
        #[test]
        fn never_more_than_the_rate(
            batches in proptest::collection::vec((1_u32..2_000, 0_u64..300_000, 0_u64..3_000), 1..60),
            rows in 1_u32..5_000,
            bytes in 1_000_u64..1_000_000,
            workers in 1_u32..5,
        ) {
            let mut pacer = Pacer::new(&limits(Some(rows), Some(bytes)), workers);
            let start = Instant::now();
            let mut now = start;
            let mut let_in = Vec::new();
            for (batch, size, later) in &batches {
                now += Duration::from_millis(*later);
                let wait = pacer.take(*batch, *size, now);
                let_in.push((now + wait, f64::from(*batch), *size as f64));
            }
            let_in.sort_by_key(|(at, _, _)| *at);
            let (mut sum_rows, mut sum_bytes) = (0.0, 0.0);
            for (at, batch, size) in let_in {
                let seconds = at.duration_since(start).as_secs_f64() + 0.001;
                let share = 1.0 / f64::from(workers);
                prop_assert!(sum_rows <= f64::from(rows) * share * seconds + 1.0, "{sum_rows} rows in {seconds} s");
                prop_assert!(sum_bytes <= bytes as f64 * share * seconds + 1.0, "{sum_bytes} bytes in {seconds} s");
                sum_rows += batch;
                sum_bytes += size;
            }
        }
    }
}
