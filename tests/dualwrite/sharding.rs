//! Sides of several shards: every write reaches the shards of its rows, one that fails costs only its own keys, and what
//! one transaction cannot carry is refused.

use std::time::Duration;

use datamigration::dualwrite::{ApplyError, DualWrite, ReadError, Refusal, Session, TableDefinition, WriteError};
use datamigration::rows::{Key, ShardFunction, Value};
use datamigration::store::TxOptions;
use datamigration::words::Side::{self, Source, Target};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::fleet::Layout::{Databases, Tables};
use crate::fleet::{Fleet, create, home, insert_in, order, remove, set};
use crate::pair::{SOON, close_epoch_on, config, open};
use crate::support::Kind::{MariaDb, Postgres};
use crate::support::{Mount, eventually};

const AWAY: &str = "postgres://u:p@127.0.0.1:9/nothing";
const QUEUE: &str = "_datamigration_queue";
const DELETES: &str = "_datamigration_deletes";

async fn adopted(shop: &DualWrite, epoch: i64) {
    eventually(SOON, "the mode is adopted", || async { shop.counters().epoch == epoch }).await;
}

#[tokio::test]
async fn writes_land_in_the_shards_of_their_rows() {
    for (source, target) in [
        (Databases(MariaDb, 1), Databases(Postgres, 3)),
        (Databases(Postgres, 2), Tables(MariaDb, 3)),
        (Tables(Postgres, 2), Databases(MariaDb, 1)),
    ] {
        let fleet = Fleet::new(source, target, "Strict").await;
        let table = "orders";
        let shop = fleet.builder("shop-0").start();
        let mut generated = Vec::new();
        for (epoch, mode) in [(1, "SRC_FIRST"), (2, "DST_FIRST")] {
            if epoch > 1 {
                fleet.flip(mode, "Strict", epoch).await;
                adopted(&shop, epoch).await;
            }
            for user in -2..4 {
                set(&shop, table, &[(user, 500)], &format!("e{epoch} 'ü'"))
                    .await
                    .unwrap();
                set(&shop, table, &[(user, 600), (user, 601)], "two at once")
                    .await
                    .unwrap();
                assert_eq!(remove(&shop, table, &[(user, 600), (user, 602)]).await.unwrap(), 1);
            }
            for user in 0..3 {
                generated.push((user, create(&shop, table, user).await.unwrap()));
            }
            let rows = fleet.assert_alike().await;
            assert_eq!(rows.len(), 12 + generated.len(), "{source:?} {target:?} {rows:?}");
            assert!(
                rows.iter().any(|row| row.starts_with(&format!("-2 500 e{epoch} 'ü'"))),
                "{rows:?}"
            );
            let base = if epoch == 1 { &fleet.source } else { &fleet.target };
            // A delete is recorded where the row was.
            let mut recorded = 0;
            for (shard, database) in base.databases.iter().enumerate() {
                let together = base
                    .databases
                    .iter()
                    .filter(|other| other.name == database.name)
                    .count();
                for key in base.keys(shard, DELETES).await {
                    let user: i64 = Key::from_json(&key).unwrap().0[0].as_i64().unwrap();
                    assert!(
                        together > 1 || home(user, base.databases.len()) == shard,
                        "{key} in {shard}"
                    );
                    recorded += 1;
                }
            }
            let tables = base
                .databases
                .iter()
                .filter(|one| one.name == base.databases[0].name)
                .count();
            assert_eq!(recorded, 6 * tables, "{source:?} {target:?}");
        }
        // While the base is being swapped, the sides hand out odd and even numbers in every shard.
        if fleet.source.databases[0].kind == MariaDb {
            assert!(generated[..3].iter().all(|(_, id)| id % 2 == 1), "{generated:?}");
        }
        if fleet.target.databases[0].kind == MariaDb {
            assert!(generated[3..].iter().all(|(_, id)| id % 2 == 0), "{generated:?}");
        }
        assert_eq!(shop.counters().spread, 0);
        shop.close().await;
    }
}

