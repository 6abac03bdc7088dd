//! The rungs of the ladder, one file each: enters when, does, leaves when, goes back to.
//! A rung is asked only while its epoch is closed; what happens in between is `flip`'s.

pub mod archived;
pub mod source_first;
pub mod source_only;
pub mod target_first;
pub mod target_only;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

use crate::api::migration::Migration;
use crate::api::phase::Phase;
use crate::api::task::{ControlSpec, Journal, MigrationTaskSpec, TaskKind, VerifyScope};
use crate::decide::gates::full::{self, Wanted};
use crate::decide::gates::{Gate, elapsed};
use crate::decide::position::archived as is_archived;
use crate::decide::stance::Stance;
use crate::observe::world::World;

/// All that a rung looks at.
#[derive(Debug, Clone, Copy)]
pub struct Rung<'a> {
    pub migration: &'a Migration,
    pub world: &'a World,
    pub now: Timestamp,
    /// How far the ladder may be climbed, or down to where it shall be gone back.
    pub desired: Phase,
    /// No background work is to be done, and no new way begun.
    pub suspended: bool,
    /// The strict epoch has lasted longer than `gates.strictFor`.
    pub strict_too_long: bool,
    pub stance: Stance,
    pub control: &'a ControlSpec,
    pub journal: &'a Journal,
}

/// What a rung wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Data work that has to exist.
    pub work: Vec<MigrationTaskSpec>,
    /// The next flip, when all its gates are open.
    pub next: Option<Stance>,
    /// What holds: `Pass` when it holds because this is the desired rung and its work is done.
    pub gate: Gate,
    /// Said when a flip is given up.
    pub given_up: Option<String>,
}

impl Plan {
    pub fn hold(work: Vec<MigrationTaskSpec>, gate: Gate) -> Self {
        Self {
            work,
            next: None,
            gate,
            given_up: None,
        }
    }

    /// Goes to `next` if the gate is open.
    pub fn go(work: Vec<MigrationTaskSpec>, gate: Gate, next: Stance) -> Self {
        let next = gate.passed().then_some(next);
        Self {
            work,
            next,
            gate,
            given_up: None,
        }
    }

    /// Leaves a strict stance for its lenient one.
    pub fn relax(next: Stance, why: Option<String>) -> Self {
        Self {
            work: Vec::new(),
            next: Some(next),
            gate: Gate::Pass,
            given_up: why,
        }
    }
}

impl Rung<'_> {
    /// A piece of work in the present epoch.
    pub fn work(&self, kind: TaskKind, table: Option<&str>, scope: Option<VerifyScope>) -> MigrationTaskSpec {
        MigrationTaskSpec {
            migration: self.migration.name.clone(),
            kind,
            table: table.map(str::to_owned),
            scope,
            direction: self.stance.direction(),
            epoch: self.control.epoch,
            round: self.control.round,
            generation: self.migration.generation,
            control: None,
            due: None,
        }
    }

    /// The full verify that a table needs now.
    pub fn full_work(&self, table: &str) -> Option<MigrationTaskSpec> {
        let work = self.work(TaskKind::Verify, Some(table), Some(VerifyScope::Full));
        match self.wanted(table) {
            Wanted::Now(due) => Some(MigrationTaskSpec {
                due: due.map(Time),
                ..work
            }),
            Wanted::At(_) => None,
        }
    }

    fn wanted(&self, table: &str) -> Wanted {
        full::wanted(
            self.migration,
            self.world,
            table,
            self.control,
            self.stance.direction(),
            self.now,
        )
    }

    /// How long until `verify.full` asks for another full verify.
    pub fn next_full(&self) -> Option<Duration> {
        if self.stance.strict() || !self.stance.mode().writes_both() || self.suspended {
            return None;
        }
        let tables = self.migration.tables.iter();
        let moments = tables.filter_map(|table| match self.wanted(&table.name) {
            Wanted::At(moment) => moment,
            Wanted::Now(_) => None,
        });
        moments.min().map(|moment| elapsed(self.now, moment))
    }

    /// The incremental verify of every table.
    pub fn incremental_work(&self) -> Vec<MigrationTaskSpec> {
        let scope = Some(VerifyScope::Incremental);
        self.migration
            .tables
            .iter()
            .map(|table| self.work(TaskKind::Verify, Some(&table.name), scope))
            .collect()
    }
}

/// Asks the rung that the stance belongs to.
pub fn plan(rung: &Rung) -> Plan {
    match rung.stance {
        Stance::SourceOnly => source_only::plan(rung),
        Stance::SourceFirst | Stance::SourceFirstStrict => source_first::plan(rung),
        Stance::TargetFirstStrict | Stance::TargetFirst => target_first::plan(rung),
        Stance::TargetOnly if is_archived(rung.journal, rung.world) => archived::plan(rung),
        Stance::TargetOnly => target_only::plan(rung),
    }
}
