//! The mutants: what is made wrong, one at a time, in `decide`, in the outcome matrix, or in a guard of the databases.

use std::cell::Cell;

/// A mutation of the sources: in `file`, the expression `from` that stands after `before` becomes `to`.
pub struct Source {
    pub name: &'static str,
    /// Below `src/`.
    pub file: &'static str,
    pub before: &'static str,
    pub from: &'static str,
    pub to: &'static str,
}

const fn source(
    name: &'static str,
    file: &'static str,
    before: &'static str,
    from: &'static str,
    to: &'static str,
) -> Source {
    Source {
        name,
        file,
        before,
        from,
        to,
    }
}

pub const SOURCES: &[Source] = &[
    source(
        "an acknowledgement is skipped",
        "decide/gates/acknowledge.rs",
        "    if ",
        "silent.is_empty()",
        "true",
    ),
    source(
        "an instance of another epoch counts as acknowledged",
        "decide/gates/acknowledge.rs",
        "        ",
        "row.epoch == control.epoch",
        "true",
    ),
    source(
        "the full verify's gate always passes",
        "decide/rungs/source_first.rs",
        ".and_then(|| ",
        "gates::fully_verified(rung.migration, rung.world, rung.control, rung.stance.direction())",
        "Gate::Pass",
    ),
    source(
        "the base is left without draining",
        "decide/rungs/source_first.rs",
        "let gate = ",
        "gates::drained(rung.migration, rung.world, rung.control, rung.journal)",
        "Gate::Pass",
    ),
    source(
        "the way back is not drained",
        "decide/rungs/target_first.rs",
        "let gate = ",
        "gates::drained(rung.migration, rung.world, rung.control, rung.journal)",
        "Gate::Pass",
    ),
    source(
        "a direct flip without the strict epochs",
        "decide/rungs/source_first.rs",
        "Plan::go(work, gate, ",
        "Stance::SourceFirstStrict",
        "Stance::TargetFirst",
    ),
    source(
        "a direct flip back without the strict epochs",
        "decide/rungs/target_first.rs",
        "    } else {\n        ",
        "Stance::TargetFirstStrict",
        "Stance::SourceFirst",
    ),
    source(
        "the application is told before the databases carry the epoch",
        "decide/pass.rs",
        "let shown = if ",
        "flight.leg == position::Leg::Raising",
        "false",
    ),
    source(
        "an epoch is closed as soon as it is told",
        "decide/pass.rs",
        "if flight.leg == position::Leg::Telling && ",
        "gate.passed()",
        "true",
    ),
    source(
        "an epoch counts as closed before the databases shut older instances out",
        "decide/position.rs",
        "    if ",
        "journal.min_epoch < journal.epoch || !report.min_epoch_on_all_shards || journal.acked_at.is_none()",
        "false",
    ),
    source(
        "a swap of the base is taken back half-way",
        "decide/flip.rs",
        "    match ",
        "(flight.stance, turns(&flight.control))",
        "(flight.stance, false)",
    ),
    source(
        "a journal that is there is taken for none",
        "decide/position.rs",
        "(None, Some(journal)) => ",
        "Position::Adopt(as_control(journal))",
        "Position::Untouched",
    ),
    source(
        "the archive does not wait for the fence",
        "decide/rungs/target_only.rs",
        "let due = ",
        "fenced(rung.world).and_then(|| held(rung))",
        "Gate::Pass",
    ),
    source(
        "the source is left for good without proof",
        "decide/rungs/target_first.rs",
        "Plan::go(work, ",
        "way_back(rung)",
        "Gate::Pass",
    ),
    source(
        "a strict epoch is told as lenient",
        "decide/flip.rs",
        "(keys.secondary_writes.clone(), ",
        "stance.secondary().to_string()",
        "\"Lenient\".to_owned()",
    ),
    source(
        "TargetOnly is left when somebody asks for it",
        "decide/rungs/mod.rs",
        "Stance::TargetOnly => ",
        "target_only::plan(rung)",
        "Plan::relax(Stance::TargetFirst, None)",
    ),
    source(
        "a second write that failed strictly commits the base",
        "dualwrite/outcome.rs",
        "(Put::Failed, SecondaryWrites::Strict) | (Put::Stale, _) => ",
        "AfterPut::RollBack",
        "AfterPut::CommitBase",
    ),
    source(
        "a lost second write is a success",
        "dualwrite/outcome.rs",
        "(_, SecondaryWrites::Strict | SecondaryWrites::Lenient, _) => ",
        "Answer::OutcomeUnknown",
        "Answer::Ok",
    ),
];

/// What is made wrong in the databases' and workers' guards, as the small world plays them.
pub const GUARDS: &[&str] = &[
    "copier-overwrites-equal-versions",
    "copier-is-not-guarded",
    "repairs-without-locks",
    "repair-does-not-look-again",
    "workers-do-not-check-the-epoch",
    "base-does-not-check-the-epoch",
];

thread_local! {
    static ON: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Whether a mutation is switched on in this thread.
pub fn on(name: &str) -> bool {
    ON.get() == Some(name)
}

/// Does something with a mutation switched on.
pub fn with<T>(name: Option<&'static str>, act: impl FnOnce() -> T) -> T {
    let before = ON.replace(name);
    let done = act();
    ON.set(before);
    done
}
