//! Shards and how rows find them: what can never become valid is refused here, what only the tables tell in preflight.

use super::findings::{Findings, duplicates, identifier};
use crate::api::migration::{Database, Placement, Sharding, Table};
use crate::api::spec::{ShardFunction as Function, TableSpec};
use crate::rows::{ShardBy, ShardFunction, is_template, numbered};
use crate::words::Side;
use std::collections::BTreeMap;

/// Control tables know what is kept per pair of shards as `name#63-63`, in 64 bytes.
const LONGEST_NAME: usize = 64 - "#63-63".len();

/// How a table's rows find their shard on both sides. `sides`: source and target.
pub(super) fn sharding(
    found: &mut Findings,
    field: &str,
    raw: &TableSpec,
    (source, target): (&Database, &Database),
) -> Sharding {
    let several = source.shards.len() > 1 || target.shards.len() > 1;
    for (name, template, database) in [
        ("source", raw.source.as_ref().unwrap_or(&raw.name), source),
        ("target", raw.target.as_ref().unwrap_or(&raw.name), target),
    ] {
        numbers(found, &format!("{field}.{name}"), template, database);
    }
    if is_template(&raw.name) {
        let text = "is the table's name everywhere and has no place for a shard's number; give that one as `source`";
        found.add(format!("{field}.name"), text);
    }
    if raw
        .source
        .as_ref()
        .is_some_and(|source| *source != raw.name && !is_template(source))
    {
        let text = "is for names with a place for the shard's number, such as orders_{shard:02}; give the table's name as `name`";
        found.add(format!("{field}.source"), text);
    }
    if several && raw.name.len() > LONGEST_NAME {
        let text = format!(
            "is longer than the {LONGEST_NAME} bytes that a sharded table's name may have; give it as `source` and `target`"
        );
        found.add(format!("{field}.name"), text);
    }
    let Some(by) = &raw.shard_by else {
        if several {
            let text = "is missing: a side has several shards; say which columns decide, such as {columns: [user_id], function: Modulo}";
            found.add(format!("{field}.shardBy"), text);
        }
        return Sharding::default();
    };
    if !several {
        let text = "has no use, because both sides have one shard; remove it";
        found.add(format!("{field}.shardBy"), text);
    }
    let (count, of_source) = (target.shards.len(), source.shards.len());
    let own = by.source.as_ref().filter(|_| of_source > 1);
    if by.source.is_some() && own.is_none() {
        let text = "has no use, because the source has one shard; remove it";
        found.add(format!("{field}.shardBy.source"), text);
    }
    if own.is_some() && count < 2 {
        let text =
            "says the same as shardBy itself, because the target has one shard: give it there, and remove `source`";
        found.add(format!("{field}.shardBy.source"), text);
    }
    let mut place = |field: &str, columns: &[String], function: Function, bounds: Option<&Vec<i64>>, shards: usize| {
        let key = raw.key.as_deref();
        placement(found, field, (columns, key), (function, bounds), shards)
    };
    let general = format!("{field}.shardBy");
    let on_target = (count > 1).then(|| place(&general, &by.columns, by.function, by.bounds.as_ref(), count));
    let on_source = (of_source > 1).then(|| match own {
        None => place(&general, &by.columns, by.function, by.bounds.as_ref(), of_source),
        Some(own) => {
            let field = format!("{field}.shardBy.source");
            place(&field, &own.columns, own.function, own.bounds.as_ref(), of_source)
        }
    });
    Sharding {
        source: on_source,
        target: on_target,
    }
}

