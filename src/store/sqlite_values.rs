//! SQLite's values held against what their columns were declared to hold. SQLite keeps anything anywhere and converts some
//! of it in silence: what is not exactly of the declared type is refused, on its way out and on its way in.

use jiff::civil;

use super::introspect::{Affinity, affinity, decimal_text};
use super::side::MappedColumn;
use crate::rows::canonical::fits;
use crate::rows::{LogicalType as T, Value};

/// Digits that SQLite's floats keep of a decimal.
const DIGITS: usize = 15;

/// A value as it is stored, as what the column is declared to hold. Dates and times come out in full, decimals as text.
pub(crate) fn read(column: &MappedColumn, stored: Value) -> Result<Value, String> {
    let logical = &column.logical;
    // An expression's value has no affinity.
    let numeric = column.computed.is_some() || !decimal_text(&column.native);
    let text = column.computed.is_some() || decimal_text(&column.native);
    let value = match (logical, stored) {
        (_, Value::Null) => return Ok(Value::Null),
        (T::Bool | T::Int { .. } | T::Year, value @ Value::Int(_))
        | (T::Float32 | T::Float64, value @ Value::Float(_))
        | (T::Bytes { .. }, value @ Value::Bytes(_))
        | (
            T::Text { .. } | T::Enum { .. } | T::Set { .. } | T::Json | T::Uuid | T::Network(_),
            value @ Value::Text(_),
        ) => value,
        (T::Float32 | T::Float64, Value::Int(n)) if column.computed.is_some() && n.unsigned_abs() < 1 << 53 => {
            Value::Float(n as f64)
        }
        (T::Decimal { .. }, Value::Int(n)) if numeric => Value::Text(n.to_string()),
        (T::Decimal { .. }, Value::Float(x)) if numeric => Value::Text(short(x)?),
        (T::Decimal { .. }, value @ Value::Text(_)) if text => value,
        (T::Date, Value::Text(s)) => Value::Text(date(&s)?),
        (T::Time { .. }, Value::Text(s)) => Value::Text(time(&s)?),
        (T::Timestamp { .. }, Value::Text(s)) => Value::Text(timestamp(&s)?),
        (_, stored) => {
            return Err(format!(
                "SQLite stores {} in a column that is declared {}, which holds a {logical}",
                class(&stored),
                if column.native.is_empty() {
                    "without a type"
                } else {
                    &column.native
                },
            ));
        }
    };
    fits(logical, &value)?;
    Ok(value)
}

fn class(value: &Value) -> &'static str {
    match value {
        Value::Null => "NULL",
        Value::Int(_) | Value::UInt(_) => "an INTEGER",
        Value::Float(_) => "a REAL",
        Value::Text(_) => "a TEXT",
        Value::Bytes(_) => "a BLOB",
    }
}

/// The canonical value as it is bound, if SQLite keeps it as it is in this column; `None`: as it stands.
pub(crate) fn given(column: &MappedColumn, value: &Value) -> Result<Option<Value>, String> {
    match (&column.logical, value) {
        (T::Float32 | T::Float64, Value::Float(x)) => {
            if x.is_nan() {
                return Err("SQLite would store NaN as NULL".to_owned());
            }
            if *x == 0.0 && x.is_sign_negative() {
                return Err("SQLite would store the negative zero -0 as 0".to_owned());
            }
        }
        (T::Decimal { .. }, Value::Int(_)) if !decimal_text(&column.native) => return Ok(Some(value.clone())),
        (T::Decimal { .. }, Value::UInt(n)) if !decimal_text(&column.native) => {
            return number(&n.to_string()).map(Some);
        }
        (T::Decimal { .. }, Value::Text(s)) if !decimal_text(&column.native) => return number(s).map(Some),
        (T::Date, Value::Text(s)) => spelled(&date(s)?, s)?,
        (T::Time { .. }, Value::Text(s)) => spelled(&time(s)?, s)?,
        (T::Timestamp { .. }, Value::Text(s)) => spelled(&timestamp(s)?, s)?,
        // What looks like a number becomes one in a column of this affinity.
        (T::Json, Value::Text(s)) if affinity(&column.native) == Affinity::Numeric => {
            let first = s.trim_start().chars().next();
            if first.is_some_and(|c| matches!(c, '-' | '+' | '.') || c.is_ascii_digit()) {
                return Err(format!(
                    "SQLite would convert a JSON text that is a number alone in a column that is declared {}; declare it \
                     JSON_TEXT",
                    column.native
                ));
            }
        }
        _ => {}
    }
    Ok(None)
}

fn spelled(canonical: &str, found: &str) -> Result<(), String> {
    if canonical == found {
        return Ok(());
    }
    Err(format!("`{found}` is not spelled `{canonical}`"))
}

