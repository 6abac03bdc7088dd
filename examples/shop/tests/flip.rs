//! The flip of the base under load, without Kubernetes: three shop processes, their mode directories switched one after
//! the other, the load generator's record audited at the end. The strict sequence loses nothing; the direct flip, which
//! exists only here, loses acknowledged writes.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use datamigration::control;
use datamigration::rows::{Key, Value};
use datamigration::store::{Lock, TxOptions};
use datamigration::words::{Direction, Mode, SecondaryWrites};
use shop::audit::{Report, audit};
use shop::load::{self, Options};
use shop::record::Record;
use shop::table;
use support::journal::{self, MIGRATION, UID, open, orders_pair};
use support::{Mount, TestDatabase, eventually, servers};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

const SEEDED: i64 = 2_000;
const SOON: Duration = Duration::from_secs(90);

/// How late each replica sees a change of its mounted files: the kubelets do not move together.
const LATE: [Duration; 3] = [Duration::ZERO, Duration::from_millis(450), Duration::from_millis(900)];

struct Replica {
    mount: Mount,
    address: String,
    child: Child,
}

struct Shop {
    source: TestDatabase,
    target: TestDatabase,
    replicas: Vec<Replica>,
    folder: tempfile::TempDir,
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Shop {
    /// Both databases with the same orders, three replicas at epoch 1: what a finished copy leaves.
    async fn start() -> Self {
        let _ = shop::install_tls();
        let servers = servers().await;
        let (source, target) = tokio::join!(servers.mariadb_database(), servers.postgres_database());
        for side in [&source, &target] {
            let database = open(side);
            table::create_schema(&database).await.unwrap();
            table::seed(&database, SEEDED).await.unwrap();
            let mut tx = database.begin(TxOptions::default()).await.unwrap();
            control::create(&mut tx).await.unwrap();
            tx.commit().await.unwrap();
            let mut tx = database.begin(TxOptions::default()).await.unwrap();
            control::claim_tables(&mut tx, MIGRATION, UID, &["orders"])
                .await
                .unwrap();
            tx.commit().await.unwrap();
        }
        let mut shop = Self {
            source,
            target,
            replicas: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        shop.raise(Mode::SrcFirst, SecondaryWrites::Lenient, 1).await;
        for n in 0..LATE.len() {
            let mount = Mount::new();
            mount.flip("SRC_FIRST", "Lenient", 1);
            let replica = shop.replica(n, mount);
            shop.replicas.push(replica);
        }
        shop.acknowledged(&shop.source, 1).await;
        shop.close(1).await;
        shop
    }

    /// A process of the real service. One replica's application clock is 2 s behind.
    fn replica(&self, n: usize, mount: Mount) -> Replica {
        let address = format!("127.0.0.1:{}", free_port());
        let child = Command::new(env!("CARGO_BIN_EXE_shop"))
            .env("SHOP_LISTEN", &address)
            .env("SHOP_MODE_DIR", mount.path())
            .env("SHOP_SOURCE_URL", &self.source.url)
            .env("SHOP_TARGET_URL", &self.target.url)
            .env("SHOP_SOURCE_CA_FILE", &self.source.ca)
            .env("SHOP_TARGET_CA_FILE", &self.target.ca)
            .env("SHOP_CLOCK_SHIFT_MS", if n == 0 { "-2000" } else { "0" })
            .env("POD_NAME", format!("shop-{n}"))
            .env("POD_UID", format!("uid-{n}"))
            .env("RUST_LOG", std::env::var("SHOP_LOG").unwrap_or_else(|_| "error".into()))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Replica { mount, address, child }
    }

    fn sides(&self) -> [&TestDatabase; 2] {
        [&self.source, &self.target]
    }

    async fn raise(&self, mode: Mode, secondary: SecondaryWrites, epoch: i64) {
        journal::raise(self.sides(), mode.as_str(), secondary.as_str(), epoch).await;
    }

    async fn close(&self, epoch: i64) {
        for side in self.sides() {
            journal::close_epoch_on(side, epoch).await;
        }
    }

    /// Waits until the base knows every replica at the epoch.
    async fn acknowledged(&self, base: &TestDatabase, epoch: i64) {
        let database = &open(base);
        eventually(
            SOON,
            &format!("every replica acknowledges epoch {epoch}"),
            || async move {
                let mut tx = database.begin(TxOptions::read_only()).await.unwrap();
                let all = control::instances(&mut tx, MIGRATION).await.unwrap();
                tx.rollback().await;
                all.iter().filter(|seen| seen.instance.epoch == epoch).count() == LATE.len()
            },
        )
        .await;
    }

    /// One epoch, as the operator takes it: raised in both databases, adopted by one replica after the other,
    /// acknowledged by all, closed.
    async fn epoch(&self, mode: Mode, secondary: SecondaryWrites, epoch: i64) {
        self.raise(mode, secondary, epoch).await;
        let moves = self.replicas.iter().zip(LATE).map(|(replica, late)| async move {
            tokio::time::sleep(late).await;
            replica.mount.flip(mode.as_str(), secondary.as_str(), epoch);
        });
        futures::future::join_all(moves).await;
        let base = if mode.base() == Direction::Forward.base() {
            &self.source
        } else {
            &self.target
        };
        self.acknowledged(base, epoch).await;
        self.close(epoch).await;
    }

    /// What the operator does before a strict epoch: PostgreSQL's sequence hands out even keys above all others.
    async fn hand_over_keys(&self) {
        let most = self.source.number("SELECT MAX(id) FROM orders").await;
        let from = most + most % 2 + 10_000;
        self.target
            .execute(&format!("ALTER SEQUENCE orders_id_seq INCREMENT 2 RESTART {from}"))
            .await;
    }

    /// Settles the keys in both sides' queues from the base, under both locks, until there are none: what the
    /// incremental verify does.
    async fn drain(&self, direction: Direction) {
        let shape = orders_pair(&self.source, &self.target).await;
        let (base, follower) = match direction {
            Direction::Forward => (open(&self.source), open(&self.target)),
            Direction::Reverse => (open(&self.target), open(&self.source)),
        };
        for queue in [&base, &follower] {
            loop {
                let mut tx = queue.begin(TxOptions::default()).await.unwrap();
                let entries = control::queued(&mut tx, MIGRATION, "orders", 0, 100).await.unwrap();
                if entries.is_empty() {
                    tx.rollback().await;
                    break;
                }
                let ids: Vec<i64> = entries.iter().map(|entry| entry.id).collect();
                for entry in entries {
                    let keys = std::slice::from_ref(&entry.key);
                    let mut on_base = base.begin(TxOptions::default()).await.unwrap();
                    let rows = on_base
                        .read_keys(shape.base(direction), keys, Lock::Update)
                        .await
                        .unwrap();
                    let mut on_follower = follower.begin(TxOptions::default()).await.unwrap();
                    let side = shape.follower(direction);
                    on_follower.lock_key(side, &entry.key).await.unwrap();
                    if rows.is_empty() {
                        on_follower.delete(side, keys).await.unwrap();
                    } else {
                        on_follower.put(side, &rows).await.unwrap();
                    }
                    on_follower.commit().await.unwrap();
                    on_base.commit().await.unwrap();
                }
                control::dequeue(&mut tx, &ids).await.unwrap();
                tx.commit().await.unwrap();
            }
        }
    }

    /// Somebody else's long transactions on the target: they lock every other order for longer than a second write waits.
    async fn disturb(&self) {
        let shape = orders_pair(&self.source, &self.target).await;
        let database = open(&self.target);
        let orders: Vec<Key> = (1..=SEEDED).step_by(2).map(|id| Key(vec![Value::Int(id)])).collect();
        loop {
            let mut tx = database.begin(TxOptions::default()).await.unwrap();
            tx.read_keys(&shape.target, &orders, Lock::Update).await.unwrap();
            tokio::time::sleep(Duration::from_millis(700)).await;
            tx.rollback().await;
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    }

    /// Load while `flips` happen, and the audit of the target afterwards.
    async fn under_load<F: Future<Output = ()>>(&self, flips: F) -> Report {
        let record = self.folder.path().join("record.jsonl");
        let options = Options {
            urls: self
                .replicas
                .iter()
                .map(|replica| format!("http://{}", replica.address))
                .collect(),
            new_connections: false,
            rate: 160.0,
            concurrency: 64,
            duration: Some(Duration::from_mins(2)),
            stop_file: None,
            record: record.clone(),
            seeded: SEEDED,
            hot_keys: 50,
            hot_percent: 30,
            timeout: Duration::from_secs(15),
            seed: 7,
        };
        let stop = CancellationToken::new();
        let load = tokio::spawn(load::run(options, stop.clone()));
        tokio::select! {
            () = flips => {}
            () = self.disturb() => {}
        }
        stop.cancel();
        println!("{}", load.await.unwrap().unwrap());
        for replica in &self.replicas {
            let process = format!("/proc/{}", replica.child.id().unwrap());
            assert!(Path::new(&process).exists(), "every replica lived to the end");
        }
        let rows = table::all(&open(&self.target)).await.unwrap();
        let report = audit(&Record::read(&record).unwrap(), &rows, &[]);
        println!("{report}");
        report
    }

    async fn writes(&self) -> u64 {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut all = 0;
        for replica in &self.replicas {
            let url = format!("http://{}/counters", replica.address);
            let text = client.get(url).send().await.unwrap().text().await.unwrap();
            let counters: serde_json::Value = serde_json::from_str(&text).unwrap();
            all += counters["ok"].as_u64().unwrap();
        }
        all
    }

    /// SIGTERM to every replica: each ends by itself, and takes its row away.
    async fn end_in_order(&mut self) {
        for replica in &mut self.replicas {
            let pid = replica.child.id().unwrap().to_string();
            assert!(
                Command::new("kill")
                    .args(["-TERM", &pid])
                    .status()
                    .await
                    .unwrap()
                    .success()
            );
            let ended = tokio::time::timeout(SOON, replica.child.wait()).await.unwrap().unwrap();
            assert!(ended.success(), "{ended}");
        }
        assert_eq!(
            self.target
                .number("SELECT COUNT(*) FROM _datamigration_instances")
                .await,
            0
        );
    }

    /// Waits until that many more writes have succeeded.
    async fn some_writes(&self, n: u64) {
        let before = self.writes().await;
        eventually(SOON, "the load goes on", || async { self.writes().await >= before + n }).await;
    }
}

#[tokio::test]
async fn the_strict_sequence_loses_nothing() {
    use Mode::{DstFirst, DstOnly, SrcFirst};
    use SecondaryWrites::{Lenient, Strict};
    let mut shop = Shop::start().await;
    let report = shop
        .under_load(Box::pin(async {
            shop.some_writes(300).await;
            shop.hand_over_keys().await;
            shop.epoch(SrcFirst, Strict, 2).await;
            shop.drain(Direction::Forward).await;
            shop.some_writes(100).await;
            shop.epoch(DstFirst, Strict, 3).await;
            shop.some_writes(100).await;
            shop.epoch(DstFirst, Lenient, 4).await;
            shop.some_writes(300).await;
            // And back, and forward again.
            shop.epoch(DstFirst, Strict, 5).await;
            shop.drain(Direction::Reverse).await;
            shop.epoch(SrcFirst, Strict, 6).await;
            shop.some_writes(200).await;
            shop.epoch(DstFirst, Strict, 7).await;
            shop.epoch(DstFirst, Lenient, 8).await;
            shop.some_writes(200).await;
            shop.epoch(DstOnly, Lenient, 9).await;
            shop.some_writes(100).await;
        }))
        .await;
    shop.end_in_order().await;
    assert!(report.clean(), "{report}");
    assert!(report.acknowledged >= 1_000, "{report}");
    assert!(report.failed_percent() <= 0.5, "{report}");
    assert!(report.longest_pause_ms <= 2_000, "{report}");
}

#[tokio::test]
async fn a_direct_flip_loses_acknowledged_writes() {
    use Mode::{DstFirst, DstOnly, SrcFirst};
    use SecondaryWrites::Lenient;
    let shop = Shop::start().await;
    let report = shop
        .under_load(Box::pin(async {
            shop.some_writes(300).await;
            shop.hand_over_keys().await;
            shop.drain(Direction::Forward).await;
            // Forth and back and forth: one flip may be lucky.
            shop.epoch(DstFirst, Lenient, 2).await;
            shop.drain(Direction::Reverse).await;
            shop.epoch(SrcFirst, Lenient, 3).await;
            shop.drain(Direction::Forward).await;
            shop.epoch(DstFirst, Lenient, 4).await;
            shop.drain(Direction::Reverse).await;
            shop.epoch(DstOnly, Lenient, 5).await;
            shop.some_writes(100).await;
        }))
        .await;
    assert!(report.missing + report.stale + report.resurrected > 0, "{report}");
}
