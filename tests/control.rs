//! The control tables on both engines: who is refused, what a raise waits for, and what one migration may not take from
//! another. Each test fails without the lock or the check that it names.

#![allow(clippy::unwrap_used)] // A panic is the report.

mod support;

use std::time::Duration;

use datamigration::{
    control::{self, Control, ControlError, Instance},
    rows::{Key, Value},
    store::{ConnectConfig, Database, SecretUrl, TlsMode, Tx, TxOptions},
};
use support::{Kind, eventually, servers};

const BOTH: [Kind; 2] = [Kind::MariaDb, Kind::Postgres];

async fn database(kind: Kind) -> Database {
    let fresh = servers().await.database(kind).await;
    Database::connect(&ConnectConfig {
        url: SecretUrl::new(fresh.url.clone()),
        tls: TlsMode::VerifyFull,
        ca: Some(fresh.ca.clone()),
        max_connections: 8,
        label: "test".to_owned(),
        application: "test".to_owned(),
    })
    .await
    .unwrap()
}

async fn begin(database: &Database) -> Tx {
    database.begin(TxOptions::default()).await.unwrap()
}

fn at(epoch: i64) -> Control {
    Control {
        migration: "shop/orders".to_owned(),
        uid: "uid-1".to_owned(),
        epoch,
        min_epoch: 0,
        mode: "SRC_FIRST".to_owned(),
        secondary: "Lenient".to_owned(),
        round: 1,
        base_since: 1,
        acked_at: None,
        fenced: false,
        archived: control::Archived::No,
        intent: None,
    }
}

async fn raised(database: &Database, epoch: i64) {
    let mut tx = begin(database).await;
    control::raise(&mut tx, &at(epoch)).await.unwrap();
    tx.commit().await.unwrap();
}

async fn created(kind: Kind) -> Database {
    let database = database(kind).await;
    let mut tx = begin(&database).await;
    control::create(&mut tx).await.unwrap();
    control::create(&mut tx).await.unwrap();
    control::claim_tables(&mut tx, "shop/orders", "uid-1", &["orders"])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    raised(&database, 1).await;
    database
}

#[tokio::test]
async fn without_control_tables_only_epoch_zero_may_write() {
    for kind in BOTH {
        let database = database(kind).await;
        let mut tx = begin(&database).await;
        assert!(control::check_instance(&mut tx, "orders", 0).await.unwrap().is_none());
        tx.rollback().await;
        let mut tx = begin(&database).await;
        assert!(control::check_instance(&mut tx, "orders", 1).await.is_err(), "{kind:?}");
        assert!(
            control::journal(&mut begin(&database).await, "shop/orders")
                .await
                .unwrap()
                .is_none()
        );
    }
}

#[tokio::test]
async fn stale_instances_and_workers_are_refused() {
    for kind in BOTH {
        let database = created(kind).await;
        // Raised, not yet acknowledged: an instance of epoch 0 still writes, a worker of epoch 0 does not.
        let mut tx = begin(&database).await;
        let claim = control::check_instance(&mut tx, "orders", 0).await.unwrap().unwrap();
        assert_eq!(
            (claim.migration.as_str(), claim.epoch, claim.min_epoch),
            ("shop/orders", 1, 0)
        );
        assert!(matches!(
            control::check_worker(&mut tx, "shop/orders", 0).await,
            Err(ControlError::Stale { epoch: 1, mine: 0, .. })
        ));
        tx.rollback().await;

        let mut tx = begin(&database).await;
        control::acknowledge_epoch(&mut tx, "shop/orders", 1, "2026-01-02 03:04:05.000006")
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let mut tx = begin(&database).await;
        let control = control::check_worker(&mut tx, "shop/orders", 1).await.unwrap();
        assert_eq!(
            (control.min_epoch, control.acked_at.as_deref()),
            (1, Some("2026-01-02 03:04:05.000006"))
        );
        assert!(matches!(
            control::check_instance(&mut tx, "orders", 0).await,
            Err(ControlError::Stale {
                min_epoch: 1,
                mine: 0,
                ..
            })
        ));
        // A table that nobody claimed, at an epoch that somebody gave: the tables are gone or another database answers.
        assert!(matches!(
            control::check_instance(&mut tx, "others", 1).await,
            Err(ControlError::Missing { .. })
        ));
    }
}

#[tokio::test]
async fn a_raise_waits_for_writes_in_flight_and_shuts_out_the_rest() {
    for kind in BOTH {
        let database = created(kind).await;
        let mut in_flight = begin(&database).await;
        control::check_instance(&mut in_flight, "orders", 1).await.unwrap();

        let raising = tokio::spawn({
            let database = database.clone();
            async move { raised(&database, 2).await }
        });
        let waiting = match kind {
            Kind::MariaDb => "SELECT COUNT(*) FROM information_schema.innodb_lock_waits",
            Kind::Postgres => "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted",
        };
        let admin = servers().await;
        let system = match kind {
            Kind::MariaDb => admin.mariadb_database().await,
            Kind::Postgres => admin.postgres_database().await,
        };
        eventually(Duration::from_secs(10), "the raise waits", || async {
            admin_number(&system, waiting).await > 0
        })
        .await;
        assert!(
            !raising.is_finished(),
            "{kind:?}: the epoch rose under a write in flight"
        );
        in_flight.commit().await.unwrap();
        raising.await.unwrap();
        let mut tx = begin(&database).await;
        assert!(control::check_worker(&mut tx, "shop/orders", 1).await.is_err());
    }
}

async fn admin_number(database: &support::TestDatabase, sql: &str) -> i64 {
    let as_admin = support::TestDatabase {
        url: database.admin_url.clone(),
        ..database.clone()
    };
    as_admin.number(sql).await
}