/// Gives an order to another user: its key changes, and with it its shard.
async fn give(shop: &DualWrite, table: &'static str, from: (i64, i64), to: (i64, i64)) -> Result<(), WriteError> {
    shop.write(table, [order(from), order(to)], move |session| {
        async move {
            let sql = format!(
                "UPDATE {} SET user_id = ?, id = ? WHERE user_id = ? AND id = ?",
                session.table(table)?
            );
            let binds = [to.0, to.1, from.0, from.1].map(Value::Int);
            session.execute(&sql, &binds).await?;
            Ok(())
        }
        .boxed()
    })
    .await
}

#[tokio::test]
async fn a_row_that_changes_its_key_changes_its_shard() {
    let fleet = Fleet::new(Databases(Postgres, 1), Databases(MariaDb, 3), "Strict").await;
    let shop = fleet.builder("shop-0").start();
    set(&shop, "orders", &[(1, 1), (1, 2)], "given").await.unwrap();
    assert_eq!(shop.counters().spread, 0);
    give(&shop, "orders", (1, 1), (2, 1)).await.unwrap();
    let rows = fleet.assert_alike().await;
    assert!(rows.len() == 2 && rows[1].starts_with("2 1 given"), "{rows:?}");
    assert_eq!(fleet.source.keys(0, DELETES).await, ["[1,1]"]);
    assert_eq!(shop.counters().spread, 1, "the other way round it would be refused");

    // With the sharded side as base one transaction would lie in two databases.
    fleet.flip("DST_FIRST", "Strict", 2).await;
    adopted(&shop, 2).await;
    let error = give(&shop, "orders", (2, 1), (3, 1)).await.unwrap_err();
    let WriteError::Refused(refusal @ Refusal::SeveralShards { .. }) = &error else {
        panic!("{error}");
    };
    let said = refusal.to_string();
    for word in [
        "key [2,1] of orders (shard 2)",
        "key [3,1] of orders (shard 0)",
        "target",
    ] {
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(fleet.assert_alike().await, rows, "nothing happened");
    give(&shop, "orders", (2, 1), (5, 1)).await.unwrap();
    set(&shop, "orders", &[(3, 1)], "given").await.unwrap();
    remove(&shop, "orders", &[(5, 1)]).await.unwrap();
    let rows = fleet.assert_alike().await;
    assert!(rows.len() == 2 && rows[1].starts_with("3 1 given"), "{rows:?}");
}

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

#[tokio::test]
async fn without_a_word_about_the_shard_a_sharded_base_takes_no_new_row() {
    let fleet = Fleet::new(Databases(MariaDb, 2), Databases(Postgres, 1), "Strict").await;
    let shop = fleet.builder("shop-0").start();
    let nowhere = shop.write_new("orders", |_| async { Ok(()) }.boxed()).await;
    assert!(
        matches!(
            nowhere,
            Err(WriteError::Refused(Refusal::ShardUnknown { shards: 2, .. }))
        ),
        "{nowhere:?}"
    );
    let other_column = shop
        .write_new_at("orders", [("note", Value::text("x"))], |_| async { Ok(()) }.boxed())
        .await;
    assert!(
        matches!(other_column, Err(WriteError::Refused(Refusal::NoPlace { .. }))),
        "{other_column:?}"
    );
    // What was begun in one shard and inserted for another is rolled back.
    let astray = shop
        .write_new_at("orders", [("user_id", Value::Int(1))], |session| {
            async move {
                insert_in(session, "orders", (2, 9), "astray").await?;
                session
                    .created("orders", order((2, 9)))
                    .map_err(ApplyError::application)
            }
            .boxed()
        })
        .await;
    let said = astray.unwrap_err();
    assert!(
        matches!(said, WriteError::Failed(_)) && said.to_string().contains("belongs to shard 0"),
        "{said}"
    );
    assert_eq!(fleet.assert_alike().await, Vec::<String>::new());
    assert!(create(&shop, "orders", 3).await.is_ok());

    // A number that the shard hands out cannot choose the shard.
    let by_id = TableDefinition::new("orders", ["user_id", "id"], "updated_at").shard_by(["id"], ShardFunction::Modulo);
    let identity = datamigration::dualwrite::Identity {
        pod: "p".into(),
        pod_uid: "p".into(),
        process: "1".into(),
    };
    let (one, two) = (&fleet.source.databases[0], &fleet.source.databases[1]);
    let shop = DualWrite::builder(fleet.mount.path(), identity)
        .table(by_id)
        .source_shards([one, two].map(|one| config(&one.url, one.ca.clone(), "source")))
        .target(config(&fleet.target.databases[0].url, one.ca.clone(), "target"))
        .start();
    let handed_out = shop
        .write_new_at("orders", [("id", Value::Int(1))], |session| {
            async move {
                let user = [("user_id", Value::Int(1))];
                let sql = "INSERT INTO orders (user_id, note) VALUES (1, 'x')";
                session.insert_generated_with("orders", sql, "id", &user, &[]).await
            }
            .boxed()
        })
        .await;
    let said = handed_out.unwrap_err().to_string();
    assert!(
        said.contains("column id of table orders decides about the shard"),
        "{said}"
    );
    assert_eq!(fleet.assert_alike().await.len(), 1);
}

#[tokio::test]
async fn a_new_row_goes_to_its_shard_once_its_key_is_known() {
    let fleet = Fleet::new(Databases(Postgres, 1), Tables(Postgres, 3), "Strict").await;
    let shop = fleet.builder("shop-0").start();
    for user in 0..4 {
        shop.write_new("orders", move |session| {
            async move {
                let key = [("user_id", Value::Int(user))];
                let sql = format!(
                    "INSERT INTO {} (user_id, note) VALUES (?, 'new')",
                    session.table("orders")?
                );
                session
                    .insert_generated_with("orders", &sql, "id", &key, &[Value::Int(user)])
                    .await
            }
            .boxed()
        })
        .await
        .unwrap();
    }
    assert_eq!(fleet.assert_alike().await.len(), 4);
    assert_eq!(shop.counters().spread, 4, "a sharded base would not take it");
    create(&shop, "orders", 5).await.unwrap();
    assert_eq!(shop.counters().spread, 4);
    fleet.assert_alike().await;
}

#[tokio::test]
async fn keys_in_another_spelling_find_their_shard() {
    // UUIDs of both shards, stated in upper case and without hyphens.
    let fleet = Fleet::new(Databases(Postgres, 2), Databases(Postgres, 3), "Strict").await;
    for database in fleet.databases() {
        database
            .execute("DROP TABLE orders; CREATE TABLE orders (who UUID NOT NULL, n INT NOT NULL, updated_at TIMESTAMP(6) NOT NULL DEFAULT now(), PRIMARY KEY (who))")
            .await;
    }
    let identity = datamigration::dualwrite::Identity {
        pod: "p".into(),
        pod_uid: "p".into(),
        process: "1".into(),
    };
    let side = |shards: &crate::fleet::Shards| {
        let config = |one: &crate::support::TestDatabase| config(&one.url, one.ca.clone(), "shard");
        shards.databases.iter().map(config).collect::<Vec<_>>()
    };
    let shop = DualWrite::builder(fleet.mount.path(), identity)
        .table(TableDefinition::new("orders", ["who"], "updated_at").shard_by(["who"], ShardFunction::Hash))
        .source_shards(side(&fleet.source))
        .target_shards(side(&fleet.target))
        .start();
    let spellings: [fn(&str) -> String; 3] = [str::to_owned, str::to_uppercase, |text| text.replace('-', "")];
    for n in 0..8_u128 {
        for spelled in spellings {
            let who = spelled(&format!("{:08x}-0000-4000-8000-00000000abcd", n * 0x1234_5671));
            let key = Key(vec![Value::text(who.as_str())]);
            shop.write("orders", [key], move |session| {
                let who = Value::text(who.as_str());
                async move {
                    let sql = "INSERT INTO orders (who, n) VALUES (CAST(? AS uuid), 1) ON CONFLICT (who) DO UPDATE SET n = orders.n + 1";
                    session.execute(sql, &[who]).await?;
                    Ok(())
                }
                .boxed()
            })
            .await
            .unwrap();
        }
    }
    for shards in [&fleet.source, &fleet.target] {
        let mut rows = 0;
        for database in &shards.databases {
            let here = database.number("SELECT COUNT(*) FROM orders").await;
            assert!(here > 0, "all shards are used");
            assert_eq!(database.number("SELECT COUNT(*) FROM orders WHERE n = 3").await, here);
            rows += here;
        }
        assert_eq!(rows, 8);
    }
}

/// Where a session is, and how many orders it sees.
fn count(session: &mut Session) -> BoxFuture<'_, Result<(Side, usize, usize), ApplyError>> {
    async move {
        let sql = format!("SELECT user_id FROM {}", session.table("orders")?);
        let seen = session.query(&sql, &[]).await?.len();
        Ok((session.side(), session.shard(), seen))
    }
    .boxed()
}

