//! Pairs of one family of types, of which one side may hold more than the other: numbers, texts, bytes, lists.

use super::{Carriage, LogicalType as T, Verdict};

pub(super) fn ints(source: &T, target: &T) -> Carriage {
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

pub(super) fn finer(from: u8, to: u8) -> String {
    format!("the source keeps {from} fractional digits of a second, the target {to}: values would be rounded")
}

pub(super) fn coarser(from: u8, to: u8) -> String {
    format!("the target keeps {to} fractional digits, the source {from}: finer values cannot be carried back")
}

/// Carried as they are; what differs is how much each side keeps.
pub(super) fn texts(source: &T, target: &T) -> Carriage {
    let carry = T::text(None);
    let (
        T::Text {
            max: from,
            bytes,
            padded,
        },
        T::Text {
            max: to,
            bytes: to_bytes,
            padded: to_padded,
        },
    ) = (source, target)
    else {
        return Carriage {
            carry,
            verdict: Verdict::Exact,
        };
    };
    let mut notes = Vec::new();
    if let (Some(from), Some(to)) = (from, to)
        && to < from
    {
        return Carriage {
            carry,
            verdict: Verdict::Refused(format!("a text of {from} characters does not fit into {to}")),
        };
    }
    if let (None, Some(to)) = (from, to)
        && bytes.is_none_or(|bytes| bytes > *to)
    {
        notes.push(format!("texts of more than {to} characters are refused row by row"));
    }
    // A character has at most four bytes.
    if let Some(to) = to_bytes
        && (*bytes).or(from.map(|from| from * 4)).is_none_or(|bytes| bytes > *to)
    {
        notes.push(format!("texts of more than {to} bytes are refused row by row"));
    }
    if padded != to_padded {
        notes.push("one side does not keep spaces at the end: texts that end with one are refused there".to_owned());
    }
    Carriage {
        carry,
        verdict: if notes.is_empty() {
            Verdict::Exact
        } else {
            Verdict::Declared(notes.join("; "))
        },
    }
}

pub(super) fn binaries(source: &T, target: &T) -> Carriage {
    let carry = T::bytes(None);
    let (
        T::Bytes { max: from, padded },
        T::Bytes {
            max: to,
            padded: to_padded,
        },
    ) = (source, target)
    else {
        return Carriage {
            carry,
            verdict: Verdict::Exact,
        };
    };
    let verdict = match (from, to) {
        (Some(from), Some(to)) if to < from => {
            Verdict::Refused(format!("a value of {from} bytes does not fit into {to}"))
        }
        _ if (*padded || *to_padded) && (padded, from) != (to_padded, to) => Verdict::Declared(format!(
            "one side has values of exactly {} bytes: others are refused there row by row",
            if *padded { from } else { to }.unwrap_or_default()
        )),
        (None, Some(to)) => Verdict::Declared(format!("values of more than {to} bytes are refused row by row")),
        _ => Verdict::Exact,
    };
    Carriage { carry, verdict }
}

pub(super) fn lists(from: &[String], to: &[String]) -> Carriage {
    let missing = |a: &[String], b: &[String]| {
        a.iter()
            .filter(|v| !b.contains(v))
            .map(|v| format!("`{v}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (there, back) = (missing(from, to), missing(to, from));
    let mut notes = Vec::new();
    if !there.is_empty() {
        notes.push(format!("the target lacks {there}: such rows are refused"));
    }
    if !back.is_empty() {
        notes.push(format!("the source lacks {back}: such rows cannot be carried back"));
    }
    Carriage {
        carry: T::text(None),
        verdict: if notes.is_empty() {
            Verdict::Exact
        } else {
            Verdict::Declared(notes.join("; "))
        },
    }
}

pub(super) fn decimals(source: &T, target: &T) -> Carriage {
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
