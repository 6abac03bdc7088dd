//! One spelling per value: what an engine rendered becomes the canonical `Value` of the type the pair carries.
//! What has no canonical spelling is refused with a sentence; nothing is rounded, cut or nulled.

use super::{LogicalType, Value};
use super::{json, network};

/// `raw` (as an engine rendered it) in the one spelling of `carry`.
pub fn canonical(carry: &LogicalType, raw: Value) -> Result<Value, String> {
    if raw.is_null() {
        return Ok(Value::Null);
    }
    match (carry, raw) {
        (LogicalType::Bool, Value::Int(n @ (0 | 1))) => Ok(Value::Int(n)),
        (LogicalType::Bool, other) => Err(format!("{} is no boolean: expected 0 or 1", show(&other))),
        (LogicalType::Int { .. }, v @ (Value::Int(_) | Value::UInt(_)))
        | (LogicalType::Year, v @ Value::Int(_))
        | (LogicalType::Float32 | LogicalType::Float64, v @ Value::Float(_))
        | (LogicalType::Bytes { .. } | LogicalType::Native { .. }, v @ Value::Bytes(_))
        | (
            LogicalType::Text { .. }
            | LogicalType::Enum { .. }
            | LogicalType::Set { .. }
            | LogicalType::Native { .. }
            | LogicalType::Date,
            v @ Value::Text(_),
        ) => Ok(v),
        (LogicalType::Int { .. }, Value::Text(s)) => integer(&s),
        (LogicalType::Decimal { .. }, Value::Int(n)) => Ok(Value::Text(n.to_string())),
        (LogicalType::Decimal { .. }, Value::UInt(n)) => Ok(Value::Text(n.to_string())),
        (LogicalType::Decimal { .. }, Value::Text(s)) => decimal(&s).map(Value::Text),
        (LogicalType::Time { .. }, Value::Text(s)) => Ok(Value::Text(six_digits(&s))),
        (LogicalType::Timestamp { .. }, Value::Text(s)) => Ok(Value::Text(timestamp(&s))),
        (LogicalType::Json, Value::Text(s)) => json::canonical(&s).map(Value::Text),
        (LogicalType::Uuid, Value::Text(s)) => uuid::Uuid::parse_str(s.trim())
            .map(|u| Value::Text(u.to_string()))
            .map_err(|_| format!("`{s}` is no UUID")),
        (LogicalType::Uuid, Value::Bytes(b)) => uuid::Uuid::from_slice(&b)
            .map(|u| Value::Text(u.to_string()))
            .map_err(|_| format!("{} bytes are no UUID, which has 16", b.len())),
        (LogicalType::Network(kind), Value::Text(s)) => network::canonical(*kind, &s).map(Value::Text),
        (carry, other) => Err(format!("{} cannot stand for a {carry}", show(&other))),
    }
}

/// Whether a column of this type holds the value exactly. Databases round or cut some of these without an error, so
/// the question is answered before they see the value.
pub fn fits(column: &LogicalType, value: &Value) -> Result<(), String> {
    match (column, value) {
        (LogicalType::Decimal { precision, scale }, Value::Text(s)) if *precision > 0 => {
            let fraction = s.split_once('.').map_or(0, |(_, f)| f.len());
            if fraction > usize::from(*scale) {
                return Err(format!(
                    "{s} has {fraction} fractional digits, the column keeps {scale}"
                ));
            }
        }
        (LogicalType::Year, Value::Int(n)) if *n != 0 && !(1901..=2155).contains(n) => {
            return Err(format!("{n} is neither 0 nor a year from 1901 to 2155"));
        }
        (LogicalType::Int { .. }, Value::Text(s)) if s.contains('.') => {
            return Err(format!("{s} is not an integer"));
        }
        (LogicalType::Int { .. } | LogicalType::Bool, Value::Int(_) | Value::UInt(_)) => {
            let n = match value {
                Value::Int(n) => i128::from(*n),
                Value::UInt(n) => i128::from(*n),
                _ => 0,
            };
            if let Some((low, high)) = column.int_range()
                && !(low..=high).contains(&n)
            {
                return Err(format!("{n} is outside {low} to {high}"));
            }
        }
        (LogicalType::Timestamp { digits, .. } | LogicalType::Time { digits }, Value::Text(s)) => {
            let used = s.split_once('.').map_or(0, |(_, f)| {
                f.bytes()
                    .take_while(u8::is_ascii_digit)
                    .zip(1..)
                    .filter(|(b, _)| *b != b'0')
                    .last()
                    .map_or(0, |(_, place)| place)
            });
            if used > usize::from(*digits) {
                return Err(format!("{s} has {used} fractional digits, the column keeps {digits}"));
            }
        }
        (LogicalType::Float32, Value::Float(x)) => {
            #[allow(clippy::cast_possible_truncation)]
            let narrow = f64::from(*x as f32);
            if narrow.to_bits() != x.to_bits() && !x.is_nan() {
                return Err(format!("{x} is not exact as a 32-bit float"));
            }
        }
        (LogicalType::Text { max, bytes, padded }, Value::Text(s)) => return text(s, *max, *bytes, *padded),
        (LogicalType::Bytes { max: Some(max), padded }, Value::Bytes(b)) => {
            let length = b.len() as u64;
            if length > *max {
                return Err(format!("the value has {length} bytes, the column keeps {max}"));
            }
            if *padded && length < *max {
                return Err(format!(
                    "the value has {length} bytes, the column would add zeros up to {max}"
                ));
            }
        }
        // Databases that have such types take other spellings for one of the values, or a number for its place.
        (LogicalType::Enum { values }, Value::Text(s)) if !values.contains(s) => {
            return Err(format!(
                "{} is not among the column's values; `ALTER` the column if it should be",
                show(value)
            ));
        }
        (LogicalType::Set { values }, Value::Text(s)) => return set(values, s),
        _ => {}
    }
    Ok(())
}

