//! The dual write on real servers: each line of the protocol, and each race that it answers.

#![allow(clippy::unwrap_used)]

#[path = "dualwrite/pair.rs"]
mod pair;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use datamigration::control;
use datamigration::dualwrite::{ApplyError, Refusal, TableDefinition, WriteError};
use datamigration::rows::{Row, Value};
use datamigration::store::{Lock, TableMapping, TablePair, TxOptions};
use futures::FutureExt;
use pair::{MIGRATION, Pair, SOON, close_epoch_on, config, create, delete, key, open, rows, update, upsert, upsert_in};
use support::{Kind, eventually};
use tokio::sync::Notify;

use Kind::{MariaDb, Postgres};

const PAIRS: [(Kind, Kind); 4] = [
    (MariaDb, Postgres),
    (MariaDb, MariaDb),
    (Postgres, Postgres),
    (Postgres, MariaDb),
];

async fn orders_pair(pair: &Pair) -> TablePair {
    let mapping = TableMapping {
        source: "orders".into(),
        target: "orders".into(),
        key: vec!["id".into()],
        version: "updated_at".into(),
        ..TableMapping::default()
    };
    let source = open(&pair.source).table("orders").await.unwrap().unwrap();
    let target = open(&pair.target).table("orders").await.unwrap().unwrap();
    TablePair::new(source, target, &mapping).unwrap()
}

/// A row of the orders table as the pair maps it.
fn row(id: i64, note: &str, version: &str) -> Row {
    Row {
        values: vec![Value::Int(id), Value::text(note), Value::text(version)],
    }
}

