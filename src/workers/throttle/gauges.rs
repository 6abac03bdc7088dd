//! The measures of load that the manifest names, one gauge for each on every server, and what follows from them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::hysteresis::Hysteresis;
use super::{Brake, Hold};
use crate::api::migration::Limits;
use crate::api::task::ThrottleReport;
use crate::store::{Database, Replication, StoreError};
use crate::words::Side;
use crate::workers::context::Shard;

/// A measure has to stay calm for so long before work goes on.
const CALM_FOR: Duration = Duration::from_secs(5);
/// Positions of a log that are remembered at most: hours of them.
const TRAIL: usize = 10_000;

/// All gauges of one server.
struct Server {
    label: String,
    database: Database,
    gauges: Vec<Gauge>,
}

struct Gauge {
    measure: Measure,
    /// The limit as the manifest has it.
    limit: String,
    state: Hysteresis,
    /// What was said when it went above.
    hold: Option<Hold>,
}

enum Measure {
    ThreadsRunning,
    ReplicationLag(Trail),
    Query(String),
}

impl Measure {
    const fn name(&self) -> &'static str {
        match self {
            Self::ThreadsRunning => "pauseWhen.threadsRunning",
            Self::ReplicationLag(_) => "pauseWhen.replicationLag",
            Self::Query(_) => "pauseWhen.query",
        }
    }

    fn unit(&self) -> &'static str {
        match self {
            Self::ReplicationLag(_) => "s",
            Self::ThreadsRunning | Self::Query(_) => "",
        }
    }

    async fn read(&mut self, database: &Database) -> Result<f64, StoreError> {
        match self {
            Self::ThreadsRunning => Ok(database.running_statements().await? as f64),
            Self::Query(sql) => database.one_number(sql).await,
            Self::ReplicationLag(trail) => Ok(match database.replication().await? {
                Replication::Alone => 0.0,
                Replication::Behind(lag) => lag.as_secs_f64(),
                Replication::Positions {
                    head,
                    replayed,
                    reported,
                } => trail.lag(head, replayed, Instant::now()).max(reported).as_secs_f64(),
            }),
        }
    }
}

/// Where a log ended, and when. A standby that stopped replaying keeps reporting the lag that it last had: the age of
/// what it has not replayed tells better.
#[derive(Debug, Default)]
struct Trail(VecDeque<(Instant, u64)>);

impl Trail {
    /// The age of the oldest known end of the log that is not replayed yet.
    fn lag(&mut self, head: u64, replayed: u64, now: Instant) -> Duration {
        while self.0.front().is_some_and(|(_, end)| *end <= replayed) {
            self.0.pop_front();
        }
        if head > replayed && self.0.back().is_none_or(|(_, end)| *end < head) && self.0.len() < TRAIL {
            self.0.push_back((now, head));
        }
        self.0
            .front()
            .map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at))
    }
}

/// Every gauge of every server.
#[derive(Default)]
pub struct Gauges(Vec<Server>);

