//! Every type: what introspection makes of it, and its awkward values through copies inside an engine and across, held
//! against what the servers themselves print.

use std::fmt::Write as _;

use datamigration::rows::LogicalType;
use datamigration::store::{Engine, TableSide, samples};

use crate::helpers::{Db, database, mapping, pair};
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::type_values::{
    ACROSS, MARIADB, POSTGRES, REFUSED_BY_MYSQL, REFUSED_BY_POSTGRES, REFUSED_INSIDE_MYSQL, REFUSED_INSIDE_POSTGRES,
    Refused,
};

const POSTGRES_TYPES: &str = "CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('a', 'b'); \
                              CREATE TYPE pair AS (x int, y text)";

/// A table `t` with one column of each type, `c0` and so on, and a key and a version.
async fn table(db: &Db, types: &[&str]) {
    let mut columns = String::new();
    for (n, native) in types.iter().enumerate() {
        let _ = write!(columns, "c{n} {native} NULL, ");
    }
    if db.test.kind == Postgres {
        db.test.execute_as_admin(POSTGRES_TYPES).await;
    }
    let stamp = match db.test.kind {
        MariaDb => "DATETIME(6)",
        Postgres => "timestamp(6)",
    };
    db.execute(&format!(
        "CREATE TABLE t (id BIGINT PRIMARY KEY, {columns} v {stamp} NOT NULL)"
    ))
    .await;
}

/// One row per literal, with the other columns NULL; row numbers count through all columns.
async fn fill(db: &Db, values: &[Vec<&str>]) {
    let mut sql = match db.test.kind {
        MariaDb => String::from("SET sql_mode = '', time_zone = '+00:00'; "),
        Postgres => String::from("SET TimeZone = 'UTC'; "),
    };
    let mut id = 0;
    for (n, literals) in values.iter().enumerate() {
        for literal in literals {
            id += 1;
            let _ = write!(
                sql,
                "INSERT INTO t (id, c{n}, v) VALUES ({id}, {literal}, '2024-01-01 00:00:00'); "
            );
        }
    }
    db.execute(&sql).await;
}

/// What the server prints of the column, row by row.
async fn printed(db: &Db, n: usize, native: &str) -> Vec<Option<String>> {
    let shown = match db.test.kind {
        Postgres => format!("c{n}::text"),
        MariaDb if ["float", "double"].contains(&native) => format!("CAST(CAST(c{n} AS DOUBLE) AS CHAR)"),
        MariaDb if native.starts_with("bit") || native == "year" || is_int(native) => {
            format!("CAST(c{n} + 0 AS CHAR)")
        }
        MariaDb if native.contains("decimal") || native.starts_with("float") => format!("CAST(c{n} AS CHAR)"),
        MariaDb => format!("HEX(c{n})"),
    };
    db.test.texts(&format!("SELECT {shown} FROM t ORDER BY id")).await
}

fn is_int(native: &str) -> bool {
    let word = native.split(['(', ' ']).next().unwrap_or_default();
    ["tinyint", "smallint", "mediumint", "int", "bigint"].contains(&word)
}

async fn carry((from, from_side): (&Db, &TableSide), (to, to_side): (&Db, &TableSide)) {
    let rows = from.all(from_side).await;
    to.commit(async |tx| tx.put_guarded(to_side, &rows).await.unwrap())
        .await;
    assert_eq!(to.all(to_side).await, rows);
}

#[tokio::test]
async fn introspection_finds_what_the_table_of_types_says() {
    for (kind, engine) in [(MariaDb, Engine::MySql), (Postgres, Engine::Postgres)] {
        let db = database(kind).await;
        let samples = samples(engine);
        let types: Vec<&str> = samples.iter().map(|s| s.native.as_str()).collect();
        table(&db, &types).await;
        let found = db.db.table("t").await.unwrap().unwrap();
        for (n, sample) in samples.iter().enumerate() {
            let column = found.column(&format!("c{n}")).unwrap();
            assert_eq!(column.logical, sample.logical, "{kind:?} {}", sample.native);
            if kind == Postgres {
                assert_eq!(column.native, sample.native);
            }
        }
    }
}

#[tokio::test]
async fn members_of_lists_and_limits_are_read_from_the_servers() {
    let maria = database(MariaDb).await;
    maria
        .execute(
            r"CREATE TABLE t (a ENUM('a,b', 'it''s', 'back\\slash', 'é'), b SET('x y', 'z'), \
              c TEXT CHARACTER SET latin1, d VARCHAR(20) CHARACTER SET latin1, e CHAR(3) CHARACTER SET binary)"
                .replace("\\\n", "\n")
                .as_str(),
        )
        .await;
    let found = maria.db.table("t").await.unwrap().unwrap();
    let is = |name: &str| found.column(name).unwrap().logical.clone();
    let list = |v: &[&str]| v.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        is("a"),
        LogicalType::Enum {
            values: list(&["a,b", "it's", "back\\slash", "é"])
        }
    );
    assert_eq!(
        is("b"),
        LogicalType::Set {
            values: list(&["x y", "z"])
        }
    );
    assert_eq!(is("c"), LogicalType::text(Some(65_535)));
    assert_eq!(is("d"), LogicalType::text(Some(20)));
    assert_eq!(
        is("e"),
        LogicalType::Bytes {
            max: Some(3),
            padded: true
        }
    );
    let postgres = database(Postgres).await;
    postgres
        .execute(
            "CREATE TYPE k AS ENUM ('b', 'it''s', 'a\"q'); CREATE DOMAIN dk AS k; CREATE DOMAIN dn AS numeric(7,3); \
             CREATE DOMAIN da AS int[]; CREATE TABLE t (a k, b dk, c dn, d da, e k[], f dn[])",
        )
        .await;
    let found = postgres.db.table("t").await.unwrap().unwrap();
    let is = |name: &str| found.column(name).unwrap().logical.clone();
    let k = LogicalType::Enum {
        values: list(&["b", "it's", "a\"q"]),
    };
    assert_eq!((is("a"), is("b")), (k.clone(), k));
    assert_eq!(is("c"), LogicalType::Decimal { precision: 7, scale: 3 });
    for (column, name) in [("d", "integer[]"), ("e", "k[]"), ("f", "dn[]")] {
        assert!(matches!(is(column), LogicalType::Native { name: found, .. } if found == name));
    }
}