/// A decimal for a column in which it is a number: a whole one of 64 bits, or a float. Given as such, because SQLite's own
/// reading of a text is not always the nearest float.
fn number(decimal: &str) -> Result<Value, String> {
    if let Ok(n) = decimal.parse::<i64>() {
        return Ok(Value::Int(n));
    }
    let digits = decimal.trim_start_matches('-');
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("{decimal} is no number to SQLite"));
    }
    let significant: String = digits.chars().filter(char::is_ascii_digit).collect();
    let significant = significant.trim_matches('0').len();
    if significant > DIGITS {
        return Err(format!(
            "{decimal} has {significant} digits, and SQLite keeps {DIGITS} in a numeric column; declare it DECIMAL_TEXT"
        ));
    }
    match decimal.parse::<f64>() {
        // Subnormal floats keep fewer digits.
        Ok(x) if x.is_normal() => Ok(Value::Float(x)),
        _ => Err(format!("{decimal} is too large or too small for SQLite")),
    }
}

/// The decimal of at most 15 digits that is stored as this float.
fn short(x: f64) -> Result<String, String> {
    let none = || format!("SQLite stores {x:e} where a decimal number of at most {DIGITS} digits is expected");
    if !x.is_finite() {
        return Err(none());
    }
    let scientific = format!("{x:.14e}");
    if scientific.parse::<f64>().ok() != Some(x) {
        return Err(none());
    }
    let (mantissa, exponent) = scientific.split_once('e').ok_or_else(none)?;
    let exponent: i32 = exponent.parse().map_err(|_| none())?;
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let point = exponent + 1;
    let plain = match usize::try_from(point) {
        Ok(point) if point >= digits.len() => format!("{digits}{}", "0".repeat(point - digits.len())),
        Ok(point) if point > 0 => format!("{}.{}", &digits[..point], &digits[point..]),
        _ => format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
    };
    crate::rows::canonical::decimal(&format!("{sign}{plain}"))
}

/// `YYYY-MM-DD`, a day that there is.
fn date(s: &str) -> Result<String, String> {
    let wrong = || format!("`{s}` is no date as YYYY-MM-DD");
    let [year, month, day] = numbers(s, '-', [4, 2, 2]).ok_or_else(wrong)?;
    civil::Date::new(year as i16, month as i8, day as i8).map_err(|_| wrong())?;
    Ok(s.to_owned())
}

/// `HH:MM:SS` with a fraction perhaps, within a day; in full.
fn time(s: &str) -> Result<String, String> {
    let wrong = || format!("`{s}` is no time of day as HH:MM:SS with up to 6 fractional digits");
    let (whole, fraction) = s.split_once('.').unwrap_or((s, "0"));
    let [hour, minute, second] = numbers(whole, ':', [2, 2, 2]).ok_or_else(wrong)?;
    let kept = fraction.trim_end_matches('0');
    let digits = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    if hour > 23 || minute > 59 || second > 59 || !digits || kept.len() > 6 {
        return Err(wrong());
    }
    Ok(format!("{whole}.{kept:0<6}"))
}

/// Date and time with a space or `T` between them, in UTC if a zone is named; in full, with a space.
fn timestamp(s: &str) -> Result<String, String> {
    let wrong = || format!("`{s}` is no time as YYYY-MM-DD HH:MM:SS in UTC, with up to 6 fractional digits");
    let plain = s.strip_suffix('Z').or_else(|| s.strip_suffix("+00:00")).unwrap_or(s);
    let (day, clock) = plain.split_once([' ', 'T']).ok_or_else(wrong)?;
    let (day, clock) = (date(day).map_err(|_| wrong())?, time(clock).map_err(|_| wrong())?);
    Ok(format!("{day} {clock}"))
}

/// Numbers of exactly so many digits.
fn numbers(s: &str, between: char, digits: [usize; 3]) -> Option<[u16; 3]> {
    let mut parts = s.split(between);
    let mut found = [0; 3];
    for (place, length) in found.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == length)?;
        *place = part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(found)
}

