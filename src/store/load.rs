//! `Load`: how a table's rows go from base to follower without becoming `Row`s on the way. Chosen once per pair of tables:
//! column by column the bytes are carried as they are where both columns hold the same values, and by way of the
//! canonical `Value` where anything has to be converted or checked.

use super::cells::{self, Cell};
use super::sql::{self, sendable};
use super::{Engine, Result, StoreError, TableSide, mysql, postgres, rowops};
use crate::rows::canonical::canonical;
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
            (_, Engine::MySql) => Form::Cells(lanes(base, follower)),
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
            Engine::MySql => Way::Guarded,
        }
    }

    /// A cell of the base as it is sent to the follower's column.
    pub(crate) fn exact(&self, column: usize, raw: Value) -> Result<Value> {
        let (from, to) = (&self.base.columns[column], &self.follower.columns[column]);
        canonical(&from.carry, raw)
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
            .map(|(cell, column)| canonical(&column.carry, cell))
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

    /// PostgreSQL: the COPY into a table of these columns.
    pub(crate) fn copy_in(&self, table: &str) -> String {
        let format = if self.form == Form::Binary {
            " WITH (FORMAT binary)"
        } else {
            ""
        };
        format!("COPY {table} ({}) FROM STDIN{format}", self.columns())
    }

    /// PostgreSQL: a table of the session that takes what the guard then lets through.
    pub(crate) fn stage(&self) -> String {
        let name = format!(
            "_datamigration_stage_{:016x}",
            rowops::name_hash(self.follower.table.as_str())
        );
        format!("pg_temp.{name}")
    }

    /// Without the table's constraints, and empty again with every commit.
    pub(crate) fn create_stage(&self) -> String {
        format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA",
            self.stage(),
            self.columns(),
            self.follower.table.quoted(Engine::Postgres)
        )
    }

    pub(crate) fn from_stage(&self) -> String {
        rowops::insert_guarded_from(&self.follower, &self.columns(), &self.stage())
    }

    fn columns(&self) -> String {
        self.follower
            .columns
            .iter()
            .map(|column| column.name.quoted(Engine::Postgres))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// PostgreSQL: the COPY out of the base. COPY takes no parameters, so the bounds are settings of the session, which
    /// [`Load::bounds`] binds.
    pub(crate) fn copy_out(&self, after: bool, upto: bool, limit: u32) -> String {
        let side = &self.base;
        let quoted = |i: usize| side.columns[i].name.quoted(Engine::Postgres);
        let list = |each: &dyn Fn(usize, usize) -> String| {
            let parts: Vec<String> = side.key.iter().enumerate().map(|(n, &i)| each(n, i)).collect();
            parts.join(", ")
        };
        let keys = list(&|_, i| quoted(i));
        let bound = |word: &str| {
            list(&|n, i| {
                format!(
                    "CAST(current_setting('datamigration.{word}_{n}') AS {})",
                    sql::postgres_cast(&side.columns[i])
                )
            })
        };
        let columns: Vec<String> = (0..side.columns.len()).map(quoted).collect();
        let mut text = format!(
            "COPY (SELECT {} FROM {} WHERE 1 = 1",
            columns.join(", "),
            side.table.quoted(Engine::Postgres)
        );
        if after {
            text.push_str(&format!(" AND ({keys}) > ({})", bound("after")));
        }
        if upto {
            text.push_str(&format!(" AND ({keys}) <= ({})", bound("upto")));
        }
        if let Some(filter) = &side.filter {
            text.push_str(&format!(" AND ({filter})"));
        }
        text.push_str(&format!(
            " ORDER BY {} LIMIT {limit}) TO STDOUT WITH (FORMAT binary)",
            keys
        ));
        text
    }

    /// The settings that [`Load::copy_out`] reads, with their values as text.
    pub(crate) fn bounds(&self, after: Option<&Key>, upto: Option<&Key>) -> Result<Vec<(String, String)>> {
        let mut settings = Vec::new();
        for (word, key) in [("after", after), ("upto", upto)] {
            let Some(key) = key else { continue };
            if key.0.len() != self.base.key.len() {
                return Err(StoreError::Data {
                    label: self.base.table.as_str().to_owned(),
                    message: format!("the key {key} is not of this table's shape"),
                });
            }
            for (n, value) in key.0.iter().enumerate() {
                settings.push((format!("datamigration.{word}_{n}"), cells::setting(value)));
            }
        }
        Ok(settings)
    }

    /// The key of the last row of binary COPY data.
    pub(crate) fn key_of_tuple(&self, tuple: &[u8]) -> Result<Key> {
        let malformed = || StoreError::ConnectionLost {
            label: self.base.table.as_str().to_owned(),
            message: "malformed COPY data".to_owned(),
        };
        let fields = cells::fields(tuple).ok_or_else(malformed)?;
        let values = self
            .base
            .key
            .iter()
            .map(|&i| {
                let field = fields.get(i).copied().flatten().ok_or_else(malformed)?;
                postgres::binary_key(&self.base.columns[i].logical, field).ok_or_else(malformed)
            })
            .collect::<Result<Vec<_>>>()?;
        self.key(values)
    }

    /// One cell of a MySQL row.
    pub(crate) fn mysql_cell<'r>(&self, row: &'r sqlx::mysql::MySqlRow, i: usize, lane: Lane) -> Result<Carried<'r>> {
        use sqlx::Row as _;
        let failed = |error: sqlx::Error| super::classify::classify(self.base.table.as_str(), &error);
        if lane == Lane::Exact {
            return Ok(Carried::Owned(self.exact(i, mysql::cell(row, i).map_err(failed)?)?));
        }
        let Some(bytes) = row.try_get_unchecked::<Option<&[u8]>, _>(i).map_err(failed)? else {
            return Ok(Carried::Raw(Cell::Null));
        };
        mysql::raw(lane, bytes)
            .map(Carried::Raw)
            .ok_or_else(|| self.malformed(i))
    }

    /// One cell of a PostgreSQL row.
    pub(crate) fn postgres_cell<'r>(
        &self,
        row: &'r sqlx::postgres::PgRow,
        i: usize,
        lane: Lane,
    ) -> Result<Carried<'r>> {
        use sqlx::{Row as _, ValueRef as _};
        let failed = |error: sqlx::Error| super::classify::classify(self.base.table.as_str(), &error);
        if lane == Lane::Exact {
            return Ok(Carried::Owned(self.exact(i, postgres::cell(row, i).map_err(failed)?)?));
        }
        let raw = row.try_get_raw(i).map_err(failed)?;
        if raw.is_null() {
            return Ok(Carried::Raw(Cell::Null));
        }
        let bytes = raw.as_bytes().map_err(|_| self.malformed(i))?;
        postgres::raw(lane, bytes)
            .map(Carried::Raw)
            .ok_or_else(|| self.malformed(i))
    }

    fn malformed(&self, column: usize) -> StoreError {
        StoreError::Data {
            label: self.base.table.as_str().to_owned(),
            message: format!(
                "column {}.{} holds a value that is not of the column's type",
                self.base.table.as_str(),
                self.base.columns[column].name.as_str()
            ),
        }
    }
}

