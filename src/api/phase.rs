//! The rungs of the ladder and the moves between them, as one table.
//! Everything that asks "may it go there?" asks here; rungs are never compared as numbers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A rung of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The application writes and reads the source; the target is untouched.
    SourceOnly,
    /// The application writes source, then target; the target is kept in step.
    SourceFirst,
    /// The application writes target, then source; the source is kept in step.
    TargetFirst,
    /// The application writes and reads the target; the source's tables refuse writes.
    TargetOnly,
    /// The source is archived to object storage, checked, then deleted.
    Archived,
}

use Phase::{Archived, SourceFirst, SourceOnly, TargetFirst, TargetOnly};

/// A step from one rung to the next one, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Stay,
    Up(Phase),
    Down(Phase),
    /// There is no way: the reason is for people.
    Never(&'static str),
}

/// The whole ladder: each rung with the one above it and the one below it that may be gone back to.
const LADDER: [(Phase, Option<Phase>, Option<Phase>); 5] = [
    (SourceOnly, Some(SourceFirst), None),
    (SourceFirst, Some(TargetFirst), Some(SourceOnly)),
    (TargetFirst, Some(TargetOnly), Some(SourceFirst)),
    (TargetOnly, Some(Archived), None),
    (Archived, None, None),
];

impl Phase {
    pub const ALL: [Self; 5] = [SourceOnly, SourceFirst, TargetFirst, TargetOnly, Archived];

    pub const fn as_str(self) -> &'static str {
        match self {
            SourceOnly => "SourceOnly",
            SourceFirst => "SourceFirst",
            TargetFirst => "TargetFirst",
            TargetOnly => "TargetOnly",
            Archived => "Archived",
        }
    }

    /// The rung above.
    pub fn above(self) -> Option<Self> {
        LADDER
            .iter()
            .find(|(rung, ..)| *rung == self)
            .and_then(|(_, above, _)| *above)
    }

    /// The rung below, where there is a way back.
    pub fn below(self) -> Option<Self> {
        LADDER
            .iter()
            .find(|(rung, ..)| *rung == self)
            .and_then(|(.., below)| *below)
    }

    /// Whether `rung` is this one or can be climbed to from here.
    pub fn reaches_up_to(self, rung: Self) -> bool {
        let mut at = Some(self);
        while let Some(here) = at {
            if here == rung {
                return true;
            }
            at = here.above();
        }
        false
    }

    /// Whether this rung is `rung` or lies above it.
    pub fn at_least(self, rung: Self) -> bool {
        rung.reaches_up_to(self)
    }

    /// The next step from here towards `desired`.
    pub fn towards(self, desired: Self) -> Step {
        if self == desired {
            return Step::Stay;
        }
        if self.reaches_up_to(desired) {
            return self.above().map_or(Step::Stay, Step::Up);
        }
        match self.below() {
            Some(below) => Step::Down(below),
            None if self == Archived => Step::Never("the source has been archived; there is no way back from Archived"),
            None => {
                Step::Never("the source is fenced and no longer kept in step; there is no way back from TargetOnly")
            }
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_moves_is_exactly_this() {
        let rendered: Vec<String> = Phase::ALL
            .iter()
            .flat_map(|from| Phase::ALL.iter().map(move |to| (from, to)))
            .map(|(from, to)| {
                let step = match from.towards(*to) {
                    Step::Stay => "stay".to_owned(),
                    Step::Up(next) => format!("up to {next}"),
                    Step::Down(next) => format!("down to {next}"),
                    Step::Never(_) => "never".to_owned(),
                };
                format!("{from} -> {to}: {step}")
            })
            .collect();
        insta::assert_snapshot!(rendered.join("\n"), @r"
        SourceOnly -> SourceOnly: stay
        SourceOnly -> SourceFirst: up to SourceFirst
        SourceOnly -> TargetFirst: up to SourceFirst
        SourceOnly -> TargetOnly: up to SourceFirst
        SourceOnly -> Archived: up to SourceFirst
        SourceFirst -> SourceOnly: down to SourceOnly
        SourceFirst -> SourceFirst: stay
        SourceFirst -> TargetFirst: up to TargetFirst
        SourceFirst -> TargetOnly: up to TargetFirst
        SourceFirst -> Archived: up to TargetFirst
        TargetFirst -> SourceOnly: down to SourceFirst
        TargetFirst -> SourceFirst: down to SourceFirst
        TargetFirst -> TargetFirst: stay
        TargetFirst -> TargetOnly: up to TargetOnly
        TargetFirst -> Archived: up to TargetOnly
        TargetOnly -> SourceOnly: never
        TargetOnly -> SourceFirst: never
        TargetOnly -> TargetFirst: never
        TargetOnly -> TargetOnly: stay
        TargetOnly -> Archived: up to Archived
        Archived -> SourceOnly: never
        Archived -> SourceFirst: never
        Archived -> TargetFirst: never
        Archived -> TargetOnly: never
        Archived -> Archived: stay
        ");
    }
}
