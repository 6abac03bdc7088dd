//! Digests of rows and of chunks: every value with its kind and length before it, NULL with a mark of its own, so that
//! no two different rows are fed to the hash as the same bytes.

use sha2::{Digest as _, Sha256};

use super::value::hex;
pub(crate) use super::value::hex as hexadecimal;
use super::{Row, Value};

/// 128 bits of SHA-256 over one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowDigest(pub u128);

/// SHA-256 over the rows of a chunk in order, with their number.
#[derive(Clone, Default)]
pub struct ChunkDigest {
    hash: Sha256,
    rows: u64,
}

impl ChunkDigest {
    pub fn add(&mut self, row: &Row) {
        self.hash.update((row.values.len() as u64).to_be_bytes());
        frame(&row.values, |bytes| self.hash.update(bytes));
        self.rows += 1;
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Hexadecimal SHA-256.
    pub fn finish(self) -> String {
        hex(&self.hash.finalize())
    }
}

#[cfg(test)]
fn row(row: &Row) -> RowDigest {
    of(&row.values)
}

/// The digest of these values, in this order.
pub fn of<'v>(values: impl IntoIterator<Item = &'v Value>) -> RowDigest {
    let mut hash = Sha256::new();
    frame(values, |bytes| hash.update(bytes));
    let full = hash.finalize();
    let mut half = [0u8; 16];
    half.copy_from_slice(&full[..16]);
    RowDigest(u128::from_be_bytes(half))
}

fn frame<'v>(values: impl IntoIterator<Item = &'v Value>, mut feed: impl FnMut(&[u8])) {
    for value in values {
        match value {
            Value::Null => feed(&[0]),
            Value::Int(n) => {
                feed(&[1]);
                feed(&n.to_be_bytes());
            }
            Value::UInt(n) => {
                feed(&[2]);
                feed(&n.to_be_bytes());
            }
            Value::Float(x) => {
                feed(&[3]);
                feed(&x.to_bits().to_be_bytes());
            }
            Value::Text(s) => {
                feed(&[4]);
                feed(&(s.len() as u64).to_be_bytes());
                feed(s.as_bytes());
            }
            Value::Bytes(b) => {
                feed(&[5]);
                feed(&(b.len() as u64).to_be_bytes());
                feed(b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(values: &[Value]) -> Vec<u8> {
        let mut out = Vec::new();
        frame(values, |b| out.extend_from_slice(b));
        out
    }

    fn texts() -> impl Strategy<Value = Vec<Value>> {
        prop::collection::vec(
            prop_oneof![
                Just(Value::Null),
                "[a\u{0}\u{4}]{0,4}".prop_map(Value::Text),
                prop::collection::vec(0u8..6, 0..4).prop_map(Value::Bytes),
                (-2i64..2).prop_map(Value::Int),
            ],
            0..4,
        )
    }

    proptest! {
        #[test]
        fn different_rows_are_framed_differently(a in texts(), b in texts()) {
            prop_assert_eq!(a == b, framed(&a) == framed(&b));
        }
    }

    #[test]
    fn moving_a_byte_over_a_border_changes_the_digest() {
        let a = Row {
            values: vec!["ab".into(), "c".into()],
        };
        let b = Row {
            values: vec!["a".into(), "bc".into()],
        };
        let null = Row {
            values: vec![Value::Null],
        };
        let empty = Row {
            values: vec!["".into()],
        };
        assert_ne!(row(&a), row(&b));
        assert_ne!(row(&null), row(&empty));
    }

    #[test]
    fn a_chunk_depends_on_the_order_of_its_rows() {
        let (a, b) = (
            Row {
                values: vec![Value::Int(1)],
            },
            Row {
                values: vec![Value::Int(2)],
            },
        );
        let digest = |rows: [&Row; 2]| {
            let mut d = ChunkDigest::default();
            for row in rows {
                d.add(row);
            }
            assert_eq!(d.rows(), 2);
            d.finish()
        };
        assert_ne!(digest([&a, &b]), digest([&b, &a]));
    }
}