/// A cell, borrowed from the row or made anew.
pub(crate) enum Carried<'r> {
    Raw(Cell<'r>),
    Owned(Value),
}

impl Carried<'_> {
    pub fn cell(&self) -> Cell<'_> {
        match self {
            Carried::Raw(cell) => *cell,
            Carried::Owned(value) => Cell::of(value),
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
            if same {
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
        (T::Int { unsigned: true, .. }, T::Int { .. }) if within(from, to) => Lane::Unsigned,
        (T::Int { unsigned: false, .. }, T::Int { .. }) if within(from, to) => Lane::Int,
        // PostgreSQL's NaN, infinities and -0 are none of MySQL's.
        (T::Float32, T::Float32) | (T::Float64, T::Float64) if base == Engine::MySql => Lane::Float,
        (T::Text { .. }, T::Text { max: None }) | (T::Enum, T::Enum) => Lane::Text,
        (T::Text { max: Some(from) }, T::Text { max: Some(to) }) if from <= to => Lane::Text,
        (T::Bytes, T::Bytes) => Lane::Bytes,
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
        (T::Date, T::Date) => Lane::Text,
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
            && from.logical == to.logical
            && std::mem::discriminant(&from.carry) == std::mem::discriminant(&from.logical)
            && !matches!(from.logical, T::Other(_))
    });
    // Keys are read from the data, and compared as what `rendered` makes of them: blank-padded texts are not the same.
    same && base.key_columns().all(|column| match column.logical {
        T::Int { .. } | T::Uuid | T::Bytes | T::Timestamp { .. } | T::Date | T::Decimal { .. } => true,
        T::Text { .. } => {
            !column.native.starts_with("character(") && column.native != "character" && column.native != "name"
        }
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
        let text = |max| T::Text { max };
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
