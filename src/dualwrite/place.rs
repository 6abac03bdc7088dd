//! Where a table's rows lie on one side that may have several shards: found from the key, or from the shard columns
//! alone. Pure; what cannot be placed is refused with the remedy.

use std::fmt;

use super::error::Refusal;
use super::table::TableDefinition;
use crate::rows::canonical::canonical;
use crate::rows::{Key, ShardBy, ShardFunction, Value};
use crate::store::TableSide;
use crate::words::Side;

/// What the application says of where a row lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stated {
    Key(Key),
    /// Columns of the source and their values, the shard columns among them.
    Columns(Vec<(String, Value)>),
}

impl Stated {
    pub fn columns<'a>(columns: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        let owned = |(name, value): (&str, Value)| (name.to_owned(), value);
        Self::Columns(columns.into_iter().map(owned).collect())
    }
}

impl fmt::Display for Stated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "key {key}"),
            Self::Columns(columns) => {
                let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
                let values = Key(columns.iter().map(|(_, value)| value.clone()).collect());
                write!(f, "({}) = {values}", names.join(", "))
            }
        }
    }
}

/// How one table is spread over one side's shards.
#[derive(Debug)]
pub(super) enum Placing {
    /// There is one shard.
    One,
    By {
        by: ShardBy,
        /// The shard columns' places in the key.
        positions: Vec<usize>,
        shards: usize,
    },
    /// The definition does not fit the side's shards; no row of the table can be written.
    Wrong(String),
}

impl Placing {
    /// `databases`: for each shard of the side the first shard that lies in the same database.
    pub fn new(table: &TableDefinition, side: Side, databases: &[usize]) -> Self {
        let shards = databases.len().max(1);
        match placing(table, side, databases) {
            Ok(None) => Self::One,
            Ok(Some((by, positions))) => Self::By { by, positions, shards },
            Err(why) => Self::Wrong(format!("table {} on the {side}: {why}", table.name())),
        }
    }

    /// Values of the shard columns; `None` where there is one shard.
    pub fn values(&self, table: &TableDefinition, stated: &Stated) -> Result<Option<Vec<Value>>, Refusal> {
        let (by, positions) = match self {
            Self::One => return Ok(None),
            Self::Wrong(why) => return Err(Refusal::Definition(why.clone())),
            Self::By { by, positions, .. } => (by, positions),
        };
        let found: Option<Vec<Value>> = match stated {
            Stated::Key(key) => positions.iter().map(|&at| key.0.get(at).cloned()).collect(),
            Stated::Columns(columns) => {
                let value = |name: &String| columns.iter().find(|(column, _)| column == name);
                let values = by
                    .columns
                    .iter()
                    .map(|name| value(name).map(|(_, value)| value.clone()));
                values.collect()
            }
        };
        found.map(Some).ok_or_else(|| {
            let why = format!(
                "the shard columns ({}) are not among what was stated",
                by.columns.join(", ")
            );
            no_place(table, stated, why)
        })
    }

    /// The shard of a row with these values of the shard columns.
    pub fn of(&self, table: &TableDefinition, stated: &Stated, values: &[Value]) -> Result<usize, Refusal> {
        match self {
            Self::One => Ok(0),
            Self::Wrong(why) => Err(Refusal::Definition(why.clone())),
            Self::By { by, shards, .. } => {
                let values: Vec<&Value> = values.iter().collect();
                by.place(&values, *shards)
                    .map_err(|error| no_place(table, stated, error.to_string()))
            }
        }
    }

    /// The values in the spelling in which the side's database holds them.
    pub fn spelled(&self, side: &TableSide, values: Vec<Value>) -> Vec<Value> {
        match self {
            Self::By { positions, .. } => {
                let columns = positions.iter().map(|&at| side.key.get(at));
                values
                    .into_iter()
                    .zip(columns)
                    .map(|(value, column)| match column {
                        Some(&column) => spelled(side, column, value),
                        None => value,
                    })
                    .collect()
            }
            Self::One | Self::Wrong(_) => values,
        }
    }

    /// Whether the column decides about the shard.
    pub fn turns_on(&self, column: &str) -> bool {
        matches!(self, Self::By { by, .. } if by.columns.iter().any(|name| name == column))
    }
}

fn no_place(table: &TableDefinition, stated: &Stated, why: String) -> Refusal {
    Refusal::NoPlace {
        table: table.name().to_owned(),
        stated: stated.to_string(),
        why,
    }
}

fn spelled(side: &TableSide, column: usize, value: Value) -> Value {
    let Some(column) = side.columns.get(column) else {
        return value;
    };
    // What has no such spelling the database will refuse by itself.
    canonical(&column.carry, value.clone()).unwrap_or(value)
}

type Function = Option<(ShardBy, Vec<usize>)>;

