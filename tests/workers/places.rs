//! A row's shard is the same in Rust, in MariaDB and in PostgreSQL, for every type and value that has one; and every row
//! is in exactly one shard.

use crate::harness::connect;
use crate::support::{Kind, servers};
use datamigration::rows::{Key, ShardBy, ShardFunction};
use datamigration::store::{Database, Division, TableMapping, TablePair, TableSide, TxOptions};
use std::collections::BTreeMap;

const INTS: &[&str] = &[
    "0",
    "1",
    "-1",
    "-3",
    "7",
    "99",
    "100",
    "-9223372036854775808",
    "9223372036854775807",
];
const UNSIGNED: &[&str] = &[
    "0",
    "1",
    "18446744073709551615",
    "9223372036854775808",
    "12345678901234567890",
];
const DECIMALS: &[&str] = &["0.0000", "1.5000", "-1.5", "100", "-0.0001", "1234567890.1230"];
const TEXTS: &[&str] = &[
    "''", "'a'", "'A'", "'Zoë'", "'日本'", "'🦀'", "'a b'", "'1:x'", "'it''s'",
];
const BYTES: &[&str] = &["''", "'00ff'", "'a1b2c3'", "'2020'", "'00'"];
const UUIDS: &[&str] = &[
    "'00000000-0000-0000-0000-000000000000'",
    "'c0ffee00-aaaa-4bbb-8ccc-0123456789ab'",
];

struct Case {
    /// The column in MariaDB and in PostgreSQL.
    types: (&'static str, &'static str),
    values: &'static [&'static str],
    /// How a value is written in each, `V` its place.
    written: (&'static str, &'static str),
    integer: bool,
}

const fn case(
    types: (&'static str, &'static str),
    values: &'static [&'static str],
    written: (&'static str, &'static str),
    integer: bool,
) -> Case {
    Case {
        types,
        values,
        written,
        integer,
    }
}

