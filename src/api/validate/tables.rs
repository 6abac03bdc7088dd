//! The tables: names, key, version, columns, what is compared.

use super::findings::{Findings, duplicates, identifier};
use crate::api::migration::{ColumnRule, Table};
use crate::api::spec::TableSpec;

/// Prefix of the control tables.
const RESERVED: &str = "_datamigration_";

pub(super) fn table(found: &mut Findings, at: usize, raw: &TableSpec) -> Table {
    let field = format!("spec.tables[{at}]");
    for (name, text) in [
        ("name", Some(&raw.name)),
        ("target", raw.target.as_ref()),
        ("version", Some(&raw.version)),
    ] {
        if let Some(text) = text {
            identifier(found, &format!("{field}.{name}"), text);
        }
    }
    if raw.name.starts_with(RESERVED) || raw.target.as_ref().is_some_and(|name| name.starts_with(RESERVED)) {
        found.add(
            format!("{field}.name"),
            format!("names that begin with {RESERVED} belong to datamigration itself"),
        );
    }
    if let Some(key) = &raw.key {
        if key.is_empty() {
            found.add(
                format!("{field}.key"),
                "names no column; name some, or leave it out for the primary key",
            );
        }
        duplicates(found, &format!("{field}.key"), "column", key.iter().map(String::as_str));
        for column in key {
            identifier(found, &format!("{field}.key"), column);
        }
    }
    if raw.shard_by.is_some() {
        found.not_yet(format!("{field}.shardBy"), "sharding", "remove it");
    }
    let columns = raw
        .columns
        .iter()
        .flatten()
        .enumerate()
        .filter_map(|(nth, column)| {
            let field = format!("{field}.columns[{nth}]");
            if column.expression.is_some() || column.reverse.is_some() {
                found.not_yet(
                    format!("{field}.expression"),
                    "an expression",
                    "carry the column as it is, or drop it",
                );
                return None;
            }
            match (&column.source, &column.target, column.drop.unwrap_or(false)) {
                (Some(source), None, true) => {
                    identifier(found, &format!("{field}.source"), source);
                    Some(ColumnRule::Drop { source: source.clone() })
                }
                (Some(source), Some(target), false) => {
                    identifier(found, &format!("{field}.source"), source);
                    identifier(found, &format!("{field}.target"), target);
                    Some(ColumnRule::Rename {
                        source: source.clone(),
                        target: target.clone(),
                    })
                }
                _ => {
                    found.add(
                        field,
                        "says neither {source, target} (rename) nor {source, drop: true} (leave out)",
                    );
                    None
                }
            }
        })
        .collect::<Vec<_>>();
    let from = columns.iter().map(|rule| match rule {
        ColumnRule::Rename { source, .. } | ColumnRule::Drop { source } => source.as_str(),
    });
    duplicates(found, &format!("{field}.columns"), "source", from);
    for rule in &columns {
        if let ColumnRule::Drop { source } = rule
            && (*source == raw.version || raw.key.iter().flatten().any(|column| column == source))
        {
            found.add(
                format!("{field}.columns"),
                format!("{source} is part of key or version and cannot be dropped"),
            );
        }
    }
    let compare = raw.compare.clone().unwrap_or_default();
    let tolerance = compare.tolerance.unwrap_or_default();
    for (column, tolerance) in &tolerance {
        if !tolerance.is_finite() || *tolerance < 0.0 {
            found.add(
                format!("{field}.compare.tolerance.{column}"),
                "must be a finite number that is not negative",
            );
        }
    }
    Table {
        name: raw.name.clone(),
        target: raw.target.clone().unwrap_or_else(|| raw.name.clone()),
        key: raw.key.clone(),
        version: raw.version.clone(),
        filter: raw.filter.clone(),
        columns,
        ignore: compare.ignore.unwrap_or_default(),
        tolerance,
    }
}
