//! MySQL and MariaDB: how a session is opened, what its values look like on the wire.

use std::sync::{Arc, OnceLock};

use sqlx::mysql::{
    MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions, MySqlRow, MySqlSslMode,
};
use sqlx::query::Query;
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Executor as _, MySql, Row as _, TypeInfo as _,
    ValueRef as _,
};

use super::cells::Cell;
use super::config::UrlParts;
use super::load::Lane;
use super::{ConnectConfig, IDLE_IN_TRANSACTION, TlsMode, TxOptions};
use crate::rows::Value;

/// MariaDB and MySQL differ in how a statement's time is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    MariaDb,
    MySql,
}

pub(crate) fn options(config: &ConnectConfig, parts: &UrlParts) -> MySqlConnectOptions {
    let mut options = MySqlConnectOptions::new()
        .host(&parts.host)
        .port(parts.port)
        .username(&parts.user)
        .database(&parts.database)
        .charset("utf8mb4")
        .timezone(Some("+00:00".to_owned()))
        .pipes_as_concat(false)
        .statement_cache_capacity(200)
        .ssl_mode(match config.tls {
            TlsMode::VerifyFull => MySqlSslMode::VerifyIdentity,
            TlsMode::VerifyCa => MySqlSslMode::VerifyCa,
            TlsMode::Disabled => MySqlSslMode::Disabled,
        })
        // Statements carry the users' data: they do not belong in logs.
        .disable_statement_logging();
    if let Some(password) = &parts.password {
        options = options.password(password);
    }
    if let Some(ca) = &config.ca {
        options = options.ssl_ca(ca);
    }
    options
}

pub(crate) fn pool(config: &ConnectConfig, options: MySqlConnectOptions) -> (MySqlPool, Arc<OnceLock<Flavour>>) {
    let flavour = Arc::new(OnceLock::new());
    let seen = flavour.clone();
    let pool = MySqlPoolOptions::new()
        .max_connections(config.max_connections.max(1))
        .min_connections(0)
        // A stale connection is found by `begin`, which is safe to repeat; a ping before each would cost a round trip.
        .test_before_acquire(false)
        .after_connect(move |conn, _| {
            let seen = seen.clone();
            Box::pin(async move {
                let found = prepare_session(conn).await?;
                let _ = seen.set(found);
                Ok(())
            })
        })
        .connect_lazy_with(options);
    (pool, flavour)
}

/// One connection outside the pool, whose error says why there is none.
pub(crate) async fn try_connect(options: &MySqlConnectOptions) -> Result<(), sqlx::Error> {
    let mut conn = options.connect().await?;
    prepare_session(&mut conn).await?;
    conn.close().await
}

pub(crate) async fn prepare_session(conn: &mut MySqlConnection) -> Result<Flavour, sqlx::Error> {
    let (version,): (String,) = sqlx::query_as("SELECT VERSION()").fetch_one(&mut *conn).await?;
    let flavour = if version.contains("MariaDB") {
        Flavour::MariaDb
    } else {
        Flavour::MySql
    };
    let idle = IDLE_IN_TRANSACTION.as_secs();
    let idle = match flavour {
        Flavour::MariaDb => format!("idle_transaction_timeout = {idle}"),
        // MySQL has no such limit for transactions alone; a pooled connection that it ends is opened again.
        Flavour::MySql => format!("wait_timeout = {idle}"),
    };
    // NO_AUTO_VALUE_ON_ZERO: a key of 0 is a key, not a request for the next number. Zero dates are allowed because
    // they must be carried as they are.
    conn.execute(AssertSqlSafe(format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO', \
         SESSION time_zone = '+00:00', SESSION autocommit = 1, SESSION foreign_key_checks = 1, \
         SESSION unique_checks = 1, SESSION sql_safe_updates = 0, SESSION sql_select_limit = DEFAULT, SESSION {idle}"
    )))
    .await?;
    Ok(flavour)
}

