//! `make bench`: our copy and verify beside the tools that a user would pick instead, in one run on generated tables.
//! Started again as a child, this binary is also the measured worker, so that its memory is its own.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A panic is the report: nothing here is shipped.

mod bars;
mod child;
mod contest;
mod copying;
mod machine;
mod measure;
mod memory;
mod ours;
mod peers;
mod raw;
mod reading;
mod report;
mod settings;
#[path = "../../tests/support/mod.rs"]
mod support;
mod tables;
mod verifying;

use copying::{Copying, copying};
use settings::Settings;
use support::Kind::{MariaDb, Postgres};
use tables::Shape;
use verifying::{Verifying, verifying};

enum Suite {
    Copy(Copying),
    Verify(Verifying),
    Memory,
}

const SUITES: [(&str, Suite); 12] = [
    ("copy-mariadb", Suite::Copy(copying(MariaDb, MariaDb, Shape::Orders))),
    ("copy-postgres", Suite::Copy(copying(Postgres, Postgres, Shape::Orders))),
    ("copy-cross", Suite::Copy(copying(MariaDb, Postgres, Shape::Orders))),
    ("copy-back", Suite::Copy(copying(Postgres, MariaDb, Shape::Orders))),
    ("verify-mariadb", Suite::Verify(verifying(MariaDb, MariaDb))),
    ("verify-postgres", Suite::Verify(verifying(Postgres, Postgres))),
    ("verify-cross", Suite::Verify(verifying(MariaDb, Postgres))),
    ("copy-mariadb-wide", Suite::Copy(copying(MariaDb, MariaDb, Shape::Wide))),
    (
        "copy-postgres-wide",
        Suite::Copy(copying(Postgres, Postgres, Shape::Wide)),
    ),
    (
        "copy-mariadb-composite",
        Suite::Copy(copying(MariaDb, MariaDb, Shape::Composite)),
    ),
    (
        "copy-postgres-composite",
        Suite::Copy(copying(Postgres, Postgres, Shape::Composite)),
    ),
    ("memory", Suite::Memory),
];

fn main() {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("no TLS provider before main");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    if arguments.first().is_some_and(|first| first == child::WORD) {
        runtime.block_on(Box::pin(child::main()));
        return;
    }
    let settings = Settings::read();
    let wanted =
        |suite: &str| arguments.is_empty() || arguments.iter().any(|wanted| suite.starts_with(wanted.as_str()));
    runtime.block_on(async {
        let mut bench = contest::Bench::start(settings).await;
        for (name, suite) in SUITES {
            if wanted(name) {
                match suite {
                    Suite::Copy(copying) => copying.run(&mut bench, name).await,
                    Suite::Verify(verifying) => verifying.run(&mut bench, name).await,
                    Suite::Memory => memory::run(&mut bench, name).await,
                }
            }
        }
    });
}
