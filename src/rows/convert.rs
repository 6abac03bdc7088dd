//! What a pair of columns can carry: exactly, with something to declare, or not at all. One table, both directions:
//! the same pair carries source to target on the way up and target to source on the way back.

use super::LogicalType as T;

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
        (T::Bool, T::Bool) => exact(&T::Bool),
        (T::Bool | T::Int { .. }, T::Bool | T::Int { .. }) => ints(source, target),
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
        (T::Text { max: from }, T::Text { max: to }) => match (from, to) {
            (Some(from), Some(to)) if to < from => {
                refused(format!("a text of {from} characters does not fit into {to}"))
            }
            (None, Some(to)) => declared(source, format!("texts of more than {to} characters are refused")),
            _ => exact(source),
        },
        (T::Bytes, T::Bytes) => exact(&T::Bytes),
        (T::Date, T::Date) => exact(&T::Date),
        (T::Time, T::Time) => exact(&T::Time),
        (T::Timestamp { utc: a, digits: from }, T::Timestamp { utc: b, digits: to }) => {
            let carry = T::Timestamp {
                utc: *a && *b,
                digits: *from.min(to),
            };
            if to < from {
                return refused(format!(
                    "the source keeps {from} fractional digits of a second, the target {to}: values would be rounded"
                ));
            }
            let mut notes = Vec::new();
            if a != b {
                notes.push("one side has no time zone: its values are taken as UTC".to_owned());
            }
            if to > from {
                notes.push(format!(
                    "the target keeps {to} fractional digits, the source {from}: finer values cannot be carried back"
                ));
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
        (T::Uuid, T::Text { .. }) | (T::Text { .. }, T::Uuid) => declared(
            &T::Uuid,
            "UUIDs are kept as text on one side and carried in lower case with hyphens".to_owned(),
        ),
        (T::Enum, T::Enum | T::Text { .. }) | (T::Text { .. }, T::Enum) => declared(
            &T::Text { max: None },
            "values that are missing in the other side's list are refused row by row".to_owned(),
        ),
        _ => refused(format!("a {source} has no exact counterpart in a {target}")),
    }
}

fn ints(source: &T, target: &T) -> Carriage {
    let carry = T::Int {
        bits: 64,
        unsigned: false,
    };
    let (Some((low, high)), Some((to_low, to_high))) = (source.int_range(), target.int_range()) else {
        return Carriage {
            carry,
            verdict: Verdict::Exact,
        };
    };
    let verdict = if low < to_low || high > to_high {
        Verdict::Refused(format!(
            "a {source} reaches from {low} to {high}, a {target} from {to_low} to {to_high}"
        ))
    } else if (low, high) == (to_low, to_high) {
        Verdict::Exact
    } else {
        Verdict::Declared(format!(
            "a {target} is wider than a {source}: numbers outside {low} to {high} cannot be carried back"
        ))
    };
    Carriage { carry, verdict }
}

fn decimals(source: &T, target: &T) -> Carriage {
    let carry = T::Decimal { precision: 0, scale: 0 };
    let (T::Decimal { precision: p, scale: s }, T::Decimal { precision: q, scale: t }) = (source, target) else {
        return Carriage {
            carry,
            verdict: Verdict::Exact,
        };
    };
    let verdict = match (*p, *q) {
        (_, 0) if p == q => Verdict::Exact,
        (_, 0) => Verdict::Declared(format!(
            "the target has no limit, the source is a {source}: other numbers cannot be carried back"
        )),
        (0, _) => Verdict::Declared(format!(
            "the source has no limit: numbers that do not fit a {target} are refused row by row"
        )),
        _ if t < s || q.saturating_sub(*t) < p.saturating_sub(*s) => {
            Verdict::Refused(format!("a {source} does not fit into a {target}"))
        }
        _ => Verdict::Exact,
    };
    Carriage { carry, verdict }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(bits: u8, unsigned: bool) -> T {
        T::Int { bits, unsigned }
    }

    fn stamp(utc: bool, digits: u8) -> T {
        T::Timestamp { utc, digits }
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
            T::Text { max: Some(255) },
            T::Bytes,
            T::Date,
            T::Time,
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
            (T::Text { max: Some(20) }, T::Text { max: Some(10) }),
            (T::Text { max: None }, int(32, false)),
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
