//! A read: on the side that the mode names, or on a share of both.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rand::Rng;

use super::counters::Counters;
use super::error::{ApplyError, Failure, Fault, ReadError};
use super::session::Session;
use super::write::Core;
use crate::store::TxOptions;
use crate::words::Side;

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn from_the_side_that_answers<T, F>(core: &Arc<Core>, apply: &F) -> Result<T, ReadError>
where
    F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>>,
{
    let Some(stance) = core.router.current() else {
        return Err(ReadError::NoMode(
            core.router.problem().unwrap_or_else(|| "not read yet".to_owned()),
        ));
    };
    let side = stance.read_side(rand::rng().random_range(0..100));
    match on(core, side, apply).await {
        Err(ReadError::Store(error)) if error.is_connection() && side != stance.mode.base() => {
            Counters::add(&core.counters.read_fallbacks, 1);
            on(core, stance.mode.base(), apply).await
        }
        result => result,
    }
}

async fn on<T, F>(core: &Arc<Core>, side: Side, apply: &F) -> Result<T, ReadError>
where
    F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<T, ApplyError>>,
{
    let database = core.sides.database(side).map_err(|fault| match fault {
        Fault::Failed(Failure::Store(error)) | Fault::Contention(Failure::Store(error)) => ReadError::Store(error),
        _ => ReadError::NotConfigured { side },
    })?;
    let options = TxOptions {
        statement_timeout: Some(STATEMENT_TIMEOUT),
        ..TxOptions::read_only()
    };
    let mut session = Session::new(database.begin(options).await?, side, core.sides.clone());
    let result = apply(&mut session).await;
    session.leave().tx.rollback().await;
    result.map_err(|error| match error {
        ApplyError::Store(error) => ReadError::Store(error),
        ApplyError::Application(error) => ReadError::Application(error),
    })
}
