//! The second write: the base's row images put on one database of the follower, ready to commit and holding their locks.
//! There is no guard: both sides' rows are locked before either commits, so the order of the writers is the base's.

use std::sync::Arc;

use super::detached::within;
use super::mode::Stance;
use super::write::Core;
use crate::control;
use crate::rows::{Key, Row};
use crate::store::{Engine, StoreError, TablePair, Tx, TxOptions};
use crate::words::{SecondaryWrites, Side};

/// What one table of a write looks like on the base now, as far as one shard of the follower holds it.
pub(super) struct Image {
    pub pair: Arc<TablePair>,
    pub puts: Vec<Row>,
    pub deletes: Vec<Key>,
}

pub(super) enum PutFault {
    /// The follower's control row, or its fence, says that the mode has moved on.
    Stale(String),
    Failed(StoreError),
}

impl From<StoreError> for PutFault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Fenced { .. } => Self::Stale(error.to_string()),
            error => Self::Failed(error),
        }
    }
}

/// Puts the images within the follower's time, into the database that has this shard as its first. Images are in the
/// order of the table definitions, parents before children.
pub(super) async fn put(
    core: &Arc<Core>,
    (side, shard): (Side, usize),
    stance: &Stance,
    images: Vec<Image>,
) -> Result<Tx, PutFault> {
    let most = core.settings.follower_timeout;
    let (core, stance) = (core.clone(), stance.clone());
    // A second write that is given up rolls back by itself when it wakes up: COMMIT was not sent.
    match within(
        most,
        async move { put_within(&core, (side, shard), &stance, &images).await },
    )
    .await
    {
        Some(result) => result,
        None => Err(PutFault::Failed(StoreError::Timeout {
            label: side.to_string(),
            message: format!("the second write took longer than {} ms", most.as_millis()),
        })),
    }
}

async fn put_within(
    core: &Core,
    (side, shard): (Side, usize),
    stance: &Stance,
    images: &[Image],
) -> Result<Tx, PutFault> {
    let database = core.sides.database(side, shard).map_err(|fault| {
        PutFault::Failed(StoreError::Config {
            label: side.to_string(),
            message: fault.text(),
        })
    })?;
    let mut tx = database.begin(options(core, side, stance, database.engine())).await?;
    for image in images {
        check(&mut tx, image.pair.plain(side).table.as_str(), stance.epoch).await?;
    }
    if tx.engine() == Engine::Postgres {
        // A DELETE there does not wait for another transaction's INSERT of the same key; this lock makes it wait.
        for image in images {
            let to = image.pair.plain(side);
            let mut keys: Vec<Key> = image
                .puts
                .iter()
                .map(|row| to.key_of(row))
                .chain(image.deletes.clone())
                .collect();
            keys.sort();
            for key in &keys {
                tx.lock_key(to, key).await?;
            }
        }
    }
    for image in images.iter().rev().filter(|image| !image.deletes.is_empty()) {
        tx.delete(image.pair.plain(side), &image.deletes).await?;
    }
    for image in images.iter().filter(|image| !image.puts.is_empty()) {
        tx.put(image.pair.plain(side), &image.puts).await?;
    }
    Ok(tx)
}

/// While the base is being swapped, writers with different bases may wait for each other across the two databases,
/// where neither sees the cycle. The one whose base is the source gives up first, so that one of them wins at once.
fn options(core: &Core, side: Side, stance: &Stance, engine: Engine) -> TxOptions {
    let most = core.settings.follower_timeout;
    let mut options = TxOptions::bounded(most);
    if stance.secondary == SecondaryWrites::Strict && side == Side::Target {
        options.lock_timeout = most / 5;
        if engine == Engine::MySql {
            // Lock waits there are bounded in whole seconds; a statement's time is not.
            options.statement_timeout = Some(most / 5);
        }
    }
    options
}

async fn check(tx: &mut Tx, table: &str, epoch: i64) -> Result<(), PutFault> {
    match control::check_instance(tx, table, epoch).await {
        Ok(_) => Ok(()),
        Err(control::ControlError::Store(error)) => Err(error.into()),
        Err(error @ control::ControlError::Stale { .. }) => Err(PutFault::Stale(error.to_string())),
        Err(error) => Err(PutFault::Failed(StoreError::Other {
            label: tx.label().to_owned(),
            message: error.to_string(),
        })),
    }
}