fn text(s: &str, max: Option<u64>, bytes: Option<u64>, padded: bool) -> Result<(), String> {
    let length = s.len() as u64;
    // A character has at least one byte: most texts need no counting.
    if let Some(max) = max.filter(|max| length > *max) {
        let characters = s.chars().count() as u64;
        if characters > max {
            return Err(format!("the text has {characters} characters, the column keeps {max}"));
        }
    }
    if let Some(most) = bytes.filter(|most| length > *most) {
        return Err(format!("the text has {length} bytes, the column keeps {most}"));
    }
    if padded && s.ends_with(' ') {
        return Err("the text ends with a space, which the column would not keep".to_owned());
    }
    Ok(())
}

fn set(values: &[String], s: &str) -> Result<(), String> {
    if s.is_empty() {
        return Ok(());
    }
    let mut next = 0;
    for member in s.split(',') {
        match values.iter().skip(next).position(|v| v == member) {
            Some(place) => next += place + 1,
            None if values.iter().any(|v| v == member) => {
                return Err(format!(
                    "`{member}` stands twice or at another place than in the column's list"
                ));
            }
            None => return Err(format!("`{member}` is not among the column's values")),
        }
    }
    Ok(())
}

fn show(v: &Value) -> String {
    match v {
        Value::Null => "NULL".to_owned(),
        Value::Int(n) => n.to_string(),
        Value::UInt(n) => n.to_string(),
        Value::Float(x) => x.to_string(),
        Value::Text(s) => format!("`{}`", s.chars().take(40).collect::<String>()),
        Value::Bytes(b) => format!("{} bytes", b.len()),
    }
}

fn integer(s: &str) -> Result<Value, String> {
    let s = decimal(s)?;
    if let Ok(n) = s.parse::<i64>() {
        return Ok(Value::Int(n));
    }
    s.parse::<u64>()
        .map(Value::unsigned)
        .map_err(|_| format!("{s} is not a 64-bit integer"))
}

/// A decimal without '+', leading or trailing zeros, exponent or negative zero. NaN and the infinities stay as named.
pub fn decimal(s: &str) -> Result<String, String> {
    let s = s.trim();
    if matches!(s, "NaN" | "Infinity" | "-Infinity") {
        return Ok(s.to_owned());
    }
    let (negative, digits) = match s.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, s.strip_prefix('+').unwrap_or(s)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return Err(format!("`{s}` is no decimal number"));
    }
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let mut out = String::with_capacity(s.len());
    if negative && !(whole.is_empty() && fraction.is_empty()) {
        out.push('-');
    }
    out.push_str(if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    Ok(out)
}

/// `YYYY-MM-DD HH:MM:SS.ffffff`, from any rendering in UTC of a timestamp, with ` BC` where it is. Infinities stay as
/// rendered.
pub fn timestamp(s: &str) -> String {
    let (s, era) = s.strip_suffix(" BC").map_or((s, ""), |s| (s, " BC"));
    let s = s.strip_suffix("+00").or_else(|| s.strip_suffix('Z')).unwrap_or(s);
    if !s.contains(':') {
        return format!("{s}{era}");
    }
    format!("{}{era}", six_digits(&s.replacen('T', " ", 1)))
}

