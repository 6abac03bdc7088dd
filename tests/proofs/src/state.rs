//! The state of the small world: the API's objects, two databases with a few keys, the application's instances, the
//! workers, and what may still go wrong. Small enough to be hashed and compared by the million.

use datamigration::api::migration::Migration;
use datamigration::api::phase::Phase;
use datamigration::api::status::FlipStatus;
use datamigration::api::task::{ControlSpec, MigrationTaskSpec};
use datamigration::api::{DataMigration, validate};
use datamigration::decide::decision::Action;
use datamigration::words::{Mode, SecondaryWrites, Side};
use serde_json::json;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// What a row is: its version (`None`: there is no row) and who made it so: 0 the beginning, n the n-th write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Row {
    pub version: Option<u16>,
    pub by: u8,
}

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    Write(u8),
    Worker(u8),
}

/// A key in one database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Cell {
    pub committed: Row,
    /// The row lock: of a row that is there, or of an insert that is not committed.
    pub holder: Option<Holder>,
    pub pending: Option<Row>,
    /// PostgreSQL's advisory lock of the key.
    pub advisory: Option<Holder>,
    /// In the repair queue; and whether it was put there since a repair of the key last began.
    pub queued: bool,
    pub fresh: bool,
    /// Changed by a write since the incremental verify last settled it: what version windows and the deletes table show.
    pub dirty: bool,
}

/// How a database treats locks on rows that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// A locking read or a DELETE waits for another's uncommitted INSERT of the key.
    InnoDb,
    /// It does not see it, and does not wait.
    Postgres,
}

/// The control row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Control {
    pub place: Place,
    pub min_epoch: i64,
    pub round: i64,
    pub base_since: i64,
    pub acked_at: Option<u16>,
    pub archived: bool,
}

/// What an instance follows, and what a control row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    pub epoch: i64,
    pub mode: Mode,
    pub secondary: SecondaryWrites,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Database {
    pub control: Option<Control>,
    pub fenced: bool,
    pub cells: Vec<Cell>,
}

/// An instance of the application and its pod.
// Each is a fact of its own, and any of them may be so without the others.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shop {
    /// The process runs.
    pub alive: bool,
    /// Its pod is in the list that the operator gets.
    pub listed: bool,
    pub place: Place,
    /// Its row in the instances table.
    pub acked: Option<Place>,
    /// Not heard of for longer than lease and idle timeout together.
    pub faded: bool,
    pub annotated: Option<i64>,
    /// Started while others were at work: it may follow an older epoch than those that the operator asked.
    pub late: bool,
    /// How far its clock is ahead.
    pub clock: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    Put,
    Delete,
}

/// How far a write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    Waiting,
    Started,
    /// The epoch was checked on the base and the key locked, if there was a row.
    Locked,
    /// The application's SQL ran; the image is known.
    Applied,
    /// The second write is prepared, or given up.
    Prepared,
    BaseCommitted,
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    Ok,
    Failed,
    Unknown,
}

/// One request of the application that writes one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Write {
    pub op: Op,
    pub key: usize,
    pub shop: usize,
    pub stage: Stage,
    pub place: Place,
    /// There was a row under this write's lock before its SQL.
    pub was_there: bool,
    pub image: Row,
    /// The follower has something to commit.
    pub second: bool,
    pub queued: bool,
    /// The writes that were over when this one began.
    pub after: u128,
    pub answer: Option<Answer>,
}

/// Where a worker is with the key at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hand {
    Idle,
    CopyRead(Row),
    CopyPut,
    /// The base's row, locked; `None`: there was none.
    BaseRead(Option<Row>),
    /// The follower's key is locked too; whether it held a row.
    FollowerLocked(Option<Row>, bool),
}

/// The process that does a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Worker {
    pub id: u8,
    pub task: String,
    pub base: Side,
    pub key: usize,
    pub at: Hand,
    /// Of an incremental verify's pass: the mark at which it began, its keys, whether it found any.
    pub pass: Option<(u16, u8, bool)>,
}

/// What an incremental verify reported.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    pub through: u16,
    pub queue: u8,
    pub clean: bool,
    pub at: i64,
}

/// What the Watch reported.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Report {
    pub journal: Option<Control>,
    pub fenced: bool,
    pub raised: bool,
    pub admitted: bool,
    pub lost: Vec<Side>,
    pub instances: Vec<(usize, Place, bool)>,
    pub queue: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    None,
    Running,
    Suspended,
}

