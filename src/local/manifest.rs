//! The manifest of a local run: the same file that a cluster is given, read and validated the same way.

use super::LocalError;
use super::arguments::Common;
use crate::api::{DataMigration, GROUP, Migration, VERSION, validate_local};
use kube::ResourceExt;
use serde::Deserialize;
use serde_ignored::Path as Ignored;
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
    let mut raw = strictly(value)?;
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

/// Reads the resource as an API server would be asked to with `--validate=strict`: it alone says where a manifest is wrong,
/// and a misspelt field that is passed over changes what is copied.
fn strictly(value: serde_yaml_ng::Value) -> Result<DataMigration, String> {
    let expected = format!("{GROUP}/{VERSION}");
    let found = value.get("apiVersion").and_then(serde_yaml_ng::Value::as_str);
    if found != Some(expected.as_str()) {
        return Err(format!(
            "apiVersion: expected {expected} for kind DataMigration, found {}; correct it",
            found.unwrap_or("none")
        ));
    }
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let read: Result<DataMigration, _> = serde_ignored::deserialize(tracked, |path| unknown.push(place(&path)));
    // Read above, or by the type itself.
    unknown.retain(|field| field != "apiVersion" && field != "kind");
    let mut wrong: Vec<String> = unknown
        .iter()
        .map(|field| format!("\n  {field}: no such field; correct its spelling, or remove it"))
        .collect();
    match read {
        Ok(raw) if wrong.is_empty() => return Ok(raw),
        Ok(_) => {}
        Err(error) => {
            let place = track.path().to_string();
            let place = if place == "." { "the DataMigration" } else { &place };
            wrong.push(format!("\n  {place}: cannot be read: {error}"));
        }
    }
    Err(format!(
        "the manifest is not valid (docs/reference.md has every field):{}",
        wrong.concat()
    ))
}

/// A field's path as validation writes it, such as `spec.tables[0].where`.
fn place(path: &Ignored<'_>) -> String {
    match path {
        Ignored::Root => String::new(),
        Ignored::Seq { parent, index } => format!("{}[{index}]", place(parent)),
        Ignored::Map { parent, key } => match place(parent) {
            above if above.is_empty() => key.clone(),
            above => format!("{above}.{key}"),
        },
        Ignored::Some { parent } | Ignored::NewtypeStruct { parent } | Ignored::NewtypeVariant { parent } => {
            place(parent)
        }
    }
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
    fn the_example_for_a_shell_is_valid() {
        let migration = parse(include_str!("../../examples/shell.yaml"), "n").unwrap();
        assert_eq!(tables(&migration, &[]).unwrap(), ["orders"]);
    }

    #[test]
    fn none_two_and_broken_ones_are_refused() {
        assert!(parse("kind: ConfigMap", "n").unwrap_err().contains("exactly one"));
        let twice = format!("{EXAMPLE}\n---\n{EXAMPLE}");
        assert!(parse(&twice, "n").unwrap_err().contains("exactly one"));
        let empty = "apiVersion: datamigration.dev/v1alpha1\nkind: DataMigration\nmetadata: {name: x}\nspec: {}";
        let error = parse(empty, "n").unwrap_err();
        assert!(error.contains("\n  spec: cannot be read: missing field"), "{error}");
    }

    #[test]
    fn a_misspelt_field_is_named_with_its_place() {
        let changed = |from: &str, to: &str| {
            assert!(EXAMPLE.contains(from), "{from}");
            parse(&EXAMPLE.replacen(from, to, 1), "n").unwrap_err()
        };
        for (from, to, field) in [
            (
                "    version: updated_at",
                "    whree: x\n    version: updated_at",
                "spec.tables[0].whree",
            ),
            ("    parallelism:", "    paralelism:", "spec.copy.paralelism"),
            ("  verify: {", "  verfy: {", "spec.verfy"),
            ("metadata: {", "verfy: {lag: 1s}\nmetadata: {", "verfy"),
            (
                "rateLimit: {rowsPerSecond",
                "rateLimit: {rowsASecond: 1, rowsPerSecond",
                "spec.copy.rateLimit.rowsASecond",
            ),
        ] {
            let error = changed(from, to);
            assert!(error.contains(&format!("\n  {field}: no such field")), "{error}");
        }
        // All of them at once.
        let two = EXAMPLE
            .replacen("  verify: {", "  verfy: {", 1)
            .replacen("parallelism:", "paralelism:", 1);
        assert_eq!(parse(&two, "n").unwrap_err().matches("no such field").count(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_place() {
        let second = "  tables:\n  - name: items\n  - name: orders\n";
        let error = parse(&EXAMPLE.replacen("  tables:\n  - name: orders\n", second, 1), "n").unwrap_err();
        assert!(
            error.contains("\n  spec.tables[0]: cannot be read: missing field `version`"),
            "{error}"
        );
        // A misspelt field that is needed is missing, too.
        let error = parse(&EXAMPLE.replacen("version: updated_at", "verison: updated_at", 1), "n").unwrap_err();
        assert!(
            error.contains("spec.tables[0].verison: no such") && error.contains("missing field `version`"),
            "{error}"
        );
        let error = parse(&EXAMPLE.replacen("engine: MySQL", "engine: MySLQ", 1), "n").unwrap_err();
        assert!(
            error.contains("\n  spec.source.engine: cannot be read: unknown variant `MySLQ`"),
            "{error}"
        );
    }

    #[test]
    fn a_foreign_api_version_is_refused() {
        for other in ["v1", "datamigration.dev/v2", "apps/v1"] {
            let error = parse(&EXAMPLE.replacen("datamigration.dev/v1alpha1", other, 1), "n").unwrap_err();
            assert!(error.contains(&format!("found {other}")), "{error}");
        }
        let error = parse(&EXAMPLE.replacen("apiVersion: datamigration.dev/v1alpha1", "", 1), "n").unwrap_err();
        assert!(error.contains("found none"), "{error}");
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
