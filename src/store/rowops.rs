//! The row operations of a `Tx`: read by key order, by keys, by version window; put, guarded put, delete, stamp.
//! Each builds its statement with `sql` and runs it; reading turns every cell into its canonical value.

use sha2::{Digest as _, Sha256};

use super::sql::{Beyond, Lock, Sql, Statement, cell, check_rows};
use super::{Engine, Result, StoreError, TableSide, Tx, sqlite_values};
use crate::rows::{Key, Row, Value};

/// Servers take at most 65,535 parameters in a statement; far fewer keep planning cheap.
const MOST_PARAMETERS: usize = 16_000;

impl Tx {
    /// Rows after `after` up to and including `upto`, in the key's own order in this database; takes no locks.
    pub async fn read_after(
        &mut self,
        side: &TableSide,
        after: Option<&Key>,
        upto: Option<&Key>,
        limit: u32,
    ) -> Result<Vec<Row>> {
        let statement = read_after(side, after, upto, limit).map_err(|m| self.data(m))?;
        self.rows(side, &statement).await
    }

    /// The rows that have these keys (and belong to the subset), in key order; locked in that order.
    pub async fn read_keys(&mut self, side: &TableSide, keys: &[Key], lock: Lock) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        // Sorted, so that two transactions with several batches of keys meet in one order.
        let mut keys: Vec<Key> = keys.to_vec();
        keys.sort();
        keys.dedup();
        for batch in keys.chunks(per_statement(side.key.len() * 2)) {
            let statement = read_keys(side, batch, lock).map_err(|m| self.data(m))?;
            rows.extend(self.rows(side, &statement).await?);
        }
        Ok(rows)
    }

    /// Rows whose version lies in `[from, to)`, ordered by version and key, after the given place.
    pub async fn read_window(
        &mut self,
        side: &TableSide,
        from: &str,
        to: &str,
        after: Option<(&str, &Key)>,
        limit: u32,
    ) -> Result<Vec<Row>> {
        let statement = read_window(side, from, to, after, limit).map_err(|m| self.data(m))?;
        self.rows(side, &statement).await
    }

    /// PostgreSQL: nobody else writes this key through this product until the transaction ends. A DELETE there does
    /// not wait for another's uncommitted INSERT of the key. MySQL's index locks do that by themselves.
    pub async fn lock_key(&mut self, side: &TableSide, key: &Key) -> Result<()> {
        if side.engine == Engine::Postgres {
            self.query(
                "SELECT pg_advisory_xact_lock(?)",
                &[Value::Int(key_lock(side.table.as_str(), key))],
            )
            .await?;
        }
        Ok(())
    }

    /// Makes the rows what is given, whatever was there: the mapped columns of existing rows are set, missing rows
    /// are inserted. Another row that holds a unique value is a `Duplicate`, never overwritten.
    pub async fn put(&mut self, side: &TableSide, rows: &[Row]) -> Result<()> {
        self.upsert(side, rows, false).await.map(|_| ())
    }

    /// The copier's put: a missing row is inserted, an older one is set, an equally old or newer one is left alone.
    /// Returns the database's count of affected rows, which is not the same measure on both engines.
    pub async fn put_guarded(&mut self, side: &TableSide, rows: &[Row]) -> Result<u64> {
        self.upsert(side, rows, true).await
    }

    async fn upsert(&mut self, side: &TableSide, rows: &[Row], guarded: bool) -> Result<u64> {
        let mut affected = 0;
        for batch in rows.chunks(per_statement(side.columns.len())) {
            let statement = upsert(side, batch, guarded).map_err(|m| self.data(m))?;
            affected += match self.run(&statement).await {
                Err(StoreError::Data { label, message })
                    if side.engine == Engine::MySql
                        && message.contains("(error 1048)")
                        && !side.other_unique.is_empty() =>
                {
                    // The upsert met another row's unique value and set its key to NULL rather than touch it.
                    return Err(StoreError::Duplicate {
                        label,
                        index: side.other_unique.join(" or "),
                        message: format!(
                            "a row of {} that is to be written has a value of that index which a row with another key holds ({message})",
                            side.table.as_str()
                        ),
                    });
                }
                other => other?,
            };
        }
        Ok(affected)
    }

    pub async fn delete(&mut self, side: &TableSide, keys: &[Key]) -> Result<u64> {
        let mut affected = 0;
        for batch in keys.chunks(per_statement(side.key.len() * 2)) {
            let statement = delete(side, batch).map_err(|m| self.data(m))?;
            affected += self.run(&statement).await?;
        }
        Ok(affected)
    }

    /// Sets the rows' version to the later of this database's clock and one tick after the version that was stored
    /// before this transaction changed the row (`None` for a row that is new).
    pub async fn stamp(&mut self, side: &TableSide, rows: &[(Key, Option<Value>)]) -> Result<()> {
        for batch in rows.chunks(1000) {
            let statement = stamp(side, batch).map_err(|m| self.data(m))?;
            self.run(&statement).await?;
        }
        Ok(())
    }

    async fn rows(&mut self, side: &TableSide, statement: &Statement) -> Result<Vec<Row>> {
        let raw = self.fetch(statement).await?;
        raw.into_iter()
            .map(|cells| {
                let values = cells
                    .into_iter()
                    .zip(&side.columns)
                    .map(|(raw, c)| cell(side.engine, c, raw).map_err(|why| (c.name.as_str(), why)));
                values.collect::<Result<Vec<_>, _>>().map(|values| Row { values })
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|(column, why)| {
                self.data(format!(
                    "column {}.{column} holds a value that cannot be carried: {why}",
                    side.table.as_str()
                ))
            })
    }
}

