//! Values that do not survive elsewhere: put on each engine, read back, carried to the other, compared.

use datamigration::rows::{Comparison, LogicalType, Value};
use datamigration::store::{StoreError, TxOptions};

use crate::helpers::{Db, V1, database, mapping, pair};
use crate::support::Kind;

const MARIADB: &str = "CREATE TABLE v (
    id BIGINT PRIMARY KEY, big BIGINT UNSIGNED, money DECIMAL(65,30), f FLOAT, d DOUBLE, flag TINYINT(1),
    txt VARCHAR(100), long_text LONGTEXT, raw VARBINARY(100), day DATE, tim TIME(6), wall DATETIME(6) NULL, inst TIMESTAMP(6) NULL,
    doc JSON, uid UUID, kind ENUM('a','b') NULL, big_bits BIT(64), v DATETIME(6) NOT NULL) CHARACTER SET utf8mb4";
const POSTGRES: &str = "CREATE TYPE kind AS ENUM ('a', 'b'); CREATE TABLE v (
    id bigint PRIMARY KEY, big numeric(20,0), money numeric(65,30), f real, d double precision, flag boolean,
    txt varchar(100), long_text text, raw bytea, day date, tim time(6), wall timestamp(6), inst timestamptz(6),
    doc jsonb, uid uuid, kind kind, big_bits numeric(20,0), v timestamptz NOT NULL)";

async fn table(kind: Kind) -> Db {
    let db = database(kind).await;
    db.execute(if kind == Kind::MariaDb { MARIADB } else { POSTGRES }).await;
    db
}

