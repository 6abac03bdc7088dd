//! `LogicalType`: what a column holds, whichever engine says so. The store's introspection maps native types to it.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LogicalType {
    Bool,
    Int {
        bits: u8,
        unsigned: bool,
    },
    Float32,
    Float64,
    /// `precision` 0 means without a limit (PostgreSQL `numeric`).
    Decimal {
        precision: u16,
        scale: u16,
    },
    /// `max` in characters; `None` means no practical limit.
    Text {
        max: Option<u64>,
    },
    Bytes,
    Date,
    Time,
    /// `utc`: the column is an instant (TIMESTAMP, timestamptz); otherwise a wall clock without a zone, taken as UTC.
    Timestamp {
        utc: bool,
        digits: u8,
    },
    Json,
    Uuid,
    Enum,
    /// A type that cannot be carried exactly; the native name.
    Other(String),
}

impl LogicalType {
    pub fn is_temporal_version(&self) -> bool {
        matches!(self, LogicalType::Timestamp { .. })
    }

    /// The range of an integer type, as the widest signed type that holds all of them.
    pub fn int_range(&self) -> Option<(i128, i128)> {
        match self {
            LogicalType::Bool => Some((0, 1)),
            LogicalType::Int { bits, unsigned: true } => Some((0, (1i128 << bits) - 1)),
            LogicalType::Int { bits, unsigned: false } => Some((-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)),
            _ => None,
        }
    }
}

impl fmt::Display for LogicalType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogicalType::Bool => f.write_str("boolean"),
            LogicalType::Int { bits, unsigned } => {
                write!(
                    f,
                    "{bits}-bit {} integer",
                    if *unsigned { "unsigned" } else { "signed" }
                )
            }
            LogicalType::Float32 => f.write_str("32-bit float"),
            LogicalType::Float64 => f.write_str("64-bit float"),
            LogicalType::Decimal { precision: 0, .. } => f.write_str("decimal without limit"),
            LogicalType::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            LogicalType::Text { max: Some(n) } => write!(f, "text of at most {n} characters"),
            LogicalType::Text { max: None } => f.write_str("text"),
            LogicalType::Bytes => f.write_str("bytes"),
            LogicalType::Date => f.write_str("date"),
            LogicalType::Time => f.write_str("time"),
            LogicalType::Timestamp { utc: true, digits } => write!(f, "instant with {digits} fractional digits"),
            LogicalType::Timestamp { utc: false, digits } => {
                write!(f, "wall-clock timestamp with {digits} fractional digits")
            }
            LogicalType::Json => f.write_str("JSON"),
            LogicalType::Uuid => f.write_str("UUID"),
            LogicalType::Enum => f.write_str("enumeration"),
            LogicalType::Other(native) => write!(f, "`{native}`"),
        }
    }
}