fn per_statement(parameters_each: usize) -> usize {
    (MOST_PARAMETERS / parameters_each.max(1)).clamp(1, 1000)
}

/// The same number for the same key everywhere: 64 bits of SHA-256 over table and key.
fn key_lock(table: &str, key: &Key) -> i64 {
    hashed(table, key.to_json().as_bytes())
}

/// A table's name as a number, where the name itself may be too long.
pub(crate) fn name_hash(table: &str) -> i64 {
    hashed(table, &[])
}

fn hashed(table: &str, rest: &[u8]) -> i64 {
    let mut hash = Sha256::new();
    hash.update((table.len() as u64).to_be_bytes());
    hash.update(table.as_bytes());
    hash.update(rest);
    let full = hash.finalize();
    let mut eight = [0u8; 8];
    eight.copy_from_slice(&full[..8]);
    i64::from_be_bytes(eight)
}

pub(super) fn read_after(
    side: &TableSide,
    after: Option<&Key>,
    upto: Option<&Key>,
    limit: u32,
) -> Result<Statement, String> {
    let mut sql = Sql::new(side);
    sql.push("SELECT ")
        .select_list()
        .push(" FROM ")
        .table()
        .push(" WHERE 1 = 1");
    if let Some(key) = after {
        sql.push(" AND ").key_beyond(key, Beyond::After)?;
    }
    if let Some(key) = upto {
        sql.push(" AND ").key_beyond(key, Beyond::UpTo)?;
    }
    sql.filter().order_by_key(false).push(&format!(" LIMIT {limit}"));
    Ok(sql.finish())
}

pub(super) fn read_keys(side: &TableSide, keys: &[Key], lock: Lock) -> Result<Statement, String> {
    let mut sql = Sql::new(side);
    sql.push("SELECT ").select_list().push(" FROM ").table();
    if side.engine == Engine::MySql {
        // A scan would lock, or wait for, rows that nobody asked about.
        let index = super::Ident::new(side.key_index.clone())
            .map_err(|e| e.to_string())?
            .quoted(side.engine);
        sql.push(&format!(" FORCE INDEX ({index})"));
    }
    sql.push(" WHERE ").key_in(keys)?.filter().order_by_key(false);
    sql.push(match (lock, side.engine) {
        // A transaction that may write has SQLite's whole file to itself.
        (Lock::None, _) | (_, Engine::Sqlite) => "",
        (Lock::Share, Engine::MySql) => " LOCK IN SHARE MODE",
        (Lock::Share, Engine::Postgres) => " FOR SHARE",
        (Lock::NoKeyUpdate, Engine::Postgres) => " FOR NO KEY UPDATE",
        (Lock::Update | Lock::NoKeyUpdate, _) => " FOR UPDATE",
    });
    Ok(sql.finish())
}

