//! The control row: epochs, and the journal of where the migration is. Every write transaction reads it under a shared
//! lock and gives up if it is stale; raising takes it exclusively, so a raise waits for the transactions in flight and
//! shuts out all others that are behind.

use super::{
    ControlError, SCHEMA_VERSION, ddl,
    sql::{CONTROL_LOCK, int, now, optional_text, text, time_bind, time_text},
};
use crate::{
    rows::Value,
    store::{Engine, Tx},
};

const TABLE: &str = "_datamigration_control";

/// How far the archive of the source has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Archived {
    #[default]
    No,
    /// Exported, read back and compared with the source.
    Compared,
    /// The source's rows are deleted.
    Deleted,
}

impl Archived {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::No => "No",
            Self::Compared => "Compared",
            Self::Deleted => "Deleted",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::No, Self::Compared, Self::Deleted]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

/// The control row of one migration in one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// `namespace/name` of the DataMigration.
    pub migration: String,
    /// Its UID.
    pub uid: String,
    /// A worker's epoch must equal this.
    pub epoch: i64,
    /// An application instance's epoch must not be below this.
    pub min_epoch: i64,
    /// `write-mode` of `epoch`.
    pub mode: String,
    /// `secondary-writes` of `epoch`.
    pub secondary: String,
    /// How often SourceFirst was entered from SourceOnly; evidence of a copy belongs to one round.
    pub round: i64,
    /// The epoch at which the present base became base.
    pub base_since: i64,
    /// The base's clock when every instance had acknowledged `epoch`; none before.
    pub acked_at: Option<String>,
    /// The source refuses writes.
    pub fenced: bool,
    pub archived: Archived,
    /// The irreversible act that is under way or was, when its outcome is not yet recorded.
    pub intent: Option<String>,
}

/// Which migration a table belongs to, and the epochs of its control row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub migration: String,
    pub uid: String,
    pub epoch: i64,
    pub min_epoch: i64,
}

enum Hold {
    Shared,
    Exclusive,
}

/// Takes the lock that stands for the control rows; on MySQL the row lock of the statement that follows does.
async fn hold(tx: &mut Tx, hold: &Hold) -> Result<&'static str, ControlError> {
    match (tx.engine(), hold) {
        (Engine::MySql, Hold::Shared) => Ok(" LOCK IN SHARE MODE"),
        (Engine::MySql, Hold::Exclusive) => Ok(" FOR UPDATE"),
        // A transaction that may write is the file's only one.
        (Engine::Sqlite, _) => Ok(""),
        (Engine::Postgres, hold) => {
            let function = match hold {
                Hold::Shared => "pg_advisory_xact_lock_shared",
                Hold::Exclusive => "pg_advisory_xact_lock",
            };
            // The row is read in a second statement: the first one's snapshot is older than the lock.
            tx.query(&format!("SELECT CAST({function}({CONTROL_LOCK}) AS text)"), &[])
                .await?;
            Ok("")
        }
    }
}

/// Refuses an application instance that is behind. `table`: the table's name in this database. `None`: no migration has
/// claimed the table, which only an instance that has never seen an epoch may meet.
pub async fn check_instance(tx: &mut Tx, table: &str, mine: i64) -> Result<Option<Claim>, ControlError> {
    let lock = hold(tx, &Hold::Shared).await?;
    if mine == 0 && !ddl::exists(tx).await? {
        return Ok(None);
    }
    let rows = tx
        .query(
            &format!(
                "SELECT c.migration, c.uid, c.epoch, c.min_epoch FROM _datamigration_tables t \
                 JOIN _datamigration_control c ON c.migration = t.migration WHERE t.table_name = ?{lock}"
            ),
            &[Value::from(table)],
        )
        .await?;
    let Some(row) = rows.first() else {
        return if mine == 0 {
            Ok(None)
        } else {
            Err(ControlError::Missing {
                what: format!("table {table}"),
                mine,
            })
        };
    };
    let claim = Claim {
        migration: text(row, 0, TABLE)?,
        uid: text(row, 1, TABLE)?,
        epoch: int(row, 2, TABLE)?,
        min_epoch: int(row, 3, TABLE)?,
    };
    if mine < claim.min_epoch {
        return Err(ControlError::Stale {
            migration: claim.migration,
            epoch: claim.epoch,
            min_epoch: claim.min_epoch,
            mine,
        });
    }
    Ok(Some(claim))
}

/// Refuses a worker whose epoch is not exactly the control row's. Holds the row (shared) until the transaction ends.
pub async fn check_worker(tx: &mut Tx, migration: &str, mine: i64) -> Result<Control, ControlError> {
    let lock = hold(tx, &Hold::Shared).await?;
    match read(tx, migration, lock).await? {
        None => Err(ControlError::Missing {
            what: format!("migration {migration}"),
            mine,
        }),
        Some(control) if control.epoch != mine => Err(ControlError::Stale {
            migration: control.migration,
            epoch: control.epoch,
            min_epoch: control.min_epoch,
            mine,
        }),
        Some(control) => Ok(control),
    }
}

