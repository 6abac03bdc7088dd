//! The operator: the world as it sees it, the real `decide` with the real invariants, and its actions carried out the way
//! the platform does: what was changed in the meantime is a conflict, what is there already is fine.

use datamigration::api::status::DataMigrationStatus;
use datamigration::api::task::{
    FenceReport, Instance, Journal, MigrationTaskStatus, TaskKind, TaskPhase, VerifyReport, WatchReport,
};
use datamigration::decide::decision::{Action, Decision};
use datamigration::observe::world::{Job, ModeMap, Pod, Seen, Task as SeenTask, World};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::mutations;
use crate::state::{Control, JobState, Plan, Report, Rules, State, Task};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap_or_default()
}

/// What stands for a resource's version: the same content, the same version.
fn version(content: impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish().to_string()
}

fn mark(mark: u16) -> String {
    format!("2026-11-21 12:00:00.{mark:06}")
}

fn journal(row: &Control, fenced: bool) -> Journal {
    Journal {
        epoch: row.place.epoch,
        min_epoch: row.min_epoch,
        mode: row.place.mode,
        secondary: row.place.secondary,
        round: row.round,
        base_since: row.base_since,
        acked_at: row.acked_at.map(mark),
        fenced,
        archived: row.archived,
        uid: "u-1".to_owned(),
    }
}

fn watched(report: &Report) -> WatchReport {
    WatchReport {
        epoch_on_all_shards: report.raised,
        min_epoch_on_all_shards: report.admitted,
        clock: None,
        instances: report
            .instances
            .iter()
            .map(|(n, place, faded)| Instance {
                pod: format!("shop-{n}"),
                pod_uid: format!("uid-{n}"),
                process: "1".to_owned(),
                epoch: place.epoch,
                mode: Some(place.mode),
                secondary_writes: Some(place.secondary),
                protocol: None,
                seen_seconds_ago: if *faded { 90 } else { 1 },
                failed_second_writes: 0,
            })
            .collect(),
        queue: report.queue,
        problem: (!report.lost.is_empty()).then(|| "a database went back: it has lost writes".to_owned()),
        lost: report.lost.clone(),
    }
}

fn status(task: &Task) -> MigrationTaskStatus {
    let mut status = MigrationTaskStatus::default();
    if let Some(done) = task.done_at {
        status.phase = TaskPhase::Succeeded;
        status.finished_at = Some(Time(at(done)));
        if task.spec.kind == TaskKind::Fence {
            status.fence = Some(FenceReport::default());
        }
    }
    if let Some(report) = &task.report {
        status.phase = TaskPhase::Running;
        status.watch = Some(watched(report));
        status.journal = report.journal.as_ref().map(|row| journal(row, report.fenced));
    }
    if let Some(window) = &task.window {
        status.phase = TaskPhase::Running;
        status.reported_at = Some(Time(at(window.at)));
        status.verify = Some(VerifyReport {
            // A window without a finding stands for a time of such windows.
            clean_since: window
                .clean
                .then(|| Time(at(window.at) - SignedDuration::from_hours(1))),
            verified_through: Some(mark(window.through)),
            queue: u64::from(window.queue),
            ..VerifyReport::default()
        });
    }
    status
}

impl State {
    /// What an operator sees now.
    pub fn world(&self) -> World {
        let job = |state: JobState| match state {
            JobState::None => Seen::Absent,
            JobState::Running | JobState::Suspended => Seen::Known(Job {
                suspended: state == JobState::Suspended,
                deleting: false,
                complete: false,
                failed: None,
                trouble: None,
            }),
        };
        World {
            tasks: self
                .tasks
                .iter()
                .map(|task| SeenTask {
                    name: task.name.clone(),
                    resource_version: version(task),
                    attempt: task.attempt,
                    created: Some(at(task.created)),
                    deleting: false,
                    spec: task.spec.clone(),
                    status: status(task),
                    job: job(task.job),
                })
                .collect(),
            mode: self.map.as_ref().map_or(Seen::Absent, |data| {
                Seen::Known(ModeMap {
                    data: data.clone(),
                    resource_version: version(data),
                })
            }),
            pods: Seen::Known(
                self.shops
                    .iter()
                    .enumerate()
                    .filter(|(_, shop)| shop.listed)
                    .map(|(n, shop)| Pod {
                        name: format!("shop-{n}"),
                        uid: format!("uid-{n}"),
                        finished: false,
                        annotated: shop.annotated.map(|epoch| epoch.to_string()),
                    })
                    .collect(),
            ),
            conflict: None,
            previous: DataMigrationStatus {
                epoch: self.told,
                flip: self.flip.clone(),
                phase: self.phase,
                ..DataMigrationStatus::default()
            },
            deleting: self.deleting.map(at),
            finalizer: self.finalizer,
        }
    }

