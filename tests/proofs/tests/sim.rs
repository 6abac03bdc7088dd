//! Whole migrations on the simulated platform, one per seed. `make sim SEEDS=2000` walks that many (FIRST_SEED: from
//! which on); a seed that breaks a promise is told with the command that walks it again.

use std::collections::BTreeMap;

use datamigration::api::phase::Phase;
use proofs::walk::walk;

/// Seeds of the sample.
const SAMPLE: u64 = 25;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_seed_breaks_a_promise() {
    let (seeds, first) = (number("SEEDS").unwrap_or(SAMPLE), number("FIRST_SEED").unwrap_or(0));
    let (mut violations, mut steps, mut writes, mut epochs, mut over) = (0, 0, 0, 0, 0);
    let (mut faults, mut rungs) = (BTreeMap::new(), BTreeMap::new());
    for seed in first..first + seeds {
        let walked = walk(seed, None);
        steps += walked.steps;
        writes += walked.writes;
        epochs += walked.epochs;
        over += u64::from(walked.climbed == Some(Phase::TargetFirst));
        for (kind, count) in walked.faults {
            *faults.entry(kind).or_insert(0) += count;
        }
        *rungs
            .entry(walked.rung.map_or("unknown", |rung| rung.as_str()))
            .or_insert(0) += 1;
        if let Some(what) = walked.broken {
            violations += 1;
            println!(
                "seed {seed}: {what}\n  again: make sim SEEDS=1 FIRST_SEED={seed}\n  its last steps: {:?}",
                walked.trail
            );
        }
    }
    println!("faults: {faults:?}\nended at: {rungs:?}");
    println!("{epochs} epochs under faults; the target was the base in {over} walks when the faults stopped");
    println!("{seeds} seeds, {steps} steps, {writes} writes: {violations} violations");
    assert_eq!(violations, 0);
}