pub(super) fn read_window(
    side: &TableSide,
    from: &str,
    to: &str,
    after: Option<(&str, &Key)>,
    limit: u32,
) -> Result<Statement, String> {
    let v = side.version;
    let digits = match side.columns[v].logical {
        crate::rows::LogicalType::Timestamp { digits, .. } => usize::from(digits),
        _ => 6,
    };
    let whole = |t: &str| floor(t, digits);
    let mut sql = Sql::new(side);
    sql.push("SELECT ").select_list().push(" FROM ").table().push(" WHERE ");
    let stored = version(side, &sql.quoted(v));
    sql.push(&stored).push(" >= ").bind(v, &whole(from))?;
    sql.push(" AND ").push(&stored).push(" < ").bind(v, &whole(to))?;
    if let Some((version, key)) = after {
        let version = Value::text(version);
        sql.push(" AND (").push(&stored).push(" > ").bind(v, &version)?;
        sql.push(" OR (")
            .push(&stored)
            .push(" = ")
            .bind(v, &version)?
            .push(" AND ")
            .key_beyond(key, Beyond::After)?
            .push("))");
    }
    sql.filter().push(" ORDER BY ");
    if side.engine == Engine::Sqlite {
        sql.push(&stored);
    } else {
        sql.stored(v);
    }
    sql.push(", ");
    sql.list(&side.key, ", ", |sql, &i| {
        sql.stored(i);
    });
    sql.push(&format!(" LIMIT {limit}"));
    Ok(sql.finish())
}

/// A stored version as it can be compared in SQL.
fn version(side: &TableSide, stored: &str) -> String {
    match side.engine {
        Engine::MySql | Engine::Postgres => stored.to_owned(),
        Engine::Sqlite => sqlite_values::moment(stored),
    }
}

/// A timestamp cut to a precision. As a window's bound: rows of the tick that has begun belong to the next window.
fn floor(timestamp: &str, digits: usize) -> Value {
    match timestamp.split_once('.') {
        Some((head, fraction)) => {
            let kept = fraction.get(..digits.min(fraction.len())).unwrap_or(fraction);
            Value::Text(format!("{head}.{kept:0<6}"))
        }
        None => Value::text(timestamp),
    }
}

fn upsert(side: &TableSide, rows: &[Row], guarded: bool) -> Result<Statement, String> {
    check_rows(side, rows)?;
    let columns = 0..side.columns.len();
    let mut sql = Sql::new(side);
    sql.push("INSERT INTO ")
        .table()
        .push(" (")
        .list(columns.clone(), ", ", |sql, i| {
            sql.column(i);
        });
    sql.push(if side.overriding {
        ") OVERRIDING SYSTEM VALUE "
    } else {
        ") "
    });
    match side.engine {
        Engine::Postgres => {
            sql.select_rows(rows)?;
        }
        Engine::MySql | Engine::Sqlite => {
            sql.push("VALUES ");
            for (n, row) in rows.iter().enumerate() {
                sql.push(if n > 0 { ", (" } else { "(" });
                for (i, value) in row.values.iter().enumerate() {
                    sql.push(if i > 0 { ", " } else { "" }).assign(i, value)?;
                }
                sql.push(")");
            }
        }
    }
    match side.engine {
        Engine::MySql => on_duplicate_key(&mut sql, side, guarded),
        Engine::Postgres | Engine::Sqlite => on_conflict(&mut sql, side, guarded),
    }
    Ok(sql.finish())
}