/// A MigrationTask.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub name: String,
    pub attempt: u32,
    pub spec: MigrationTaskSpec,
    pub created: i64,
    pub job: JobState,
    pub done_at: Option<i64>,
    pub window: Option<Window>,
    pub report: Option<Report>,
}

impl Task {
    pub fn control(&self) -> Option<&ControlSpec> {
        self.spec.control.as_ref()
    }
}

impl Hash for Task {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The name says what the spec says, but for what the operator changes.
        (
            &self.name,
            self.created,
            self.job,
            self.done_at,
            &self.window,
            &self.report,
        )
            .hash(state);
        if let Some(control) = &self.spec.control {
            (control.epoch, control.min_epoch, control.mode, control.secondary).hash(state);
            (control.round, control.base_since).hash(state);
        }
    }
}

/// What an operator has decided and not yet done.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub flip: Option<FlipStatus>,
    pub epoch: i64,
}

impl Hash for Plan {
    fn hash<H: Hasher>(&self, state: &mut H) {
        format!("{self:?}").hash(state);
    }
}

/// What may still happen, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    /// An operator dies in the middle of its actions.
    pub kills: u8,
    /// A second write fails.
    pub second: u8,
    /// A commit fails, or its answer is lost.
    pub commits: u8,
    /// An instance dies.
    pub deaths: u8,
    /// A pod starts late, and appears in the operator's list later still.
    pub joins: u8,
    /// A worker's pod is killed and started again.
    pub workers: u8,
    /// Two hours pass.
    pub ticks: u8,
    /// Somebody else puts an older ConfigMap back.
    pub reverts: u8,
    /// The API's objects are lost or restored from a backup: the tasks; the resource with them.
    pub losses: u8,
}

/// The whole world.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub desired: Phase,
    pub suspend: bool,
    pub deleting: Option<i64>,
    pub finalizer: bool,
    pub gone: bool,
    /// Seconds since the beginning.
    pub now: i64,
    pub tasks: Vec<Task>,
    pub map: Option<BTreeMap<String, String>>,
    pub flip: Option<FlipStatus>,
    pub told: i64,
    pub phase: Option<Phase>,
    pub source: Database,
    pub target: Database,
    pub shops: Vec<Shop>,
    pub writes: Vec<Write>,
    pub workers: Vec<Worker>,
    pub next_worker: u8,
    /// Orders acknowledgements and windows.
    pub mark: u16,
    pub plans: Vec<Option<Plan>>,
    /// Changes of the manifest, in order.
    pub edits: Vec<Edit>,
    pub budget: Budget,
    pub broken: Option<String>,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            desired,
            suspend,
            deleting,
            finalizer,
            gone,
            now,
            tasks,
            map,
            flip,
            told,
            phase,
            source,
            target,
            shops,
            writes,
            workers,
            next_worker,
            mark,
            plans,
            edits,
            budget,
            broken,
        } = self;
        (desired, suspend, deleting, finalizer, gone, now, tasks, map).hash(state);
        if let Some(flip) = flip {
            let second = |at: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
                at.as_ref().map(|at| at.0.as_second())
            };
            (flip.epoch, flip.started_at.0.as_second(), second(&flip.configured_at)).hash(state);
            (second(&flip.acknowledged_at), second(&flip.put_back_at), flip.put_backs).hash(state);
            flip.given_up.hash(state);
        }
        (told, phase, source, target, shops, writes, workers, next_worker, mark).hash(state);
        (plans, edits, budget, broken).hash(state);
    }
}

/// A change of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Edit {
    Phase(Phase),
    Suspend(bool),
    Delete,
}

/// What does not change in a run.
#[derive(Debug)]
pub struct Rules {
    pub source: Engine,
    pub target: Engine,
    /// What is made wrong.
    pub flaw: Option<&'static str>,
    /// An operator sees and acts in one step; otherwise whatever happens in between.
    pub whole_passes: bool,
    /// The Watch reports as soon as something changes.
    pub instant_reports: bool,
    /// Workers go on after their task is gone.
    pub zombies: bool,
    manifests: BTreeMap<(&'static str, bool), Migration>,
}

impl Rules {
    pub fn new(source: Engine, target: Engine) -> Self {
        let mut manifests = BTreeMap::new();
        for phase in Phase::ALL {
            for suspend in [false, true] {
                manifests.insert((phase.as_str(), suspend), manifest(phase, suspend));
            }
        }
        Self {
            source,
            target,
            flaw: None,
            whole_passes: true,
            instant_reports: true,
            zombies: false,
            manifests,
        }
    }

