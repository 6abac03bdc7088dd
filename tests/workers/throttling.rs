//! Gentleness on real servers: rates that change while the copy runs, every measure of load on either side, windows, and
//! a stop at any moment.

use crate::harness::{Task, World, fill, rows, table};
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::support::{TestDatabase, eventually, on_mysql};
use datamigration::api::migration::Limits;
use datamigration::api::task::ThrottleReport;
use datamigration::words::Direction;
use datamigration::workers::WorkError;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PAIRS: [(Kind, Kind); 2] = [(MariaDb, Postgres), (Postgres, MariaDb)];
const SOON: Duration = Duration::from_mins(3);

async fn world(source: Kind, target: Kind, copy: Value) -> World {
    World::with(source, target, json!({"copy": copy}), table(source), table(target)).await
}

async fn told(task: &Task, what: &str, holds: impl Fn(Option<&ThrottleReport>) -> bool) -> Option<ThrottleReport> {
    eventually(SOON, what, || async { holds(task.reports.last().throttle.as_ref()) }).await;
    task.reports.last().throttle
}

async fn reason(task: &Task, reason: &str) -> ThrottleReport {
    told(task, reason, |report| {
        report.is_some_and(|report| report.reason == reason)
    })
    .await
    .unwrap()
}

fn set(task: &Task, limits: Limits) {
    task.desired.send_modify(|desired| desired.limits = Some(limits));
}

async fn count(database: &TestDatabase) -> i64 {
    database.number("SELECT COUNT(*) FROM orders").await
}

/// At a row or a byte a second nothing would be done in time; a limit that is edited holds for what is under way.
#[tokio::test]
async fn rates_may_be_edited_while_the_copy_runs() {
    for (source, target) in PAIRS {
        for (limit, measure) in [
            (json!({"rowsPerSecond": 1}), "rateLimit.rowsPerSecond"),
            (json!({"bytesPerSecond": 1}), "rateLimit.bytesPerSecond"),
        ] {
            let world = world(source, target, json!({"rateLimit": limit, "parallelism": 2})).await;
            fill(&world.source, 3_000).await;
            world.source_first().await;
            let copy = world.copy(1);
            let scene = async {
                let report = reason(&copy, "RateLimit").await;
                assert_eq!((report.measure.as_str(), report.limit.as_deref()), (measure, Some("1")));
                assert!(count(&world.target).await < 3_000);
                set(&copy, Limits::default());
            };
            let (ended, ()) = tokio::join!(copy.run(), scene);
            ended.unwrap();
            assert_eq!(rows(&world.source).await, rows(&world.target).await);
        }
    }
}

/// The same for a full verify, and a stop that comes while it waits.
#[tokio::test]
async fn a_full_verify_keeps_the_rate_and_stops_while_it_waits() {
    let world = world(MariaDb, Postgres, json!({})).await;
    fill(&world.source, 3_000).await;
    world.source_first().await;
    world.copy(1).run().await.unwrap();
    let slow = Limits {
        rows_per_second: Some(1),
        ..Limits::default()
    };
    let verify = world.full(Direction::Forward, 1);
    set(&verify, slow.clone());
    let scene = async {
        reason(&verify, "RateLimit").await;
        set(&verify, Limits::default());
    };
    let (ended, ()) = tokio::join!(verify.run(), scene);
    ended.unwrap();
    assert_eq!(verify.verify().compared, 6_000);

    let verify = world.full(Direction::Forward, 1);
    set(&verify, slow);
    let scene = async {
        reason(&verify, "RateLimit").await;
        verify.context.stop.cancel();
    };
    let (ended, ()) = tokio::join!(verify.run(), scene);
    assert!(matches!(ended, Err(WorkError::Stopped)), "{ended:?}");
}

async fn load(database: &TestDatabase, busy: u32) {
    database.execute(&format!("UPDATE load_now SET busy = {busy}")).await;
}

