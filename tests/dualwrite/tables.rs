//! Several tables in one write, with renamed, dropped and computed columns, a foreign key, and a subset of the rows.

use datamigration::control;
use datamigration::dualwrite::TableDefinition;
use datamigration::rows::Value;
use datamigration::store::TxOptions;
use futures::FutureExt;

use crate::pair::{MIGRATION, Pair, SOON, config, key, open};
use crate::support::Kind::{MariaDb, Postgres};
use crate::support::eventually;

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

/// Runs one statement on the base's own names under the lock of order 1.
async fn say(shop: &datamigration::dualwrite::DualWrite, statement: &'static str) {
    shop.write("orders", [key(1)], move |session| {
        async move { Ok(session.execute(statement, &[]).await?) }.boxed()
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn computed_columns_and_a_subset_go_both_ways() {
    for (from, to) in [(MariaDb, Postgres), (Postgres, MariaDb)] {
        let pair = Pair::bare(from, to).await;
        let stamp = |kind| if kind == MariaDb { "DATETIME(6)" } else { "TIMESTAMP(6)" };
        pair.source
            .execute(&format!(
                "CREATE TABLE orders (id BIGINT PRIMARY KEY, amount DECIMAL(12,2) NOT NULL, region VARCHAR(2) NOT NULL, v {} NOT NULL)",
                stamp(from)
            ))
            .await;
        pair.target
            .execute(&format!(
                "CREATE TABLE orders (id BIGINT PRIMARY KEY, cents BIGINT NOT NULL, area VARCHAR(2) NOT NULL, v {} NOT NULL)",
                stamp(to)
            ))
            .await;
        pair.claim(&["orders"]).await;
        pair.flip("SRC_FIRST", "Strict", 1).await;
        let identity = datamigration::dualwrite::Identity {
            pod: "p".into(),
            pod_uid: "p".into(),
            process: "1".into(),
        };
        let shop = datamigration::dualwrite::DualWrite::builder(pair.mount.path(), identity)
            .table(
                TableDefinition::new("orders", ["id"], "v")
                    .compute(Some("amount"), "cents", "amount * 100", Some("cents / 100.0"))
                    .rename("region", "area")
                    .filter("region = 'de'", "area = 'de'"),
            )
            .source(config(&pair.source.url, pair.source.ca.clone(), "source"))
            .target(config(&pair.target.url, pair.target.ca.clone(), "target"))
            .start();
        let cents = "SELECT CONCAT(id, ' ', cents, ' ', area) FROM orders";
        let deletes = "SELECT COUNT(*) FROM _datamigration_deletes";
        say(&shop, "INSERT INTO orders VALUES (1, 12.34, 'de', '2024-01-01')").await;
        assert_eq!(
            pair.target.texts(cents).await,
            [Some("1 1234 de".into())],
            "{from:?} to {to:?}"
        );
        // Out of the subset: away from the follower, with an entry for the verify. And in again.
        say(&shop, "UPDATE orders SET region = 'fr'").await;
        assert_eq!(pair.target.texts(cents).await, []);
        assert_eq!(pair.source.number(deletes).await, 1);
        say(&shop, "UPDATE orders SET region = 'de', amount = 5").await;
        assert_eq!(pair.target.texts(cents).await, [Some("1 500 de".into())]);

        pair.flip("DST_FIRST", "Strict", 2).await;
        eventually(SOON, "adopted", || async { shop.counters().epoch == 2 }).await;
        let amounts = "SELECT CONCAT(id, ' ', amount, ' ', region) FROM orders";
        say(&shop, "UPDATE orders SET cents = 99").await;
        assert_eq!(pair.source.texts(amounts).await, [Some("1 0.99 de".into())]);
        say(&shop, "UPDATE orders SET area = 'it'").await;
        assert_eq!(pair.source.texts(amounts).await, []);
        assert_eq!(pair.target.number(deletes).await, 1);
    }
}

/// A key that one side holds as a number and the other as a decimal is one key: an update carries the mapped columns and
/// deletes nothing, and what is written down of it is settled by whoever reads it.
#[tokio::test]
async fn a_key_is_the_same_however_a_side_spells_it() {
    let pair = Pair::bare(MariaDb, Postgres).await;
    pair.source
        .execute(
            "CREATE TABLE orders (id BIGINT UNSIGNED PRIMARY KEY, amount INT NOT NULL, legacy INT NOT NULL DEFAULT 7, \
             v DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6))",
        )
        .await;
    pair.target
        .execute("CREATE TABLE orders (id NUMERIC(20,0) PRIMARY KEY, amount INT NOT NULL, v TIMESTAMP(6) NOT NULL)")
        .await;
    pair.claim(&["orders"]).await;
    pair.flip("SRC_FIRST", "Strict", 1).await;
    let identity = datamigration::dualwrite::Identity {
        pod: "p".into(),
        pod_uid: "p".into(),
        process: "1".into(),
    };
    let shop = datamigration::dualwrite::DualWrite::builder(pair.mount.path(), identity)
        .table(TableDefinition::new("orders", ["id"], "v").drop_column("legacy"))
        .source(config(&pair.source.url, pair.source.ca.clone(), "source"))
        .target(config(&pair.target.url, pair.target.ca.clone(), "target"))
        .start();
    say(&shop, "INSERT INTO orders (id, amount, legacy) VALUES (1, 10, 5)").await;
    pair.flip("DST_FIRST", "Strict", 2).await;
    eventually(SOON, "adopted", || async { shop.counters().epoch == 2 }).await;

    say(&shop, "UPDATE orders SET amount = 11 WHERE id = 1").await;
    let rows = pair
        .source
        .texts("SELECT CONCAT(amount, ' ', legacy) FROM orders")
        .await;
    assert_eq!(rows, [Some("11 5".into())], "what is not mapped stays");
    let deletes = "SELECT COUNT(*) FROM _datamigration_deletes";
    assert_eq!(pair.target.number(deletes).await, 0, "nothing was deleted");

    say(&shop, "DELETE FROM orders WHERE id = 1").await;
    assert_eq!(pair.source.number("SELECT COUNT(*) FROM orders").await, 0);
    let keys = pair.target.texts("SELECT row_key FROM _datamigration_deletes").await;
    assert_eq!(keys, [Some("[1]".into())], "as the pair spells it");
}
