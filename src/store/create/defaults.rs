//! Defaults from one engine's catalogue in the other's words: constants and "now". Anything else means something only
//! where it was written.

use crate::rows::LogicalType as T;
use crate::rows::canonical::decimal;
use crate::store::ident::literal;
use crate::store::{ColumnSchema, Engine};

enum Default {
    Null,
    Text(String),
    Number(String),
    Bool(bool),
    Now,
    /// As the engine wrote it.
    Own(String),
}

/// What stands behind DEFAULT in the target; `None`: nothing that would mean the same.
pub fn carried(default: &str, column: &ColumnSchema, from: Engine, to: Engine) -> Option<String> {
    let parsed = match from {
        Engine::MySql => of_mysql(default, &column.logical),
        // SQLite's constants are spelled as PostgreSQL's, without a type behind them.
        Engine::Postgres | Engine::Sqlite => of_postgres(default),
    };
    let boolean = column.logical == T::Bool;
    match (parsed, to) {
        (Default::Null, _) => Some("NULL".to_owned()),
        (Default::Text(text), _) if text.starts_with("0000-00-00") && from != to => None,
        // MySQL wants an expression where a constant text could be long.
        (Default::Text(text), Engine::MySql) => Some(format!("({})", literal(&text, to))),
        (Default::Text(text), Engine::Postgres | Engine::Sqlite) => Some(literal(&text, to)),
        (Default::Number(number), Engine::Postgres) if boolean => match number.as_str() {
            "0" => Some("false".to_owned()),
            "1" => Some("true".to_owned()),
            _ => None,
        },
        (Default::Number(number), _) => Some(number),
        (Default::Bool(truth), Engine::Postgres) => Some(truth.to_string()),
        (Default::Bool(truth), Engine::MySql | Engine::Sqlite) => Some(u8::from(truth).to_string()),
        (Default::Now, _) => now(column, to),
        (Default::Own(_), _) if from != to => None,
        (Default::Own(text), _) if text.contains("nextval(") => None,
        (Default::Own(text), _) => Some(format!("({text})")),
    }
}

fn now(column: &ColumnSchema, to: Engine) -> Option<String> {
    match (&column.logical, to) {
        (T::Timestamp { digits: 0, .. }, Engine::MySql) | (T::Timestamp { .. }, Engine::Sqlite) => {
            Some("CURRENT_TIMESTAMP".to_owned())
        }
        (T::Timestamp { digits, .. }, Engine::MySql) => Some(format!("CURRENT_TIMESTAMP({digits})")),
        (T::Timestamp { utc: true, .. }, Engine::Postgres) => Some("now()".to_owned()),
        (T::Timestamp { utc: false, .. }, Engine::Postgres) => Some("(now() AT TIME ZONE 'UTC')".to_owned()),
        _ => None,
    }
}

/// MariaDB quotes constants; MySQL 8 does not, and there the column's type tells a text from the rest.
fn of_mysql(default: &str, logical: &T) -> Default {
    let lower = default.to_ascii_lowercase();
    if let Some(text) = between_quotes(default) {
        return Default::Text(text);
    }
    if lower == "null" {
        return Default::Null;
    }
    if lower.starts_with("current_timestamp") || lower.starts_with("now(") {
        return Default::Now;
    }
    match lower.as_str() {
        "b'0'" => return Default::Bool(false),
        "b'1'" => return Default::Bool(true),
        _ => {}
    }
    match logical {
        T::Text { .. } | T::Enum { .. } | T::Set { .. } | T::Date | T::Time { .. } | T::Timestamp { .. } | T::Uuid
            if !default.contains('(') =>
        {
            Default::Text(default.to_owned())
        }
        _ => decimal(default).map_or_else(|_| Default::Own(default.to_owned()), Default::Number),
    }
}

fn of_postgres(default: &str) -> Default {
    // A constant is followed by its type.
    let (value, _) = match default.rsplit_once("::") {
        Some((value, kind)) if !kind.contains('\'') && !kind.contains(')') => (value, Some(kind)),
        _ => (default, None),
    };
    let value = value
        .strip_prefix('(')
        .and_then(|v| v.strip_suffix(')'))
        .unwrap_or(value);
    let lower = value.to_ascii_lowercase();
    if let Some(text) = between_quotes(value) {
        return Default::Text(text);
    }
    if let Ok(number) = decimal(value) {
        return Default::Number(number);
    }
    match lower.as_str() {
        "null" => Default::Null,
        "true" => Default::Bool(true),
        "false" => Default::Bool(false),
        _ if lower.starts_with("now()") || lower.starts_with("current_timestamp") => Default::Now,
        _ => Default::Own(default.to_owned()),
    }
}

/// The text of one quoted constant.
fn between_quotes(text: &str) -> Option<String> {
    let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
    let plain = inner.replace("''", "\u{1}");
    (!plain.contains('\'')).then(|| plain.replace('\u{1}', "'"))
}
