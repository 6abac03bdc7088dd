//! Watch: control rows raised on both sides and never lowered, sequences handed over, acknowledgements reported.

use crate::harness::{World, control, fill};
use crate::support::Kind::{MariaDb, Postgres};
use crate::support::eventually;
use datamigration::api::task::ControlSpec;
use datamigration::control::{Instance, heartbeat};
use datamigration::store::TxOptions;
use datamigration::words::{Direction, Mode, SecondaryWrites, Side};
use datamigration::workers::Desired;
use std::time::Duration;

const LONG: Duration = Duration::from_mins(3);

#[tokio::test]
async fn the_journal_is_raised_on_both_sides_and_never_lowered() {
    for (source, target) in [(MariaDb, Postgres), (MariaDb, MariaDb), (Postgres, Postgres)] {
        let world = World::orders(source, target).await;
        // Nothing is asked: nothing is written.
        let watch = world.watch(None);
        watch
            .until(LONG, "a first report", |status| status.watch.is_some())
            .await;
        assert!(watch.reports.last().journal.is_none());
        assert!(
            world
                .source
                .try_execute("SELECT 1 FROM _datamigration_control")
                .await
                .is_err()
        );

        let mut first = control(1, Mode::SrcFirst, SecondaryWrites::Lenient, 1);
        first.min_epoch = 0;
        let watch = world.watch(Some(first.clone()));
        let reports = watch.reports.clone();
        let flips = async {
            eventually(LONG, "epoch 1 is on all shards", || async {
                reports.last().watch.is_some_and(|watch| watch.epoch_on_all_shards)
            })
            .await;
            let journal = reports.last().journal.unwrap();
            assert_eq!((journal.epoch, journal.min_epoch, journal.mode), (1, 0, Mode::SrcFirst));
            assert!(journal.acked_at.is_none());
            watch.desired.send_replace(Desired {
                control: Some(control(1, Mode::SrcFirst, SecondaryWrites::Lenient, 1)),
                generation: 2,
                ..Desired::default()
            });
            eventually(LONG, "older instances are shut out", || async {
                reports
                    .last()
                    .journal
                    .is_some_and(|journal| journal.min_epoch == 1 && journal.acked_at.is_some())
            })
            .await;
            // An older task's wish is not granted.
            watch.desired.send_replace(Desired {
                control: Some(first.clone()),
                generation: 3,
                ..Desired::default()
            });
            world
                .reach(control(2, Mode::SrcFirst, SecondaryWrites::Strict, 1))
                .await;
            eventually(LONG, "it says that the journal is ahead, and acknowledged", || async {
                let report = reports.last();
                let problem = report.watch.and_then(|watch| watch.problem);
                problem.is_some_and(|problem| problem.contains("epoch 2"))
                    && report.journal.is_some_and(|journal| journal.acked_at.is_some())
            })
            .await;
        };
        tokio::select! {
            ended = watch.run() => panic!("{ended:?}"),
            () = flips => {}
        }
        for database in [&world.source, &world.target] {
            assert_eq!(database.number("SELECT epoch FROM _datamigration_control").await, 2);
            assert_eq!(database.number("SELECT min_epoch FROM _datamigration_control").await, 2);
        }
    }
}

#[tokio::test]
async fn an_idle_watch_is_silent() {
    let world = World::orders(MariaDb, Postgres).await;
    world.source_first().await;
    let watch = world.watch(Some(control(1, Mode::SrcFirst, SecondaryWrites::Lenient, 1)));
    let reports = watch.reports.clone();
    tokio::select! {
        ended = watch.run() => panic!("{ended:?}"),
        () = tokio::time::sleep(Duration::from_secs(3)) => {}
    }
    assert_eq!(reports.count(), 1, "one report and then nothing new");
}

#[tokio::test]
async fn acknowledgements_of_both_sides_are_reported_the_newest_of_each_process() {
    let world = World::orders(MariaDb, Postgres).await;
    world.source_first().await;
    let instance = |pod: &str, epoch: i64| Instance {
        migration: "shop/orders".to_owned(),
        uid: "u-1".to_owned(),
        pod_uid: format!("uid-{pod}"),
        process: "1".to_owned(),
        pod: pod.to_owned(),
        epoch,
        mode: "SRC_FIRST".to_owned(),
        secondary_writes: "Lenient".to_owned(),
        protocol: "Ordered".to_owned(),
        failed_second_writes: 3,
    };
    for (database, instance) in [
        (&world.source_db, instance("a", 1)),
        (&world.source_db, instance("b", 1)),
        (&world.target_db, instance("b", 2)),
    ] {
        let mut tx = database.begin(TxOptions::default()).await.unwrap();
        heartbeat(&mut tx, &instance).await.unwrap();
        tx.commit().await.unwrap();
    }
    let watch = world.watch(Some(control(1, Mode::SrcFirst, SecondaryWrites::Lenient, 1)));
    watch
        .until(LONG, "two instances", |status| {
            status.watch.as_ref().is_some_and(|watch| watch.instances.len() == 2)
        })
        .await;
    let seen = watch.reports.last().watch.unwrap();
    assert_eq!((seen.instances[0].pod.as_str(), seen.instances[0].epoch), ("a", 1));
    assert_eq!((seen.instances[1].pod.as_str(), seen.instances[1].epoch), ("b", 2));
    assert_eq!(seen.instances[0].failed_second_writes, 3);
    assert!(seen.instances[0].seen_seconds_ago < 20 && seen.clock.is_some());
}

