//! The SQL of the row operations, built once for both engines: pure text and typed binds, no connection.
//! Engines differ in quoting, placeholders, upsert, lock and clock; each difference is one small function here.

use std::borrow::Cow;

use sqlx::mysql::MySqlArguments;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{MySql, Postgres};

use super::{Engine, Ident, MappedColumn, TableSide, sqlite_values};
use crate::rows::{Key, LogicalType, Row, Value, canonical};

/// How rows are locked while they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    None,
    Share,
    Update,
    /// PostgreSQL's FOR NO KEY UPDATE, which foreign keys of other tables do not wait for; elsewhere `Update`.
    NoKeyUpdate,
}

/// The driver's type of a bound value: by column, never by value, so that a statement means one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Int,
    Float,
    Text,
    Bytes,
}

/// One parameter: a value, or (PostgreSQL) a list of values of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind {
    pub values: Vec<Value>,
    pub wire: Wire,
    pub list: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub sql: String,
    pub binds: Vec<Bind>,
}

impl Bind {
    pub fn to_mysql<'q>(query: Query<'q, MySql, MySqlArguments>, bind: &Bind) -> Query<'q, MySql, MySqlArguments> {
        bind.values.iter().fold(query, super::mysql::bind)
    }

    pub fn to_postgres<'q>(query: Query<'q, Postgres, PgArguments>, bind: &Bind) -> Query<'q, Postgres, PgArguments> {
        let int = |v: &Value| v.as_i64();
        let float = |v: &Value| match v {
            Value::Float(x) => Some(*x),
            _ => None,
        };
        let bytes = |v: &Value| match v {
            Value::Bytes(b) => Some(b.clone()),
            _ => None,
        };
        let text = |v: &Value| match v {
            Value::Int(n) => Some(n.to_string()),
            Value::UInt(n) => Some(n.to_string()),
            Value::Text(s) => Some(s.clone()),
            Value::Null | Value::Float(_) | Value::Bytes(_) => None,
        };
        let one = bind.values.first().unwrap_or(&Value::Null);
        // Every value was checked against its column before (`sendable`): what has another kind here is NULL.
        match (bind.wire, bind.list) {
            (Wire::Int, false) => query.bind(int(one)),
            (Wire::Float, false) => query.bind(float(one)),
            (Wire::Bytes, false) => query.bind(bytes(one)),
            (Wire::Text, false) => query.bind(text(one)),
            (Wire::Int, true) => query.bind(bind.values.iter().map(int).collect::<Vec<_>>()),
            (Wire::Float, true) => query.bind(bind.values.iter().map(float).collect::<Vec<_>>()),
            (Wire::Bytes, true) => query.bind(bind.values.iter().map(bytes).collect::<Vec<_>>()),
            (Wire::Text, true) => query.bind(bind.values.iter().map(text).collect::<Vec<_>>()),
        }
    }
}

/// Text of a statement under way.
pub(crate) struct Sql<'t> {
    side: &'t TableSide,
    pub text: String,
    binds: Vec<Bind>,
}

impl<'t> Sql<'t> {
    pub fn new(side: &'t TableSide) -> Self {
        Sql {
            side,
            text: String::new(),
            binds: Vec::new(),
        }
    }

    pub fn finish(self) -> Statement {
        Statement {
            sql: self.text,
            binds: self.binds,
        }
    }

    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    pub fn table(&mut self) -> &mut Self {
        self.text.push_str(&self.side.table.quoted(self.side.engine));
        self
    }

    pub fn column(&mut self, i: usize) -> &mut Self {
        let quoted = self.quoted(i);
        self.push(&quoted)
    }

    /// The column with its table before it. In ORDER BY a bare name would mean the rendered output column of that
    /// name: PostgreSQL would sort numbers as text, and without the index.
    pub fn stored(&mut self, i: usize) -> &mut Self {
        self.table().push(".").column(i)
    }

    /// A column of the key in the order of the key's index.
    fn keyed(&mut self, i: usize) -> &mut Self {
        self.column(i).collation(i)
    }

    /// SQLite compares by what the column was declared with, which need not be how the key's index is ordered, and of
    /// which only the index can be asked.
    fn collation(&mut self, i: usize) -> &mut Self {
        let side = self.side;
        let column = &side.columns[i];
        if side.engine == Engine::Sqlite
            && matches!(column.logical, LogicalType::Text { .. })
            && let Some(schema) = side.schema.column(column.name.as_str())
            && let Some(Ok(collation)) = schema.collation.as_deref().map(Ident::new)
        {
            self.push(" COLLATE ").push(&collation.quoted(side.engine));
        }
        self
    }