    #[must_use]
    pub fn with_flaw(mut self, flaw: Option<&'static str>) -> Self {
        self.flaw = flaw;
        self
    }

    pub fn wrong(&self, name: &str) -> bool {
        self.flaw == Some(name)
    }

    pub fn engine(&self, side: Side) -> Engine {
        match side {
            Side::Source => self.source,
            Side::Target => self.target,
        }
    }

    pub fn migration(&self, state: &State) -> &Migration {
        &self.manifests[&(state.desired.as_str(), state.suspend)]
    }
}

fn manifest(phase: Phase, suspend: bool) -> Migration {
    let raw = json!({
        "apiVersion": "datamigration.dev/v1alpha1",
        "kind": "DataMigration",
        "metadata": {"name": "orders", "namespace": "shop", "uid": "u-1", "generation": 4},
        "spec": {
            "strategy": "DualWrite",
            "phase": phase,
            "suspend": suspend,
            "source": {"engine": "MySQL", "shards": [{"name": "main", "urlSecretRef": {"name": "orders-mysql"}}]},
            "target": {"engine": "PostgreSQL", "shards": [{"name": "main", "urlSecretRef": {"name": "orders-postgres"}}]},
            "tables": [{"name": "orders", "version": "updated_at"}],
            "application": {
                "configMapRef": {"name": "orders-database-mode"},
                "acknowledge": {"selector": {"matchLabels": {"app": "shop"}}},
            },
            "archive": {"hold": "1h", "destination": {"url": "s3://archive/orders"}},
        },
    });
    let raw: DataMigration = serde_json::from_value(raw).unwrap_or_else(|error| panic!("the manifest: {error}"));
    validate(&raw).unwrap_or_else(|errors| panic!("the manifest: {errors:?}"))
}

impl State {
    /// Nothing has happened; the source has the rows that are given.
    pub fn new(desired: Phase, shops: &[u16], rows: &[Option<u16>]) -> Self {
        let nowhere = Place {
            epoch: 0,
            mode: Mode::SrcOnly,
            secondary: SecondaryWrites::Lenient,
        };
        let cell = |version: Option<u16>| Cell {
            committed: Row { version, by: 0 },
            ..Cell::default()
        };
        Self {
            desired,
            suspend: false,
            deleting: None,
            finalizer: false,
            gone: false,
            now: 0,
            tasks: Vec::new(),
            map: None,
            flip: None,
            told: 0,
            phase: None,
            source: Database {
                cells: rows.iter().map(|version| cell(*version)).collect(),
                ..Database::default()
            },
            target: Database {
                cells: rows.iter().map(|_| cell(None)).collect(),
                ..Database::default()
            },
            shops: shops
                .iter()
                .map(|clock| Shop {
                    alive: true,
                    listed: true,
                    place: nowhere,
                    acked: None,
                    faded: false,
                    annotated: None,
                    late: false,
                    clock: *clock,
                })
                .collect(),
            writes: Vec::new(),
            workers: Vec::new(),
            next_worker: 0,
            mark: 0,
            plans: vec![None],
            edits: Vec::new(),
            budget: Budget::default(),
            broken: None,
        }
    }

    pub fn db(&self, side: Side) -> &Database {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    pub fn db_mut(&mut self, side: Side) -> &mut Database {
        match side {
            Side::Source => &mut self.source,
            Side::Target => &mut self.target,
        }
    }

    pub fn cell(&mut self, side: Side, key: usize) -> &mut Cell {
        &mut self.db_mut(side).cells[key]
    }

    /// One more request is to come.
    pub fn will_write(&mut self, op: Op, key: usize) {
        self.writes.push(Write {
            op,
            key,
            shop: 0,
            stage: Stage::Waiting,
            place: self.shops[0].place,
            was_there: false,
            image: Row::default(),
            second: false,
            queued: false,
            after: 0,
            answer: None,
        });
    }

    pub fn breaks(&mut self, what: impl Into<String>) {
        self.broken.get_or_insert(what.into());
    }
}