fn placement(
    found: &mut Findings,
    field: &str,
    (columns, key): (&[String], Option<&[String]>),
    (function, bounds): (Function, Option<&Vec<i64>>),
    shards: usize,
) -> Placement {
    if columns.is_empty() {
        found.add(format!("{field}.columns"), "names no column; name one");
    }
    duplicates(
        found,
        &format!("{field}.columns"),
        "column",
        columns.iter().map(String::as_str),
    );
    for column in columns {
        identifier(found, &format!("{field}.columns"), column);
        if key.is_some_and(|key| !key.contains(column)) {
            let text = format!(
                "{column} is no column of the table's `key`: a row's shard has to follow from its key; name the columns of a unique, \
                 not-null index that has {column} as `key`"
            );
            found.add(format!("{field}.columns"), text);
        }
    }
    if function != Function::Hash && columns.len() > 1 {
        let text = "has several entries; Modulo and Range take exactly one column, Hash takes several";
        found.add(format!("{field}.columns"), text);
    }
    if function != Function::Range && bounds.is_some() {
        found.add(format!("{field}.bounds"), "belong to function Range only; remove them");
    }
    let bounds = bounds.cloned().unwrap_or_default();
    if function == Function::Range {
        if bounds.len() + 1 != shards {
            let text = format!(
                "{} bounds divide rows between {} shards, and the side has {shards}; expected {} (where the sides' shards differ, give \
                 the source's own as shardBy.source)",
                bounds.len(),
                bounds.len() + 1,
                shards - 1
            );
            found.add(format!("{field}.bounds"), text);
        }
        if bounds.windows(2).any(|two| two[0] >= two[1]) {
            found.add(
                format!("{field}.bounds"),
                "do not ascend; each has to be above the one before it",
            );
        }
    }
    Placement {
        by: ShardBy {
            columns: columns.to_vec(),
            function: match function {
                Function::Modulo => ShardFunction::Modulo,
                Function::Hash => ShardFunction::Hash,
                Function::Range => ShardFunction::Range { bounds },
            },
        },
        shards,
    }
}

/// A place for the shard's number, where one is needed and only there.
fn numbers(found: &mut Findings, field: &str, template: &str, database: &Database) {
    if let Err(error) = numbered(template, 0) {
        found.add(field, error.to_string());
        return;
    }
    let shared = database
        .shards
        .iter()
        .enumerate()
        .any(|(at, shard)| database.shards[..at].iter().any(|other| other.url == shard.url));
    if shared && !is_template(template) {
        let text = format!(
            "{template:?} is one table for several shards in one database (the same urlSecretRef): give each its own, such as \
             {template}_{{shard:02}}"
        );
        found.add(field, text);
    }
    if is_template(template) && database.shards.len() < 2 {
        let text =
            format!("{template:?} has a place for a shard's number, and the side has one shard; give the table's name");
        found.add(field, text);
    }
    for shard in 0..database.shards.len() {
        if let Ok(name) = numbered(template, shard) {
            identifier(found, field, &name);
        }
    }
}

