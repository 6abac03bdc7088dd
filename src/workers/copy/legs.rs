//! A table's copy goes through its legs, one after the other; what is recorded per leg is reported as one.

use super::Copy;
use crate::control::chunks::ChunkSet;
use crate::store::Load;
use crate::workers::context::TaskContext;
use crate::workers::error::WorkError;
use crate::workers::legs::{Leg, legs};
use crate::workers::order;
use crate::workers::throttle::Throttle;
use crate::workers::work::{self, Work};
use std::sync::Arc;

/// Copies the task's table to its end, one leg after the other.
pub async fn run(context: &TaskContext) -> Result<(), WorkError> {
    let table = work::table(context)?;
    let legs: Vec<Leg> = legs(&table, context.task.direction)
        .into_iter()
        .filter(|leg| leg.possible(&table))
        .collect();
    let follower = context.task.direction.follower();
    let (mut before, mut rejected) = (Copied::default(), None);
    for (nth, &leg) in legs.iter().enumerate() {
        let next = legs.get(nth + 1);
        let last = next.is_none_or(|next| next.at(follower) != leg.at(follower));
        let rest = (legs.len() - nth - 1) as u64;
        match copy_leg(context, leg, Around { before, rest, last }).await? {
            Ended::Whole(copied) => before = copied,
            // The rows of the other legs are none the worse for it.
            Ended::Rejected(copied, error) => {
                before = copied;
                rejected.get_or_insert(error);
            }
        }
    }
    rejected.map_or(Ok(()), Err)
}

async fn copy_leg(context: &TaskContext, leg: Leg, around: Around) -> Result<Ended, WorkError> {
    let work = Work::open(context, leg).await?;
    order::after_parents(&work).await?;
    let copy = Copy {
        chunks: ChunkSet {
            migration: work.migration_id(),
            uid: context.migration.uid.clone(),
            table: work.name(),
            round: context.task.round,
        },
        throttle: Throttle::start(context, context.migration.copy.pods),
        load: Arc::new(Load::new(work.base_side(), work.follower_side())),
        around,
        work,
    };
    let copy = Arc::new(copy);
    match copy.clone().run().await {
        Err(error) => Err(copy.work.blame(error).await),
        ended => ended,
    }
}

/// What legs came to so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Copied {
    pub rows: u64,
    pub chunks: u64,
    pub done: u64,
    pub rejects: u64,
}

/// What else there is of the table than this leg.
#[derive(Clone, Copy)]
pub(super) struct Around {
    /// The legs before it.
    pub before: Copied,
    /// How many come after it.
    pub rest: u64,
    /// No later leg writes to the same shard.
    pub last: bool,
}

/// How a leg's copy came to its end.
pub(super) enum Ended {
    Whole(Copied),
    /// But for rows that the follower does not take.
    Rejected(Copied, WorkError),
}
