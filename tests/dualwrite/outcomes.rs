//! The matrix of results: what each failure, at each step, means for the caller and leaves in the databases.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use datamigration::dualwrite::{ApplyError, Refusal, WriteError};
use datamigration::store::{Lock, TxOptions};
use futures::FutureExt;
use tokio::sync::Notify;

use crate::common::orders_pair;
use crate::pair::{Pair, SOON, create, delete, key, open, rows, upsert, upsert_in};
use crate::support::Kind::{MariaDb, Postgres};
use crate::support::eventually;

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

/// A process that starts while the follower hangs knows nothing of the follower's tables. Once the breaker is open it does
/// not ask for them on every write either: each would wait for the follower's whole time.
#[tokio::test]
async fn an_open_breaker_asks_the_follower_nothing() {
    let pair = Pair::new(MariaDb, Postgres).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hangs = format!("postgres://u:p@{}/nothing", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let silent = tokio::spawn({
        let asked = asked.clone();
        async move {
            let mut held = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                asked.fetch_add(1, Ordering::Relaxed);
                held.push(connection);
            }
        }
    });
    let shop = pair
        .builder_on("shop-0", Some(&pair.source.url), Some(&hangs))
        .follower_timeout(Duration::from_millis(200))
        .start();
    let mut id = 0;
    while shop.counters().breaker_opened == 0 {
        id += 1;
        upsert(&shop, id, "queued").await.unwrap();
    }
    let (before, since) = (asked.load(Ordering::Relaxed), Instant::now());
    for more in 1..=12 {
        upsert(&shop, id + more, "queued").await.unwrap();
    }
    // One try per second is what the breaker lets through.
    let tries = asked.load(Ordering::Relaxed) - before;
    assert!(
        tries as u64 <= since.elapsed().as_secs() + 1,
        "the follower was asked {tries} times"
    );
    assert_eq!(pair.queue(&pair.source).await, id + 12);
    silent.abort();
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
async fn at_commit(side: &crate::support::TestDatabase, body: &str) {
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
async fn kill_sessions(side: &crate::support::TestDatabase, during: &str) {
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
        at_commit(&pair.target, "PERFORM pg_sleep(4)").await;
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
