//! Modes and epochs: stragglers, acknowledgements, leases, and the sides that a mode needs.

use std::sync::Arc;
use std::time::Duration;

use datamigration::dualwrite::{Refusal, WriteError};
use datamigration::rows::Value;
use futures::FutureExt;
use tokio::sync::Notify;

use crate::pair::{Pair, SOON, close_epoch_on, create, key, rows, upsert, upsert_in};
use crate::support::Kind::{MariaDb, Postgres};
use crate::support::eventually;

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
            side.execute(&format!("CREATE TABLE orders (id BIGINT PRIMARY KEY, {note}, updated_at {time} NOT NULL DEFAULT CURRENT_TIMESTAMP(6))"))
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