/// Puts a row on one side without the library.
async fn put_on(pair: &Pair, side: datamigration::words::Side, rows: &[Row]) {
    let shape = orders_pair(pair).await;
    let database = match side {
        datamigration::words::Side::Source => open(&pair.source),
        datamigration::words::Side::Target => open(&pair.target),
    };
    let mut tx = database.begin(TxOptions::default()).await.unwrap();
    tx.put(shape.side(side), rows).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn every_write_reaches_both_sides_with_one_version() {
    for (source, target) in PAIRS {
        let pair = Pair::new(source, target).await;
        let shop = pair.instance("shop-0");
        for (epoch, mode) in [(1, "SRC_FIRST"), (2, "DST_FIRST")] {
            if epoch > 1 {
                pair.flip(mode, "Lenient", epoch).await;
                eventually(SOON, "the mode is adopted", || async { shop.counters().epoch == epoch }).await;
            }
            // Generated keys are handed over by the operator; here the sides take turns with given ones.
            let id = if epoch == 1 {
                create(&shop, "new").await.unwrap()
            } else {
                500
            };
            upsert(&shop, id, "set").await.unwrap();
            upsert(&shop, 1000, "inserted").await.unwrap();
            assert_eq!(update(&shop, 1000, "changed 'ü'").await.unwrap(), 1);
            upsert(&shop, 1001, "to go").await.unwrap();
            assert_eq!(delete(&shop, 1001).await.unwrap(), 1);
            let rows = pair.assert_alike().await;
            assert!(
                rows.iter().any(|row| row.starts_with("1000 changed 'ü'")),
                "{source:?} {target:?} {rows:?}"
            );
            assert!(!rows.iter().any(|row| row.starts_with("1001 ")), "{rows:?}");
        }
        assert_eq!(pair.queue(&pair.source).await + pair.queue(&pair.target).await, 0);
        // Every delete is recorded where it happened first.
        for side in pair.sides() {
            let deletes = side.number("SELECT COUNT(*) FROM _datamigration_deletes").await;
            assert_eq!(deletes, 1, "{:?}", side.kind);
        }
        assert_eq!(shop.counters().ok, 11);
    }
}

#[tokio::test]
async fn writers_of_one_row_reach_both_databases_in_one_order() {
    for (source, target) in PAIRS {
        let pair = Pair::new(source, target).await;
        pair.flip("SRC_FIRST", "Strict", 2).await;
        let shops: Vec<_> = (0..3).map(|n| pair.instance(&format!("shop-{n}"))).collect();
        for round in 0..6 {
            let writers = (0..24).map(|n| {
                let shop = shops[n % 3].clone();
                async move {
                    let id = 1 + (n as i64 / 3) % 2;
                    match n % 4 {
                        0 => delete(&shop, id).await.map(drop),
                        1 => update(&shop, id, &format!("u{round}-{n}")).await.map(drop),
                        _ => upsert(&shop, id, &format!("w{round}-{n}")).await,
                    }
                }
            });
            for result in futures::future::join_all(writers).await {
                result.unwrap_or_else(|error| panic!("{source:?} {target:?}: {error}"));
            }
            let [ours, theirs] = pair.rows().await;
            assert_eq!(ours, theirs, "{source:?} to {target:?}, round {round}");
        }
    }
}

#[tokio::test]
async fn two_bases_at_once_neither_diverge_nor_stand_still() {
    // During a flip some instances have the source as base and others the target: they wait for each other across
    // databases, where neither sees the cycle.
    let pair = Pair::new(MariaDb, Postgres).await;
    pair.flip("SRC_FIRST", "Strict", 2).await;
    let early = pair.instance("early");
    eventually(SOON, "early acknowledges", || async { early.status().ready }).await;
    let other = support::Mount::new();
    pair.raise("DST_FIRST", "Strict", 3).await;
    other.flip("DST_FIRST", "Strict", 3);
    let identity = datamigration::dualwrite::Identity {
        pod: "late".into(),
        pod_uid: "late-uid".into(),
        process: "1".into(),
    };
    let late = datamigration::dualwrite::DualWrite::builder(other.path(), identity)
        .table(TableDefinition::new("orders", ["id"], "updated_at"))
        .source(config(&pair.source.url, pair.source.ca.clone(), "source"))
        .target(config(&pair.target.url, pair.target.ca.clone(), "target"))
        .start();
    let writers = (0..60).map(|n: i64| {
        let shop = if n % 2 == 0 { early.clone() } else { late.clone() };
        async move {
            tokio::time::sleep(Duration::from_millis(n as u64 * 15)).await;
            match n % 5 {
                0 => delete(&shop, n % 3).await.map(drop),
                _ => upsert(&shop, n % 3, &format!("w{n}")).await,
            }
        }
    });
    let began = Instant::now();
    let failed: Vec<_> = futures::future::join_all(writers)
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    assert!(failed.len() <= 1, "{} of 60 writes failed: {}", failed.len(), failed[0]);
    assert!(began.elapsed() < Duration::from_secs(8), "took {:?}", began.elapsed());
    pair.assert_alike().await;
}

#[tokio::test]
async fn a_delete_waits_for_an_uncommitted_insert_of_its_key_on_the_follower() {
    for target in [MariaDb, Postgres] {
        let pair = Pair::new(MariaDb, target).await;
        let shop = pair.instance("shop-0");
        put_on(
            &pair,
            datamigration::words::Side::Source,
            &[row(7, "there", "2024-01-01 00:00:00.000000")],
        )
        .await;
        let shape = orders_pair(&pair).await;
        // Another writer holds the key on the follower and has not committed its insert.
        let mut other = open(&pair.target).begin(TxOptions::default()).await.unwrap();
        other.lock_key(&shape.target, &key(7)).await.unwrap();
        other
            .put(&shape.target, &[row(7, "other", "2024-01-01 00:00:00.000000")])
            .await
            .unwrap();
        assert_eq!(delete(&shop, 7).await.unwrap(), 1);
        other.commit().await.unwrap();
        // Had the delete not waited, it would have found nothing, and nobody would know of the row that stays.
        assert_eq!(
            pair.queue(&pair.source).await,
            1,
            "{target:?}: the key is owed a repair"
        );
    }
}

#[tokio::test]
async fn absence_is_carried_only_for_what_this_transaction_deleted() {
    for (source, target) in [(MariaDb, Postgres), (Postgres, MariaDb)] {
        let pair = Pair::new(source, target).await;
        let shop = pair.instance("shop-0");
        put_on(
            &pair,
            datamigration::words::Side::Target,
            &[row(5, "another's", "2024-01-01 00:00:00.000000")],
        )
        .await;
        assert_eq!(update(&shop, 5, "x").await.unwrap(), 0);
        assert_eq!(delete(&shop, 5).await.unwrap(), 0);
        assert_eq!(
            rows(&pair.target).await.len(),
            1,
            "a key that was not locked is left alone"
        );
        assert_eq!(
            pair.source.number("SELECT COUNT(*) FROM _datamigration_deletes").await,
            0
        );
    }
}

#[tokio::test]
async fn a_row_that_appears_after_the_keys_were_locked_and_is_deleted_is_deleted_on_both_sides() {
    for (source, target) in PAIRS {
        let pair = Arc::new(Pair::new(source, target).await);
        let shop = pair.instance("shop-0");
        let other = pair.instance("shop-1");
        let times = Arc::new(std::sync::atomic::AtomicU32::new(0));
        shop.write("orders", [key(1), key(2)], {
            let times = times.clone();
            move |session| {
                let (other, times) = (other.clone(), times.clone());
                async move {
                    if times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                        // Nothing was there to lock; another writer inserts it, on both sides.
                        upsert(&other, 1, "appeared").await.map_err(ApplyError::application)?;
                    }
                    Ok(session.execute("DELETE FROM orders WHERE id IN (1, 2)", &[]).await?)
                }
                .boxed()
            }
        })
        .await
        .unwrap();
        assert_eq!(
            pair.assert_alike().await,
            Vec::<String>::new(),
            "{source:?} to {target:?}"
        );
        assert_eq!(
            times.load(std::sync::atomic::Ordering::SeqCst),
            2,
            "the second attempt finds and locks it"
        );
    }
}

