//! Keys of every kind, in every direction: each row is read once, put once, and found again by a full verify.

use crate::harness::{World, spec};
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::support::on_mysql;
use datamigration::api::task::{TaskKind, VerifyScope};
use datamigration::words::Direction;
use serde_json::json;

/// Rows in each table: several batches, which start small.
const ROWS: i64 = 700;

/// One kind of key: the table's name, its columns on both engines, the index behind it, and the values of row `seq`.
struct KeyKind {
    name: &'static str,
    columns: (&'static str, &'static str),
    index: &'static str,
    values: (&'static str, &'static str),
}

static KINDS: [KeyKind; 9] = [
    KeyKind {
        name: "negative_zero_sparse",
        columns: ("k BIGINT NOT NULL", "k bigint NOT NULL"),
        index: "PRIMARY KEY (k)",
        values: (
            "(CAST(seq AS SIGNED) - 300) * 1000003 * IF(seq % 7 = 0, 1000, 1)",
            "(seq - 300)::bigint * 1000003 * CASE WHEN seq % 7 = 0 THEN 1000 ELSE 1 END",
        ),
    },
    KeyKind {
        name: "unsigned_64",
        columns: ("k BIGINT UNSIGNED NOT NULL", "k numeric(20,0) NOT NULL"),
        index: "PRIMARY KEY (k)",
        values: (
            "18446744073709551615 - (seq - 1) * 26352491533870787",
            "18446744073709551615::numeric - (seq - 1)::numeric * 26352491533870787",
        ),
    },
    KeyKind {
        name: "composite",
        columns: (
            "d DATE NOT NULL, n INT NOT NULL, c VARCHAR(20) COLLATE utf8mb4_general_ci NOT NULL",
            "d date NOT NULL, n int NOT NULL, c varchar(20) NOT NULL",
        ),
        index: "PRIMARY KEY (d, n, c)",
        values: (
            "DATE('2024-02-27') + INTERVAL (seq % 4) DAY, CAST(seq % 5 AS SIGNED) - 2, CONCAT(ELT(1 + seq % 3, 'a', 'B', 'é'), seq)",
            "date '2024-02-27' + seq % 4, seq % 5 - 2, (ARRAY['a', 'B', 'é'])[1 + seq % 3] || seq",
        ),
    },
    KeyKind {
        name: "case_and_accent_insensitive",
        columns: (
            "k VARCHAR(40) COLLATE utf8mb4_unicode_ci NOT NULL",
            "k varchar(40) NOT NULL",
        ),
        index: "PRIMARY KEY (k)",
        values: (
            "CONCAT(ELT(1 + seq % 4, 'a', 'B', 'É', 'z'), ELT(1 + seq % 3, ' x', '-Y', 'ß'), seq, IF(seq % 5 = 0, '  ', ''))",
            "(ARRAY['a', 'B', 'É', 'z'])[1 + seq % 4] || (ARRAY[' x', '-Y', 'ß'])[1 + seq % 3] || seq || CASE WHEN seq % 5 = 0 THEN '  ' ELSE '' END",
        ),
    },
    KeyKind {
        name: "bytes",
        columns: ("k VARBINARY(20) NOT NULL", "k bytea NOT NULL"),
        index: "PRIMARY KEY (k)",
        values: (
            "UNHEX(CONCAT(LEFT(SHA2(seq, 256), 12), '00FF5C'))",
            "decode(left(md5(seq::text), 12) || '00ff5c', 'hex')",
        ),
    },
    KeyKind {
        name: "uuids",
        columns: ("k UUID NOT NULL", "k uuid NOT NULL"),
        index: "PRIMARY KEY (k)",
        values: (
            "CONCAT_WS('-', LEFT(MD5(seq), 8), MID(MD5(seq), 9, 4), CONCAT('4', MID(MD5(seq), 14, 3)), \
             CONCAT('a', MID(MD5(seq), 18, 3)), RIGHT(MD5(seq), 12))",
            "overlay(overlay(md5(seq::text) placing '4' from 13) placing 'a' from 17)::uuid",
        ),
    },
    KeyKind {
        name: "times",
        columns: ("k DATETIME(6) NOT NULL", "k timestamp(6) NOT NULL"),
        index: "PRIMARY KEY (k)",
        values: (
            "TIMESTAMP('2020-01-01') + INTERVAL seq * 86400123457 MICROSECOND",
            "timestamp '2020-01-01' + seq * interval '86400.123457 seconds'",
        ),
    },
    KeyKind {
        name: "decimals",
        columns: ("k DECIMAL(30,10) NOT NULL", "k numeric(30,10) NOT NULL"),
        index: "PRIMARY KEY (k)",
        values: (
            "(CAST(seq AS SIGNED) - 300) * 100000000.0000000001",
            "(seq - 300) * 100000000.0000000001",
        ),
    },
    KeyKind {
        name: "unique_without_primary",
        columns: ("k INT NOT NULL", "k int NOT NULL"),
        index: "UNIQUE (k)",
        values: ("CAST(seq AS SIGNED) * -3", "seq * -3"),
    },
];

