//! Digests that the servers compute themselves, for two sides of one engine whose columns have the same types: nothing
//! but a few numbers leaves a server for a range of rows that is equal.
//!
//! A row's digest has 64 bits and a chunk's is a sum over its rows, so it must not be linear in the row: sums of CRCs, or
//! of PostgreSQL's record hash, stay the same when two rows have exchanged a value. Hence the product of MariaDB's two
//! CRCs beside their sums, and one more round of mixing over PostgreSQL's.

use super::side::{MappedColumn, TablePair};
use super::sql::{Sql, Statement, rendered};
use super::{Engine, Result, TableSide, Tx};
use crate::rows::compare::Rule;
use crate::rows::{Comparison, Key, LogicalType, RowDigest, Sketch, Value};

/// What a server says of a range of rows.
#[derive(Debug, Clone)]
pub struct RangeDigest {
    /// How many rows there are.
    pub rows: u64,
    /// Rows that the server could not digest: too wide for one of its texts.
    undigested: u64,
    sums: Vec<String>,
}

impl RangeDigest {
    /// Whether both sides hold the same rows in the range.
    pub fn agrees(&self, other: &Self) -> bool {
        self.undigested == 0 && other.undigested == 0 && self.rows == other.rows && self.sums == other.sums
    }
}

/// A range of the key's order: after the first, up to and including the second.
pub type Range = (Option<Key>, Option<Key>);

impl TablePair {
    /// Whether both servers, each for itself, come to the same digest for equal rows, and only for those. Where rows are
    /// equal that are not the same text (JSON, a tolerance), the rows have to be read.
    pub fn digests_alike(&self) -> bool {
        let (source, target) = (&self.source, &self.target);
        // What the mapping or the comparison computes is no column that a server could digest under its name.
        !self.computes()
            && self.custom.is_empty()
            && source.engine == target.engine
            && self
                .comparison
                .rules
                .iter()
                .all(|rule| !matches!(rule, Rule::Tolerance(_)))
            && source
                .columns
                .iter()
                .zip(&target.columns)
                .enumerate()
                .all(|(at, (a, b))| {
                    self.comparison.rules.get(at) == Some(&Rule::Ignore)
                        || (a.native == b.native
                            && a.logical == b.logical
                            && collation(source, a) == collation(target, b)
                            && expression(source.engine, a).is_some())
                })
    }

    /// Whether a range of keys means the same rows on both sides. If it does not, the comparison is slower, not wrong:
    /// every row is in some range of its own side, and a difference is settled by its key.
    pub fn ranges_alike(&self) -> bool {
        let key = self.source.key_columns().zip(self.target.key_columns());
        let mut key = key.map(|(a, b)| {
            let same = a.native == b.native && collation(&self.source, a) == collation(&self.target, b);
            (self.source.engine == self.target.engine && same) || (ordered_by_value(a) && ordered_by_value(b))
        });
        key.all(|alike| alike)
    }
}

/// Types that every engine orders by what the value is.
fn ordered_by_value(column: &MappedColumn) -> bool {
    matches!(
        column.logical,
        LogicalType::Int { .. } | LogicalType::Decimal { .. } | LogicalType::Date | LogicalType::Timestamp { .. }
    )
}

fn collation<'s>(side: &'s TableSide, column: &MappedColumn) -> Option<&'s str> {
    side.schema.column(column.name.as_str())?.collation.as_deref()
}

/// A column's part of a row's digest; `None`: equal values need not have equal parts.
fn expression(engine: Engine, column: &MappedColumn) -> Option<String> {
    match engine {
        Engine::MySql => mysql_part(column),
        Engine::Postgres => postgres_part(column),
        // It has no function that digests: rows are read and digested here.
        Engine::Sqlite => None,
    }
}

/// What has a fixed form ends at the comma that follows it, anything else begins with its length. A floating-point number
/// has no text in MariaDB that is sure to be its bits, and JSON is equal in many spellings.
fn mysql_part(column: &MappedColumn) -> Option<String> {
    use LogicalType as T;
    let name = column.name.quoted(Engine::MySql);
    match &column.logical {
        T::Text { .. } | T::Enum { .. } | T::Set { .. } | T::Bytes { .. } => Some(format!("LENGTH({name}), {name}")),
        // Carried as it is written.
        T::Json if verbatim(column) => Some(format!("LENGTH({name}), {name}")),
        T::Int { .. } if column.native.to_ascii_lowercase().starts_with("bit") => Some(rendered(Engine::MySql, column)),
        T::Int { .. }
        | T::Bool
        | T::Year
        | T::Decimal { .. }
        | T::Date
        | T::Time { .. }
        | T::Timestamp { .. }
        | T::Uuid
        | T::Network(_) => Some(name),
        _ => None,
    }
}

