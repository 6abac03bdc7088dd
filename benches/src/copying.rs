//! Copies: who takes part between which engines, and the bars of each contest.

use crate::bars::{Bar, cheaper, faster, memory, overhead, scaling};
use crate::contest::{Bench, Contestant, How, Results};
use crate::peers;
use crate::report;
use crate::settings::FULL_ROWS;
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::tables::Shape;
use serde_json::{Value, json};

pub struct Copying {
    source: Kind,
    target: Kind,
    shape: Shape,
}

pub const fn copying(source: Kind, target: Kind, shape: Shape) -> Copying {
    Copying { source, target, shape }
}

impl Copying {
    pub async fn run(&self, bench: &mut Bench, name: &str) {
        let rows = self.shape.rows(bench.settings.rows);
        let mut contestants = vec![
            ours("ours, 2 connections", 2, json!({})),
            ours("ours, 4 connections", 4, json!({})),
        ];
        if self.shape == Shape::Orders {
            let after = json!({"copy": {"createTables": true, "secondaryIndexes": "After"}});
            contestants.push(ours("ours with indexes afterwards", 2, after));
            let limits = json!({"copy": {
                "rateLimit": {"rowsPerSecond": 100_000_000, "bytesPerSecond": 100_000_000_000_u64},
                "pauseWhen": {"threadsRunning": 1_000},
            }});
            contestants.push(ours("limits set, ours, 2 connections", 2, limits));
            contestants.push(Contestant {
                name: "reading alone, 2 connections".to_owned(),
                how: How::Reads(2),
            });
            contestants.push(Contestant {
                name: "two of ours, 2 connections each".to_owned(),
                how: How::Pods(json!({"copy": {"parallelism": 2}}), 2),
            });
        }
        contestants.extend(match (self.source, self.target) {
            (MariaDb, MariaDb) => [mysql_peers(self.shape, rows), mysql_raw()].concat(),
            (Postgres, Postgres) => [postgres_peers(), postgres_raw()].concat(),
            (MariaDb, Postgres) => [cross_peers(), postgres_raw()].concat(),
            (Postgres, MariaDb) => mysql_raw(),
        });
        let results = bench.contest((self.source, self.target, self.shape), contestants).await;
        let title = format!(
            "Copy {} → {}: {}",
            engine(self.source),
            engine(self.target),
            self.shape.name()
        );
        report::section(bench, name, &title, rows, &results, &self.bars(&results, rows), &[]);
    }

    fn bars(&self, results: &Results, rows: u64) -> Vec<Bar> {
        let mut bars = match (self.source, self.target) {
            (MariaDb, MariaDb) => vec![
                faster(
                    results,
                    "indexes in place",
                    "ours, ",
                    "mydumper",
                    1.2,
                    Some("from memory"),
                ),
                faster(
                    results,
                    "indexes afterwards",
                    "ours with",
                    "mydumper",
                    1.5,
                    Some("from memory"),
                ),
                faster(results, "raw bound", "ours, 2", "from memory", 0.85, None),
                cheaper(results, "CPU", "ours, 2", "mydumper"),
            ],
            (Postgres, Postgres) => vec![
                faster(
                    results,
                    "indexes afterwards",
                    "ours with",
                    "pgcopydb",
                    1.2,
                    Some("from memory"),
                ),
                scaling(
                    results,
                    "indexes in place, beside pgcopydb's afterwards",
                    "ours, 2",
                    "pgcopydb",
                ),
                faster(results, "raw bound", "ours, 2", "from memory", 0.85, None),
            ],
            (MariaDb, Postgres) => vec![
                faster(results, "beside pgloader", "ours", "pgloader", 2.2, Some("from memory")),
                scaling(results, "raw bound, which reads nothing", "ours, 2", "from memory"),
            ],
            (Postgres, MariaDb) => vec![scaling(
                results,
                "raw bound, which reads nothing",
                "ours, 2",
                "from memory",
            )],
        };
        bars.push(scaling(results, "2 → 4 connections", "ours, 4", "ours, 2"));
        if self.shape == Shape::Orders {
            let raw = if self.target == MariaDb {
                "from memory, inserts"
            } else {
                "from memory, COPY"
            };
            bars.push(overhead(results, "limits set", "reading alone", raw));
            bars.push(scaling(results, "1 → 2 pods", "two of ours", "ours, 2"));
        }
        let size = if rows >= FULL_ROWS { "" } else { " (few rows)" };
        bars.push(memory(results, &format!("peak memory of a worker{size}"), "ours", 200));
        bars
    }
}

