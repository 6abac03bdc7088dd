//! The acknowledgement: this process's row in the base (its first shard) says which epoch it is at, and that it lives. An epoch is said
//! only when no request begun under an older one is in flight. When the row has not been refreshed for the length of
//! the lease, writes are refused: by then the operator may count this process as gone.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::detached::within;
use super::error::{Fault, Refusal};
use super::mode::Stance;
use super::write::Core;
use crate::control;
use crate::store::TxOptions;
use crate::words::Protocol;

/// Who this process is; the operator matches it with the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub pod: String,
    pub pod_uid: String,
    /// Tells the processes of a pod apart, and one from those that ran there before it.
    pub process: String,
}

/// When the last heartbeat that arrived was sent, on the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Lease {
    state: Mutex<LeaseState>,
}

#[derive(Debug, Default)]
struct LeaseState {
    since: Option<Instant>,
    acknowledged: Option<i64>,
    problem: Option<String>,
}

impl Lease {
    /// Whether a write may begin. Without an epoch nobody waits for this process; a process that was there then is not
    /// turned away by the first epoch either, but begins its lease with it.
    pub fn admits(&self, stance: &Stance, lease: Duration, now: Instant) -> Result<(), Refusal> {
        let mut state = self.lock();
        if stance.epoch == 0 {
            state.since = Some(now);
            return Ok(());
        }
        let why = || {
            state
                .problem
                .clone()
                .unwrap_or_else(|| "no answer from the base yet".to_owned())
        };
        match state.since {
            None => Err(Refusal::NotAcknowledged {
                epoch: stance.epoch,
                why: why(),
            }),
            Some(since) => match now.saturating_duration_since(since) {
                age if age <= lease => Ok(()),
                age => Err(Refusal::LeaseOver { age, lease, why: why() }),
            },
        }
    }

    fn renew(&self, sent: Instant, epoch: i64) {
        *self.lock() = LeaseState {
            since: Some(sent),
            acknowledged: Some(epoch),
            problem: None,
        };
    }

    fn failed(&self, why: String) {
        let mut state = self.lock();
        if state.problem.as_ref() != Some(&why) {
            tracing::warn!(%why, "heartbeat failed");
            state.problem = Some(why);
        }
    }

