//! What a worker's memory depends on: not on the number of rows, and little on their size.

use crate::bars::{Bar, memory};
use crate::child::Assignment;
use crate::contest::{Bench, Contestant, How};
use crate::copying::{engine, ours};
use crate::ours::Ours;
use crate::report;
use crate::support::Kind::{self, MariaDb, Postgres};
use crate::tables::Shape;
use serde_json::json;

const PAIRS: [(Kind, Kind); 3] = [(MariaDb, MariaDb), (Postgres, Postgres), (MariaDb, Postgres)];

pub async fn run(bench: &mut Bench, name: &str) {
    tables(bench, &format!("{name}-big-rows"), Shape::Big, "rows of 10 MB", 400).await;
    if bench.settings.full {
        tables(
            bench,
            &format!("{name}-many-rows"),
            Shape::Many,
            "four times the rows",
            200,
        )
        .await;
    }
}

async fn tables(bench: &mut Bench, name: &str, shape: Shape, what: &str, most: u64) {
    let mut results = Vec::new();
    for (source, target) in PAIRS {
        let way = format!("{} → {}", engine(source), engine(target));
        let copies = vec![ours(&format!("ours: copy {way}"), 4, json!({}))];
        results.extend(bench.contest((source, target, shape), copies).await);
        let (source, target) = (bench.source(source, shape).await, bench.filled(target, shape).await);
        let compare = vec![ours(&format!("ours: verify {way}"), 4, json!({}))];
        results.extend(
            bench
                .rounds(compare, async |Contestant { how, .. }| {
                    let How::Ours(changes) = how else {
                        unreachable!("only ours")
                    };
                    let ours = Ours::new(&source.url, &target.url, shape, changes.clone());
                    bench
                        .ours(Assignment::Prepare(ours.clone()), Assignment::Verify(ours))
                        .await
                })
                .await,
        );
        bench.remove(target).await;
    }
    let bars: Vec<Bar> = ["ours: copy", "ours: verify"]
        .iter()
        .map(|who| memory(&results, &format!("peak memory, {who}, {what}"), who, most))
        .collect();
    let rows = shape.rows(bench.settings.rows);
    report::section(bench, name, &format!("Memory: {what}"), rows, &results, &bars, &[]);
    bench.forget(shape).await;
}
