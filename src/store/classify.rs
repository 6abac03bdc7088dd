//! From a driver's error to a `StoreError`: by the server's own error numbers, which are stable, not by its wording.

use std::error::Error as _;

use sqlx::error::Error as Sqlx;
use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;

use super::StoreError;

/// Every fence's message begins with this; the trigger raises it and the classification looks for it.
pub(crate) const FENCE_MARK: &str = "datamigration fence:";

pub(crate) fn classify(label: &str, error: &Sqlx) -> StoreError {
    let label = label.to_owned();
    match error {
        Sqlx::Database(db) => {
            if let Some(e) = db.try_downcast_ref::<MySqlDatabaseError>() {
                mysql(label, e.number(), e.message())
            } else if let Some(e) = db.try_downcast_ref::<PgDatabaseError>() {
                postgres(label, e)
            } else {
                other(label, db.as_ref())
            }
        }
        Sqlx::Io(e) => StoreError::ConnectionLost {
            label,
            message: e.to_string(),
        },
        Sqlx::Tls(e) => StoreError::Tls {
            label,
            message: e.to_string(),
        },
        Sqlx::PoolTimedOut => StoreError::Timeout {
            label,
            message: "no connection became free".to_owned(),
        },
        Sqlx::PoolClosed | Sqlx::WorkerCrashed => StoreError::ConnectionLost {
            label,
            message: "the connection pool is closed".to_owned(),
        },
        // A protocol error means that the stream of messages broke off or is not what a server sends.
        Sqlx::Protocol(message) => StoreError::ConnectionLost {
            label,
            message: message.clone(),
        },
        Sqlx::ColumnDecode { index, source } => StoreError::Data {
            label,
            message: format!("the value of column {index} cannot be read: {source}"),
        },
        Sqlx::Encode(e) | Sqlx::Decode(e) => StoreError::Data {
            label,
            message: e.to_string(),
        },
        Sqlx::Configuration(_) => StoreError::Config {
            label,
            message: "the driver does not take them; check the URL and the CA certificate file".to_owned(),
        },
        other => {
            let cause = other.source().map(|s| format!(": {s}")).unwrap_or_default();
            StoreError::Other {
                label,
                message: format!("{other}{cause}"),
            }
        }
    }
}

#[cfg(not(feature = "sqlite"))]
fn other(label: String, error: &dyn sqlx::error::DatabaseError) -> StoreError {
    let message = error.message().to_owned();
    StoreError::Other { label, message }
}

/// SQLite, by its extended result codes.
#[cfg(feature = "sqlite")]
fn other(label: String, error: &dyn sqlx::error::DatabaseError) -> StoreError {
    let code: u32 = error.code().and_then(|code| code.parse().ok()).unwrap_or_default();
    let message = format!("{} (SQLite {code})", error.message());
    match (code, code & 0xff) {
        // a unique index, a primary key, a rowid
        (2067 | 1555 | 2579, _) => StoreError::Duplicate {
            label,
            index: sqlite_index(error.message()),
            message,
        },
        // busy, locked
        (_, 5 | 6) => StoreError::LockTimeout {
            label,
            message: format!(
                "{message}; another process writes to the file, or holds a transaction on it open: end that, or try again later"
            ),
        },
        (_, 9) => StoreError::Timeout { label, message },
        // not permitted, read-only, not authorized
        (_, 3 | 8 | 23) => StoreError::Privilege { label, message },
        // out of memory, I/O error, disk full
        (_, 7 | 10 | 13) => StoreError::Unavailable { label, message },
        // cannot be opened, is no database
        (_, 14 | 26) => StoreError::Config { label, message },
        // too large, a constraint, a type that the column refuses
        (_, 18..=20) => StoreError::Data { label, message },
        (_, 1) if message.starts_with("no such table") => StoreError::MissingTable { label, message },
        _ => StoreError::Other { label, message },
    }
}

/// SQLite names the columns of a unique index, not the index: `UNIQUE constraint failed: orders.email`.
#[cfg(feature = "sqlite")]
fn sqlite_index(message: &str) -> String {
    message
        .rsplit_once("constraint failed: ")
        .map_or("(not named)", |(_, columns)| columns)
        .to_owned()
}

/// The same for the first contact, where a broken stream means that nobody answers.
pub(crate) fn classify_connect(label: &str, error: &Sqlx) -> StoreError {
    match classify(label, error) {
        StoreError::ConnectionLost { label, message } => {
            // sqlx reports a certificate that does not verify as an I/O error.
            if message.contains("certificate") || message.contains("invalid peer") {
                StoreError::Tls { label, message }
            } else {
                StoreError::Unreachable { label, message }
            }
        }
        other => other,
    }
}