#[tokio::test]
async fn the_version_only_grows_whatever_the_clocks_say() {
    for (source, target) in PAIRS {
        let pair = Pair::new(source, target).await;
        let shop = pair.instance("shop-0");
        // Stamped by a base whose clock was far ahead.
        let ahead = row(1, "ahead", "2090-01-01 00:00:00.000000");
        put_on(&pair, datamigration::words::Side::Source, std::slice::from_ref(&ahead)).await;
        put_on(&pair, datamigration::words::Side::Target, &[ahead]).await;
        update(&shop, 1, "later").await.unwrap();
        assert_eq!(pair.assert_alike().await, ["1 later 2090-01-01 00:00:00.000001"]);
        // Deleted and inserted again it begins with the base's clock, and the follower takes it all the same.
        delete(&shop, 1).await.unwrap();
        upsert(&shop, 1, "again").await.unwrap();
        let rows = pair.assert_alike().await;
        assert!(
            rows[0].starts_with("1 again 20") && !rows[0].contains("2090"),
            "{rows:?}"
        );
        // Nor does a follower that is ahead keep what the base no longer says.
        put_on(
            &pair,
            datamigration::words::Side::Target,
            &[row(1, "rogue", "2095-01-01 00:00:00.000000")],
        )
        .await;
        update(&shop, 1, "base").await.unwrap();
        assert!(pair.assert_alike().await[0].starts_with("1 base 20"));
    }
}

#[tokio::test]
async fn a_follower_that_is_away_costs_a_queue_entry_in_lenient_and_the_write_in_strict() {
    let pair = Pair::new(MariaDb, Postgres).await;
    let away = "postgres://u:p@127.0.0.1:9/nothing";
    let shop = pair
        .builder_on("shop-0", Some(&pair.source.url), Some(away))
        .retry_for(Duration::from_millis(300))
        .start();
    let id = create(&shop, "kept").await.unwrap();
    upsert(&shop, 400, "kept").await.unwrap();
    delete(&shop, 400).await.unwrap();
    assert_eq!(rows(&pair.source).await.len(), 1);
    let queued = pair
        .source
        .texts("SELECT row_key FROM _datamigration_queue ORDER BY id")
        .await;
    assert_eq!(
        queued,
        [Some(format!("[{id}]")), Some("[400]".into()), Some("[400]".into())]
    );
    assert_eq!(
        pair.source.number("SELECT COUNT(*) FROM _datamigration_deletes").await,
        1
    );

    pair.flip("SRC_FIRST", "Strict", 2).await;
    eventually(SOON, "strict is adopted", || async { shop.counters().epoch == 2 }).await;
    let error = upsert(&shop, 401, "not kept").await.unwrap_err();
    assert!(matches!(error, WriteError::Failed(_)), "{error}");
    assert_eq!(rows(&pair.source).await.len(), 1, "nothing happened");
    assert_eq!(pair.queue(&pair.source).await, 3);
}

#[tokio::test]
async fn a_follower_that_hangs_is_given_up_in_its_time_and_then_not_tried() {
    let pair = Pair::new(MariaDb, Postgres).await;
    let shop = pair
        .builder("shop-0")
        .follower_timeout(Duration::from_millis(300))
        .start();
    upsert(&shop, 1, "warm").await.unwrap();
    let shape = orders_pair(&pair).await;
    let mut other = open(&pair.target).begin(TxOptions::default()).await.unwrap();
    other.read_keys(&shape.target, &[key(1)], Lock::Update).await.unwrap();
    let began = Instant::now();
    upsert(&shop, 1, "queued").await.unwrap();
    assert!(
        began.elapsed() < Duration::from_millis(1500),
        "took {:?}",
        began.elapsed()
    );
    assert_eq!(pair.queue(&pair.source).await, 1);
    other.rollback().await;
    // The follower answers again; the next write reaches it.
    upsert(&shop, 1, "both").await.unwrap();
    pair.assert_alike().await;
}

