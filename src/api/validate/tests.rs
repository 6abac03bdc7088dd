//! Defaults, and every field that cannot be honoured refused by name.

use std::time::Duration;

use serde_json::{Value, json};

use super::{parse_duration, validate};
use crate::api::database::TlsModeName;
use crate::api::fixtures::{orders, with};
use crate::api::migration::{CopySettings, Limits};
use crate::api::tuning::SecondaryIndexes;
use crate::words::{ModeKeys, Side};

fn refused(path: &str, value: Value) -> String {
    let errors = validate(&with(&[(path, value)])).unwrap_err();
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn defaults_are_filled() {
    let migration = validate(&orders()).unwrap();
    assert_eq!(migration.id(), "shop/orders");
    assert_eq!(migration.source.shards[0].url.key, "url");
    assert_eq!(migration.source.tls_mode, TlsModeName::VerifyFull);
    assert_eq!(migration.tables[0].target, "orders");
    assert_eq!(
        migration.copy,
        CopySettings {
            parallelism: 4,
            pods: 1,
            create_tables: false,
            secondary_indexes: SecondaryIndexes::Before,
            limits: Limits::default(),
        }
    );
    assert_eq!(migration.verify.lag, Duration::from_mins(1));
    assert_eq!(migration.verify.max_deletes, 1000);
    assert_eq!(migration.gates.clean_for, Duration::from_mins(10));
    assert_eq!(migration.application.acknowledge_timeout, Duration::from_mins(5));
    assert_eq!(migration.application.keys, ModeKeys::default());
    assert_eq!(migration.worker.service_account, None);
}

/// Each row: a field, a value that cannot be honoured, and what the refusal has to name.
#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let rows = [
        ("strategy", json!("Capture"), "spec.strategy: Capture is not supported"),
        ("source/engine", json!("SQLite"), "spec.source.engine: SQLite"),
        ("source/existingRows", json!("Adopt"), "spec.source.existingRows"),
        (
            "source/shards/1",
            json!({"name": "b", "urlSecretRef": {"name": "b"}}),
            "spec.tables[0].shardBy: is missing",
        ),
        ("tables", json!([]), "spec.tables: names no table"),
        (
            "tables/1",
            json!({"name": "orders", "version": "v"}),
            "name \"orders\" stands there twice",
        ),
        (
            "tables/0/name",
            json!("_datamigration_control"),
            "belong to datamigration itself",
        ),
        ("tables/0/key", json!(["id", "id"]), "column \"id\" stands there twice"),
        (
            "tables/0/shardBy",
            json!({"columns": ["a"], "function": "Hash"}),
            "spec.tables[0].shardBy: has no use",
        ),
        (
            "tables/0/columns",
            json!([{"target": "a", "expression": "b; DROP TABLE c"}]),
            "columns[0].expression: is no expression: it holds `;`",
        ),
        (
            "tables/0/columns",
            json!([{"source": "b", "target": "a", "reverse": "b"}]),
            "columns[0].reverse: is the way back of an expression",
        ),
        (
            "tables/0/columns",
            json!([{"source": "updated_at", "target": "a", "expression": "b"}]),
            "cannot be computed",
        ),
        (
            "tables/0/where",
            json!("a = 1) OR (1 = 1"),
            "spec.tables[0].where: is no condition",
        ),
        ("tables/0/whereTarget", json!("a = 1"), "needs `where`"),
        (
            "tables/0/where",
            json!("a = 'it\\'s'"),
            "spec.tables[0].whereTarget: is needed",
        ),
        ("tables/0/columns", json!([{"source": "a"}]), "says neither"),
        (
            "tables/0/columns",
            json!([{"source": "updated_at", "drop": true}]),
            "cannot be dropped",
        ),
        (
            "tables/0/compare",
            json!({"tolerance": {"score": -1.0}}),
            "tolerance.score",
        ),
        (
            "application/acknowledge/selector",
            json!({}),
            "acknowledge.selector: is empty",
        ),
        (
            "application/acknowledge/by",
            json!("Rollout"),
            "acknowledge.by: Rollout",
        ),
        (
            "application/acknowledge/by",
            json!("Delay"),
            "acknowledge.delay: is missing",
        ),
        ("application/acknowledge/delay", json!("5s"), "by: Delay only"),
        (
            "application/acknowledge/timeout",
            json!("5 minutes"),
            "is not a duration",
        ),
        (
            "application/configMapRef/keys",
            json!({"epoch": "write-mode"}),
            "stands there twice",
        ),
        ("copy", json!({"pods": 65}), "spec.copy.pods"),
        (
            "copy",
            json!({"secondaryIndexes": "After"}),
            "spec.copy.secondaryIndexes",
        ),
        (
            "copy",
            json!({"pauseWhen": {"threadsRunning": 0}}),
            "spec.copy.pauseWhen.threadsRunning: 0 would never begin",
        ),
        (
            "copy",
            json!({"pauseWhen": {"replicationLag": "200ms"}}),
            "spec.copy.pauseWhen.replicationLag: 200ms is less than 1s",
        ),
        (
            "copy",
            json!({"pauseWhen": {"query": {"sql": " ", "above": 1.0}}}),
            "spec.copy.pauseWhen.query.sql: is empty",
        ),
        (
            "copy",
            json!({"rateLimit": {"bytesPerSecond": 0}}),
            "spec.copy.rateLimit.bytesPerSecond: 0 would never end",
        ),
        (
            "copy",
            json!({"window": "0 1 * * *"}),
            "spec.copy.window: \"0 1 * * *\" is not a window",
        ),
        (
            "copy",
            json!({"timeZone": "Europe/Berlin"}),
            "spec.copy.timeZone: has no use",
        ),
        (
            "copy",
            json!({"window": "0 1 * * * +4h", "timeZone": "Berlin"}),
            "spec.copy.window: \"Berlin\" is not a time zone",
        ),
        (
            "tables/0/compare",
            json!({"custom": [{"column": "note", "source": "lower(note", "target": "note"}]}),
            "spec.tables[0].compare.custom[0].source",
        ),
        (
            "tables/0/compare",
            json!({"ignore": ["note"], "custom": [{"column": "note", "source": "note", "target": "note"}]}),
            "spec.tables[0].compare.custom[0].column",
        ),
        ("verify", json!({"full": "0 2 * *"}), "spec.verify.full"),
        (
            "verify",
            json!({"full": "0 2 * * *", "timeZone": "Mars/Olympus"}),
            "spec.verify.full",
        ),
        ("verify", json!({"timeZone": "Europe/Berlin"}), "spec.verify.timeZone"),
        (
            "verify",
            json!({"budget": {"mismatches": 0}}),
            "spec.verify.budget.mismatches",
        ),
        (
            "verify",
            json!({"budget": {"duration": "0s"}}),
            "spec.verify.budget.duration",
        ),
        (
            "verify",
            json!({"budget": {"duration": "soon"}}),
            "spec.verify.budget.duration",
        ),
        ("rollback", json!("Immediate"), "spec.rollback"),
        ("phase", json!("Archived"), "spec.archive: is needed"),
        (
            "archive",
            json!({"destination": {"url": "file:///a"}}),
            "volumeClaimRef: is missing",
        ),
        ("archive", json!({"destination": {"url": "http://a"}}), "neither s3://"),
    ];
    for (path, value, expected) in rows {
        let found = refused(path, value);
        assert!(found.contains(expected), "{path}: expected {expected:?} in {found:?}");
    }
}

