//! The few expressions and conversions that the control tables' statements share.

use super::ControlError;
use crate::{
    rows::{Key, Value},
    store::{Engine, Tx},
};
use std::time::Duration;

/// The key of the advisory lock that stands for a PostgreSQL database's control rows. Row locks would do, but a shared
/// row lock under load held a raise up for seconds; the advisory lock's queue is fair.
pub const CONTROL_LOCK: i64 = 0x6461_7461_6d69_6772; // "datamigr"

/// The database's own clock, UTC, as an expression of the control tables' time columns.
pub fn now(engine: Engine) -> &'static str {
    match engine {
        Engine::MySql => "UTC_TIMESTAMP(6)",
        Engine::Postgres => "(clock_timestamp() AT TIME ZONE 'UTC')",
        // It knows milliseconds, and keeps times as texts.
        Engine::Sqlite => "strftime('%Y-%m-%d %H:%M:%f000', 'now')",
    }
}

/// The database's own clock plus a duration, as an expression of the control tables' time columns.
pub fn later(engine: Engine, wait: Duration) -> String {
    let micros = wait.as_micros();
    match engine {
        Engine::MySql => format!("({} + INTERVAL {micros} MICROSECOND)", now(engine)),
        Engine::Postgres => format!("({} + INTERVAL '{micros} microseconds')", now(engine)),
        Engine::Sqlite => format!(
            "strftime('%Y-%m-%d %H:%M:%f000', 'now', '+{}.{:03} seconds')",
            wait.as_secs(),
            wait.subsec_millis()
        ),
    }
}

/// A time column or expression as canonical text, `YYYY-MM-DD HH:MM:SS.ffffff`.
pub fn time_text(engine: Engine, expression: &str) -> String {
    match engine {
        Engine::MySql => format!("DATE_FORMAT({expression}, '%Y-%m-%d %H:%i:%s.%f')"),
        Engine::Postgres => format!("to_char({expression}, 'YYYY-MM-DD HH24:MI:SS.US')"),
        Engine::Sqlite => expression.to_owned(),
    }
}

/// Canonical text bound as a time.
pub fn time_bind(engine: Engine) -> &'static str {
    match engine {
        Engine::MySql => "CAST(? AS DATETIME(6))",
        Engine::Postgres => "CAST(? AS timestamp)",
        Engine::Sqlite => "?",
    }
}

/// Seconds since a time column, by the database's own clock.
pub fn seconds_since(engine: Engine, column: &str) -> String {
    match engine {
        Engine::MySql => format!("TIMESTAMPDIFF(SECOND, {column}, UTC_TIMESTAMP(6))"),
        Engine::Postgres => {
            format!("CAST(floor(extract(epoch FROM ((clock_timestamp() AT TIME ZONE 'UTC') - {column}))) AS bigint)")
        }
        Engine::Sqlite => format!("(unixepoch('now') - unixepoch({column}))"),
    }
}

/// The database's clock now, as canonical text.
pub async fn clock(tx: &mut Tx) -> Result<String, ControlError> {
    let engine = tx.engine();
    let rows = tx
        .query(&format!("SELECT {}", time_text(engine, now(engine))), &[])
        .await?;
    text(rows.first().map_or(&[], Vec::as_slice), 0, "the clock")
}

/// Parses a canonical time.
pub fn parse_clock(text: &str) -> Option<jiff::civil::DateTime> {
    text.replacen(' ', "T", 1).parse().ok()
}

fn damaged(table: &'static str, expected: &'static str, found: Option<&Value>) -> ControlError {
    ControlError::Damaged {
        table,
        expected,
        found: format!("{found:?}"),
    }
}

pub fn int(row: &[Value], at: usize, table: &'static str) -> Result<i64, ControlError> {
    match row.get(at) {
        Some(Value::Int(number)) => Ok(*number),
        found => Err(damaged(table, "an integer", found)),
    }
}

pub fn text(row: &[Value], at: usize, table: &'static str) -> Result<String, ControlError> {
    match row.get(at) {
        Some(Value::Text(text)) => Ok(text.clone()),
        found => Err(damaged(table, "a text", found)),
    }
}

pub fn optional_text(row: &[Value], at: usize, table: &'static str) -> Result<Option<String>, ControlError> {
    match row.get(at) {
        Some(Value::Null) => Ok(None),
        _ => text(row, at, table).map(Some),
    }
}

/// A row's key, as [`Key::to_json`] spells it.
pub fn key(row: &[Value], at: usize, table: &'static str) -> Result<Key, ControlError> {
    parse_key(&text(row, at, table)?, table)
}

pub fn optional_key(row: &[Value], at: usize, table: &'static str) -> Result<Option<Key>, ControlError> {
    optional_text(row, at, table)?
        .map(|json| parse_key(&json, table))
        .transpose()
}

fn parse_key(json: &str, table: &'static str) -> Result<Key, ControlError> {
    Key::from_json(json).map_err(|_| ControlError::Damaged {
        table,
        expected: "a key as a JSON array",
        found: json.to_owned(),
    })
}

/// `(?, ?, …)`, `n` times.
pub fn placeholders(n: usize) -> String {
    let mut list = "?, ".repeat(n);
    list.truncate(list.len().saturating_sub(2));
    list
}