#[tokio::test]
async fn a_table_of_another_migration_is_left_alone() {
    let world = World::orders(MariaDb, Postgres).await;
    world.source_first().await;
    let mut other = World {
        source: world.source.clone(),
        target: world.target.clone(),
        source_db: world.source_db.clone(),
        target_db: world.target_db.clone(),
        migration: world.migration.clone(),
    };
    other.migration.name = "second".to_owned();
    let mut first = control(1, Mode::SrcFirst, SecondaryWrites::Lenient, 1);
    first.min_epoch = 0;
    let watch = other.watch(Some(first));
    watch
        .until(LONG, "it names the owner", |status| {
            let problem = status
                .watch
                .as_ref()
                .and_then(|watch| watch.problem.clone())
                .unwrap_or_default();
            problem.contains("shop/orders") && problem.contains("table orders")
        })
        .await;
    assert!(!watch.reports.last().watch.unwrap().epoch_on_all_shards);
    assert_eq!(
        world.source.number("SELECT COUNT(*) FROM _datamigration_control").await,
        1
    );
}

/// Generated keys through a flip and back: never one that the other side holds or hands out.
#[tokio::test]
async fn sequences_are_handed_over_with_their_parity() {
    let world = World::orders(Postgres, Postgres).await;
    fill(&world.source, 1_000).await;
    let insert = "INSERT INTO orders (customer, updated_at) VALUES ('x', now()) RETURNING id";
    world.source_first().await;
    assert_eq!(
        world.source.number(insert).await,
        1_001,
        "past the keys that were given, by one"
    );
    world
        .reach(control(2, Mode::SrcFirst, SecondaryWrites::Strict, 1))
        .await;
    assert_eq!(world.source.number(insert).await, 1_003, "odd in the source");
    assert_eq!(world.source.number(insert).await, 1_005);
    world
        .reach(control(3, Mode::DstFirst, SecondaryWrites::Strict, 3))
        .await;
    assert_eq!(
        world.target.number(insert).await,
        1_006,
        "even in the target, past both sides' keys"
    );
    assert_eq!(world.target.number(insert).await, 1_008);
    assert_eq!(
        world.source.number(insert).await,
        1_007,
        "a straggler on the old base keeps to odd ones"
    );
    world
        .reach(control(4, Mode::DstFirst, SecondaryWrites::Lenient, 3))
        .await;
    assert_eq!(world.target.number(insert).await, 1_009);
    assert_eq!(world.target.number(insert).await, 1_010);
    world
        .reach(control(5, Mode::DstFirst, SecondaryWrites::Strict, 3))
        .await;
    assert_eq!(world.target.number(insert).await, 1_012);
    world
        .reach(control(6, Mode::SrcFirst, SecondaryWrites::Strict, 6))
        .await;
    assert_eq!(world.source.number(insert).await, 1_013);
    world
        .reach(control(7, Mode::SrcFirst, SecondaryWrites::Lenient, 6))
        .await;
    assert_eq!(world.source.number(insert).await, 1_014);
}

/// A raise waits for a write in flight, and only in short turns.
#[tokio::test]
async fn a_raise_waits_for_the_writes_in_flight() {
    for (source, target) in [(MariaDb, Postgres), (Postgres, Postgres)] {
        let world = World::orders(source, target).await;
        world.source_first().await;
        let mut write = world.source_db.begin(TxOptions::default()).await.unwrap();
        datamigration::control::check_instance(&mut write, "orders", 1)
            .await
            .unwrap();
        let closed = control(2, Mode::SrcFirst, SecondaryWrites::Strict, 1);
        let watch = world.watch(Some(ControlSpec {
            min_epoch: 1,
            ..closed.clone()
        }));
        let reports = watch.reports.clone();
        let scene = async {
            eventually(LONG, "it says what it waits for", || async {
                reports.last().watch.and_then(|watch| watch.problem).is_some()
            })
            .await;
            assert_eq!(world.source.number("SELECT epoch FROM _datamigration_control").await, 1);
            write.commit().await.unwrap();
            eventually(LONG, "it is raised", || async {
                reports
                    .last()
                    .watch
                    .is_some_and(|watch| watch.epoch_on_all_shards && watch.problem.is_none())
            })
            .await;
            watch.desired.send_replace(Desired {
                limits: None,
                control: Some(closed.clone()),
                generation: 2,
            });
            eventually(LONG, "older instances are shut out", || async {
                reports.last().journal.is_some_and(|journal| journal.min_epoch == 2)
            })
            .await;
        };
        tokio::select! {
            ended = watch.run() => panic!("{ended:?}"),
            () = scene => {}
        }
        // An instance of the epoch before is shut out now.
        let mut late = world.source_db.begin(TxOptions::default()).await.unwrap();
        assert!(
            datamigration::control::check_instance(&mut late, "orders", 1)
                .await
                .is_err()
        );
    }
}