    pub fn quoted(&self, i: usize) -> String {
        self.side.columns[i].name.quoted(self.side.engine)
    }

    pub fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        between: &str,
        mut each: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        for (n, item) in items.into_iter().enumerate() {
            if n > 0 {
                self.push(between);
            }
            each(self, item);
        }
        self
    }

    /// A value to compare column `i` with, typed as that column so that the index serves and large numbers are exact.
    pub fn bind(&mut self, i: usize, value: &Value) -> Result<&mut Self, String> {
        self.parameter(i, value, true)
    }

    /// A value to put into column `i`: the assignment converts it, and in strict mode refuses what it cannot.
    pub fn assign(&mut self, i: usize, value: &Value) -> Result<&mut Self, String> {
        self.parameter(i, value, false)
    }

    fn parameter(&mut self, i: usize, value: &Value, compared: bool) -> Result<&mut Self, String> {
        let column = &self.side.columns[i];
        let value = self.checked(i, value)?;
        let wire = wire(self.side.engine, &column.logical);
        self.binds.push(Bind {
            values: vec![value],
            wire,
            list: false,
        });
        match self.side.engine {
            Engine::MySql if compared => {
                let parameter = mysql_comparand(&column.logical);
                self.push(&parameter)
            }
            Engine::MySql | Engine::Sqlite => self.push("?"),
            Engine::Postgres => {
                let parameter = format!("CAST(${} AS {})", self.binds.len(), postgres_cast(column));
                self.push(&parameter)
            }
        };
        Ok(self)
    }

    fn checked(&self, i: usize, value: &Value) -> Result<Value, String> {
        let column = &self.side.columns[i];
        let name = format!("{}.{}", self.side.table.as_str(), column.name.as_str());
        sendable(self.side.engine, column, value)
            .map_err(|why| format!("the value for column {name} cannot be held: {why}"))
    }

    /// PostgreSQL: values of column `i` as one parameter, whose text does not depend on their number.
    fn bind_list<'v>(&mut self, i: usize, values: impl Iterator<Item = &'v Value>) -> Result<&mut Self, String> {
        let values = values.map(|v| self.checked(i, v)).collect::<Result<Vec<_>, _>>()?;
        let wire = wire(self.side.engine, &self.side.columns[i].logical);
        self.binds.push(Bind {
            values,
            wire,
            list: true,
        });
        let parameter = format!("${}", self.binds.len());
        Ok(self.push(&parameter))
    }

    /// PostgreSQL: the rows as a SELECT over one list per column.
    pub fn select_rows(&mut self, rows: &[Row]) -> Result<&mut Self, String> {
        let side = self.side;
        self.push("SELECT ")
            .list(side.columns.iter().enumerate(), ", ", |sql, (i, column)| {
                let cast = format!("CAST(c{i} AS {})", postgres_cast(column));
                sql.push(&cast);
            });
        self.push(" FROM unnest(");
        for i in 0..side.columns.len() {
            self.push(if i > 0 { ", " } else { "" });
            self.bind_list(i, rows.iter().map(|row| &row.values[i]))?;
        }
        self.push(") AS given (").list(0..side.columns.len(), ", ", |sql, i| {
            sql.push(&format!("c{i}"));
        });
        Ok(self.push(")"))
    }

    /// The mapped columns, rendered so that the driver reads each exactly.
    pub fn select_list(&mut self) -> &mut Self {
        let side = self.side;
        self.list(&side.columns, ", ", |sql, column| {
            let text = rendered(side.engine, column);
            sql.push(&text);
        })
    }

    pub fn key_list(&mut self) -> &mut Self {
        let side = self.side;
        self.list(side.key_columns(), ", ", |sql, column| {
            let text = rendered(side.engine, column);
            sql.push(&text);
        })
    }

    pub fn order_by_key(&mut self, descending: bool) -> &mut Self {
        let side = self.side;
        self.push(" ORDER BY ");
        self.list(&side.key, ", ", |sql, &i| {
            sql.stored(i).collation(i);
            if descending {
                sql.push(" DESC");
            }
        })
    }

    pub fn key_equals(&mut self, key: &Key) -> Result<&mut Self, String> {
        let side = self.side;
        self.key_arity(key)?;
        for (n, (&i, value)) in side.key.iter().zip(&key.0).enumerate() {
            self.push(if n > 0 { " AND " } else { "" })
                .keyed(i)
                .push(" = ")
                .bind(i, value)?;
        }
        Ok(self)
    }

    /// `key IN (…)`, spelled so that both planners take the key's index.
    pub fn key_in(&mut self, keys: &[Key]) -> Result<&mut Self, String> {
        let side = self.side;
        if let ([i], Engine::Postgres) = (&side.key[..], side.engine) {
            for key in keys {
                self.key_arity(key)?;
            }
            self.column(*i)
                .push(" = ANY (CAST(")
                .bind_list(*i, keys.iter().map(|key| &key.0[0]))?;
            let cast = format!(" AS {}[]))", postgres_cast(&side.columns[*i]));
            self.push(&cast);
        } else if let [i] = side.key[..] {
            self.keyed(i).push(" IN (");
            for (n, key) in keys.iter().enumerate() {
                self.key_arity(key)?;
                self.push(if n > 0 { ", " } else { "" }).bind(i, &key.0[0])?;
            }
            self.push(")");
        } else if side.engine == Engine::Sqlite {
            // A chain of ORs is as deep as it is long there, and too deep soon.
            self.push("(").list(&side.key, ", ", |sql, &i| {
                sql.keyed(i);
            });
            self.push(") IN (VALUES ");
            for (n, key) in keys.iter().enumerate() {
                self.key_arity(key)?;
                self.push(if n > 0 { ", (" } else { "(" });
                for (m, (&i, value)) in side.key.iter().zip(&key.0).enumerate() {
                    self.push(if m > 0 { ", " } else { "" }).bind(i, value)?;
                }
                self.push(")");
            }
            self.push(")");
        } else {
            self.push("(");
            for (n, key) in keys.iter().enumerate() {
                self.push(if n > 0 { " OR (" } else { "(" }).key_equals(key)?.push(")");
            }
            self.push(")");
        }
        Ok(self)
    }

    /// Key after (`>`) or up to (`<=`) this one, in the database's own order of the key.
    pub fn key_beyond(&mut self, key: &Key, beyond: Beyond) -> Result<&mut Self, String> {
        let side = self.side;
        self.key_arity(key)?;
        if self.side.engine != Engine::MySql || side.key.len() == 1 {
            // PostgreSQL and SQLite read a row comparison off the index; MySQL does not.
            let many = side.key.len() > 1;
            self.push(if many { "(" } else { "" });
            self.list(&side.key, ", ", |sql, &i| {
                sql.keyed(i);
            });
            self.push(if many { ") " } else { " " })
                .push(beyond.last())
                .push(if many { " (" } else { " " });
            for (n, (&i, value)) in side.key.iter().zip(&key.0).enumerate() {
                self.push(if n > 0 { ", " } else { "" }).bind(i, value)?;
            }
            self.push(if many { ")" } else { "" });
            return Ok(self);
        }
        // a >= ? AND (a > ? OR (a = ? AND (b > ? …))): the first part alone bounds the range of the index.
        self.push("(")
            .column(side.key[0])
            .push(beyond.bound())
            .bind(side.key[0], &key.0[0])?
            .push(" AND ");
        let last = side.key.len() - 1;
        for (n, (&i, value)) in side.key.iter().zip(&key.0).enumerate() {
            if n == last {
                self.column(i).push(" ").push(beyond.last()).push(" ").bind(i, value)?;
            } else {
                self.push("(").column(i).push(beyond.strict()).bind(i, value)?;
                self.push(" OR (").column(i).push(" = ").bind(i, value)?.push(" AND ");
            }
        }
        self.push(&"))".repeat(last)).push(")");
        Ok(self)
    }

    /// ` AND` the key lies after the first and up to the second; for a WHERE that has begun.
    pub fn between(&mut self, after: Option<&Key>, upto: Option<&Key>) -> Result<&mut Self, String> {
        if let Some(key) = after {
            self.push(" AND ").key_beyond(key, Beyond::After)?;
        }
        if let Some(key) = upto {
            self.push(" AND ").key_beyond(key, Beyond::UpTo)?;
        }
        Ok(self)
    }

    pub fn filter(&mut self) -> &mut Self {
        if let Some(filter) = self.side.filter.as_deref() {
            let filter = format!(" AND ({filter})");
            self.push(&filter);
        }
        self
    }

    fn key_arity(&self, key: &Key) -> Result<(), String> {
        if key.0.len() == self.side.key.len() {
            Ok(())
        } else {
            Err(format!(
                "the key {key} has {} values, the key of {} has {}",
                key.0.len(),
                self.side.table.as_str(),
                self.side.key.len()
            ))
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beyond {
    After,
    UpTo,
}

impl Beyond {
    fn last(self) -> &'static str {
        if self == Beyond::After { ">" } else { "<=" }
    }

    fn strict(self) -> &'static str {
        if self == Beyond::After { " > " } else { " < " }
    }

    fn bound(self) -> &'static str {
        if self == Beyond::After { " >= " } else { " <= " }
    }
}

