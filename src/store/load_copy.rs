//! PostgreSQL's COPY for a table's `Load`: the statements in and out, the staging table for rows that have to pass the
//! guard, and the key of the last tuple read.

use super::cells;
use super::load::{Form, Load};
use super::{Engine, Result, StoreError, postgres, rowops, sql};
use crate::rows::Key;

impl Load {
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

    pub(crate) fn put_from_stage(&self) -> String {
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
        let conditions = [
            after.then(|| format!("({keys}) > ({})", bound("after"))),
            upto.then(|| format!("({keys}) <= ({})", bound("upto"))),
            side.filter.as_ref().map(|filter| format!("({filter})")),
            Some("1 = 1".to_owned()),
        ];
        format!(
            "COPY (SELECT {} FROM {} WHERE {} ORDER BY {keys} LIMIT {limit}) TO STDOUT WITH (FORMAT binary)",
            columns.join(", "),
            side.table.quoted(Engine::Postgres),
            conditions.into_iter().flatten().collect::<Vec<_>>().join(" AND ")
        )
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
}