/// A query on either side: nothing is begun above the limit, the report names the server, and work goes on in the calm.
#[tokio::test]
async fn a_query_above_its_limit_on_either_side_pauses() {
    for (source, target) in PAIRS {
        let query = json!({"pauseWhen": {"query": {"sql": "SELECT busy FROM load_now", "above": 5}}});
        let world = world(source, target, query).await;
        for database in [&world.source, &world.target] {
            database
                .execute("CREATE TABLE load_now (busy INT NOT NULL); INSERT INTO load_now VALUES (0)")
                .await;
        }
        fill(&world.source, 2_000).await;
        world.source_first().await;

        load(&world.target, 9).await;
        let copy = world.copy(1);
        let scene = async {
            let report = reason(&copy, "LoadAboveLimit").await;
            assert_eq!(report.database.as_deref(), Some("target/main"));
            assert_eq!(
                (report.value.as_deref(), report.limit.as_deref()),
                (Some("9"), Some("5"))
            );
            assert_eq!(count(&world.target).await, 0, "nothing was begun");
            load(&world.target, 4).await;
        };
        let (ended, ()) = tokio::join!(copy.run(), scene);
        ended.unwrap();
        assert_eq!(rows(&world.source).await, rows(&world.target).await);

        load(&world.source, 9).await;
        let verify = world.full(Direction::Forward, 1);
        let scene = async {
            let report = reason(&verify, "LoadAboveLimit").await;
            assert_eq!(report.database.as_deref(), Some("source/main"));
            verify.context.stop.cancel();
        };
        let (ended, ()) = tokio::join!(verify.run(), scene);
        assert!(
            matches!(ended, Err(WorkError::Stopped)),
            "a pause ends with a stop: {ended:?}"
        );
        assert_eq!(verify.verify().compared, 0);

        // The gates live on the incremental verify: it goes on, slowly, and says so.
        let verify = world.incremental(Direction::Forward, 1);
        let scene = async {
            reason(&verify, "LoadAboveLimit").await;
            let windows = verify.verify().windows;
            eventually(SOON, "windows under load", || async {
                verify.verify().windows >= windows + 2
            })
            .await;
            verify.context.stop.cancel();
        };
        let (ended, ()) = tokio::join!(verify.run(), scene);
        assert!(matches!(ended, Err(WorkError::Stopped)), "{ended:?}");
    }
}

/// What is no number, or no query at all, is told; it is never taken for calm.
#[tokio::test]
async fn a_query_that_cannot_be_answered_pauses_and_says_why() {
    for (sql, expected) in [
        ("SELECT 1 WHERE 1 = 0", "returned 0 rows"),
        ("SELECT 'much'", "returned no number"),
        ("SELECT busy FROM nowhere", "nowhere"),
    ] {
        let query = json!({"pauseWhen": {"query": {"sql": sql, "above": 5, "side": "Target"}}});
        let world = world(MariaDb, Postgres, query).await;
        fill(&world.source, 10).await;
        world.source_first().await;
        let copy = world.copy(1);
        let scene = async {
            let report = reason(&copy, "MeasureUnreadable").await;
            assert_eq!(report.database.as_deref(), Some("target/main"));
            assert!(report.message.contains(expected), "{}", report.message);
            assert_eq!(count(&world.target).await, 0);
            set(&copy, Limits::default());
        };
        let (ended, ()) = tokio::join!(copy.run(), scene);
        ended.unwrap();
    }
}

/// Sessions that run statements until told otherwise.
fn busy(database: &TestDatabase, sessions: usize) -> Arc<AtomicBool> {
    let go_on = Arc::new(AtomicBool::new(true));
    for _ in 0..sessions {
        let (database, go_on) = (database.clone(), go_on.clone());
        let sql = match database.kind {
            MariaDb => "DO SLEEP(1);".repeat(10),
            Postgres => "SELECT pg_sleep(10)".to_owned(),
        };
        tokio::spawn(async move {
            while go_on.load(Ordering::Relaxed) {
                database.execute(&sql).await;
            }
        });
    }
    go_on
}

#[tokio::test]
async fn running_threads_pause_on_mariadb() {
    let world = world(MariaDb, MariaDb, json!({"pauseWhen": {"threadsRunning": 20}})).await;
    fill(&world.source, 1_000).await;
    world.source_first().await;
    let busy = busy(&world.source, 30);
    let copy = world.copy(1);
    let scene = async {
        let report = reason(&copy, "LoadAboveLimit").await;
        assert_eq!(report.measure, "pauseWhen.threadsRunning");
        assert_eq!(report.limit.as_deref(), Some("20"));
        busy.store(false, Ordering::Relaxed);
    };
    let (ended, ()) = tokio::join!(copy.run(), scene);
    ended.unwrap();
    assert_eq!(rows(&world.source).await, rows(&world.target).await);
}