fn wire(engine: Engine, logical: &LogicalType) -> Wire {
    match (engine, logical) {
        // An unsigned 64-bit number has no integer type in PostgreSQL; booleans are cast from '0' and '1'.
        (
            Engine::Postgres,
            LogicalType::Int {
                bits: 64,
                unsigned: true,
            }
            | LogicalType::Bool,
        ) => Wire::Text,
        (_, LogicalType::Int { .. } | LogicalType::Bool | LogicalType::Year) => Wire::Int,
        (_, LogicalType::Float32 | LogicalType::Float64) => Wire::Float,
        (_, logical) if logical.is_binary() => Wire::Bytes,
        _ => Wire::Text,
    }
}

fn mysql_comparand(logical: &LogicalType) -> Cow<'static, str> {
    match logical {
        // Compared as what they are: a text compared with a number would be compared as a float.
        LogicalType::Decimal { scale, .. } => format!("CAST(? AS DECIMAL(65,{scale}))").into(),
        LogicalType::Timestamp { .. } => "CAST(? AS DATETIME(6))".into(),
        LogicalType::Date => "CAST(? AS DATE)".into(),
        LogicalType::Time { .. } => "CAST(? AS TIME(6))".into(),
        _ => "?".into(),
    }
}

/// The type of the CAST around a PostgreSQL parameter. Lengths are left away: a cast would cut in silence where an
/// assignment refuses.
pub(crate) fn postgres_cast(column: &MappedColumn) -> &str {
    match column.logical {
        LogicalType::Text { padded: true, .. } => "bpchar",
        LogicalType::Text { .. } if column.native != "citext" => "text",
        LogicalType::Decimal { .. } => "numeric",
        LogicalType::Timestamp { utc: true, .. } => "timestamptz",
        LogicalType::Timestamp { utc: false, .. } => "timestamp",
        LogicalType::Time { .. } => "time",
        _ => &column.native,
    }
}

