//! Gentleness: what the manifest allows background work to ask of the databases. A task beside the work measures, and
//! brakes the connections between two batches; the limits may change at any time, and a changed verdict is reported.

mod gauges;
mod hysteresis;
mod own;
mod rate;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::gauges::Gauges;
use self::hysteresis::Hysteresis;
use self::own::Own;
use self::rate::{Bound, Pacer};
use super::context::TaskContext;
use super::error::WorkError;
use crate::api::migration::Limits;
use crate::api::schedule::WindowState;
use crate::api::task::{TaskKind, ThrottleReport, VerifyScope};

/// How often the measures are taken.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Work that is slowed down takes one step a second per connection.
const SLOW_STEP: Duration = Duration::from_secs(1);
/// Rows of such a step.
const SLOW_ROWS: u32 = 100;
/// Nothing has to have held work back for so long before that is said: a verdict that comes and goes is one.
const QUIET_FOR: Duration = Duration::from_secs(5);
/// Shares of its own container's limits above which a worker slows down.
const OWN_MEMORY: f64 = 0.9;
const OWN_CPU: f64 = 0.95;

/// How hard the brake is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Brake {
    #[default]
    Open,
    Slow,
    Stop,
}

/// Why work is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    brake: Brake,
    report: ThrottleReport,
}

/// What connections wait for. Every change of it wakes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Drive {
    brake: Brake,
    /// Counts changes of the limits.
    limits: u64,
}

/// The limits that one worker keeps. Dropped, it measures no more.
pub struct Throttle {
    pacer: Arc<Mutex<Pacer>>,
    drive: watch::Receiver<Drive>,
    _measuring: DropGuard,
}

impl Throttle {
    /// Begins to measure. `workers`: how many share the rates.
    pub fn start(context: &TaskContext, workers: u32) -> Self {
        let limits = context
            .status
            .desired()
            .borrow()
            .limits
            .clone()
            .unwrap_or_else(|| context.migration.copy.limits.clone());
        let scope = Scope::of(context);
        let pacer = Arc::new(Mutex::new(Pacer::new(&scope.rates(&limits), workers)));
        let gauges = Gauges::new(&limits, &context.source, &context.target);
        // Nothing is begun before it is known to be allowed.
        let first = if !gauges.is_empty() || window(&limits, scope, Timestamp::now()).is_some() {
            scope.soften(Brake::Stop)
        } else {
            Brake::Open
        };
        let (sender, drive) = watch::channel(Drive {
            brake: first,
            limits: 0,
        });
        let stop = CancellationToken::new();
        let watcher = Watcher {
            context: context.clone(),
            scope,
            pacer: pacer.clone(),
            limits,
            gauges,
            own: Own::new("/sys/fs/cgroup"),
            memory: Hysteresis::new(OWN_MEMORY, LOOK_EVERY),
            cpu: Hysteresis::new(OWN_CPU, LOOK_EVERY),
            drive: sender,
            ledger: Ledger::default(),
        };
        // A task of its own: a measurement under way is always read to its end.
        tokio::spawn(watcher.run(stop.clone()));
        Self {
            pacer,
            drive,
            _measuring: stop.drop_guard(),
        }
    }

    /// Before rows are read: waits while work has to pause, or is slowed down.
    pub async fn clear(&self, context: &TaskContext) -> Result<(), WorkError> {
        let mut drive = self.drive.clone();
        loop {
            context.go_on()?;
            let brake = drive.borrow_and_update().brake;
            let most = match brake {
                Brake::Open => return Ok(()),
                Brake::Slow => SLOW_STEP,
                Brake::Stop => Duration::MAX,
            };
            tokio::select! {
                () = context.stop.cancelled() => return Err(WorkError::Stopped),
                changed = drive.changed() => if changed.is_err() {
                    return Ok(());
                },
                () = sleep(most) => return Ok(()),
            }
        }
    }

