//! A source table as the archive reads it: every column, mapped or not, because what is archived may be all that stays.

use std::sync::Arc;

use crate::api::migration::Table;
use crate::rows::{LogicalType, judge};
use crate::store::{ColumnSchema, Engine, Ident, KeyRequest, MappedColumn, TableSchema, TableSide};
use crate::words::Side;
use crate::workers::error::WorkError;

/// The whole table, with the manifest's key and subset.
pub fn whole(schema: TableSchema, table: &Table) -> Result<TableSide, WorkError> {
    let unsuitable = |found: String| {
        WorkError::permanent(
            "TableUnsuitable",
            format!(
                "table {} of the source cannot be archived: {found}; undo what was changed since the copy",
                table.name
            ),
        )
    };
    let request = table.key.as_deref().map_or(KeyRequest::PrimaryKey, KeyRequest::Columns);
    let index = schema.identifying_key(request).cloned();
    let index = index.ok_or_else(|| unsuitable("its key is gone".to_owned()))?;
    let columns: Vec<MappedColumn> = schema
        .columns
        .iter()
        .map(|column| mapped(schema.engine, column))
        .collect::<Result<_, _>>()?;
    let position = |name: &str| schema.columns.iter().position(|column| column.name == name);
    let key: Vec<usize> = index.columns.iter().filter_map(|name| position(name)).collect();
    if key.is_empty() || key.len() != index.columns.len() {
        return Err(unsuitable("a column of its key is gone".to_owned()));
    }
    let version =
        position(&table.version).ok_or_else(|| unsuitable(format!("its version column {} is gone", table.version)))?;
    Ok(TableSide {
        side: Side::Source,
        engine: schema.engine,
        table: Ident::new(schema.name.clone())?,
        columns,
        key,
        version,
        version_digits: 6,
        filter: table.filter.clone(),
        key_index: index.name,
        other_unique: Vec::new(),
        self_stamping: Vec::new(),
        overriding: false,
        schema: Arc::new(schema),
    })
}

/// What one column holds, and the spelling in which it is archived.
fn mapped(engine: Engine, column: &ColumnSchema) -> Result<MappedColumn, WorkError> {
    let (logical, carry) = match (&column.logical, engine) {
        // By habit a boolean, by type a small number.
        (LogicalType::Bool, Engine::MySql) => (
            LogicalType::Int {
                bits: 8,
                unsigned: false,
            },
            LogicalType::Int {
                bits: 64,
                unsigned: false,
            },
        ),
        // What cannot be carried to another database can still be kept, as its text.
        (LogicalType::Other(_), _) => (column.logical.clone(), LogicalType::text(None)),
        (logical, _) => (logical.clone(), judge(logical, logical).carry),
    };
    Ok(MappedColumn {
        name: Ident::new(column.name.clone())?,
        logical,
        carry,
        native: column.native.clone(),
        nullable: column.nullable,
    })
}
