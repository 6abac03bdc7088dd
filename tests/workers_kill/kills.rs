//! Worker processes killed by SIGKILL where a range ends, inside batches and at any time, one alone and two at one table;
//! servers killed inside batches. Whatever dies: the record says exactly what is there, and the rows are in the end those
//! of a run that nobody disturbed.
//!
//! `KILL_ROWS` (25,000) says how many rows, and so how many ranges, there are; `KILL_INSIDE` (1) how many kills fall inside
//! each range besides the one at its end; `KILL_PAIRS` (1) how many kills two processes at once suffer.

use crate::harness::{World, fill, rows, table};
use crate::process::{Eye, Process, Shell, expire_leases};
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::support::{eventually, eventually_some, servers};
use crate::{KILLS, TURN};
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;

const LONG: Duration = Duration::from_mins(3);

#[tokio::test]
async fn processes_killed_from_mariadb_to_postgres() {
    killed(MariaDb, Postgres).await;
}

#[tokio::test]
async fn processes_killed_from_postgres_to_mariadb() {
    killed(Postgres, MariaDb).await;
}

#[tokio::test]
async fn processes_killed_from_mariadb_to_mariadb() {
    killed(MariaDb, MariaDb).await;
}

#[tokio::test]
async fn processes_killed_from_postgres_to_postgres() {
    killed(Postgres, Postgres).await;
}

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Where a worker is killed.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// As soon as one more range is recorded as done: before, while or just after the next one is claimed.
    End,
    /// As soon as one more range is recorded as claimed.
    Claim,
    /// While rows are put.
    Inside,
    /// Whenever it happens to be.
    Any,
}

async fn killed(source: Kind, target: Kind) {
    let _turn = TURN.read().await;
    let seeded = setting("KILL_ROWS", 25_000);
    let world = World::with(source, target, json!({}), table(source), table(target)).await;
    fill(&world.source, seeded).await;

    // Nobody disturbs this one: another database, and no operator's epoch yet.
    let quiet = servers().await.database(target).await;
    quiet.execute(table(target)).await;
    Shell::new(&world.source, &quiet, &json!({"parallelism": 2}))
        .run(&["copy", "--quiet"])
        .await;
    let wanted = rows(&quiet).await;
    assert_eq!(wanted, rows(&world.source).await);

    world.source_first().await;
    let eye = Eye::on(&world.target);
    let shell = Shell::new(&world.source, &world.target, &json!({"parallelism": 2}));
    let mut kills = alone(&world, &shell, &eye, setting("KILL_INSIDE", 1)).await;
    assert_eq!(
        rows(&world.target).await,
        wanted,
        "{source:?} to {target:?}, one process"
    );

    // The same again by two at a time.
    world
        .target
        .execute("DELETE FROM orders; DELETE FROM _datamigration_chunks")
        .await;
    let slow = json!({"parallelism": 2, "rateLimit": {"rowsPerSecond": 6_000}});
    let shell = Shell::new(&world.source, &world.target, &slow);
    kills += two(&world, &shell, &eye, setting("KILL_PAIRS", 1)).await;
    assert_eq!(
        rows(&world.target).await,
        wanted,
        "{source:?} to {target:?}, two processes"
    );

    kills += repairs(&world, &shell, &eye, setting("KILL_PAIRS", 1).min(12)).await;
    assert_eq!(
        rows(&world.target).await,
        wanted,
        "{source:?} to {target:?}, after repair"
    );
    let all = KILLS.fetch_add(kills, Ordering::SeqCst) + kills;
    println!(
        "{source:?} to {target:?}: kills: {kills}, {} rows equal ({all} kills so far)",
        wanted.len()
    );
}

/// One process at a time: it dies at the end of every range, and some times inside each.
async fn alone(world: &World, shell: &Shell, eye: &Eye, inside: u32) -> u32 {
    let (mut kills, mut at_ends) = (0, 0);
    'copy: loop {
        let mut points = vec![Point::Inside; inside as usize];
        points.extend([if kills % 2 == 0 { Point::End } else { Point::Claim }]);
        for point in points {
            let mut process = shell.start(&["copy", "--quiet"]);
            reach(point, eye, || process.ended()).await;
            if !process.kill().await {
                break 'copy;
            }
            kills += 1;
            at_ends += u32::from(!matches!(point, Point::Inside));
            exact(eye).await;
            expire_leases(world).await;
        }
    }
    let recorded = eye.recorded().await.unwrap();
    let ranges = recorded.chunks as u32;
    assert_eq!((recorded.done, recorded.rows), (recorded.chunks, recorded.held));
    // Two lanes: the ends of two ranges may fall together.
    assert!(
        at_ends * 2 + 2 >= ranges,
        "{at_ends} kills at the ends of {ranges} ranges"
    );
    assert!(
        kills >= at_ends + inside.min(1) * (ranges / 2),
        "{kills} kills in {ranges} ranges"
    );
    kills
}

