//! The row operations that write: an older row never overwrites a newer one, another key's row is never touched, a
//! version only grows.

use datamigration::rows::{Row, Value};
use datamigration::store::{Ident, StoreError};

use crate::helpers::{BOTH, V1, V2, V3, database, key, row, small};
use crate::support::Kind;

#[tokio::test]
async fn the_guard_lets_only_newer_rows_in() {
    for kind in BOTH {
        for unique in [false, true] {
            let (db, side) = small(kind, unique).await;
            db.commit(async |tx| {
                tx.put(&side, &[row(1, "older", V1), row(2, "same", V2), row(3, "newer", V3)])
                    .await
                    .unwrap();
                tx.put_guarded(
                    &side,
                    &[row(1, "a", V2), row(2, "b", V2), row(3, "c", V2), row(0, "d", V2)],
                )
                .await
                .unwrap();
            })
            .await;
            let expected = [
                row(0, "d", V2),
                row(1, "a", V2),
                row(2, "same", V2),
                row(3, "newer", V3),
            ];
            assert_eq!(db.all(&side).await, expected, "{kind:?}, second unique index: {unique}");
            db.commit(async |tx| tx.put(&side, &[row(3, "back", V1)]).await.unwrap())
                .await;
            assert_eq!(db.all(&side).await[3], row(3, "back", V1), "a put is not guarded");
        }
    }
}

#[tokio::test]
async fn a_unique_value_of_another_row_is_an_error_that_names_the_index() {
    for kind in BOTH {
        for guarded in [false, true] {
            let (db, side) = small(kind, true).await;
            db.commit(async |tx| tx.put(&side, &[row(1, "mine", V1)]).await.unwrap())
                .await;
            let mut tx = db.begin().await;
            let rows = [row(5, "fine", V2), row(7, "mine", V2)];
            let error = if guarded {
                tx.put_guarded(&side, &rows).await.unwrap_err()
            } else {
                tx.put(&side, &rows).await.unwrap_err()
            };
            assert!(
                matches!(&error, StoreError::Duplicate { index, .. } if index == "t_note"),
                "{kind:?}: {error:?}"
            );
            tx.rollback().await;
            assert_eq!(
                db.all(&side).await,
                [row(1, "mine", V1)],
                "{kind:?}: the other row is as it was"
            );
        }
    }
}

#[tokio::test]
async fn columns_that_stamp_or_compute_themselves_take_the_carried_value() {
    let db = database(Kind::MariaDb).await;
    db.execute(
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, n INT, g INT AS (n * 2) STORED,
        v TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))",
    )
    .await;
    let side = db.side("t", "v").await;
    let of = |id: i64, n: i64, v: &str| Row {
        values: vec![id.into(), n.into(), v.into()],
    };
    db.commit(async |tx| tx.put(&side, &[of(0, 1, V1), of(2, 1, V1)]).await.unwrap())
        .await;
    db.commit(async |tx| tx.put_guarded(&side, &[of(0, 2, V2)]).await.unwrap())
        .await;
    assert_eq!(
        db.all(&side).await,
        [of(0, 2, V2), of(2, 1, V1)],
        "a key of 0 is a key, and the version is the carried one"
    );

    let db = database(Kind::Postgres).await;
    db.execute("CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, g int GENERATED ALWAYS AS (n * 2) STORED, v timestamptz NOT NULL)").await;
    let side = db.side("t", "v").await;
    db.commit(async |tx| tx.put(&side, &[of(7, 1, V1)]).await.unwrap())
        .await;
    assert_eq!(db.all(&side).await, [of(7, 1, V1)]);
    assert_eq!(db.test.number("SELECT g::bigint FROM t").await, 2);
}

#[tokio::test]
async fn a_version_only_grows_even_when_the_stored_one_is_ahead_of_the_clock() {
    for kind in BOTH {
        let (db, side) = small(kind, false).await;
        let future = "2999-01-01 00:00:00.000000";
        let rows = [row(1, "a", V1), row(2, "b", future), row(3, "c", V1)];
        db.commit(async |tx| tx.put(&side, &rows).await.unwrap()).await;
        let before = db.db.clock().await.unwrap();
        db.commit(async |tx| {
            tx.stamp(&side, &[(key(1), Some(V1.into())), (key(2), Some(future.into()))])
                .await
                .unwrap();
            tx.stamp(&side, &[(key(3), None)]).await.unwrap();
        })
        .await;
        let after = db.db.clock().await.unwrap();
        let versions: Vec<Value> = db.all(&side).await.iter().map(|r| side.version_of(r).clone()).collect();
        assert_eq!(
            versions[1],
            "2999-01-01 00:00:00.000001".into(),
            "one tick after the stored one"
        );
        for v in [&versions[0], &versions[2]] {
            let v = v.as_str().unwrap();
            assert!(
                before.as_str() <= v && v <= after.as_str(),
                "{before} <= {v} <= {after}"
            );
        }
        db.commit(async |tx| tx.stamp(&side, &[(key(2), Some(versions[1].clone()))]).await.unwrap())
            .await;
        assert_eq!(
            *side.version_of(&db.all(&side).await[1]),
            "2999-01-01 00:00:00.000002".into()
        );
    }
}

#[tokio::test]
async fn many_rows_are_put_read_and_deleted_in_several_statements() {
    for kind in BOTH {
        let (db, side) = small(kind, false).await;
        let rows: Vec<Row> = (-2500..2500).map(|id| row(id, "x", V1)).collect();
        db.commit(async |tx| tx.put_guarded(&side, &rows).await.unwrap()).await;
        let keys: Vec<_> = rows.iter().map(|r| side.key_of(r)).collect();
        let (read, deleted) = db
            .commit(async |tx| {
                let read = tx
                    .read_keys(&side, &keys, datamigration::store::Lock::None)
                    .await
                    .unwrap();
                (read, tx.delete(&side, &keys).await.unwrap())
            })
            .await;
        assert_eq!(read, rows);
        assert_eq!(deleted, 5000);
    }
}

#[tokio::test]
async fn a_generated_key_is_handed_back() {
    for kind in BOTH {
        let db = database(kind).await;
        let id = if kind == Kind::MariaDb {
            "BIGINT AUTO_INCREMENT"
        } else {
            "bigserial"
        };
        db.execute(&format!("CREATE TABLE g (id {id} PRIMARY KEY, n BIGINT)"))
            .await;
        let column = Ident::new("id").unwrap();
        for expected in 1..=3 {
            let key = db
                .commit(async |tx| {
                    tx.insert_returning_key("INSERT INTO g (n) VALUES (?)", &column, &[Value::Int(7)])
                        .await
                        .unwrap()
                })
                .await;
            assert_eq!(key, Value::Int(expected));
        }
    }
}
