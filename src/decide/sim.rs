//! A small simulated world for the tests of `decide`: two databases with their control rows, a Watch, two instances of
//! the application, workers that finish. Every part moves on its own, one step at a time, in any order.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use std::collections::BTreeMap;

use super::decision::{Action, Decision};
use super::stance::Stance;
use super::{decide, invariants};
use crate::api::fixtures::with;
use crate::api::migration::Migration;
use crate::api::phase::Phase;
use crate::api::status::DataMigrationStatus;
use crate::api::task::{
    ControlSpec, FenceReport, Instance, Journal, MigrationTaskSpec, MigrationTaskStatus, TaskKind, TaskPhase,
    VerifyReport, VerifyScope, WatchReport,
};
use crate::api::validate;
use crate::observe::world::{Job, ModeMap, Pod, Seen, Task, World};
use crate::status::status;
use crate::words::{Mode, SecondaryWrites, Side};

pub fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// An instance of the application: what it last read.
#[derive(Debug, Clone, PartialEq)]
pub struct Shop {
    pub epoch: i64,
    pub mode: Mode,
    pub secondary: SecondaryWrites,
}

/// The whole world.
#[derive(Debug, Clone, PartialEq)]
pub struct Sim {
    pub world: World,
    pub desired: Phase,
    pub suspend: bool,
    pub source: Option<Journal>,
    pub target: Option<Journal>,
    pub shops: Vec<Shop>,
    /// The source cannot be reached.
    pub outage: bool,
    /// The resource is gone.
    pub gone: bool,
}

/// Parts that can move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// A pass of the operator that is killed after so many actions; `None`: a whole one.
    Pass(Option<usize>),
    Raise(Side),
    Close(Side),
    Read(usize),
    Finish(usize),
    /// Waits of every kind run out.
    TimePasses,
    Desire(Phase),
    Suspend(bool),
    Revert,
    Delete,
}

impl Sim {
    pub fn new(desired: Phase) -> Self {
        Self {
            world: World {
                tasks: Vec::new(),
                mode: Seen::Absent,
                pods: Seen::Known(
                    (0..2)
                        .map(|n| Pod {
                            name: format!("shop-{n}"),
                            uid: format!("uid-{n}"),
                            finished: false,
                            annotated: None,
                        })
                        .collect(),
                ),
                conflict: None,
                previous: DataMigrationStatus::default(),
                deleting: None,
                finalizer: false,
            },
            desired,
            suspend: false,
            source: None,
            target: None,
            shops: vec![
                Shop {
                    epoch: 0,
                    mode: Mode::SrcOnly,
                    secondary: SecondaryWrites::Lenient
                };
                2
            ],
            outage: false,
            gone: false,
        }
    }

    pub fn migration(&self) -> Migration {
        let archive = json!({"hold": "1h", "destination": {"url": "s3://archive/orders"}});
        validate(&with(&[
            ("phase", json!(self.desired)),
            ("suspend", json!(self.suspend)),
            ("archive", archive),
        ]))
        .unwrap()
    }

    pub fn decide(&self) -> Decision {
        let migration = self.migration();
        let decision = decide(&migration, &self.world, now());
        invariants::check(&migration, &self.world, &decision)
            .unwrap_or_else(|broken| panic!("{broken}\nworld: {:#?}\ndecision: {decision:#?}", self.world));
        decision
    }

    /// Takes one step.
    pub fn step(&mut self, step: Step) {
        match step {
            Step::Pass(killed) => self.pass(killed),
            Step::Raise(side) => self.raise(side),
            Step::Close(side) => self.close(side),
            Step::Read(shop) => self.read(shop),
            Step::Finish(task) => self.world.tasks.get_mut(task).into_iter().for_each(finish),
            Step::TimePasses => self.time_passes(),
            Step::Desire(phase) => self.desired = phase,
            Step::Suspend(suspend) => self.suspend = suspend,
            Step::Revert => {
                // A tool that applies the first manifest again.
                if let Seen::Known(map) = &mut self.world.mode {
                    map.data.insert("write-mode".to_owned(), "SRC_ONLY".to_owned());
                    map.data.insert("epoch".to_owned(), "0".to_owned());
                }
            }
            Step::Delete => self.world.deleting = Some(now()),
        }
        self.report();
    }

