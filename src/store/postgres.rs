//! PostgreSQL: how a session is opened, what its values look like on the wire.

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow, PgSslMode};
use sqlx::query::Query;
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Executor as _, Postgres, Row as _, TypeInfo as _,
    ValueRef as _,
};

use super::config::UrlParts;
use super::{ConnectConfig, IDLE_IN_TRANSACTION, TlsMode, TxOptions};
use crate::rows::{Value, canonical};

/// PostgreSQL counts time from here.
const EPOCH: jiff::civil::DateTime = jiff::civil::date(2000, 1, 1).at(0, 0, 0, 0);

pub(crate) fn options(config: &ConnectConfig, parts: &UrlParts) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&parts.host)
        .port(parts.port)
        .username(&parts.user)
        .database(&parts.database)
        .application_name(&config.application)
        .statement_cache_capacity(200)
        .ssl_mode(match config.tls {
            TlsMode::VerifyFull => PgSslMode::VerifyFull,
            TlsMode::VerifyCa => PgSslMode::VerifyCa,
            TlsMode::Disabled => PgSslMode::Disable,
        })
        // Statements carry the users' data: they do not belong in logs.
        .disable_statement_logging();
    if let Some(password) = &parts.password {
        options = options.password(password);
    }
    if let Some(ca) = &config.ca {
        options = options.ssl_root_cert(ca);
    }
    options
}

pub(crate) fn pool(config: &ConnectConfig, options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(config.max_connections.max(1))
        .min_connections(0)
        .test_before_acquire(false)
        .after_connect(|conn, _| Box::pin(prepare_session(conn)))
        .connect_lazy_with(options)
}

pub(crate) async fn try_connect(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let mut conn = options.connect().await?;
    prepare_session(&mut conn).await?;
    conn.close().await
}

async fn prepare_session(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    // row_security off: a policy that hides rows is an error instead of a hole in the copy.
    conn.execute(AssertSqlSafe(format!(
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET standard_conforming_strings = on; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET bytea_output = hex; \
         SET IntervalStyle = postgres; SET extra_float_digits = 3; SET lc_monetary = 'C'; SET xmloption = content; SET array_nulls = on; \
         SET row_security = off; SET client_min_messages = warning; \
         SET idle_in_transaction_session_timeout = {}",
        IDLE_IN_TRANSACTION.as_millis()
    )))
    .await?;
    Ok(())
}

pub(crate) fn begin_sql(options: &TxOptions) -> String {
    let mode = if options.read_only { " READ ONLY" } else { "" };
    let statement = options.statement_timeout.map_or(0, |t| t.as_millis().max(1));
    let lock = options.lock_timeout.as_millis().max(1);
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED{mode}; SET LOCAL lock_timeout = {lock}; SET LOCAL statement_timeout = {statement}"
    )
}

/// Binds by the value's own kind; NULL is never bound here, it is written out (see `rewrite`).
pub(crate) fn bind<'q>(query: Query<'q, Postgres, PgArguments>, value: &Value) -> Query<'q, Postgres, PgArguments> {
    match value {
        Value::Null => query.bind(None::<String>),
        Value::Int(n) => query.bind(*n),
        Value::UInt(n) => query.bind(n.to_string()),
        Value::Float(x) => query.bind(*x),
        Value::Text(s) => query.bind(s.clone()),
        Value::Bytes(b) => query.bind(b.clone()),
    }
}

/// A server-side statement is typed when it is first prepared: statements bound with other kinds get a text of their own.
pub(crate) fn signature(values: &[&Value]) -> String {
    let kinds: String = values
        .iter()
        .map(|v| match v {
            Value::Null => 'n',
            Value::Int(_) => 'i',
            Value::UInt(_) | Value::Text(_) => 't',
            Value::Float(_) => 'f',
            Value::Bytes(_) => 'b',
        })
        .collect();
    format!(" /* {kinds} */")
}

pub(crate) fn decode(row: &PgRow) -> Result<Vec<Value>, sqlx::Error> {
    (0..row.len()).map(|i| cell(row, i)).collect()
}

