//! Stances: the modes an application can be put in, each taken in an epoch of its own, and the few moves between them.
//! A rung has one or two of them; the base is changed only from one strict stance to the other.

use crate::api::phase::Phase;
use crate::api::task::ControlSpec;
use crate::words::{Direction, Mode, ReadFrom, SecondaryWrites, Side};

/// A mode together with what a failing second write means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stance {
    SourceOnly,
    SourceFirst,
    /// Source first, no second write may be missing: the door to the other base.
    SourceFirstStrict,
    TargetFirstStrict,
    TargetFirst,
    TargetOnly,
}

use Stance::{SourceFirst, SourceFirstStrict, SourceOnly, TargetFirst, TargetFirstStrict, TargetOnly};

impl Stance {
    pub const ALL: [Self; 6] = [
        SourceOnly,
        SourceFirst,
        SourceFirstStrict,
        TargetFirstStrict,
        TargetFirst,
        TargetOnly,
    ];

    /// The stance that a control row describes; `None`: not one that this strategy uses.
    pub const fn of(mode: Mode, secondary: SecondaryWrites) -> Option<Self> {
        match (mode, secondary) {
            (Mode::SrcOnly, _) => Some(SourceOnly),
            (Mode::SrcFirst, SecondaryWrites::Lenient) => Some(SourceFirst),
            (Mode::SrcFirst, SecondaryWrites::Strict) => Some(SourceFirstStrict),
            (Mode::DstFirst, SecondaryWrites::Strict) => Some(TargetFirstStrict),
            (Mode::DstFirst, SecondaryWrites::Lenient) => Some(TargetFirst),
            (Mode::DstOnly, _) => Some(TargetOnly),
            (Mode::SrcReadOnly, _) => None,
        }
    }

    pub const fn mode(self) -> Mode {
        match self {
            SourceOnly => Mode::SrcOnly,
            SourceFirst | SourceFirstStrict => Mode::SrcFirst,
            TargetFirstStrict | TargetFirst => Mode::DstFirst,
            TargetOnly => Mode::DstOnly,
        }
    }

    pub const fn secondary(self) -> SecondaryWrites {
        if self.strict() {
            SecondaryWrites::Strict
        } else {
            SecondaryWrites::Lenient
        }
    }

    /// The same base, with second writes that may be missing.
    #[must_use]
    pub const fn lenient(self) -> Self {
        match self {
            SourceFirst | SourceFirstStrict => SourceFirst,
            TargetFirstStrict | TargetFirst => TargetFirst,
            SourceOnly | TargetOnly => self,
        }
    }

    pub const fn strict(self) -> bool {
        matches!(self, SourceFirstStrict | TargetFirstStrict)
    }

    pub const fn reads(self) -> ReadFrom {
        match self.base() {
            Side::Source => ReadFrom::Source,
            Side::Target => ReadFrom::Target,
        }
    }

    pub const fn base(self) -> Side {
        self.mode().base()
    }

    pub const fn direction(self) -> Direction {
        Direction::from_base(self.base())
    }

    /// The rung that this stance belongs to.
    pub const fn rung(self) -> Phase {
        match self {
            SourceOnly => Phase::SourceOnly,
            SourceFirst | SourceFirstStrict => Phase::SourceFirst,
            TargetFirstStrict | TargetFirst => Phase::TargetFirst,
            TargetOnly => Phase::TargetOnly,
        }
    }

    /// Every move that may ever be made; nothing else is a flip.
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (SourceOnly, SourceFirst)
                | (SourceFirst | SourceFirstStrict, SourceOnly)
                | (SourceFirst, SourceFirstStrict)
                | (SourceFirstStrict, SourceFirst | TargetFirstStrict)
                | (TargetFirstStrict, TargetFirst | SourceFirstStrict)
                | (TargetFirst, TargetFirstStrict | TargetOnly)
        )
    }

    /// How people say it.
    pub fn words(self) -> String {
        match self {
            SourceFirstStrict | TargetFirstStrict => format!("{} (strict)", self.mode()),
            _ => self.mode().to_string(),
        }
    }
}