/// Two processes at one table: one dies, the other goes on and finds leases expired, its own among them.
async fn two(world: &World, shell: &Shell, eye: &Eye, most: u32) -> u32 {
    let start = || shell.start(&["copy", "--quiet"]);
    let mut processes: [Process; 2] = [start(), start()];
    let mut kills = 0;
    while kills < most {
        let point = [Point::Inside, Point::Any, Point::End, Point::Claim][kills as usize % 4];
        let victim = kills as usize % 2;
        reach(point, eye, || processes.iter_mut().any(Process::ended)).await;
        let process = std::mem::replace(&mut processes[victim], start());
        if !process.kill().await {
            break;
        }
        kills += 1;
        exact(eye).await;
        expire_leases(world).await;
    }
    for mut process in processes {
        eventually(LONG, "both come to their end", || {
            let ended = process.ended();
            async move { ended }
        })
        .await;
    }
    let recorded = eye.recorded().await.unwrap();
    assert_eq!((recorded.done, recorded.rows), (recorded.chunks, recorded.held));
    kills
}

/// Rows go wrong in the follower; who verifies and repairs is killed while it does.
async fn repairs(world: &World, shell: &Shell, eye: &Eye, most: u32) -> u32 {
    let wrong = "customer = 'wrong'";
    world
        .target
        .execute(
            "UPDATE orders SET customer = 'wrong' WHERE id % 90 = 7; DELETE FROM orders WHERE id % 500 = 3; \
             INSERT INTO orders (id, customer, updated_at) SELECT id + 10000000, 'surplus', updated_at FROM orders \
             WHERE id % 700 = 1",
        )
        .await;
    let verify = ["verify", "--repair", "--quiet", "--show", "0"];
    let mut kills = 0;
    while kills < most {
        let mut process = shell.start(&verify);
        let before = eye.rows(wrong).await.unwrap();
        // It has begun to repair.
        eventually(LONG, "a row is repaired", || {
            let ended = process.ended();
            async move { ended || eye.rows(wrong).await.is_some_and(|now| now < before) }
        })
        .await;
        if !process.kill().await {
            break;
        }
        kills += 1;
    }
    shell.run(&verify).await;
    kills
}

/// Waits until the work is at that point, or over.
async fn reach(point: Point, eye: &Eye, mut over: impl FnMut() -> bool) {
    if matches!(point, Point::Any) {
        tokio::time::sleep(Duration::from_millis(rand::random::<u64>() % 1_500)).await;
        return;
    }
    let (claimed, done) = eye.ranges().await.unwrap_or_default();
    let deadline = tokio::time::Instant::now() + LONG;
    loop {
        let there = match point {
            Point::End => eye.ranges().await.is_some_and(|now| now.1 > done),
            Point::Claim => eye.ranges().await.is_some_and(|now| now.0 > claimed),
            Point::Inside | Point::Any => eye.inside_a_batch().await,
        };
        if there || over() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "not reached: {point:?}");
    }
    if matches!(point, Point::Inside) {
        // Anywhere from the statement that puts rows to the commit.
        tokio::time::sleep(Duration::from_millis(rand::random::<u64>() % 40)).await;
    }
}

/// What is recorded as copied is there, and nothing else is.
async fn exact(eye: &Eye) {
    let recorded = eye.recorded().await.expect("the follower answers");
    assert_eq!(recorded.rows, recorded.held, "{recorded:?}");
}

/// The follower and the base die by SIGKILL inside batches, the very process goes on.
pub async fn servers_killed(source: Kind, target: Kind, times: u32) {
    let _turn = TURN.write().await;
    let seeded = setting("KILL_ROWS", 25_000);
    let world = World::with(source, target, json!({}), table(source), table(target)).await;
    fill(&world.source, seeded).await;
    let wanted = rows(&world.source).await;
    world.source_first().await;
    let eye = Eye::on(&world.target);
    let rate = seeded / (times + 1);
    let shell = Shell::new(
        &world.source,
        &world.target,
        &json!({"parallelism": 2, "rateLimit": {"rowsPerSecond": rate}}),
    );
    let mut process = shell.start(&["copy", "--quiet"]);
    for n in 0..times {
        reach(Point::Inside, &eye, || process.ended()).await;
        assert!(!process.ended(), "the copy was over before kill {n}");
        let victim = if n % 2 == 0 { target } else { source };
        servers().await.kill(victim).await;
        servers().await.start_again(victim).await;
        let before = eventually_some(LONG, "the follower answers", || eye.recorded()).await;
        eventually(LONG, "rows are copied again", || {
            let (ended, eye) = (process.ended(), &eye);
            async move { ended || eye.recorded().await.is_some_and(|now| now != before) }
        })
        .await;
        exact(&eye).await;
    }
    eventually(LONG, "the copy comes to its end", || {
        let ended = process.ended();
        async move { ended }
    })
    .await;
    exact(&eye).await;
    assert_eq!(rows(&world.target).await, wanted, "{source:?} to {target:?}");
    println!(
        "{source:?} to {target:?}: servers killed: {times}, {} rows equal",
        wanted.len()
    );
}
