//! A read: on the side that the mode names, or on a share of both; and of its shards on the one where the row lies.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rand::Rng;

use super::counters::Counters;
use super::error::{ApplyError, Failure, Fault, ReadError, Refusal};
use super::mode::Stance;
use super::place::Stated;
use super::session::Session;
use super::write::Core;
use crate::store::TxOptions;
use crate::words::Side;

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a read says of where its rows lie.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Nothing: only a side of one shard can answer.
    Anything,
    /// In the shard of this row of a table.
    Row(usize, Stated),
}

/// One shard of the side that answers reads.
#[derive(Debug, Clone)]
pub struct ReadShard {
    core: Arc<Core>,
    side: Side,
    shard: usize,
}

impl ReadShard {
    pub fn side(&self) -> Side {
        self.side
    }

    /// From 0, in the order of the side's configuration.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Reads from this shard. When it is away there is no other answer: the other side's shards hold other rows.
    pub async fn read<T, F>(&self, apply: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>> + Send + Sync + 'static,
    {
        let (core, side, shard) = (self.core.clone(), self.side, self.shard);
        // To its end, whatever the caller does: a query must not be cut off.
        let task = tokio::spawn(async move { on(&core, (side, shard), &apply).await });
        task.await
            .unwrap_or_else(|error| Err(ReadError::Application(error.into())))
    }
}

pub(super) fn shards(core: &Arc<Core>) -> Result<Vec<ReadShard>, ReadError> {
    let side = read_side(&*stance(core)?);
    let shard = |shard| ReadShard {
        core: core.clone(),
        side,
        shard,
    };
    Ok((0..core.sides.shards(side)).map(shard).collect())
}

fn stance(core: &Core) -> Result<Arc<Stance>, ReadError> {
    let why = || core.router.problem().unwrap_or_else(|| "not read yet".to_owned());
    core.router.current().ok_or_else(|| ReadError::NoMode(why()))
}

fn read_side(stance: &Stance) -> Side {
    stance.read_side(rand::rng().random_range(0..100))
}

pub(super) async fn from_the_side_that_answers<T, F>(
    core: &Arc<Core>,
    wanted: &Wanted,
    apply: &F,
) -> Result<T, ReadError>
where
    F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>>,
{
    let stance = stance(core)?;
    let side = read_side(&stance);
    match found_on(core, side, wanted, apply).await {
        Err(ReadError::Store(error)) if error.is_connection() && side != stance.mode.base() => {
            Counters::add(&core.counters.read_fallbacks, 1);
            found_on(core, stance.mode.base(), wanted, apply).await
        }
        result => result,
    }
}

async fn found_on<T, F>(core: &Arc<Core>, side: Side, wanted: &Wanted, apply: &F) -> Result<T, ReadError>
where
    F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>>,
{
    let shard = match (wanted, core.sides.shards(side)) {
        (Wanted::Anything, 1) => 0,
        (Wanted::Anything, shards) => return Err(ReadError::Place(Refusal::ShardUnknown { side, shards })),
        (Wanted::Row(table, stated), _) => core
            .sides
            .locate(side, *table, stated)
            .await
            .map_err(|fault| said(fault, side))?,
    };
    on(core, (side, shard), apply).await
}

async fn on<T, F>(core: &Arc<Core>, (side, shard): (Side, usize), apply: &F) -> Result<T, ReadError>
where
    F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>>,
{
    let database = core.sides.database(side, shard).map_err(|fault| said(fault, side))?;
    let options = TxOptions {
        statement_timeout: Some(STATEMENT_TIMEOUT),
        ..TxOptions::read_only()
    };
    let mut session = Session::new(database.begin(options).await?, (side, shard), core.sides.clone());
    let result = apply(&mut session).await;
    session.leave().tx.rollback().await;
    result.map_err(|error| match error {
        ApplyError::Store(error) => ReadError::Store(error),
        ApplyError::Application(error) => ReadError::Application(error),
    })
}

fn said(fault: Fault, side: Side) -> ReadError {
    match fault {
        Fault::Failed(Failure::Store(error)) | Fault::Contention(Failure::Store(error)) => ReadError::Store(error),
        Fault::Refused(Refusal::NotConfigured { .. }) => ReadError::NotConfigured { side },
        Fault::Refused(refusal) => ReadError::Place(refusal),
        fault => ReadError::Application(fault.text().into()),
    }
}