fn six_digits(s: &str) -> String {
    if !s.contains(':') {
        return s.to_owned();
    }
    let (head, fraction) = s.split_once('.').unwrap_or((s, ""));
    format!("{head}.{fraction:0<6}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_decimal_has_one_spelling(n in any::<i64>(), zeros in 0usize..5, lead in 0usize..3) {
            let sign = if n < 0 { "-" } else { "+" };
            let digits = n.unsigned_abs();
            let spelled = format!("{sign}{}{digits}.{}", "0".repeat(lead), "0".repeat(zeros));
            prop_assert_eq!(decimal(&spelled), Ok(n.to_string()));
        }

        #[test]
        fn canonical_decimals_stay_as_they_are(whole in 0u64.., fraction in "[0-9]{0,20}") {
            let once = decimal(&format!("{whole}.{fraction}")).unwrap();
            prop_assert_eq!(decimal(&once), Ok(once.clone()));
        }

        #[test]
        fn a_timestamp_has_one_spelling(micros in 0u32..1_000_000) {
            let full = format!("2024-02-29 23:59:59.{micros:06}");
            let short = full.trim_end_matches('0').trim_end_matches('.');
            prop_assert_eq!(timestamp(short), full.clone());
            prop_assert_eq!(timestamp(&format!("{short}+00")), full);
        }
    }

    #[test]
    fn odd_decimals() {
        assert_eq!(decimal("-0.00").as_deref(), Ok("0"));
        assert_eq!(decimal("+.50").as_deref(), Ok("0.5"));
        assert_eq!(decimal("NaN").as_deref(), Ok("NaN"));
        for bad in ["", ".", "1e5", "1,5", "--1", "0x1"] {
            assert!(decimal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_that_a_database_would_round_are_refused() {
        let ms = LogicalType::Timestamp { utc: true, digits: 3 };
        assert!(fits(&ms, &"2024-01-01 00:00:00.123000".into()).is_ok());
        assert!(fits(&ms, &"2024-01-01 00:00:00.123400".into()).is_err());
        let money = LogicalType::Decimal {
            precision: 10,
            scale: 2,
        };
        assert!(fits(&money, &"1.25".into()).is_ok());
        assert!(fits(&money, &"1.255".into()).is_err());
        assert!(fits(&LogicalType::Float32, &Value::Float(0.1)).is_err());
        assert!(fits(&LogicalType::Float32, &Value::Float(f64::from(0.1f32))).is_ok());
        assert!(fits(&LogicalType::text(Some(2)), &"éé".into()).is_ok());
        assert!(fits(&LogicalType::text(Some(2)), &"ééé".into()).is_err());
        assert!(
            fits(
                &LogicalType::Int {
                    bits: 32,
                    unsigned: true
                },
                &Value::Int(-1)
            )
            .is_err()
        );
    }

    #[test]
    fn what_a_database_would_change_in_silence_is_refused() {
        let list = |v: &[&str]| v.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        let kind = LogicalType::Enum {
            values: list(&["a", "b"]),
        };
        let set = LogicalType::Set {
            values: list(&["x", "y", "z"]),
        };
        let char5 = LogicalType::Text {
            max: Some(5),
            bytes: None,
            padded: true,
        };
        let tiny = LogicalType::Text {
            max: None,
            bytes: Some(4),
            padded: false,
        };
        let binary = LogicalType::Bytes {
            max: Some(2),
            padded: true,
        };
        let time = LogicalType::Time { digits: 3 };
        let bytes = |n| Value::Bytes(vec![0; n]);
        for (column, value) in [
            (&kind, "b".into()),
            (&set, "".into()),
            (&set, "x,z".into()),
            (&char5, " a".into()),
            (&tiny, "aaaa".into()),
            (&binary, bytes(2)),
            (&time, "-838:59:59.120000".into()),
            (&LogicalType::Year, Value::Int(0)),
        ] {
            assert_eq!(fits(column, &value), Ok(()), "{column}: {value:?}");
        }
        for (column, value) in [
            (&kind, "A".into()),
            (&kind, "2".into()),
            (&kind, "".into()),
            (&kind, "b ".into()),
            (&set, "z,x".into()),
            (&set, "x,x".into()),
            (&set, "w".into()),
            (&set, "3".into()),
            (&char5, "a ".into()),
            (&tiny, "éé\u{e9}".into()),
            (&binary, bytes(1)),
            (&binary, bytes(3)),
            (&LogicalType::bytes(Some(1)), bytes(2)),
            (&time, "12:00:00.123400".into()),
            (&LogicalType::Year, Value::Int(70)),
            (&LogicalType::Year, Value::Int(2156)),
        ] {
            assert!(fits(column, &value).is_err(), "{column}: {value:?}");
        }
    }

    #[test]
    fn years_before_christ_have_one_spelling_too() {
        assert_eq!(timestamp("0044-03-15 00:00:00+00 BC"), "0044-03-15 00:00:00.000000 BC");
        assert_eq!(timestamp("0044-03-15 00:00:00.5 BC"), "0044-03-15 00:00:00.500000 BC");
        assert_eq!(timestamp("-infinity"), "-infinity");
    }

    #[test]
    fn a_uuid_may_be_sixteen_bytes() {
        let bytes = Value::Bytes((0..16).collect());
        assert_eq!(
            canonical(&LogicalType::Uuid, bytes),
            Ok("00010203-0405-0607-0809-0a0b0c0d0e0f".into())
        );
        assert!(canonical(&LogicalType::Uuid, Value::Bytes(vec![0; 15])).is_err());
    }

    #[test]
    fn booleans_are_zero_or_one() {
        assert_eq!(canonical(&LogicalType::Bool, Value::Int(1)), Ok(Value::Int(1)));
        assert!(canonical(&LogicalType::Bool, Value::Int(2)).is_err());
    }

    #[test]
    fn a_numeric_column_stands_for_an_integer() {
        let big = LogicalType::Int {
            bits: 64,
            unsigned: true,
        };
        assert_eq!(
            canonical(&big, "18446744073709551615".into()),
            Ok(Value::UInt(u64::MAX))
        );
        assert_eq!(canonical(&big, "7".into()), Ok(Value::Int(7)));
        assert!(canonical(&big, "7.5".into()).is_err());
    }
}