    /// The epoch that the base knows this process at.
    pub fn acknowledged(&self) -> Option<i64> {
        self.lock().acknowledged
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LeaseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// After a heartbeat that failed the next one comes soon.
const AGAIN: Duration = Duration::from_millis(500);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs until told to stop.
pub(super) async fn run(core: Arc<Core>, identity: Identity, every: Duration, stop: CancellationToken) {
    let mut changes = core.router.subscribe();
    let mut said: Option<Arc<Stance>> = None;
    let mut next = Instant::now();
    loop {
        let current = changes.borrow_and_update().clone().filter(|stance| stance.epoch > 0);
        let drained = current
            .as_ref()
            .is_none_or(|current| core.router.in_flight_below(current.epoch) == 0);
        let news = drained && current != said;
        // An older epoch is said again as long as its requests last: the process lives.
        let say = if drained { current } else { said.clone() };
        if let Some(stance) = say
            && (news || Instant::now() >= next)
        {
            let sent = Instant::now();
            match heartbeat(&core, &identity, &stance).await {
                Ok(()) => {
                    core.lease.renew(sent, stance.epoch);
                    said = Some(stance);
                    next = sent + every;
                }
                Err(why) => {
                    core.lease.failed(why);
                    next = Instant::now() + AGAIN;
                    // Not said: whatever it was comes again as a heartbeat, not as news.
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(AGAIN) => {}
                    }
                }
            }
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(next.max(Instant::now() + TICK).into()), if drained => {}
            () = core.router.some_ended(TICK), if !drained => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// How soon the end of the last older request is noticed when its notice was missed.
const TICK: Duration = Duration::from_millis(20);

async fn heartbeat(core: &Arc<Core>, identity: &Identity, stance: &Stance) -> Result<(), String> {
    let (shared, identity, said) = (core.clone(), identity.clone(), stance.clone());
    let base = stance.mode.base();
    let beat = within(HEARTBEAT_TIMEOUT, async move { beat(&shared, &identity, &said).await });
    let result = match beat.await {
        Some(result) => result.map_err(|fault| fault.text()),
        None => Err(format!("the {base} database did not answer the heartbeat in time")),
    };
    if result.is_err() {
        // Whatever is wrong with that connection, the next heartbeat has another.
        core.sides.forget_heartbeats(base);
    }
    result
}

async fn beat(core: &Core, identity: &Identity, stance: &Stance) -> Result<(), Fault> {
    let base = stance.mode.base();
    let options = TxOptions {
        statement_timeout: Some(HEARTBEAT_TIMEOUT),
        ..TxOptions::default()
    };
    let mut tx = core.sides.for_heartbeats(base)?.begin(options).await?;
    let mut owners = BTreeSet::new();
    for table in 0..core.sides.tables().len() {
        let name = core.sides.name(base, 0, table).map_err(Fault::Refused)?;
        owners.extend(control::table_owner(&mut tx, &name).await?);
    }
    if owners.is_empty() {
        tx.rollback().await;
        return Err(Fault::Stale(format!(
            "no migration has claimed any of this process's tables in the {base} database, though the mode files are at epoch {}",
            stance.epoch
        )));
    }
    for (migration, uid) in owners {
        let instance = control::Instance {
            migration,
            uid,
            pod_uid: identity.pod_uid.clone(),
            process: identity.process.clone(),
            pod: identity.pod.clone(),
            epoch: stance.epoch,
            mode: stance.mode.to_string(),
            secondary_writes: stance.secondary.to_string(),
            protocol: Protocol::Ordered.to_string(),
            failed_second_writes: core.counters.snapshot().follower_failures as i64,
        };
        control::heartbeat(&mut tx, &instance).await?;
    }
    tx.commit().await.map_err(|error| error.into_inner().into())
}

/// Takes this process's rows away when it ends in order: nobody need wait for its lease.
pub(super) async fn forget(core: &Core, identity: &Identity) -> Result<(), Fault> {
    let Some(stance) = core.router.current().filter(|stance| stance.epoch > 0) else {
        return Ok(());
    };
    let base = stance.mode.base();
    let mut tx = core.sides.for_heartbeats(base)?.begin(TxOptions::default()).await?;
    for table in 0..core.sides.tables().len() {
        let name = core.sides.name(base, 0, table).map_err(Fault::Refused)?;
        if let Some((migration, _)) = control::table_owner(&mut tx, &name).await? {
            control::forget_instance(&mut tx, &migration, &identity.pod_uid, &identity.process).await?;
        }
    }
    tx.commit().await.map_err(|error| error.into_inner().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Mode, ReadFrom, SecondaryWrites};

    fn stance(epoch: i64) -> Stance {
        Stance {
            mode: Mode::SrcFirst,
            read_from: ReadFrom::Source,
            read_target_percent: 0,
            secondary: SecondaryWrites::Lenient,
            epoch,
        }
    }

    #[test]
    fn writes_are_refused_before_the_first_heartbeat_and_after_the_lease() {
        let (lease, start) = (Lease::default(), Instant::now());
        let length = Duration::from_secs(30);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(matches!(
            lease.admits(&stance(1), length, at(0)),
            Err(Refusal::NotAcknowledged { .. })
        ));
        lease.renew(at(0), 1);
        assert!(lease.admits(&stance(1), length, at(30)).is_ok());
        assert!(matches!(
            lease.admits(&stance(1), length, at(31)),
            Err(Refusal::LeaseOver { .. })
        ));
        lease.renew(at(31), 1);
        assert!(lease.admits(&stance(2), length, at(60)).is_ok());
    }

    #[test]
    fn the_first_epoch_begins_the_lease_of_a_process_that_was_there() {
        let (lease, start) = (Lease::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let length = Duration::from_secs(30);
        assert!(lease.admits(&stance(0), length, at(0)).is_ok());
        assert!(lease.admits(&stance(1), length, at(29)).is_ok());
        assert!(
            lease.admits(&stance(1), length, at(31)).is_err(),
            "an epoch does not renew what only heartbeats do"
        );
    }
}
