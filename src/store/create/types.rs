//! In which type of the target a column of the source is made: one that the pair's own table of types then finds to carry
//! every value, or refuses row by row.

use crate::rows::{LogicalType as T, Network};
use crate::store::{ColumnSchema, Engine};

/// What the new table is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    MariaDb,
    MySql,
    Postgres,
    Sqlite,
}

impl Dialect {
    pub fn engine(self) -> Engine {
        match self {
            Self::MariaDb | Self::MySql => Engine::MySql,
            Self::Postgres => Engine::Postgres,
            Self::Sqlite => Engine::Sqlite,
        }
    }

    /// Text is told apart as PostgreSQL does: byte by byte, trailing spaces included.
    fn exact_collation(self) -> &'static str {
        match self {
            Self::MariaDb => "utf8mb4_nopad_bin",
            _ => "utf8mb4_0900_bin",
        }
    }
}

/// Longest VARCHAR that a MySQL row can surely hold beside others.
const LONGEST_VARCHAR: u64 = 4_000;
/// Longest text in a key: MySQL's indexes hold 3,072 bytes.
const LONGEST_KEY: u64 = 255;

/// `keyed`: the column is part of an index.
pub fn native(column: &ColumnSchema, from: Engine, to: Dialect, keyed: bool) -> Result<String, String> {
    if from == to.engine() {
        return Ok(same(column, to));
    }
    match to {
        Dialect::Postgres => postgres(&column.logical),
        Dialect::MariaDb | Dialect::MySql => mysql(&column.logical, to, keyed),
        Dialect::Sqlite => sqlite(column, keyed),
    }
}

fn same(column: &ColumnSchema, to: Dialect) -> String {
    match (to.engine(), &column.logical) {
        // The list of labels is a type of its own, which the target need not have.
        (Engine::Postgres, T::Enum { .. }) => "text".to_owned(),
        (Engine::MySql, T::Json) => "json".to_owned(),
        (Engine::Postgres | Engine::Sqlite, _) => column.native.clone(),
        (Engine::MySql, _) => match &column.collation {
            Some(collation) => {
                let set = collation.split('_').next().unwrap_or(collation);
                format!("{} CHARACTER SET {set} COLLATE {collation}", column.native)
            }
            None => column.native.clone(),
        },
    }
}

fn postgres(logical: &T) -> Result<String, String> {
    Ok(match logical {
        T::Bool => "boolean".to_owned(),
        T::Int {
            bits: 64,
            unsigned: true,
        } => "numeric(20,0)".to_owned(),
        T::Int { bits, unsigned } => match (bits, unsigned) {
            (..=16, false) | (..=8, true) => "smallint",
            (..=32, false) | (..=24, true) => "integer",
            _ => "bigint",
        }
        .to_owned(),
        T::Float32 => "real".to_owned(),
        T::Float64 => "double precision".to_owned(),
        T::Decimal { precision: 0, .. } => "numeric".to_owned(),
        T::Decimal { precision, scale } => format!("numeric({precision},{scale})"),
        T::Year => "smallint".to_owned(),
        T::Text {
            max: Some(max),
            padded: true,
            ..
        } => format!("char({max})"),
        T::Text { max: Some(max), .. } if *max <= LONGEST_VARCHAR => format!("varchar({max})"),
        T::Text { .. } | T::Enum { .. } | T::Set { .. } => "text".to_owned(),
        T::Bytes { .. } => "bytea".to_owned(),
        T::Network(Network::Ip4 | Network::Ip6) => "inet".to_owned(),
        T::Date => "date".to_owned(),
        T::Time { digits } => format!("time({digits})"),
        T::Timestamp { utc: true, digits } => format!("timestamptz({digits})"),
        T::Timestamp { utc: false, digits } => format!("timestamp({digits})"),
        T::Json => "jsonb".to_owned(),
        T::Uuid => "uuid".to_owned(),
        other => return Err(format!("PostgreSQL has no type in which {other} would be carried")),
    })
}