    /// Before rows are written or compared: waits until the rates allow it.
    pub async fn spend(&self, context: &TaskContext, rows: u32, bytes: u64) -> Result<(), WorkError> {
        let mut drive = self.drive.clone();
        loop {
            let limits = drive.borrow_and_update().limits;
            let wait = lock(&self.pacer).take(rows, bytes, Instant::now());
            if wait.is_zero() {
                return Ok(());
            }
            // New limits forget what was taken under the old ones.
            let renewed = async {
                while drive.changed().await.is_ok() {
                    if drive.borrow_and_update().limits != limits {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = context.stop.cancelled() => return Err(WorkError::Stopped),
                () = tokio::time::sleep(wait) => return Ok(()),
                () = renewed => {}
            }
        }
    }

    /// Whether the next [`Throttle::clear`] would wait.
    pub fn braked(&self) -> bool {
        self.drive.borrow().brake != Brake::Open
    }

    /// Rows of a batch at most.
    pub fn most_rows(&self) -> u32 {
        let rows = lock(&self.pacer).most_rows();
        match self.drive.borrow().brake {
            Brake::Open => rows,
            Brake::Slow | Brake::Stop => rows.min(SLOW_ROWS),
        }
    }
}

async fn sleep(most: Duration) {
    if most == Duration::MAX {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(most).await;
}

fn lock(pacer: &Mutex<Pacer>) -> MutexGuard<'_, Pacer> {
    // A panic elsewhere leaves plain numbers behind.
    pacer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which limits hold for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Everything.
    Background,
    /// The gates live on an incremental verify: it is never stopped, and looks at little.
    Steady,
}

impl Scope {
    fn of(context: &TaskContext) -> Self {
        match (context.task.kind, context.task.scope) {
            (TaskKind::Verify, Some(VerifyScope::Incremental)) => Self::Steady,
            _ => Self::Background,
        }
    }

    fn soften(self, brake: Brake) -> Brake {
        match (self, brake) {
            (Self::Steady, Brake::Stop) => Brake::Slow,
            (_, brake) => brake,
        }
    }

    fn rates(self, limits: &Limits) -> Limits {
        match self {
            Self::Background => limits.clone(),
            Self::Steady => Limits::default(),
        }
    }
}

/// The task that measures.
struct Watcher {
    context: TaskContext,
    scope: Scope,
    pacer: Arc<Mutex<Pacer>>,
    limits: Limits,
    gauges: Gauges,
    own: Own,
    memory: Hysteresis,
    cpu: Hysteresis,
    drive: watch::Sender<Drive>,
    ledger: Ledger,
}

impl Watcher {
    async fn run(mut self, stop: CancellationToken) {
        let mut desired = self.context.status.desired();
        while !stop.is_cancelled() {
            let hold = self.look().await;
            let brake = self.scope.soften(hold.as_ref().map_or(Brake::Open, |hold| hold.brake));
            self.drive
                .send_if_modified(|drive| std::mem::replace(&mut drive.brake, brake) != brake);
            if stop.is_cancelled() {
                return;
            }
            if self.ledger.changed(hold, Instant::now()) {
                let told = self.ledger.told.clone();
                tracing::info!(throttle = ?told, "throttled");
                // The worker may have ended meanwhile, and said so.
                self.context.status.note(|status| {
                    if !stop.is_cancelled() {
                        status.throttle = told;
                    }
                });
                self.context.status.publish().await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = desired.changed() => {
                    if changed.is_err() {
                        stop.cancelled().await;
                    }
                    let limits = desired.borrow_and_update().limits.clone();
                    self.renew(limits);
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn renew(&mut self, limits: Option<Limits>) {
        let Some(limits) = limits.filter(|limits| *limits != self.limits) else {
            return;
        };
        tracing::info!(?limits, "new limits");
        lock(&self.pacer).set(&self.scope.rates(&limits));
        let same_measures = (limits.threads_running, limits.replication_lag, &limits.query)
            == (
                self.limits.threads_running,
                self.limits.replication_lag,
                &self.limits.query,
            );
        if !same_measures {
            self.gauges = Gauges::new(&limits, &self.context.source, &self.context.target);
        }
        self.limits = limits;
        self.drive.send_modify(|drive| drive.limits += 1);
    }

    /// What holds work back now: a pause before a slower pace before a rate.
    async fn look(&mut self) -> Option<Hold> {
        if let Some(hold) = window(&self.limits, self.scope, Timestamp::now()) {
            return Some(hold);
        }
        if let Some(hold) = self.gauges.look().await {
            return Some(hold);
        }
        self.strained(Instant::now()).or_else(|| self.rate())
    }

    fn strained(&mut self, now: Instant) -> Option<Hold> {
        let usage = self.own.usage(now);
        let percent = |share: f64| format!("{} %", (share * 100.0).round());
        let near = [
            ("memory", usage.memory, OWN_MEMORY, &mut self.memory),
            ("cpu", usage.cpu, OWN_CPU, &mut self.cpu),
        ]
        .into_iter()
        .find_map(|(name, share, limit, state)| {
            let share = share?;
            state.observe(Some(share), now).then_some((name, share, limit))
        });
        near.map(|(name, share, limit)| Hold {
            brake: Brake::Slow,
            report: ThrottleReport {
                reason: "WorkerStrained".to_owned(),
                measure: name.to_owned(),
                database: None,
                value: Some(percent(share)),
                limit: Some(percent(limit)),
                message: format!(
                    "the worker uses {} of its container's {name}, near the limit; it takes small steps, one a second per \
                     connection. Raise spec.worker.resources, or lower copy.parallelism",
                    percent(share)
                ),
            },
        })
    }

    fn rate(&mut self) -> Option<Hold> {
        let (measure, limit) = match lock(&self.pacer).bound(LOOK_EVERY / 4, Instant::now())? {
            Bound::Rows => ("rateLimit.rowsPerSecond", u64::from(self.limits.rows_per_second?)),
            Bound::Bytes => ("rateLimit.bytesPerSecond", self.limits.bytes_per_second?),
        };
        Some(Hold {
            brake: Brake::Open,
            report: ThrottleReport {
                reason: "RateLimit".to_owned(),
                measure: measure.to_owned(),
                database: None,
                value: None,
                limit: Some(limit.to_string()),
                message: format!("work would go faster than {measure} allows, and is held to {limit}"),
            },
        })
    }
}

fn window(limits: &Limits, scope: Scope, now: Timestamp) -> Option<Hold> {
    let window = limits.window.as_ref().filter(|_| scope == Scope::Background)?;
    let WindowState::Closed { opens } = window.state(now) else {
        return None;
    };
    let opens = opens.map_or_else(|| "never again".to_owned(), |at| format!("at {at}"));
    Some(Hold {
        brake: Brake::Stop,
        report: ThrottleReport {
            reason: "OutsideWindow".to_owned(),
            measure: "window".to_owned(),
            database: None,
            value: None,
            limit: Some(window.to_string()),
            message: format!("the window {window} is closed; work goes on when it opens {opens}"),
        },
    })
}

/// What has been said, and when it is worth saying something else.
#[derive(Debug, Default)]
struct Ledger {
    told: Option<ThrottleReport>,
    quiet_since: Option<Instant>,
}

impl Ledger {
    /// Whether there is something new to say. A measure that only changes its value is no news.
    fn changed(&mut self, hold: Option<Hold>, now: Instant) -> bool {
        let Some(hold) = hold else {
            if self.told.is_none() {
                return false;
            }
            let since = *self.quiet_since.get_or_insert(now);
            if now.saturating_duration_since(since) < QUIET_FOR {
                return false;
            }
            *self = Self::default();
            return true;
        };
        self.quiet_since = None;
        let cause = |report: &ThrottleReport| {
            let ThrottleReport {
                reason,
                measure,
                database,
                value: _,
                limit,
                message: _,
            } = report.clone();
            (reason, measure, database, limit)
        };
        if self.told.as_ref().map(cause) == Some(cause(&hold.report)) {
            return false;
        }
        self.told = Some(hold.report);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(reason: &str, value: &str) -> Hold {
        Hold {
            brake: Brake::Stop,
            report: ThrottleReport {
                reason: reason.to_owned(),
                value: Some(value.to_owned()),
                ..ThrottleReport::default()
            },
        }
    }

    #[test]
    fn only_a_changed_verdict_is_told() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut ledger = Ledger::default();
        assert!(!ledger.changed(None, at(0)));
        assert!(ledger.changed(Some(hold("A", "1")), at(1)));
        assert!(!ledger.changed(Some(hold("A", "2")), at(2)), "another value is no news");
        assert!(ledger.changed(Some(hold("B", "2")), at(3)));
        assert!(!ledger.changed(None, at(4)), "it may come back");
        assert!(!ledger.changed(Some(hold("B", "2")), at(8)));
        assert!(!ledger.changed(None, at(9)));
        assert!(ledger.changed(None, at(14)));
        assert_eq!(ledger.told, None);
        assert!(!ledger.changed(None, at(99)));
    }

    #[test]
    fn a_window_holds_background_work_and_not_the_gates_evidence() {
        let limits = Limits {
            window: Some(crate::api::schedule::Window::parse("0 1 * * * +4h", None).unwrap()),
            ..Limits::default()
        };
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        let hold = window(&limits, Scope::Background, now).unwrap();
        assert_eq!(
            hold.report.message,
            "the window 0 1 * * * +4h UTC is closed; work goes on when it opens at 2026-03-02T01:00:00Z"
        );
        assert_eq!(window(&limits, Scope::Steady, now), None);
        assert_eq!(
            window(&limits, Scope::Background, "2026-03-01T02:00:00Z".parse().unwrap()),
            None
        );
        assert_eq!(Scope::Steady.soften(Brake::Stop), Brake::Slow);
    }
}
