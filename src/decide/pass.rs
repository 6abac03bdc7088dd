//! One pass over a migration: what its position calls for, the flip that is open, the rung's work, the next intent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

use super::decision::Action;
use super::flip::Shown;
use super::gates::{self, Gate};
use super::position::{self, Flight, Position};
use super::rungs::{self, Plan, Rung};
use super::stance::{self, Stance};
use super::{IN_FLIGHT, Outlook, Pass, flip, preflight_work, whole};
use crate::api::conditions::Reason;
use crate::api::phase::Phase;
use crate::api::status::FlipStatus;
use crate::api::task::{ControlSpec, Journal, TaskKind};
use crate::observe::world::{Seen, Task};
use crate::words::{Direction, Side};

impl Pass<'_> {
    pub(super) fn outlook(&mut self) -> Outlook {
        let plain = |gate: Gate| Outlook {
            flip: None,
            shown: None,
            gate,
            overdue: None,
            next: None,
        };
        match self.position.clone() {
            Position::Unread(gate) | Position::Strange(gate) => {
                let mut outlook = plain(gate);
                outlook.flip.clone_from(&self.world.previous.flip);
                self.without_journal();
                outlook
            }
            Position::Untouched => self.untouched(),
            Position::Unproved { stance, control, gate } => {
                self.base_tasks(true);
                if self.world.finalizer || self.world.deleting.is_some() {
                    self.set_control(stance::anew(&control, stance, self.seen()));
                }
                let mut outlook = plain(gate);
                outlook.flip.clone_from(&self.world.previous.flip);
                outlook
            }
            Position::Adopt(control) => {
                self.set_control(control.clone());
                self.base_tasks(true);
                self.upkeep.keep_evidence(self.world, Some(&control));
                plain(Gate::Hold(
                    Reason::JournalUnknown,
                    format!("the journal is at epoch {}; going on from there", control.epoch),
                ))
            }
            Position::Flight(flight) => self.flight(&flight),
            Position::At {
                stance,
                control,
                journal,
            } => self.at(stance, &control, &journal),
        }
    }

    /// Nothing may be concluded: keep what is there, let the journal be read.
    fn without_journal(&mut self) {
        let watch = gates::watch(self.world);
        let passed = gates::preflight(self.preflight).passed();
        self.base_tasks(watch.is_some() || (passed && (self.world.deleting.is_none() || self.flipped())));
        // What works, works on: databases and epochs refuse it if it should not.
        for task in self
            .world
            .tasks
            .iter()
            .filter(|task| !task.is(TaskKind::Preflight) && !task.is(TaskKind::Watch))
        {
            self.upkeep.keep(&task.name);
        }
    }

    fn untouched(&mut self) -> Outlook {
        let mut outlook = Outlook {
            flip: None,
            shown: None,
            gate: Gate::Pass,
            overdue: None,
            next: None,
        };
        let ready = gates::alone(self.world)
            .and_then(|| gates::preflight(self.preflight))
            .and_then(|| flip::not_on_the_target(self.migration, self.world));
        let plan = rungs::source_only::leave(self.desired, self.suspended);
        let climbs = plan.next.is_some() && ready.passed();
        let watch = gates::watch(self.world);
        // What was begun because of an epoch in the ConfigMap or in the status goes on saying that there is no journal.
        let asked = self.flipped() || position::told(self.migration, self.world) > 0;
        self.base_tasks(climbs || (asked && watch.is_some()));
        outlook.gate = ready.and_then(|| plan.gate);
        if climbs {
            match watch.filter(|task| task.report().is_some()) {
                Some(_) => {
                    outlook.next = plan.next;
                    self.begin(None, plan.next);
                }
                None => {
                    outlook.gate = watch.and_then(gates::hindered).unwrap_or_else(|| {
                        Gate::Hold(
                            Reason::JournalUnknown,
                            "the journal is being read from the databases".to_owned(),
                        )
                    });
                }
            }
        }
        // An application that starts before its first flip needs something to read.
        if self.world.mode == Seen::Absent && gates::preflight(self.preflight).passed() && self.world.deleting.is_none()
        {
            let data = flip::mode_data(self.migration, Stance::SourceOnly, 0, false);
            self.actions.push(Action::WriteMode {
                data,
                resource_version: None,
            });
            self.actions
                .retain(|action| !matches!(action, Action::SetControl { .. }));
        }
        outlook
    }

    fn flight(&mut self, flight: &Flight) -> Outlook {
        let mut record = flip::record(self.world, &flight.control, self.now);
        self.base_tasks(true);
        self.upkeep.keep_evidence(self.world, Some(&flight.control));
        self.upkeep.wake_in(IN_FLIGHT);
        let shown = if flight.leg == position::Leg::Raising {
            Shown::Behind
        } else {
            self.show(flight.stance, flight.control.epoch, false, &mut record)
        };
        let gate = flip::awaits(self.migration, self.world, flight, &shown, &record, self.now);
        let overdue = flip::overdue(self.migration, flight, &record, &gate, self.now);
        if flight.leg == position::Leg::Telling && gate.passed() {
            let control = ControlSpec {
                min_epoch: flight.control.epoch,
                ..flight.control.clone()
            };
            self.set_control(control);
        } else if let Some((next, why)) = flip::turn_back(flight, self.desired, self.suspended, overdue.clone()) {
            record.given_up = why.or(record.given_up);
            self.begin(Some(&flight.control), Some(next));
        }
        let gate = if gate.passed() {
            Gate::Hold(
                Reason::ClosingEpoch,
                format!("epoch {} is acknowledged by every instance", flight.control.epoch),
            )
        } else {
            gate
        };
        Outlook {
            flip: Some(record),
            shown: Some(shown),
            gate,
            overdue,
            next: None,
        }
    }

    fn at(&mut self, stance: Stance, control: &ControlSpec, journal: &Journal) -> Outlook {
        let mut record = flip::record(self.world, control, self.now);
        record.acknowledged_at.get_or_insert(Time(self.now));
        let strict_for = self.migration.gates.strict_for;
        let strict_since = gates::elapsed(record.started_at.0, self.now);
        if stance.strict() {
            self.upkeep
                .wake_in(strict_for.saturating_sub(strict_since).max(Duration::from_secs(1)));
        }
        let rung = Rung {
            migration: self.migration,
            world: self.world,
            now: self.now,
            desired: self.desired,
            suspended: self.suspended,
            strict_too_long: strict_since > strict_for,
            stance,
            control,
            journal,
        };
        let mut plan = rungs::plan(&rung);
        if self.world.deleting.is_some() {
            plan.work.clear();
        }
        if let Some(left) = rungs::target_only::hold_left(&rung) {
            self.upkeep.wake_in(left + Duration::from_millis(100));
        }
        if let Some(left) = rung.next_full() {
            self.upkeep.wake_in(left + Duration::from_millis(100));
        }
        let share = gates::copied(self.migration, self.world, control)
            .and_then(|| gates::fully_verified(self.migration, self.world, control, Direction::Forward));
        let shown = self.show(stance, control.epoch, share.passed(), &mut record);
        record.given_up = plan.given_up.clone().or(record.given_up);

        let mut plan = self.guard(plan, stance, &shown);
        if let (Some(problem), Gate::Pass) = (self.problem(), &plan.gate) {
            plan.gate = Gate::Hold(Reason::DatabaseProblem, problem);
        }
        let resting = self.position.at_rest() && plan.next.is_none() && self.world.deleting.is_none();
        let archived = self.position.rung(self.world) == Some(Phase::Archived);
        if resting || archived {
            self.base_tasks(false);
            if let Some(watch) = gates::watch(self.world) {
                self.upkeep.rest(watch);
            }
        } else {
            self.base_tasks(true);
        }
        for spec in &plan.work {
            let suspend = self.suspended && spec.kind != TaskKind::Fence;
            self.upkeep
                .ensure(self.world, spec, &self.migration.fingerprint, suspend, self.now);
        }
        self.upkeep.keep_evidence(self.world, Some(control));
        self.begin(Some(control), plan.next);
        Outlook {
            flip: Some(record),
            shown: Some(shown),
            gate: plan.gate,
            overdue: None,
            next: plan.next,
        }
    }

    /// The gates that stand before every flip: nothing else meddles, the manifest was checked, the finalizer is there.
    fn guard(&self, plan: Plan, stance: Stance, shown: &Shown) -> Plan {
        let Some(next) = plan.next else { return plan };
        // The way to a milder stance of the same base is never barred.
        let milder = next.base() == stance.base() && (stance.strict() || next == Stance::SourceOnly);
        let settled = match shown {
            Shown::Reverted(why) => Gate::Hold(Reason::FlipReverted, why.clone()),
            Shown::Unknown(why) => Gate::Hold(Reason::FlippingConfigMap, why.clone()),
            Shown::Behind => Gate::Hold(Reason::FlippingConfigMap, "the ConfigMap is being written".to_owned()),
            Shown::Right => Gate::Pass,
        };
        let checked = || gates::alone(self.world).and_then(|| gates::preflight(self.preflight));
        // Whoever leaves the source as base must be able to come back to it.
        let returns = || match (stance.base(), next.strict()) {
            (Side::Source, true) => gates::reversible(self.migration, self.preflight),
            _ => Gate::Pass,
        };
        let reached = || match self.problem() {
            Some(problem) => Gate::Hold(Reason::DatabaseProblem, problem),
            None => Gate::Pass,
        };
        let gate = if milder {
            settled
        } else {
            settled.and_then(checked).and_then(returns).and_then(reached)
        };
        if gate.passed() {
            plan
        } else {
            Plan {
                next: None,
                gate,
                ..plan
            }
        }
    }

    /// What keeps the Watch from reaching the databases, while it works at all.
    fn problem(&self) -> Option<String> {
        let watch = gates::watch(self.world).filter(|task| task.job.known().is_some())?;
        watch.status.watch.as_ref()?.problem.clone()
    }

    /// Keeps the ConfigMap at the stance, and the pods' annotations.
    fn show(&mut self, stance: Stance, epoch: i64, share_reads: bool, record: &mut FlipStatus) -> Shown {
        let data = flip::mode_data(self.migration, stance, epoch, share_reads);
        let (shown, write) = flip::keep_mode(self.migration, self.world, data, record, self.now);
        let told = write.is_some() || matches!(shown, Shown::Right);
        if matches!(shown, Shown::Reverted(_)) {
            self.upkeep.wake_in(Duration::from_secs(15));
        }
        self.actions.extend(write);
        if told && self.position.rung(self.world).is_some() {
            self.actions.extend(flip::annotate(self.world, epoch));
        }
        shown
    }

    /// Preflight and Watch.
    fn base_tasks(&mut self, watch: bool) {
        let conflict = !gates::alone(self.world).passed();
        // Beyond the last flip there is nothing left that it could clear.
        let last = matches!(
            self.position.rung(self.world),
            Some(Phase::TargetOnly | Phase::Archived)
        );
        if last {
            self.preflight.into_iter().for_each(|task| self.upkeep.keep(&task.name));
        } else if self.world.deleting.is_none() && !(conflict && self.preflight.is_none()) {
            let spec = preflight_work(self.migration);
            self.preflight.into_iter().for_each(|task| self.upkeep.keep(&task.name));
            self.upkeep
                .ensure(self.world, &spec, &self.migration.fingerprint, self.suspended, self.now);
        }
        if watch {
            let spec = whole(self.migration, TaskKind::Watch);
            self.upkeep.ensure(self.world, &spec, "", false, self.now);
        }
    }

    /// Records the intent of the next epoch.
    fn begin(&mut self, control: Option<&ControlSpec>, next: Option<Stance>) {
        if let Some(next) = next
            && (self.world.finalizer || self.world.deleting.is_some())
        {
            self.set_control(stance::intent(control, next, self.seen()));
        }
    }

    /// The highest epoch that the application may have seen, whoever showed it.
    fn seen(&self) -> i64 {
        let report = gates::watch(self.world).and_then(Task::report);
        let instances = report.iter().flat_map(|(report, _)| &report.instances);
        let highest = instances.map(|row| row.epoch).max().unwrap_or(0);
        highest.max(position::told(self.migration, self.world))
    }

    /// This resource has flipped the application before.
    pub(super) fn flipped(&self) -> bool {
        self.world.previous.epoch > 0
    }

    fn set_control(&mut self, control: ControlSpec) {
        let Some(watch) = gates::watch(self.world) else { return };
        // The ConfigMap first: what is said must be true before the next thing is said.
        if !self.actions.iter().any(Action::irreversible) && watch.spec.control.as_ref() != Some(&control) {
            self.actions.push(Action::SetControl {
                task: watch.name.clone(),
                resource_version: watch.resource_version.clone(),
                control,
            });
        }
    }
}