/// The statements that open a transaction: every limit is set anew, because connections are shared.
pub(crate) fn begin_sql(flavour: Flavour, options: &TxOptions) -> String {
    let push = |sql: &mut String, part: std::fmt::Arguments<'_>| sql.push_str(&part.to_string());
    let mut lock = options.lock_timeout;
    // The pass of a fence is one transaction's, and user variables are the session's.
    let mut sql = String::from("SET @datamigration_fence_pass = NULL, SESSION ");
    match flavour {
        Flavour::MariaDb => {
            let seconds = options.statement_timeout.map_or(0.0, |t| t.as_secs_f64());
            push(&mut sql, format_args!("max_statement_time = {seconds:.3}, "));
        }
        Flavour::MySql => {
            let ms = options.statement_timeout.map_or(0, |t| t.as_millis());
            push(&mut sql, format_args!("max_execution_time = {ms}, "));
        }
    }
    if let Some(statement) = options.statement_timeout {
        lock = lock.min(statement);
    }
    // Whole seconds, at least one: 0 would mean "do not wait at all".
    let seconds = lock.as_millis().div_ceil(1000).max(1);
    push(
        &mut sql,
        format_args!("innodb_lock_wait_timeout = {seconds}, lock_wait_timeout = {seconds}; START TRANSACTION"),
    );
    if options.read_only {
        sql.push_str(" READ ONLY");
    }
    sql
}

pub(crate) fn bind<'q>(query: Query<'q, MySql, MySqlArguments>, value: &Value) -> Query<'q, MySql, MySqlArguments> {
    match value {
        Value::Null => query.bind(None::<String>),
        Value::Int(n) => query.bind(*n),
        Value::UInt(n) => query.bind(*n),
        Value::Float(x) => query.bind(*x),
        Value::Text(s) => query.bind(s.clone()),
        Value::Bytes(b) => query.bind(b.clone()),
    }
}

/// Every column of a row as the server typed it (binary protocol). A zero date in a typed column cannot be told from
/// NULL here; row operations read such columns as text instead.
pub(crate) fn decode(row: &MySqlRow) -> Result<Vec<Value>, sqlx::Error> {
    (0..row.len()).map(|i| cell(row, i)).collect()
}

pub(crate) fn cell(row: &MySqlRow, i: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(i)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    // The driver calls a text of a binary collation (`utf8mb4_bin`) VARBINARY: the character set tells which it is.
    if <str as sqlx::Type<MySql>>::compatible(row.columns()[i].type_info()) {
        return Ok(Value::Text(row.try_get_unchecked::<String, _>(i)?));
    }
    let name = row.columns()[i].type_info().name().to_owned();
    let undecodable = |message: String| sqlx::Error::ColumnDecode {
        index: i.to_string(),
        source: message.into(),
    };
    Ok(match name.as_str() {
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => {
            Value::Int(row.try_get_unchecked::<i64, _>(i)?)
        }
        "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "MEDIUMINT UNSIGNED" | "INT UNSIGNED" | "BIGINT UNSIGNED"
        | "YEAR" => Value::unsigned(row.try_get_unchecked::<u64, _>(i)?),
        "BIT" => {
            let bytes = row.try_get_unchecked::<&[u8], _>(i)?;
            Value::unsigned(bytes.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b)))
        }
        "FLOAT" => Value::Float(f64::from(row.try_get_unchecked::<f32, _>(i)?)),
        "DOUBLE" => Value::Float(row.try_get_unchecked::<f64, _>(i)?),
        "BINARY" | "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" | "GEOMETRY" => {
            Value::Bytes(row.try_get_unchecked::<Vec<u8>, _>(i)?)
        }
        "DATE" | "DATETIME" | "TIMESTAMP" => {
            let bytes = row.try_get_unchecked::<&[u8], _>(i)?;
            Value::Text(date_time(bytes, name == "DATE").ok_or_else(|| undecodable("a malformed date".to_owned()))?)
        }
        "TIME" => {
            let bytes = row.try_get_unchecked::<&[u8], _>(i)?;
            Value::Text(time(bytes).ok_or_else(|| undecodable("a malformed time".to_owned()))?)
        }
        "DECIMAL" => {
            let text = row.try_get_unchecked::<String, _>(i)?;
            Value::Text(crate::rows::canonical::decimal(&text).map_err(undecodable)?)
        }
        _ => Value::Text(row.try_get_unchecked::<String, _>(i)?),
    })
}

