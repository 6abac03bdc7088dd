//! Which shard a row belongs to, as a condition in each engine's SQL: what `rows::sharding` says of values, said of the
//! columns that hold them. Types whose values the two engines or a collation would take differently are refused.

use super::side::PairProblem;
use super::sql::Sql;
use super::{Engine, MappedColumn, Result, TablePair, TableSide, Tx};
use crate::rows::{Key, LogicalType, PlaceError, ShardBy, ShardFunction};
use crate::words::Side;

/// How one side's rows of a table are divided between its shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Division {
    by: ShardBy,
    /// Positions of the shard columns in the key.
    at: Vec<usize>,
    shards: usize,
}

impl Division {
    /// For a table whose shard columns are part of its key and of types that have a place. All problems at once.
    pub fn new(pair: &TablePair, by: &ShardBy, shards: usize) -> std::result::Result<Self, Vec<PairProblem>> {
        let source = &pair.source;
        let key: Vec<String> = source.key_columns().map(|c| c.name.as_str().to_owned()).collect();
        let at = by.positions(&key).map_err(|error| {
            vec![PairProblem {
                reason: "ShardColumnNotInKey",
                message: format!(
                    "table {}: {error}, so that a row's shard follows from its key: name the columns of a unique, not-null index that \
                     has it as `key`, such as ({}, {})",
                    source.table.as_str(),
                    by.columns.join(", "),
                    key.join(", ")
                ),
            }]
        })?;
        let division = Self {
            by: by.clone(),
            at,
            shards,
        };
        let mut problems = Vec::new();
        for side in [pair.plain(Side::Source), pair.plain(Side::Target)] {
            for column in division.columns(side) {
                if let Err(why) = division.part(side, column) {
                    problems.push(PairProblem {
                        reason: "ShardColumnUnsuitable",
                        message: format!(
                            "shard column {}.{} of the {} is {}: {why}",
                            side.table.as_str(),
                            column.name.as_str(),
                            side.side,
                            column.native
                        ),
                    });
                }
            }
        }
        if problems.is_empty() {
            Ok(division)
        } else {
            Err(problems)
        }
    }

    /// The shard, from 0, of the row with this key.
    pub fn place(&self, key: &Key) -> std::result::Result<usize, PlaceError> {
        self.by.place_of(key, &self.at, self.shards)
    }

    /// True of exactly the rows of `side` that belong to this shard.
    pub fn condition(&self, side: &TableSide, shard: usize) -> Result<String, String> {
        let shards = self.shards;
        let parts = self
            .columns(side)
            .map(|column| self.part(side, column))
            .collect::<Result<Vec<_>, _>>()?;
        let first = parts.first().map_or("NULL", String::as_str);
        Ok(match &self.by.function {
            // A negative number leaves a negative rest in both engines.
            ShardFunction::Modulo => format!("MOD({first}, {shards}) IN ({shard}, {})", shard as i64 - shards as i64),
            ShardFunction::Hash => format!("MOD({}, {shards}) = {shard}", hash(side.engine, &parts)),
            ShardFunction::Range { bounds } => {
                let from = shard.checked_sub(1).and_then(|at| bounds.get(at));
                let from = from.map(|bound| format!("{first} >= {bound}"));
                // What lies beyond all bounds belongs to the last shard, however many bounds there are.
                let to = bounds.get(shard).filter(|_| shard + 1 < shards);
                let to = to.map(|bound| format!("{first} < {bound}"));
                let both: Vec<String> = from.into_iter().chain(to).collect();
                if both.is_empty() {
                    "1 = 1".to_owned()
                } else {
                    both.join(" AND ")
                }
            }
        })
    }

    fn columns<'t>(&'t self, side: &'t TableSide) -> impl Iterator<Item = &'t MappedColumn> {
        self.at.iter().map(|&at| &side.columns[side.key[at]])
    }

    fn part(&self, side: &TableSide, column: &MappedColumn) -> Result<String, String> {
        match self.by.function {
            ShardFunction::Modulo | ShardFunction::Range { .. } => integer(side.engine, column),
            ShardFunction::Hash => spelled(side, column),
        }
    }
}

impl TableSide {
    /// The same table, of which only the rows are seen that also meet the condition.
    #[must_use]
    pub fn within(&self, condition: &str) -> TableSide {
        let filter = match &self.filter {
            Some(filter) => format!("({filter}) AND ({condition})"),
            None => condition.to_owned(),
        };
        TableSide {
            filter: Some(filter),
            ..self.clone()
        }
    }
}

impl Tx {
    /// How many rows the side has.
    pub async fn count_rows(&mut self, side: &TableSide) -> Result<u64> {
        let mut sql = Sql::new(side);
        sql.push("SELECT COUNT(*) FROM ").table().push(" WHERE 1 = 1").filter();
        let mut rows = 0;
        self.each(&sql.finish(), |cells| {
            rows = cells
                .into_iter()
                .next()
                .and_then(|cell| cell.as_i64())
                .unwrap_or_default()
                .unsigned_abs();
            Ok(())
        })
        .await?;
        Ok(rows)
    }
}

