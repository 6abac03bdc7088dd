//! Which shard a row belongs to, as a pure function of its shard columns. The same function as SQL is `store`'s, the same
//! in words is in docs/sharding.md: Rust, MySQL, PostgreSQL and an application in any language have to agree.

use md5::{Digest as _, Md5};

use super::{Key, Value};

/// How a table's rows find their shard on one side.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShardBy {
    /// The columns that decide, named as in the source, in the order in which they are hashed. All of them are columns of
    /// the table's key.
    pub columns: Vec<String>,
    pub function: ShardFunction,
}

/// How the columns' values become a shard's number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ShardFunction {
    /// One integer, modulo the number of shards; never negative.
    Modulo,
    /// See [`hash`].
    Hash,
    /// One integer: the number of bounds that it is not below. As many bounds as shards but one, ascending.
    Range { bounds: Vec<i64> },
}

/// Why a row has no shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    #[error("the shard column {column} is NULL: a row without it has no shard; make the column NOT NULL")]
    Null { column: String },
    #[error("the shard column {column} holds {found}, expected an integer")]
    NotInteger { column: String, found: String },
    #[error("the shard column {column} holds a floating-point number, which is no exact value")]
    Float { column: String },
    #[error("{expected} values of shard columns are needed, {found} were given")]
    Arity { expected: usize, found: usize },
    #[error("the table's key ({key}) lacks the shard column {column}; make it part of the key")]
    NotInKey { column: String, key: String },
    #[error("there is no shard: a side has at least one")]
    NoShards,
}

impl ShardBy {
    /// The shard, from 0, of a row whose shard columns (in the order of `columns`) hold these canonical values.
    pub fn place(&self, values: &[&Value], shards: usize) -> Result<usize, PlaceError> {
        if shards == 0 {
            return Err(PlaceError::NoShards);
        }
        if values.len() != self.columns.len() {
            return Err(PlaceError::Arity {
                expected: self.columns.len(),
                found: values.len(),
            });
        }
        for (column, value) in self.columns.iter().zip(values) {
            match value {
                Value::Null => return Err(PlaceError::Null { column: column.clone() }),
                Value::Float(_) => return Err(PlaceError::Float { column: column.clone() }),
                _ => {}
            }
        }
        let place = match &self.function {
            ShardFunction::Modulo => self.integer(values)?.rem_euclid(shards as i128) as usize,
            ShardFunction::Hash => hash(values) as usize % shards,
            ShardFunction::Range { bounds } => {
                let n = self.integer(values)?;
                let passed = bounds.iter().filter(|bound| n >= i128::from(**bound)).count();
                passed.min(shards - 1)
            }
        };
        Ok(place)
    }

    /// Where in a table's key the shard columns are.
    pub fn positions(&self, key: &[String]) -> Result<Vec<usize>, PlaceError> {
        let find = |column: &String| {
            key.iter()
                .position(|name| name == column)
                .ok_or_else(|| PlaceError::NotInKey {
                    column: column.clone(),
                    key: key.join(", "),
                })
        };
        self.columns.iter().map(find).collect()
    }

    /// The shard of a row by its key; `positions` as [`Self::positions`] found them.
    pub fn place_of(&self, key: &Key, positions: &[usize], shards: usize) -> Result<usize, PlaceError> {
        let values: Vec<&Value> = positions.iter().filter_map(|&at| key.0.get(at)).collect();
        self.place(&values, shards)
    }

    fn integer(&self, values: &[&Value]) -> Result<i128, PlaceError> {
        let (Some(column), Some(value)) = (self.columns.first(), values.first()) else {
            return Err(PlaceError::Arity { expected: 1, found: 0 });
        };
        let found = match value {
            Value::Int(n) => return Ok(i128::from(*n)),
            Value::UInt(n) => return Ok(i128::from(*n)),
            // PostgreSQL's numeric holds it, and every row has to have a place.
            Value::Text(text) if text == "NaN" => return Ok(0),
            Value::Text(text) => match text.parse() {
                Ok(n) => return Ok(n),
                Err(_) => format!("`{}`", text.chars().take(40).collect::<String>()),
            },
            Value::Null | Value::Float(_) | Value::Bytes(_) => "no number".to_owned(),
        };
        Err(PlaceError::NotInteger {
            column: column.clone(),
            found,
        })
    }
}

