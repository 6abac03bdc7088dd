//! The one way from a raw manifest to a `Migration`: every default is filled, and every field that cannot be honoured
//! is refused by name with the remedy. Nothing is ignored in silence.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::database::{DatabaseSpec, EngineName, ExistingRows, SecretKeyRef, TlsModeName};
use super::migration::{
    Acknowledge, Application, Archive, ColumnRule, CopySettings, Database, Destination, Gates, Migration, SecretKey,
    Shard, Table, VerifySettings, Worker,
};
use super::phase::Phase;
use super::spec::{
    AcknowledgeBy, ApplicationSpec, ConfigMapKeys, DataMigration, DataMigrationSpec, Strategy, TableSpec,
};
use super::tuning::{
    ArchiveSpec, CopySpec, GatesSpec, RepairPolicy, RollbackPolicy, SecondaryIndexes, VerifySpec, WorkerSpec,
};
use crate::words::{ModeKeys, Protocol, hex};

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// Path of the field, such as `spec.tables[0].key`.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Collects everything that is wrong, so that people need not find it piece by piece.
#[derive(Default)]
struct Findings(Vec<Invalid>);

impl Findings {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Invalid {
            field: field.into(),
            message: message.into(),
        });
    }

    fn not_yet(&mut self, field: impl Into<String>, value: &str, instead: &str) {
        self.add(
            field,
            format!("{value} is not supported by this version of datamigration; {instead}"),
        );
    }

    fn duration(&mut self, field: &str, text: Option<&String>, default: Duration) -> Duration {
        let Some(text) = text else { return default };
        if let Some(duration) = parse_duration(text) {
            duration
        } else {
            self.add(
                field,
                format!("{text:?} is not a duration; write it like 30s, 5m, 1h30m or 7d"),
            );
            default
        }
    }
}

/// Checks a manifest and fills its defaults.
pub fn validate(raw: &DataMigration) -> Result<Migration, Vec<Invalid>> {
    let spec = &raw.spec;
    let mut found = Findings::default();

    if spec.strategy != Strategy::DualWrite {
        found.not_yet("spec.strategy", spec.strategy.as_str(), "use DualWrite");
    }
    let source = database(&mut found, "spec.source", &spec.source);
    let target = database(&mut found, "spec.target", &spec.target);
    if spec.source.existing_rows.is_some() {
        found.add(
            "spec.source.existingRows",
            "says something about the target's tables only; remove it here",
        );
    }
    if spec.tables.is_empty() {
        found.add("spec.tables", "names no table; name at least one");
    }
    let tables = spec
        .tables
        .iter()
        .enumerate()
        .map(|(at, raw)| table(&mut found, at, raw))
        .collect::<Vec<_>>();
    duplicates(
        &mut found,
        "spec.tables",
        "name",
        tables.iter().map(|table| table.name.as_str()),
    );
    duplicates(
        &mut found,
        "spec.tables",
        "target",
        tables.iter().map(|table| table.target.as_str()),
    );

    let application = application(&mut found, &spec.application);
    let copy = copy(&mut found, spec.copy.clone().unwrap_or_default());
    let verify = verify(&mut found, spec.verify.clone().unwrap_or_default());
    let gates = gates(&mut found, &spec.gates.clone().unwrap_or_default());
    let rollback = spec.rollback.unwrap_or_default();
    if rollback == RollbackPolicy::Immediate {
        found.not_yet("spec.rollback", "Immediate", "use Verified or None");
    }
    let archive = spec.archive.as_ref().and_then(|raw| archive(&mut found, raw));
    if spec.phase == Phase::Archived && spec.archive.is_none() {
        found.add(
            "spec.archive",
            "is needed for phase Archived: say where the source's tables shall be archived to",
        );
    }
    let worker = worker(spec.worker.clone().unwrap_or_default());

    let Some(application) = application.filter(|_| found.0.is_empty()) else {
        return Err(found.0);
    };
    Ok(Migration {
        namespace: raw.namespace().unwrap_or_default(),
        name: raw.name_any(),
        uid: raw.uid().unwrap_or_default(),
        generation: raw.metadata.generation.unwrap_or_default(),
        fingerprint: fingerprint(spec),
        strategy: spec.strategy,
        phase: spec.phase,
        suspend: spec.suspend,
        source,
        target,
        tables,
        application,
        copy,
        verify,
        gates,
        rollback,
        archive,
        worker,
    })
}