fn placing(table: &TableDefinition, side: Side, databases: &[usize]) -> Result<Function, String> {
    let names = (0..databases.len().max(1))
        .map(|shard| table.name_in(side, shard).map_err(|error| error.to_string()))
        .collect::<Result<Vec<_>, _>>()?;
    if databases.len() <= 1 {
        return Ok(None);
    }
    for (shard, first) in databases.iter().enumerate() {
        if shard != *first && names.get(shard) == names.get(*first) {
            return Err(format!(
                "shards {first} and {shard} are the same table {:?} of the same database; give the shards databases of \
                 their own, or the table a name with a place for the shard's number, such as {:?}",
                table.name_on(side),
                format!("{}_{{shard:02}}", table.name_on(side))
            ));
        }
    }
    let by = table.function_on(side).cloned().ok_or_else(|| {
        format!(
            "there are {} shards and nothing says how rows find theirs; give the table's definition `shard_by`, as the \
             manifest's `shardBy`",
            databases.len()
        )
    })?;
    let positions = by.positions(table.key()).map_err(|error| error.to_string())?;
    let integers = |name: &str| match by.columns.len() {
        1 => Ok(()),
        n => Err(format!("{name} takes one shard column, {n} are given")),
    };
    match &by.function {
        ShardFunction::Modulo => integers("Modulo")?,
        ShardFunction::Hash if by.columns.is_empty() => return Err("Hash needs a shard column".to_owned()),
        ShardFunction::Hash => {}
        ShardFunction::Range { bounds } => {
            integers("Range")?;
            if bounds.len() + 1 != databases.len() || !bounds.is_sorted_by(|a, b| a < b) {
                return Err(format!(
                    "Range has {} bounds for {} shards; one bound fewer than shards is needed, each above the one before",
                    bounds.len(),
                    databases.len()
                ));
            }
        }
    }
    Ok(Some((by, positions)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> TableDefinition {
        TableDefinition::new("orders", ["user_id", "id"], "updated_at")
    }

    fn wrong(table: &TableDefinition, databases: &[usize]) -> String {
        match Placing::new(table, Side::Target, databases) {
            Placing::Wrong(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_row_is_placed_by_its_key_or_by_its_shard_columns() {
        let table = orders().shard_by(["user_id"], ShardFunction::Modulo);
        let placing = Placing::new(&table, Side::Target, &[0, 1, 2]);
        let by_key = Stated::Key(Key(vec![Value::Int(7), Value::Int(1)]));
        let by_column = Stated::columns([("note", Value::text("x")), ("user_id", Value::Int(7))]);
        for stated in [by_key, by_column] {
            let values = placing.values(&table, &stated).unwrap().unwrap();
            assert_eq!(placing.of(&table, &stated, &values).unwrap(), 1, "{stated}");
        }
        let without = Stated::columns([("id", Value::Int(7))]);
        let refused = placing.values(&table, &without).unwrap_err().to_string();
        assert!(
            refused.contains("(user_id)") && refused.contains("(id) = [7]"),
            "{refused}"
        );
        let null = Stated::Key(Key(vec![Value::Null, Value::Int(1)]));
        let refused = placing.of(&table, &null, &[Value::Null]).unwrap_err().to_string();
        assert!(refused.contains("key [null,1]"), "{refused}");
    }

    #[test]
    fn one_shard_needs_no_function_and_several_do() {
        assert!(matches!(Placing::new(&orders(), Side::Target, &[0]), Placing::One));
        assert!(matches!(Placing::new(&orders(), Side::Target, &[]), Placing::One));
        assert!(wrong(&orders(), &[0, 1]).contains("`shard_by`"));
    }

    #[test]
    fn the_source_may_have_a_function_of_its_own() {
        let table = orders()
            .shard_by(["user_id"], ShardFunction::Hash)
            .source_shard_by(["id"], ShardFunction::Modulo);
        let turns = |side| Placing::new(&table, side, &[0, 1]).turns_on("id");
        assert!(turns(Side::Source) && !turns(Side::Target));
    }

    #[test]
    fn definitions_that_cannot_be_are_named() {
        let by = |function| orders().shard_by(["user_id"], function);
        assert!(
            wrong(&orders().shard_by(["note"], ShardFunction::Hash), &[0, 1]).contains("lacks the shard column note")
        );
        assert!(wrong(&by(ShardFunction::Range { bounds: vec![1] }), &[0, 1, 2]).contains("1 bounds for 3 shards"));
        assert!(wrong(&by(ShardFunction::Range { bounds: vec![2, 1] }), &[0, 1, 2]).contains("above the one before"));
        let two = orders().shard_by(["user_id", "id"], ShardFunction::Modulo);
        assert!(wrong(&two, &[0, 1]).contains("one shard column"));
        assert!(
            wrong(&by(ShardFunction::Modulo).target("orders_{shards}"), &[0, 1])
                .contains("no name with a shard's number")
        );
        // Two shards in one database need two names.
        assert!(wrong(&by(ShardFunction::Modulo), &[0, 0]).contains("orders_{shard:02}"));
        let named = by(ShardFunction::Modulo).target("orders_{shard:02}");
        assert!(matches!(
            Placing::new(&named, Side::Target, &[0, 0]),
            Placing::By { .. }
        ));
    }
}