    /// Every step that changes anything, users' and accidents' apart.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Pass(None)];
        steps.extend((0..self.decide().actions.len()).map(|n| Step::Pass(Some(n))));
        steps.extend(
            [Side::Source, Side::Target]
                .into_iter()
                .flat_map(|side| [Step::Raise(side), Step::Close(side)]),
        );
        steps.extend((0..self.shops.len()).map(Step::Read));
        steps.extend((0..self.world.tasks.len()).map(Step::Finish));
        steps
    }

    /// Everything moves until nothing does.
    pub fn settle(&mut self) {
        for _ in 0..200 {
            let before = self.clone();
            for step in [
                Step::Pass(None),
                Step::Raise(Side::Source),
                Step::Raise(Side::Target),
                Step::Close(Side::Source),
                Step::Close(Side::Target),
                Step::Read(0),
                Step::Read(1),
            ] {
                self.step(step);
            }
            for task in 0..self.world.tasks.len() {
                self.step(Step::Finish(task));
            }
            if *self == before || self.gone {
                return;
            }
        }
        panic!("it never comes to rest: {self:#?}");
    }

    fn pass(&mut self, killed: Option<usize>) {
        if self.gone {
            return;
        }
        let decision = self.decide();
        let whole = killed.is_none();
        for action in decision.actions.iter().take(killed.unwrap_or(usize::MAX)) {
            self.act(action);
        }
        if whole {
            self.world.previous = status(&decision.account, &self.world.previous, 4, now());
        }
    }

    fn act(&mut self, action: &Action) {
        match action.clone() {
            Action::AddFinalizer => self.world.finalizer = true,
            Action::RemoveFinalizer { .. } => {
                self.world.finalizer = false;
                self.gone = true;
            }
            Action::CreateTask { name, attempt, spec } => self.world.tasks.push(task(name, attempt, spec)),
            Action::DeleteTask { name } => self.world.tasks.retain(|task| task.name != name),
            Action::CreateJob { task } => self.job(&task, |job| {
                *job = Seen::Known(Job {
                    suspended: false,
                    deleting: false,
                    complete: false,
                    failed: None,
                    trouble: None,
                });
            }),
            Action::DeleteJob { name } => self.job(&name, |job| *job = Seen::Absent),
            Action::SuspendJob { name, suspend } => self.job(&name, |job| {
                if let Seen::Known(job) = job {
                    job.suspended = suspend;
                }
            }),
            Action::SetControl { task, control, .. } => {
                let watch = self.world.tasks.iter_mut().find(|found| found.name == task).unwrap();
                watch.spec.control = Some(control);
            }
            Action::WriteMode { data, .. } => {
                self.world.mode = Seen::Known(ModeMap {
                    data,
                    resource_version: String::new(),
                });
            }
            Action::AnnotatePods { pods, epoch } => {
                if let Seen::Known(all) = &mut self.world.pods {
                    for pod in all.iter_mut().filter(|pod| pods.contains(&pod.name)) {
                        pod.annotated = Some(epoch.to_string());
                    }
                }
            }
        }
    }

    fn job(&mut self, task: &str, change: impl FnOnce(&mut Seen<Job>)) {
        if let Some(task) = self.world.tasks.iter_mut().find(|found| found.name == task) {
            change(&mut task.job);
        }
    }

    fn asked(&self) -> Option<ControlSpec> {
        self.watching()?.spec.control.clone()
    }

    fn watching(&self) -> Option<&Task> {
        self.world
            .tasks
            .iter()
            .find(|task| task.is(TaskKind::Watch) && task.job != Seen::Absent)
    }

    fn side(&mut self, side: Side) -> &mut Option<Journal> {
        match side {
            Side::Source => &mut self.source,
            Side::Target => &mut self.target,
        }
    }

    fn raise(&mut self, side: Side) {
        let Some(control) = self.asked() else { return };
        if [Side::Source, Side::Target]
            .into_iter()
            .any(|side| self.lost(&control, side))
        {
            return;
        }
        let row = self.side(side);
        if row.as_ref().is_none_or(|row| row.epoch < control.epoch) {
            *row = Some(Journal {
                epoch: control.epoch,
                min_epoch: row.as_ref().map_or(0, |row| row.min_epoch),
                mode: control.mode,
                secondary: control.secondary,
                round: control.round,
                base_since: control.base_since,
                acked_at: None,
                fenced: row.as_ref().is_some_and(|row| row.fenced),
                archived: false,
                uid: "u-1".to_owned(),
            });
        }
    }

    fn close(&mut self, side: Side) {
        let Some(control) = self.asked() else { return };
        let both = [&self.source, &self.target]
            .iter()
            .all(|row| row.as_ref().is_some_and(|row| row.epoch == control.epoch));
        if let (true, Some(row)) = (both && control.min_epoch == control.epoch, self.side(side)) {
            row.min_epoch = control.min_epoch;
            row.acked_at = Some("2026-11-21 12:00:00.000000".to_owned());
        }
    }

    fn lost(&self, control: &ControlSpec, side: Side) -> bool {
        let row = match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        };
        row.as_ref().map_or(0, |row| row.epoch) < control.least(side)
    }

    fn read(&mut self, shop: usize) {
        let Seen::Known(map) = &self.world.mode else { return };
        let get = |key: &str| map.data.get(key).cloned().unwrap_or_default();
        let epoch: i64 = get("epoch").parse().unwrap();
        if epoch > self.shops[shop].epoch {
            self.shops[shop] = Shop {
                epoch,
                mode: get("write-mode").parse().unwrap(),
                secondary: get("secondary-writes").parse().unwrap(),
            };
        }
    }

    fn time_passes(&mut self) {
        let hours_ago = |time: &mut Time| time.0 -= SignedDuration::from_hours(2);
        if let Some(flip) = &mut self.world.previous.flip {
            hours_ago(&mut flip.started_at);
            for at in [
                &mut flip.configured_at,
                &mut flip.acknowledged_at,
                &mut flip.put_back_at,
            ]
            .into_iter()
            .flatten()
            {
                hours_ago(at);
            }
        }
        if let Some(since) = &mut self.world.deleting {
            *since -= SignedDuration::from_hours(2);
        }
        for task in &mut self.world.tasks {
            if let Some(at) = &mut task.status.finished_at {
                hours_ago(at);
            }
        }
    }

    /// What the Watch sees now.
    fn report(&mut self) {
        if self.outage {
            let watch = self.world.tasks.iter_mut().find(|task| task.is(TaskKind::Watch));
            if let Some(report) = watch.and_then(|watch| watch.status.watch.as_mut()) {
                report.epoch_on_all_shards = false;
                report.min_epoch_on_all_shards = false;
                report.instances.clear();
                report.problem = Some("source/main: cannot be reached".to_owned());
            }
            return;
        }
        let (source, target) = (self.source.clone(), self.target.clone());
        let instances = self.shops.iter().enumerate().map(|(n, shop)| Instance {
            pod: format!("shop-{n}"),
            pod_uid: format!("uid-{n}"),
            process: "1".to_owned(),
            epoch: shop.epoch,
            mode: Some(shop.mode),
            secondary_writes: Some(shop.secondary),
            protocol: None,
            seen_seconds_ago: 1,
            failed_second_writes: 0,
        });
        let instances: Vec<Instance> = instances.collect();
        let asked = self.asked();
        let sides = [Side::Source, Side::Target].into_iter();
        let lost: Vec<Side> = sides
            .filter(|side| asked.as_ref().is_some_and(|asked| self.lost(asked, *side)))
            .collect();
        let Some(watch) = self
            .world
            .tasks
            .iter_mut()
            .find(|task| task.is(TaskKind::Watch) && task.job != Seen::Absent)
        else {
            return;
        };
        let journals = source.as_ref().zip(target.as_ref());
        let on_all =
            |get: fn(&Journal) -> i64, asked: i64| journals.is_some_and(|(a, b)| get(a) == asked && get(b) == asked);
        watch.status.phase = TaskPhase::Running;
        watch.status.watch = Some(WatchReport {
            epoch_on_all_shards: asked.as_ref().is_none_or(|asked| on_all(|row| row.epoch, asked.epoch)),
            min_epoch_on_all_shards: asked
                .as_ref()
                .is_none_or(|asked| on_all(|row| row.min_epoch, asked.min_epoch)),
            clock: None,
            instances,
            queue: 0,
            problem: (!lost.is_empty()).then(|| "a database went back: it has lost writes".to_owned()),
            lost,
        });
        // The lowest row, unless nobody asked for the higher one.
        let rows: Vec<&Journal> = [&source, &target].into_iter().flatten().collect();
        let unasked = rows
            .iter()
            .max_by_key(|row| row.epoch)
            .filter(|row| asked.as_ref().is_none_or(|asked| row.epoch > asked.epoch));
        let shown = unasked.or_else(|| rows.iter().min_by_key(|row| row.epoch));
        watch.status.journal = shown.map(|shown| {
            let acked = journals.and_then(|(a, b)| a.acked_at.clone().and(b.acked_at.clone()));
            Journal {
                min_epoch: rows.iter().map(|row| row.min_epoch).min().unwrap_or(0),
                acked_at: acked.filter(|_| rows.iter().all(|row| row.epoch == shown.epoch)),
                ..(*shown).clone()
            }
        });
    }

    pub fn stance(&self) -> Stance {
        self.source
            .as_ref()
            .and_then(|row| Stance::of(row.mode, row.secondary))
            .unwrap_or(Stance::SourceOnly)
    }

    pub fn condition(&self, kind: &str) -> (String, String) {
        let found = self
            .world
            .previous
            .conditions
            .iter()
            .find(|condition| condition.type_ == kind);
        found.map_or_else(Default::default, |condition| {
            (condition.status.clone(), condition.reason.clone())
        })
    }

    pub fn mode_in_map(&self) -> BTreeMap<String, String> {
        self.world.mode.known().map(|map| map.data.clone()).unwrap_or_default()
    }
}

