//! Manifests for tests: one complete small one, and the same with single fields changed.

use super::spec::DataMigration;
use serde_json::{Value, json};

/// The smallest manifest that is complete.
pub fn orders() -> DataMigration {
    serde_json::from_value(raw()).unwrap()
}

/// The same with fields of the spec replaced; a path is like `tables/0/name`.
pub fn with(changes: &[(&str, Value)]) -> DataMigration {
    let mut manifest = raw();
    for (path, value) in changes {
        let mut at = &mut manifest["spec"];
        for step in path.split('/') {
            at = match step.parse::<usize>() {
                Ok(index) => {
                    let list = at.as_array_mut().unwrap();
                    if index == list.len() {
                        list.push(Value::Null);
                    }
                    &mut list[index]
                }
                Err(_) => &mut at[step],
            };
        }
        *at = value.clone();
    }
    serde_json::from_value(manifest).unwrap()
}

fn raw() -> Value {
    json!({
        "apiVersion": "datamigration.dev/v1alpha1",
        "kind": "DataMigration",
        "metadata": {"name": "orders", "namespace": "shop", "uid": "u-1", "generation": 4},
        "spec": {
            "strategy": "DualWrite",
            "phase": "SourceFirst",
            "source": {"engine": "MySQL", "shards": [{"name": "main", "urlSecretRef": {"name": "orders-mysql"}}]},
            "target": {"engine": "PostgreSQL", "shards": [{"name": "main", "urlSecretRef": {"name": "orders-postgres"}}]},
            "tables": [{"name": "orders", "version": "updated_at"}],
            "application": {
                "configMapRef": {"name": "orders-database-mode"},
                "acknowledge": {"selector": {"matchLabels": {"app": "shop"}}},
            },
        },
    })
}