/// The control row of the epoch that takes the application from `now` to `next`. `seen`: the highest epoch that the
/// application may have seen; instances never follow a lower one.
pub fn intent(now: Option<&ControlSpec>, next: Stance, seen: i64) -> ControlSpec {
    let zero = ControlSpec {
        epoch: 0,
        min_epoch: 0,
        mode: Mode::SrcOnly,
        secondary: SecondaryWrites::Lenient,
        round: 0,
        base_since: 0,
    };
    let now = now.unwrap_or(&zero);
    let epoch = now.epoch.max(seen).saturating_add(1);
    let first = next == SourceFirst && now.mode == Mode::SrcOnly;
    let swaps = now.mode.base() != next.base();
    ControlSpec {
        epoch,
        min_epoch: now.min_epoch,
        mode: next.mode(),
        secondary: next.secondary(),
        round: if first { now.round.saturating_add(1) } else { now.round },
        base_since: if first || swaps { epoch } else { now.base_since },
    }
}

/// The control row of an epoch that stays where the application is and counts nothing as proved any more.
pub fn anew(now: &ControlSpec, stance: Stance, seen: i64) -> ControlSpec {
    let next = stance.lenient();
    let intent = intent(Some(now), next, seen);
    if !next.mode().writes_both() {
        return intent;
    }
    ControlSpec {
        base_since: intent.epoch,
        // Only the way from the source has a copy.
        round: intent.round.saturating_add(i64::from(next == SourceFirst)),
        ..intent
    }
}

/// Whether the epoch of `control` changes the base, or begins a round: what it leaves behind is on the other side.
pub const fn turns(control: &ControlSpec) -> bool {
    control.base_since == control.epoch && control.epoch > 0
}

/// The rung where a migration is while the epoch of `control` is not acknowledged: the one it is leaving.
pub const fn rung_in_flight(control: &ControlSpec, stance: Stance) -> Phase {
    match (stance, turns(control)) {
        (SourceFirst, true) => Phase::SourceOnly,
        (SourceOnly | SourceFirst, _) | (SourceFirstStrict, false) | (TargetFirstStrict, true) => Phase::SourceFirst,
        (SourceFirstStrict, true) | (TargetFirstStrict, false) | (TargetFirst | TargetOnly, _) => Phase::TargetFirst,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_changes_only_between_strict_stances() {
        for from in Stance::ALL {
            for to in Stance::ALL {
                if from.may_become(to) && from.base() != to.base() {
                    assert!(from.strict() && to.strict(), "{from:?} -> {to:?}");
                }
            }
        }
    }

    #[test]
    fn nothing_leaves_target_only() {
        assert!(Stance::ALL.iter().all(|to| !TargetOnly.may_become(*to)));
    }

    #[test]
    fn control_rows_of_a_way_up_and_back() {
        let mut at: Option<ControlSpec> = None;
        let mut seen = Vec::new();
        for next in [
            SourceFirst,
            SourceFirstStrict,
            TargetFirstStrict,
            TargetFirst,
            TargetFirstStrict,
            SourceFirstStrict,
            SourceFirst,
            SourceOnly,
            SourceFirst,
        ] {
            let control = intent(at.as_ref(), next, 0);
            assert_eq!(Stance::of(control.mode, control.secondary), Some(next));
            seen.push((control.epoch, control.round, control.base_since));
            at = Some(control);
        }
        assert_eq!(
            seen,
            [
                (1, 1, 1),
                (2, 1, 1),
                (3, 1, 3),
                (4, 1, 3),
                (5, 1, 3),
                (6, 1, 6),
                (7, 1, 6),
                (8, 1, 6),
                (9, 2, 9)
            ]
        );
    }
}
