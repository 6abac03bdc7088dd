//! Steps 2 to 4 of an attempt, as the matrix says: the second writes in the order of the shards, the base's commit, the
//! followers' commits; and what is owed to the shards where one of them failed.

use std::sync::Arc;
use std::time::Instant;

use super::counters::Counters;
use super::error::{Failure, Fault};
use super::follower::{self, PutFault};
use super::images::Share;
use super::intent::Second;
use super::mode::Stance;
use super::outcome::{
    AfterBase, AfterPut, Answer, Committed, Put, after_base_commit, after_follower_commit, after_puts,
};
use super::queue::{Owed, enqueue, queue_late};
use super::write::{Core, rolled_back};
use crate::store::{CommitError, StoreError, Tx};
use crate::words::{SecondaryWrites, Side};

/// A second write that holds its locks and waits for its commit.
struct Waiting {
    database: usize,
    tx: Tx,
    owed: Vec<Owed>,
}

/// How the second writes went, one after the other.
#[derive(Default)]
struct Seconds {
    waiting: Vec<Waiting>,
    puts: Vec<Put>,
    /// Keys of the second writes that failed, and why the last one did.
    owed: Vec<Owed>,
    why: String,
}

/// `shard`: the base's, in which `tx` is open.
pub(super) async fn finish(
    core: &Arc<Core>,
    stance: &Stance,
    shard: usize,
    shares: Vec<Share>,
    mut tx: Tx,
) -> Result<(), Fault> {
    let seconds = match stance.follower() {
        Some(follower) => second_writes(core, stance, follower, shares).await,
        None => Seconds::default(),
    };
    let Seconds {
        waiting,
        puts,
        owed,
        why,
    } = seconds;
    match after_puts(puts.iter().copied(), stance.secondary) {
        AfterPut::CommitBase => {}
        AfterPut::QueueThenCommitBase => {
            tracing::debug!(%why, "second write failed; its keys are queued");
            if let Err(fault) = enqueue(&owed.iter().collect::<Vec<_>>(), &mut tx, &why).await {
                roll_back_seconds(waiting).await;
                return Err(rolled_back(tx, fault).await);
            }
        }
        AfterPut::RollBack => {
            roll_back_seconds(waiting).await;
            let fault = if puts.contains(&Put::Stale) {
                Fault::Stale(why)
            } else {
                Fault::Contention(Failure::SecondWrite(why))
            };
            return Err(rolled_back(tx, fault).await);
        }
    }

    let (base, error) = committed(tx.commit().await);
    let text = |error: Option<StoreError>| error.map_or_else(String::new, |error| error.to_string());
    let after = after_base_commit(base, !waiting.is_empty());
    if base == Committed::Yes {
        Counters::add(&core.counters.queued, owed.iter().map(Owed::count).sum());
    }
    match after {
        AfterBase::Succeed => Ok(()),
        AfterBase::Fail => {
            roll_back_seconds(waiting).await;
            Err(error.map_or_else(|| Fault::Unknown("the commit gave no reason".to_owned()), Fault::from))
        }
        AfterBase::TellUnknown => {
            let why = format!("the base's commit was not answered: {}", text(error));
            let mut all = owed;
            for one in &waiting {
                all.extend(one.owed.iter().cloned());
            }
            roll_back_seconds(waiting).await;
            if !all.is_empty() {
                queue_late(core, stance, shard, all, &why).await;
            }
            Err(Fault::Unknown(why))
        }
        AfterBase::CommitFollower => commit_seconds(core, stance, shard, waiting).await,
    }
}

