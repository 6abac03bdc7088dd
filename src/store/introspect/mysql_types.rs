//! From MySQL's and MariaDB's native types to what their columns hold: pure, from the catalogue's facts on one column.

use crate::rows::{LogicalType, NativeForm, Network};

/// What `information_schema.columns` says of a column's type.
pub(super) struct Facts<'a> {
    /// In lower case.
    pub data_type: &'a str,
    /// `column_type`, as it stands in a CREATE TABLE.
    pub native: &'a str,
    /// MariaDB's JSON: a text with a check.
    pub json: bool,
    pub characters: Option<u64>,
    pub octets: Option<u64>,
    pub precision: Option<u16>,
    pub scale: Option<u16>,
    pub digits: u8,
    pub charset: &'a str,
}

pub(super) fn logical(facts: &Facts<'_>) -> LogicalType {
    let native = facts.native.to_lowercase();
    let unsigned = native.contains("unsigned");
    let int = |bits| LogicalType::Int { bits, unsigned };
    let own = |form| LogicalType::Native {
        name: native.clone(),
        form,
    };
    if facts.json {
        return LogicalType::Json;
    }
    match facts.data_type {
        "tinyint" if native.starts_with("tinyint(1)") && !unsigned => LogicalType::Bool,
        "tinyint" => int(8),
        "smallint" => int(16),
        "mediumint" => int(24),
        "int" => int(32),
        "bigint" => int(64),
        "year" => LogicalType::Year,
        "bit" if native == "bit(1)" => LogicalType::Bool,
        "bit" => LogicalType::Int {
            bits: facts.precision.and_then(|bits| u8::try_from(bits).ok()).unwrap_or(64),
            unsigned: true,
        },
        // With digits, as in FLOAT(7,2), the server rounds what it is given.
        "float" | "double" if native.contains('(') && native.contains(',') => own(NativeForm::MySqlText),
        "float" => LogicalType::Float32,
        "double" => LogicalType::Float64,
        "decimal" => LogicalType::Decimal {
            precision: facts.precision.unwrap_or(65),
            scale: facts.scale.unwrap_or(0),
        },
        "char" | "varchar" => LogicalType::Text {
            max: facts.characters,
            bytes: None,
            padded: facts.data_type == "char",
        },
        "tinytext" | "text" | "mediumtext" | "longtext" => long_text(facts),
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => LogicalType::Bytes {
            max: facts.octets.filter(|most| *most < u64::from(u32::MAX)),
            padded: facts.data_type == "binary",
        },
        "date" => LogicalType::Date,
        "time" => LogicalType::Time { digits: facts.digits },
        "datetime" => LogicalType::Timestamp {
            utc: false,
            digits: facts.digits,
        },
        "timestamp" => LogicalType::Timestamp {
            utc: true,
            digits: facts.digits,
        },
        "json" => LogicalType::Json,
        "uuid" => LogicalType::Uuid,
        "inet4" => LogicalType::Network(Network::Ip4),
        "inet6" => LogicalType::Network(Network::Ip6),
        "enum" => LogicalType::Enum {
            values: members(facts.native),
        },
        "set" => LogicalType::Set {
            values: members(facts.native),
        },
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
        | "geometrycollection" | "geomcollection" => own(NativeForm::MySqlBytes),
        _ => LogicalType::Other(native),
    }
}

/// Their limits are in bytes of the column's own character set.
fn long_text(facts: &Facts<'_>) -> LogicalType {
    let limit = facts.octets.filter(|most| *most < u64::from(u32::MAX));
    let (max, bytes) = match facts.charset {
        "utf8mb4" | "utf8mb3" | "utf8" => (None, limit),
        // What these need per character differs from UTF-8: the server refuses what is too long.
        "ucs2" | "utf16" | "utf16le" | "utf32" | "big5" | "cp932" | "eucjpms" | "euckr" | "gb18030" | "gb2312"
        | "gbk" | "sjis" | "ujis" => (None, None),
        _ => (limit, None),
    };
    LogicalType::Text {
        max,
        bytes,
        padded: false,
    }
}

/// The members in `enum('a','b''c')`: quotes are doubled, and MariaDB escapes what a statement must.
fn members(native: &str) -> Vec<String> {
    let mut members = Vec::new();
    let mut current: Option<String> = None;
    let mut rest = native.chars().peekable();
    while let Some(c) = rest.next() {
        match (&mut current, c) {
            (None, '\'') => current = Some(String::new()),
            (None, _) => {}
            (Some(member), '\'') if rest.peek() == Some(&'\'') => {
                rest.next();
                member.push('\'');
            }
            (Some(_), '\'') => members.extend(current.take()),
            (Some(member), '\\') => match rest.next() {
                Some('n') => member.push('\n'),
                Some('r') => member.push('\r'),
                Some('0') => member.push('\0'),
                Some('Z') => member.push('\u{1a}'),
                Some('t') => member.push('\t'),
                other => member.extend(other),
            },
            (Some(member), c) => member.push(c),
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::members;

    #[test]
    fn members_are_read_with_their_escapes() {
        assert_eq!(
            members(r"enum('a','b''c','','x\\y','d\ne')"),
            ["a", "b'c", "", r"x\y", "d\ne"]
        );
        assert_eq!(members("set('A b','é')"), ["A b", "é"]);
        assert!(members("enum(").is_empty());
    }
}
