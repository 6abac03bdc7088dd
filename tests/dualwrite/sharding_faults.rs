//! Several shards under faults and contention: one that fails costs only its own keys, each turns stragglers away, and
//! writers over several leave both sides equal.

use std::time::Duration;

use datamigration::dualwrite::{Refusal, WriteError};

use crate::fleet::Layout::Databases;
use crate::fleet::{Fleet, adopted, home, remove, set};
use crate::pair::{SOON, close_epoch_on};
use crate::support::Kind::{MariaDb, Postgres};
use crate::support::{Mount, eventually};

const QUEUE: &str = "_datamigration_queue";

#[tokio::test]
async fn a_follower_shard_that_is_away_costs_its_own_keys_alone() {
    let fleet = Fleet::new(Databases(MariaDb, 1), Databases(Postgres, 3), "Lenient").await;
    let lost = &fleet.target.databases[1];
    let lost = lost.url.replace(&lost.name, "nothing");
    let shop = fleet
        .builder_at("shop-0", &fleet.mount, Some((1, &lost)))
        .retry_for(Duration::from_millis(300))
        .start();
    eventually(SOON, "it acknowledges", || async { shop.status().ready }).await;
    let everybody = [(0, 1), (1, 1), (2, 1), (4, 1)];
    set(&shop, "orders", &everybody, "first").await.unwrap();
    assert_eq!(fleet.source.keys(0, QUEUE).await, ["[1,1]", "[4,1]"]);
    let counted = shop.counters();
    assert_eq!(
        (counted.follower_failures, counted.queued, counted.breaker_opened),
        (1, 2, 0)
    );
    let in_step = async || {
        let ours = fleet.source.all().await;
        let elsewhere = |row: &&String| home(row.split(' ').next().unwrap().parse().unwrap(), 3) != 1;
        let ours: Vec<&String> = ours.iter().filter(elsewhere).collect();
        let theirs = fleet.target.all().await;
        assert_eq!(ours, theirs.iter().collect::<Vec<_>>());
        theirs.len()
    };
    assert_eq!(in_step().await, 2);
    // Its breaker opens; the others' do not, and their rows go on in step.
    for n in 2..9 {
        set(&shop, "orders", &[(1, n)], "queued").await.unwrap();
        set(&shop, "orders", &[(0, n), (2, n)], "put").await.unwrap();
    }
    remove(&shop, "orders", &[(0, 1), (1, 1)]).await.unwrap();
    let counted = shop.counters();
    assert_eq!((counted.breaker_opened, counted.follower_failures), (1, 9));
    assert_eq!(in_step().await, 2 + 14 - 1);
    let queued = fleet.source.keys(0, QUEUE).await;
    assert_eq!(queued.len(), 10);
    assert!(
        queued
            .iter()
            .all(|key| key.starts_with("[1,") || key.starts_with("[4,")),
        "{queued:?}"
    );

    // Strict: nothing happens anywhere, in no shard.
    fleet.flip("SRC_FIRST", "Strict", 2).await;
    adopted(&shop, 2).await;
    let before = (fleet.source.all().await, fleet.target.all().await);
    let error = set(&shop, "orders", &[(0, 50), (1, 50), (2, 50)], "not kept")
        .await
        .unwrap_err();
    assert!(matches!(error, WriteError::Failed(_)), "{error}");
    assert_eq!((fleet.source.all().await, fleet.target.all().await), before);
    assert_eq!(fleet.source.keys(0, QUEUE).await.len(), 10);
    // A write that does not need the shard is not held up by it.
    set(&shop, "orders", &[(0, 51), (2, 51)], "kept").await.unwrap();
    assert_eq!(in_step().await, 15 + 2);
}

#[tokio::test]
async fn a_shard_lost_between_the_commits_is_owed_its_own_keys() {
    for secondary in ["Lenient", "Strict"] {
        let fleet = Fleet::new(Databases(Postgres, 1), Databases(MariaDb, 2), secondary).await;
        let base = &fleet.source.databases[0];
        let shop = fleet.builder("shop-0").start();
        set(&shop, "orders", &[(0, 1), (1, 1)], "warm").await.unwrap();
        base.execute(
            "CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END $f$; \
             CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION at_commit()",
        )
        .await;
        let write = tokio::spawn({
            let shop = shop.clone();
            async move { set(&shop, "orders", &[(0, 2), (1, 1)], "late").await }
        });
        // The base is committing: both followers' transactions are open, and one goes away.
        eventually(SOON, "the base commits", || async {
            base.number("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'COMMIT%' AND state = 'active'")
                .await
                > 0
        })
        .await;
        let lost = &fleet.target.databases[1];
        let found = format!(
            "SELECT CAST(id AS CHAR) FROM information_schema.processlist WHERE db = '{}' AND id <> CONNECTION_ID()",
            lost.name
        );
        for id in lost.texts(&found).await.iter().flatten() {
            lost.execute_as_admin(&format!("KILL CONNECTION {id}")).await;
        }
        let result = write.await.unwrap();
        match secondary {
            "Lenient" => result.unwrap(),
            _ => assert!(matches!(result, Err(WriteError::OutcomeUnknown(_))), "{result:?}"),
        }
        assert_eq!(fleet.source.keys(0, QUEUE).await, ["[1,1]"], "{secondary}");
        let there = fleet.target.all().await;
        assert!(
            there.len() == 3 && there[1].starts_with("0 2 late") && there[2].starts_with("1 1 warm"),
            "{there:?}"
        );
    }
}