const CASES: &[Case] = &[
    case(("BIGINT", "BIGINT"), INTS, ("V", "V"), true),
    case(("BIGINT UNSIGNED", "NUMERIC(20,0)"), UNSIGNED, ("V", "V"), true),
    case(("INT ZEROFILL", "BIGINT"), &["0", "7", "4000000000"], ("V", "V"), true),
    case(("DECIMAL(20,4)", "NUMERIC(20,4)"), DECIMALS, ("V", "V"), false),
    case(
        ("VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "VARCHAR(40)"),
        TEXTS,
        ("V", "V"),
        false,
    ),
    case(
        ("VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_bin", "VARCHAR(40)"),
        &["'Zoë'", "'naïve'", "'x'"],
        ("V", "V"),
        false,
    ),
    case(
        ("CHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "CHAR(12)"),
        &["'a'", "'Zoë'", "'a b'"],
        ("V", "V"),
        false,
    ),
    case(
        ("VARBINARY(20)", "BYTEA"),
        BYTES,
        ("UNHEX(V)", "decode(V, 'hex')"),
        false,
    ),
    case(("UUID", "UUID"), UUIDS, ("V", "V"), false),
    case(
        ("BINARY(16)", "UUID"),
        UUIDS,
        ("UNHEX(REPLACE(V, '-', ''))", "V"),
        false,
    ),
];

fn functions(integer: bool) -> Vec<ShardFunction> {
    let mut all = vec![ShardFunction::Hash];
    if integer {
        all.push(ShardFunction::Modulo);
        all.push(ShardFunction::Range { bounds: vec![-2, 99] });
    }
    all
}

/// In which shard a database has each key.
async fn places(
    database: &Database,
    side: &TableSide,
    division: &Division,
    shards: usize,
) -> BTreeMap<Key, Vec<usize>> {
    let mut found: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    let mut tx = database.begin(TxOptions::read_only()).await.unwrap();
    for shard in 0..shards {
        let within = side.within(&division.condition(side, shard).unwrap());
        for row in tx.read_after(&within, None, None, 1_000).await.unwrap() {
            found.entry(side.key_of(&row)).or_default().push(shard);
        }
        let counted = tx.count_rows(&within).await.unwrap();
        assert_eq!(counted, found.values().filter(|at| at.contains(&shard)).count() as u64);
    }
    tx.rollback().await;
    found
}

#[tokio::test]
async fn rust_and_both_engines_agree_on_every_row_s_shard() {
    let servers = servers().await;
    let (mariadb, postgres) = (
        servers.database(Kind::MariaDb).await,
        servers.database(Kind::Postgres).await,
    );
    let (in_mariadb, in_postgres) = (
        connect(&mariadb, "source/s0").await,
        connect(&postgres, "target/s0").await,
    );
    for (nth, case) in CASES.iter().enumerate() {
        let table = format!("t{nth}");
        let insert = |form: &str| {
            let rows: Vec<String> = case
                .values
                .iter()
                .map(|value| format!("({}, 5, '2026-01-01')", form.replace('V', value)))
                .collect();
            format!("INSERT INTO {table} (k, n, v) VALUES {}", rows.join(", "))
        };
        let create = |kind: &str, time: &str| {
            format!("CREATE TABLE {table} (k {kind} NOT NULL, n INT NOT NULL, v {time} NOT NULL, PRIMARY KEY (k, n))")
        };
        mariadb.execute(&create(case.types.0, "DATETIME(6)")).await;
        mariadb.execute(&insert(case.written.0)).await;
        postgres.execute(&create(case.types.1, "TIMESTAMP(6)")).await;
        postgres.execute(&insert(case.written.1)).await;
        let mapping = TableMapping {
            source: table.clone(),
            target: table.clone(),
            version: "v".to_owned(),
            ..TableMapping::default()
        };
        let source = in_mariadb.table(&table).await.unwrap().unwrap();
        let target = in_postgres.table(&table).await.unwrap().unwrap();
        let pair = TablePair::new(source, target, &mapping).unwrap_or_else(|why| panic!("{:?}: {why:?}", case.types));
        for function in functions(case.integer) {
            let several = if function == ShardFunction::Hash {
                vec!["k", "n"]
            } else {
                vec!["k"]
            };
            for columns in [vec!["k"], several] {
                let by = ShardBy {
                    columns: columns.iter().map(|&name| name.to_owned()).collect(),
                    function: function.clone(),
                };
                for shards in [2, 3, 7] {
                    let shards = if matches!(function, ShardFunction::Range { .. }) {
                        3
                    } else {
                        shards
                    };
                    let division = Division::new(&pair, &by, shards).unwrap_or_else(|why| panic!("{why:?}"));
                    let mine = places(&in_mariadb, &pair.source, &division, shards).await;
                    let theirs = places(&in_postgres, &pair.target, &division, shards).await;
                    assert_eq!(mine.len(), case.values.len(), "{:?} by {by:?}", case.types);
                    assert_eq!(mine, theirs, "{:?} by {by:?} of {shards}", case.types);
                    for (key, at) in mine {
                        assert_eq!(at, [division.place(&key).unwrap()], "{key} by {by:?} of {shards}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn what_the_two_engines_would_place_differently_is_refused() {
    let servers = servers().await;
    let (mariadb, postgres) = (
        servers.database(Kind::MariaDb).await,
        servers.database(Kind::Postgres).await,
    );
    let (in_mariadb, in_postgres) = (
        connect(&mariadb, "source/s0").await,
        connect(&postgres, "target/s0").await,
    );
    let cases = [
        (
            "VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
            "VARCHAR(40)",
            ShardFunction::Hash,
            "_bin",
        ),
        (
            "VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            "VARCHAR(40)",
            ShardFunction::Modulo,
            "integer",
        ),
        ("DECIMAL(10,2)", "NUMERIC(10,2)", ShardFunction::Modulo, "integer"),
        ("DATETIME(6)", "TIMESTAMP(6)", ShardFunction::Hash, "Hash knows"),
    ];
    for (nth, (mine, theirs, function, words)) in cases.into_iter().enumerate() {
        let table = format!("r{nth}");
        for (database, kind, time) in [(&mariadb, mine, "DATETIME(6)"), (&postgres, theirs, "TIMESTAMP(6)")] {
            database
                .execute(&format!(
                    "CREATE TABLE {table} (k {kind} NOT NULL, v {time} NOT NULL, PRIMARY KEY (k))"
                ))
                .await;
        }
        let mapping = TableMapping {
            source: table.clone(),
            target: table.clone(),
            version: "v".to_owned(),
            ..TableMapping::default()
        };
        let source = in_mariadb.table(&table).await.unwrap().unwrap();
        let target = in_postgres.table(&table).await.unwrap().unwrap();
        let pair = TablePair::new(source, target, &mapping).unwrap();
        let by = |column: &str| ShardBy {
            columns: vec![column.to_owned()],
            function: function.clone(),
        };
        let problems = Division::new(&pair, &by("k"), 2).unwrap_err();
        assert_eq!(problems[0].reason, "ShardColumnUnsuitable");
        assert!(problems[0].message.contains(words), "{problems:?}");
        assert_eq!(
            Division::new(&pair, &by("v"), 2).unwrap_err()[0].reason,
            "ShardColumnNotInKey"
        );
    }
}
