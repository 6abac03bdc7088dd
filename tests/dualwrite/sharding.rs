//! Sides of several shards: every write and read reaches the shards of its rows, and what one transaction cannot carry is
//! refused.

use datamigration::dualwrite::{ApplyError, DualWrite, ReadError, Refusal, Session, TableDefinition, WriteError};
use datamigration::rows::{Key, ShardFunction, Value};
use datamigration::store::TxOptions;
use datamigration::words::Side::{self, Source, Target};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::fleet::Layout::{Databases, Tables};
use crate::fleet::{Fleet, adopted, create, home, insert_in, order, remove, set};
use crate::pair::{SOON, config, open};
use crate::support::Kind::{MariaDb, Postgres};
use crate::support::eventually;

const AWAY: &str = "postgres://u:p@127.0.0.1:9/nothing";
const DELETES: &str = "_datamigration_deletes";

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