/// A stored time as SQL that spells it as [`read`] does: texts that mean one moment must not differ.
pub(crate) fn moment(stored: &str) -> String {
    let plain = format!("replace(replace({stored}, 'Z', ''), '+00:00', '')");
    format!(
        "(substr({plain}, 1, 10) || ' ' || substr({plain}, 12, 8) || '.' || substr(substr({plain}, 21) || '000000', 1, 6))"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Ident;
    use proptest::prelude::*;

    fn column(native: &str, logical: T) -> MappedColumn {
        MappedColumn {
            name: Ident::new("c").unwrap(),
            carry: logical.clone(),
            logical,
            native: native.to_owned(),
            nullable: true,
            computed: None,
        }
    }

    fn unlimited(native: &str) -> MappedColumn {
        column(native, T::Decimal { precision: 0, scale: 0 })
    }

    proptest! {
        #[test]
        fn a_decimal_of_fifteen_digits_comes_back_from_its_float(n in -999_999_999_999_999i64..=999_999_999_999_999, scale in 0usize..20) {
            let digits = format!("{:0>width$}", n.unsigned_abs(), width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            let sign = if n < 0 { "-" } else { "" };
            let decimal = crate::rows::canonical::decimal(&format!("{sign}{whole}.{fraction}")).unwrap();
            let stored = number(&decimal).unwrap();
            prop_assert_eq!(read(&unlimited("NUMERIC"), stored), Ok(Value::Text(decimal)));
        }
    }

    #[test]
    fn a_value_of_another_class_is_refused() {
        let day = column("DATE", T::Date);
        let flag = column("BOOLEAN", T::Bool);
        let real = column("REAL", T::Float64);
        let short_text = column("VARCHAR(2)", T::text(Some(2)));
        let small = column(
            "SMALLINT",
            T::Int {
                bits: 16,
                unsigned: false,
            },
        );
        let big = column(
            "DECIMAL(10,2)",
            T::Decimal {
                precision: 10,
                scale: 2,
            },
        );
        for (column, stored) in [
            (&day, Value::Int(20_240_101)),
            (&day, Value::Float(2_460_310.5)),
            (&day, "2024-1-1".into()),
            (&day, "2024-02-30".into()),
            (&day, "2024-01-01 00:00:00".into()),
            (&flag, "true".into()),
            (&real, "abc".into()),
            (&real, Value::Bytes(vec![1])),
            (&short_text, "abc".into()),
            (&short_text, Value::Int(1)),
            (&small, Value::Int(40_000)),
            (&small, Value::Float(1.5)),
            (&big, "12.5".into()),
            (&big, Value::Float(0.1 + 0.2)),
            (&big, Value::Float(f64::INFINITY)),
            (&big, Value::Float(1.255)),
        ] {
            assert!(read(column, stored.clone()).is_err(), "{} {stored:?}", column.native);
        }
        assert_eq!(read(&big, Value::Float(12.34)), Ok("12.34".into()));
        assert_eq!(read(&big, Value::Int(-7)), Ok("-7".into()));
        assert_eq!(read(&unlimited("DECIMAL_TEXT"), "1.50".into()), Ok("1.50".into()));
        assert_eq!(
            read(&unlimited("NUMERIC"), Value::Float(1e19)),
            Ok("10000000000000000000".into())
        );
        assert_eq!(
            read(&unlimited("NUMERIC"), Value::Float(-1.5e-7)),
            Ok("-0.00000015".into())
        );
    }

    #[test]
    fn what_sqlite_would_change_is_refused() {
        let real = column("REAL", T::Float64);
        let json = column("JSON", T::Json);
        let kept = column("JSON_TEXT", T::Json);
        let stamp = column("DATETIME", T::Timestamp { utc: false, digits: 6 });
        for (column, value) in [
            (&real, Value::Float(f64::NAN)),
            (&real, Value::Float(-0.0)),
            (&json, " 12".into()),
            (&json, "-1e5".into()),
            (&unlimited("NUMERIC"), "1234567890.123456".into()),
            (&unlimited("NUMERIC"), "18446744073709551615".into()),
            (&unlimited("NUMERIC"), "NaN".into()),
            (&stamp, "0000-00-00 00:00:00.000000".into()),
            (&stamp, "infinity".into()),
            (&stamp, "0044-03-15 00:00:00.000000 BC".into()),
            (&column("TIME", T::Time { digits: 6 }), "-838:59:59.000000".into()),
        ] {
            assert!(given(column, &value).is_err(), "{} {value:?}", column.native);
        }
        for (column, value) in [
            (&real, Value::Float(f64::NEG_INFINITY)),
            (&json, "[1]".into()),
            (&kept, "12".into()),
            (&unlimited("DECIMAL_TEXT"), "18446744073709551615.5".into()),
            (&stamp, "2024-02-29 23:59:59.000001".into()),
        ] {
            assert_eq!(given(column, &value), Ok(None), "{} {value:?}", column.native);
        }
        let numeric = |value: &str| given(&unlimited("NUMERIC"), &value.into()).unwrap();
        assert_eq!(numeric("9007199254740993"), Some(Value::Int(9_007_199_254_740_993)));
        assert_eq!(numeric("123456789012.345"), Some(Value::Float(123_456_789_012.345)));
    }

    #[test]
    fn a_moment_has_several_spellings_and_one_value() {
        for s in [
            "2024-01-02 03:04:05.5",
            "2024-01-02T03:04:05.500Z",
            "2024-01-02 03:04:05.500000+00:00",
            "2024-01-02 03:04:05.500000000",
        ] {
            assert_eq!(timestamp(s).as_deref(), Ok("2024-01-02 03:04:05.500000"), "{s}");
        }
        for bad in [
            "2024-01-02",
            "2024-01-02 03:04",
            "2024-01-02 24:00:00",
            "2024-01-02 03:04:60",
            "2024-01-02 03:04:05.",
            "2024-01-02 03:04:05.0000001",
            "2024-01-02 03:04:05+02:00",
            "2024-01-02  03:04:05",
            "2024-01-02 03:04:05 BC",
        ] {
            assert!(timestamp(bad).is_err(), "{bad}");
        }
    }
}