#[tokio::test]
async fn reads_go_to_the_shard_of_their_rows() {
    let fleet = Fleet::new(Databases(MariaDb, 1), Databases(Postgres, 3), "Strict").await;
    let shop = fleet.builder("shop-0").start();
    let all: Vec<(i64, i64)> = (0..6).map(|user| (user, 1)).collect();
    set(&shop, "orders", &all, "read").await.unwrap();
    assert_eq!(shop.read(count).await.unwrap(), (Source, 0, 6));
    assert_eq!(shop.read_shards().unwrap().len(), 1);

    fleet.flip("DST_FIRST", "Strict", 2).await;
    adopted(&shop, 2).await;
    let unplaced = shop.read(count).await;
    assert!(
        matches!(unplaced, Err(ReadError::Place(Refusal::ShardUnknown { shards: 3, .. }))),
        "{unplaced:?}"
    );
    for user in 0..6 {
        let expected = (Target, home(user, 3), 2);
        assert_eq!(
            shop.read_key("orders", order((user, 1)), count).await.unwrap(),
            expected
        );
        let at = [("user_id", Value::Int(user))];
        assert_eq!(shop.read_at("orders", at, count).await.unwrap(), expected);
    }
    let mut found = Vec::new();
    for shard in shop.read_shards().unwrap() {
        found.push(shard.read(count).await.unwrap());
    }
    assert_eq!(found, [(Target, 0, 2), (Target, 1, 2), (Target, 2, 2)]);

    // A follower's shard that is away is read on the base; the other shards answer by themselves.
    let shop = fleet.builder_at("shop-1", &fleet.mount, Some((1, AWAY))).start();
    fleet.raise("SRC_FIRST", "Strict", 3).await;
    fleet.mount.put(&[
        ("write-mode", "SRC_FIRST"),
        ("secondary-writes", "Strict"),
        ("read-from", "TARGET"),
        ("epoch", "3"),
    ]);
    adopted(&shop, 3).await;
    let read = async |user| shop.read_key("orders", order((user, 1)), count).await.unwrap();
    assert_eq!(read(2).await, (Target, 2, 2));
    assert_eq!(read(1).await, (Source, 0, 6));
    assert_eq!(shop.counters().read_fallbacks, 1);
}

