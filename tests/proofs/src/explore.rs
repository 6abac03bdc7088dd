//! Breadth-first search over every order of every step: each state is looked at once, its promises are checked, and the
//! shortest way to a broken one is kept.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::promises;
use crate::state::{Rules, State};
use crate::steps::{Step, possible, take};

/// One exploration: a start, its rules, and the most states that are looked at.
pub struct Scene {
    pub name: &'static str,
    pub rules: Rules,
    pub start: State,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Found {
    pub states: usize,
    pub steps: usize,
    pub depth: usize,
    /// Nothing was left out.
    pub complete: bool,
    pub broken: Option<Broken>,
}

/// A promise that does not hold, and the way there.
#[derive(Debug, Clone)]
pub struct Broken {
    pub what: String,
    pub way: Vec<Step>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.complete { "all of them" } else { "bounded" };
        let verdict = match &self.broken {
            None => "no violation".to_owned(),
            Some(broken) => format!("VIOLATION: {}", broken.what),
        };
        write!(
            f,
            "{:>9} states ({whole}), {:>9} steps, depth {:>3}: {verdict}",
            self.states, self.steps, self.depth
        )
    }
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Looks at every state up to so many, nearest first.
pub fn explore(scene: &Scene, most: usize) -> Found {
    let first = fingerprint(&scene.start);
    let mut seen: HashMap<u64, (u64, Option<Step>, u32)> = HashMap::from([(first, (first, None, 0))]);
    let mut queue = VecDeque::from([(scene.start.clone(), first)]);
    let mut found = Found {
        states: 0,
        steps: 0,
        depth: 0,
        complete: true,
        broken: None,
    };
    while let Some((state, here)) = queue.pop_front() {
        found.states += 1;
        let depth = seen[&here].2;
        found.depth = found.depth.max(depth as usize);
        if let Some(what) = promises::check(&state) {
            found.broken = Some(Broken {
                what,
                way: way(&seen, here),
            });
            return found;
        }
        for step in possible(&scene.rules, &state) {
            let mut next = state.clone();
            take(&scene.rules, &mut next, step);
            found.steps += 1;
            let there = fingerprint(&next);
            if let Entry::Vacant(entry) = seen.entry(there) {
                entry.insert((here, Some(step), depth + 1));
                if found.states + queue.len() < most {
                    queue.push_back((next, there));
                } else {
                    found.complete = false;
                    // It is looked at, although not beyond.
                    if let Some(what) = promises::check(&next) {
                        found.broken = Some(Broken {
                            what,
                            way: way(&seen, there),
                        });
                        return found;
                    }
                }
            }
        }
    }
    found
}

fn way(seen: &HashMap<u64, (u64, Option<Step>, u32)>, end: u64) -> Vec<Step> {
    let (mut steps, mut at) = (Vec::new(), end);
    while let Some((before, Some(step), _)) = seen.get(&at) {
        steps.push(*step);
        at = *before;
    }
    steps.reverse();
    steps
}