/// Each value of each type arrives as what the server of the same engine prints alike.
#[tokio::test]
async fn every_type_is_carried_inside_its_engine() {
    for (kind, list) in [(MariaDb, MARIADB), (Postgres, POSTGRES)] {
        let (from, to) = (database(kind).await, database(kind).await);
        let types: Vec<&str> = list.iter().map(|(t, _)| *t).collect();
        table(&from, &types).await;
        table(&to, &types).await;
        fill(&from, &list.iter().map(|(_, v)| v.to_vec()).collect::<Vec<_>>()).await;
        let pair = pair(&from, &to, &mapping("t", "v")).await;
        carry((&from, &pair.source), (&to, &pair.target)).await;
        for (n, native) in types.iter().enumerate() {
            let there = printed(&from, n, native).await;
            assert!(there.iter().any(Option::is_some), "{native}");
            assert_eq!(printed(&to, n, native).await, there, "{kind:?} {native}");
        }
        let covered = |s: &str| types.contains(&s);
        let engine = if kind == MariaDb {
            Engine::MySql
        } else {
            Engine::Postgres
        };
        for sample in samples(engine) {
            assert!(
                matches!(sample.logical, LogicalType::Other(_)) || covered(&sample.native),
                "no values for {kind:?} {}",
                sample.native
            );
        }
    }
}

/// From MariaDB to PostgreSQL, where each value must be printed as stated, and back, where it must be what it was.
#[tokio::test]
async fn every_type_is_carried_across_and_back() {
    let (from, to, back) = (
        database(MariaDb).await,
        database(Postgres).await,
        database(MariaDb).await,
    );
    let mysql: Vec<&str> = ACROSS.iter().map(|(t, _, _)| *t).collect();
    let postgres: Vec<&str> = ACROSS.iter().map(|(_, t, _)| *t).collect();
    table(&from, &mysql).await;
    table(&back, &mysql).await;
    table(&to, &postgres).await;
    let literals = |of: fn(&(&'static str, &'static str)) -> &'static str| {
        ACROSS
            .iter()
            .map(|(_, _, values)| values.iter().map(of).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    fill(&from, &literals(|(literal, _)| literal)).await;
    let there = pair(&from, &to, &mapping("t", "v")).await;
    carry((&from, &there.source), (&to, &there.target)).await;
    let again = pair(&back, &to, &mapping("t", "v")).await;
    carry((&to, &again.target), (&back, &again.source)).await;
    for (n, (native, target, values)) in ACROSS.iter().enumerate() {
        let arrived: Vec<String> = printed(&to, n, target).await.into_iter().flatten().collect();
        let stated: Vec<&str> = values.iter().map(|(_, text)| *text).collect();
        assert_eq!(arrived, stated, "{native} in {target}");
        // A UUID's text comes back in its one spelling.
        if *target != "uuid" {
            assert_eq!(
                printed(&back, n, native).await,
                printed(&from, n, native).await,
                "{native} by way of {target}"
            );
        }
    }
}

/// What PostgreSQL holds and MySQL does not, and the other way round: refused with the reason, never changed.
#[tokio::test]
async fn what_the_other_engine_would_change_is_refused() {
    for (source, list) in [(Postgres, REFUSED_BY_MYSQL), (MariaDb, REFUSED_BY_POSTGRES)] {
        let target = if source == Postgres { MariaDb } else { Postgres };
        refused(source, target, list).await;
    }
    refused(MariaDb, MariaDb, REFUSED_INSIDE_MYSQL).await;
    refused(Postgres, Postgres, REFUSED_INSIDE_POSTGRES).await;
}

async fn refused(source: Kind, target: Kind, list: Refused) {
    let (from, to) = (database(source).await, database(target).await);
    table(&from, &list.iter().map(|(t, _, _)| *t).collect::<Vec<_>>()).await;
    table(&to, &list.iter().map(|(_, t, _)| *t).collect::<Vec<_>>()).await;
    fill(&from, &list.iter().map(|(_, _, v)| v.to_vec()).collect::<Vec<_>>()).await;
    let pair = pair(&from, &to, &mapping("t", "v")).await;
    let mut id = 0;
    for (native, target, values) in list {
        for value in *values {
            id += 1;
            let key = [crate::helpers::key(id)];
            let mut tx = from.begin().await;
            let read = tx.read_keys(&pair.source, &key, datamigration::store::Lock::None).await;
            tx.rollback().await;
            let error = match read {
                Err(error) => error,
                Ok(rows) => {
                    let mut tx = to.begin().await;
                    let put = tx.put(&pair.target, &rows).await;
                    tx.rollback().await;
                    put.expect_err(&format!("{value} of {native} into {target}"))
                }
            };
            assert!(
                matches!(error, datamigration::store::StoreError::Data { .. }),
                "{value} of {native} into {target}: {error:?}"
            );
        }
    }
}
