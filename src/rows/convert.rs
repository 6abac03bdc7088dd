//! What a pair of columns can carry: exactly, with something to declare, or not at all. One table, both directions:
//! the same pair carries source to target on the way up and target to source on the way back.

use std::cmp::Ordering;

use super::capacity::{binaries, coarser, decimals, finer, ints, lists, texts};
use super::{LogicalType as T, Network};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Exact,
    /// Carried exactly or refused row by row; what a person should know about it.
    Declared(String),
    /// Some value of the source has no exact counterpart in the target.
    Refused(String),
}

/// How a pair of columns is carried: `carry` is the one type in whose canonical spelling both sides are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carriage {
    pub carry: T,
    pub verdict: Verdict,
}

pub fn judge(source: &T, target: &T) -> Carriage {
    let exact = |carry: &T| Carriage {
        carry: carry.clone(),
        verdict: Verdict::Exact,
    };
    let declared = |carry: &T, why: String| Carriage {
        carry: carry.clone(),
        verdict: Verdict::Declared(why),
    };
    let refused = |why: String| Carriage {
        carry: source.clone(),
        verdict: Verdict::Refused(why),
    };

    match (source, target) {
        (T::Other(native), _) | (_, T::Other(native)) => {
            refused(format!("values of type `{native}` cannot be carried exactly"))
        }
        (T::Native { .. }, T::Native { .. }) if source == target => exact(source),
        (T::Native { name, .. }, _) | (_, T::Native { name, .. }) => refused(format!(
            "values of type `{name}` are carried exactly only between columns of that very type"
        )),
        (T::Year, T::Year) => exact(&T::Year),
        // The column would take a small number for a year of this century or the last.
        (_, T::Year) => refused(format!("a {source} can hold numbers that are no year")),
        (T::Bool, T::Bool) => exact(&T::Bool),
        (T::Bool | T::Int { .. } | T::Year, T::Bool | T::Int { .. }) => ints(source, target),
        (T::Int { .. } | T::Bool, T::Decimal { precision, scale }) => {
            let (low, high) = source.int_range().unwrap_or_default();
            let digits = low.unsigned_abs().max(high.unsigned_abs()).to_string().len() as u16;
            if *precision != 0 && precision.saturating_sub(*scale) < digits {
                return refused(format!(
                    "a {source} has up to {digits} digits, a {target} keeps fewer before the point"
                ));
            }
            let carry = if *scale == 0 && *precision != 0 {
                T::Int {
                    bits: 64,
                    unsigned: false,
                }
            } else {
                target.clone()
            };
            declared(
                &carry,
                format!("a {target} can hold numbers that a {source} cannot: such rows cannot be carried back"),
            )
        }
        (T::Decimal { scale: 0, precision }, T::Int { bits, .. }) if *precision != 0 => {
            let (_, high) = target.int_range().unwrap_or_default();
            let carry = T::Int {
                bits: 64,
                unsigned: false,
            };
            if usize::from(*precision) < high.to_string().len() {
                declared(&carry, format!("a {source} is kept as a {target}"))
            } else if *bits == 64 {
                // The usual home of a 64-bit number where there is no such type: it is one, or its row is refused.
                declared(
                    &carry,
                    format!("numbers of a {source} that a {target} does not hold are refused row by row"),
                )
            } else {
                refused(format!("a {source} can hold numbers that a {target} cannot"))
            }
        }
        (T::Decimal { .. }, T::Decimal { .. }) => decimals(source, target),
        (T::Float32, T::Float32) => exact(&T::Float32),
        (T::Float64, T::Float64) => exact(&T::Float64),
        (T::Float32, T::Float64) => declared(
            &T::Float64,
            "the target keeps more of a float than the source: what is written there may not be carried back"
                .to_owned(),
        ),
        (T::Text { .. }, T::Text { .. }) => texts(source, target),
        (T::Bytes { .. }, T::Bytes { .. }) => binaries(source, target),
        (T::Date, T::Date) => exact(&T::Date),
        (T::Time { digits: from }, T::Time { digits: to }) => {
            let carry = T::Time { digits: *from.min(to) };
            match to.cmp(from) {
                Ordering::Less => refused(finer(*from, *to)),
                Ordering::Greater => declared(&carry, coarser(*from, *to)),
                Ordering::Equal => exact(&carry),
            }
        }
        (T::Timestamp { utc: a, digits: from }, T::Timestamp { utc: b, digits: to }) => {
            let carry = T::Timestamp {
                utc: *a && *b,
                digits: *from.min(to),
            };
            if to < from {
                return refused(finer(*from, *to));
            }
            let mut notes = Vec::new();
            if a != b {
                notes.push("one side has no time zone: its values are taken as UTC".to_owned());
            }
            if to > from {
                notes.push(coarser(*from, *to));
            }
            if notes.is_empty() {
                exact(&carry)
            } else {
                declared(&carry, notes.join("; "))
            }
        }
        (T::Json, T::Json) => exact(&T::Json),
        (T::Json, T::Text { .. }) | (T::Text { .. }, T::Json) => declared(
            &T::Json,
            "JSON is kept as text on one side and carried in one spelling".to_owned(),
        ),
        (T::Uuid, T::Uuid) => exact(&T::Uuid),
        (T::Uuid, T::Text { max, .. }) if max.is_some_and(|max| max < 36) => {
            refused("a UUID has 36 characters".to_owned())
        }
        (T::Uuid, T::Text { .. }) | (T::Text { .. }, T::Uuid) => declared(
            &T::Uuid,
            "UUIDs are kept as text on one side and carried in lower case with hyphens".to_owned(),
        ),
        (T::Uuid, T::Bytes { max, .. }) | (T::Bytes { max, .. }, T::Uuid) if max.is_none_or(|max| max == 16) => {
            declared(
                &T::Uuid,
                "UUIDs are kept as their 16 bytes, first byte first, on one side; other bytes are refused row by row"
                    .to_owned(),
            )
        }
        (T::Enum { values: from }, T::Enum { values: to }) => lists(from, to),
        (T::Set { values: from }, T::Set { values: to }) if from == to => exact(&T::text(None)),
        (T::Set { .. }, T::Set { .. }) => declared(
            &T::text(None),
            "sets whose members stand otherwise in the other side's list, or not at all, are refused row by row"
                .to_owned(),
        ),
        (T::Enum { .. } | T::Set { .. }, T::Text { .. }) | (T::Text { .. }, T::Enum { .. } | T::Set { .. }) => {
            declared(
                &T::text(None),
                "texts that are not in the list of the column, in its very spelling, are refused row by row".to_owned(),
            )
        }
        (T::Network(a), T::Network(b)) if a == b => exact(source),
        (T::Network(Network::Ip4 | Network::Ip6), T::Network(Network::Inet))
        | (T::Network(Network::Inet), T::Network(Network::Ip4 | Network::Ip6)) => declared(
            &T::Network(Network::Inet),
            "addresses of the other family, or with a prefix length, are refused row by row".to_owned(),
        ),
        (T::Network(kind), T::Text { max, .. }) | (T::Text { max, .. }, T::Network(kind)) => {
            let longest = if *kind == Network::Mac { 17 } else { 43 };
            if max.is_some_and(|max| max < longest) {
                return refused(format!("such an address has up to {longest} characters"));
            }
            declared(
                &T::Network(*kind),
                "addresses are kept as text on one side and carried in one spelling; other texts are refused row by row"
                    .to_owned(),
            )
        }
        _ => refused(format!("a {source} has no exact counterpart in a {target}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::NativeForm;

    fn int(bits: u8, unsigned: bool) -> T {
        T::Int { bits, unsigned }
    }

    fn stamp(utc: bool, digits: u8) -> T {
        T::Timestamp { utc, digits }
    }

    fn native(name: &str) -> T {
        T::Native {
            name: name.to_owned(),
            form: NativeForm::PostgresText,
        }
    }

    fn kind(values: &[&str]) -> T {
        T::Enum {
            values: values.iter().map(|&v| v.to_owned()).collect(),
        }
    }

    #[test]
    fn what_is_refused_row_by_row_is_declared() {
        let padded = T::Text {
            max: Some(10),
            bytes: None,
            padded: true,
        };
        let blob = T::bytes(Some(65_535));
        let binary = T::Bytes {
            max: Some(16),
            padded: true,
        };
        let text = T::Text {
            max: None,
            bytes: Some(65_535),
            padded: false,
        };
        for (a, b) in [
            (T::text(Some(10)), padded.clone()),
            (padded, T::text(Some(10))),
            (T::text(None), text.clone()),
            (text.clone(), T::text(Some(100))),
            (T::text(Some(20_000)), text.clone()),
            (T::bytes(None), blob),
            (T::bytes(Some(16)), binary.clone()),
            (binary.clone(), T::bytes(None)),
            (T::Uuid, binary),
            (T::Uuid, T::text(Some(36))),
            (kind(&["a"]), kind(&["a", "b"])),
            (kind(&["a", "b"]), kind(&["b"])),
            (kind(&["a"]), T::text(Some(1))),
            (T::Network(Network::Ip6), T::Network(Network::Inet)),
            (T::Network(Network::Inet), T::text(Some(43))),
            (T::Year, int(16, false)),
        ] {
            assert!(matches!(judge(&a, &b).verdict, Verdict::Declared(_)), "{a} into {b}");
        }
        assert_eq!(judge(&text, &T::text(None)).verdict, Verdict::Exact);
        assert_eq!(judge(&T::text(Some(100)), &text).verdict, Verdict::Exact);
        assert_eq!(judge(&kind(&["a", "b"]), &kind(&["b", "a"])).verdict, Verdict::Exact);
    }

    #[test]
    fn what_is_the_same_is_exact() {
        for t in [
            T::Bool,
            int(64, true),
            T::Float32,
            T::Float64,
            T::Decimal {
                precision: 65,
                scale: 30,
            },
            T::text(Some(255)),
            T::bytes(None),
            T::Date,
            T::Year,
            T::Time { digits: 6 },
            T::Network(Network::Inet),
            native("interval"),
            stamp(true, 6),
            T::Json,
            T::Uuid,
        ] {
            assert_eq!(judge(&t, &t).verdict, Verdict::Exact, "{t}");
        }
    }

    #[test]
    fn what_loses_something_is_refused() {
        for (a, b) in [
            (int(64, false), int(32, false)),
            (int(64, true), int(64, false)),
            (int(32, false), int(64, true)),
            (
                int(64, true),
                T::Decimal {
                    precision: 19,
                    scale: 0,
                },
            ),
            (
                T::Decimal {
                    precision: 10,
                    scale: 4,
                },
                T::Decimal {
                    precision: 10,
                    scale: 2,
                },
            ),
            (T::Float64, T::Float32),
            (T::Decimal { precision: 5, scale: 2 }, T::Float64),
            (T::text(Some(20)), T::text(Some(10))),
            (T::text(None), int(32, false)),
            (int(8, true), T::Year),
            (T::bytes(Some(20)), T::bytes(Some(10))),
            (T::Time { digits: 6 }, T::Time { digits: 0 }),
            (T::Uuid, T::text(Some(32))),
            (T::Uuid, T::bytes(Some(15))),
            (native("interval"), native("interval(3)")),
            (native("integer[]"), T::Json),
            (T::Network(Network::Cidr), T::Network(Network::Inet)),
            (stamp(true, 6), stamp(true, 3)),
            (T::Other("geometry".into()), T::Other("geometry".into())),
        ] {
            assert!(matches!(judge(&a, &b).verdict, Verdict::Refused(_)), "{a} into {b}");
        }
    }

    #[test]
    fn an_unsigned_bigint_fits_a_numeric_and_is_carried_as_an_integer() {
        let c = judge(
            &int(64, true),
            &T::Decimal {
                precision: 20,
                scale: 0,
            },
        );
        assert_eq!(c.carry, int(64, false));
        assert!(matches!(c.verdict, Verdict::Declared(_)));
    }

    #[test]
    fn a_version_is_carried_in_the_coarser_precision() {
        let c = judge(&stamp(false, 3), &stamp(true, 6));
        assert_eq!(c.carry, stamp(false, 3));
        assert!(matches!(c.verdict, Verdict::Declared(_)));
    }
}