fn mysql(label: String, number: u16, message: &str) -> StoreError {
    let message = format!("{message} (error {number})");
    match number {
        // access denied to server or database, unknown database, no such auth plugin, host not allowed
        1044 | 1045 | 1049 | 1130 | 1251 | 1275 | 1524 | 1698 | 1862 => StoreError::Auth { label, message },
        1142 | 1143 | 1227 | 1370 | 1419 | 1290 => StoreError::Privilege { label, message },
        1146 | 1051 => StoreError::MissingTable { label, message },
        1062 | 1586 | 1859 => StoreError::Duplicate {
            label,
            index: mysql_index(&message),
            message,
        },
        1205 => StoreError::LockTimeout { label, message },
        // deadlock, and MariaDB's "record has changed since last read"
        1213 | 1614 | 1020 => StoreError::Deadlock { label, message },
        // max_statement_time (MariaDB), max_execution_time (MySQL), query interrupted
        1969 | 3024 | 1317 => StoreError::Timeout { label, message },
        1644 if message.starts_with(FENCE_MARK) => StoreError::Fenced { label, message },
        // server shutdown, killed, aborted, lost, went away, read-only transaction timeout (MariaDB 4031: idle)
        1053 | 1077 | 1152 | 1158..=1161 | 1184 | 1927 | 1943 | 2006 | 2013 | 4031 | 3169 => {
            StoreError::ConnectionLost { label, message }
        }
        // disk full, too many connections, out of resources, table full
        1021 | 1040 | 1041 | 1037 | 1038 | 1114 | 1135 | 1203 | 1226 | 1836 | 3100 => {
            StoreError::Unavailable { label, message }
        }
        // null, too long, out of range, truncated, foreign keys, check, generated columns, charset, bad value
        1048 | 1264 | 1265 | 1292 | 1364 | 1366 | 1406 | 1411 | 1451 | 1452 | 1690 | 1906 | 3819 | 4025 | 3105
        | 3140 | 3141 | 3854 | 1216 | 1217 | 1367 | 1441 | 1644 => StoreError::Data { label, message },
        _ => StoreError::Other { label, message },
    }
}

/// The index that a duplicate-entry message ends with: `… for key 'orders.email'`.
fn mysql_index(message: &str) -> String {
    message
        .rsplit_once("for key '")
        .and_then(|(_, rest)| rest.split_once('\''))
        .map_or("(not named)", |(index, _)| index.rsplit('.').next().unwrap_or(index))
        .to_owned()
}

fn postgres(label: String, error: &PgDatabaseError) -> StoreError {
    let code = error.code();
    let detail = error.detail().map(|d| format!(": {d}")).unwrap_or_default();
    let message = format!("{}{detail} (SQLSTATE {code})", error.message());
    match code {
        "28000" | "28P01" | "3D000" => StoreError::Auth { label, message },
        "42501" => StoreError::Privilege { label, message },
        "42P01" => StoreError::MissingTable { label, message },
        "23505" => StoreError::Duplicate {
            label,
            index: error.constraint().unwrap_or("(not named)").to_owned(),
            message,
        },
        "55P03" => StoreError::LockTimeout { label, message },
        "40P01" | "40001" => StoreError::Deadlock { label, message },
        "57014" => StoreError::Timeout { label, message },
        "P0001" if error.message().starts_with(FENCE_MARK) => StoreError::Fenced { label, message },
        // admin shutdown, crash shutdown, idle in transaction, idle session
        "57P01" | "57P02" | "57P05" | "25P03" => StoreError::ConnectionLost { label, message },
        // cannot connect now, and the plan of a cached statement whose table was altered
        "57P03" | "0A000" if code == "57P03" || message.contains("cached plan") => {
            StoreError::Unavailable { label, message }
        }
        _ if code.starts_with("08") => StoreError::ConnectionLost { label, message },
        _ if code.starts_with("53") || code.starts_with("58") => StoreError::Unavailable { label, message },
        _ if code.starts_with("22") || code.starts_with("23") || code == "P0001" || code == "428C9" => {
            StoreError::Data { label, message }
        }
        _ => StoreError::Other { label, message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(number: u16, message: &str) -> StoreError {
        mysql("source/main".into(), number, message)
    }

    #[test]
    fn mysql_numbers_become_kinds() {
        assert!(matches!(of(1045, "Access denied"), StoreError::Auth { .. }));
        assert!(matches!(of(1205, "Lock wait timeout"), StoreError::LockTimeout { .. }));
        assert!(of(1213, "Deadlock").is_transient());
        assert!(of(1040, "Too many connections").is_transient());
        assert!(!of(1406, "Data too long").is_transient());
        assert!(matches!(
            of(1644, "datamigration fence: shop/orders"),
            StoreError::Fenced { .. }
        ));
        assert!(matches!(
            of(1644, "some trigger of the application"),
            StoreError::Data { .. }
        ));
    }

    #[test]
    fn a_duplicate_names_its_index() {
        let e = of(1062, "Duplicate entry 'a for key 'b'' for key 'orders.email'");
        assert!(
            matches!(e, StoreError::Duplicate { ref index, .. } if index == "email"),
            "{e}"
        );
        let e = of(1062, "Duplicate entry '1' for key 'PRIMARY'");
        assert!(
            matches!(e, StoreError::Duplicate { ref index, .. } if index == "PRIMARY"),
            "{e}"
        );
    }
}
