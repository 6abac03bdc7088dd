//! Cells on their way: one cell's spelling in PostgreSQL's COPY text, the packed form that waits to be bound to an INSERT,
//! and the frame of binary COPY data. Pure bytes, no connection.

use crate::rows::Value;
use std::io::Write as _;

/// One cell, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Int(i64),
    Unsigned(u64),
    Float(f64),
    /// Its shortest spelling is another than that of the same number as a 64-bit float.
    Float32(f32),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> Cell<'a> {
    pub fn of(value: &'a Value) -> Self {
        match value {
            Value::Null => Cell::Null,
            Value::Int(n) => Cell::Int(*n),
            Value::UInt(n) => Cell::Unsigned(*n),
            Value::Float(x) => Cell::Float(*x),
            Value::Text(s) => Cell::Text(s),
            Value::Bytes(b) => Cell::Bytes(b),
        }
    }
}

/// A cell in COPY's text format. Writing to a vector cannot fail.
pub(crate) fn copy_text(out: &mut Vec<u8>, cell: &Cell<'_>) {
    match cell {
        Cell::Null => out.extend_from_slice(b"\\N"),
        Cell::Int(n) => {
            if *n < 0 {
                out.push(b'-');
            }
            digits(out, n.unsigned_abs());
        }
        Cell::Unsigned(n) => digits(out, *n),
        // The shortest spelling that reads back as the same bits.
        Cell::Float(x) if x.is_finite() => drop(write!(out, "{x:e}")),
        Cell::Float32(x) if x.is_finite() => drop(write!(out, "{x:e}")),
        Cell::Float(x) => out.extend_from_slice(unbounded(*x).as_bytes()),
        Cell::Float32(x) => out.extend_from_slice(unbounded(f64::from(*x)).as_bytes()),
        Cell::Text(text) => escaped(out, text.as_bytes()),
        Cell::Bytes(bytes) => {
            out.extend_from_slice(b"\\\\x");
            hex(out, bytes);
        }
    }
}

fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend(
        bytes
            .iter()
            .flat_map(|b| [HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]),
    );
}

fn unbounded(x: f64) -> &'static str {
    if x.is_nan() {
        "NaN"
    } else if x > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn digits(out: &mut Vec<u8>, mut n: u64) {
    let mut buffer = [0_u8; 20];
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&buffer[at..]);
}

fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\\' | b'\n' | b'\r' | b'\t')) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(match rest[at] {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            other => other,
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// A key's value as the text of a PostgreSQL setting.
pub(crate) fn setting(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Int(n) => n.to_string(),
        Value::UInt(n) => n.to_string(),
        Value::Float(x) => format!("{x:e}"),
        Value::Text(s) => s.clone(),
        Value::Bytes(b) => {
            let mut text = b"\\x".to_vec();
            hex(&mut text, b);
            String::from_utf8_lossy(&text).into_owned()
        }
    }
}

/// A cell as a mark and its bytes; [`unpack`] reads them back.
pub(crate) fn pack(out: &mut Vec<u8>, cell: &Cell<'_>) {
    let sized = |out: &mut Vec<u8>, mark: u8, bytes: &[u8]| {
        out.push(mark);
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    let fixed = |out: &mut Vec<u8>, mark: u8, bytes: [u8; 8]| {
        out.push(mark);
        out.extend_from_slice(&bytes);
    };
    match cell {
        Cell::Null => out.push(0),
        Cell::Int(n) => fixed(out, 1, n.to_le_bytes()),
        Cell::Unsigned(n) => fixed(out, 2, n.to_le_bytes()),
        Cell::Float(x) => fixed(out, 3, x.to_le_bytes()),
        Cell::Float32(x) => fixed(out, 3, f64::from(*x).to_le_bytes()),
        Cell::Text(text) => sized(out, 4, text.as_bytes()),
        Cell::Bytes(bytes) => sized(out, 5, bytes),
    }
}

/// The next packed cell, and what follows it.
pub(crate) fn unpack(packed: &[u8]) -> Option<(Cell<'_>, &[u8])> {
    let (mark, rest) = packed.split_first()?;
    let fixed = || rest.split_first_chunk::<8>();
    let sized = || {
        let (length, rest) = rest.split_first_chunk::<4>()?;
        rest.split_at_checked(u32::from_le_bytes(*length) as usize)
    };
    Some(match mark {
        0 => (Cell::Null, rest),
        1 => fixed().map(|(b, rest)| (Cell::Int(i64::from_le_bytes(*b)), rest))?,
        2 => fixed().map(|(b, rest)| (Cell::Unsigned(u64::from_le_bytes(*b)), rest))?,
        3 => fixed().map(|(b, rest)| (Cell::Float(f64::from_le_bytes(*b)), rest))?,
        4 => {
            let (text, rest) = sized()?;
            (Cell::Text(std::str::from_utf8(text).ok()?), rest)
        }
        5 => sized().map(|(bytes, rest)| (Cell::Bytes(bytes), rest))?,
        _ => return None,
    })
}

/// What binary COPY data begins with: the signature, no flags, no extension.
pub(crate) const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// And what it ends with.
pub(crate) const BINARY_TRAILER: &[u8] = &[0xff, 0xff];

/// The tuples of binary COPY data: their number, where the last one begins and where it ends. `None`: malformed.
pub(crate) fn tuples(data: &[u8]) -> Option<(u32, usize, usize)> {
    let extension = data.get(15..19)?;
    let mut at = 19 + u32::from_be_bytes(extension.try_into().ok()?) as usize;
    let (mut count, mut last) = (0, at);
    while at < data.len() {
        let columns = i16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?);
        if columns < 0 {
            break;
        }
        last = at;
        at += 2;
        for _ in 0..columns {
            let length = i32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?);
            at += 4 + usize::try_from(length).unwrap_or(0);
        }
        if at > data.len() {
            return None;
        }
        count += 1;
    }
    Some((count, last, at))
}

