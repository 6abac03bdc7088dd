//! What the application says of a table, and the table's sides made from it: the narrow one (key and version, known
//! from the base alone) and the pair (all mapped columns, which needs both databases' schemas).

use crate::rows::{ShardBy, ShardFunction, TemplateError, numbered};
use crate::store::{ColumnMapping, TableMapping, TablePair, TableSchema, TableSide};
use crate::words::Side;

/// One table as the migration maps it; columns go by name unless renamed or dropped.
#[derive(Debug, Clone)]
pub struct TableDefinition {
    name: String,
    mapping: TableMapping,
    shard_by: Option<ShardBy>,
    source_shard_by: Option<ShardBy>,
}

fn shard_by<'a>(columns: impl IntoIterator<Item = &'a str>, function: ShardFunction) -> ShardBy {
    ShardBy {
        columns: columns.into_iter().map(str::to_owned).collect(),
        function,
    }
}

impl TableDefinition {
    /// `key`: the source's columns that identify a row, in the order of their index. `version`: the source's column
    /// that the library stamps.
    pub fn new<'a>(name: &str, key: impl IntoIterator<Item = &'a str>, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            mapping: TableMapping {
                source: name.to_owned(),
                target: name.to_owned(),
                key: key.into_iter().map(str::to_owned).collect(),
                version: version.to_owned(),
                ..TableMapping::default()
            },
            shard_by: None,
            source_shard_by: None,
        }
    }

    /// How rows find their shard on a side that has several: by these columns of the key, named as in the source. As the
    /// manifest's `shardBy`.
    #[must_use]
    pub fn shard_by<'a>(mut self, columns: impl IntoIterator<Item = &'a str>, function: ShardFunction) -> Self {
        self.shard_by = Some(shard_by(columns, function));
        self
    }

    /// The same for the source alone, where its shards are found in another way than the target's.
    #[must_use]
    pub fn source_shard_by<'a>(mut self, columns: impl IntoIterator<Item = &'a str>, function: ShardFunction) -> Self {
        self.source_shard_by = Some(shard_by(columns, function));
        self
    }

    /// The table's name in the source, when it is another one. `{shard}` or `{shard:02}` (2 digits) in it is the shard's
    /// number, for shards that share a database. As the manifest's `source`.
    #[must_use]
    pub fn source(mut self, name: &str) -> Self {
        name.clone_into(&mut self.mapping.source);
        self
    }

    /// The table's name in the target, when it is another one; with the shard's number likewise.
    #[must_use]
    pub fn target(mut self, name: &str) -> Self {
        name.clone_into(&mut self.mapping.target);
        self
    }

    #[must_use]
    pub fn rename(mut self, source: &str, target: &str) -> Self {
        let (source, target) = (source.to_owned(), target.to_owned());
        self.mapping.columns.push(ColumnMapping::Rename { source, target });
        self
    }

    /// The source's column is not carried.
    #[must_use]
    pub fn drop_column(mut self, source: &str) -> Self {
        self.mapping.columns.push(ColumnMapping::Drop {
            source: source.to_owned(),
        });
        self
    }

    /// The target's column holds this expression of the source's SQL over the source's row; `source` is the column that it
    /// replaces, and `reverse` computes that one from the target's row, in the target's SQL. As in the manifest.
    #[must_use]
    pub fn compute(mut self, source: Option<&str>, target: &str, expression: &str, reverse: Option<&str>) -> Self {
        self.mapping.columns.push(ColumnMapping::Computed {
            source: source.map(str::to_owned),
            target: target.to_owned(),
            expression: expression.to_owned(),
            reverse: reverse.map(str::to_owned),
        });
        self
    }

    /// Only rows that meet the condition are kept in step; one that no longer does is deleted from the follower. `target`
    /// is the same condition in the target's SQL and column names. As the manifest's `where` and `whereTarget`.
    #[must_use]
    pub fn filter(mut self, source: &str, target: &str) -> Self {
        self.mapping.filter = Some(source.to_owned());
        self.mapping.target_filter = Some(target.to_owned());
        self
    }

    /// The name by which the application and the control tables' rows call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name on one side; with a place for the shard's number where the shards' tables have different names.
    pub fn name_on(&self, side: Side) -> &str {
        match side {
            Side::Source => &self.mapping.source,
            Side::Target => &self.mapping.target,
        }
    }

    /// Its name in one shard of a side.
    pub(super) fn name_in(&self, side: Side, shard: usize) -> Result<String, TemplateError> {
        numbered(self.name_on(side), shard)
    }

    pub(super) fn key(&self) -> &[String] {
        &self.mapping.key
    }

    pub(super) fn function_on(&self, side: Side) -> Option<&ShardBy> {
        match side {
            Side::Source => self.source_shard_by.as_ref().or(self.shard_by.as_ref()),
            Side::Target => self.shard_by.as_ref(),
        }
    }

    fn column_on(&self, side: Side, name: &str) -> String {
        let renamed = self.mapping.columns.iter().find_map(|column| match column {
            ColumnMapping::Rename { source, target } if source == name => Some(target.clone()),
            _ => None,
        });
        match (side, renamed) {
            (Side::Target, Some(target)) => target,
            _ => name.to_owned(),
        }
    }

    /// The source's name of a side's column.
    pub(super) fn source_column<'a>(&'a self, side: Side, name: &'a str) -> &'a str {
        let renamed = self.mapping.columns.iter().find_map(|column| match column {
            ColumnMapping::Rename { source, target } if target == name => Some(source.as_str()),
            _ => None,
        });
        match (side, renamed) {
            (Side::Target, Some(source)) => source,
            _ => name,
        }
    }

    /// Key and version on one side, whatever the other side is: enough to lock rows and to stamp them.
    pub(super) fn narrow(&self, side: Side, mut schema: TableSchema) -> Result<TableSide, String> {
        let key: Vec<String> = self.mapping.key.iter().map(|name| self.column_on(side, name)).collect();
        let version = self.column_on(side, &self.mapping.version);
        schema
            .columns
            .retain(|column| key.contains(&column.name) || column.name == version);
        let mapping = TableMapping {
            source: schema.name.clone(),
            target: schema.name.clone(),
            key: key.clone(),
            version,
            ..TableMapping::default()
        };
        // A side alone is a pair with itself.
        let pair = TablePair::new(schema.clone(), schema, &mapping).map_err(|problems| sentences(&problems))?;
        let mut narrow = pair.source;
        narrow.side = side;
        narrow.key = positions(&narrow, &key)?;
        Ok(narrow)
    }

    /// Both sides with all mapped columns.
    pub(super) fn pair(&self, source: TableSchema, target: TableSchema) -> Result<TablePair, String> {
        let pair = TablePair::new(source, target, &self.mapping).map_err(|problems| sentences(&problems))?;
        let found: Vec<&str> = pair.source.key_columns().map(|column| column.name.as_str()).collect();
        if found != self.mapping.key {
            return Err(format!(
                "table {} has its key columns in the order ({}), the definition says ({}); say them in the index's order",
                self.name,
                found.join(", "),
                self.mapping.key.join(", ")
            ));
        }
        Ok(pair)
    }
}

fn sentences(problems: &[crate::store::PairProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn positions(side: &TableSide, names: &[String]) -> Result<Vec<usize>, String> {
    names
        .iter()
        .map(|name| side.columns.iter().position(|column| column.name.as_str() == name))
        .collect::<Option<_>>()
        .ok_or_else(|| {
            format!(
                "table {} lacks a key column of ({})",
                side.table.as_str(),
                names.join(", ")
            )
        })
}