fn of(kind: Kind, both: (&'static str, &'static str)) -> &'static str {
    match kind {
        MariaDb => both.0,
        Postgres => both.1,
    }
}

fn create(kind: Kind) -> String {
    let time = of(kind, ("DATETIME(6)", "timestamp(6)"));
    let each: Vec<String> = kinds()
        .map(|key| {
            format!(
                "CREATE TABLE {} ({}, note VARCHAR(20) NOT NULL, updated_at {time} NOT NULL, {});",
                key.name,
                of(kind, key.columns),
                key.index
            )
        })
        .collect();
    each.concat()
}

fn fill(kind: Kind) -> String {
    let (rows, now) = match kind {
        MariaDb => (format!("seq_1_to_{ROWS}"), "UTC_TIMESTAMP(6) - INTERVAL 1 HOUR"),
        Postgres => (
            format!("generate_series(1, {ROWS}) AS seq"),
            "(now() AT TIME ZONE 'UTC') - INTERVAL '1 hour'",
        ),
    };
    let each: Vec<String> = kinds()
        .map(|key| {
            format!(
                "INSERT INTO {} SELECT {}, 'note', {now} FROM {rows};",
                key.name,
                of(kind, key.values)
            )
        })
        .collect();
    each.concat()
}

/// Those that the servers have: UUID columns are MariaDB's own.
fn kinds() -> impl Iterator<Item = &'static KeyKind> {
    KINDS.iter().filter(|key| key.name != "uuids" || !on_mysql())
}

async fn direction(source: Kind, target: Kind) {
    let tables: Vec<_> = kinds()
        .map(|key| match key.name {
            "unique_without_primary" => json!({"name": key.name, "version": "updated_at", "key": ["k"]}),
            name => json!({"name": name, "version": "updated_at"}),
        })
        .collect();
    let changes = json!({"tables": tables, "copy": {"parallelism": 1}});
    let world = World::with(source, target, changes, &create(source), &create(target)).await;
    world.source.execute(&fill(source)).await;
    world.source_first().await;
    for key in kinds() {
        let of = |kind, scope| {
            let mut spec = spec(kind, scope, Direction::Forward, 1);
            spec.table = Some(key.name.to_owned());
            world.task(spec)
        };
        let copy = of(TaskKind::Copy, None);
        copy.run().await.unwrap_or_else(|error| panic!("{}: {error}", key.name));
        let copied = copy.context.status.current().progress.unwrap().rows;
        assert_eq!(copied, ROWS as u64, "{}: each row is copied once", key.name);
        let count = format!("SELECT COUNT(*) FROM {}", key.name);
        assert_eq!(world.target.number(&count).await, ROWS, "{}", key.name);
        let verify = of(TaskKind::Verify, Some(VerifyScope::Full));
        verify
            .run()
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", key.name));
        let report = verify.verify();
        assert_eq!(
            (report.compared, report.repaired, report.outstanding),
            (2 * ROWS as u64, 0, 0),
            "{}: {report:?}",
            key.name
        );
    }
}

#[tokio::test]
async fn any_key_from_mariadb_to_postgresql() {
    direction(MariaDb, Postgres).await;
}

#[tokio::test]
async fn any_key_from_postgresql_to_mariadb() {
    direction(Postgres, MariaDb).await;
}

#[tokio::test]
async fn any_key_from_mariadb_to_mariadb() {
    direction(MariaDb, MariaDb).await;
}

#[tokio::test]
async fn any_key_from_postgresql_to_postgresql() {
    direction(Postgres, Postgres).await;
}