/// MySQL assigns from left to right, and a later assignment sees an earlier one. So the keys come first (their
/// condition must see the key that is stored) and the version last (every guard must see the version that is stored).
fn on_duplicate_key(sql: &mut Sql<'_>, side: &TableSide, guarded: bool) {
    let table = side.table.quoted(Engine::MySql);
    let stored = |sql: &Sql<'_>, i: usize| format!("{table}.{}", sql.quoted(i));
    let newer = guarded.then(|| {
        let v = sql.quoted(side.version);
        format!("VALUES({v}) > {table}.{v}")
    });
    let set = |sql: &mut Sql<'_>, i: usize| {
        let (name, stored) = (sql.quoted(i), stored(sql, i));
        match &newer {
            Some(newer) => sql.push(&format!("{name} = IF({newer}, VALUES({name}), {stored})")),
            None => sql.push(&format!("{name} = VALUES({name})")),
        };
    };
    sql.push(" ON DUPLICATE KEY UPDATE ");
    let mut first = true;
    // Any unique index brings us here. If it was another one than the key's, the key is set to NULL, which strict mode
    // refuses: the row of another key is never overwritten.
    if !side.other_unique.is_empty()
        && let Some(&i) = side.key.first()
    {
        let same = side
            .key
            .iter()
            .map(|&k| format!("{} <=> VALUES({})", stored(sql, k), sql.quoted(k)))
            .collect::<Vec<_>>()
            .join(" AND ");
        let (name, kept) = (sql.quoted(i), stored(sql, i));
        let to = match &newer {
            Some(newer) => format!("IF({newer}, VALUES({name}), {kept})"),
            None => format!("VALUES({name})"),
        };
        sql.push(&format!("{name} = IF({same}, {to}, NULL)"));
        first = false;
    }
    let keys = side.key.iter().copied().skip(usize::from(!first));
    // Keys too: where the collation takes two spellings as one key, the base's spelling is right.
    let others = (0..side.columns.len()).filter(|i| !side.key.contains(i) && *i != side.version);
    let version = (!side.key.contains(&side.version)).then_some(side.version);
    for i in keys.chain(others) {
        sql.push(if first { "" } else { ", " });
        set(sql, i);
        first = false;
    }
    for name in &side.self_stamping {
        let name = name.quoted(Engine::MySql);
        sql.push(&format!(", {name} = {table}.{name}"));
    }
    if let Some(i) = version {
        sql.push(", ");
        set(sql, i);
    }
}

fn on_conflict(sql: &mut Sql<'_>, side: &TableSide, guarded: bool) {
    sql.push(" ON CONFLICT (").list(&side.key, ", ", |sql, &i| {
        sql.column(i);
    });
    // Where the collation takes two spellings as one key, the base's spelling is right.
    let spelled = |i: usize| {
        side.engine == Engine::Sqlite && matches!(side.columns[i].logical, crate::rows::LogicalType::Text { .. })
    };
    let others: Vec<usize> = (0..side.columns.len())
        .filter(|&i| !side.key.contains(&i) || spelled(i))
        .collect();
    if others.is_empty() {
        sql.push(") DO NOTHING");
        return;
    }
    sql.push(") DO UPDATE SET ").list(others, ", ", |sql, i| {
        let name = sql.quoted(i);
        sql.push(&format!("{name} = EXCLUDED.{name}"));
    });
    if guarded {
        let v = sql.quoted(side.version);
        let stored = version(side, &format!("{}.{v}", side.table.quoted(side.engine)));
        sql.push(&format!(" WHERE EXCLUDED.{v} > {stored}"));
    }
}

/// An INSERT of many rows whose values are bound, guarded: its text depends on their number alone.
pub(crate) fn insert_many(side: &TableSide, rows: usize) -> String {
    let mut sql = Sql::new(side);
    sql.push("INSERT INTO ")
        .table()
        .push(" (")
        .list(0..side.columns.len(), ", ", |sql, i| {
            sql.column(i);
        })
        .push(") VALUES ");
    let row = format!("({})", vec!["?"; side.columns.len()].join(", "));
    sql.push(&vec![row.as_str(); rows].join(", "));
    match side.engine {
        Engine::MySql => on_duplicate_key(&mut sql, side, true),
        Engine::Postgres | Engine::Sqlite => on_conflict(&mut sql, side, true),
    }
    sql.finish().sql
}

