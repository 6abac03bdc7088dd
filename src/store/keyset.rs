//! Keys alone, in the key's own order: where chunks and ranges end, and which keys have a row. Takes no locks.

use super::sql::{Sql, Statement, cell};
use super::{Range, Result, TableSide, Tx};
use crate::rows::Key;

/// Keys asked for in one statement.
const KEYS: usize = 1_000;

/// Which keys of a range.
#[derive(Clone, Copy)]
pub(super) enum Pick {
    All,
    /// The so-manieth, counted from 1.
    Nth(u32),
    Last,
}

/// Keys after `after` and up to `upto`.
pub(super) fn keys(
    side: &TableSide,
    (after, upto): (Option<&Key>, Option<&Key>),
    pick: Pick,
) -> Result<Statement, String> {
    let mut sql = Sql::new(side);
    sql.push("SELECT ")
        .key_list()
        .push(" FROM ")
        .table()
        .push(" WHERE 1 = 1");
    sql.between(after, upto)?;
    sql.filter().order_by_key(matches!(pick, Pick::Last));
    match pick {
        Pick::All => {}
        Pick::Nth(rows) => {
            sql.push(&format!(" LIMIT 1 OFFSET {}", rows.max(1) - 1));
        }
        Pick::Last => {
            sql.push(" LIMIT 1");
        }
    }
    Ok(sql.finish())
}

fn counts(side: &TableSide, ranges: &[Range]) -> Result<Statement, String> {
    let mut sql = Sql::new(side);
    for (nth, (after, upto)) in ranges.iter().enumerate() {
        sql.push(if nth > 0 { " UNION ALL " } else { "" });
        sql.push(&format!("SELECT {nth}, COUNT(*) FROM "))
            .table()
            .push(" WHERE 1 = 1");
        sql.between(after.as_ref(), upto.as_ref())?;
        sql.filter();
    }
    Ok(sql.finish())
}

impl Tx {
    /// Key of the last of the next `rows` rows after `after`; `None` when no row is left.
    pub async fn chunk_end(&mut self, side: &TableSide, after: Option<&Key>, rows: u32) -> Result<Option<Key>> {
        match self.key_at(side, after, None, rows).await? {
            Some(key) => Ok(Some(key)),
            None => Ok(self.picked(side, (after, None), Pick::Last).await?.pop()),
        }
    }

    /// The key of exactly the `rows`-th row after `after` and up to `upto`; `None` when there are fewer.
    pub async fn key_at(
        &mut self,
        side: &TableSide,
        after: Option<&Key>,
        upto: Option<&Key>,
        rows: u32,
    ) -> Result<Option<Key>> {
        Ok(self.picked(side, (after, upto), Pick::Nth(rows)).await?.pop())
    }

    /// Every key after `after` up to and including `upto`, in the key's order.
    pub async fn keys_after(&mut self, side: &TableSide, after: Option<&Key>, upto: Option<&Key>) -> Result<Vec<Key>> {
        self.picked(side, (after, upto), Pick::All).await
    }

    /// Which of these keys have a row.
    pub async fn keys_there(&mut self, side: &TableSide, keys: &[Key]) -> Result<Vec<Key>> {
        let mut found = Vec::with_capacity(keys.len());
        for some in keys.chunks(KEYS) {
            let mut sql = Sql::new(side);
            sql.push("SELECT ").key_list().push(" FROM ").table().push(" WHERE ");
            sql.key_in(some).map_err(|why| self.data(why))?;
            sql.filter();
            found.extend(self.key_rows(side, &sql.finish()).await?);
        }
        Ok(found)
    }

    /// How many rows each range holds, in their order.
    pub async fn count_ranges(&mut self, side: &TableSide, ranges: &[Range]) -> Result<Vec<u64>> {
        let statement = counts(side, ranges).map_err(|why| self.data(why))?;
        let mut found = vec![None; ranges.len()];
        self.each(&statement, |cells| {
            let mut numbers = cells.into_iter().map(|cell| cell.as_i64());
            let (Some(Some(nth)), Some(Some(rows))) = (numbers.next(), numbers.next()) else {
                return Err("a count without its range".to_owned());
            };
            let slot = usize::try_from(nth).ok().and_then(|nth| found.get_mut(nth));
            *slot.ok_or_else(|| format!("a count of range {nth}, which was not asked for"))? =
                Some(rows.unsigned_abs());
            Ok(())
        })
        .await?;
        found
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| self.data("the server left out the count of a range".to_owned()))
    }

    async fn picked(&mut self, side: &TableSide, range: (Option<&Key>, Option<&Key>), pick: Pick) -> Result<Vec<Key>> {
        let statement = keys(side, range, pick).map_err(|why| self.data(why))?;
        self.key_rows(side, &statement).await
    }

    async fn key_rows(&mut self, side: &TableSide, statement: &Statement) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        self.each(statement, |cells| {
            let values = cells.into_iter().zip(side.key_columns());
            let values = values.map(|(raw, column)| {
                cell(side.engine, column, raw).map_err(|why| {
                    format!(
                        "key column {}.{} holds a value that cannot be carried: {why}",
                        side.table.as_str(),
                        column.name.as_str()
                    )
                })
            });
            keys.push(Key(values.collect::<Result<_, String>>()?));
            Ok(())
        })
        .await?;
        Ok(keys)
    }
}