/// Without `pg_monitor` PostgreSQL shows other users' sessions as if they did nothing. One test, because the role is the
/// whole server's.
#[tokio::test]
async fn running_threads_and_lag_on_postgres_need_to_be_seen() {
    Box::pin(threads_on_postgres()).await;
    Box::pin(lag_on_postgres()).await;
}

async fn threads_on_postgres() {
    let world = world(
        Postgres,
        Postgres,
        json!({"pauseWhen": {"threadsRunning": 20, "replicationLag": "10s"}}),
    )
    .await;
    fill(&world.source, 1_000).await;
    world.source_first().await;
    let busy = busy(&world.source, 30);
    let copy = world.copy(1);
    let scene = async {
        let report = reason(&copy, "MeasureUnreadable").await;
        assert!(report.message.contains("GRANT pg_monitor"), "{}", report.message);
        assert_eq!(count(&world.target).await, 0);
        world.source.execute_as_admin("GRANT pg_monitor TO orders").await;
        let report = reason(&copy, "LoadAboveLimit").await;
        assert_eq!(report.measure, "pauseWhen.threadsRunning");
        busy.store(false, Ordering::Relaxed);
    };
    let (ended, ()) = tokio::join!(copy.run(), scene);
    ended.unwrap();
    assert_eq!(rows(&world.source).await, rows(&world.target).await);
}

/// A standby that applies nothing for an hour falls behind; without it there is no lag.
async fn lag_on_postgres() {
    // Slow enough to be still at it when the standby is found behind what the copy itself writes.
    let limits = json!({"pauseWhen": {"replicationLag": "2s"}, "rateLimit": {"rowsPerSecond": 50}});
    let world = world(Postgres, Postgres, limits).await;
    fill(&world.source, 1_000).await;
    world.source_first().await;
    let standby = Standby::start(&world.source).await;
    let copy = world.copy(1);
    let scene = async {
        let report = reason(&copy, "LoadAboveLimit").await;
        assert_eq!(report.measure, "pauseWhen.replicationLag");
        assert_eq!(report.limit.as_deref(), Some("2s"));
        assert!(count(&world.target).await < 1_000);
        standby.stop().await;
        let limits = world.migration.copy.limits.clone();
        set(
            &copy,
            Limits {
                rows_per_second: None,
                ..limits
            },
        );
    };
    let (ended, ()) = tokio::join!(copy.run(), scene);
    ended.unwrap();
    assert_eq!(rows(&world.source).await, rows(&world.target).await);
}

/// A standby of the test's PostgreSQL, made and started by that server's own account. Left behind, it ends by itself when
/// its directory goes with the server's.
struct Standby {
    primary: TestDatabase,
    control: String,
}

impl Standby {
    async fn start(primary: &TestDatabase) -> Self {
        let url = url::Url::parse(&primary.admin_url).unwrap();
        let (user, password, port) = (url.username(), url.password().unwrap(), url.port().unwrap());
        let bin = "/usr/lib/postgresql/15/bin";
        let standby = Self {
            primary: primary.clone(),
            control: format!("HOME=$PWD {bin}/pg_ctl -D ../run/standby"),
        };
        primary
            .execute_as_admin(
                "COPY (SELECT 'host replication all 127.0.0.1/32 scram-sha-256') TO PROGRAM 'cat >> pg_hba.conf'; \
                 SELECT pg_reload_conf()",
            )
            .await;
        let from = format!("host=127.0.0.1 port={port} user={user} password={password} sslmode=require");
        // The new rule holds some moment after it was asked for.
        standby
            .program(&format!(
                "for n in 1 2 3 4 5 6 7 8 9 10; do HOME=$PWD {bin}/pg_basebackup -D ../run/standby -R -c fast -d \"{from}\" \
                 2>>../run/standby.log && exit 0; sleep 0.5; done; exit 1"
            ))
            .await;
        let options = format!(
            "-c port={port} -c listen_addresses= -c unix_socket_directories=$PWD/../run/standby -c shared_buffers=16MB \
             -c max_connections=300 -c recovery_min_apply_delay=1h"
        );
        standby
            .program(&format!(
                "{} -w -l ../run/standby.log -o \"{options}\" start >/dev/null",
                standby.control
            ))
            .await;
        standby
    }

    async fn stop(&self) {
        self.program(&format!("{} -m immediate stop >/dev/null", self.control))
            .await;
    }

