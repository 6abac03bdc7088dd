//! A sharded table's migration: databases or numbered tables on each side, rows that lie where they belong, and an oracle
//! that knows nothing of conditions and legs.

use crate::harness::{Task, assigned, connect, control, manifest, spec};
use crate::support::{Kind, TestDatabase, servers};
use datamigration::api::Migration;
use datamigration::api::task::{ControlSpec, MigrationTaskSpec, TaskKind, VerifyScope};
use datamigration::rows::{ShardBy, Value};
use datamigration::store::Database;
use datamigration::words::{Direction, Mode, SecondaryWrites};
use datamigration::workers::Shard;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// One side's shards.
#[derive(Clone, Copy)]
pub struct Shape {
    pub kind: Kind,
    pub shards: usize,
    /// All of them in one database, under numbered names.
    pub together: bool,
}

/// A side: of each shard its database and its table's name there.
pub struct Places {
    pub kind: Kind,
    pub shards: Vec<(TestDatabase, String)>,
    connected: Vec<Shard>,
}

pub struct Sharded {
    pub source: Places,
    pub target: Places,
    pub migration: Migration,
}

/// A row: tenant, user, id.
pub type Id = (String, i64, i64);

pub fn apart(kind: Kind, shards: usize) -> Shape {
    Shape {
        kind,
        shards,
        together: false,
    }
}

pub fn together(kind: Kind, shards: usize) -> Shape {
    Shape {
        together: true,
        ..apart(kind, shards)
    }
}

impl Places {
    async fn new(shape: Shape, side: &str) -> Self {
        let servers = servers().await;
        let (mut shards, mut connected): (Vec<(TestDatabase, String)>, Vec<Shard>) = (Vec::new(), Vec::new());
        for at in 0..shape.shards {
            let name = if shape.together {
                format!("orders_{at:02}")
            } else {
                "orders".to_owned()
            };
            let (database, connection): (TestDatabase, Database) = match (shards.first(), connected.first()) {
                (Some((database, _)), Some(shard)) if shape.together => (database.clone(), shard.database.clone()),
                _ => {
                    let database = servers.database(shape.kind).await;
                    let connection = connect(&database, &format!("{side}/s{at}")).await;
                    (database, connection)
                }
            };
            database.execute(&ddl(shape.kind, &name)).await;
            shards.push((database, name));
            connected.push(Shard {
                name: format!("s{at}"),
                database: connection,
            });
        }
        Self {
            kind: shape.kind,
            shards,
            connected,
        }
    }

    /// Puts rows into one shard, an hour old.
    pub async fn put(&self, shard: usize, rows: &[Id], note: &str) {
        self.put_at(shard, rows, note, "1 hour").await;
    }

    /// Puts rows into one shard, written just now.
    pub async fn put_now(&self, shard: usize, rows: &[Id], note: &str) {
        self.put_at(shard, rows, note, "0 second").await;
    }

    async fn put_at(&self, shard: usize, rows: &[Id], note: &str, ago: &str) {
        let (database, table) = &self.shards[shard];
        let at = match self.kind {
            Kind::MariaDb => format!("UTC_TIMESTAMP(6) - INTERVAL {ago}"),
            Kind::Postgres => format!("(clock_timestamp() AT TIME ZONE 'UTC') - INTERVAL '{ago}'"),
        };
        for some in rows.chunks(500) {
            let values: Vec<String> = some
                .iter()
                .map(|(tenant, user, id)| format!("('{tenant}', {user}, {id}, '{note} {id}', {at})"))
                .collect();
            let sql = format!(
                "INSERT INTO {table} (tenant, user_id, id, note, updated_at) VALUES {}",
                values.join(", ")
            );
            database.execute(&sql).await;
        }
    }

    /// Runs a statement in which `{t}` stands for the table.
    pub async fn run(&self, shard: usize, sql: &str) {
        let (database, table) = &self.shards[shard];
        database.execute(&sql.replace("{t}", table)).await;
    }

    /// Every row of one shard, by what identifies it.
    pub async fn rows(&self, shard: usize) -> BTreeMap<Id, String> {
        let (database, table) = &self.shards[shard];
        let sql = match self.kind {
            Kind::MariaDb => format!(
                "SELECT CAST(CONCAT_WS('|', tenant, user_id, id, note, DATE_FORMAT(updated_at, '%Y-%m-%d %H:%i:%s.%f')) AS CHAR) FROM {table}"
            ),
            Kind::Postgres => format!(
                "SELECT concat_ws('|', tenant, user_id, id, note, to_char(updated_at, 'YYYY-MM-DD HH24:MI:SS.US')) FROM {table}"
            ),
        };
        database
            .texts(&sql)
            .await
            .into_iter()
            .flatten()
            .map(|text| {
                let parts: Vec<&str> = text.splitn(4, '|').collect();
                let id = (
                    parts[0].to_owned(),
                    parts[1].parse().unwrap(),
                    parts[2].parse().unwrap(),
                );
                (id, parts[3].to_owned())
            })
            .collect()
    }

    /// Every row of every shard.
    pub async fn all(&self) -> BTreeMap<Id, String> {
        let mut all = BTreeMap::new();
        for shard in 0..self.shards.len() {
            for (id, row) in self.rows(shard).await {
                assert!(all.insert(id.clone(), row).is_none(), "{id:?} is in two shards");
            }
        }
        all
    }
}

