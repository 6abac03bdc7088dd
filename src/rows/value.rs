//! `Value`, `Key` and `Row`: one cell, the cells that identify a row, and the mapped cells of a row.
//! Two equal rows on two engines have equal values, because each cell is held in one canonical spelling.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde_json::json;

/// One cell. Booleans are `Int` 0 or 1; decimals, dates, times, JSON, UUIDs and enums are `Text` in canonical spelling.
#[derive(Debug, Clone)]
pub enum Value {
    Null,
    Int(i64),
    /// Only above `i64::MAX`; [`Value::unsigned`] keeps that.
    UInt(u64),
    /// Compared by bits: `-0.0` differs from `0.0`, and a NaN equals itself.
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    /// An unsigned integer as the one `Value` that stands for it.
    pub fn unsigned(n: u64) -> Value {
        i64::try_from(n).map_or(Value::UInt(n), Value::Int)
    }

    pub fn text(s: impl Into<String>) -> Value {
        Value::Text(s.into())
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(s) => Some(s),
            _ => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Int(_) => 1,
            Value::UInt(_) => 2,
            Value::Float(_) => 3,
            Value::Text(_) => 4,
            Value::Bytes(_) => 5,
        }
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::UInt(a), Value::UInt(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            // UInt only holds what Int cannot, so ordering by kind is ordering by number.
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Value::Null => {}
            Value::Int(n) => n.hash(state),
            Value::UInt(n) => n.hash(state),
            Value::Float(x) => x.to_bits().hash(state),
            Value::Text(s) => s.hash(state),
            Value::Bytes(b) => b.hash(state),
        }
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Value::Int(n)
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Value::Text(s.to_owned())
    }
}

impl From<String> for Value {
    fn from(s: String) -> Self {
        Value::Text(s)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(o: Option<T>) -> Self {
        o.map_or(Value::Null, Into::into)
    }
}

/// The values of a row's key columns, in the order of the table's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Vec<Value>);

/// A text that should be a key and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a row key: expected a JSON array of the key's values as written by this product, {problem}")]
pub struct KeyError {
    pub text: String,
    pub problem: String,
}

impl Key {
    /// The spelling used in control tables (`row_key`): a JSON array. Floats and bytes, which JSON cannot carry
    /// exactly, are objects of hexadecimal digits.
    pub fn to_json(&self) -> String {
        let cells: Vec<serde_json::Value> = self
            .0
            .iter()
            .map(|v| match v {
                Value::Null => serde_json::Value::Null,
                Value::Int(n) => json!(n),
                Value::UInt(n) => json!(n),
                Value::Float(x) => json!({ "f": format!("{:016x}", x.to_bits()) }),
                Value::Text(s) => json!(s),
                Value::Bytes(b) => json!({ "b": hex(b) }),
            })
            .collect();
        serde_json::Value::Array(cells).to_string()
    }

    pub fn from_json(text: &str) -> Result<Key, KeyError> {
        let fail = |problem: &str| KeyError {
            text: text.to_owned(),
            problem: problem.to_owned(),
        };
        let parsed: serde_json::Value = serde_json::from_str(text).map_err(|e| fail(&e.to_string()))?;
        let serde_json::Value::Array(cells) = parsed else {
            return Err(fail("found something else than an array"));
        };
        cells
            .into_iter()
            .map(|cell| match cell {
                serde_json::Value::Null => Ok(Value::Null),
                serde_json::Value::Number(n) => n
                    .as_i64()
                    .map(Value::Int)
                    .or_else(|| n.as_u64().map(Value::unsigned))
                    .ok_or_else(|| fail("found a number that is not a 64-bit integer")),
                serde_json::Value::String(s) => Ok(Value::Text(s)),
                serde_json::Value::Object(o) => {
                    let one = |k: &str| o.get(k).and_then(serde_json::Value::as_str);
                    if let Some(bits) = one("f").and_then(|s| u64::from_str_radix(s, 16).ok()) {
                        Ok(Value::Float(f64::from_bits(bits)))
                    } else if let Some(bytes) = one("b").and_then(unhex) {
                        Ok(Value::Bytes(bytes))
                    } else {
                        Err(fail("found an object that is neither a float nor bytes"))
                    }
                }
                _ => Err(fail("found a value of another kind")),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}

/// The mapped columns of one row, in the order of the `TablePair`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    pub values: Vec<Value>,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        // Writing to a String cannot fail.
        let _ = write!(s, "{b:02x}");
        s
    })
}

fn unhex(s: &str) -> Option<Vec<u8>> {
    if !s.len().is_multiple_of(2) || !s.is_ascii() {
        return None;
    }
    (0..s.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(s.get(i..i + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::unsigned),
            any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
            any::<String>().prop_map(Value::Text),
            any::<Vec<u8>>().prop_map(Value::Bytes),
        ]
    }

    proptest! {
        #[test]
        fn a_key_survives_its_json(values in prop::collection::vec(any_value(), 0..5)) {
            let key = Key(values);
            prop_assert_eq!(Key::from_json(&key.to_json()), Ok(key));
        }

        #[test]
        fn equal_values_hash_alike_and_order_is_total(a in any_value(), b in any_value()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a == b, a.cmp(&b) == Ordering::Equal);
        }
    }

    #[test]
    fn floats_are_compared_by_bits() {
        assert_ne!(Value::Float(0.0), Value::Float(-0.0));
        assert_eq!(Value::Float(f64::NAN), Value::Float(f64::NAN));
    }

    #[test]
    fn a_broken_key_says_what_was_found() {
        for bad in ["", "7", "{}", "[1.5]", "[true]", r#"[{"b":"0"}]"#, r#"[{"b":"é0"}]"#] {
            assert!(Key::from_json(bad).is_err(), "{bad} was taken for a key");
        }
    }
}