#[tokio::test]
async fn strict_tries_again_while_nothing_was_committed() {
    let pair = Pair::new(MariaDb, Postgres).await;
    pair.flip("SRC_FIRST", "Strict", 2).await;
    let shop = pair
        .builder("shop-0")
        .follower_timeout(Duration::from_millis(200))
        .start();
    upsert(&shop, 1, "warm").await.unwrap();
    let shape = orders_pair(&pair).await;
    let mut other = open(&pair.target).begin(TxOptions::default()).await.unwrap();
    other.read_keys(&shape.target, &[key(1)], Lock::Update).await.unwrap();
    let write = tokio::spawn({
        let shop = shop.clone();
        async move { upsert(&shop, 1, "after all").await }
    });
    eventually(SOON, "the first attempt has failed", || async {
        shop.counters().follower_failures > 0
    })
    .await;
    other.rollback().await;
    write.await.unwrap().unwrap();
    assert!(pair.assert_alike().await[0].starts_with("1 after all"));
    assert_eq!(pair.queue(&pair.source).await, 0);
}

/// A constraint on PostgreSQL's table that is checked at COMMIT: it waits, or refuses.
async fn at_commit(side: &support::TestDatabase, body: &str) {
    side.execute(&format!(
        "CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN {body}; RETURN NULL; END $f$; \
         CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT OR UPDATE ON orders DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION at_commit()"
    ))
    .await;
}

#[tokio::test]
async fn a_base_that_refuses_to_commit_fails_the_write_and_leaves_nothing() {
    for secondary in ["Lenient", "Strict"] {
        let pair = Pair::new(MariaDb, Postgres).await;
        pair.flip("DST_FIRST", secondary, 2).await;
        at_commit(&pair.target, "RAISE EXCEPTION 'no'").await;
        let shop = pair.instance("shop-0");
        let error = upsert(&shop, 1, "x").await.unwrap_err();
        assert!(matches!(error, WriteError::Failed(_)), "{error}");
        assert_eq!(pair.assert_alike().await, Vec::<String>::new());
        assert_eq!(pair.queue(&pair.target).await, 0);
    }
}