/// PostgreSQL: a table's rows put, guarded.
pub(crate) fn insert_guarded_from(side: &TableSide, columns: &str, table: &str) -> String {
    let overriding = if side.overriding {
        " OVERRIDING SYSTEM VALUE"
    } else {
        ""
    };
    let mut sql = Sql::new(side);
    sql.push("INSERT INTO ")
        .table()
        .push(&format!(" ({columns}){overriding} SELECT {columns} FROM {table}"));
    on_conflict(&mut sql, side, true);
    sql.finish().sql
}

fn delete(side: &TableSide, keys: &[Key]) -> Result<Statement, String> {
    let mut sql = Sql::new(side);
    sql.push("DELETE FROM ").table().push(" WHERE ").key_in(keys)?;
    Ok(sql.finish())
}

fn stamp(side: &TableSide, rows: &[(Key, Option<Value>)]) -> Result<Statement, String> {
    let v = side.version;
    let digits = side.version_digits;
    let now = now(side)?;
    let mut sql = Sql::new(side);
    sql.push("UPDATE ").table().push(" SET ").column(v).push(" = ");
    let known: Vec<(&Key, &Value)> = rows
        .iter()
        .filter_map(|(k, s)| s.as_ref().filter(|s| !s.is_null()).map(|s| (k, s)))
        .collect();
    let tick = (digits >= 3).then(|| match side.engine {
        Engine::MySql | Engine::Sqlite => {
            format!(" + INTERVAL {} MICROSECOND", 10u32.pow(6 - u32::from(digits.min(6))))
        }
        Engine::Postgres => format!(" + INTERVAL '{} microseconds'", 10u32.pow(6 - u32::from(digits.min(6)))),
    });
    let after = |sql: &mut Sql<'_>, stored: &Value| -> Result<(), String> {
        // In the pair's precision: a finer rest could not be carried to the other side.
        let stored = match stored {
            Value::Text(t) => floor(t, usize::from(digits)),
            other => other.clone(),
        };
        sql.bind(v, &stored)?.push(tick.as_deref().unwrap_or(""));
        Ok(())
    };
    match (&known[..], rows.len()) {
        ([], _) => {
            sql.push(&now);
        }
        ([(_, stored)], 1) => {
            sql.push(&format!("GREATEST({now}, "));
            after(&mut sql, stored)?;
            sql.push(")");
        }
        _ => {
            sql.push(&format!("GREATEST({now}, CASE"));
            for (key, stored) in known {
                sql.push(" WHEN ").key_equals(key)?.push(" THEN ");
                after(&mut sql, stored)?;
            }
            sql.push(&format!(" ELSE {now} END)"));
        }
    }
    let keys: Vec<Key> = rows.iter().map(|(k, _)| k.clone()).collect();
    sql.push(" WHERE ").key_in(&keys)?;
    Ok(sql.finish())
}

/// The database's own clock in the precision of a version, cut and never rounded up.
fn now(side: &TableSide) -> Result<String, String> {
    use crate::rows::LogicalType::Timestamp;
    Ok(match side.engine {
        Engine::Sqlite => {
            return Err("SQLite is for runs from a shell, which stamp no versions; an application writes to MySQL or PostgreSQL".to_owned());
        }
        Engine::MySql => format!("NOW({})", side.version_digits.min(6)),
        Engine::Postgres => {
            let clock = if matches!(side.columns[side.version].logical, Timestamp { utc: true, .. }) {
                "clock_timestamp()"
            } else {
                "(clock_timestamp() AT TIME ZONE 'UTC')"
            };
            match side.version_digits {
                6.. => clock.to_owned(),
                3..6 => format!("date_trunc('milliseconds', {clock})"),
                _ => format!("date_trunc('second', {clock})"),
            }
        }
    })
}

#[cfg(test)]
#[path = "rowops_tests.rs"]
mod tests;