/// The first four bytes, as an unsigned big-endian number, of the MD5 of all values' texts, each as
/// `<length in bytes>:<text>`, in UTF-8: an integer or decimal in its shortest decimal form, a text without the spaces at
/// its end, bytes as lower-case hexadecimal digits, a UUID in lower case with hyphens.
pub fn hash(values: &[&Value]) -> u32 {
    let mut md5 = Md5::new();
    for value in values {
        let text = spelled(value);
        md5.update(format!("{}:", text.len()));
        md5.update(text);
    }
    let sum = md5.finalize();
    u32::from_be_bytes([sum[0], sum[1], sum[2], sum[3]])
}

fn spelled(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Int(n) => n.to_string(),
        Value::UInt(n) => n.to_string(),
        Value::Float(x) => x.to_string(),
        // Databases that pad take texts for the same key that differ only there.
        Value::Text(text) => text.trim_end_matches(' ').to_owned(),
        Value::Bytes(bytes) => super::value::hex(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by(function: ShardFunction) -> ShardBy {
        ShardBy {
            columns: vec!["user_id".to_owned()],
            function,
        }
    }

    #[test]
    fn modulo_is_never_negative_and_knows_all_integers() {
        let modulo = by(ShardFunction::Modulo);
        for (value, shards, expected) in [
            (Value::Int(7), 3, 1),
            (Value::Int(-1), 3, 2),
            (Value::Int(-3), 3, 0),
            (Value::Int(i64::MIN), 3, 1),
            (Value::UInt(u64::MAX), 4, 3),
            (Value::text("18446744073709551615"), 4, 3),
            (Value::Int(5), 1, 0),
        ] {
            assert_eq!(modulo.place(&[&value], shards), Ok(expected), "{value:?} of {shards}");
        }
    }

    #[test]
    fn ranges_begin_at_their_bounds() {
        let range = by(ShardFunction::Range { bounds: vec![-10, 100] });
        for (n, expected) in [(-11, 0), (-10, 1), (99, 1), (100, 2), (i64::MAX, 2)] {
            assert_eq!(range.place(&[&Value::Int(n)], 3), Ok(expected), "{n}");
        }
    }

    /// Figures that any other implementation can be checked against; docs/sharding.md repeats them.
    #[test]
    fn hashes_are_what_they_always_were() {
        for (values, expected) in [
            (vec![Value::Int(1)], 0xd0bd_571d),
            (vec![Value::Int(-42)], 0xc3e1_186b),
            (vec![Value::text("Zoë")], 0xd2f4_04ec),
            (vec![Value::Bytes(vec![0, 255])], 0xba3f_4a6d),
            (vec![Value::Int(1), Value::text("a")], 0x62ca_ad3d),
        ] {
            let values: Vec<&Value> = values.iter().collect();
            assert_eq!(hash(&values), expected, "{values:?} gives {:#010x}", hash(&values));
        }
        let padded = hash(&[&Value::text("a  ")]);
        assert_eq!(padded, hash(&[&Value::text("a")]));
        assert_ne!(
            hash(&[&Value::text("ab"), &Value::text("c")]),
            hash(&[&Value::text("a"), &Value::text("bc")])
        );
    }

    #[test]
    fn what_has_no_place_says_why() {
        let modulo = by(ShardFunction::Modulo);
        assert!(matches!(modulo.place(&[&Value::Null], 3), Err(PlaceError::Null { .. })));
        assert!(matches!(
            modulo.place(&[&Value::text("a")], 3),
            Err(PlaceError::NotInteger { .. })
        ));
        assert!(matches!(modulo.place(&[], 3), Err(PlaceError::Arity { .. })));
        let key = ["id".to_owned()];
        assert!(matches!(modulo.positions(&key), Err(PlaceError::NotInKey { .. })));
        let key = ["id".to_owned(), "user_id".to_owned()];
        assert_eq!(modulo.positions(&key), Ok(vec![1]));
        assert_eq!(
            modulo.place_of(&Key(vec![Value::Int(9), Value::Int(4)]), &[1], 3),
            Ok(1)
        );
    }

    proptest! {
        #[test]
        fn a_place_is_a_shard_and_doubling_splits_each_in_two(n in any::<i64>(), shards in 1_usize..40) {
            for function in [ShardFunction::Modulo, ShardFunction::Hash] {
                let by = by(function);
                let place = by.place(&[&Value::Int(n)], shards).unwrap();
                prop_assert!(place < shards);
                let doubled = by.place(&[&Value::Int(n)], shards * 2).unwrap();
                prop_assert_eq!(doubled % shards, place);
            }
        }
    }
}
