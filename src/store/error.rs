//! What can go wrong with a database, in kinds that a caller can act on. The text carries the label of the database
//! and its own message, never a URL or password.

/// Variants are named after what the caller does about them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("{label}: the connection settings cannot be used: {message}")]
    Config { label: String, message: String },
    #[error("{label}: cannot be reached: {message}; check host, port and network policies, and that the server runs")]
    Unreachable { label: String, message: String },
    #[error("{label}: the login was refused: {message}; check user, password and database in the connection URL")]
    Auth { label: String, message: String },
    #[error("{label}: TLS failed: {message}; check the CA certificate, or the `tls.mode` of this side")]
    Tls { label: String, message: String },
    #[error("{label}: the connection was lost: {message}")]
    ConnectionLost { label: String, message: String },
    /// Of a statement, of a commit, or of waiting for a free connection.
    #[error("{label}: took too long: {message}")]
    Timeout { label: String, message: String },
    #[error("{label}: waited too long for a lock: {message}")]
    LockTimeout { label: String, message: String },
    #[error("{label}: deadlock: {message}")]
    Deadlock { label: String, message: String },
    #[error("{label}: another row already has this value of unique index {index}: {message}")]
    Duplicate {
        label: String,
        index: String,
        message: String,
    },
    #[error("{label}: the table is fenced: {message}")]
    Fenced { label: String, message: String },
    #[error("{label}: {message}; create the table, or correct its name in the manifest")]
    MissingTable { label: String, message: String },
    #[error("{label}: a privilege is missing: {message}")]
    Privilege { label: String, message: String },
    /// A value cannot be held or read exactly, or breaks a constraint.
    #[error("{label}: {message}")]
    Data { label: String, message: String },
    /// Disk full, too many connections, shutting down: the server is there and cannot work now.
    #[error("{label}: the server cannot work at the moment: {message}")]
    Unavailable { label: String, message: String },
    #[error("{label}: {message}")]
    Other { label: String, message: String },
}

impl StoreError {
    /// Worth trying again, in a new transaction and after a pause.
    pub fn is_transient(&self) -> bool {
        match self {
            StoreError::Unreachable { .. }
            | StoreError::ConnectionLost { .. }
            | StoreError::Timeout { .. }
            | StoreError::LockTimeout { .. }
            | StoreError::Deadlock { .. }
            | StoreError::Unavailable { .. } => true,
            StoreError::Config { .. }
            | StoreError::Auth { .. }
            | StoreError::Tls { .. }
            | StoreError::Duplicate { .. }
            | StoreError::Fenced { .. }
            | StoreError::MissingTable { .. }
            | StoreError::Privilege { .. }
            | StoreError::Data { .. }
            | StoreError::Other { .. } => false,
        }
    }

    /// The database has an objection to a row, not to the moment.
    pub fn is_row_problem(&self) -> bool {
        matches!(self, StoreError::Data { .. } | StoreError::Duplicate { .. })
    }

    /// The server itself did not answer: nothing sent to it now will succeed soon.
    pub fn is_connection(&self) -> bool {
        matches!(
            self,
            StoreError::Unreachable { .. } | StoreError::ConnectionLost { .. } | StoreError::Unavailable { .. }
        )
    }

    /// A CamelCase word for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            StoreError::Config { .. } => "InvalidConnection",
            StoreError::Unreachable { .. } => "Unreachable",
            StoreError::Auth { .. } => "LoginRefused",
            StoreError::Tls { .. } => "TLSFailed",
            StoreError::ConnectionLost { .. } => "ConnectionLost",
            StoreError::Timeout { .. } => "Timeout",
            StoreError::LockTimeout { .. } => "LockTimeout",
            StoreError::Deadlock { .. } => "Deadlock",
            StoreError::Duplicate { .. } => "DuplicateKey",
            StoreError::Fenced { .. } => "Fenced",
            StoreError::MissingTable { .. } => "TableMissing",
            StoreError::Privilege { .. } => "PrivilegeMissing",
            StoreError::Data { .. } => "DataRefused",
            StoreError::Unavailable { .. } => "ServerUnavailable",
            StoreError::Other { .. } => "DatabaseError",
        }
    }
}

/// Why a commit did not say yes. The two are different promises, and only the first may be told to a user as "failed".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Nothing of the transaction is in the database.
    #[error("not committed: {0}")]
    Refused(StoreError),
    /// COMMIT was sent and its answer was lost: the transaction may be in the database or not.
    #[error("outcome of the commit unknown: {0}")]
    Unknown(StoreError),
}

impl CommitError {
    pub fn into_inner(self) -> StoreError {
        match self {
            CommitError::Refused(e) | CommitError::Unknown(e) => e,
        }
    }
}