/// The column as a whole number.
fn integer(engine: Engine, column: &MappedColumn) -> Result<String, String> {
    let name = column.name.quoted(engine);
    match &column.logical {
        LogicalType::Int { .. } if !is_bits(column) => Ok(name),
        LogicalType::Decimal {
            precision: 1..,
            scale: 0,
        } => Ok(match engine {
            Engine::MySql => name,
            Engine::Postgres => format!("COALESCE(NULLIF({name}, 'NaN'), 0)"),
            Engine::Sqlite => return Err("a SQLite file is no shard".to_owned()),
        }),
        _ => Err("Modulo and Range need an integer; use another column, or Hash".to_owned()),
    }
}

/// The column's canonical text.
fn spelled(side: &TableSide, column: &MappedColumn) -> Result<String, String> {
    use LogicalType as T;
    let engine = side.engine;
    let name = column.name.quoted(engine);
    let refused = || Err("Hash knows integers, decimals, texts, bytes and UUIDs; use another column".to_owned());
    if column.native.contains("zerofill") && !matches!(column.logical, T::Int { .. }) {
        return refused();
    }
    Ok(match (&column.logical, &column.carry, engine) {
        (T::Int { .. }, _, _) if is_bits(column) => return refused(),
        (T::Int { unsigned: true, .. }, _, Engine::MySql) => format!("CAST(CAST({name} AS UNSIGNED) AS CHAR)"),
        (T::Int { .. }, _, Engine::MySql) => format!("CAST(CAST({name} AS SIGNED) AS CHAR)"),
        (T::Int { .. } | T::Uuid, _, Engine::Postgres) => format!("CAST({name} AS text)"),
        (T::Decimal { scale: 0, .. }, _, Engine::MySql) => format!("CAST({name} AS CHAR)"),
        (T::Decimal { .. }, _, Engine::MySql) => {
            format!("TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM CAST({name} AS CHAR)))")
        }
        (T::Decimal { .. }, _, Engine::Postgres) => format!(
            "CASE WHEN strpos(CAST({name} AS text), '.') > 0 THEN rtrim(rtrim(CAST({name} AS text), '0'), '.') ELSE CAST({name} AS text) END"
        ),
        (T::Text { .. }, T::Text { .. }, _) => {
            if ignores(side, column) {
                return Err(
                    "texts that its collation takes for equal would lie in different shards; give the column a collation that tells \
                     all texts apart (MySQL: one that ends in _bin)"
                        .to_owned(),
                );
            }
            match engine {
                Engine::MySql => format!("TRIM(TRAILING ' ' FROM CONVERT({name} USING utf8mb4))"),
                Engine::Postgres => format!("rtrim(CAST({name} AS text), ' ')"),
                Engine::Sqlite => return Err("a SQLite file is no shard".to_owned()),
            }
        }
        (T::Uuid, _, Engine::MySql) => format!("LOWER(CAST({name} AS CHAR))"),
        (T::Bytes { .. }, T::Uuid, Engine::MySql) => {
            let digits = |from: u32, count: u32| format!("SUBSTR(HEX({name}), {from}, {count})");
            let groups = [(1, 8), (9, 4), (13, 4), (17, 4), (21, 12)].map(|(from, count)| digits(from, count));
            format!("LOWER(CONCAT_WS('-', {}))", groups.join(", "))
        }
        (T::Bytes { .. }, T::Bytes { .. }, Engine::MySql) => format!("LOWER(HEX({name}))"),
        (T::Bytes { .. }, T::Bytes { .. }, Engine::Postgres) => format!("encode({name}, 'hex')"),
        _ => return refused(),
    })
}

/// The first 32 bits of the MD5 of all texts with their lengths.
fn hash(engine: Engine, texts: &[String]) -> String {
    match engine {
        // SQLite's columns have no such texts (`spelled`).
        Engine::MySql | Engine::Sqlite => {
            let parts: Vec<String> = texts
                .iter()
                .map(|text| format!("LENGTH({text}), ':', {text}"))
                .collect();
            format!(
                "CAST(CONV(LEFT(MD5(CONCAT({})), 8), 16, 10) AS UNSIGNED)",
                parts.join(", ")
            )
        }
        Engine::Postgres => {
            let parts: Vec<String> = texts
                .iter()
                .map(|text| format!("CAST(octet_length(convert_to({text}, 'UTF8')) AS text) || ':' || ({text})"))
                .collect();
            format!(
                "CAST(CAST('x' || substr(md5(convert_to({}, 'UTF8')), 1, 8) AS bit(32)) AS bigint)",
                parts.join(" || ")
            )
        }
    }
}

fn is_bits(column: &MappedColumn) -> bool {
    column.native.to_ascii_lowercase().starts_with("bit")
}

/// Whether different texts may be one and the same key to the column.
fn ignores(side: &TableSide, column: &MappedColumn) -> bool {
    match side.engine {
        Engine::Postgres => column.native == "citext",
        Engine::MySql | Engine::Sqlite => side
            .schema
            .column(column.name.as_str())
            .and_then(|schema| schema.collation.as_deref())
            .is_none_or(|collation| !collation.ends_with("_bin") && collation != "binary"),
    }
}