pub fn engine(kind: Kind) -> &'static str {
    match kind {
        MariaDb => "MariaDB",
        Postgres => "PostgreSQL",
    }
}

pub fn ours(name: &str, connections: u32, mut changes: Value) -> Contestant {
    changes["copy"]["parallelism"] = connections.into();
    Contestant {
        name: name.to_owned(),
        how: How::Ours(changes),
    }
}

pub fn script(name: &str, script: &'static str, into: bool, more: &[(&'static str, &str)]) -> Contestant {
    Contestant {
        name: name.to_owned(),
        how: How::Script {
            script,
            more: more.iter().map(|&(name, value)| (name, value.to_owned())).collect(),
            into,
        },
    }
}

fn mysql_peers(shape: Shape, rows: u64) -> Vec<Contestant> {
    let mut all: Vec<Contestant> = ["1", "2", "4"]
        .into_iter()
        .map(|threads| {
            let chunk = (rows / 8).max(1).to_string();
            let name = format!("mydumper and myloader, {threads} threads");
            script(
                &name,
                peers::MYDUMPER,
                false,
                &[("THREADS", threads), ("CHUNK", &chunk)],
            )
        })
        .collect();
    if shape == Shape::Orders {
        all.push(script("mysqldump to mysql", peers::MYSQLDUMP, false, &[]));
    }
    all
}

fn mysql_raw() -> Vec<Contestant> {
    vec![
        script(
            "from memory, LOAD DATA, 1 connection",
            peers::LOAD_DATA,
            true,
            &[("THREADS", "1")],
        ),
        script(
            "from memory, LOAD DATA, 2 connections",
            peers::LOAD_DATA,
            true,
            &[("THREADS", "2")],
        ),
        raw("from memory, inserts, 2 connections", 2),
    ]
}

fn postgres_peers() -> Vec<Contestant> {
    let split = "--split-tables-larger-than 64MB";
    vec![
        script(
            "pgcopydb, 2 jobs",
            peers::PGCOPYDB,
            false,
            &[("THREADS", "2"), ("MORE", "")],
        ),
        script(
            "pgcopydb, 2 jobs, table split",
            peers::PGCOPYDB,
            false,
            &[("THREADS", "2"), ("MORE", split)],
        ),
        script(
            "pgcopydb, 4 jobs, table split",
            peers::PGCOPYDB,
            false,
            &[("THREADS", "4"), ("MORE", split)],
        ),
        script("pg_dump to psql", peers::PG_DUMP, false, &[]),
        script("psql COPY to COPY", peers::COPY_OUT_IN, true, &[]),
    ]
}

fn postgres_raw() -> Vec<Contestant> {
    vec![raw("from memory, COPY, 2 connections", 2)]
}

fn cross_peers() -> Vec<Contestant> {
    // With its own 100,000 prefetched rows it exhausts its heap at 2,000,000.
    let setting = |name: &str, more: &str| script(name, peers::PGLOADER, false, &[("MORE", more)]);
    vec![
        setting(
            "pgloader, 1 reader per table",
            "workers = 4, concurrency = 1, prefetch rows = 10000",
        ),
        setting(
            "pgloader, 2 readers per table",
            "workers = 4, concurrency = 2, multiple readers per thread, rows per range = 50000, prefetch rows = 10000",
        ),
    ]
}

fn raw(name: &str, connections: usize) -> Contestant {
    Contestant {
        name: name.to_owned(),
        how: How::Raw(connections),
    }
}