/// A column in a select list, as a type whose wire form loses nothing.
pub(crate) fn rendered(engine: Engine, column: &MappedColumn) -> String {
    if let Some(expression) = &column.computed {
        return computed(engine, &column.carry, expression);
    }
    let name = column.name.quoted(engine);
    match (engine, &column.logical) {
        (Engine::Sqlite, _)
        | (_, LogicalType::Float32 | LogicalType::Float64)
        | (Engine::MySql, LogicalType::Text { .. } | LogicalType::Enum { .. } | LogicalType::Set { .. })
        | (Engine::Postgres, LogicalType::Bool) => name,
        (_, logical) if logical.is_binary() => name,
        (Engine::MySql, LogicalType::Int { unsigned: true, .. } | LogicalType::Year) => {
            format!("CAST({name} AS UNSIGNED)")
        }
        (Engine::MySql, LogicalType::Int { .. } | LogicalType::Bool) => format!("CAST({name} AS SIGNED)"),
        (Engine::MySql, _) => format!("CAST({name} AS CHAR)"),
        (Engine::Postgres, LogicalType::Int { .. }) => format!("{name}::bigint"),
        (Engine::Postgres, _) => format!("{name}::text"),
    }
}

/// An expression of the mapping, as a type whose wire form loses nothing. Numbers come as text: a cast to an integer
/// would round what the canonical form refuses.
fn computed(engine: Engine, carry: &LogicalType, expression: &str) -> String {
    match (engine, carry) {
        (Engine::MySql, LogicalType::Float32 | LogicalType::Float64) => format!("(1e0 * ({expression}))"),
        (Engine::MySql, LogicalType::Bytes { .. }) => format!("CAST(({expression}) AS BINARY)"),
        (Engine::MySql, LogicalType::Bool) => format!("CAST(({expression}) AS SIGNED)"),
        (Engine::MySql, _) => format!("CAST(({expression}) AS CHAR)"),
        (Engine::Postgres, LogicalType::Float32 | LogicalType::Float64) => {
            format!("CAST(({expression}) AS double precision)")
        }
        (Engine::Postgres, LogicalType::Bytes { .. }) => format!("CAST(({expression}) AS bytea)"),
        (Engine::Postgres, LogicalType::Bool) => format!("CAST(({expression}) AS boolean)"),
        (Engine::Postgres, _) => format!("CAST(({expression}) AS text)"),
        // As it comes: a cast would make a number of any text.
        (Engine::Sqlite, _) => format!("({expression})"),
    }
}