#[tokio::test]
async fn writers_over_several_shards_leave_both_sides_equal() {
    for (source, target) in [
        (Databases(MariaDb, 1), Databases(Postgres, 3)),
        (Databases(Postgres, 2), Databases(MariaDb, 3)),
    ] {
        let fleet = Fleet::new(source, target, "Strict").await;
        let shops: Vec<_> = (0..3).map(|n| fleet.builder(&format!("shop-{n}")).start()).collect();
        let bases = fleet.source.databases.len() as i64;
        for round in 0..2_i64 {
            let writers = (0..18_i64).map(|n| {
                let shop = shops[n as usize % 3].clone();
                // Users of one base shard and of all shards of the follower.
                let first = n % bases;
                let mut orders: Vec<_> = (0..3).map(|k| (first + bases * ((n + k) % 3), 1 + k % 2)).collect();
                orders.sort_unstable();
                // On rows that nobody could lock beforehand they may meet in opposite order: deadlocks are tried again.
                if round == 0 && n % 6 == 0 {
                    orders.reverse();
                }
                async move {
                    match n % 4 {
                        0 => remove(&shop, "orders", &orders).await.map(drop),
                        _ => set(&shop, "orders", &orders, &format!("w{round}-{n}")).await,
                    }
                }
            });
            for result in futures::future::join_all(writers).await {
                result.unwrap_or_else(|error| panic!("{source:?} {target:?}: {error}"));
            }
            fleet.assert_alike().await;
        }
        for shop in shops {
            assert_eq!(shop.counters().queued, 0);
        }
    }
}

#[tokio::test]
async fn two_sharded_bases_at_once_neither_diverge_nor_stand_still() {
    let fleet = Fleet::new(Databases(MariaDb, 1), Databases(Postgres, 2), "Strict").await;
    let short = Duration::from_millis(500);
    let early = fleet.builder("early").follower_timeout(short).start();
    eventually(SOON, "early acknowledges", || async { early.status().ready }).await;
    let other = Mount::new();
    fleet.raise("DST_FIRST", "Strict", 2).await;
    other.flip("DST_FIRST", "Strict", 2);
    let late = fleet.builder_at("late", &other, None).follower_timeout(short).start();
    let writers = (0..24_i64).map(|n| {
        let (early, late) = (early.clone(), late.clone());
        async move {
            tokio::time::sleep(Duration::from_millis(n as u64 * 20)).await;
            let note = format!("w{n}");
            match n % 4 {
                0 => set(&early, "orders", &[(n % 3, 1), ((n + 1) % 3, 1)], &note).await,
                1 => set(&late, "orders", &[(n % 3, 1)], &note).await,
                2 => remove(&early, "orders", &[(n % 3, 1)]).await.map(drop),
                _ => set(&late, "orders", &[(n % 2, 1), (n % 2 + 2, 1)], &note).await,
            }
        }
    });
    // They wait for each other across databases, where neither sees the cycle; in time each of them wins.
    for result in futures::future::join_all(writers).await {
        result.unwrap();
    }
    fleet.assert_alike().await;
}

#[tokio::test]
async fn each_shard_turns_a_straggler_away() {
    let fleet = Fleet::new(Databases(Postgres, 2), Databases(MariaDb, 3), "Lenient").await;
    let shop = fleet.builder("shop-0").retry_for(Duration::from_millis(300)).start();
    eventually(SOON, "it acknowledges", || async { shop.status().ready }).await;
    // Users 0 to 5 are the six pairs of a source's and a target's shard.
    let all: Vec<(i64, i64)> = (0..6).map(|user| (user, 1)).collect();
    for one in &all {
        set(&shop, "orders", &[*one], "first").await.unwrap();
    }
    fleet.raise("SRC_FIRST", "Strict", 2).await;
    let stale = async |closed: &dyn Fn(i64) -> bool| {
        for one in &all {
            match (set(&shop, "orders", &[*one], "late").await, closed(one.0)) {
                (Err(WriteError::Refused(Refusal::Stale(_))), true) | (Ok(()), false) => {}
                (result, closed) => panic!("user {} in a closed shard: {closed}, {result:?}", one.0),
            }
        }
    };
    stale(&|_| false).await;
    close_epoch_on(&fleet.target.databases[1], 2).await;
    stale(&|user| home(user, 3) == 1).await;
    close_epoch_on(&fleet.source.databases[1], 2).await;
    stale(&|user| home(user, 3) == 1 || home(user, 2) == 1).await;
    // A write that needs one closed shard among others leaves nothing in any.
    let error = set(&shop, "orders", &[(0, 7), (2, 7), (4, 7)], "late")
        .await
        .unwrap_err();
    assert!(matches!(error, WriteError::Refused(Refusal::Stale(_))), "{error}");
    for shard in 0..2 {
        assert_eq!(fleet.source.keys(shard, QUEUE).await, Vec::<String>::new());
    }
    fleet.assert_alike().await;
    fleet.flip("SRC_FIRST", "Strict", 2).await;
    adopted(&shop, 2).await;
    for one in &all {
        set(&shop, "orders", &[*one], "in time").await.unwrap();
    }
    let rows = fleet.assert_alike().await;
    assert!(
        rows.len() == 6 && rows.iter().all(|row| row.contains("in time")),
        "{rows:?}"
    );
    // The first shard of the base has the instances.
    let instances = "SELECT COUNT(*) FROM _datamigration_instances";
    assert_eq!(fleet.source.databases[0].number(instances).await, 1);
    assert_eq!(fleet.source.databases[1].number(instances).await, 0);
}
