//! Ratios with their spread, and the bars that they are held against.

use crate::contest::Results;
use crate::measure::Cost;

/// A figure of several rounds.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (least, most) = (*figures.first()?, *figures.last()?);
        let (low, high) = (figures[(figures.len() - 1) / 2], figures[figures.len() / 2]);
        Some(Self {
            median: f64::midpoint(low, high),
            least,
            most,
        })
    }

    /// The median, and the ends where there is more than one round.
    pub fn text(self, digits: usize) -> String {
        if (self.most - self.least).abs() < f64::EPSILON {
            format!("{:.digits$}", self.median)
        } else {
            format!(
                "{:.digits$} ({:.digits$}–{:.digits$})",
                self.median, self.least, self.most
            )
        }
    }
}

/// One line of the bars' table.
pub struct Bar {
    pub says: String,
    pub wanted: String,
    pub measured: String,
    /// `None`: could not be measured.
    pub held: Option<bool>,
}

/// The rounds of a contestant that count.
pub fn rounds<'r>(results: &'r Results, name: &str) -> &'r [Cost] {
    let found = results.iter().find(|(contestant, _)| contestant == name);
    found.map_or(&[], |(_, costs)| costs)
}

/// Of the contestants whose name begins so, the fastest.
pub fn best<'r>(results: &'r Results, prefix: &str) -> Option<&'r str> {
    let median = |costs: &[Cost]| {
        let complete = costs.iter().all(|cost| cost.failure.is_none());
        complete.then(|| Spread::of(costs.iter().map(|cost| cost.wall.as_secs_f64())))?
    };
    results
        .iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .filter_map(|(name, costs)| Some((name.as_str(), median(costs)?.median)))
        .min_by(|(_, one), (_, other)| one.total_cmp(other))
        .map(|(name, _)| name)
}

/// What the other costs for each one that we cost, round by round.
pub fn ratio(results: &Results, other: &str, ours: &str, figure: impl Fn(&Cost) -> f64) -> Option<Spread> {
    let pairs = rounds(results, other).iter().zip(rounds(results, ours));
    let counted = pairs.filter(|(other, ours)| other.failure.is_none() && ours.failure.is_none());
    Spread::of(counted.map(|(other, ours)| figure(other) / figure(ours).max(0.001)))
}

pub fn wall(cost: &Cost) -> f64 {
    cost.wall.as_secs_f64()
}

/// So many times as fast as the best of these; for copies no more than 0.85 of what the target takes from memory.
pub fn faster(results: &Results, says: &str, ours: &str, other: &str, times: f64, raw: Option<&str>) -> Bar {
    let (ours, peer) = (best(results, ours), best(results, other));
    let measured = ours.zip(peer).and_then(|(ours, peer)| ratio(results, peer, ours, wall));
    let bound = raw
        .and_then(|raw| best(results, raw))
        .zip(peer)
        .and_then(|(raw, peer)| ratio(results, peer, raw, wall))
        .map(|bound| 0.85 * bound.median);
    let wanted = bound.map_or(times, |bound| bound.min(times));
    Bar {
        says: match (ours, peer) {
            (Some(ours), Some(peer)) => format!("{says}: {ours} beside {peer}"),
            _ => says.to_owned(),
        },
        wanted: if wanted < times {
            format!("≥ {times} ×, here ≥ {wanted:.2} × (0.85 of the raw bound)")
        } else {
            format!("≥ {times} ×")
        },
        measured: measured.map_or_else(
            || "not measured".to_owned(),
            |measured| format!("{} ×", measured.text(2)),
        ),
        held: measured.map(|measured| measured.median >= wanted),
    }
}

/// How much faster with more: there is nothing to hold.
pub fn scaling(results: &Results, says: &str, more: &str, fewer: &str) -> Bar {
    Bar {
        wanted: "printed".to_owned(),
        held: None,
        ..faster(results, says, more, fewer, 1.0, None)
    }
}

/// No more CPU than the other.
pub fn cheaper(results: &Results, says: &str, ours: &str, other: &str) -> Bar {
    let pair = best(results, ours).zip(best(results, other));
    let measured = pair.and_then(|(ours, peer)| ratio(results, ours, peer, Cost::cpu));
    Bar {
        says: match pair {
            Some((ours, peer)) => format!("{says}: {ours} beside {peer}"),
            None => says.to_owned(),
        },
        wanted: "≤ 1 ×".to_owned(),
        measured: measured.map_or_else(
            || "not measured".to_owned(),
            |measured| format!("{} ×", measured.text(2)),
        ),
        held: measured.map(|measured| measured.median <= 1.0),
    }
}

