//! From the type that a column of SQLite was declared with to what it holds. SQLite keeps any value in any column and
//! looks at the declaration only to decide which values it converts (the affinity): that decides what is exact.

use crate::rows::LogicalType;

/// What SQLite makes of values on their way into a column, by its own rules on the declared type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

pub(crate) fn affinity(native: &str) -> Affinity {
    let native = native.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| native.contains(word));
    if has(&["INT"]) {
        Affinity::Integer
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        Affinity::Text
    } else if has(&["BLOB"]) || native.is_empty() {
        Affinity::Blob
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

/// Decimals are kept as texts, with all their digits: SQLite would make floats of them in a numeric column.
pub(crate) fn decimal_text(native: &str) -> bool {
    let native = native.to_ascii_uppercase();
    affinity(&native) == Affinity::Text && (native.starts_with("DECIMAL") || native.starts_with("NUMERIC"))
}

/// `strict`: of a STRICT table, whose integers are all of 64 bits.
pub(super) fn logical(native: &str, strict: bool) -> LogicalType {
    let (name, arguments) = parsed(native);
    let other = || LogicalType::Other(native.to_owned());
    match affinity(native) {
        Affinity::Integer => integer(&name, strict).unwrap_or_else(other),
        Affinity::Text if decimal_text(native) => decimal(&arguments).unwrap_or_else(other),
        Affinity::Text if name.contains("JSON") => LogicalType::Json,
        Affinity::Text => LogicalType::text(arguments.first().copied()),
        Affinity::Blob if native.is_empty() => LogicalType::Other("(no declared type)".to_owned()),
        Affinity::Blob => LogicalType::bytes(arguments.first().copied()),
        Affinity::Real => LogicalType::Float64,
        Affinity::Numeric => numeric(&name, &arguments).unwrap_or_else(other),
    }
}

/// The words of the type in capitals with one space between them, and the numbers in parentheses.
fn parsed(native: &str) -> (String, Vec<u64>) {
    let native = native.to_ascii_uppercase();
    let (before, rest) = native.split_once('(').unwrap_or((&native, ""));
    let (inside, after) = rest.split_once(')').unwrap_or((rest, ""));
    let words: Vec<&str> = before.split_whitespace().chain(after.split_whitespace()).collect();
    let numbers = inside.split(',').filter_map(|number| number.trim().parse().ok());
    (words.join(" "), numbers.collect())
}

fn integer(name: &str, strict: bool) -> Option<LogicalType> {
    let unsigned = name.split(' ').any(|word| word == "UNSIGNED");
    let plain: Vec<&str> = name
        .split(' ')
        .filter(|word| !["UNSIGNED", "SIGNED"].contains(word))
        .collect();
    let bits = match plain.join(" ").as_str() {
        "TINYINT" | "INT1" => 8,
        "SMALLINT" | "INT2" => 16,
        "MEDIUMINT" | "INT3" => 24,
        "INT" | "INT4" if !strict => 32,
        // SQLite's integers end at 2^63 - 1.
        "INT" | "INTEGER" | "BIGINT" | "INT8" | "BIG INT" if unsigned => 63,
        "INT" | "INTEGER" | "BIGINT" | "INT8" | "BIG INT" => 64,
        _ => return None,
    };
    Some(LogicalType::Int { bits, unsigned })
}

fn decimal(arguments: &[u64]) -> Option<LogicalType> {
    let (precision, scale) = match arguments {
        [] => (0, 0),
        [precision] => (*precision, 0),
        [precision, scale, ..] => (*precision, *scale),
    };
    (scale <= precision && precision <= 1000).then_some(LogicalType::Decimal {
        precision: precision as u16,
        scale: scale as u16,
    })
}

fn numeric(name: &str, arguments: &[u64]) -> Option<LogicalType> {
    let digits = arguments
        .first()
        .and_then(|digits| u8::try_from(*digits).ok())
        .map_or(6, |digits| digits.min(6));
    Some(match name {
        "DECIMAL" | "NUMERIC" | "DEC" => return decimal(arguments),
        "BOOLEAN" | "BOOL" => LogicalType::Bool,
        "DATE" => LogicalType::Date,
        "TIME" | "TIME WITHOUT TIME ZONE" => LogicalType::Time { digits },
        "DATETIME" | "TIMESTAMP WITHOUT TIME ZONE" => LogicalType::Timestamp { utc: false, digits },
        "TIMESTAMP" | "TIMESTAMPTZ" | "TIMESTAMP WITH TIME ZONE" => LogicalType::Timestamp { utc: true, digits },
        "JSON" => LogicalType::Json,
        "UUID" | "GUID" => LogicalType::Uuid,
        "BINARY" | "VARBINARY" | "BYTEA" => LogicalType::bytes(arguments.first().copied()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use LogicalType as T;

    #[test]
    fn the_declared_type_is_read_with_sqlites_own_affinity_in_mind() {
        let int = |bits, unsigned| T::Int { bits, unsigned };
        for (native, expected) in [
            ("INTEGER", int(64, false)),
            ("int", int(32, false)),
            ("BIGINT UNSIGNED", int(63, true)),
            ("unsigned big int", int(63, true)),
            ("SMALLINT(5)", int(16, false)),
            ("VARCHAR(40)", T::text(Some(40))),
            ("native  character (70)", T::text(Some(70))),
            ("TEXT", T::text(None)),
            (
                "DECIMAL_TEXT(65,30)",
                T::Decimal {
                    precision: 65,
                    scale: 30,
                },
            ),
            (
                "DECIMAL(12, 3)",
                T::Decimal {
                    precision: 12,
                    scale: 3,
                },
            ),
            ("numeric", T::Decimal { precision: 0, scale: 0 }),
            ("JSON_TEXT", T::Json),
            ("DOUBLE PRECISION", T::Float64),
            ("VARBINARY(30)", T::bytes(Some(30))),
            ("datetime(3)", T::Timestamp { utc: false, digits: 3 }),
            ("timestamp with time zone", T::Timestamp { utc: true, digits: 6 }),
            // SQLite makes an integer column of it, and a numeric one of STRING.
            ("FLOATING POINT", T::Other("FLOATING POINT".into())),
            ("STRING", T::Other("STRING".into())),
            ("", T::Other("(no declared type)".into())),
        ] {
            assert_eq!(logical(native, false), expected, "{native}");
        }
        assert_eq!(logical("INT", true), int(64, false));
        assert_eq!(affinity("CHARINT"), Affinity::Integer);
    }
}