#[tokio::test]
async fn numbers_only_grow_and_a_table_has_one_migration() {
    for kind in BOTH {
        let database = created(kind).await;
        raised(&database, 3).await;
        let mut tx = begin(&database).await;
        assert!(matches!(
            control::raise(&mut tx, &at(2)).await,
            Err(ControlError::Ahead { found: 3, asked: 2, .. })
        ));
        tx.rollback().await;

        let mut tx = begin(&database).await;
        let foreign = control::claim_tables(&mut tx, "shop/others", "uid-2", &["orders"]).await;
        assert!(
            matches!(&foreign, Err(ControlError::Claimed { owner, .. }) if owner == "shop/orders"),
            "{foreign:?}"
        );
        tx.rollback().await;

        // The same migration, re-created: it takes its tables back.
        let mut tx = begin(&database).await;
        control::claim_tables(&mut tx, "shop/orders", "uid-2", &["orders"])
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let mut tx = begin(&database).await;
        let owner = control::table_owner(&mut tx, "orders").await.unwrap();
        assert_eq!(owner, Some(("shop/orders".to_owned(), "uid-2".to_owned())));
    }
}

#[tokio::test]
async fn an_epoch_is_acknowledged_once_and_only_while_it_is_current() {
    for kind in BOTH {
        let database = created(kind).await;
        let mut tx = begin(&database).await;
        let first = control::acknowledge_epoch_here(&mut tx, "shop/orders", 1)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let mut tx = begin(&database).await;
        assert_eq!(
            control::acknowledge_epoch_here(&mut tx, "shop/orders", 1)
                .await
                .unwrap(),
            first
        );
        tx.commit().await.unwrap();
        raised(&database, 2).await;
        let mut tx = begin(&database).await;
        assert!(
            control::acknowledge_epoch_here(&mut tx, "shop/orders", 1)
                .await
                .is_err()
        );
        let journal = control::journal(&mut tx, "shop/orders").await.unwrap().unwrap();
        assert_eq!((journal.epoch, journal.min_epoch, journal.acked_at), (2, 1, None));
    }
}

#[tokio::test]
async fn queue_deletes_instances_and_watermarks_say_what_was_written() {
    for kind in BOTH {
        let database = created(kind).await;
        let keys = [
            Key(vec![Value::Int(-7)]),
            Key(vec![Value::from("naïve \"key\""), Value::Null]),
        ];
        let mut tx = begin(&database).await;
        control::enqueue(&mut tx, "shop/orders", "uid-1", "orders", &keys, "timeout")
            .await
            .unwrap();
        let deleted = [
            (keys[0].clone(), Some("2026-01-02 03:04:05.000006".to_owned())),
            (keys[1].clone(), None),
        ];
        control::record_deletes(&mut tx, "shop/orders", "uid-1", "orders", &deleted)
            .await
            .unwrap();
        tx.commit().await.unwrap();

        let mut tx = begin(&database).await;
        let queued = control::queued(&mut tx, "shop/orders", "orders", 0, 10).await.unwrap();
        assert_eq!(
            queued.iter().map(|entry| &entry.key).collect::<Vec<_>>(),
            keys.iter().collect::<Vec<_>>()
        );
        control::enqueue(&mut tx, "shop/orders", "uid-1", "orders", &keys[..1], "again")
            .await
            .unwrap();
        control::dequeue(&mut tx, &[queued[0].id]).await.unwrap();
        assert_eq!(
            control::queue_depth(&mut tx, "shop/orders", Some("orders"))
                .await
                .unwrap(),
            2,
            "a newer entry stays"
        );
        let deletes = control::recorded_deletes(&mut tx, "shop/orders", "orders", 0, 10)
            .await
            .unwrap();
        assert_eq!(deletes[0].version.as_deref(), Some("2026-01-02 03:04:05.000006"));
        control::forget_deletes(&mut tx, &[deletes[0].id, deletes[1].id])
            .await
            .unwrap();
        assert!(
            control::recorded_deletes(&mut tx, "shop/orders", "orders", 0, 10)
                .await
                .unwrap()
                .is_empty()
        );

        let mut instance = Instance {
            migration: "shop/orders".to_owned(),
            uid: "uid-1".to_owned(),
            pod_uid: "pod-uid".to_owned(),
            process: "1".to_owned(),
            pod: "shop-1".to_owned(),
            epoch: 1,
            mode: "SRC_FIRST".to_owned(),
            secondary_writes: "Lenient".to_owned(),
            protocol: "Ordered".to_owned(),
            failed_second_writes: 0,
        };
        control::heartbeat(&mut tx, &instance).await.unwrap();
        instance.epoch = 2;
        instance.failed_second_writes = 3;
        control::heartbeat(&mut tx, &instance).await.unwrap();
        let seen = control::instances(&mut tx, "shop/orders").await.unwrap();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].instance, instance);
        assert!(
            (0..60).contains(&seen[0].seen_seconds_ago),
            "{}",
            seen[0].seen_seconds_ago
        );
        control::forget_instance(&mut tx, "shop/orders", "pod-uid", "1")
            .await
            .unwrap();
        assert!(control::instances(&mut tx, "shop/orders").await.unwrap().is_empty());

        for through in ["2026-01-02 00:00:00.000002", "2026-01-02 00:00:00.000001"] {
            control::advance_watermark(&mut tx, "shop/orders", "uid-1", "orders", 1, through)
                .await
                .unwrap();
        }
        let watermark = control::watermark(&mut tx, "shop/orders", "orders", 1).await.unwrap();
        assert_eq!(
            watermark.as_deref(),
            Some("2026-01-02 00:00:00.000002"),
            "a watermark never falls"
        );
    }
}
