//! Mutants: `decide`, the outcome matrix and the guards made wrong in one place, one after the other. Each has to be
//! caught by the simulation or by the model; with none switched on, the same seeds and scenes find nothing.

use proofs::explore::explore;
use proofs::mutations::{GUARDS, SOURCES};
use proofs::scenes::scenes;
use proofs::walk::walk;

/// Seeds that a mutant has to survive, and states of each scene.
const SEEDS: u64 = 100;
const STATES: usize = 4_000;

/// What catches a mutant first.
fn caught(name: &'static str) -> Option<String> {
    // What stale writers may not do has scenes of its own, which walks hardly ever come to.
    if name.ends_with("check-the-epoch") {
        for scene in scenes(Some(name))
            .iter()
            .filter(|scene| scene.name.starts_with("the target is the base"))
        {
            if let Some(broken) = explore(scene, 20_000).broken {
                return Some(format!("model, {}: {}", scene.name, broken.what));
            }
        }
    }
    for seed in 0..SEEDS {
        if let Some(what) = walk(seed, Some(name)).broken {
            return Some(format!("sim seed {seed}: {what}"));
        }
    }
    for scene in scenes(Some(name)) {
        if let Some(broken) = explore(&scene, STATES).broken {
            return Some(format!("model, {}: {}", scene.name, broken.what));
        }
    }
    None
}

#[test]
fn every_mutant_is_caught() {
    let only = std::env::var("MUTANT").ok();
    // A sample takes every eighth; `make mutants` all.
    let every = if std::env::var("MUTANTS").is_ok() || only.is_some() {
        1
    } else {
        4
    };
    let names = SOURCES
        .iter()
        .map(|mutation| mutation.name)
        .chain(GUARDS.iter().copied())
        .step_by(every);
    let (mut all, mut survivors) = (0, Vec::new());
    for name in names.filter(|name| only.as_ref().is_none_or(|only| name.contains(only.as_str()))) {
        all += 1;
        if let Some(by) = caught(name) {
            println!(
                "caught    {name}\n          by {}",
                by.lines().next().unwrap_or_default()
            );
        } else {
            println!("SURVIVED  {name}");
            survivors.push(name);
        }
    }
    println!("{} of {all} caught", all - survivors.len());
    assert!(survivors.is_empty(), "{survivors:?}");
}

#[test]
fn the_copy_without_a_mutation_is_not_caught() {
    for seed in 0..10 {
        let walked = walk(seed, Some("nothing"));
        assert_eq!(walked.broken, None, "seed {seed}");
    }
}