/// A cell of a side as its server rendered it, in the one spelling of `carry`.
pub(crate) fn cell(engine: Engine, column: &MappedColumn, raw: Value) -> Result<Value, String> {
    let raw = match engine {
        Engine::MySql | Engine::Postgres => raw,
        Engine::Sqlite => sqlite_values::read(column, raw)?,
    };
    canonical::canonical(&column.carry, raw)
}

/// The value as it is bound, if the column holds it exactly.
pub(crate) fn sendable(engine: Engine, column: &MappedColumn, value: &Value) -> Result<Value, String> {
    use LogicalType as T;
    match (&column.logical, &column.carry, value) {
        (T::Bytes { .. }, T::Uuid, Value::Text(s)) => {
            return match uuid::Uuid::parse_str(s) {
                Ok(uuid) => Ok(Value::Bytes(uuid.as_bytes().to_vec())),
                Err(_) => Err(format!("`{s}` is no UUID")),
            };
        }
        // Carried as text because it is a key: another spelling would not be found again.
        (T::Uuid, T::Text { .. }, Value::Text(s))
            if canonical::canonical(&T::Uuid, value.clone()).as_ref() != Ok(value) =>
        {
            return Err(format!("`{s}` is not a UUID in lower case with hyphens"));
        }
        _ => {}
    }
    canonical::fits(&column.logical, value)?;
    if engine == Engine::Sqlite
        && let Some(given) = sqlite_values::given(column, value)?
    {
        return Ok(given);
    }
    if let (Engine::MySql, Value::Float(x)) = (engine, value) {
        if !x.is_finite() {
            return Err(format!("{x} is no number to MySQL"));
        }
        if *x == 0.0 && x.is_sign_negative() {
            return Err("MySQL would store the negative zero -0 as 0".to_owned());
        }
    }
    match (&column.logical, value) {
        (T::Int { .. } | T::Bool, Value::Text(_)) => {
            let widest = T::Int {
                bits: 64,
                unsigned: false,
            };
            let number = canonical::canonical(&widest, value.clone())?;
            canonical::fits(&column.logical, &number)?;
            Ok(number)
        }
        (T::Decimal { .. }, Value::Int(n)) => Ok(Value::Text(n.to_string())),
        (T::Decimal { .. }, Value::UInt(n)) => Ok(Value::Text(n.to_string())),
        (T::Float32 | T::Float64 | T::Bytes { .. }, Value::Text(_)) => {
            Err(format!("a text was given for {}", column.logical))
        }
        (_, Value::Null | Value::Text(_))
        | (T::Int { .. } | T::Bool, Value::Int(_) | Value::UInt(_))
        | (T::Year, Value::Int(_))
        | (T::Float32 | T::Float64, Value::Float(_)) => Ok(value.clone()),
        (logical, Value::Bytes(_)) if logical.is_binary() => Ok(value.clone()),
        (logical, _) => Err(format!("a value of another kind was given for a {logical}")),
    }
}

/// Checks that rows have the pair's shape, and that the side is one that is written.
pub(crate) fn check_rows(side: &TableSide, rows: &[Row]) -> Result<(), String> {
    if let Some(column) = side.columns.iter().find(|column| column.computed.is_some()) {
        return Err(format!(
            "{} is read with {} computed by the mapping: rows are put into the follower's columns, never into these",
            side.table.as_str(),
            column.name.as_str()
        ));
    }
    match rows.iter().find(|r| r.values.len() != side.columns.len()) {
        Some(r) => Err(format!(
            "a row of {} values was given for the {} mapped columns of {}",
            r.values.len(),
            side.columns.len(),
            side.table.as_str()
        )),
        None => Ok(()),
    }
}
