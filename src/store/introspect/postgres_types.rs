//! From PostgreSQL's native types to what their columns hold: pure, from the catalogue's facts on one column.

use crate::rows::{LogicalType, NativeForm, Network};

/// What the catalogue says of a column's type; of a domain's base type where it is one.
pub(super) struct Facts<'a> {
    /// With its modifier, as `format_type` spells it.
    pub native: &'a str,
    /// `pg_type.typname`.
    pub base: &'a str,
    /// `pg_type.typtype`.
    pub kind: &'a str,
    /// -1: none.
    pub modifier: i64,
    /// An enumeration's labels in order, as a JSON array.
    pub labels: Option<&'a str>,
}

pub(super) fn logical(facts: &Facts<'_>) -> LogicalType {
    let other = || LogicalType::Other(facts.native.to_owned());
    let own = || LogicalType::Native {
        name: facts.native.to_owned(),
        form: NativeForm::PostgresText,
    };
    match facts.kind {
        "e" => {
            return match facts.labels.and_then(|labels| serde_json::from_str(labels).ok()) {
                Some(values) => LogicalType::Enum { values },
                None => other(),
            };
        }
        // Ranges, multiranges and composites have one exact text form.
        "r" | "m" | "c" => return own(),
        "b" => {}
        _ => return other(),
    }
    let modifier = facts.modifier;
    let int = |bits| LogicalType::Int { bits, unsigned: false };
    let digits = u8::try_from(modifier).ok().filter(|d| *d <= 6).unwrap_or(6);
    match facts.base {
        "bool" => LogicalType::Bool,
        "int2" => int(16),
        "int4" => int(32),
        "int8" => int(64),
        "float4" => LogicalType::Float32,
        "float8" => LogicalType::Float64,
        "numeric" if modifier < 4 => LogicalType::Decimal { precision: 0, scale: 0 },
        "numeric" => {
            let packed = modifier - 4;
            let scale = packed & 0x7ff;
            // A scale of 1024 and more is a negative one, which rounds whole numbers.
            if scale >= 1024 {
                return own();
            }
            LogicalType::Decimal {
                precision: (packed >> 16 & 0xffff) as u16,
                scale: scale as u16,
            }
        }
        "varchar" | "bpchar" => LogicalType::Text {
            max: u64::try_from(modifier - 4).ok(),
            bytes: None,
            padded: facts.base == "bpchar",
        },
        "text" | "citext" => LogicalType::text(None),
        "name" => LogicalType::Text {
            max: None,
            bytes: Some(63),
            padded: false,
        },
        "bytea" => LogicalType::bytes(None),
        "date" => LogicalType::Date,
        "time" => LogicalType::Time { digits },
        "timestamp" => LogicalType::Timestamp { utc: false, digits },
        "timestamptz" => LogicalType::Timestamp { utc: true, digits },
        "json" | "jsonb" => LogicalType::Json,
        "uuid" => LogicalType::Uuid,
        "inet" => LogicalType::Network(Network::Inet),
        "cidr" => LogicalType::Network(Network::Cidr),
        "macaddr" => LogicalType::Network(Network::Mac),
        // One byte that need not be a character; numbers of the catalogue's rows and of transactions, which mean
        // something else in another database; types that cannot be written.
        "char" | "oid" | "tid" | "xid" | "cid" | "xid8" | "aclitem" | "gtsvector" | "pg_snapshot" | "txid_snapshot" => {
            other()
        }
        base if base.starts_with("reg") || base.starts_with("pg_") && base != "pg_lsn" => other(),
        _ => own(),
    }
}
