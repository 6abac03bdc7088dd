//! The queue entry of a second write that failed: in the base's own transaction when that is still open, in one of its
//! own before the answer when it is not.

use std::sync::Arc;
use std::time::Duration;

use super::counters::Counters;
use super::detached::within;
use super::error::{Failure, Fault};
use super::mode::Stance;
use super::write::{Core, rolled_back};
use crate::control::{self, Claim};
use crate::rows::Key;
use crate::store::Tx;

/// Most that an entry after the base's commit may take: the caller waits for it.
const LATE: Duration = Duration::from_secs(3);

/// Keys of one table whose second write is owed.
#[derive(Debug, Clone)]
pub(super) struct Owed {
    /// The table's name in the base's shard.
    pub table: String,
    /// Its name in the manifest, which is its name in the control tables.
    pub name: String,
    pub keys: Vec<Key>,
    pub claim: Option<Claim>,
}

impl Owed {
    pub fn count(&self) -> u64 {
        self.keys.len() as u64
    }
}

pub(super) async fn enqueue(owed: &[&Owed], tx: &mut Tx, why: &str) -> Result<(), Fault> {
    let why: String = why.chars().take(200).collect();
    for owed in owed {
        let Some(claim) = &owed.claim else {
            let name = &owed.name;
            return Err(Fault::Failed(Failure::SecondWrite(format!(
                "the second write of {name} failed ({why}) and there is no queue: no migration has claimed the table"
            ))));
        };
        control::enqueue(tx, &claim.migration, &claim.uid, &owed.name, &owed.keys, &why).await?;
    }
    Ok(())
}

/// After the base has committed; whether the entry is there. The epoch is checked again: an entry that lands on a side
/// whose queue nobody waits for any more would promise a repair in vain.
pub(super) async fn queue_late(core: &Arc<Core>, stance: &Stance, shard: usize, owed: Vec<Owed>, why: &str) -> bool {
    let count = owed.iter().map(Owed::count).sum();
    let (shared, epoch, base, why) = (core.clone(), stance.epoch, stance.mode.base(), why.to_owned());
    let work = async move {
        let mut tx = shared.sides.database(base, shard)?.begin(shared.base_options()).await?;
        for owed in &owed {
            if let Err(error) = control::check_instance(&mut tx, &owed.table, epoch).await {
                return Err(rolled_back(tx, error.into()).await);
            }
        }
        if let Err(fault) = enqueue(&owed.iter().collect::<Vec<_>>(), &mut tx, &why).await {
            return Err(rolled_back(tx, fault).await);
        }
        tx.commit().await.map_err(|error| Fault::from(error.into_inner()))
    };
    match within(LATE, work).await {
        Some(Ok(())) => {
            Counters::add(&core.counters.queued, count);
            true
        }
        Some(Err(fault)) => {
            tracing::warn!(why = %fault.text(), "keys of a failed second write could not be queued");
            false
        }
        None => false,
    }
}
