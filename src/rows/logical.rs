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
    /// MySQL's YEAR: 0, and 1901 to 2155.
    Year,
    Float32,
    Float64,
    /// `precision` 0 means without a limit (PostgreSQL `numeric`).
    Decimal {
        precision: u16,
        scale: u16,
    },
    /// `max` in characters, `bytes` in UTF-8; `None` means no practical limit. `padded`: spaces at the end are not kept
    /// (CHAR).
    Text {
        max: Option<u64>,
        bytes: Option<u64>,
        padded: bool,
    },
    /// `max` in bytes. `padded`: every value has exactly `max` (BINARY).
    Bytes {
        max: Option<u64>,
        padded: bool,
    },
    Date,
    /// `digits` of the fraction of a second.
    Time {
        digits: u8,
    },
    /// `utc`: the column is an instant (TIMESTAMP, timestamptz); otherwise a wall clock without a zone, taken as UTC.
    Timestamp {
        utc: bool,
        digits: u8,
    },
    Json,
    Uuid,
    /// One of these texts.
    Enum {
        values: Vec<String>,
    },
    /// Any of these texts, joined by commas in this order (MySQL).
    Set {
        values: Vec<String>,
    },
    Network(Network),
    /// A type of one engine that has no counterpart elsewhere, carried between two columns of the same type in the
    /// engine's own form. `name` is the engine's full spelling.
    Native {
        name: String,
        form: NativeForm,
    },
    /// A type that cannot be carried exactly; the native name.
    Other(String),
}

/// Addresses of networks, as far as an engine has a type for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Network {
    /// PostgreSQL `inet`: a host of either family, perhaps with a prefix length.
    Inet,
    /// PostgreSQL `cidr`.
    Cidr,
    /// PostgreSQL `macaddr`.
    Mac,
    /// MariaDB `INET4`.
    Ip4,
    /// MariaDB `INET6`.
    Ip6,
}

/// Whose native form, and what it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NativeForm {
    PostgresText,
    MySqlText,
    /// Geometry: the reference system and the well-known binary form.
    MySqlBytes,
}

impl LogicalType {
    /// Text of at most so many characters.
    pub const fn text(max: Option<u64>) -> Self {
        LogicalType::Text {
            max,
            bytes: None,
            padded: false,
        }
    }

    /// Bytes, at most so many.
    pub const fn bytes(max: Option<u64>) -> Self {
        LogicalType::Bytes { max, padded: false }
    }

    pub fn is_temporal_version(&self) -> bool {
        matches!(self, LogicalType::Timestamp { .. })
    }

    /// Values of the canonical kind are bytes.
    pub fn is_binary(&self) -> bool {
        matches!(
            self,
            LogicalType::Bytes { .. }
                | LogicalType::Native {
                    form: NativeForm::MySqlBytes,
                    ..
                }
        )
    }

    /// The range of an integer type, as the widest signed type that holds all of them.
    pub fn int_range(&self) -> Option<(i128, i128)> {
        match self {
            LogicalType::Bool => Some((0, 1)),
            LogicalType::Year => Some((0, 2155)),
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
            LogicalType::Year => f.write_str("year"),
            LogicalType::Float32 => f.write_str("32-bit float"),
            LogicalType::Float64 => f.write_str("64-bit float"),
            LogicalType::Decimal { precision: 0, .. } => f.write_str("decimal without limit"),
            LogicalType::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            LogicalType::Text { max, bytes, .. } => {
                f.write_str("text")?;
                match (max, bytes) {
                    (Some(n), _) => write!(f, " of at most {n} characters"),
                    (None, Some(n)) => write!(f, " of at most {n} bytes"),
                    (None, None) => Ok(()),
                }
            }
            LogicalType::Bytes { max: None, .. } => f.write_str("bytes"),
            LogicalType::Bytes { max: Some(n), padded } => {
                write!(f, "{} {n} bytes", if *padded { "exactly" } else { "at most" })
            }
            LogicalType::Date => f.write_str("date"),
            LogicalType::Time { digits } => write!(f, "time with {digits} fractional digits"),
            LogicalType::Timestamp { utc: true, digits } => write!(f, "instant with {digits} fractional digits"),
            LogicalType::Timestamp { utc: false, digits } => {
                write!(f, "wall-clock timestamp with {digits} fractional digits")
            }
            LogicalType::Json => f.write_str("JSON"),
            LogicalType::Uuid => f.write_str("UUID"),
            LogicalType::Enum { .. } => f.write_str("enumeration"),
            LogicalType::Set { .. } => f.write_str("set"),
            LogicalType::Network(Network::Inet) => f.write_str("inet"),
            LogicalType::Network(Network::Cidr) => f.write_str("cidr"),
            LogicalType::Network(Network::Mac) => f.write_str("macaddr"),
            LogicalType::Network(Network::Ip4) => f.write_str("IPv4 address"),
            LogicalType::Network(Network::Ip6) => f.write_str("IPv6 address"),
            LogicalType::Native { name, .. } | LogicalType::Other(name) => write!(f, "`{name}`"),
        }
    }
}
