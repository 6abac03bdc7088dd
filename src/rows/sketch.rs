//! What is kept of a row that was read to be compared: its key, its version, a digest of what counts. Two rows are found
//! to differ without either of them being held, however wide they are.

use super::compare::Rule;
use super::{Comparison, Key, Row, RowDigest, Value, digest};

/// A row, as far as a comparison needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sketch {
    pub key: Key,
    /// The version, canonical UTC text.
    pub version: Option<String>,
    /// Of every column that is compared exactly.
    pub digest: RowDigest,
    /// The values of the columns that are compared with a tolerance, in their order.
    pub beside: Vec<Value>,
    /// About how many bytes the row holds.
    pub bytes: u64,
}

/// Bytes of a cell, about.
fn bytes(value: &Value) -> u64 {
    match value {
        Value::Null => 1,
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => 8,
        Value::Text(text) => text.len() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
    }
}

impl Row {
    /// About how many bytes the row holds.
    pub fn bytes(&self) -> u64 {
        self.values.iter().map(bytes).sum()
    }
}

impl Comparison {
    /// `key`: positions of the key's columns. `version`: position of the version column.
    pub fn sketch(&self, row: &Row, key: &[usize], version: usize) -> Sketch {
        let rule = |at: usize| self.rules.get(at).copied().unwrap_or_default();
        let exact = row
            .values
            .iter()
            .enumerate()
            .filter(|(at, _)| rule(*at) == Rule::Exact)
            .map(|(_, value)| value);
        let beside = row
            .values
            .iter()
            .enumerate()
            .filter(|(at, _)| matches!(rule(*at), Rule::Tolerance(_)))
            .map(|(_, value)| value.clone());
        Sketch {
            key: Key(key.iter().filter_map(|&at| row.values.get(at).cloned()).collect()),
            version: row.values.get(version).and_then(Value::as_str).map(str::to_owned),
            digest: digest::of(exact),
            beside: beside.collect(),
            bytes: row.bytes(),
        }
    }

    /// Whether the rows behind two sketches count as the same.
    pub fn alike(&self, base: &Sketch, follower: &Sketch) -> bool {
        let mut tolerances = self.rules.iter().filter_map(|rule| match rule {
            Rule::Tolerance(most) => Some(*most),
            Rule::Exact | Rule::Ignore => None,
        });
        base.digest == follower.digest
            && base.beside.len() == follower.beside.len()
            && base
                .beside
                .iter()
                .zip(&follower.beside)
                .all(|(a, b)| Rule::Tolerance(tolerances.next().unwrap_or(0.0)).accepts(a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cell() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            (-2i64..3).prop_map(Value::Int),
            "[a ]{0,2}".prop_map(Value::Text),
            prop::collection::vec(0u8..2, 0..3).prop_map(Value::Bytes),
            prop_oneof![Just(0.0), Just(-0.0), Just(1.0), Just(1.05), Just(f64::NAN)].prop_map(Value::Float),
        ]
    }

    fn rule() -> impl Strategy<Value = Rule> {
        prop_oneof![
            3 => Just(Rule::Exact),
            1 => Just(Rule::Ignore),
            1 => Just(Rule::Tolerance(0.1)),
        ]
    }

    proptest! {
        /// A sketch says of two rows exactly what their full values say.
        #[test]
        fn sketches_are_alike_when_rows_are_equal(
            a in prop::collection::vec(cell(), 3),
            b in prop::collection::vec(cell(), 3),
            rules in prop::collection::vec(rule(), 3),
        ) {
            let comparison = Comparison { rules };
            let (a, b) = (Row { values: a }, Row { values: b });
            let sketch = |row: &Row| comparison.sketch(row, &[0], 1);
            prop_assert_eq!(comparison.equal(&a, &b), comparison.alike(&sketch(&a), &sketch(&b)));
        }
    }

    #[test]
    fn a_sketch_knows_key_version_and_size() {
        let row = Row {
            values: vec![
                7.into(),
                "2026-01-01 00:00:00.000000".into(),
                Value::Bytes(vec![0; 100]),
            ],
        };
        let sketch = Comparison::exact(3).sketch(&row, &[0], 1);
        assert_eq!(sketch.key, Key(vec![7.into()]));
        assert_eq!(sketch.version.as_deref(), Some("2026-01-01 00:00:00.000000"));
        assert_eq!(sketch.bytes, 8 + 26 + 100);
    }
}
