//! The tables: names, key, version, columns, what is compared.

use super::findings::{Findings, duplicates, identifier};
use super::fragment::unfit;
use super::sharding;
use crate::api::database::EngineName;
use crate::api::migration::{ColumnRule, Database, Table};
use crate::api::spec::{ColumnSpec, CustomCompareSpec, TableSpec};
use std::collections::BTreeMap;

/// Prefix of the control tables.
const RESERVED: &str = "_datamigration_";

/// `sides`: source and target, for the engines of SQL that the manifest brings, and their shards.
pub(super) fn table(found: &mut Findings, at: usize, raw: &TableSpec, sides: (&Database, &Database)) -> Table {
    let engines = (sides.0.engine, sides.1.engine);
    let field = format!("spec.tables[{at}]");
    for (name, text) in [
        ("name", Some(&raw.name)),
        ("source", raw.source.as_ref()),
        ("target", raw.target.as_ref()),
        ("version", Some(&raw.version)),
    ] {
        if let Some(text) = text {
            identifier(found, &format!("{field}.{name}"), text);
        }
    }
    let named = [Some(&raw.name), raw.source.as_ref(), raw.target.as_ref()];
    if named.into_iter().flatten().any(|name| name.starts_with(RESERVED)) {
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
    let columns = raw
        .columns
        .iter()
        .flatten()
        .enumerate()
        .filter_map(|(nth, raw)| column(found, &format!("{field}.columns[{nth}]"), raw, engines))
        .collect::<Vec<_>>();
    let rules = format!("{field}.columns");
    duplicates(found, &rules, "source", columns.iter().filter_map(ColumnRule::source));
    duplicates(found, &rules, "target", columns.iter().filter_map(ColumnRule::target));
    for rule in &columns {
        let what = match rule {
            ColumnRule::Rename { .. } => continue,
            ColumnRule::Drop { .. } => "dropped",
            ColumnRule::Computed { .. } => "computed",
        };
        if let Some(source) = rule.source()
            && (source == raw.version || raw.key.iter().flatten().any(|column| column == source))
        {
            let text = format!("{source} is part of key or version and cannot be {what}");
            found.add(rules.clone(), text);
        }
    }
    for (name, text, engine) in [
        ("where", &raw.filter, engines.0),
        ("whereTarget", &raw.target_filter, engines.1),
    ] {
        if let Some(why) = text.as_ref().and_then(|text| unfit(text, engine)) {
            found.add(format!("{field}.{name}"), format!("is no condition: {why}"));
        }
    }
    if let (Some(text), None) = (&raw.filter, &raw.target_filter)
        && let Some(why) = unfit(text, engines.1)
    {
        let text = format!("is needed, because `where` cannot stand in the target's SQL: {why}");
        found.add(format!("{field}.whereTarget"), text);
    }
    if raw.filter.is_none() && raw.target_filter.is_some() {
        let text = "needs `where`, the same condition in the source's SQL";
        found.add(format!("{field}.whereTarget"), text);
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
    let ignore = compare.ignore.unwrap_or_default();
    let custom = compare.custom.unwrap_or_default();
    custom_comparisons(
        found,
        &format!("{field}.compare"),
        &custom,
        &ignore,
        &tolerance,
        engines,
    );
    Table {
        name: raw.name.clone(),
        source: raw.source.clone().unwrap_or_else(|| raw.name.clone()),
        target: raw.target.clone().unwrap_or_else(|| raw.name.clone()),
        key: raw.key.clone(),
        version: raw.version.clone(),
        filter: raw.filter.clone(),
        target_filter: raw.target_filter.clone(),
        columns,
        ignore,
        tolerance,
        custom,
        sharding: sharding::sharding(found, &field, raw, sides),
    }
}

fn custom_comparisons(
    found: &mut Findings,
    field: &str,
    custom: &[CustomCompareSpec],
    ignore: &[String],
    tolerance: &BTreeMap<String, f64>,
    engines: (EngineName, EngineName),
) {
    let columns = || custom.iter().map(|one| one.column.as_str());
    duplicates(found, &format!("{field}.custom"), "column", columns());
    for (nth, one) in custom.iter().enumerate() {
        identifier(found, &format!("{field}.custom[{nth}].column"), &one.column);
        for (name, text, engine) in [("source", &one.source, engines.0), ("target", &one.target, engines.1)] {
            if let Some(why) = unfit(text, engine) {
                found.add(
                    format!("{field}.custom[{nth}].{name}"),
                    format!("is no expression: {why}"),
                );
            }
        }
        if ignore.contains(&one.column) || tolerance.contains_key(&one.column) {
            let text = format!(
                "{} stands in ignore or tolerance too; a column is compared in one way",
                one.column
            );
            found.add(format!("{field}.custom[{nth}].column"), text);
        }
    }
}

fn column(
    found: &mut Findings,
    field: &str,
    raw: &ColumnSpec,
    engines: (EngineName, EngineName),
) -> Option<ColumnRule> {
    for (name, text) in [("source", &raw.source), ("target", &raw.target)] {
        if let Some(text) = text {
            identifier(found, &format!("{field}.{name}"), text);
        }
    }
    for (name, text, engine) in [
        ("expression", &raw.expression, engines.0),
        ("reverse", &raw.reverse, engines.1),
    ] {
        if let Some(why) = text.as_ref().and_then(|text| unfit(text, engine)) {
            found.add(format!("{field}.{name}"), format!("is no expression: {why}"));
        }
    }
    if raw.reverse.is_some() && raw.expression.is_none() {
        let text = "is the way back of an expression; give the expression too";
        found.add(format!("{field}.reverse"), text);
        return None;
    }
    match (&raw.source, &raw.target, &raw.expression, raw.drop.unwrap_or(false)) {
        (Some(source), None, None, true) => Some(ColumnRule::Drop { source: source.clone() }),
        (Some(source), Some(target), None, false) => Some(ColumnRule::Rename {
            source: source.clone(),
            target: target.clone(),
        }),
        (source, Some(target), Some(expression), false) => Some(ColumnRule::Computed {
            source: source.clone(),
            target: target.clone(),
            expression: expression.clone(),
            reverse: raw.reverse.clone(),
        }),
        _ => {
            let text = "says neither {source, target} (rename) nor {source, drop: true} (leave out) nor {target, expression} \
                        (compute)";
            found.add(field, text);
            None
        }
    }
}
