//! Transactions: bounded waits, commits that tell refused from unknown, sessions that outlive a dead connection, and
//! errors that say what is wrong without saying a password.

use std::time::{Duration, Instant};

use datamigration::rows::Value;
use datamigration::store::{CommitError, Database, Lock, StoreError, TxOptions};

use crate::helpers::{BOTH, V1, config, database, key, row, small};
use crate::support::{Kind, servers};

#[tokio::test]
async fn a_wait_for_a_lock_is_bounded_well_below_a_second() {
    for kind in BOTH {
        let (db, side) = small(kind, false).await;
        db.commit(async |tx| tx.put(&side, &[row(1, "a", V1), row(2, "b", V1)]).await.unwrap())
            .await;
        let mut holder = db.begin().await;
        holder.read_keys(&side, &[key(1)], Lock::Update).await.unwrap();
        let bounded = TxOptions::bounded(Duration::from_millis(400));
        let mut waiter = db.db.begin(bounded).await.unwrap();
        // Another key's row is free, whatever the planner thinks of a table of two rows.
        assert_eq!(waiter.read_keys(&side, &[key(2)], Lock::Update).await.unwrap().len(), 1);
        let began = Instant::now();
        let error = waiter.read_keys(&side, &[key(1)], Lock::Update).await.unwrap_err();
        let took = began.elapsed();
        assert!(
            matches!(error, StoreError::LockTimeout { .. } | StoreError::Timeout { .. }),
            "{kind:?}: {error:?}"
        );
        assert!(error.is_transient());
        assert!(
            took > Duration::from_millis(300) && took < Duration::from_millis(900),
            "{kind:?}: {took:?}"
        );
        waiter.rollback().await;
        holder.rollback().await;
    }
}

