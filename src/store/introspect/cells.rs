//! Cells of a catalogue query as plain types; a cell of another type reads as empty.

use crate::rows::Value;

pub(super) fn text(row: &[Value], i: usize) -> String {
    optional(row, i).unwrap_or_default()
}

pub(super) fn optional(row: &[Value], i: usize) -> Option<String> {
    match row.get(i)? {
        Value::Text(s) => Some(s.clone()),
        Value::Bytes(b) => String::from_utf8(b.clone()).ok(),
        _ => None,
    }
}

/// -1 for NULL.
pub(super) fn number(row: &[Value], i: usize) -> i64 {
    match row.get(i) {
        Some(Value::Int(n)) => *n,
        Some(Value::UInt(_)) => i64::MAX,
        Some(Value::Text(s)) => s.parse().unwrap_or(-1),
        _ => -1,
    }
}

pub(super) fn flag(row: &[Value], i: usize) -> bool {
    number(row, i) == 1
}
