//! `Load`: how a table's rows go from base to follower without becoming `Row`s on the way. Chosen once per pair of tables:
//! column by column the bytes are carried as they are where both columns hold the same values, and by way of the
//! canonical `Value` where anything has to be converted or checked.

use super::cells::{self, Cell};
use super::sql::{self, sendable};
use super::{Engine, Result, StoreError, TableSide};
use crate::rows::{Key, LogicalType, Value};

/// The fast way of one table in one direction.
#[derive(Debug, Clone)]
pub struct Load {
    pub(crate) base: TableSide,
    pub(crate) follower: TableSide,
    pub(crate) form: Form,
}

/// What a batch consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// PostgreSQL's binary COPY, handed on unread: every column is of one type on both sides.
    Binary,
    /// PostgreSQL's COPY text, made from cells.
    Text(Vec<Lane>),
    /// Cells, to be bound to an INSERT.
    Cells(Vec<Lane>),
}

/// How one column's cells are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Int,
    Unsigned,
    Float,
    Text,
    Bytes,
    /// Through the canonical value, with every check.
    Exact,
}

/// Rows on their way: read and encoded, not yet put.
#[derive(Debug)]
pub struct Batch {
    pub(crate) data: Vec<u8>,
    pub(crate) rows: u32,
    pub(crate) last: Option<Key>,
    pub(crate) ended: bool,
}

impl Batch {
    /// How many rows it holds.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes as they will be sent.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Key of its last row.
    pub fn last(&self) -> Option<&Key> {
        self.last.as_ref()
    }

    /// Whether the range had no further row when it was read.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

/// How a batch is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In the hope that no row is there yet (PostgreSQL: plain COPY, which a row that is there refuses as `Duplicate`).
    Fresh,
    /// With the version guard.
    Guarded,
}

impl Load {
    pub fn new(base: &TableSide, follower: &TableSide) -> Self {
        let form = match (base.engine, follower.engine) {
            (Engine::Postgres, Engine::Postgres) if binary(base, follower) => Form::Binary,
            (_, Engine::Postgres) => Form::Text(lanes(base, follower)),
            (_, Engine::MySql | Engine::Sqlite) => Form::Cells(lanes(base, follower)),
        };
        Load {
            base: base.clone(),
            follower: follower.clone(),
            form,
        }
    }

    /// The way to begin with: where the guard costs nothing, with it.
    pub fn first_way(&self) -> Way {
        match self.follower.engine {
            Engine::Postgres => Way::Fresh,
            Engine::MySql | Engine::Sqlite => Way::Guarded,
        }
    }

    /// A cell of the base as it is sent to the follower's column.
    pub(crate) fn exact(&self, column: usize, raw: Value) -> Result<Value> {
        let (from, to) = (&self.base.columns[column], &self.follower.columns[column]);
        sql::cell(self.base.engine, from, raw)
            .and_then(|value| sendable(self.follower.engine, to, &value))
            .map_err(|why| StoreError::Data {
                label: self.base.table.as_str().to_owned(),
                message: format!(
                    "column {}.{} holds a value that cannot be carried: {why}",
                    self.base.table.as_str(),
                    from.name.as_str()
                ),
            })
    }

    pub(crate) fn key(&self, raw: impl IntoIterator<Item = Value>) -> Result<Key> {
        raw.into_iter()
            .zip(self.base.key_columns())
            .map(|(raw, column)| sql::cell(self.base.engine, column, raw))
            .collect::<Result<Vec<_>, _>>()
            .map(Key)
            .map_err(|why| StoreError::Data {
                label: self.base.table.as_str().to_owned(),
                message: format!("a key of {} cannot be carried: {why}", self.base.table.as_str()),
            })
    }

    /// Appends one cell in the batch's form.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, column: usize, cell: &Cell<'_>) {
        match self.form {
            Form::Text(_) => {
                if column > 0 {
                    out.push(b'\t');
                }
                cells::copy_text(out, cell);
                if column + 1 == self.base.columns.len() {
                    out.push(b'\n');
                }
            }
            Form::Cells(_) | Form::Binary => cells::pack(out, cell),
        }
    }
}

fn lanes(base: &TableSide, follower: &TableSide) -> Vec<Lane> {
    base.columns
        .iter()
        .zip(&follower.columns)
        .map(|(from, to)| {
            // Whatever the pair converts is converted.
            let same = std::mem::discriminant(&from.carry) == std::mem::discriminant(&from.logical);
            if same && from.computed.is_none() && to.computed.is_none() {
                lane(base.engine, follower.engine, &from.logical, &to.logical)
            } else {
                Lane::Exact
            }
        })
        .collect()
}