/// What guard, checkpoint and throttle cost: the CPU of a copy with limits set, beyond reading and raw inserts, as a
/// share of both.
pub fn overhead(results: &Results, ours: &str, reading: &str, raw: &str) -> Bar {
    let all = best(results, ours).zip(best(results, reading)).zip(best(results, raw));
    let measured = all.and_then(|((ours, reading), raw)| {
        let rounds = rounds(results, ours)
            .iter()
            .zip(rounds(results, reading))
            .zip(rounds(results, raw));
        Spread::of(rounds.map(|((ours, reading), raw)| {
            let without = (reading.cpu() + raw.cpu()).max(0.001);
            100.0 * (ours.cpu() - without) / without
        }))
    });
    Bar {
        says: format!("guard, checkpoint and throttle: CPU of \"{ours}\" beyond \"{reading}\" and \"{raw}\""),
        wanted: "≤ 10 %".to_owned(),
        measured: measured.map_or_else(
            || "not measured".to_owned(),
            |measured| format!("{} %", measured.text(0)),
        ),
        held: measured.map(|measured| measured.median <= 10.0),
    }
}

/// Peak memory of our worker over all its runs.
pub fn memory(results: &Results, says: &str, ours: &str, most: u64) -> Bar {
    let of_ours = results.iter().filter(|(name, _)| name.starts_with(ours));
    let peak = of_ours
        .flat_map(|(_, costs)| costs.iter().filter_map(|cost| cost.peak))
        .max()
        .map(|kib| kib.div_ceil(1024));
    Bar {
        says: says.to_owned(),
        wanted: format!("≤ {most} MiB"),
        measured: peak.map_or_else(|| "not measured".to_owned(), |peak| format!("{peak} MiB")),
        held: peak.map(|peak| peak <= most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn cost(seconds: u64, failure: Option<&str>) -> Cost {
        Cost {
            wall: Duration::from_secs(seconds),
            client: 1.0,
            servers: 1.0,
            others: 0.0,
            peak: Some(100 * 1024),
            told: serde_json::Value::Null,
            code: Some(0),
            printed: String::new(),
            failure: failure.map(str::to_owned),
        }
    }

    fn results(all: &[(&str, &[u64])]) -> Results {
        let costs = |walls: &[u64]| walls.iter().map(|&wall| cost(wall, None)).collect();
        all.iter()
            .map(|&(name, walls)| (name.to_owned(), costs(walls)))
            .collect()
    }

    #[test]
    fn a_median_of_two_lies_between_them() {
        let spread = Spread::of([3.0, 1.0]).unwrap();
        assert_eq!(spread.text(1), "2.0 (1.0–3.0)");
        assert!(Spread::of([]).is_none());
    }

    #[test]
    fn ratios_are_of_the_same_round_and_the_best_peer_counts() {
        let results = results(&[
            ("ours", &[10, 20, 30]),
            ("peer 1", &[20, 40, 60]),
            ("peer 2", &[15, 30, 45]),
        ]);
        let bar = faster(&results, "copy", "ours", "peer", 1.6, None);
        assert!(bar.says.ends_with("peer 2"), "{}", bar.says);
        assert_eq!((bar.measured.as_str(), bar.held), ("1.50 ×", Some(false)));
    }

    #[test]
    fn the_raw_bound_lowers_a_bar_that_the_target_cannot_reach() {
        let results = results(&[("ours", &[10]), ("peer", &[11]), ("raw", &[10])]);
        let bar = faster(&results, "copy", "ours", "peer", 1.2, Some("raw"));
        assert_eq!(bar.held, Some(true), "0.85 × 1.1 is below 1.2: {}", bar.wanted);
        assert_eq!(faster(&results, "copy", "ours", "peer", 1.2, None).held, Some(false));
    }

    #[test]
    fn a_failed_run_never_counts() {
        let failed: Results = vec![
            ("ours".to_owned(), vec![cost(10, None)]),
            ("peer".to_owned(), vec![cost(1, Some("ended with 1"))]),
        ];
        assert!(best(&failed, "peer").is_none());
        assert_eq!(faster(&failed, "copy", "ours", "peer", 1.2, None).held, None);
    }
}
