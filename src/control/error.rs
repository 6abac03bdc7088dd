//! What can go wrong with the control tables, each with what it means for whoever asked.

use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The database's own error.
    #[error(transparent)]
    Store(#[from] StoreError),

    /// The one who asks is behind (or, for a worker, not exactly at) the control row's epoch: nothing may be written.
    #[error(
        "stale epoch: the control row of migration {migration} is at epoch {epoch} and admits instances from {min_epoch}, \
         this process is at {mine}; it must read its mode (or its task) again before it writes"
    )]
    Stale {
        migration: String,
        epoch: i64,
        min_epoch: i64,
        mine: i64,
    },

    /// There is no control row where there has to be one.
    #[error(
        "no control row for {what}, though this process is at epoch {mine}: the _datamigration_* tables of this database \
         are missing or were restored from before the migration; restore them, or start the migration again"
    )]
    Missing { what: String, mine: i64 },

    /// Another migration owns the table or the journal.
    #[error(
        "table {table} is claimed by migration {owner} (uid {uid}): one table has one migration; delete that one first, or \
         take the table out of this one"
    )]
    Claimed { table: String, owner: String, uid: String },

    /// The journal is ahead of what is asked; numbers only grow.
    #[error(
        "the journal of migration {migration} is at epoch {found}, which is ahead of the {asked} that was asked for; it \
         is left as it is"
    )]
    Ahead { migration: String, found: i64, asked: i64 },

    /// A control table holds what nobody of ours writes.
    #[error(
        "the control table {table} holds {found} where {expected} is expected; it is written by datamigration only: restore it"
    )]
    Damaged {
        table: &'static str,
        expected: &'static str,
        found: String,
    },
}