    /// One decision about a world that may be older than this state; a broken invariant is a broken world.
    pub fn decide(&mut self, rules: &Rules, seen: &World) -> Decision {
        let (migration, now) = (rules.migration(self), at(self.now));
        let (decision, checked) = if rules.flaw.is_some() {
            mutations::with(rules.flaw, || {
                let decision = crate::decide::decide(migration, seen, now);
                // The invariants are the real ones, over what the mutant takes the position to be as much as the truth.
                let checked = datamigration::decide::invariants::check(migration, seen, &decision);
                (decision, checked)
            })
        } else {
            let decision = datamigration::decide::decide(migration, seen, now);
            let checked = datamigration::decide::invariants::check(migration, seen, &decision);
            (decision, checked)
        };
        if let Err(broken) = checked {
            self.breaks(broken.to_string());
        }
        decision
    }

    /// A pass: all of it, or killed after so many actions.
    pub fn pass(&mut self, rules: &Rules, killed: Option<usize>) {
        let decision = self.decide(rules, &self.world());
        for action in decision.actions.iter().take(killed.unwrap_or(usize::MAX)) {
            if !self.act(action) {
                break;
            }
        }
        if killed.is_none() {
            self.tell(decision.account.flip, decision.account.epoch);
            self.phase = decision.account.phase;
        }
    }

    /// The operator looks and makes its plan; what it does, it does later.
    pub fn plan(&mut self, rules: &Rules, operator: usize, seen: &World) {
        let decision = self.decide(rules, seen);
        self.plans[operator] = Some(Plan {
            actions: decision.actions,
            flip: decision.account.flip,
            epoch: decision.account.epoch,
        });
    }

    /// The next action of a plan; a conflict ends it, and so does its end, with the status.
    pub fn carry_on(&mut self, operator: usize) {
        let Some(mut plan) = self.plans[operator].take() else {
            return;
        };
        if plan.actions.is_empty() {
            return self.tell(plan.flip, plan.epoch);
        }
        let action = plan.actions.remove(0);
        if self.act(&action) {
            self.plans[operator] = Some(plan);
        }
    }

    fn tell(&mut self, flip: Option<datamigration::api::status::FlipStatus>, epoch: i64) {
        self.flip = flip;
        self.told = epoch;
    }

    fn named(&mut self, name: &str) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| task.name == name)
    }

    /// Whether the server took it.
    fn act(&mut self, action: &Action) -> bool {
        match action.clone() {
            Action::AddFinalizer => self.finalizer = true,
            Action::RemoveFinalizer { .. } => {
                self.finalizer = false;
                self.gone = self.deleting.is_some();
            }
            Action::CreateTask { name, attempt, spec } => {
                if self.named(&name).is_none() {
                    let task = Task {
                        name,
                        attempt,
                        spec,
                        created: self.now,
                        job: JobState::None,
                        done_at: None,
                        window: None,
                        report: None,
                    };
                    let place = self.tasks.partition_point(|other| other.name < task.name);
                    self.tasks.insert(place, task);
                }
            }
            Action::DeleteTask { name } => {
                self.tasks.retain(|task| task.name != name);
                self.leave(&name);
            }
            Action::CreateJob { task } => {
                let Some(found) = self.tasks.iter().position(|found| found.name == task) else {
                    return false;
                };
                if self.tasks[found].job == JobState::None {
                    self.tasks[found].job = JobState::Running;
                    self.hire(found);
                }
            }
            Action::DeleteJob { name } => {
                if let Some(task) = self.named(&name) {
                    task.job = JobState::None;
                }
                self.leave(&name);
            }
            Action::SuspendJob { name, suspend } => {
                if let Some(task) = self.named(&name).filter(|task| task.job != JobState::None) {
                    task.job = if suspend {
                        JobState::Suspended
                    } else {
                        JobState::Running
                    };
                }
            }
            Action::SetControl {
                task,
                resource_version,
                control,
            } => {
                let Some(task) = self.named(&task).filter(|task| version(&**task) == resource_version) else {
                    return false;
                };
                task.spec.control = Some(control);
            }
            Action::WriteMode { data, resource_version } => {
                if self.map.as_ref().map(version) != resource_version {
                    return false;
                }
                self.map = Some(data);
            }
            Action::AnnotatePods { pods, epoch } => {
                for (n, shop) in self.shops.iter_mut().enumerate() {
                    if pods.contains(&format!("shop-{n}")) {
                        shop.annotated = Some(epoch);
                    }
                }
            }
        }
        true
    }

    /// Tasks are lost, with their Jobs; the resource too, as if it had been created just now.
    pub fn forget(&mut self, resource: bool) {
        let names: Vec<String> = self.tasks.drain(..).map(|task| task.name).collect();
        for name in names {
            self.leave(&name);
        }
        if resource {
            (self.flip, self.told, self.phase, self.finalizer) = (None, 0, None, false);
        }
    }

    /// A worker whose Job is gone is told to stop. One that does not hear it is a zombie: it keeps what it holds.
    fn leave(&mut self, name: &str) {
        if self.budget.workers == 0 {
            self.dismiss(name);
        } else {
            self.budget.workers -= 1;
        }
    }
}
