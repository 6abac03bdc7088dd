//! The fence of `TargetOnly`: every write to the source is refused, for everybody, and stays so.

use crate::harness::{World, control, fill};
use crate::support::Kind::{MariaDb, Postgres};
use crate::{PAIRS, fence, target_only, task};
use datamigration::api::task::TaskKind;
use datamigration::store::StoreError;
use datamigration::words::{Mode, SecondaryWrites};
use datamigration::workers::{Exit, WorkError};
use std::time::Duration;

/// One statement of each kind that a straggler might send.
const WRITES: [&str; 3] = [
    "INSERT INTO orders (id, customer, updated_at) VALUES (1000, 'late', '2024-01-01 00:00:00')",
    "UPDATE orders SET note = 'late' WHERE id = 1",
    "DELETE FROM orders WHERE id = 1",
];

#[tokio::test]
async fn every_write_to_the_source_is_refused_by_name_and_reads_go_on() {
    for (source, target) in PAIRS {
        let world = World::orders(source, target).await;
        fill(&world.source, 10).await;
        target_only(&world).await;
        let worker = task(&world, TaskKind::Fence);
        worker.run().await.unwrap();
        let status = worker.context.status.current();
        assert_eq!(status.fence.unwrap().tables, ["orders"]);
        for write in WRITES {
            let refused = world.source.try_execute(write).await.unwrap_err();
            assert!(
                refused.contains("datamigration fence:") && refused.contains("shop/orders"),
                "{refused}"
            );
            let refused = world.source_db.execute(write, &[]).await.unwrap_err();
            assert!(matches!(refused, StoreError::Fenced { .. }), "{refused:?}");
        }
        if source == Postgres {
            assert!(
                world
                    .source
                    .try_execute("TRUNCATE orders")
                    .await
                    .unwrap_err()
                    .contains("datamigration fence:")
            );
        }
        assert_eq!(world.source.number("SELECT COUNT(*) FROM orders").await, 10);
        world.target.execute(WRITES[0]).await;

        let fenced = world
            .source
            .number("SELECT CAST(fenced AS SIGNED) FROM _datamigration_control");
        let fenced = if source == MariaDb {
            fenced.await
        } else {
            world.source.number("SELECT fenced FROM _datamigration_control").await
        };
        assert_eq!(fenced, 1, "the journal says so");

        // Again, as after a pod that ran twice.
        task(&world, TaskKind::Fence).run().await.unwrap();
        assert!(world.source.try_execute(WRITES[1]).await.is_err());
    }
}

#[tokio::test]
async fn an_empty_table_is_fenced_and_the_fence_is_tried() {
    for (source, target) in PAIRS {
        let world = World::orders(source, target).await;
        fence(&world).await;
        assert!(world.source.try_execute(WRITES[0]).await.is_err(), "{source:?}");
    }
}

#[tokio::test]
async fn a_fence_that_was_left_half_is_completed() {
    let world = World::orders(MariaDb, Postgres).await;
    fill(&world.source, 3).await;
    fence(&world).await;
    let triggers =
        "SELECT CAST(trigger_name AS CHAR) FROM information_schema.triggers WHERE trigger_schema = DATABASE()";
    let delete = world
        .source
        .texts(triggers)
        .await
        .into_iter()
        .flatten()
        .find(|name| name.contains("delete"))
        .unwrap();
    world.source.execute(&format!("DROP TRIGGER {delete}")).await;
    assert!(
        world.source.try_execute(WRITES[2]).await.is_ok(),
        "the DELETE trigger is gone"
    );
    task(&world, TaskKind::Fence).run().await.unwrap();
    assert!(
        world
            .source
            .try_execute("DELETE FROM orders WHERE id = 2")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn nothing_is_fenced_before_the_last_instance_left_the_source_or_in_another_mode() {
    for (source, target) in [(MariaDb, Postgres), (Postgres, MariaDb)] {
        let world = World::orders(source, target).await;
        fill(&world.source, 3).await;
        world.source_first().await;
        let error = task(&world, TaskKind::Fence).run().await.unwrap_err();
        assert!(matches!(error, WorkError::Stale(_)), "{error:?}");
        world.source.execute(WRITES[1]).await;

        // The epoch is raised, and one instance has not acknowledged it.
        let mut raised = control(2, Mode::DstOnly, SecondaryWrites::Lenient, 2);
        raised.min_epoch = 1;
        world
            .watch(Some(raised))
            .until(Duration::from_secs(20), "the epoch is raised", |status| {
                status.watch.as_ref().is_some_and(|watch| watch.epoch_on_all_shards)
            })
            .await;
        let error = task(&world, TaskKind::Fence).run().await.unwrap_err();
        assert_eq!((error.reason(), error.exit()), ("StaleEpoch", Exit::Stale));
        let mut late = task(&world, TaskKind::Fence);
        late.context.task.epoch = 2;
        late.until(Duration::from_secs(20), "it says what it waits for", |status| {
            status.reason.as_deref() == Some("NotAcknowledged")
        })
        .await;
        world.source.execute(WRITES[2]).await;
    }
}