/// Serialising a spec that came out of JSON cannot fail; if it did, the digest would merely be that of nothing.
fn fingerprint(spec: &DataMigrationSpec) -> String {
    let checked = (&spec.source, &spec.target, &spec.tables, &spec.rollback, &spec.worker);
    let digest = Sha256::digest(serde_json::to_vec(&checked).unwrap_or_default());
    hex(&digest, 4)
}

fn database(found: &mut Findings, field: &str, raw: &DatabaseSpec) -> Database {
    if raw.engine == EngineName::SQLite {
        found.add(
            format!("{field}.engine"),
            "SQLite is for local runs only; use MySQL or PostgreSQL",
        );
    }
    match raw.shards.len() {
        0 => found.add(format!("{field}.shards"), "names no server; name one"),
        1 => {}
        n => found.not_yet(
            format!("{field}.shards"),
            &format!("a side of {n} shards"),
            "name exactly one",
        ),
    }
    duplicates(
        found,
        &format!("{field}.shards"),
        "name",
        raw.shards.iter().map(|shard| shard.name.as_str()),
    );
    let shards = raw
        .shards
        .iter()
        .map(|shard| Shard {
            name: shard.name.clone(),
            url: secret_key(&shard.url_secret_ref, "url"),
        })
        .collect();
    let tls = raw.tls.clone().unwrap_or_default();
    let tls_mode = tls.mode.unwrap_or_default();
    if tls_mode == TlsModeName::Disabled && tls.ca_secret_ref.is_some() {
        found.add(
            format!("{field}.tls.caSecretRef"),
            "has no use with mode Disabled; remove one of the two",
        );
    }
    Database {
        engine: raw.engine,
        shards,
        tls_mode,
        tls_ca: tls
            .ca_secret_ref
            .as_ref()
            .map(|reference| secret_key(reference, "ca.crt")),
        existing_rows: raw.existing_rows.unwrap_or(ExistingRows::Refuse),
    }
}

fn secret_key(raw: &SecretKeyRef, default: &str) -> SecretKey {
    SecretKey {
        name: raw.name.clone(),
        key: raw.key.clone().unwrap_or_else(|| default.to_owned()),
    }
}

fn table(found: &mut Findings, at: usize, raw: &TableSpec) -> Table {
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

/// Prefix of the control tables.
const RESERVED: &str = "_datamigration_";

fn identifier(found: &mut Findings, field: &str, text: &str) {
    if text.is_empty() || text.len() > 63 || text.chars().any(char::is_control) {
        found.add(
            field,
            format!("{text:?} is not a name of 1 to 63 bytes without control characters"),
        );
    }
}

fn duplicates<'a>(found: &mut Findings, field: &str, what: &str, names: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            found.add(field, format!("{what} {name:?} stands there twice; keep one"));
        }
    }
}

