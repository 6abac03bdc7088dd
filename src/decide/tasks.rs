//! Upkeep of tasks and Jobs: what is wanted exists under a name that says what it is, what failed is tried again with
//! back-off, and what no longer counts is removed. Names are functions of the work, so a repeated pass changes nothing.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::time::Duration;

use crate::api::task::{ControlSpec, MigrationTaskSpec, TaskKind, VerifyScope};
use crate::decide::decision::Action;
use crate::decide::gates::full::superseded;
use crate::decide::gates::{elapsed, verify_counts};
use crate::observe::world::{Job, Outcome, Seen, Task, World};
use crate::words::{Direction, Mode, hex};

/// Longest name of a Job: its pods carry it as a label.
const LONGEST: usize = 63;
/// Room for `-a` and the number of the attempt.
const ATTEMPT: usize = 6;

/// Name of a piece of work; `mark` tells apart what spec alone does not (Preflight's manifest).
pub fn name(spec: &MigrationTaskSpec, mark: &str) -> String {
    let kind = spec.kind.as_str().to_lowercase();
    let mut parts = vec![spec.migration.clone(), kind];
    let mut exact = true;
    if let Some(scope) = spec.scope {
        parts.push(match scope {
            VerifyScope::Full => "full".to_owned(),
            VerifyScope::Incremental => "inc".to_owned(),
        });
    }
    if let Some(table) = &spec.table {
        let plain: String = table
            .chars()
            .map(|c| {
                if c.is_ascii_lowercase() || c.is_ascii_digit() {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        exact = &plain == table;
        parts.push(plain.trim_matches('-').to_owned());
    }
    match spec.kind {
        TaskKind::Preflight => parts.push(mark.to_owned()),
        TaskKind::Watch => {}
        TaskKind::Copy | TaskKind::Verify => parts.push(format!("r{}e{}", spec.round, spec.epoch)),
        TaskKind::Fence | TaskKind::Archive => parts.push(format!("e{}", spec.epoch)),
    }
    if let Some(due) = &spec.due {
        // A schedule's moments are whole minutes.
        parts.push(format!("t{}", due.0.as_second() / 60));
    }
    parts.retain(|part| !part.is_empty());
    let plain = parts.join("-");
    if exact && plain.len() <= LONGEST - ATTEMPT {
        return plain;
    }
    let whole = format!("{}/{:?}/{:?}/{}", spec.migration, spec.table, spec.scope, plain);
    let digest = Sha256::digest(whole.as_bytes());
    let digest = hex(&digest, 4);
    let room = LONGEST - ATTEMPT - digest.len() - 1;
    let head: String = plain.chars().take(room).collect();
    format!("{}-{digest}", head.trim_end_matches(['-', '.']))
}

/// Name of a later attempt.
fn attempt_name(name: &str, attempt: u32) -> String {
    if attempt == 0 {
        name.to_owned()
    } else {
        format!("{name}-a{attempt}")
    }
}

/// Pause before the attempt after this one.
pub fn back_off(attempt: u32) -> Duration {
    Duration::from_secs(match attempt {
        0 => 10,
        1 => 20,
        2 => 30,
        3 => 60,
        4 => 120,
        _ => 300,
    })
}

/// What upkeep found out.
#[derive(Debug, Default)]
pub struct Upkeep {
    pub actions: Vec<Action>,
    pub wake: Option<Duration>,
    /// Names that shall stay.
    kept: Vec<String>,
}

impl Upkeep {
    /// Makes sure that a piece of work exists and runs.
    pub fn ensure(&mut self, world: &World, spec: &MigrationTaskSpec, mark: &str, suspend: bool, now: Timestamp) {
        let base = name(spec, mark);
        let newest = world
            .tasks
            .iter()
            .filter(|task| task.name == attempt_name(&base, task.attempt))
            .max_by_key(|task| task.attempt);
        let Some(task) = newest else {
            if !suspend {
                self.actions.push(Action::CreateTask {
                    name: base,
                    attempt: 0,
                    spec: spec.clone(),
                });
            }
            return;
        };
        self.kept.push(task.name.clone());
        if task.deleting {
            return;
        }
        match task.outcome() {
            Outcome::Succeeded => {}
            Outcome::Open => self.job(task, suspend),
            Outcome::Failed(_, _, at) => {
                let pause = back_off(task.attempt);
                let since = at.or(task.created).unwrap_or(now);
                match pause.checked_sub(elapsed(since, now)).filter(|left| !left.is_zero()) {
                    Some(left) => self.wake_in(left),
                    None if suspend => {}
                    None => {
                        // A Watch goes on from what the failed one was asked to keep.
                        let mut spec = spec.clone();
                        spec.control.clone_from(&task.spec.control);
                        let attempt = task.attempt.saturating_add(1);
                        self.actions.push(Action::CreateTask {
                            name: attempt_name(&base, attempt),
                            attempt,
                            spec,
                        });
                    }
                }
            }
        }
    }

    fn job(&mut self, task: &Task, suspend: bool) {
        match &task.job {
            Seen::Absent if !suspend => self.actions.push(Action::CreateJob {
                task: task.name.clone(),
            }),
            Seen::Known(Job { deleting: true, .. }) | Seen::Absent | Seen::Unknown(_) => {}
            // It ended, but its result was never recorded.
            Seen::Known(Job { complete: true, .. }) => self.actions.push(Action::DeleteJob {
                name: task.name.clone(),
            }),
            Seen::Known(job) if job.suspended != suspend => {
                self.actions.push(Action::SuspendJob {
                    name: task.name.clone(),
                    suspend,
                });
            }
            Seen::Known(_) => {}
        }
    }

    /// Keeps a task as it is, without a running Job.
    pub fn rest(&mut self, task: &Task) {
        self.kept.push(task.name.clone());
        if let Seen::Known(job) = &task.job
            && !job.deleting
        {
            self.actions.push(Action::DeleteJob {
                name: task.name.clone(),
            });
        }
    }

    /// Leaves a task alone.
    pub fn keep(&mut self, name: &str) {
        self.kept.push(name.to_owned());
    }

    /// Keeps finished work that is still evidence.
    pub fn keep_evidence(&mut self, world: &World, control: Option<&ControlSpec>) {
        for task in &world.tasks {
            let counts = |control: &ControlSpec| {
                let direction = Direction::from_base(control.mode.base());
                evidence(task, control) && !superseded(world, task, control, direction)
            };
            if task.outcome() == Outcome::Succeeded && control.is_some_and(counts) {
                self.kept.push(task.name.clone());
            }
        }
    }

    /// Removes every other task.
    pub fn remove_others(&mut self, world: &World) {
        for task in &world.tasks {
            if !task.deleting && !self.kept.contains(&task.name) {
                self.actions.push(Action::DeleteTask {
                    name: task.name.clone(),
                });
            }
        }
    }

    pub fn wake_in(&mut self, left: Duration) {
        self.wake = Some(self.wake.map_or(left, |wake| wake.min(left)));
    }
}

fn evidence(task: &Task, control: &ControlSpec) -> bool {
    // The target is stale again: nothing that was done counts for the next round.
    if control.mode == Mode::SrcOnly {
        return false;
    }
    match task.spec.kind {
        TaskKind::Copy => task.spec.round == control.round,
        TaskKind::Verify => verify_counts(
            task,
            control,
            Direction::from_base(control.mode.base()),
            VerifyScope::Full,
        ),
        TaskKind::Fence | TaskKind::Archive => task.spec.epoch == control.epoch,
        TaskKind::Preflight | TaskKind::Watch => false,
    }
}
