//! `verify.repair: Manual`: differences are found and counted, hold the gates, and nobody changes a row.

use crate::harness::{World, fill, rows, table};
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::support::eventually;
use datamigration::words::Direction;
use datamigration::workers::WorkError;
use serde_json::json;
use std::time::Duration;

const PAIRS: [(Kind, Kind); 2] = [(MariaDb, Postgres), (Postgres, MariaDb)];

async fn copied(source: Kind, target: Kind) -> World {
    let manual = json!({"verify": {"repair": "Manual"}});
    let world = World::with(source, target, manual, table(source), table(target)).await;
    fill(&world.source, 100).await;
    world.source_first().await;
    world.copy(1).run().await.unwrap();
    world
}

#[tokio::test]
async fn a_full_verify_reports_and_changes_nothing() {
    for (source, target) in PAIRS {
        let world = copied(source, target).await;
        world
            .target
            .execute(
                "UPDATE orders SET note = 'wrong' WHERE id = 7; DELETE FROM orders WHERE id = 8; \
                 INSERT INTO orders (id, customer, updated_at) VALUES (1000, 'nobody', '2020-01-01 00:00:00')",
            )
            .await;
        let before = rows(&world.target).await;
        let verify = world.full(Direction::Forward, 1);
        let ended = verify.run().await;
        let Err(error @ WorkError::Permanent { .. }) = ended else {
            panic!("{ended:?}")
        };
        assert_eq!(error.reason(), "DifferencesFound", "{error}");
        let report = verify.verify();
        let kinds = (report.target_missing, report.neq, report.base_missing);
        assert_eq!(
            (kinds, report.outstanding, report.repaired),
            ((1, 1, 1), 3, 0),
            "{report:?}"
        );
        assert_eq!(rows(&world.target).await, before);

        // Somebody makes the sides equal.
        world
            .target
            .execute("UPDATE orders SET note = 'note 7' WHERE id = 7; DELETE FROM orders WHERE id = 1000")
            .await;
        world.source.execute("DELETE FROM orders WHERE id = 8").await;
        let verify = world.full(Direction::Forward, 1);
        verify.run().await.unwrap();
        assert_eq!(verify.verify().outstanding, 0);
    }
}

#[tokio::test]
async fn an_incremental_verify_stays_at_the_difference_until_it_is_settled() {
    for (source, target) in PAIRS {
        let world = copied(source, target).await;
        let verify = world.incremental(Direction::Forward, 1);
        let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S.%6f");
        let change = format!("UPDATE orders SET note = 'changed', updated_at = '{now}' WHERE id = 20");
        let scene = async {
            let deadline = Duration::from_mins(1);
            world.source.execute(&change).await;
            eventually(deadline, "the difference is found", || async {
                verify
                    .reports
                    .last()
                    .verify
                    .is_some_and(|report| report.outstanding == 1)
            })
            .await;
            let windows = verify.verify().windows;
            eventually(deadline, "it is looked at again", || async {
                verify.verify().windows >= windows + 2
            })
            .await;
            let report = verify.verify();
            assert_eq!((report.outstanding, report.repaired), (1, 0), "{report:?}");
            assert!(report.clean_since.is_none() && report.verified_through.unwrap() < now.to_string());
            let held = rows(&world.target).await;
            assert!(held[19].contains("|note 20|"), "{}", held[19]);

            world.target.execute(&change).await;
            eventually(deadline, "it is clean", || async {
                let report = verify.reports.last().verify.unwrap_or_default();
                report.outstanding == 0 && report.clean_since.is_some()
            })
            .await;
            verify.context.stop.cancel();
        };
        let (ended, ()) = tokio::join!(verify.run(), scene);
        assert!(matches!(ended, Err(WorkError::Stopped)), "{ended:?}");
    }
}