fn mysql(logical: &T, to: Dialect, keyed: bool) -> Result<String, String> {
    let text = |max: u64| format!("varchar({max}) CHARACTER SET utf8mb4 COLLATE {}", to.exact_collation());
    Ok(match logical {
        T::Bool => "tinyint(1)".to_owned(),
        T::Int { bits, unsigned } => {
            let sign = if *unsigned { " unsigned" } else { "" };
            let kind = match bits {
                ..=8 => "tinyint",
                ..=16 => "smallint",
                ..=32 => "int",
                _ => "bigint",
            };
            format!("{kind}{sign}")
        }
        T::Float32 => "float".to_owned(),
        T::Float64 => "double".to_owned(),
        T::Decimal { precision: 0, .. } => "decimal(65,30)".to_owned(),
        T::Decimal { precision, scale } if *precision <= 65 && *scale <= 30 => format!("decimal({precision},{scale})"),
        T::Text {
            max: Some(max),
            padded: true,
            ..
        } if *max <= 255 => format!("char({max}) CHARACTER SET utf8mb4 COLLATE {}", to.exact_collation()),
        T::Text { max: Some(max), .. } if *max <= LONGEST_VARCHAR && (!keyed || *max <= 768) => text(*max),
        T::Text { .. } if keyed => text(LONGEST_KEY),
        T::Text { .. } => format!("longtext CHARACTER SET utf8mb4 COLLATE {}", to.exact_collation()),
        T::Enum { .. } => text(63),
        T::Network(_) => text(43),
        T::Bytes { .. } if keyed => format!("varbinary({LONGEST_KEY})"),
        T::Bytes { .. } => "longblob".to_owned(),
        T::Date => "date".to_owned(),
        T::Time { digits } => format!("time({digits})"),
        // MySQL's own instants end in 2038.
        T::Timestamp { digits, .. } => format!("datetime({digits})"),
        T::Json => "json".to_owned(),
        T::Uuid if to == Dialect::MariaDb => "uuid".to_owned(),
        T::Uuid => "char(36) CHARACTER SET ascii COLLATE ascii_bin".to_owned(),
        other => return Err(format!("MySQL has no type in which {other} would be carried")),
    })
}

/// What is exact in SQLite: a declared type names what the column holds, and its affinity converts nothing of it.
fn sqlite(column: &ColumnSchema, keyed: bool) -> Result<String, String> {
    Ok(match &column.logical {
        T::Bool => "BOOLEAN".to_owned(),
        // Alone as the key, this is the row's own number, which SQLite hands out.
        T::Int { unsigned: false, .. } if column.auto_increment => "INTEGER".to_owned(),
        T::Int {
            bits: 64,
            unsigned: true,
        } => if keyed { "BIGINT UNSIGNED" } else { "DECIMAL_TEXT(20,0)" }.to_owned(),
        T::Int { bits, unsigned } => {
            let kind = match bits {
                ..=8 => "TINYINT",
                ..=16 => "SMALLINT",
                ..=24 => "MEDIUMINT",
                ..=32 => "INT",
                _ => "BIGINT",
            };
            format!("{kind}{}", if *unsigned { " UNSIGNED" } else { "" })
        }
        T::Year => "SMALLINT".to_owned(),
        T::Float32 | T::Float64 => "DOUBLE".to_owned(),
        T::Decimal { precision: 0, .. } => "DECIMAL_TEXT".to_owned(),
        T::Decimal { precision, scale } if *precision <= 15 || keyed => format!("DECIMAL({precision},{scale})"),
        T::Decimal { precision, scale } => format!("DECIMAL_TEXT({precision},{scale})"),
        T::Text { max: Some(max), .. } => format!("VARCHAR({max})"),
        T::Text { .. } | T::Enum { .. } | T::Set { .. } | T::Network(_) => "TEXT".to_owned(),
        T::Bytes { max: Some(max), .. } => format!("VARBINARY({max})"),
        T::Bytes { .. } => "BLOB".to_owned(),
        T::Date => "DATE".to_owned(),
        T::Time { digits } => format!("TIME({digits})"),
        T::Timestamp { utc: true, digits } => format!("TIMESTAMP({digits})"),
        T::Timestamp { utc: false, digits } => format!("DATETIME({digits})"),
        T::Json => "JSON_TEXT".to_owned(),
        T::Uuid => "UUID".to_owned(),
        other => return Err(format!("SQLite has no type in which {other} would be carried")),
    })
}
