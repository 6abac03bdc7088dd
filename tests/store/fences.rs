//! Fences refuse every write, name the migration, and are passed by the one transaction that may; privileges that are
//! missing are found by trying.

use datamigration::store::{Database, Fence, FenceState, StoreError, TxOptions};

use crate::helpers::{BOTH, V1, V2, config, key, row, small};
use crate::support::Kind;

#[tokio::test]
async fn a_fence_refuses_every_write_and_names_the_migration() {
    for kind in BOTH {
        let (db, side) = small(kind, false).await;
        db.commit(async |tx| tx.put(&side, &[row(1, "a", V1)]).await.unwrap())
            .await;
        let fence = Fence::new("shop/orders", "u-1");
        assert_eq!(db.db.fence_state("t", &fence).await.unwrap(), FenceState::Open);
        db.db.create_fence("t", &fence).await.unwrap();
        db.db.create_fence("t", &fence).await.unwrap();
        assert_eq!(db.db.fence_state("t", &fence).await.unwrap(), FenceState::Standing);
        assert_eq!(
            db.db.fence_state("t", &Fence::new("shop/orders", "u-2")).await.unwrap(),
            FenceState::Partial
        );

        let mut statements = vec![
            "INSERT INTO t VALUES (2, 'b', '2024-01-01 00:00:00')",
            "UPDATE t SET note = 'x'",
            "DELETE FROM t",
        ];
        if kind == Kind::Postgres {
            statements.push("TRUNCATE t");
        }
        for sql in statements {
            let error = db.db.execute(sql, &[]).await.unwrap_err();
            assert!(matches!(error, StoreError::Fenced { .. }), "{kind:?}: {sql}: {error:?}");
            assert!(
                error.to_string().contains("shop/orders") && !error.is_transient(),
                "{error}"
            );
        }
        let mut tx = db.begin().await;
        assert!(matches!(
            tx.put(&side, &[row(1, "b", V2)]).await,
            Err(StoreError::Fenced { .. })
        ));
        tx.rollback().await;
        assert_eq!(db.all(&side).await, [row(1, "a", V1)], "reads pass");

        // Another migration's token does not pass; the right one does, for one transaction of the session.
        let mut tx = db.begin().await;
        tx.pass_fence(&Fence::new("shop/orders", "u-2")).await.unwrap();
        assert!(matches!(
            tx.delete(&side, &[key(1)]).await,
            Err(StoreError::Fenced { .. })
        ));
        tx.rollback().await;
        let one = Database::connect(&datamigration::store::ConnectConfig {
            max_connections: 1,
            ..config(&db.test, &db.test.url)
        })
        .await
        .unwrap();
        let mut tx = one.begin(TxOptions::default()).await.unwrap();
        tx.pass_fence(&fence).await.unwrap();
        tx.put(&side, &[row(3, "c", V1)]).await.unwrap();
        tx.commit().await.unwrap();
        let error = one.execute("DELETE FROM t", &[]).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Fenced { .. }),
            "{kind:?}: the pass outlived its transaction: {error:?}"
        );

        db.db.drop_fence("t", &fence).await.unwrap();
        db.db.drop_fence("t", &fence).await.unwrap();
        assert_eq!(db.db.execute("DELETE FROM t", &[]).await.unwrap(), 2);
    }
}

#[tokio::test]
async fn a_fence_is_tried_for_real_and_leaves_nothing() {
    for kind in BOTH {
        let (db, _) = small(kind, false).await;
        db.db.try_fence().await.unwrap();
        let left = "SELECT COUNT(*) FROM information_schema.tables WHERE table_name LIKE '\\_datamigration%'";
        assert_eq!(db.test.number(left).await, 0, "{kind:?}");
        assert!(db.db.probe_scratch().await.unwrap().is_empty());
        let schema = db.db.table("t").await.unwrap().unwrap();
        assert!(db.db.probe_table(&schema).await.unwrap().is_empty());
        assert_eq!(db.test.number(left).await, 0, "{kind:?}");
    }
}

#[tokio::test]
async fn missing_privileges_are_named() {
    for kind in BOTH {
        let (db, _) = small(kind, false).await;
        let user = format!("r{}", db.test.name);
        let name = &db.test.name;
        let user = user.as_str();
        db.test
            .execute_as_admin(&match kind {
                Kind::MariaDb => format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secret'; GRANT SELECT, INSERT ON {name}.t TO '{user}'@'%'"),
                Kind::Postgres => format!("CREATE ROLE {user} LOGIN PASSWORD 'secret'; GRANT USAGE ON SCHEMA public TO {user}; GRANT SELECT, INSERT ON t TO {user}"),
            })
            .await;
        let mut url = url::Url::parse(&db.test.url).unwrap();
        url.set_username(user).unwrap();
        url.set_password(Some("secret")).unwrap();
        let poor = Database::connect(&config(&db.test, url.as_str())).await.unwrap();
        let schema = db.db.table("t").await.unwrap().unwrap();
        let missing = poor.probe_table(&schema).await.unwrap();
        let what: Vec<&str> = missing.iter().map(|m| m.what.as_str()).collect();
        assert_eq!(what, ["UPDATE on t", "DELETE on t"], "{kind:?}");
        let scratch = poor.probe_scratch().await.unwrap();
        assert!(
            scratch.iter().any(|m| m.what.starts_with("CREATE")),
            "{kind:?}: {scratch:?}"
        );
        let error = poor.try_fence().await.unwrap_err();
        assert!(matches!(error, StoreError::Privilege { .. }), "{kind:?}: {error:?}");
        let drop = match kind {
            Kind::MariaDb => format!("DROP USER '{user}'@'%'"),
            Kind::Postgres => format!("DROP OWNED BY {user}; DROP ROLE {user}"),
        };
        db.test.execute_as_admin(&drop).await;
    }
}
