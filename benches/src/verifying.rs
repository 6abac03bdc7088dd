//! Comparisons of two equal tables, then of the same with 100 planted differences, then what each tool's exit code says.

use crate::bars::{Bar, faster, memory, rounds, wall};
use crate::child::Assignment;
use crate::contest::{Bench, Contestant, How, Results};
use crate::copying::{engine, ours, script};
use crate::measure::Cost;
use crate::ours::Ours;
use crate::peers;
use crate::report;
use crate::support::Kind::{self, MariaDb};
use crate::support::TestDatabase;
use crate::tables::Shape;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;

const PLANTED: u64 = 100;
/// Rows of the tables that exit codes are asked about.
const FEW: u64 = 100;
const SHAPE: Shape = Shape::Orders;

pub struct Verifying {
    source: Kind,
    target: Kind,
}

pub const fn verifying(source: Kind, target: Kind) -> Verifying {
    Verifying { source, target }
}

impl Verifying {
    pub async fn run(&self, bench: &mut Bench, name: &str) {
        let rows = SHAPE.rows(bench.settings.rows);
        let source = bench.source(self.source, SHAPE).await;
        let target = bench.filled(self.target, SHAPE).await;
        let mut results = self.round(bench, &source, &target, "equal").await;
        target.execute(&planted(rows)).await;
        let found = self.round(bench, &source, &target, "100 planted").await;
        let mut notes = vec![findings(&found, PLANTED)];
        results.extend(found);
        notes.push(self.exit_codes(bench).await);
        let title = format!("Verify {} and {}: orders", engine(self.source), engine(self.target));
        report::section(bench, name, &title, rows, &results, &self.bars(&results), &notes);
        bench.remove(target).await;
    }

    async fn round(&self, bench: &Bench, source: &TestDatabase, target: &TestDatabase, what: &str) -> Results {
        let contestants = self
            .contestants()
            .into_iter()
            .map(|contestant| Contestant {
                name: format!("{what}: {}", contestant.name),
                ..contestant
            })
            .collect();
        bench
            .rounds(contestants, async |contestant| {
                turn(bench, source, target, contestant).await
            })
            .await
    }

    fn contestants(&self) -> Vec<Contestant> {
        let driver = |kind| if kind == MariaDb { "mysql" } else { "postgresql" };
        let diff = |name: &str, tool: &str, threads: &str| {
            let more = [
                ("TOOL", tool),
                ("THREADS", threads),
                ("FROM_ENGINE", driver(self.source)),
                ("INTO_ENGINE", driver(self.target)),
            ];
            script(name, peers::DIFF, false, &more)
        };
        let mut all = vec![
            ours("ours", 4, json!({})),
            diff("reladiff, 1 thread", "reladiff", "1"),
            diff("reladiff, 2 threads", "reladiff", "2"),
            diff("data-diff, 2 threads", "data-diff", "2"),
        ];
        if (self.source, self.target) == (MariaDb, MariaDb) {
            all.push(script("pt-table-sync", peers::TABLE_SYNC, false, &[]));
        }
        all
    }

    fn bars(&self, results: &Results) -> Vec<Bar> {
        let times = if self.source == self.target { 3.0 } else { 1.5 };
        let mut bars = vec![faster(
            results,
            "equal tables",
            "equal: ours",
            "equal: reladiff",
            times,
            None,
        )];
        let median = |name| {
            let figures = rounds(results, name)
                .iter()
                .filter(|cost| cost.failure.is_none())
                .map(wall);
            crate::bars::Spread::of(figures).map(|spread| spread.median)
        };
        let both = median("equal: ours").zip(median("100 planted: ours"));
        let ratio = both.map(|(equal, planted)| planted / equal);
        bars.push(Bar {
            says: "finding 100 differences, beside the equal run".to_owned(),
            wanted: "≤ 1.3 ×".to_owned(),
            measured: ratio.map_or_else(|| "not measured".to_owned(), |ratio| format!("{ratio:.2} ×")),
            held: ratio.map(|ratio| ratio <= 1.3),
        });
        bars.push(memory(results, "peak memory of a worker", "", 200));
        bars
    }