fn application(found: &mut Findings, raw: &ApplicationSpec) -> Option<Application> {
    let at = "spec.application";
    let acknowledge = &raw.acknowledge;
    let selector = acknowledge.selector.clone().filter(|selector| {
        selector.match_labels.as_ref().is_some_and(|labels| !labels.is_empty())
            || selector.match_expressions.as_ref().is_some_and(|list| !list.is_empty())
    });
    let timeout = found.duration(
        &format!("{at}.acknowledge.timeout"),
        acknowledge.timeout.as_ref(),
        Duration::from_mins(5),
    );
    let by = acknowledge.by.unwrap_or_default();
    if by != AcknowledgeBy::Delay && acknowledge.delay.is_some() {
        found.add(
            format!("{at}.acknowledge.delay"),
            "is for by: Delay only; remove it, or set by to Delay",
        );
    }
    if by != AcknowledgeBy::Delay && raw.protocol.is_some() {
        found.add(
            format!("{at}.protocol"),
            "is for by: Delay only; instances state their protocol themselves",
        );
    }
    let acknowledge = match by {
        AcknowledgeBy::Instances => {
            if let Some(selector) = selector {
                Some(Acknowledge::Instances { selector })
            } else {
                found.add(
                    format!("{at}.acknowledge.selector"),
                    "is empty; give labels that match the application's pods, or every pod of the namespace would count",
                );
                None
            }
        }
        AcknowledgeBy::Rollout => {
            found.not_yet(format!("{at}.acknowledge.by"), "Rollout", "use Instances or Delay");
            None
        }
        AcknowledgeBy::Delay => {
            if acknowledge.delay.is_none() {
                found.add(
                    format!("{at}.acknowledge.delay"),
                    "is missing; say after which time every instance has seen a flip",
                );
            }
            let delay = found.duration(
                &format!("{at}.acknowledge.delay"),
                acknowledge.delay.as_ref(),
                Duration::ZERO,
            );
            Some(Acknowledge::Delay { delay, selector })
        }
    };
    let percent = raw.reads.as_ref().and_then(|reads| reads.target_percent).unwrap_or(0);
    if percent > 100 {
        found.add(
            format!("{at}.reads.targetPercent"),
            format!("{percent} is not between 0 and 100"),
        );
    }
    let keys = mode_keys(raw.config_map_ref.keys.clone().unwrap_or_default());
    let all = [
        &keys.write_mode,
        &keys.read_from,
        &keys.read_target_percent,
        &keys.secondary_writes,
        &keys.epoch,
    ];
    duplicates(
        found,
        &format!("{at}.configMapRef.keys"),
        "key",
        all.iter().map(|key| key.as_str()),
    );
    for key in all {
        if key.is_empty() || key.len() > 253 || !key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            found.add(
                format!("{at}.configMapRef.keys"),
                format!("{key:?} is not a key that a ConfigMap may have"),
            );
        }
    }
    Some(Application {
        config_map: raw.config_map_ref.name.clone(),
        keys,
        acknowledge: acknowledge?,
        acknowledge_timeout: timeout,
        protocol: raw.protocol.unwrap_or(Protocol::Ordered),
        read_target_percent: percent,
    })
}

fn mode_keys(raw: ConfigMapKeys) -> ModeKeys {
    let usual = ModeKeys::default();
    ModeKeys {
        write_mode: raw.write_mode.unwrap_or(usual.write_mode),
        read_from: raw.read_from.unwrap_or(usual.read_from),
        read_target_percent: raw.read_target_percent.unwrap_or(usual.read_target_percent),
        secondary_writes: raw.secondary_writes.unwrap_or(usual.secondary_writes),
        epoch: raw.epoch.unwrap_or(usual.epoch),
    }
}

fn copy(found: &mut Findings, raw: CopySpec) -> CopySettings {
    let CopySpec {
        parallelism,
        pods,
        create_tables,
        secondary_indexes,
        rate_limit,
        pause_when,
        window,
    } = raw;
    if pods.is_some_and(|pods| pods != 1) {
        found.not_yet("spec.copy.pods", "more than one pod", "use copy.parallelism");
    }
    if create_tables == Some(true) {
        found.not_yet("spec.copy.createTables", "true", "create the target's tables yourself");
    }
    if secondary_indexes == Some(SecondaryIndexes::After) {
        found.not_yet("spec.copy.secondaryIndexes", "After", "use Before");
    }
    if pause_when.is_some() {
        found.not_yet("spec.copy.pauseWhen", "a measure of load", "use copy.rateLimit");
    }
    if window.is_some() {
        found.not_yet("spec.copy.window", "a time window", "use spec.suspend");
    }
    let parallelism = parallelism.unwrap_or(4);
    if !(1..=64).contains(&parallelism) {
        found.add(
            "spec.copy.parallelism",
            format!("{parallelism} is not between 1 and 64"),
        );
    }
    let rows_per_second = rate_limit.and_then(|limit| limit.rows_per_second);
    if rows_per_second == Some(0) {
        found.add(
            "spec.copy.rateLimit.rowsPerSecond",
            "0 would never end; use spec.suspend to stop",
        );
    }
    CopySettings {
        parallelism,
        rows_per_second,
    }
}

fn verify(found: &mut Findings, raw: VerifySpec) -> VerifySettings {
    let VerifySpec {
        lag,
        interval,
        full,
        repair,
        max_deletes,
    } = raw;
    if full.is_some() {
        found.not_yet(
            "spec.verify.full",
            "a schedule",
            "remove it; a full verify runs wherever a gate needs one",
        );
    }
    let repair = repair.unwrap_or_default();
    if repair == RepairPolicy::Manual {
        found.not_yet("spec.verify.repair", "Manual", "use Automatic");
    }
    VerifySettings {
        lag: found.duration("spec.verify.lag", lag.as_ref(), Duration::from_mins(1)),
        interval: found.duration("spec.verify.interval", interval.as_ref(), Duration::from_secs(30)),
        repair,
        max_deletes: max_deletes.unwrap_or(1000),
    }
}