fn cell(row: &PgRow, i: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(i)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let name = row.columns()[i].type_info().name().to_owned();
    let malformed = || sqlx::Error::ColumnDecode {
        index: i.to_string(),
        source: format!("a malformed {name}").into(),
    };
    Ok(match name.as_str() {
        "BOOL" => Value::Int(i64::from(row.try_get::<bool, _>(i)?)),
        "INT2" => Value::Int(i64::from(row.try_get::<i16, _>(i)?)),
        "INT4" => Value::Int(i64::from(row.try_get::<i32, _>(i)?)),
        "INT8" => Value::Int(row.try_get::<i64, _>(i)?),
        "FLOAT4" => Value::Float(f64::from(row.try_get::<f32, _>(i)?)),
        "FLOAT8" => Value::Float(row.try_get::<f64, _>(i)?),
        "BYTEA" => Value::Bytes(row.try_get::<Vec<u8>, _>(i)?),
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" | "JSON" => {
            Value::Text(row.try_get_unchecked::<String, _>(i)?)
        }
        "VOID" => Value::Null,
        "JSONB" => {
            let bytes = raw.as_bytes().map_err(|_| malformed())?;
            // The first byte is the format's version.
            let text = bytes
                .split_first()
                .and_then(|(_, rest)| std::str::from_utf8(rest).ok())
                .ok_or_else(malformed)?;
            Value::Text(text.to_owned())
        }
        "UUID" => {
            let bytes = raw.as_bytes().map_err(|_| malformed())?;
            Value::Text(uuid::Uuid::from_slice(bytes).map_err(|_| malformed())?.to_string())
        }
        "TIMESTAMP" | "TIMESTAMPTZ" => Value::Text(timestamp(int(&raw).ok_or_else(malformed)?).ok_or_else(malformed)?),
        "DATE" => Value::Text(date(int(&raw).ok_or_else(malformed)?).ok_or_else(malformed)?),
        "TIME" => Value::Text(time(int(&raw).ok_or_else(malformed)?)),
        "NUMERIC" => Value::Text(numeric(raw.as_bytes().map_err(|_| malformed())?).ok_or_else(malformed)?),
        "OID" => Value::Int(int(&raw).ok_or_else(malformed)?),
        other => {
            // Enumerations travel as text; anything else would be guessed at.
            row.try_get_unchecked::<String, _>(i)
                .map(Value::Text)
                .map_err(|_| sqlx::Error::ColumnDecode {
                    index: i.to_string(),
                    source: format!("values of type {other} are not read; cast the column to text").into(),
                })?
        }
    })
}

fn int(raw: &sqlx::postgres::PgValueRef<'_>) -> Option<i64> {
    match raw.as_bytes().ok()? {
        b if b.len() == 8 => Some(i64::from_be_bytes(b.try_into().ok()?)),
        b if b.len() == 4 => Some(i64::from(i32::from_be_bytes(b.try_into().ok()?))),
        _ => None,
    }
}

fn timestamp(micros: i64) -> Option<String> {
    match micros {
        i64::MAX => return Some("infinity".to_owned()),
        i64::MIN => return Some("-infinity".to_owned()),
        _ => {}
    }
    let t = EPOCH.checked_add(jiff::SignedDuration::from_micros(micros)).ok()?;
    Some(t.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string())
}

fn date(days: i64) -> Option<String> {
    match days {
        2_147_483_647 => return Some("infinity".to_owned()),
        -2_147_483_648 => return Some("-infinity".to_owned()),
        _ => {}
    }
    let t = EPOCH
        .checked_add(jiff::SignedDuration::from_hours(days.checked_mul(24)?))
        .ok()?;
    Some(t.strftime("%Y-%m-%d").to_string())
}

fn time(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    format!(
        "{:02}:{:02}:{:02}.{:06}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        micros % 1_000_000
    )
}

/// The binary NUMERIC: groups of four decimal digits, the weight of the first, a sign, and the display scale.
fn numeric(bytes: &[u8]) -> Option<String> {
    let word = |i: usize| bytes.get(i * 2..i * 2 + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let (groups, weight, sign, scale) = (
        usize::from(word(0)?),
        i32::from(word(1)? as i16),
        word(2)?,
        usize::from(word(3)?),
    );
    match sign {
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        _ => {}
    }
    let group = |n: i32| -> Option<u16> {
        match usize::try_from(weight - n) {
            Ok(i) if i < groups => word(4 + i),
            _ => Some(0),
        }
    };
    let mut text = String::new();
    if sign == 0x4000 {
        text.push('-');
    }
    let four = |n: i32| group(n).map(|g| format!("{g:04}"));
    for n in (0..=weight.max(0)).rev() {
        text.push_str(&four(n)?);
    }
    text.push('.');
    let mut fraction = String::new();
    for n in 1..=scale.div_ceil(4) as i32 {
        fraction.push_str(&four(-n)?);
    }
    text.push_str(fraction.get(..scale)?);
    canonical::decimal(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_transaction_sets_every_limit() {
        assert_eq!(
            begin_sql(&TxOptions::bounded(Duration::from_millis(500))),
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 500; SET LOCAL statement_timeout = 500"
        );
    }

    #[test]
    fn binary_times() {
        assert_eq!(timestamp(0).as_deref(), Some("2000-01-01 00:00:00.000000"));
        assert_eq!(timestamp(-1).as_deref(), Some("1999-12-31 23:59:59.999999"));
        assert_eq!(timestamp(i64::MAX).as_deref(), Some("infinity"));
        assert_eq!(date(59).as_deref(), Some("2000-02-29"));
        assert_eq!(time(86_399_999_999), "23:59:59.999999");
    }

    #[test]
    fn binary_numerics() {
        let of = |words: &[u16]| numeric(&words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<_>>());
        assert_eq!(of(&[2, 0, 0, 2, 12, 3400]).as_deref(), Some("12.34"));
        assert_eq!(of(&[1, 0xFFFF, 0x4000, 4, 5]).as_deref(), Some("-0.0005"));
        assert_eq!(of(&[1, 2, 0, 0, 7]).as_deref(), Some("700000000"));
        assert_eq!(of(&[0, 0, 0xC000, 0]).as_deref(), Some("NaN"));
        assert_eq!(of(&[0, 0, 0, 0]).as_deref(), Some("0"));
        assert_eq!(of(&[9, 0]), None);
    }
}