    /// In the primary's data directory, as its user.
    async fn program(&self, command: &str) {
        let command = command.replace('\'', "''");
        self.primary
            .execute_as_admin(&format!("COPY (SELECT 1) TO PROGRAM '{command}'"))
            .await;
    }
}

/// A server that does not replicate has no lag; one whose replication stands still has one that nobody knows.
#[tokio::test]
async fn replication_lag_on_mariadb_is_known_or_told() {
    let limits = json!({"pauseWhen": {"replicationLag": "10s"}});
    let first = world(MariaDb, MariaDb, limits.clone()).await;
    fill(&first.source, 10).await;
    first.source_first().await;
    let copy = first.copy(1);
    let scene = async {
        let report = reason(&copy, "MeasureUnreadable").await;
        assert!(report.message.contains("REPLICA MONITOR"), "{}", report.message);
        copy.context.stop.cancel();
    };
    let (ended, ()) = tokio::join!(copy.run(), scene);
    assert!(matches!(ended, Err(WorkError::Stopped)), "{ended:?}");

    let (point, reset) = if on_mysql() {
        (
            "GRANT REPLICATION CLIENT ON *.* TO 'orders'@'%'; \
             CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = 1, SOURCE_USER = 'nobody'",
            "RESET REPLICA ALL",
        )
    } else {
        (
            "GRANT REPLICA MONITOR ON *.* TO 'orders'@'%'; \
             CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1, MASTER_USER = 'nobody'",
            "RESET SLAVE ALL",
        )
    };
    first.source.execute_as_admin(point).await;
    let second = world(MariaDb, MariaDb, limits).await;
    fill(&second.source, 10).await;
    second.source_first().await;
    let copy = second.copy(1);
    let scene = async {
        let report = reason(&copy, "MeasureUnreadable").await;
        assert!(
            report.message.contains("whose replication does not run"),
            "{}",
            report.message
        );
        assert_eq!(count(&second.target).await, 0);
        second.source.execute_as_admin(reset).await;
    };
    let (ended, ()) = tokio::join!(copy.run(), scene);
    ended.unwrap();
    assert_eq!(count(&second.target).await, 10);
}

#[tokio::test]
async fn nothing_is_done_outside_of_the_window() {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let opens = format!("0 {} * * * +1h", (now.hour() + 6) % 24);
    let world = world(MariaDb, Postgres, json!({"window": opens})).await;
    fill(&world.source, 1_000).await;
    world.source_first().await;
    let copy = world.copy(1);
    let scene = async {
        let report = reason(&copy, "OutsideWindow").await;
        assert_eq!(report.limit.as_deref(), Some(format!("{opens} UTC").as_str()));
        assert_eq!(count(&world.target).await, 0);
        set(&copy, Limits::default());
    };
    let (ended, ()) = tokio::join!(copy.run(), scene);
    ended.unwrap();
    assert_eq!(count(&world.target).await, 1_000);
}

/// A suspend sends SIGTERM: what was begun is finished, nothing more is, and what is recorded is what is there.
#[tokio::test]
async fn a_stop_is_honoured_within_a_batch() {
    for (source, target) in PAIRS {
        let world = world(
            source,
            target,
            json!({"rateLimit": {"rowsPerSecond": 2_000}, "parallelism": 3}),
        )
        .await;
        fill(&world.source, 60_000).await;
        world.source_first().await;
        let copy = world.copy(1);
        let scene = async {
            eventually(SOON, "some rows are there", || async {
                count(&world.target).await > 500
            })
            .await;
            copy.context.stop.cancel();
        };
        let (ended, ()) = tokio::join!(copy.run(), scene);
        assert!(matches!(ended, Err(WorkError::Stopped)), "{ended:?}");
        let sum = "SELECT CAST(SUM(copied_rows) AS DECIMAL(20)) FROM _datamigration_chunks";
        let sum = match target {
            MariaDb => sum.replace("DECIMAL(20)", "SIGNED"),
            Postgres => sum.replace("DECIMAL(20)", "BIGINT"),
        };
        let (recorded, held) = (world.target.number(&sum).await, count(&world.target).await);
        assert_eq!(recorded, held);
        assert!(held < 60_000, "{held}");
        let again = world.copy(1);
        set(&again, Limits::default());
        again.run().await.unwrap();
        assert_eq!(count(&world.target).await, 60_000);
    }
}
