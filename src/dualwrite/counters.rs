//! What the library counts, as plain numbers and as Prometheus text.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

#[derive(Debug, Default)]
pub struct Counters {
    pub(super) ok: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) follower_failures: AtomicU64,
    pub(super) queued: AtomicU64,
    pub(super) breaker_opened: AtomicU64,
    pub(super) read_fallbacks: AtomicU64,
    pub(super) spread: AtomicU64,
    pub(super) epoch: AtomicI64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counted {
    /// Writes answered with success.
    pub ok: u64,
    /// Writes that the library did not begin: no mode, read-only, lease over, epoch stale.
    pub refused: u64,
    /// Writes that failed; nothing happened.
    pub failed: u64,
    /// Writes of which nobody knows whether they happened.
    pub unknown: u64,
    /// Attempts beyond a write's first: lost deadlocks, lock timeouts, stale epochs.
    pub retries: u64,
    /// Second writes that failed or were not tried.
    pub follower_failures: u64,
    /// Keys queued for repair.
    pub queued: u64,
    /// How often the circuit breaker opened.
    pub breaker_opened: u64,
    /// Reads that the follower could not answer and the base did.
    pub read_fallbacks: u64,
    /// Writes over several shards of the follower, or begun without a word about the shard: with the sides swapped they would
    /// be refused.
    pub spread: u64,
    /// Epoch of the mode in force; -1 while there is none.
    pub epoch: i64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub fn snapshot(&self) -> Counted {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            ok: read(&self.ok),
            refused: read(&self.refused),
            failed: read(&self.failed),
            unknown: read(&self.unknown),
            retries: read(&self.retries),
            follower_failures: read(&self.follower_failures),
            queued: read(&self.queued),
            breaker_opened: read(&self.breaker_opened),
            read_fallbacks: read(&self.read_fallbacks),
            spread: read(&self.spread),
            epoch: self.epoch.load(Ordering::Relaxed),
        }
    }
}

impl Counted {
    /// The Prometheus text format.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "# TYPE datamigration_writes_total counter");
        for (outcome, count) in [
            ("ok", self.ok),
            ("refused", self.refused),
            ("failed", self.failed),
            ("unknown", self.unknown),
        ] {
            let _ = writeln!(text, "datamigration_writes_total{{outcome=\"{outcome}\"}} {count}");
        }
        for (name, count) in [
            ("write_retries", self.retries),
            ("follower_failures", self.follower_failures),
            ("queued_keys", self.queued),
            ("breaker_opened", self.breaker_opened),
            ("read_fallbacks", self.read_fallbacks),
            ("spread_writes", self.spread),
        ] {
            let _ = writeln!(
                text,
                "# TYPE datamigration_{name}_total counter\ndatamigration_{name}_total {count}"
            );
        }
        let _ = writeln!(
            text,
            "# TYPE datamigration_mode_epoch gauge\ndatamigration_mode_epoch {}",
            self.epoch
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_in_the_text() {
        let counters = Counters::default();
        Counters::add(&counters.unknown, 3);
        counters.epoch.store(7, Ordering::Relaxed);
        let text = counters.snapshot().prometheus();
        assert!(
            text.contains("datamigration_writes_total{outcome=\"unknown\"} 3\n"),
            "{text}"
        );
        assert!(text.contains("datamigration_mode_epoch 7\n"), "{text}");
    }
}