fn task(name: String, attempt: u32, spec: MigrationTaskSpec) -> Task {
    Task {
        name,
        resource_version: String::new(),
        attempt,
        created: Some(now()),
        deleting: false,
        spec,
        status: MigrationTaskStatus::default(),
        job: Seen::Absent,
    }
}

/// The worker does its work at once, and well.
fn finish(task: &mut Task) {
    let running = matches!(&task.job, Seen::Known(job) if !job.suspended && !job.deleting);
    if !running || matches!(task.status.phase, TaskPhase::Succeeded | TaskPhase::Failed) {
        return;
    }
    let status = &mut task.status;
    match task.spec.kind {
        TaskKind::Watch => {}
        TaskKind::Verify if task.spec.scope == Some(VerifyScope::Incremental) => {
            status.phase = TaskPhase::Running;
            status.reported_at = Some(Time(now()));
            status.verify = Some(VerifyReport {
                clean_since: Some(Time(now() - SignedDuration::from_hours(1))),
                verified_through: Some("2026-11-21 13:00:00.000000".to_owned()),
                ..VerifyReport::default()
            });
        }
        kind => {
            status.phase = TaskPhase::Succeeded;
            status.finished_at = Some(Time(now()));
            if kind == TaskKind::Fence {
                status.fence = Some(FenceReport::default());
            }
        }
    }
}
