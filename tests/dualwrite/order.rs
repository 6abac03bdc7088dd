//! Both sides hold the same rows, whatever order writers come in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datamigration::dualwrite::{ApplyError, TableDefinition};
use datamigration::store::TxOptions;
use futures::FutureExt;

use crate::common::{PAIRS, orders_pair, put_on, row};
use crate::pair::{Pair, SOON, config, create, delete, key, open, rows, update, upsert};
use crate::support::Kind::{MariaDb, Postgres};
use crate::support::eventually;

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
    let other = crate::support::Mount::new();
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