#[tokio::test]
async fn the_key_lock_makes_a_delete_wait_for_an_insert_that_is_not_committed() {
    let (db, side) = small(Kind::Postgres, false).await;
    let mut writer = db.begin().await;
    writer.lock_key(&side, &key(1)).await.unwrap();
    writer.put(&side, &[row(1, "new", V1)]).await.unwrap();
    let mut repair = db
        .db
        .begin(TxOptions {
            lock_timeout: Duration::from_millis(200),
            ..TxOptions::default()
        })
        .await
        .unwrap();
    assert!(matches!(
        repair.lock_key(&side, &key(1)).await,
        Err(StoreError::LockTimeout { .. })
    ));
    repair.rollback().await;
    let mut other = db.begin().await;
    other.lock_key(&side, &key(2)).await.unwrap();
    other.rollback().await;
    writer.commit().await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_failed_is_never_reported_as_committed() {
    let (db, side) = small(Kind::Postgres, true).await;
    db.commit(async |tx| tx.put(&side, &[row(1, "mine", V1)]).await.unwrap())
        .await;
    // Through the product's own statements, and through the connection that was lent out.
    for lent in [false, true] {
        let mut tx = db.begin().await;
        tx.put(&side, &[row(2, "fine", V1)]).await.unwrap();
        if lent {
            let connection = tx.postgres().unwrap();
            assert!(
                sqlx::query("INSERT INTO t VALUES (3, 'mine', now())")
                    .execute(connection)
                    .await
                    .is_err()
            );
        } else {
            assert!(tx.put(&side, &[row(3, "mine", V1)]).await.is_err());
        }
        let outcome = tx.commit().await;
        assert!(matches!(outcome, Err(CommitError::Refused(_))), "{outcome:?}");
        assert_eq!(db.all(&side).await.len(), 1);
    }
}

#[tokio::test]
async fn a_deferred_constraint_refuses_at_commit() {
    let db = database(Kind::Postgres).await;
    db.execute("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, pid int REFERENCES p DEFERRABLE INITIALLY DEFERRED)").await;
    let mut tx = db.begin().await;
    tx.execute("INSERT INTO c VALUES (1, 1)", &[]).await.unwrap();
    let outcome = tx.commit().await;
    assert!(
        matches!(outcome, Err(CommitError::Refused(StoreError::Data { .. }))),
        "{outcome:?}"
    );
}

/// The id of the session that a transaction runs in, and the administrator's statement that ends it.
async fn ending(kind: Kind, tx: &mut datamigration::store::Tx) -> String {
    let sql = if kind == Kind::MariaDb {
        "SELECT CONNECTION_ID()"
    } else {
        "SELECT pg_backend_pid()"
    };
    let Value::Int(id) = tx.query(sql, &[]).await.unwrap()[0][0] else {
        panic!("no session id")
    };
    if kind == Kind::MariaDb {
        format!("KILL {id}")
    } else {
        format!("SELECT pg_terminate_backend({id})")
    }
}

#[tokio::test]
async fn a_lost_connection_is_refused_before_commit_and_unknown_at_commit() {
    for kind in BOTH {
        let (db, side) = small(kind, false).await;
        let mut tx = db.begin().await;
        tx.put(&side, &[row(1, "a", V1)]).await.unwrap();
        let end = ending(kind, &mut tx).await;
        db.test.execute_as_admin(&end).await;
        let error = tx.put(&side, &[row(2, "a", V1)]).await.unwrap_err();
        assert!(
            matches!(error, StoreError::ConnectionLost { .. }),
            "{kind:?}: {error:?}"
        );
        let outcome = tx.commit().await;
        assert!(
            matches!(outcome, Err(CommitError::Refused(_))),
            "{kind:?}: COMMIT was never sent: {outcome:?}"
        );

        let mut tx = db.begin().await;
        tx.put(&side, &[row(3, "a", V1)]).await.unwrap();
        let end = ending(kind, &mut tx).await;
        db.test.execute_as_admin(&end).await;
        let outcome = tx.commit().await;
        assert!(matches!(outcome, Err(CommitError::Unknown(_))), "{kind:?}: {outcome:?}");
        assert!(db.all(&side).await.is_empty());
    }
}

#[tokio::test]
async fn dead_connections_in_the_pool_are_replaced_without_a_failed_write() {
    for kind in BOTH {
        let (db, side) = small(kind, false).await;
        let mut held = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..4 {
            let mut tx = db.begin().await;
            ends.push(ending(kind, &mut tx).await);
            held.push(tx);
        }
        for tx in held {
            tx.rollback().await;
        }
        for end in ends {
            db.test.execute_as_admin(&end).await;
        }
        for id in 0..6 {
            db.commit(async |tx| tx.put(&side, &[row(id, "a", V1)]).await.unwrap())
                .await;
        }
        assert_eq!(db.all(&side).await.len(), 6);
    }
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back_and_a_busy_pool_says_so() {
    for kind in BOTH {
        let (db, side) = small(kind, false).await;
        let mut tx = db.begin().await;
        tx.put(&side, &[row(1, "a", V1)]).await.unwrap();
        drop(tx);
        assert!(db.all(&side).await.is_empty());
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(db.begin().await);
        }
        let quick = TxOptions {
            acquire_timeout: Duration::from_millis(100),
            ..TxOptions::default()
        };
        let Err(error) = db.db.begin(quick).await else {
            panic!("a fifth connection of four")
        };
        assert!(matches!(error, StoreError::Timeout { .. }), "{error:?}");
        assert!(error.to_string().contains("busy"), "{error}");
        for tx in held {
            tx.rollback().await;
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_connection_is_said_without_the_password() {
    for kind in BOTH {
        let test = servers().await.database(kind).await;
        let url = url::Url::parse(&test.url).unwrap();
        let with = |change: &dyn Fn(&mut url::Url)| {
            let mut url = url.clone();
            change(&mut url);
            config(&test, url.as_str())
        };
        let wrong_password = with(&|u| u.set_password(Some("hunter2")).unwrap());
        let no_database = with(&|u| u.set_path("nowhere"));
        let no_server = with(&|u| u.set_port(Some(1)).unwrap());
        let mut no_ca = with(&|_| {});
        no_ca.ca = Some("/nonexistent/ca.crt".into());
        let mut wrong_ca = with(&|_| {});
        wrong_ca.ca = None;
        for (config, reason) in [
            (wrong_password, "LoginRefused"),
            (no_database, "LoginRefused"),
            (no_server, "Unreachable"),
            (no_ca, "InvalidConnection"),
            (wrong_ca, "TLSFailed"),
        ] {
            let Err(error) = Database::connect(&config).await else {
                panic!("{reason} expected from {kind:?}")
            };
            assert_eq!(error.reason(), reason, "{kind:?}: {error}");
            let text = error.to_string();
            assert!(text.starts_with(&config.label), "{text}");
            assert!(
                !text.contains("hunter2") && !text.contains(url.password().unwrap()),
                "{text}"
            );
        }
        let db = Database::connect(&config(&test, &test.url)).await.unwrap();
        let error = db.query("SELECT * FROM nowhere", &[]).await.unwrap_err();
        assert!(matches!(error, StoreError::MissingTable { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn sessions_are_strict_and_in_utc() {
    let maria = database(Kind::MariaDb).await;
    let rows = maria.db.query("SELECT @@sql_mode, @@time_zone, @@transaction_isolation, @@character_set_connection, @@idle_transaction_timeout", &[]).await;
    let rows = rows.or(maria.db.query("SELECT @@sql_mode, @@time_zone, @@tx_isolation, @@character_set_connection, @@idle_transaction_timeout", &[]).await).unwrap();
    let text = |i: usize| rows[0][i].as_str().unwrap_or_default().to_owned();
    assert!(
        text(0).contains("STRICT_ALL_TABLES") && text(0).contains("NO_AUTO_VALUE_ON_ZERO"),
        "{rows:?}"
    );
    assert_eq!(
        (text(1).as_str(), text(2).as_str(), text(3).as_str()),
        ("+00:00", "READ-COMMITTED", "utf8mb4")
    );
    assert_eq!(rows[0][4], Value::Int(15));
    let postgres = database(Kind::Postgres).await;
    for (setting, expected) in [
        ("TimeZone", "UTC"),
        ("transaction_isolation", "read committed"),
        ("standard_conforming_strings", "on"),
        ("idle_in_transaction_session_timeout", "15s"),
    ] {
        let rows = postgres
            .db
            .query("SELECT current_setting(?)", &[setting.into()])
            .await
            .unwrap();
        assert_eq!(rows[0][0], expected.into(), "{setting}");
    }
}

#[tokio::test]
async fn a_begin_that_nobody_waits_for_leaves_no_transaction_behind() {
    for kind in BOTH {
        let (db, side) = small(kind, false).await;
        for round in 0..200 {
            let mut begin = Box::pin(db.db.begin(TxOptions::read_only()));
            // Dropped at another point of its way each time.
            for _ in 0..round {
                if futures::poll!(begin.as_mut()).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(begin);
            db.commit(async |tx| {
                let written = tx.put(&side, &[row(1, &round.to_string(), V1)]).await;
                written.unwrap_or_else(|error| panic!("{kind:?}, round {round}: {error}"));
            })
            .await;
        }
    }
}