/// Begins and puts in one database after the other. When a failure means that nothing may happen, the rest is not tried;
/// nor is it when two shards' time is over, because the base's locks are held as long as all of this lasts.
async fn second_writes(core: &Arc<Core>, stance: &Stance, follower: Side, shares: Vec<Share>) -> Seconds {
    let mut seconds = Seconds::default();
    let (began, most) = (Instant::now(), core.settings.follower_timeout * 2);
    for share in shares {
        let Share {
            database,
            second,
            images,
            owed,
        } = share;
        let images = images.map(|images| images.into_values().collect());
        let result = if began.elapsed() < most {
            second_write(core, stance, (follower, database), second, images).await
        } else {
            Err(not_tried(follower, "the follower's other shards took all of the time"))
        };
        match result {
            Ok(tx) => {
                seconds.puts.push(Put::Done);
                seconds.waiting.push(Waiting { database, tx, owed });
            }
            Err(PutFault::Stale(why)) => {
                seconds.puts.push(Put::Stale);
                seconds.why = why;
                return seconds;
            }
            Err(PutFault::Failed(error)) => {
                Counters::add(&core.counters.follower_failures, 1);
                seconds.puts.push(Put::Failed);
                seconds.owed.extend(owed);
                seconds.why = error.to_string();
                if stance.secondary == SecondaryWrites::Strict {
                    return seconds;
                }
            }
        }
    }
    seconds
}

/// The second write, unless the breaker was open when the attempt began.
async fn second_write(
    core: &Arc<Core>,
    stance: &Stance,
    (follower, database): (Side, usize),
    intended: Second,
    images: Result<Vec<follower::Image>, String>,
) -> Result<Tx, PutFault> {
    if intended == Second::Skip {
        return Err(not_tried(follower, "the last second writes failed (circuit breaker)"));
    }
    let result = match images {
        Ok(images) => follower::put(core, (follower, database), stance, images).await,
        Err(message) => {
            let label = follower.to_string();
            let error = StoreError::Other { label, message };
            core.breaker_failed(follower, database, &error);
            return Err(PutFault::Failed(error));
        }
    };
    match &result {
        Ok(_) => core.breakers.succeeded(follower, database),
        Err(PutFault::Stale(_)) => {}
        Err(PutFault::Failed(error)) => core.follower_failed(follower, database, error),
    }
    result
}

fn not_tried(follower: Side, why: &str) -> PutFault {
    PutFault::Failed(StoreError::Other {
        label: follower.to_string(),
        message: format!("not tried: {why}"),
    })
}

/// Step 4, after the base has committed: none of them waits for another, so that no lock is held longer than it must be.
async fn commit_seconds(core: &Arc<Core>, stance: &Stance, shard: usize, waiting: Vec<Waiting>) -> Result<(), Fault> {
    let follower = stance.mode.base().other();
    let commits = waiting.into_iter().map(|one| async move {
        let (outcome, error) = committed(one.tx.commit().await);
        (outcome, error, one.database, one.owed)
    });
    let (mut worst, mut owed, mut why) = (Committed::Yes, Vec::new(), String::new());
    for (outcome, error, database, keys) in futures::future::join_all(commits).await {
        let Some(error) = error else { continue };
        Counters::add(&core.counters.follower_failures, 1);
        core.follower_failed(follower, database, &error);
        worst = outcome;
        why = error.to_string();
        owed.extend(keys);
    }
    let queued = match worst {
        Committed::Yes => None,
        _ => Some(
            queue_late(
                core,
                stance,
                shard,
                owed,
                &format!("the follower's commit failed: {why}"),
            )
            .await,
        ),
    };
    match after_follower_commit(worst, stance.secondary, queued) {
        Answer::Ok => Ok(()),
        Answer::OutcomeUnknown => Err(Fault::Unknown(format!(
            "the base has committed and the follower has not{}: {why}",
            if queued == Some(true) {
                "; its keys are queued for repair"
            } else {
                ", nor could its keys be queued"
            },
        ))),
    }
}

fn committed(result: Result<(), CommitError>) -> (Committed, Option<StoreError>) {
    match result {
        Ok(()) => (Committed::Yes, None),
        Err(CommitError::Refused(error)) => (Committed::No, Some(error)),
        Err(CommitError::Unknown(error)) => (Committed::Unknown, Some(error)),
    }
}

async fn roll_back_seconds(waiting: Vec<Waiting>) {
    for one in waiting {
        one.tx.rollback().await;
    }
}