    /// One difference at a time, and an error: what each tool finds, and how it ends.
    async fn exit_codes(&self, bench: &Bench) -> String {
        const CASES: [(&str, &str); 4] = [
            ("equal", "SELECT 1"),
            ("amount + 0.01", "UPDATE orders SET amount = amount + 0.01 WHERE id = 7"),
            (
                "a trailing space",
                "UPDATE orders SET status = CONCAT(status, ' ') WHERE id = 7",
            ),
            ("the table is missing", "DROP TABLE orders"),
        ];
        let mut text = format!("Exit codes ({FEW} rows), in brackets the differences told: ");
        let few = bench.servers.database(self.source).await;
        few.execute(&SHAPE.definition(self.source)).await;
        few.execute(&SHAPE.insert(FEW)).await;
        for (what, change) in CASES {
            let target = bench.servers.database(self.target).await;
            target.execute(&SHAPE.definition(self.target)).await;
            target.execute(&SHAPE.insert(FEW)).await;
            target.execute(change).await;
            let _ = write!(text, "{what}: ");
            let mut said = Vec::new();
            for contestant in self.contestants() {
                if contestant.name.ends_with("1 thread") || !bench.settings.takes(&contestant.name) {
                    continue;
                }
                let cost = turn(bench, &few, &target, &contestant).await;
                let code = cost.told["exit"].as_i64().or(cost.code.map(i64::from));
                let code = code.map_or_else(|| "killed".to_owned(), |code| code.to_string());
                said.push(format!("{} {code} ({})", contestant.name, differences(&cost)));
            }
            let _ = write!(text, "{}. ", said.join(", "));
            bench.remove(target).await;
        }
        bench.remove(few).await;
        text.trim_end().to_owned()
    }
}

async fn turn(bench: &Bench, source: &TestDatabase, target: &TestDatabase, contestant: &Contestant) -> Cost {
    match &contestant.how {
        How::Ours(changes) => {
            let ours = Ours::new(&source.url, &target.url, SHAPE, changes.clone());
            bench
                .ours(Assignment::Prepare(ours.clone()), Assignment::Verify(ours))
                .await
        }
        How::Script { script, more, .. } => {
            let environment = bench.environment(source, target, SHAPE, more);
            let mut cost = bench.script(script, &environment).await;
            // Its way of saying that there are differences.
            if cost.code == Some(2) && contestant.name.contains("pt-table-sync") {
                cost.failure = None;
            }
            cost
        }
        How::Pods(..) | How::Reads(_) | How::Raw(_) => unreachable!("none of them takes part in comparisons"),
    }
}

/// Quarters: one more cent, a trailing space, another status, gone.
fn planted(rows: u64) -> String {
    let ids = |kind: u64| {
        let ids = (0..PLANTED)
            .filter(|at| at % 4 == kind)
            .map(|at| (at * rows / PLANTED + 1).to_string());
        ids.collect::<Vec<_>>().join(", ")
    };
    format!(
        "UPDATE orders SET amount = amount + 0.01 WHERE id IN ({}); UPDATE orders SET note = CONCAT(note, ' ') WHERE id IN \
         ({}); UPDATE orders SET status = 'lost' WHERE id IN ({}); DELETE FROM orders WHERE id IN ({})",
        ids(0),
        ids(1),
        ids(2),
        ids(3)
    )
}

/// Distinct keys that a tool named.
fn differences(cost: &Cost) -> u64 {
    if let Some(report) = cost.told["status"]["verify"].as_object() {
        let kinds = ["targetMissing", "neq", "baseMissing"];
        return kinds.iter().filter_map(|&kind| report.get(kind)?.as_u64()).sum();
    }
    let lines = cost.printed.lines();
    let keys: BTreeSet<&str> = lines
        .filter_map(|line| {
            // `- 7, …` and `+ 7, …`, or one statement for each row.
            let listed = line.strip_prefix("- ").or_else(|| line.strip_prefix("+ "));
            let statement = ["REPLACE ", "INSERT ", "DELETE ", "UPDATE "];
            listed
                .and_then(|rest| rest.split(',').next())
                .or_else(|| statement.iter().any(|verb| line.starts_with(verb)).then_some(line))
        })
        .collect();
    keys.len() as u64
}

fn findings(results: &Results, planted: u64) -> String {
    let found: Vec<String> = results
        .iter()
        .filter_map(|(name, costs)| {
            let (_, tool) = name.split_once(": ")?;
            Some(format!("{tool} {}", differences(costs.last()?)))
        })
        .collect();
    format!("Of {planted} planted differences found: {}.", found.join(", "))
}