fn gates(found: &mut Findings, raw: &GatesSpec) -> Gates {
    let gates = Gates {
        clean_for: found.duration("spec.gates.cleanFor", raw.clean_for.as_ref(), Duration::from_mins(10)),
        strict_for: found.duration("spec.gates.strictFor", raw.strict_for.as_ref(), Duration::from_mins(5)),
    };
    if gates.strict_for.is_zero() {
        found.add(
            "spec.gates.strictFor",
            "0 leaves no time to change the base; 5m is usual",
        );
    }
    gates
}

fn archive(found: &mut Findings, raw: &ArchiveSpec) -> Option<Archive> {
    let at = "spec.archive";
    let hold = found.duration(&format!("{at}.hold"), raw.hold.as_ref(), Duration::from_hours(168));
    let url = raw.destination.url.as_str();
    let destination = match (url.strip_prefix("file://"), &raw.destination.volume_claim_ref) {
        (Some(path), Some(claim)) if path.starts_with('/') && path.len() > 1 && !path.contains("..") => {
            Some(Destination::Volume {
                path: path.trim_end_matches('/').to_owned(),
                claim: claim.name.clone(),
            })
        }
        (Some(_), Some(_)) => {
            found.add(
                format!("{at}.destination.url"),
                format!("{url:?} is not of the form file:///absolute/path"),
            );
            None
        }
        (Some(_), None) => {
            found.add(
                format!("{at}.destination.volumeClaimRef"),
                "is missing; a file:// destination needs the PersistentVolumeClaim that is mounted there",
            );
            None
        }
        (None, Some(_)) => {
            found.add(
                format!("{at}.destination.volumeClaimRef"),
                "is for file:// destinations only; remove it",
            );
            None
        }
        (None, None) if url.starts_with("s3://") && url.len() > "s3://".len() => Some(Destination::ObjectStore {
            url: url.to_owned(),
            secret: raw.destination.secret_ref.as_ref().map(|secret| secret.name.clone()),
        }),
        (None, None) => {
            found.add(
                format!("{at}.destination.url"),
                format!("{url:?} is neither s3://bucket/prefix nor file:///path"),
            );
            None
        }
    };
    Some(Archive {
        hold,
        destination: destination?,
        delete_source: raw.delete_source.unwrap_or(false),
    })
}

fn worker(raw: WorkerSpec) -> Worker {
    let quantity = |pairs: &[(&str, &str)]| {
        Some(
            pairs
                .iter()
                .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
                .collect(),
        )
    };
    Worker {
        service_account: raw.service_account_name,
        resources: raw.resources.unwrap_or_else(|| ResourceRequirements {
            requests: quantity(&[("cpu", "50m"), ("memory", "64Mi")]),
            limits: quantity(&[("memory", "512Mi")]),
            ..ResourceRequirements::default()
        }),
        host_aliases: raw.host_aliases.unwrap_or_default(),
    }
}

/// Reads `1h30m`, `90s`, `250ms`, `7d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let amount: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match rest.get(..unit)? {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(amount.checked_mul(millis)?))?;
        rest = rest.get(unit..)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixtures::{orders, with};
    use serde_json::{Value, json};

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
                rows_per_second: None
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
                "spec.source.shards: a side of 2",
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
                "spec.tables[0].shardBy",
            ),
            (
                "tables/0/columns",
                json!([{"target": "a", "expression": "b"}]),
                "columns[0].expression",
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
            ("copy", json!({"pods": 4}), "spec.copy.pods"),
            ("copy", json!({"createTables": true}), "spec.copy.createTables"),
            (
                "copy",
                json!({"secondaryIndexes": "After"}),
                "spec.copy.secondaryIndexes",
            ),
            (
                "copy",
                json!({"pauseWhen": {"threadsRunning": 4}}),
                "spec.copy.pauseWhen",
            ),
            ("copy", json!({"window": "0 1 * * * +4h"}), "spec.copy.window"),
            ("verify", json!({"full": "0 2 * * *"}), "spec.verify.full"),
            ("verify", json!({"repair": "Manual"}), "spec.verify.repair"),
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
    fn all_findings_are_told_at_once() {
        let raw = with(&[("strategy", json!("Offline")), ("copy", json!({"pods": 2}))]);
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
}
