//! The manifest of a local run: the same file that a cluster is given, read and validated the same way.

use super::LocalError;
use super::arguments::Common;
use crate::api::{DataMigration, Migration, validate_local};
use kube::ResourceExt;
use serde::Deserialize;
use std::io::Read;
use std::path::Path;

/// The one DataMigration in the file, validated. Other resources in the same file are passed over.
pub fn read(common: &Common) -> Result<Migration, LocalError> {
    let shown = common.file.display();
    let text = load(&common.file).map_err(|error| LocalError::Usage(format!("{shown}: {error}")))?;
    parse(&text, &common.namespace).map_err(|why| LocalError::Usage(format!("{shown}: {why}")))
}

fn load(path: &Path) -> std::io::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(path)
}

fn parse(text: &str, namespace: &str) -> Result<Migration, String> {
    let mut found = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let value = serde_yaml_ng::Value::deserialize(document).map_err(|error| error.to_string())?;
        if value.get("kind").and_then(serde_yaml_ng::Value::as_str) == Some("DataMigration") {
            found.push(value);
        }
    }
    let (Some(value), true) = (found.pop(), found.is_empty()) else {
        return Err("expected exactly one resource of kind DataMigration".to_owned());
    };
    let mut raw: DataMigration =
        serde_yaml_ng::from_value(value).map_err(|error| format!("the DataMigration cannot be read: {error}"))?;
    if raw.namespace().is_none_or(|namespace| namespace.is_empty()) {
        raw.metadata.namespace = Some(namespace.to_owned());
    }
    if raw.uid().is_none_or(|uid| uid.is_empty()) {
        // Control rows name whose they are; an operator's migration of the same name takes them over.
        raw.metadata.uid = Some("local".to_owned());
    }
    let mut migration = validate_local(&raw).map_err(|found| {
        let found: Vec<String> = found.iter().map(|one| format!("\n  {one}")).collect();
        format!("the manifest is not valid:{}", found.concat())
    })?;
    // This process is alone, and has the whole of every limit.
    migration.copy.pods = 1;
    Ok(migration)
}

/// The tables that were asked for, in the manifest's order.
pub fn tables(migration: &Migration, asked: &[String]) -> Result<Vec<String>, LocalError> {
    if let Some(unknown) = asked.iter().find(|name| migration.table(name).is_none()) {
        let known: Vec<&str> = migration.tables.iter().map(|table| table.name.as_str()).collect();
        return Err(LocalError::Usage(format!(
            "--table {unknown}: the manifest has no such table; it has {}",
            known.join(", ")
        )));
    }
    Ok(migration
        .tables
        .iter()
        .map(|table| table.name.clone())
        .filter(|name| asked.is_empty() || asked.contains(name))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../examples/orders.yaml");

    #[test]
    fn a_cluster_s_manifest_is_taken_as_it_is() {
        let migration = parse(EXAMPLE, "default").unwrap();
        assert_eq!(migration.uid, "local");
        assert!(!tables(&migration, &[]).unwrap().is_empty());
        let with_others = format!("kind: Namespace\n---\n{EXAMPLE}");
        assert_eq!(parse(&with_others, "default").unwrap().id(), migration.id());
    }

    #[test]
    fn none_two_and_broken_ones_are_refused() {
        assert!(parse("kind: ConfigMap", "n").unwrap_err().contains("exactly one"));
        let twice = format!("{EXAMPLE}\n---\n{EXAMPLE}");
        assert!(parse(&twice, "n").unwrap_err().contains("exactly one"));
        let error = parse("kind: DataMigration\nmetadata: {name: x}\nspec: {}", "n").unwrap_err();
        assert!(error.contains("cannot be read"), "{error}");
    }

    #[test]
    fn a_table_that_is_not_in_the_manifest_is_named() {
        let migration = parse(EXAMPLE, "n").unwrap();
        let error = tables(&migration, &["nothing".to_owned()]).unwrap_err().to_string();
        assert!(
            error.contains("nothing") && error.contains(&migration.tables[0].name),
            "{error}"
        );
    }
}