/// A column as PostgreSQL's record hash takes it: its own types, but floats by their bits, and texts byte by byte.
fn postgres_part(column: &MappedColumn) -> Option<String> {
    use LogicalType as T;
    let name = column.name.quoted(Engine::Postgres);
    match &column.logical {
        T::Text { .. } | T::Enum { .. } | T::Native { .. } => Some(format!("{name}::text COLLATE \"C\"")),
        // Carried as it is written: 1.50 is not 1.5 then, which it is to the record hash.
        T::Json | T::Decimal { precision: 0, .. } if verbatim(column) => Some(format!("{name}::text COLLATE \"C\"")),
        T::Float32 => Some(format!("float4send({name})")),
        T::Float64 => Some(format!("float8send({name})")),
        T::Int { .. }
        | T::Bool
        | T::Bytes { .. }
        | T::Decimal { .. }
        | T::Date
        | T::Time { .. }
        | T::Timestamp { .. }
        | T::Uuid
        | T::Network(_) => Some(name),
        _ => None,
    }
}

fn verbatim(column: &MappedColumn) -> bool {
    matches!(column.carry, LogicalType::Text { .. })
}

/// Two 32-bit numbers (MariaDB) or one of 64 bits (PostgreSQL) per row.
fn row_digest(side: &TableSide, comparison: &Comparison) -> Result<Vec<String>, String> {
    let columns = side.columns.iter().enumerate();
    let compared = columns.filter(|(at, _)| comparison.rules.get(*at) != Some(&Rule::Ignore));
    let (mut parts, mut marks) = (Vec::new(), Vec::new());
    for (_, column) in compared {
        let part = expression(side.engine, column)
            .ok_or_else(|| format!("column {} has no digest in the database", column.name.as_str()))?;
        parts.push(part);
        if column.nullable {
            marks.push(format!("ISNULL({})", column.name.quoted(side.engine)));
        }
    }
    Ok(match side.engine {
        Engine::Sqlite => return Err("SQLite has no digests".to_owned()),
        // CONCAT_WS leaves NULLs out: which they were stands at the end, one digit per column that may be NULL.
        Engine::MySql => {
            parts.extend(marks);
            let text = format!("CONCAT_WS(',', {})", parts.join(", "));
            vec![format!("CRC32({text})"), format!("CRC32C({text})")]
        }
        Engine::Postgres => vec![format!(
            "hashint8extended(hash_record_extended(ROW({}), 8675309), 20)",
            parts.join(", ")
        )],
    })
}

/// One SELECT per range, together one statement: its text depends on the number of ranges alone.
fn range_digests(side: &TableSide, comparison: &Comparison, ranges: &[Range]) -> Result<Statement, String> {
    let digest = row_digest(side, comparison)?;
    let mut sql = Sql::new(side);
    for (nth, (after, upto)) in ranges.iter().enumerate() {
        sql.push(if nth > 0 { " UNION ALL " } else { "" });
        match &digest[..] {
            [a, b] => sql.push(&format!(
                "SELECT {nth}, COUNT(*), COUNT(*) - COUNT(a * b), CAST(SUM(a) AS CHAR), CAST(SUM(b) AS CHAR), CAST(SUM(a * b) AS CHAR) FROM (SELECT {a} AS a, {b} AS b FROM "
            )),
            other => sql.push(&format!(
                "SELECT {nth}, COUNT(*), COUNT(*) - COUNT(h), CAST(SUM(h) AS text) FROM (SELECT {} AS h FROM ",
                other.join(", ")
            )),
        };
        sql.table().push(" WHERE 1 = 1");
        sql.between(after.as_ref(), upto.as_ref())?;
        // The limit has MariaDB compute each row's numbers once instead of once per sum.
        sql.filter().push(match side.engine {
            Engine::MySql => " LIMIT 18446744073709551615",
            Engine::Postgres | Engine::Sqlite => "",
        });
        sql.push(&format!(") AS r{nth}"));
    }
    Ok(sql.finish())
}