const INSERT_MARIADB: &str = r#"INSERT INTO v VALUES
  (0, 18446744073709551615, 99999999999999999999999999999999999.999999999999999999999999999999, 0.1, 0.1, 1,
   'é😀 trailing  ', '', X'00FF5C27', '2024-02-29', '23:59:59.999999', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.999999',
   '{"b": 1.50, "a": [12345678901234567890123, null, "x"]}', '123E4567-e89b-12d3-a456-426614174000', 'b', X'FFFFFFFFFFFFFFFF', '2024-01-01 00:00:00.000001'),
  (-9223372036854775808, 0, -0.000000000000000000000000000001, 0, 0, 0,
   '', 'a\\b''c', '', '1000-01-01', '00:00:00', '1000-01-01 00:00:00', '1970-01-01 00:00:01', '{}', NULL, 'a', 0, '2024-01-01 00:00:00.000001'),
  (9223372036854775807, NULL, NULL, NULL, 5e-324, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2024-01-01 00:00:00.000001')"#;

#[tokio::test]
async fn every_value_is_carried_exactly_from_each_engine_to_each() {
    let source = table(Kind::MariaDb).await;
    source.execute(INSERT_MARIADB).await;
    let mut came_from = source;
    // MariaDB → MariaDB → PostgreSQL → PostgreSQL → MariaDB: each hop must leave the rows what they were.
    // Read in the spelling that both engines share: inside one of them JSON stays as it was written.
    let other = table(Kind::Postgres).await;
    let first = pair(&came_from, &other, &mapping("v", "v")).await;
    let original = came_from.all(&first.source).await;
    assert_eq!(original.len(), 3);
    for kind in [Kind::MariaDb, Kind::Postgres, Kind::Postgres, Kind::MariaDb] {
        let to = table(kind).await;
        let pair = pair(&came_from, &to, &mapping("v", "v")).await;
        let rows = came_from.all(&pair.source).await;
        to.commit(async |tx| tx.put_guarded(&pair.target, &rows).await.unwrap())
            .await;
        let arrived = to.all(&pair.target).await;
        assert_eq!(arrived, rows, "into {kind:?}");
        assert!(
            rows.iter()
                .zip(&arrived)
                .all(|(a, b)| Comparison::exact(a.values.len()).equal(a, b))
        );
        came_from = to;
    }
    let last = pair(&came_from, &other, &mapping("v", "v")).await;
    assert_eq!(came_from.all(&last.source).await, original);

    let at = |id: i64, column: &str| {
        let i = first
            .source
            .columns
            .iter()
            .position(|c| c.name.as_str() == column)
            .unwrap();
        original.iter().find(|r| r.values[0] == Value::Int(id)).unwrap().values[i].clone()
    };
    assert_eq!(at(0, "big"), Value::UInt(u64::MAX));
    assert_eq!(at(0, "big_bits"), Value::UInt(u64::MAX));
    assert_eq!(
        at(0, "money"),
        "99999999999999999999999999999999999.999999999999999999999999999999".into()
    );
    assert_eq!(at(0, "f"), Value::Float(f64::from(0.1f32)));
    assert_eq!(at(i64::MAX, "d"), Value::Float(5e-324));
    assert_eq!(at(0, "txt"), "é😀 trailing  ".into());
    assert_eq!(at(0, "raw"), Value::Bytes(vec![0, 0xff, 0x5c, 0x27]));
    assert_eq!(at(i64::MIN, "long_text"), "a\\b'c".into());
    assert_eq!(at(i64::MIN, "tim"), "00:00:00.000000".into());
    assert_eq!(
        at(0, "doc"),
        r#"{"a":[12345678901234567890123,null,"x"],"b":1.5}"#.into()
    );
    assert_eq!(at(i64::MAX, "txt"), Value::Null);
}

/// Each of these is rounded, cut or nulled by some database without an error.
#[tokio::test]
async fn what_a_side_cannot_hold_is_refused_and_nothing_is_written() {
    let (from, to) = (table(Kind::MariaDb).await, table(Kind::Postgres).await);
    from.execute(
        "SET sql_mode = ''; INSERT INTO v (id, day, v) VALUES (1, '0000-00-00', NOW(6));
        INSERT INTO v (id, tim, v) VALUES (2, '-838:59:59', NOW(6)); INSERT INTO v (id, flag, v) VALUES (4, 7, NOW(6));
        INSERT INTO v (id, txt, v) VALUES (3, 'a\\0b', NOW(6))",
    )
    .await;
    let pair = pair(&from, &to, &mapping("v", "v")).await;
    for id in [1, 2, 3, 4] {
        let key = crate::helpers::key(id);
        let read = from
            .commit(async |tx| {
                tx.read_keys(&pair.source, &[key], datamigration::store::Lock::None)
                    .await
            })
            .await;
        let error = match read {
            Err(e) => e,
            Ok(rows) => {
                let mut tx = to.begin().await;
                let e = tx
                    .put_guarded(&pair.target, &rows)
                    .await
                    .expect_err("a value that cannot be held");
                tx.rollback().await;
                e
            }
        };
        assert!(matches!(error, StoreError::Data { .. }), "row {id}: {error:?}");
        assert!(!error.is_transient());
    }
    assert!(to.all(&pair.target).await.is_empty());
}

#[tokio::test]
async fn floats_keep_their_bits_or_are_refused() {
    let odd = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        0.0,
        0.1,
        f64::MIN_POSITIVE,
        f64::MAX,
    ];
    for kind in crate::helpers::BOTH {
        let db = database(kind).await;
        let (float, stamp) = if kind == Kind::MariaDb {
            ("DOUBLE", "DATETIME(6)")
        } else {
            ("float8", "timestamptz")
        };
        db.execute(&format!(
            "CREATE TABLE f (id BIGINT PRIMARY KEY, d {float}, v {stamp} NOT NULL)"
        ))
        .await;
        let side = db.side("f", "v").await;
        for (id, x) in odd.into_iter().enumerate() {
            let row = datamigration::rows::Row {
                values: vec![(id as i64).into(), Value::Float(x), V1.into()],
            };
            let mut tx = db.begin().await;
            match tx.put(&side, std::slice::from_ref(&row)).await {
                Ok(()) => {
                    tx.commit().await.unwrap();
                    let rows = db
                        .commit(async |tx| {
                            tx.read_keys(&side, &[side.key_of(&row)], datamigration::store::Lock::None)
                                .await
                                .unwrap()
                        })
                        .await;
                    assert_eq!(rows, [row], "{kind:?}");
                }
                Err(e) => assert!(
                    kind == Kind::MariaDb && id < 4 && matches!(e, StoreError::Data { .. }),
                    "{kind:?}: {x}: {e}"
                ),
            }
        }
    }
}

/// Zero dates and times beyond a day exist on MySQL's side alone; there they are carried as they are.
#[tokio::test]
async fn oddities_of_mysql_survive_between_two_mysqls() {
    let (from, to) = (table(Kind::MariaDb).await, table(Kind::MariaDb).await);
    from.execute("SET sql_mode = ''; INSERT INTO v (id, day, tim, wall, flag, v) VALUES (1, '0000-00-00', '-838:59:59', '0000-00-00', 7, NOW(6))").await;
    let pair = pair(&from, &to, &mapping("v", "v")).await;
    let rows = from.all(&pair.source).await;
    to.commit(async |tx| tx.put(&pair.target, &rows).await.unwrap()).await;
    assert_eq!(to.all(&pair.target).await, rows);
    assert!(rows[0].values.contains(&"0000-00-00".into()) && rows[0].values.contains(&"-838:59:59.000000".into()));
    assert!(rows[0].values.contains(&Value::Int(7)), "a tinyint(1) of 7 stays 7");
}