/// A cell's bytes as the binary protocol has them, in a lane that takes them as they are. `None`: not of that type.
pub(crate) fn raw(lane: Lane, bytes: &[u8]) -> Option<Cell<'_>> {
    Some(match lane {
        Lane::Int => Cell::Int(match bytes.len() {
            8 => i64::from_le_bytes(bytes.try_into().ok()?),
            4 => i64::from(i32::from_le_bytes(bytes.try_into().ok()?)),
            2 => i64::from(i16::from_le_bytes(bytes.try_into().ok()?)),
            1 => i64::from(i8::from_le_bytes(bytes.try_into().ok()?)),
            _ => return None,
        }),
        Lane::Unsigned => Cell::Unsigned(match bytes.len() {
            8 => u64::from_le_bytes(bytes.try_into().ok()?),
            4 => u64::from(u32::from_le_bytes(bytes.try_into().ok()?)),
            2 => u64::from(u16::from_le_bytes(bytes.try_into().ok()?)),
            1 => u64::from(*bytes.first()?),
            _ => return None,
        }),
        Lane::Float => match bytes.len() {
            8 => Cell::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
            4 => Cell::Float32(f32::from_le_bytes(bytes.try_into().ok()?)),
            _ => return None,
        },
        Lane::Text => Cell::Text(std::str::from_utf8(bytes).ok()?),
        Lane::Bytes => Cell::Bytes(bytes),
        Lane::Exact => return None,
    })
}

/// The binary protocol's DATE and DATETIME: a length, then as many parts as are not zero.
fn date_time(bytes: &[u8], date_only: bool) -> Option<String> {
    let part = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let year = u16::from_le_bytes([*bytes.get(1)?, *bytes.get(2)?]);
    let date = format!("{year:04}-{:02}-{:02}", part(3), part(4));
    if date_only {
        return Some(date);
    }
    let micros = u32::from_le_bytes([part(8), part(9), part(10), part(11)]);
    Some(format!(
        "{date} {:02}:{:02}:{:02}.{micros:06}",
        part(5),
        part(6),
        part(7)
    ))
}

fn time(bytes: &[u8]) -> Option<String> {
    let part = |i: usize| bytes.get(i).copied().unwrap_or(0);
    bytes.first()?;
    let sign = if part(1) == 1 { "-" } else { "" };
    let hours = u32::from_le_bytes([part(2), part(3), part(4), part(5)]) * 24 + u32::from(part(6));
    let micros = u32::from_le_bytes([part(9), part(10), part(11), part(12)]);
    Some(format!("{sign}{hours:02}:{:02}:{:02}.{micros:06}", part(7), part(8)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_transaction_sets_every_limit() {
        let follower = TxOptions::bounded(Duration::from_millis(500));
        assert_eq!(
            begin_sql(Flavour::MariaDb, &follower),
            "SET @datamigration_fence_pass = NULL, SESSION max_statement_time = 0.500, innodb_lock_wait_timeout = 1, lock_wait_timeout = 1; START TRANSACTION"
        );
        assert_eq!(
            begin_sql(Flavour::MySql, &TxOptions::read_only()),
            "SET @datamigration_fence_pass = NULL, SESSION max_execution_time = 0, innodb_lock_wait_timeout = 5, lock_wait_timeout = 5; START TRANSACTION READ ONLY"
        );
    }

    #[test]
    fn binary_dates() {
        assert_eq!(date_time(&[4, 0xe8, 0x07, 2, 29], true).as_deref(), Some("2024-02-29"));
        assert_eq!(
            date_time(&[7, 0xe8, 0x07, 2, 29, 1, 2, 3], false).as_deref(),
            Some("2024-02-29 01:02:03.000000")
        );
        assert_eq!(
            time(&[8, 1, 34, 0, 0, 0, 22, 59, 59]).as_deref(),
            Some("-838:59:59.000000")
        );
        assert_eq!(time(&[0]).as_deref(), Some("00:00:00.000000"));
        assert_eq!(date_time(&[], true), None);
    }
}
