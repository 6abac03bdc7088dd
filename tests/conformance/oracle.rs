//! The oracle: what each server itself prints of every value, brought to one form by a few rules of its own. It shares no
//! code with the product: neither its reading, nor its canonical spellings, nor its comparison.

use crate::kinds::Kind;
use crate::place::{Engine, Place, SqliteFile, Stored};
use crate::support::on_mysql;

/// Every row of `orders` as its values' normal forms, sorted.
pub async fn rows(database: &Place, columns: &[(String, Kind)]) -> Vec<Vec<String>> {
    if let Place::File(file) = database {
        return stored(file, columns).await;
    }
    let cells: Vec<String> = columns
        .iter()
        .map(|(name, kind)| {
            let shown = shown(database.engine(), *kind, name);
            match database.engine() {
                // Hexadecimal digits: no value can look like the border between two, or like NULL.
                Engine::MariaDb => format!("IFNULL(HEX(CONVERT({shown} USING utf8mb4)), '~')"),
                Engine::Postgres | Engine::Sqlite => {
                    format!("COALESCE(encode(convert_to({shown}, 'UTF8'), 'hex'), '~')")
                }
            }
        })
        .collect();
    let sql = format!("SELECT CONCAT_WS('|', {}) FROM orders", cells.join(", "));
    let mut rows: Vec<Vec<String>> = database
        .texts(&sql)
        .await
        .into_iter()
        .flatten()
        .map(|row| {
            row.split('|')
                .zip(columns)
                .map(|(cell, (_, kind))| match cell {
                    "~" => "NULL".to_owned(),
                    hex => normal(*kind, &text(hex)),
                })
                .collect()
        })
        .collect();
    rows.sort();
    rows
}

/// The same of a SQLite file, whose values are taken as they are stored: it prints floats as it likes.
async fn stored(file: &SqliteFile, columns: &[(String, Kind)]) -> Vec<Vec<String>> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let found = file.cells(&format!("SELECT {} FROM orders", names.join(", "))).await;
    let mut rows: Vec<Vec<String>> = found
        .into_iter()
        .map(|row| {
            row.into_iter()
                .zip(columns)
                .map(|(cell, (_, kind))| match (cell, kind) {
                    (Stored::Null, _) => "NULL".to_owned(),
                    (Stored::Integer(n), _) => normal(*kind, &n.to_string()),
                    (Stored::Real(x), Kind::Decimal) => normal(*kind, &format!("{x:.3}")),
                    (Stored::Real(x), _) => normal(*kind, &format!("{x:e}")),
                    (Stored::Text(text), _) => normal(*kind, &text),
                    (Stored::Blob(bytes), _) => {
                        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                        normal(*kind, &hex.concat())
                    }
                })
                .collect()
        })
        .collect();
    rows.sort();
    rows
}

fn shown(engine: Engine, kind: Kind, name: &str) -> String {
    match (engine, kind) {
        // An expression over it would have a digit too few there.
        (Engine::MariaDb, Kind::Double) if on_mysql() => format!("CAST({name} AS CHAR)"),
        (Engine::Sqlite, _) => name.to_owned(),
        (Engine::MariaDb, Kind::Float | Kind::Double) => format!("CAST(CAST({name} AS DOUBLE) AS CHAR)"),
        (Engine::MariaDb, Kind::Binary | Kind::Blob | Kind::UuidBytes | Kind::Shape) => format!("HEX({name})"),
        (Engine::MariaDb, Kind::Bits) => format!("CAST({name} + 0 AS CHAR)"),
        (Engine::MariaDb, _) => format!("CAST({name} AS CHAR)"),
        (Engine::Postgres, Kind::Binary | Kind::Blob) => format!("encode({name}, 'hex')"),
        // A four-byte float as the number that it is.
        (Engine::Postgres, Kind::Float) => format!("{name}::double precision::text"),
        (Engine::Postgres, _) => format!("{name}::text"),
    }
}

fn text(hex: &str) -> String {
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal digits"))
        .collect();
    String::from_utf8(bytes).expect("UTF-8")
}

/// One form for what the two engines print differently.
fn normal(kind: Kind, shown: &str) -> String {
    match kind {
        Kind::TinyBool => match shown {
            "true" => "1".to_owned(),
            "false" => "0".to_owned(),
            other => other.to_owned(),
        },
        Kind::Decimal | Kind::LongDecimal | Kind::UnsignedBig => number(shown),
        // A double is enough to tell what a float of half the width is, even where a server prints it with a digit too few.
        Kind::Float => format!("{:08x}", (shown.parse::<f64>().expect("a float") as f32).to_bits()),
        Kind::Double => format!("{:016x}", shown.parse::<f64>().expect("a float").to_bits()),
        Kind::Binary | Kind::Blob | Kind::Shape => shown.to_lowercase(),
        Kind::Uuid | Kind::UuidText | Kind::UuidBytes => shown.replace('-', "").to_lowercase(),
        Kind::Time | Kind::WallClock | Kind::Instant => {
            let shown = shown.strip_suffix("+00").unwrap_or(shown);
            if shown.contains('.') {
                shown.trim_end_matches('0').trim_end_matches('.').to_owned()
            } else {
                shown.to_owned()
            }
        }
        Kind::Json => serde_json::from_str::<serde_json::Value>(shown)
            .expect("JSON")
            .to_string(),
        Kind::Address => shown
            .strip_suffix(if shown.contains(':') { "/128" } else { "/32" })
            .unwrap_or(shown)
            .to_owned(),
        _ => shown.to_owned(),
    }
}

fn number(shown: &str) -> String {
    let (sign, digits) = shown.strip_prefix('-').map_or(("", shown), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if whole.is_empty() && fraction.is_empty() {
        return "0".to_owned();
    }
    format!("{sign}{whole}.{fraction}")
}