/// A database that comes back without what it had (a replica that had not all of it, a backup, another database) is not
/// raised as if nothing had been: the evidence is about rows that may be gone.
#[tokio::test]
async fn a_database_that_lost_its_journal_is_told_and_not_made_good() {
    for (sql, epoch) in [
        ("UPDATE _datamigration_control SET epoch = 1, min_epoch = 1", 1),
        ("DELETE FROM _datamigration_control", 0),
    ] {
        let world = World::orders(MariaDb, Postgres).await;
        world.source_first().await;
        let closed = control(2, Mode::SrcFirst, SecondaryWrites::Lenient, 1);
        world.reach(closed.clone()).await;
        world.target.execute(sql).await;
        let watch = world.watch(Some(closed.clone()));
        let reports = watch.reports.clone();
        let scene = async {
            eventually(LONG, "it says which side has lost writes", || async {
                reports
                    .last()
                    .watch
                    .is_some_and(|watch| watch.lost == [Side::Target] && watch.problem.is_some())
            })
            .await;
            assert_eq!(
                world
                    .target
                    .number("SELECT COALESCE(MAX(epoch), 0) FROM _datamigration_control")
                    .await,
                epoch
            );
            // An epoch that counts nothing as proved may begin there.
            watch.desired.send_replace(Desired {
                limits: None,
                control: Some(ControlSpec {
                    epoch: 3,
                    round: 2,
                    base_since: 3,
                    ..closed.clone()
                }),
                generation: 2,
            });
            eventually(LONG, "it is raised with the epoch that begins anew", || async {
                reports
                    .last()
                    .watch
                    .is_some_and(|watch| watch.epoch_on_all_shards && watch.lost.is_empty())
            })
            .await;
        };
        tokio::select! {
            ended = watch.run() => panic!("{ended:?}"),
            () = scene => {}
        }
    }
}

/// The operator's intent went with its Watch after one database had recorded the epoch: the next Watch tells of it.
#[tokio::test]
async fn half_an_epoch_is_told_to_whoever_asks_next() {
    let world = World::orders(MariaDb, Postgres).await;
    world.source_first().await;
    world
        .source
        .execute("UPDATE _datamigration_control SET epoch = 2, secondary = 'Strict', acked_at = NULL")
        .await;
    for asked in [None, Some(control(1, Mode::SrcFirst, SecondaryWrites::Lenient, 1))] {
        let watch = world.watch(asked);
        watch
            .until(LONG, "the epoch that was begun", |status| {
                status
                    .journal
                    .as_ref()
                    .is_some_and(|journal| (journal.epoch, journal.min_epoch) == (2, 1))
            })
            .await;
    }
}

/// A resource that was deleted and created again at a late phase may bring other tables, or other rows of the same.
#[tokio::test]
async fn a_manifest_that_maps_otherwise_than_when_the_round_began_is_refused_by_all_work() {
    let world = World::orders(MariaDb, Postgres).await;
    fill(&world.source, 50).await;
    world.source_first().await;
    world.copy(1).run().await.unwrap();
    let again = |change: &dyn Fn(&mut datamigration::api::migration::Table)| {
        let mut other = World {
            source: world.source.clone(),
            target: world.target.clone(),
            source_db: world.source_db.clone(),
            target_db: world.target_db.clone(),
            migration: world.migration.clone(),
        };
        change(&mut other.migration.tables[0]);
        other
    };
    let narrowed = again(&|table| table.filter = Some("id <= 10".to_owned()));
    let error = narrowed.full(Direction::Forward, 1).run().await.unwrap_err();
    assert_eq!(error.reason(), "MappingChanged", "{error}");
    let next = ControlSpec {
        min_epoch: 1,
        ..control(2, Mode::SrcFirst, SecondaryWrites::Strict, 1)
    };
    let watch = narrowed.watch(Some(next));
    watch
        .until(LONG, "it says what was changed", |status| {
            let problem = status.watch.as_ref().and_then(|watch| watch.problem.clone());
            problem.is_some_and(|problem| problem.contains("id <= 10"))
        })
        .await;
    assert_eq!(world.source.number("SELECT epoch FROM _datamigration_control").await, 1);

    for side in [&world.source, &world.target] {
        let copy = "CREATE TABLE others AS SELECT * FROM orders";
        side.execute(copy).await;
        side.execute("ALTER TABLE others ADD PRIMARY KEY (id)").await;
    }
    world
        .target
        .execute("ALTER TABLE others ALTER COLUMN updated_at SET NOT NULL; DELETE FROM others")
        .await;
    let mut more = again(&|table| {
        table.name = "others".to_owned();
        table.source = "others".to_owned();
        table.target = "others".to_owned();
    });
    more.migration.tables.insert(0, world.migration.tables[0].clone());
    let mut full = more.full(Direction::Forward, 1);
    full.context.task.table = Some("others".to_owned());
    let error = full.run().await.unwrap_err();
    assert_eq!(error.reason(), "TableNotClaimed", "{error}");
}
