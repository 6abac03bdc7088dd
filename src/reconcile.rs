//! One pass over one migration: observe, decide, check, act, write the status. Every pass starts from what is there now;
//! an error ends it, is shown, and the next pass starts over.

use jiff::Timestamp;
use kube::ResourceExt;
use std::time::Duration;

use crate::act::{act, remove_finalizer};
use crate::api::conditions::{ConditionType, Reason};
use crate::api::status::DataMigrationStatus;
use crate::api::{DataMigration, FINALIZER, Invalid, validate};
use crate::decide::invariants::{self, Broken};
use crate::decide::{Account, Finding, Truth, decide};
use crate::observe::observe;
use crate::platform::{Platform, PlatformError};
use crate::status;

/// With nothing to wait for, look again this often; whatever changes is seen by watches.
const IDLE: Duration = Duration::from_mins(5);

/// A pass that could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error("DataMigration {migration}: {broken}; nothing was done")]
    Invariant { migration: String, broken: Broken },
}

/// Makes one pass; returns when to make the next one.
pub async fn reconcile(
    platform: &dyn Platform,
    namespace: &str,
    name: &str,
    now: Timestamp,
) -> Result<Duration, ReconcileError> {
    // A cache may be behind; what is decided on is read.
    let Some(raw) = platform.migration(namespace, name).await? else {
        return Ok(IDLE);
    };
    let migration = match validate(&raw) {
        Ok(migration) => migration,
        Err(errors) => return refuse(platform, &raw, &errors, now).await,
    };
    let world = observe(platform, &raw, &migration).await?;
    if world.deleting.is_some() && !world.finalizer {
        return Ok(IDLE);
    }
    let decision = decide(&migration, &world, now);
    if let Err(broken) = invariants::check(&migration, &world, &decision) {
        return Err(ReconcileError::Invariant {
            migration: migration.id(),
            broken,
        });
    }
    let departs = decision
        .actions
        .iter()
        .any(|action| matches!(action, crate::decide::Action::RemoveFinalizer { .. }));
    let acted = act(platform, &raw, &migration, &decision.actions).await;
    if !departs {
        let next = status::status(&decision.account, &world.previous, migration.generation, now);
        write(platform, &raw, &world.previous, &next).await?;
    }
    match acted {
        // Somebody was faster: what they did is seen at once.
        Err(PlatformError::Conflict { what }) => {
            tracing::info!(migration = %migration.id(), what, "changed in the meantime; looking again");
            Ok(Duration::from_millis(200))
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok(decision.wake.unwrap_or(IDLE).clamp(Duration::from_millis(100), IDLE)),
    }
}

/// Writes the status if it says anything new, then tells what turned.
async fn write(
    platform: &dyn Platform,
    raw: &DataMigration,
    previous: &DataMigrationStatus,
    next: &DataMigrationStatus,
) -> Result<(), PlatformError> {
    if status::same(previous, next) {
        return Ok(());
    }
    platform.write_status(raw, next).await?;
    for event in status::events(previous, next) {
        if let Err(error) = platform.publish(raw, &event).await {
            tracing::warn!(%error, reason = event.reason, "event not told");
        }
    }
    Ok(())
}

/// A manifest that cannot be honoured: said so, and nothing else is done; what runs keeps running.
async fn refuse(
    platform: &dyn Platform,
    raw: &DataMigration,
    errors: &[Invalid],
    now: Timestamp,
) -> Result<Duration, ReconcileError> {
    if raw.metadata.deletion_timestamp.is_some() {
        if raw.finalizers().iter().any(|name| name == FINALIZER) {
            let note = "the manifest was not valid; the application keeps the mode that its ConfigMap shows";
            remove_finalizer(platform, raw, note).await?;
        }
        return Ok(IDLE);
    }
    let previous = raw.status.clone().unwrap_or_default();
    let message = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let finding = |kind, truth| Finding {
        kind,
        truth,
        reason: Reason::Invalid,
        message: message.clone(),
    };
    let account = Account {
        phase: previous.phase,
        epoch: previous.epoch,
        mode: previous.mode,
        secondary: previous.secondary_writes,
        message: "the manifest cannot be honoured".to_owned(),
        waiting_for: Some(format!("the manifest to be corrected: {message}")),
        progress: previous.progress.clone(),
        lag: previous.lag.clone(),
        rows: previous.rows.clone(),
        flip: previous.flip.clone(),
        findings: vec![
            finding(ConditionType::Ready, Truth::False),
            finding(ConditionType::Reconciling, Truth::False),
            finding(ConditionType::Stalled, Truth::True),
        ],
        rest_stands: true,
    };
    let generation = raw.metadata.generation.unwrap_or_default();
    let next = status::status(&account, &previous, generation, now);
    write(platform, raw, &previous, &next).await?;
    Ok(IDLE)
}
