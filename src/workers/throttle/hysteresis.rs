//! When a measure makes the worker pause, and when it lets go: above the limit at once, and again only once the measure
//! has stayed clearly below for a while. Pure; the clock is passed in.

use std::time::{Duration, Instant};

/// Below the limit by this share, a measure is calm.
const MARGIN: f64 = 0.2;

/// One measure against its limit.
#[derive(Debug, Clone)]
pub struct Hysteresis {
    limit: f64,
    calm_for: Duration,
    above: Option<Above>,
}

/// The measure is above its limit, or has been and is not calm yet.
#[derive(Debug, Clone)]
struct Above {
    /// Since when it has been calm.
    calm_since: Option<Instant>,
}

impl Hysteresis {
    /// Pauses above `limit`; lets go after `calm_for` at or below four fifths of it.
    pub const fn new(limit: f64, calm_for: Duration) -> Self {
        Self {
            limit,
            calm_for,
            above: None,
        }
    }

    /// At or below this the measure is calm.
    pub fn calm_below(&self) -> f64 {
        self.limit - self.limit.abs() * MARGIN
    }

    /// Whether to pause, after this measurement. `None`: it could not be made, which is no calm.
    pub fn observe(&mut self, value: Option<f64>, now: Instant) -> bool {
        match (value, &mut self.above) {
            (None, above) => *above = Some(Above { calm_since: None }),
            (Some(value), above) if value > self.limit => *above = Some(Above { calm_since: None }),
            (Some(_), None) => {}
            (Some(value), Some(above)) => {
                if value > self.limit - self.limit.abs() * MARGIN {
                    above.calm_since = None;
                } else {
                    let since = *above.calm_since.get_or_insert(now);
                    if now.saturating_duration_since(since) >= self.calm_for {
                        self.above = None;
                    }
                }
            }
        }
        self.above.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CALM: Duration = Duration::from_secs(5);

    fn run(limit: f64, values: &[(u64, Option<f64>)]) -> Vec<bool> {
        let start = Instant::now();
        let mut state = Hysteresis::new(limit, CALM);
        values
            .iter()
            .map(|(second, value)| state.observe(*value, start + Duration::from_secs(*second)))
            .collect()
    }

    #[test]
    fn above_the_limit_at_once_and_calm_only_after_a_while() {
        let seen = run(
            40.0,
            &[
                (0, Some(40.0)),
                (1, Some(41.0)),
                (2, Some(39.0)),
                (3, Some(32.0)),
                (7, Some(33.0)),
                (8, Some(32.0)),
                (12, Some(10.0)),
                (13, Some(0.0)),
                (14, Some(39.0)),
            ],
        );
        assert_eq!(seen, [false, true, true, true, true, true, true, false, false]);
    }

    #[test]
    fn what_cannot_be_measured_is_not_calm() {
        assert_eq!(
            run(
                40.0,
                &[(0, None), (1, Some(0.0)), (5, Some(0.0)), (6, Some(0.0)), (7, None)]
            ),
            [true, true, true, false, true]
        );
    }

    #[test]
    fn limits_of_nothing_and_below_nothing() {
        assert_eq!(
            run(0.0, &[(0, Some(0.5)), (1, Some(0.0)), (6, Some(0.0))]),
            [true, true, false]
        );
        assert_eq!(
            run(
                -5.0,
                &[(0, Some(-4.0)), (1, Some(-5.5)), (2, Some(-6.0)), (7, Some(-6.0))]
            ),
            [true, true, true, false]
        );
    }

    proptest! {
        /// A pause lasts at least the calm time past the last measurement that was not calm, and never begins without one
        /// above the limit.
        #[test]
        fn pauses_begin_above_and_end_in_calm(values in proptest::collection::vec((0_u64..4, proptest::option::of(0.0_f64..100.0)), 1..80)) {
            let limit = 50.0;
            let mut state = Hysteresis::new(limit, CALM);
            let mut now = Instant::now();
            let (mut paused, mut uneasy) = (false, None::<Instant>);
            for (later, value) in values {
                now += Duration::from_secs(later);
                let next = state.observe(value, now);
                if value.is_none_or(|value| value > state.calm_below()) {
                    uneasy = Some(now);
                }
                if next && !paused {
                    prop_assert!(value.is_none_or(|value| value > limit));
                }
                if paused && !next {
                    prop_assert!(uneasy.is_none_or(|at| now.duration_since(at) >= CALM));
                }
                if value.is_none_or(|value| value > limit) {
                    prop_assert!(next);
                }
                paused = next;
            }
        }
    }
}