#[tokio::test]
async fn a_definition_that_does_not_fit_the_shards_is_refused() {
    let fleet = Fleet::new(Databases(MariaDb, 1), Tables(MariaDb, 2), "Strict").await;
    let plain = TableDefinition::new("orders", ["user_id", "id"], "updated_at");
    for (table, word) in [
        (plain.clone().target("orders_{shard:02}"), "`shard_by`"),
        (
            plain.clone().shard_by(["user_id"], ShardFunction::Modulo),
            "same table \"orders\"",
        ),
    ] {
        let identity = datamigration::dualwrite::Identity {
            pod: "p".into(),
            pod_uid: "p".into(),
            process: "1".into(),
        };
        let shard = |one: &crate::support::TestDatabase| config(&one.url, one.ca.clone(), "shard");
        let shop = DualWrite::builder(fleet.mount.path(), identity)
            .table(table)
            .source(shard(&fleet.source.databases[0]))
            .target_shards(fleet.target.databases.iter().map(shard))
            .start();
        eventually(SOON, "the mode is read", || async { shop.counters().epoch == 1 }).await;
        let error = set(&shop, "orders", &[(1, 1)], "x").await.unwrap_err();
        assert!(matches!(error, WriteError::Refused(Refusal::Definition(_))), "{error}");
        assert!(error.to_string().contains(word), "{error}");
        let status = shop.status();
        assert!(!status.ready && status.problem.unwrap().contains(word));
    }
    let mut tx = open(&fleet.source.databases[0])
        .begin(TxOptions::read_only())
        .await
        .unwrap();
    assert!(tx.query("SELECT id FROM orders", &[]).await.unwrap().is_empty());
    tx.rollback().await;
}