fn row_digests(side: &TableSide, comparison: &Comparison, (after, upto): &Range) -> Result<Statement, String> {
    let wide: Vec<String> = side
        .columns
        .iter()
        .filter(|column| matches!(column.logical, LogicalType::Text { .. } | LogicalType::Bytes { .. }))
        .map(|column| match side.engine {
            Engine::MySql => format!("IFNULL(LENGTH({}), 0)", column.name.quoted(side.engine)),
            Engine::Postgres | Engine::Sqlite => {
                format!("COALESCE(octet_length({}), 0)", column.name.quoted(side.engine))
            }
        })
        .collect();
    let bytes = if wide.is_empty() {
        "0".to_owned()
    } else {
        wide.join(" + ")
    };
    let digest = row_digest(side, comparison)?.join(", ");
    let mut sql = Sql::new(side);
    sql.push("SELECT ").key_list();
    sql.push(&match side.engine {
        Engine::MySql => format!(", CAST({bytes} AS SIGNED), {digest} FROM "),
        Engine::Postgres | Engine::Sqlite => format!(", CAST({bytes} AS bigint), {digest} FROM "),
    });
    sql.table().push(" WHERE 1 = 1");
    sql.between(after.as_ref(), upto.as_ref())?;
    sql.filter().order_by_key(false);
    Ok(sql.finish())
}

impl Tx {
    /// Whether this server can say the digests of this table: it has the functions (MariaDB 10.8, PostgreSQL 14), and takes
    /// the columns together. Asked of no rows.
    pub async fn can_digest(&mut self, side: &TableSide, comparison: &Comparison) -> Result<bool> {
        let Ok(digest) = row_digest(side, comparison) else {
            return Ok(false);
        };
        let table = side.table.quoted(side.engine);
        let sql = format!("SELECT {} FROM {table} WHERE 1 = 0", digest.join(", "));
        match self.query(&sql.replace('?', "??"), &[]).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_transient() => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// The digest of each range, in their order.
    pub async fn digest_ranges(
        &mut self,
        side: &TableSide,
        comparison: &Comparison,
        ranges: &[Range],
    ) -> Result<Vec<RangeDigest>> {
        let statement = range_digests(side, comparison, ranges).map_err(|why| self.data(why))?;
        let mut found: Vec<Option<RangeDigest>> = vec![None; ranges.len()];
        self.each(&statement, |cells| {
            let mut cells = cells.into_iter();
            let mut number = || cells.next().and_then(|cell| cell.as_i64());
            let (Some(nth), Some(rows), Some(undigested)) = (number(), number(), number()) else {
                return Err("a digest without its range and number of rows".to_owned());
            };
            let slot = usize::try_from(nth).ok().and_then(|nth| found.get_mut(nth));
            let Some(slot) = slot else {
                return Err(format!("a digest of range {nth}, which was not asked for"));
            };
            *slot = Some(RangeDigest {
                rows: rows.unsigned_abs(),
                undigested: undigested.unsigned_abs(),
                sums: cells.map(|cell| format!("{cell:?}")).collect(),
            });
            Ok(())
        })
        .await?;
        found
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| self.data("the server left out the digest of a range".to_owned()))
    }

    /// The digest of every row of a range: sketches that can be compared with those of the same engine only.
    pub async fn digest_rows(
        &mut self,
        side: &TableSide,
        comparison: &Comparison,
        range: &Range,
    ) -> Result<Vec<Sketch>> {
        let statement = row_digests(side, comparison, range).map_err(|why| self.data(why))?;
        let columns = side.key.len();
        let mut found = Vec::new();
        self.each(&statement, |mut cells| {
            if cells.len() <= columns + 1 {
                return Err("a row's digest is missing".to_owned());
            }
            let digests = cells.split_off(columns + 1);
            let bytes = cells.pop().and_then(|cell| cell.as_i64()).unwrap_or_default();
            let key = cells.into_iter().zip(side.key_columns());
            let key = key.map(|(cell, column)| crate::rows::canonical::canonical(&column.carry, cell));
            let digest = digests.iter().try_fold(0_u128, |all, one| match one {
                Value::Int(n) => Some((all << 64) | u128::from(n.cast_unsigned())),
                Value::UInt(n) => Some((all << 64) | u128::from(*n)),
                _ => None,
            });
            // What has no digest is like nothing, and is settled by its values.
            let digest = digest.unwrap_or_else(|| uuid::Uuid::new_v4().as_u128());
            found.push(Sketch {
                key: Key(key.collect::<Result<_, String>>()?),
                version: None,
                digest: RowDigest(digest),
                beside: Vec::new(),
                bytes: bytes.unsigned_abs(),
            });
            Ok(())
        })
        .await?;
        Ok(found)
    }
}