/// The fields of one tuple of binary COPY data; NULL is `None`.
pub(crate) fn fields(tuple: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let (columns, mut rest) = tuple.split_first_chunk::<2>()?;
    let mut fields = Vec::new();
    for _ in 0..i16::from_be_bytes(*columns) {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        match usize::try_from(i32::from_be_bytes(*length)) {
            Err(_) => {
                fields.push(None);
                rest = behind;
            }
            Ok(length) => {
                let (field, behind) = behind.split_at_checked(length)?;
                fields.push(Some(field));
                rest = behind;
            }
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::UInt),
            any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
            any::<String>().prop_map(Value::Text),
            any::<Vec<u8>>().prop_map(Value::Bytes),
        ]
    }

    proptest! {
        #[test]
        fn packed_cells_come_back(values in prop::collection::vec(value(), 0..20)) {
            let mut packed = Vec::new();
            for value in &values {
                pack(&mut packed, &Cell::of(value));
            }
            let mut rest = packed.as_slice();
            for value in &values {
                let (cell, behind) = unpack(rest).unwrap();
                let back = match cell {
                    Cell::Null => Value::Null,
                    Cell::Int(n) => Value::Int(n),
                    Cell::Unsigned(n) => Value::UInt(n),
                    Cell::Float(x) => Value::Float(x),
                    Cell::Float32(x) => Value::Float(f64::from(x)),
                    Cell::Text(s) => Value::text(s),
                    Cell::Bytes(b) => Value::Bytes(b.to_vec()),
                };
                prop_assert_eq!(&back, value);
                rest = behind;
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn numbers_are_spelled_exactly(n in any::<i64>(), bits in any::<u64>(), narrow in any::<u32>()) {
            let text = |cell: Cell<'_>| {
                let mut out = Vec::new();
                copy_text(&mut out, &cell);
                String::from_utf8(out).unwrap()
            };
            prop_assert_eq!(text(Cell::Int(n)), n.to_string());
            prop_assert_eq!(text(Cell::Unsigned(bits)), bits.to_string());
            let (wide, narrow) = (f64::from_bits(bits), f32::from_bits(narrow));
            if wide.is_finite() {
                prop_assert_eq!(text(Cell::Float(wide)).parse::<f64>().unwrap().to_bits(), wide.to_bits());
            }
            if narrow.is_finite() {
                prop_assert_eq!(text(Cell::Float32(narrow)).parse::<f32>().unwrap().to_bits(), narrow.to_bits());
            }
        }

        #[test]
        fn an_escaped_text_has_no_mark_of_the_format_in_it(text in any::<String>()) {
            let mut out = Vec::new();
            copy_text(&mut out, &Cell::Text(&text));
            prop_assert!(!out.iter().any(|b| matches!(b, b'\n' | b'\r' | b'\t')));
            let escapes = String::from_utf8(out).unwrap().matches('\\').count();
            let marks = text.bytes().filter(|b| matches!(b, b'\n' | b'\r' | b'\t')).count();
            let slashes = text.bytes().filter(|b| *b == b'\\').count();
            prop_assert_eq!(escapes, marks + 2 * slashes);
        }

        #[test]
        fn binary_data_is_walked_tuple_by_tuple(rows in prop::collection::vec(prop::collection::vec(prop::option::of(any::<Vec<u8>>()), 3), 0..10)) {
            let mut data = BINARY_HEADER.to_vec();
            for row in &rows {
                data.extend(3_i16.to_be_bytes());
                for field in row {
                    data.extend(field.as_ref().map_or(-1, |f| f.len() as i32).to_be_bytes());
                    data.extend(field.iter().flatten());
                }
            }
            let end = data.len();
            data.extend(BINARY_TRAILER);
            let (count, last, upto) = tuples(&data).unwrap();
            prop_assert_eq!((count as usize, upto), (rows.len(), end));
            if let Some(row) = rows.last() {
                let fields = fields(&data[last..upto]).unwrap();
                prop_assert_eq!(fields, row.iter().map(|f| f.as_deref()).collect::<Vec<_>>());
            }
            if end > 19 {
                prop_assert!(tuples(&data[..end - 1]).is_none_or(|(_, _, upto)| upto < end));
            }
        }
    }
}