/// No two tables, or shards of one, are the same table of a database.
pub(super) fn apart(found: &mut Findings, tables: &[Table], (source, target): (&Database, &Database)) {
    for (side, database) in [(Side::Source, source), (Side::Target, target)] {
        let mut seen = BTreeMap::new();
        for table in tables {
            for (at, shard) in database.shards.iter().enumerate() {
                let name = table.name_on(side, at);
                let place = (shard.url.name.clone(), shard.url.key.clone(), name.clone());
                if let Some((other, _)) = seen.insert(place, (table.name.clone(), at))
                    && other != table.name
                {
                    let text = format!(
                        "{side} {name:?} stands there twice, for {other} and {}; keep one",
                        table.name
                    );
                    found.add("spec.tables", text);
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::api::fixtures::with;
    use crate::api::validate;
    use crate::rows::ShardFunction;
    use crate::words::Side;
    use serde_json::{Value, json};

    fn shards(secrets: &[&str]) -> Value {
        let one = |(at, secret): (usize, &&str)| json!({"name": format!("s{at}"), "urlSecretRef": {"name": secret}});
        json!(secrets.iter().enumerate().map(one).collect::<Vec<_>>())
    }

    fn refused(changes: &[(&str, Value)]) -> String {
        let found = validate(&with(changes)).unwrap_err();
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn each_side_divides_rows_between_its_own_shards() {
        let by = json!({"columns": ["user_id"], "function": "Range", "bounds": [10, 20],
            "source": {"columns": ["id"], "function": "Hash"}});
        let migration = validate(&with(&[
            ("source/shards", shards(&["a", "b"])),
            ("target/shards", shards(&["c", "c", "c"])),
            ("tables/0/shardBy", by),
            ("tables/0/target", json!("orders_{shard:02}")),
        ]))
        .unwrap();
        let table = &migration.tables[0];
        let (source, target) = (
            table.sharding.source.as_ref().unwrap(),
            table.sharding.target.as_ref().unwrap(),
        );
        assert_eq!((source.shards, &source.by.function), (2, &ShardFunction::Hash));
        assert_eq!(target.by.function, ShardFunction::Range { bounds: vec![10, 20] });
        assert_eq!(table.name_on(Side::Source, 1), "orders");
        assert_eq!(table.name_on(Side::Target, 2), "orders_02");
    }

    #[test]
    fn what_can_never_become_valid_is_refused_by_name() {
        let two = ("target/shards", shards(&["c", "d"]));
        let by = |by: Value| ("tables/0/shardBy", by);
        let modulo = json!({"columns": ["user_id"], "function": "Modulo"});
        for (changes, expected) in [
            (vec![two.clone()], "shardBy: is missing"),
            (
                vec![two.clone(), by(modulo.clone()), ("tables/0/key", json!(["id"]))],
                "shardBy.columns: user_id is no column of the table's `key`",
            ),
            (
                vec![two.clone(), by(json!({"columns": ["a", "b"], "function": "Modulo"}))],
                "take exactly one column",
            ),
            (
                vec![
                    two.clone(),
                    by(json!({"columns": ["a"], "function": "Range", "bounds": [1, 2]})),
                ],
                "2 bounds divide rows between 3 shards, and the side has 2",
            ),
            (
                vec![
                    ("target/shards", shards(&["c", "d", "e"])),
                    by(json!({"columns": ["a"], "function": "Range", "bounds": [2, 2]})),
                ],
                "do not ascend",
            ),
            (
                vec![
                    two.clone(),
                    by(json!({"columns": ["a"], "function": "Hash", "bounds": [2]})),
                ],
                "bounds: belong to function Range only",
            ),
            (
                vec![
                    two.clone(),
                    by(json!({"columns": ["a"], "function": "Hash", "source": modulo})),
                ],
                "shardBy.source: has no use",
            ),
            (
                vec![("target/shards", shards(&["c", "c"])), by(modulo.clone())],
                "target: \"orders\" is one table for several shards in one database",
            ),
            (
                vec![("tables/0/source", json!("other"))],
                "source: is for names with a place",
            ),
            (
                vec![("tables/0/target", json!("orders_{shard}"))],
                "the side has one shard",
            ),
            (
                vec![
                    two.clone(),
                    by(modulo.clone()),
                    ("tables/0/target", json!("orders_{shard:2}")),
                ],
                "target: `orders_{shard:2}` is no name",
            ),
            (
                vec![two, by(modulo), ("tables/0/name", json!("o".repeat(60)))],
                "is longer than the 58 bytes",
            ),
        ] {
            let found = refused(&changes);
            assert!(found.contains(expected), "expected {expected:?} in {found:?}");
        }
    }

    #[test]
    fn two_tables_cannot_be_one() {
        let found = refused(&[
            ("target/shards", shards(&["c", "c"])),
            ("tables/0/shardBy", json!({"columns": ["id"], "function": "Modulo"})),
            ("tables/0/target", json!("a_{shard}")),
            (
                "tables/1",
                json!({"name": "other", "version": "updated_at", "target": "a_{shard:01}",
                    "shardBy": {"columns": ["id"], "function": "Modulo"}}),
            ),
        ]);
        assert!(found.contains("stands there twice, for orders and other"), "{found}");
    }
}