#[tokio::test]
async fn a_schema_is_read_as_it_is() {
    let maria = database(Kind::MariaDb).await;
    maria
        .execute(
            "CREATE TABLE p (id INT PRIMARY KEY); CREATE TABLE s (
        id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, a VARCHAR(20) NOT NULL, b INT, g INT AS (b + 1) STORED, j JSON,
        t TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), shape POINT, pid INT,
        UNIQUE KEY by_a (a), UNIQUE KEY by_b (b), UNIQUE KEY part_a (a(3)), KEY by_t (t),
        FOREIGN KEY (pid) REFERENCES p (id) ON DELETE CASCADE);
        CREATE TRIGGER tr BEFORE INSERT ON s FOR EACH ROW SET NEW.b = 1",
        )
        .await;
    let postgres = database(Kind::Postgres).await;
    postgres.execute("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE s (
        id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a varchar(20) NOT NULL CONSTRAINT by_a UNIQUE, b int CONSTRAINT by_b UNIQUE,
        g int GENERATED ALWAYS AS (b + 1) STORED, j jsonb, t timestamptz(3) NOT NULL DEFAULT now(), shape point,
        pid int REFERENCES p ON DELETE CASCADE, tags text[]);
        CREATE INDEX by_t ON s (t); CREATE UNIQUE INDEX part_a ON s (a) WHERE b > 0;
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER tr BEFORE INSERT OR UPDATE ON s FOR EACH ROW EXECUTE FUNCTION f()").await;
    for db in [&maria, &postgres] {
        let s = db.db.table("s").await.unwrap().unwrap();
        let is = |name: &str| s.column(name).unwrap().clone();
        assert!(is("id").auto_increment && is("g").generated && !is("a").generated);
        assert_eq!(is("a").logical, LogicalType::text(Some(20)));
        assert_eq!(is("j").logical, LogicalType::Json);
        assert_eq!(is("t").logical, LogicalType::Timestamp { utc: true, digits: 3 });
        assert!(matches!(is("shape").logical, LogicalType::Native { .. }));
        assert_eq!(is("t").on_update_now, db.test.kind == Kind::MariaDb);
        assert!(is("b").nullable && is("b").default.is_none() && !is("a").nullable);
        assert_eq!(s.primary_key, ["id"]);
        let unique = |name: &str| s.unique_keys.iter().find(|k| k.name == name).unwrap().identifies;
        assert!(unique("by_a") && !unique("by_b") && !unique("part_a"));
        assert!(s.indexed_first.contains(&"t".to_owned()));
        assert_eq!(s.foreign_keys.len(), 1);
        assert!(s.foreign_keys[0].writes_by_itself() && s.foreign_keys[0].referenced_table == "p");
        assert_eq!(s.triggers.len(), 1);
        assert!(s.triggers[0].row_level && !s.triggers[0].fence);
        assert_eq!(db.db.table("nothing").await.unwrap(), None);
        let before = s.fingerprint();
        db.execute("ALTER TABLE s ADD COLUMN more INT").await;
        assert_ne!(db.db.table("s").await.unwrap().unwrap().fingerprint(), before);
    }
    let s = postgres.db.table("s").await.unwrap().unwrap();
    assert!(s.columns[0].identity_always && s.columns[0].sequence.is_some());
}

#[tokio::test]
async fn portable_sql_binds_and_reads_the_same_on_both() {
    for kind in crate::helpers::BOTH {
        let db = database(kind).await;
        db.execute("CREATE TABLE q (id BIGINT, txt VARCHAR(20), n NUMERIC(10,2))")
            .await;
        for values in [
            [Value::Int(1), "a?".into()],
            [Value::Int(2), Value::Null],
            [Value::Null, "b".into()],
        ] {
            db.db
                .execute("INSERT INTO q (id, txt, n) VALUES (?, ?, 1.50)", &values)
                .await
                .unwrap();
        }
        let rows = db
            .db
            .query("SELECT id, txt, n FROM q WHERE id = ? AND txt <> '?'", &[Value::Int(1)])
            .await
            .unwrap();
        assert_eq!(rows, [[Value::Int(1), "a?".into(), "1.5".into()]]);
        assert!(db.db.execute("INSERT INTO q (id) VALUES (?)", &[]).await.is_err());
        let clock = db.db.clock().await.unwrap();
        assert_eq!(clock.len(), V1.len(), "{clock}");
        assert!(clock.as_str() > V1);
        let mut tx = db.db.begin(TxOptions::read_only()).await.unwrap();
        assert!(
            tx.execute("INSERT INTO q (id) VALUES (?)", &[Value::Int(9)])
                .await
                .is_err(),
            "read only"
        );
        tx.rollback().await;
    }
}