/// The journal of a migration in this database, if there is one. Takes no lock.
pub async fn journal(tx: &mut Tx, migration: &str) -> Result<Option<Control>, ControlError> {
    if ddl::exists(tx).await? {
        read(tx, migration, "").await
    } else {
        Ok(None)
    }
}

async fn read(tx: &mut Tx, migration: &str, lock: &str) -> Result<Option<Control>, ControlError> {
    let acked_at = time_text(tx.engine(), "acked_at");
    let rows = tx
        .query(
            &format!(
                "SELECT migration, uid, schema_version, epoch, min_epoch, mode, secondary, round, base_since, {acked_at}, \
                 fenced, archived, intent FROM {TABLE} WHERE migration = ?{lock}"
            ),
            &[Value::from(migration)],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let version = int(row, 2, TABLE)?;
    if version != SCHEMA_VERSION {
        return Err(ControlError::Damaged {
            table: TABLE,
            expected: "schema version 1 (another release of the operator wrote it: run that one)",
            found: version.to_string(),
        });
    }
    let archived = text(row, 11, TABLE)?;
    Ok(Some(Control {
        migration: text(row, 0, TABLE)?,
        uid: text(row, 1, TABLE)?,
        epoch: int(row, 3, TABLE)?,
        min_epoch: int(row, 4, TABLE)?,
        mode: text(row, 5, TABLE)?,
        secondary: text(row, 6, TABLE)?,
        round: int(row, 7, TABLE)?,
        base_since: int(row, 8, TABLE)?,
        acked_at: optional_text(row, 9, TABLE)?,
        fenced: int(row, 10, TABLE)? != 0,
        archived: Archived::parse(&archived).ok_or(ControlError::Damaged {
            table: TABLE,
            expected: "No, Compared or Deleted",
            found: archived,
        })?,
        intent: optional_text(row, 12, TABLE)?,
    }))
}

/// Which migration (name, UID) has claimed a table of this database.
pub async fn table_owner(tx: &mut Tx, table: &str) -> Result<Option<(String, String)>, ControlError> {
    if !ddl::exists(tx).await? {
        return Ok(None);
    }
    let rows = tx
        .query(
            "SELECT migration, uid FROM _datamigration_tables WHERE table_name = ?",
            &[Value::from(table)],
        )
        .await?;
    rows.first()
        .map(|row| Ok((text(row, 0, TABLE)?, text(row, 1, TABLE)?)))
        .transpose()
}

/// Claims tables of this database for a migration. A re-created resource of the same name takes its own tables back.
pub async fn claim_tables(tx: &mut Tx, migration: &str, uid: &str, tables: &[&str]) -> Result<(), ControlError> {
    hold(tx, &Hold::Exclusive).await?;
    for table in tables {
        match table_owner(tx, table).await? {
            Some((owner, uid)) if owner != migration => {
                return Err(ControlError::Claimed {
                    table: (*table).to_owned(),
                    owner,
                    uid,
                });
            }
            Some((_, claimed_for)) if claimed_for == uid => {}
            Some(_) => {
                tx.execute(
                    "UPDATE _datamigration_tables SET uid = ? WHERE table_name = ?",
                    &[Value::from(uid), Value::from(*table)],
                )
                .await?;
            }
            None => {
                tx.execute(
                    "INSERT INTO _datamigration_tables (table_name, migration, uid, mapping) VALUES (?, ?, ?, '')",
                    &[Value::from(*table), Value::from(migration), Value::from(uid)],
                )
                .await?;
            }
        }
    }
    Ok(())
}

/// Raises the epoch to `wanted.epoch`, with its mode, round and base; creates the row where there is none. Already there:
/// nothing is changed. Ahead of it: [`ControlError::Ahead`]. `min_epoch`, the fence and the archive are never touched here.
pub async fn raise(tx: &mut Tx, wanted: &Control) -> Result<(), ControlError> {
    let lock = hold(tx, &Hold::Exclusive).await?;
    let engine = tx.engine();
    match read(tx, &wanted.migration, lock).await? {
        None => {
            tx.execute(
                &format!(
                    "INSERT INTO {TABLE} (migration, uid, schema_version, epoch, min_epoch, mode, secondary, round, \
                     base_since, acked_at, fenced, archived, intent, changed_at) \
                     VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, NULL, 0, ?, NULL, {})",
                    now(engine)
                ),
                &[
                    Value::from(wanted.migration.as_str()),
                    Value::from(wanted.uid.as_str()),
                    Value::Int(SCHEMA_VERSION),
                    Value::Int(wanted.epoch),
                    Value::from(wanted.mode.as_str()),
                    Value::from(wanted.secondary.as_str()),
                    Value::Int(wanted.round),
                    Value::Int(wanted.base_since),
                    Value::from(Archived::No.as_str()),
                ],
            )
            .await?;
            Ok(())
        }
        Some(found) if found.epoch > wanted.epoch => Err(ControlError::Ahead {
            migration: found.migration,
            found: found.epoch,
            asked: wanted.epoch,
        }),
        Some(found) if found.epoch == wanted.epoch => {
            if found.uid != wanted.uid {
                tx.execute(
                    &format!("UPDATE {TABLE} SET uid = ? WHERE migration = ?"),
                    &[Value::from(wanted.uid.as_str()), Value::from(wanted.migration.as_str())],
                )
                .await?;
            }
            Ok(())
        }
        Some(_) => {
            tx.execute(
                &format!(
                    "UPDATE {TABLE} SET uid = ?, epoch = ?, mode = ?, secondary = ?, round = ?, base_since = ?, \
                     acked_at = NULL, changed_at = {} WHERE migration = ?",
                    now(engine)
                ),
                &[
                    Value::from(wanted.uid.as_str()),
                    Value::Int(wanted.epoch),
                    Value::from(wanted.mode.as_str()),
                    Value::from(wanted.secondary.as_str()),
                    Value::Int(wanted.round),
                    Value::Int(wanted.base_since),
                    Value::from(wanted.migration.as_str()),
                ],
            )
            .await?;
            Ok(())
        }
    }
}

/// Shuts out instances below `min_epoch` and records when all had acknowledged (`acked_at`: the base's clock). Only for
/// the epoch that the row is at; a second call changes nothing.
pub async fn acknowledge_epoch(
    tx: &mut Tx,
    migration: &str,
    min_epoch: i64,
    acked_at: &str,
) -> Result<(), ControlError> {
    let lock = hold(tx, &Hold::Exclusive).await?;
    let engine = tx.engine();
    let Some(found) = read(tx, migration, lock).await? else {
        return Err(ControlError::Missing {
            what: format!("migration {migration}"),
            mine: min_epoch,
        });
    };
    if found.epoch != min_epoch {
        return Err(ControlError::Stale {
            migration: found.migration,
            epoch: found.epoch,
            min_epoch: found.min_epoch,
            mine: min_epoch,
        });
    }
    if found.min_epoch == min_epoch && found.acked_at.is_some() {
        return Ok(());
    }
    tx.execute(
        &format!(
            "UPDATE {TABLE} SET min_epoch = ?, acked_at = {}, changed_at = {} WHERE migration = ?",
            time_bind(engine),
            now(engine)
        ),
        &[Value::Int(min_epoch), Value::from(acked_at), Value::from(migration)],
    )
    .await?;
    Ok(())
}

/// As [`acknowledge_epoch`], at this database's own clock, read while no write is in flight here; answers with that time.
pub async fn acknowledge_epoch_here(tx: &mut Tx, migration: &str, min_epoch: i64) -> Result<String, ControlError> {
    let lock = hold(tx, &Hold::Exclusive).await?;
    if let Some(found) = read(tx, migration, lock).await?
        && found.epoch == min_epoch
        && found.min_epoch == min_epoch
        && let Some(acked_at) = found.acked_at
    {
        return Ok(acked_at);
    }
    let acked_at = super::sql::clock(tx).await?;
    acknowledge_epoch(tx, migration, min_epoch, &acked_at).await?;
    Ok(acked_at)
}

/// Writes down an irreversible act before it is begun (`Some`), or that its outcome is recorded (`None`).
pub async fn record_intent(tx: &mut Tx, migration: &str, intent: Option<&str>) -> Result<(), ControlError> {
    set(tx, migration, "intent", intent.map_or(Value::Null, Value::from)).await
}

/// Records that the source's tables refuse writes (or, after an explicit unfence, no longer do).
pub async fn record_fenced(tx: &mut Tx, migration: &str, fenced: bool) -> Result<(), ControlError> {
    set(tx, migration, "fenced", Value::Int(i64::from(fenced))).await
}

/// Records how far the archive has come.
pub async fn record_archived(tx: &mut Tx, migration: &str, archived: Archived) -> Result<(), ControlError> {
    set(tx, migration, "archived", Value::from(archived.as_str())).await
}

/// One column of the journal. The caller has checked its epoch in this transaction; the update itself takes the row.
async fn set(tx: &mut Tx, migration: &str, column: &'static str, value: Value) -> Result<(), ControlError> {
    let engine = tx.engine();
    tx.execute(
        &format!(
            "UPDATE {TABLE} SET {column} = ?, changed_at = {} WHERE migration = ?",
            now(engine)
        ),
        &[value, Value::from(migration)],
    )
    .await?;
    Ok(())
}