impl Gauges {
    /// One gauge per measure and server of both sides.
    pub fn new(limits: &Limits, source: &[Shard], target: &[Shard]) -> Self {
        let mut servers = Vec::new();
        for (side, shards) in [(Side::Source, source), (Side::Target, target)] {
            for shard in shards {
                let gauges = gauges(limits, side);
                if !gauges.is_empty() {
                    servers.push(Server {
                        label: format!("{}/{}", side.as_str(), shard.name),
                        database: shard.database.clone(),
                        gauges,
                    });
                }
            }
        }
        Self(servers)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Measures everything once; the first measure that makes the worker pause speaks for all.
    pub async fn look(&mut self) -> Option<Hold> {
        let holds = futures::future::join_all(self.0.iter_mut().map(Server::look)).await;
        holds.into_iter().flatten().next()
    }
}

fn gauges(limits: &Limits, side: Side) -> Vec<Gauge> {
    let gauge = |measure: Measure, limit: f64, text: String| Gauge {
        measure,
        limit: text,
        state: Hysteresis::new(limit, CALM_FOR),
        hold: None,
    };
    let mut gauges = Vec::new();
    if let Some(most) = limits.threads_running {
        gauges.push(gauge(Measure::ThreadsRunning, f64::from(most), most.to_string()));
    }
    if let Some(most) = limits.replication_lag {
        let seconds = most.as_secs_f64();
        gauges.push(gauge(
            Measure::ReplicationLag(Trail::default()),
            seconds,
            format!("{seconds}s"),
        ));
    }
    if let Some(query) = limits.query.as_ref().filter(|query| query.asks(side)) {
        gauges.push(gauge(
            Measure::Query(query.sql.clone()),
            query.above,
            query.above.to_string(),
        ));
    }
    gauges
}

impl Server {
    async fn look(&mut self) -> Option<Hold> {
        let mut first = None;
        for gauge in &mut self.gauges {
            let value = gauge.measure.read(&self.database).await;
            let hold = gauge.judge(&self.label, value, Instant::now());
            first = first.or(hold);
        }
        first
    }
}

impl Gauge {
    fn judge(&mut self, label: &str, value: Result<f64, StoreError>, now: Instant) -> Option<Hold> {
        let known = value.as_ref().ok().copied();
        if !self.state.observe(known, now) {
            self.hold = None;
            return None;
        }
        let (name, unit, limit) = (self.measure.name(), self.measure.unit(), &self.limit);
        let report = match value {
            Err(error) => ThrottleReport {
                reason: "MeasureUnreadable".to_owned(),
                measure: name.to_owned(),
                database: Some(label.to_owned()),
                value: None,
                limit: Some(limit.clone()),
                message: format!("{name} cannot be read: {error}; work waits until it can be"),
            },
            Ok(value) => {
                let value = format!("{}{unit}", (value * 10.0).round() / 10.0);
                let calm = format!("{}{unit}", (self.state.calm_below() * 10.0).round() / 10.0);
                ThrottleReport {
                    reason: "LoadAboveLimit".to_owned(),
                    measure: name.to_owned(),
                    database: Some(label.to_owned()),
                    message: format!(
                        "{name} of {label} is {value}, above its limit of {limit}; work goes on when it has been at or below \
                         {calm} for {}s",
                        CALM_FOR.as_secs()
                    ),
                    value: Some(value),
                    limit: Some(limit.clone()),
                }
            }
        };
        // What was said when it went above stays said: a measure on its way down is no news.
        let said = self.hold.take().filter(|said| said.report.reason == report.reason);
        self.hold = Some(said.unwrap_or(Hold {
            brake: Brake::Stop,
            report,
        }));
        self.hold.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_standby_that_stands_still_falls_behind_by_the_clock() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut trail = Trail::default();
        assert_eq!(trail.lag(100, 100, at(0)), Duration::ZERO);
        assert_eq!(trail.lag(120, 100, at(2)), Duration::ZERO, "seen for the first time");
        assert_eq!(trail.lag(150, 100, at(10)), Duration::from_secs(8));
        assert_eq!(
            trail.lag(150, 130, at(12)),
            Duration::from_secs(2),
            "since the end at 150 was seen"
        );
        assert_eq!(trail.lag(150, 150, at(13)), Duration::ZERO);
    }

    #[test]
    fn what_was_said_stays_said_until_the_reason_changes() {
        let limits = Limits {
            threads_running: Some(40),
            ..Limits::default()
        };
        let mut gauge = gauges(&limits, Side::Source).remove(0);
        let now = Instant::now();
        assert!(gauge.judge("source/main", Ok(40.0), now).is_none());
        let first = gauge.judge("source/main", Ok(57.0), now).unwrap();
        assert_eq!(
            first.report.message,
            "pauseWhen.threadsRunning of source/main is 57, above its limit of 40; work goes on when it has been at or below 32 \
             for 5s"
        );
        assert_eq!(gauge.judge("source/main", Ok(99.0), now), Some(first.clone()));
        let unreadable = StoreError::Privilege {
            label: "source/main".to_owned(),
            message: "no".to_owned(),
        };
        let second = gauge.judge("source/main", Err(unreadable), now).unwrap();
        assert_eq!(second.report.reason, "MeasureUnreadable");
        assert!(
            second.report.message.contains("a privilege is missing"),
            "{}",
            second.report.message
        );
    }

    #[test]
    fn a_query_is_asked_where_it_was_meant_to_be() {
        let query = |side| Limits {
            query: Some(crate::api::migration::LoadQuery {
                sql: "SELECT 1".to_owned(),
                above: 1.0,
                side,
            }),
            ..Limits::default()
        };
        use crate::api::tuning::QuerySide;
        for (side, expected) in [
            (QuerySide::Source, (1, 0)),
            (QuerySide::Target, (0, 1)),
            (QuerySide::Both, (1, 1)),
        ] {
            let limits = query(side);
            assert_eq!(
                (gauges(&limits, Side::Source).len(), gauges(&limits, Side::Target).len()),
                expected
            );
        }
    }

    proptest! {
        /// Against the definition: the lag is the age of the earliest end of the log seen that is not replayed.
        #[test]
        fn the_trail_is_the_oldest_end_not_replayed(steps in proptest::collection::vec((0_u64..5, 0_u64..50, 0_u64..60), 1..60)) {
            let mut trail = Trail::default();
            let mut now = Instant::now();
            let (mut head, mut replayed) = (0, 0_u64);
            let mut seen: Vec<(Instant, u64)> = Vec::new();
            for (later, grown, caught_up) in steps {
                now += Duration::from_secs(later);
                head += grown;
                replayed = (replayed + caught_up).min(head);
                seen.push((now, head));
                let expected = seen
                    .iter()
                    .find(|(_, end)| *end > replayed)
                    .map_or(Duration::ZERO, |(at, _)| now.duration_since(*at));
                prop_assert_eq!(trail.lag(head, replayed, now), expected);
            }
        }
    }
}