/// Bytes are carried as they are where the follower's column holds all that the base's column can, in the same spelling.
fn lane(base: Engine, follower: Engine, from: &LogicalType, to: &LogicalType) -> Lane {
    use LogicalType as T;
    match (from, to) {
        // What stands in a column of SQLite need not be what the column was declared for.
        _ if base == Engine::Sqlite => Lane::Exact,
        // And what is not a plain number, text or BLOB there has one spelling.
        (T::Date | T::Decimal { .. } | T::Timestamp { .. }, _) if follower == Engine::Sqlite => Lane::Exact,
        (T::Int { unsigned: true, .. }, T::Int { .. }) if within(from, to) => Lane::Unsigned,
        (T::Int { unsigned: false, .. }, T::Int { .. }) if within(from, to) => Lane::Int,
        // PostgreSQL's NaN, infinities and -0 are none of MySQL's; SQLite has no -0.
        (T::Float32, T::Float32) | (T::Float64, T::Float64) if base == Engine::MySql && follower != Engine::Sqlite => {
            Lane::Float
        }
        (T::Date, T::Date) => Lane::Text,
        (T::Text { .. }, T::Text { .. }) if texts(from, to) => Lane::Text,
        (
            T::Bytes {
                max: from,
                padded: false,
            },
            T::Bytes { max: to, padded: false },
        ) if holds(*from, *to) => Lane::Bytes,
        (
            T::Decimal {
                precision: 1..,
                scale: from,
            },
            T::Decimal {
                precision: to_precision,
                scale: to,
            },
        ) if *to_precision == 0 || from <= to => Lane::Text,
        (
            T::Timestamp {
                utc: from_utc,
                digits: from,
            },
            T::Timestamp { digits: to, .. },
        ) if from <= to && (base == Engine::MySql || (!from_utc && follower == Engine::MySql)) => Lane::Text,
        _ => Lane::Exact,
    }
}

/// Whether every text of one column is kept by the other as it is. Padding is the server's own idea of a value: checked.
fn texts(from: &LogicalType, to: &LogicalType) -> bool {
    let (
        LogicalType::Text {
            max: from,
            bytes: from_bytes,
            padded: false,
        },
        LogicalType::Text {
            max: to,
            bytes: to_bytes,
            padded: false,
        },
    ) = (from, to)
    else {
        return false;
    };
    // A character has at most four bytes, and at least one.
    let most_bytes = from_bytes.or(from.map(|from| from * 4));
    holds(from.or(*from_bytes), *to) && holds(most_bytes, *to_bytes)
}

fn holds(from: Option<u64>, to: Option<u64>) -> bool {
    match (from, to) {
        (_, None) => true,
        (Some(from), Some(to)) => from <= to,
        (None, Some(_)) => false,
    }
}

fn within(from: &LogicalType, to: &LogicalType) -> bool {
    match (from.int_range(), to.int_range()) {
        (Some((low, high)), Some((least, most))) => least <= low && high <= most,
        _ => false,
    }
}

/// Whether PostgreSQL's binary form of every column means the same on both sides.
fn binary(base: &TableSide, follower: &TableSide) -> bool {
    use LogicalType as T;
    let same = base.columns.iter().zip(&follower.columns).all(|(from, to)| {
        from.native == to.native
            && from.computed.is_none()
            && to.computed.is_none()
            && from.logical == to.logical
            && std::mem::discriminant(&from.carry) == std::mem::discriminant(&from.logical)
            // Some native forms hold numbers of the database's own catalogue.
            && !matches!(from.logical, T::Other(_) | T::Native { .. })
    });
    // Keys are read from the data, and compared as what `rendered` makes of them: blank-padded texts are not the same.
    same && base.key_columns().all(|column| match column.logical {
        T::Int { .. } | T::Uuid | T::Bytes { .. } | T::Timestamp { .. } | T::Date | T::Decimal { .. } => true,
        T::Text { padded, .. } => !padded && column.native != "name",
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_carried_as_they_are_only_where_nothing_can_be_lost() {
        use LogicalType as T;
        let my = |from: &T, to: &T| lane(Engine::MySql, Engine::Postgres, from, to);
        let int = |bits, unsigned| T::Int { bits, unsigned };
        assert_eq!(my(&int(32, true), &int(64, false)), Lane::Unsigned);
        assert_eq!(my(&int(64, true), &int(64, false)), Lane::Exact);
        assert_eq!(my(&int(64, false), &int(32, false)), Lane::Exact);
        let text = T::text;
        assert_eq!(my(&text(Some(10)), &text(Some(10))), Lane::Text);
        assert_eq!(my(&text(Some(11)), &text(Some(10))), Lane::Exact);
        assert_eq!(my(&text(None), &text(Some(10))), Lane::Exact);
        let decimal = |precision, scale| T::Decimal { precision, scale };
        assert_eq!(my(&decimal(12, 2), &decimal(10, 2)), Lane::Text);
        assert_eq!(my(&decimal(12, 3), &decimal(12, 2)), Lane::Exact);
        assert_eq!(my(&decimal(12, 3), &decimal(0, 0)), Lane::Text);
        let stamp = |utc, digits| T::Timestamp { utc, digits };
        assert_eq!(my(&stamp(true, 6), &stamp(true, 6)), Lane::Text);
        assert_eq!(my(&stamp(true, 6), &stamp(true, 3)), Lane::Exact);
        // PostgreSQL spells an instant with its offset, which MySQL does not take.
        let back = |from: &T, to: &T| lane(Engine::Postgres, Engine::MySql, from, to);
        assert_eq!(back(&stamp(true, 6), &stamp(false, 6)), Lane::Exact);
        assert_eq!(back(&T::Float64, &T::Float64), Lane::Exact);
        assert_eq!(back(&decimal(0, 0), &decimal(65, 30)), Lane::Exact);
        assert_eq!(back(&T::Json, &T::Json), Lane::Exact);
    }
}