#[test]
fn limits_of_load_are_read() {
    let copy = json!({
        "rateLimit": {"rowsPerSecond": 500, "bytesPerSecond": 1_000_000},
        "pauseWhen": {"threadsRunning": 40, "replicationLag": "10s", "query": {"sql": "SELECT 1", "above": 5.0, "side": "Source"}},
        "window": "0 1 * * * +4h", "timeZone": "Europe/Berlin",
    });
    let limits = validate(&with(&[("copy", copy)])).unwrap().copy.limits;
    assert_eq!(
        (limits.rows_per_second, limits.bytes_per_second),
        (Some(500), Some(1_000_000))
    );
    assert_eq!(limits.replication_lag, Some(Duration::from_secs(10)));
    let query = limits.query.unwrap();
    assert!(query.asks(Side::Source) && !query.asks(Side::Target));
    assert_eq!(limits.window.unwrap().to_string(), "0 1 * * * +4h Europe/Berlin");
}

#[test]
fn all_findings_are_told_at_once() {
    let raw = with(&[("strategy", json!("Offline")), ("copy", json!({"pods": 0}))]);
    assert_eq!(validate(&raw).unwrap_err().len(), 2);
}

#[test]
fn durations() {
    assert_eq!(parse_duration("1h30m"), Some(Duration::from_mins(90)));
    assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
    assert_eq!(parse_duration("7d"), Some(Duration::from_hours(168)));
    for wrong in ["", "5", "m", "5 m", "-5m", "5x", "99999999999999999999d"] {
        assert_eq!(parse_duration(wrong), None, "{wrong}");
    }
}