/// Ends the sessions of `database` that hold a transaction open there, as an administrator would.
async fn kill_sessions(side: &support::TestDatabase, during: &str) {
    match side.kind {
        MariaDb => {
            let found = format!(
                "SELECT CAST(id AS CHAR) FROM information_schema.processlist \
                 WHERE db = '{}' AND id <> CONNECTION_ID()",
                side.name
            );
            eventually(SOON, "a session to kill", || async {
                let ids = side.texts(&found).await;
                for id in ids.iter().flatten() {
                    side.execute_as_admin(&format!("KILL CONNECTION {id}")).await;
                }
                !ids.is_empty()
            })
            .await;
        }
        Postgres => {
            let kill = format!(
                "SELECT CAST(pg_terminate_backend(pid) AS text) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ILIKE '{during}%' AND state = 'active'"
            );
            eventually(SOON, "a session to kill", || async {
                !side.texts(&kill).await.is_empty()
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_base_commit_that_is_not_answered_is_outcome_unknown() {
    let pair = Pair::new(MariaDb, Postgres).await;
    pair.flip("DST_FIRST", "Lenient", 2).await;
    at_commit(&pair.target, "PERFORM pg_sleep(20)").await;
    let shop = pair.instance("shop-0");
    let write = tokio::spawn({
        let shop = shop.clone();
        async move { upsert(&shop, 1, "x").await }
    });
    kill_sessions(&pair.target, "COMMIT").await;
    let error = write.await.unwrap().unwrap_err();
    assert!(matches!(error, WriteError::OutcomeUnknown(_)), "{error}");
    assert_eq!(shop.counters().unknown, 1);
    // Whatever the base did, the follower was rolled back and the key is looked at.
    assert_eq!(rows(&pair.source).await.len(), 0);
    assert_eq!(pair.queue(&pair.target).await, 1);
}

#[tokio::test]
async fn a_follower_lost_between_the_commits_is_queued_and_strict_says_unknown() {
    for (secondary, source) in [("Lenient", MariaDb), ("Strict", MariaDb)] {
        let pair = Pair::new(source, Postgres).await;
        pair.flip("DST_FIRST", secondary, 2).await;
        at_commit(&pair.target, "PERFORM pg_sleep(2)").await;
        let shop = pair.instance("shop-0");
        let write = tokio::spawn({
            let shop = shop.clone();
            async move { upsert(&shop, 1, "x").await }
        });
        // The base is committing: the follower's transaction is open, and goes away.
        eventually(SOON, "the base commits", || async {
            pair.target
                .number("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'COMMIT%' AND state = 'active'")
                .await
                > 0
        })
        .await;
        kill_sessions(&pair.source, "").await;
        let result = write.await.unwrap();
        match secondary {
            "Lenient" => result.unwrap(),
            _ => assert!(matches!(result, Err(WriteError::OutcomeUnknown(_))), "{result:?}"),
        }
        assert_eq!((rows(&pair.target).await.len(), rows(&pair.source).await.len()), (1, 0));
        assert_eq!(pair.queue(&pair.target).await, 1, "{secondary}");
    }
}

#[tokio::test]
async fn without_a_queue_a_lost_second_write_is_never_called_a_success() {
    let pair = Pair::new(MariaDb, Postgres).await;
    let away = "postgres://u:p@127.0.0.1:9/nothing";
    let shop = pair
        .builder_on("shop-0", Some(&pair.source.url), Some(away))
        .retry_for(Duration::from_millis(200))
        .start();
    pair.source.execute("DROP TABLE _datamigration_queue").await;
    let error = upsert(&shop, 1, "x").await.unwrap_err();
    assert!(matches!(error, WriteError::Failed(_)), "{error}");
    assert_eq!(rows(&pair.source).await.len(), 0, "the base was rolled back");

    let pair = Pair::new(MariaDb, Postgres).await;
    pair.flip("DST_FIRST", "Lenient", 2).await;
    at_commit(&pair.target, "PERFORM pg_sleep(1)").await;
    pair.target.execute("DROP TABLE _datamigration_queue").await;
    let shop = pair.instance("shop-0");
    let write = tokio::spawn(async move { upsert(&shop, 1, "x").await });
    eventually(SOON, "the base commits", || async {
        pair.target
            .number("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'COMMIT%' AND state = 'active'")
            .await
            > 0
    })
    .await;
    kill_sessions(&pair.source, "").await;
    let result = write.await.unwrap();
    assert!(matches!(result, Err(WriteError::OutcomeUnknown(_))), "{result:?}");
}

#[tokio::test]
async fn a_straggler_is_turned_away_by_the_database_until_it_reads_the_new_mode() {
    use datamigration::words::Side::{Source, Target};
    for (source, target, first) in [
        (MariaDb, Postgres, Source),
        (MariaDb, Postgres, Target),
        (Postgres, MariaDb, Source),
        (Postgres, MariaDb, Target),
    ] {
        let pair = Pair::new(source, target).await;
        let shop = pair.builder("shop-0").retry_for(Duration::from_millis(400)).start();
        upsert(&shop, 1, "first").await.unwrap();
        pair.raise("SRC_FIRST", "Strict", 2).await;
        upsert(&shop, 1, "raised, not yet closed").await.unwrap();
        // One side alone is closed already: each turns the write away, and for the follower too that is a sign that
        // the mode has moved on, not a failed second write.
        let (one, other) = match first {
            Source => (&pair.source, &pair.target),
            Target => (&pair.target, &pair.source),
        };
        close_epoch_on(one, 2).await;
        let error = upsert(&shop, 1, "late").await.unwrap_err();
        assert!(matches!(error, WriteError::Refused(Refusal::Stale(_))), "{error}");
        close_epoch_on(other, 2).await;
        let error = upsert(&shop, 1, "late").await.unwrap_err();
        assert!(matches!(error, WriteError::Refused(Refusal::Stale(_))), "{error}");
        let rows = pair.assert_alike().await;
        assert!(rows[0].starts_with("1 raised, not yet closed"), "{rows:?}");
        assert_eq!(pair.queue(&pair.source).await, 0);
        // A write that meets the closed epoch just before its files change goes on in the new mode.
        let write = tokio::spawn({
            let shop = shop.clone();
            async move { upsert(&shop, 1, "in time").await }
        });
        let retries = shop.counters().retries;
        eventually(SOON, "it was turned away once", || async {
            shop.counters().retries > retries
        })
        .await;
        pair.mount.flip("SRC_FIRST", "Strict", 2);
        write.await.unwrap().unwrap();
        assert!(pair.assert_alike().await[0].starts_with("1 in time"));
    }
}

#[tokio::test]
async fn an_epoch_is_acknowledged_when_nothing_begun_before_it_is_in_flight() {
    let pair = Pair::new(MariaDb, Postgres).await;
    let shop = pair.instance("shop-0");
    eventually(SOON, "epoch 1", || async {
        pair.acknowledged(&pair.source, "shop-0").await == Some(1)
    })
    .await;
    pair.raise("SRC_FIRST", "Strict", 2).await;
    let (inside, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = tokio::spawn({
        let (shop, inside, go_on) = (shop.clone(), inside.clone(), go_on.clone());
        async move {
            shop.write("orders", [key(1)], move |session| {
                let (inside, go_on) = (inside.clone(), go_on.clone());
                async move {
                    upsert_in(session, 1, "slow").await?;
                    inside.notify_one();
                    go_on.notified().await;
                    Ok(())
                }
                .boxed()
            })
            .await
        }
    });
    inside.notified().await;
    pair.mount.flip("SRC_FIRST", "Strict", 2);
    eventually(SOON, "epoch 2 is adopted", || async { shop.counters().epoch == 2 }).await;
    // Others go on meanwhile, in the new mode.
    for n in 0..30 {
        upsert(&shop, 2, &format!("n{n}")).await.unwrap();
        assert_eq!(
            pair.acknowledged(&pair.source, "shop-0").await,
            Some(1),
            "a request of epoch 1 is in flight"
        );
    }
    go_on.notify_one();
    slow.await.unwrap().unwrap();
    eventually(SOON, "epoch 2", || async {
        pair.acknowledged(&pair.source, "shop-0").await == Some(2)
    })
    .await;
    // The row lies in the base of the mode it speaks of.
    pair.flip("DST_FIRST", "Strict", 3).await;
    eventually(SOON, "epoch 3", || async {
        pair.acknowledged(&pair.target, "shop-0").await == Some(3)
    })
    .await;
    shop.close().await;
    assert_eq!(
        pair.acknowledged(&pair.target, "shop-0").await,
        None,
        "ended in order, nobody waits for it"
    );
    assert!(matches!(
        upsert(&shop, 1, "x").await,
        Err(WriteError::Refused(Refusal::Closing))
    ));
}

#[tokio::test]
async fn without_heartbeats_writes_are_refused_when_the_lease_is_over() {
    let pair = Pair::new(MariaDb, Postgres).await;
    let shop = pair.builder("shop-0").lease(Duration::from_millis(900)).start();
    upsert(&shop, 1, "alive").await.unwrap();
    pair.source
        .execute("RENAME TABLE _datamigration_instances TO elsewhere")
        .await;
    eventually(SOON, "the lease is over", || async {
        matches!(
            upsert(&shop, 1, "dead").await,
            Err(WriteError::Refused(Refusal::LeaseOver { .. }))
        )
    })
    .await;
    assert!(!shop.status().ready);
    pair.source
        .execute("RENAME TABLE elsewhere TO _datamigration_instances")
        .await;
    eventually(SOON, "it lives again", || async {
        upsert(&shop, 1, "alive again").await.is_ok()
    })
    .await;
    pair.assert_alike().await;
}

#[tokio::test]
async fn a_side_that_the_mode_does_not_need_may_be_away() {
    let away = Some("postgres://u:p@127.0.0.1:9/nothing");
    for other in [None, away] {
        let pair = Pair::bare(MariaDb, Postgres).await;
        for side in pair.sides() {
            let note = "note VARCHAR(100) NOT NULL";
            let time = if side.kind == MariaDb {
                "DATETIME(6)"
            } else {
                "TIMESTAMP(6)"
            };
            side.execute(&format!("CREATE TABLE orders (id BIGINT PRIMARY KEY, {note}, updated_at {time} NOT NULL DEFAULT CURRENT_TIMESTAMP)"))
                .await;
        }
        // Before any migration: no control tables, epoch 0.
        pair.mount.put(&[("write-mode", "SRC_ONLY")]);
        let shop = pair.builder_on("shop-0", Some(&pair.source.url), other).start();
        upsert(&shop, 1, "source alone").await.unwrap();
        assert_eq!(rows(&pair.source).await.len(), 1);
        assert!(shop.status().ready);
        pair.mount.put(&[("write-mode", "DST_ONLY")]);
        let shop = pair.builder_on("shop-1", other, Some(&pair.target.url)).start();
        upsert(&shop, 1, "target alone").await.unwrap();
        assert_eq!(rows(&pair.target).await.len(), 1);
        assert!(
            shop.read(|session| async move { Ok(session.query("SELECT note FROM orders", &[]).await?) }.boxed())
                .await
                .unwrap()[0][0]
                == Value::text("target alone")
        );
    }
}

#[tokio::test]
async fn read_only_refuses_writes_and_answers_reads() {
    let pair = Pair::new(MariaDb, Postgres).await;
    let shop = pair.instance("shop-0");
    upsert(&shop, 1, "there").await.unwrap();
    pair.flip("SRC_READ_ONLY", "Lenient", 2).await;
    eventually(SOON, "adopted", || async { shop.counters().epoch == 2 }).await;
    assert!(matches!(
        upsert(&shop, 1, "x").await,
        Err(WriteError::Refused(Refusal::ReadOnly))
    ));
    let notes = shop.read(|session| async move { Ok(session.query("SELECT note FROM orders", &[]).await?) }.boxed());
    assert_eq!(notes.await.unwrap(), [[Value::text("there")]]);
}

#[tokio::test]
async fn a_write_goes_on_when_its_caller_goes_away() {
    let pair = Pair::new(MariaDb, Postgres).await;
    let shop = pair.instance("shop-0");
    let (inside, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let caller = tokio::spawn({
        let (shop, inside, go_on) = (shop.clone(), inside.clone(), go_on.clone());
        async move {
            shop.write("orders", [key(1)], move |session| {
                let (inside, go_on) = (inside.clone(), go_on.clone());
                async move {
                    inside.notify_one();
                    go_on.notified().await;
                    upsert_in(session, 1, "to its end").await
                }
                .boxed()
            })
            .await
        }
    });
    inside.notified().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    go_on.notify_one();
    shop.close().await;
    assert!(pair.assert_alike().await[0].starts_with("1 to its end"));
}

#[tokio::test]
async fn what_the_application_rejects_leaves_nothing() {
    let pair = Pair::new(MariaDb, Postgres).await;
    let shop = pair.instance("shop-0");
    let result: Result<(), _> = shop
        .write("orders", [key(1)], |session| {
            async move {
                upsert_in(session, 1, "x").await?;
                Err(ApplyError::application("out of stock"))
            }
            .boxed()
        })
        .await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "failed, nothing happened: out of stock"
    );
    assert_eq!(pair.assert_alike().await, Vec::<String>::new());
    assert!(matches!(
        shop.write("carts", [key(1)], |_| async { Ok(()) }.boxed()).await,
        Err(WriteError::Refused(Refusal::UnknownTable(_)))
    ));
    let many = (0..1001).map(key);
    let result = shop.write("orders", many, |_| async { Ok(()) }.boxed()).await;
    assert!(matches!(
        result,
        Err(WriteError::Refused(Refusal::TooManyKeys { found: 1001, .. }))
    ));
}

#[tokio::test]
async fn while_the_base_is_swapped_the_sides_hand_out_odd_and_even_keys() {
    let pair = Pair::new(MariaDb, MariaDb).await;
    let shop = pair.builder("shop-0").start();
    let ids = async |n: i64| {
        let mut ids = Vec::new();
        for i in 0..n {
            ids.push(create(&shop, &format!("{i}")).await.unwrap());
        }
        ids
    };
    let all = ids(2).await;
    assert_eq!(all[1], all[0] + 1, "lenient: every number");
    pair.flip("SRC_FIRST", "Strict", 2).await;
    eventually(SOON, "adopted", || async { shop.counters().epoch == 2 }).await;
    assert!(ids(3).await.iter().all(|id| id % 2 == 1), "the source's are odd");
    pair.flip("DST_FIRST", "Strict", 3).await;
    eventually(SOON, "adopted", || async { shop.counters().epoch == 3 }).await;
    assert!(ids(3).await.iter().all(|id| id % 2 == 0), "the target's are even");
    pair.flip("DST_FIRST", "Lenient", 4).await;
    eventually(SOON, "adopted", || async { shop.counters().epoch == 4 }).await;
    let all = ids(3).await;
    assert_eq!(
        (all[1], all[2]),
        (all[0] + 1, all[0] + 2),
        "lenient again: every number"
    );
    pair.assert_alike().await;
}

#[tokio::test]
async fn several_tables_renamed_and_dropped_columns() {
    let pair = Pair::bare(MariaDb, Postgres).await;
    pair.source
        .execute(
            "CREATE TABLE parents (id BIGINT PRIMARY KEY, legacy INT NULL, name VARCHAR(20) NOT NULL, v DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)); \
             CREATE TABLE children (a BIGINT, b VARCHAR(10), parent BIGINT NOT NULL, v DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), \
             PRIMARY KEY (a, b), FOREIGN KEY (parent) REFERENCES parents (id))",
        )
        .await;
    pair.target
        .execute(
            "CREATE TABLE elders (id BIGINT PRIMARY KEY, title VARCHAR(20) NOT NULL, ver TIMESTAMP(6) NOT NULL); \
             CREATE TABLE children (a BIGINT, b VARCHAR(10), parent BIGINT NOT NULL REFERENCES elders (id), v TIMESTAMP(6) NOT NULL, PRIMARY KEY (a, b))",
        )
        .await;
    for (side, tables) in [
        (&pair.source, ["parents", "children"]),
        (&pair.target, ["elders", "children"]),
    ] {
        let mut tx = open(side).begin(TxOptions::default()).await.unwrap();
        control::create(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = open(side).begin(TxOptions::default()).await.unwrap();
        control::claim_tables(&mut tx, MIGRATION, "uid-1", &tables)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    pair.flip("SRC_FIRST", "Strict", 1).await;
    let identity = datamigration::dualwrite::Identity {
        pod: "p".into(),
        pod_uid: "p".into(),
        process: "1".into(),
    };
    let shop = datamigration::dualwrite::DualWrite::builder(pair.mount.path(), identity)
        .table(
            TableDefinition::new("parents", ["id"], "v")
                .target("elders")
                .rename("name", "title")
                .rename("v", "ver")
                .drop_column("legacy"),
        )
        .table(TableDefinition::new("children", ["a", "b"], "v"))
        .source(config(&pair.source.url, pair.source.ca.clone(), "source"))
        .target(config(&pair.target.url, pair.target.ca.clone(), "target"))
        .start();
    let child = datamigration::rows::Key(vec![Value::Int(1), Value::text("x")]);
    let both = || [("children", vec![child.clone()]), ("parents", vec![key(9)])];
    shop.write_tables(both(), |session| {
        async move {
            let (parents, children) = (session.table("parents")?, session.table("children")?);
            session
                .execute(
                    &format!("INSERT INTO {parents} (id, legacy, name) VALUES (9, 5, 'nine')"),
                    &[],
                )
                .await?;
            session
                .execute(
                    &format!("INSERT INTO {children} (a, b, parent) VALUES (1, 'x', 9)"),
                    &[],
                )
                .await?;
            Ok(())
        }
        .boxed()
    })
    .await
    .unwrap();
    assert_eq!(
        pair.target.texts("SELECT title FROM elders").await,
        [Some("nine".into())]
    );
    assert_eq!(pair.target.number("SELECT COUNT(*) FROM children").await, 1);
    pair.flip("DST_FIRST", "Strict", 2).await;
    eventually(SOON, "adopted", || async { shop.counters().epoch == 2 }).await;
    shop.write_tables(both(), |session| {
        async move {
            let (parents, children) = (session.table("parents")?, session.table("children")?);
            assert_eq!(parents, "\"elders\"");
            session
                .execute(&format!("UPDATE {parents} SET title = 'changed'"), &[])
                .await?;
            session.execute(&format!("DELETE FROM {children}"), &[]).await?;
            Ok(())
        }
        .boxed()
    })
    .await
    .unwrap();
    assert_eq!(
        pair.source.texts("SELECT CONCAT(name, legacy) FROM parents").await,
        [Some("changed5".into())]
    );
    shop.write("parents", [key(9)], |session| {
        async move {
            let parents = session.table("parents")?;
            Ok(session.execute(&format!("DELETE FROM {parents}"), &[]).await?)
        }
        .boxed()
    })
    .await
    .unwrap();
    assert_eq!(pair.source.number("SELECT COUNT(*) FROM parents").await, 0);
    let deletes = pair
        .target
        .texts("SELECT table_name || row_key FROM _datamigration_deletes ORDER BY id")
        .await;
    assert_eq!(deletes, [Some("children[1,\"x\"]".into()), Some("parents[9]".into())]);
}