fn ddl(kind: Kind, table: &str) -> String {
    match kind {
        Kind::MariaDb => format!(
            "CREATE TABLE {table} (tenant VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, user_id BIGINT NOT NULL, \
             id BIGINT NOT NULL, note TEXT NULL, updated_at DATETIME(6) NOT NULL, PRIMARY KEY (user_id, tenant, id), KEY (updated_at))"
        ),
        Kind::Postgres => format!(
            "CREATE TABLE {table} (tenant VARCHAR(40) NOT NULL, user_id BIGINT NOT NULL, id BIGINT NOT NULL, note TEXT NULL, \
             updated_at TIMESTAMP(6) NOT NULL, PRIMARY KEY (user_id, tenant, id)); CREATE INDEX ON {table} (updated_at)"
        ),
    }
}

impl Sharded {
    /// `shard_by`: as in the manifest. `changes` is merged over the spec.
    pub async fn new(source: Shape, target: Shape, shard_by: serde_json::Value, changes: serde_json::Value) -> Self {
        let entries = |shape: Shape, side: &str| -> Vec<serde_json::Value> {
            (0..shape.shards)
                .map(|at| {
                    let secret = if shape.together {
                        side.to_owned()
                    } else {
                        format!("{side}-{at}")
                    };
                    json!({"name": format!("s{at}"), "urlSecretRef": {"name": secret}})
                })
                .collect()
        };
        let mut table = json!({"name": "orders", "version": "updated_at"});
        table["shardBy"] = shard_by;
        for (shape, field) in [(source, "source"), (target, "target")] {
            if shape.together {
                table[field] = json!("orders_{shard:02}");
            }
        }
        let mut spec = json!({
            "source": {"shards": entries(source, "source")},
            "target": {"shards": entries(target, "target")},
            "tables": [table],
        });
        if let serde_json::Value::Object(changes) = changes {
            for (name, value) in changes {
                spec[name] = value;
            }
        }
        Self {
            migration: manifest(source.kind, target.kind, spec),
            source: Places::new(source, "source").await,
            target: Places::new(target, "target").await,
        }
    }

    pub fn task(&self, spec: MigrationTaskSpec) -> Task {
        let (source, target) = (self.source.connected.clone(), self.target.connected.clone());
        assigned(&self.migration, source, target, spec, true)
    }

    pub fn copy(&self, epoch: i64) -> Task {
        self.task(spec(TaskKind::Copy, None, Direction::Forward, epoch))
    }

    pub fn full(&self, direction: Direction, epoch: i64) -> Task {
        self.task(spec(TaskKind::Verify, Some(VerifyScope::Full), direction, epoch))
    }

    pub fn incremental(&self, direction: Direction, epoch: i64) -> Task {
        self.task(spec(TaskKind::Verify, Some(VerifyScope::Incremental), direction, epoch))
    }

    pub fn of_kind(&self, kind: TaskKind, epoch: i64) -> Task {
        self.task(spec(kind, None, Direction::Forward, epoch))
    }

    /// Raises an epoch and closes it, as the operator does.
    pub async fn reach(&self, control: ControlSpec) {
        let open = ControlSpec {
            min_epoch: control.epoch - 1,
            ..control.clone()
        };
        for (control, closed) in [(open, false), (control, true)] {
            let task = self.task(MigrationTaskSpec {
                control: Some(control.clone()),
                ..spec(TaskKind::Watch, None, Direction::Forward, control.epoch)
            });
            task.until(Duration::from_secs(30), "the epoch on all shards", |status| {
                let all = status
                    .watch
                    .as_ref()
                    .is_some_and(|watch| watch.epoch_on_all_shards && (!closed || watch.min_epoch_on_all_shards));
                let acked = status
                    .journal
                    .as_ref()
                    .is_some_and(|journal| journal.acked_at.is_some());
                all && (!closed || acked)
            })
            .await;
        }
    }

    pub async fn source_first(&self) {
        self.reach(control(1, Mode::SrcFirst, SecondaryWrites::Lenient, 1))
            .await;
    }

    /// Where a row belongs on a side.
    pub fn place(by: &ShardBy, id: &Id, shards: usize) -> usize {
        let values: Vec<Value> = by
            .columns
            .iter()
            .map(|column| match column.as_str() {
                "tenant" => Value::text(id.0.as_str()),
                "user_id" => Value::Int(id.1),
                _ => Value::Int(id.2),
            })
            .collect();
        by.place(&values.iter().collect::<Vec<_>>(), shards).unwrap()
    }

    /// Distributes rows over the source's shards, each where it belongs.
    pub async fn fill(&self, rows: i64) -> Vec<Id> {
        let ids = ids(rows);
        let placement = self.migration.tables[0].sharding.source.clone();
        let mut shards = vec![Vec::new(); self.source.shards.len()];
        for id in &ids {
            let at = placement.as_ref().map_or(0, |one| Self::place(&one.by, id, one.shards));
            shards[at].push(id.clone());
        }
        for (at, rows) in shards.iter().enumerate() {
            assert!(!rows.is_empty(), "no row of shard {at}");
            self.source.put(at, rows, "note").await;
        }
        ids
    }

    /// Both sides hold the same rows, and each row of the target is in its shard.
    pub async fn assert_equal(&self) {
        let (source, target) = (self.source.all().await, self.target.all().await);
        assert_eq!(source, target);
        let Some(placement) = &self.migration.tables[0].sharding.target else {
            return;
        };
        for shard in 0..self.target.shards.len() {
            for id in self.target.rows(shard).await.keys() {
                assert_eq!(Self::place(&placement.by, id, placement.shards), shard, "{id:?}");
            }
        }
    }
}

/// Some rows of users around zero, of tenants in several alphabets.
pub fn ids(rows: i64) -> Vec<Id> {
    let tenants = ["acme", "Zoë", "日本", "a b"];
    (0..rows)
        .map(|n| (tenants[n as usize % tenants.len()].to_owned(), n % 101 - 50, n))
        .collect()
}
