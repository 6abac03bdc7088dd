//! What a pass found, one by one: the events that a report, an export or a queue is made of. Keys and versions, never the
//! rows' contents.

use super::repair::{Mismatch, Seen, Settled, Verdict};
use crate::control::verified::Found;
use crate::rows::Key;

/// What was the matter with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The sides differed.
    Differs(Mismatch),
    /// The row cannot be put into the follower, or cannot be read exactly; with the database's own words.
    Refused(String),
}

impl Kind {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Differs(kind) => kind.as_str(),
            Self::Refused(_) => "refused",
        }
    }

    /// Why, where the database said so.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Differs(_) => None,
            Self::Refused(why) => Some(why),
        }
    }
}

/// One key whose rows differed when it was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Name of the table in the source.
    pub table: String,
    /// The row's key.
    pub key: Key,
    /// What was the matter.
    pub kind: Kind,
    /// Both versions, and the columns that differed.
    pub seen: Seen,
    /// The follower has been made what the base is.
    pub repaired: bool,
}

impl Difference {
    /// The difference that a verdict speaks of, if it speaks of one.
    pub fn of(table: &str, settled: &Settled) -> Option<Self> {
        let (kind, repaired) = match &settled.verdict {
            Verdict::Repaired(kind) => (Kind::Differs(*kind), true),
            Verdict::Left(kind) => (Kind::Differs(*kind), false),
            Verdict::Refused(why) => (Kind::Refused(why.clone()), false),
            Verdict::Equal | Verdict::FollowerNewer | Verdict::Locked => return None,
        };
        Some(Self {
            table: table.to_owned(),
            key: settled.key.clone(),
            kind,
            seen: settled.seen.clone(),
            repaired,
        })
    }
}

impl Found {
    /// One more difference of a range.
    pub fn add(&mut self, kind: Mismatch) {
        match kind {
            Mismatch::TargetMissing => self.target_missing += 1,
            Mismatch::Neq => self.neq += 1,
            // The record has no place for them of their own: it only serves a worker that starts again.
            Mismatch::BaseMissing | Mismatch::Misplaced => self.base_missing += 1,
        }
    }
}

/// Whoever wants to know of every difference, as it is found.
pub trait Differences: Send {
    /// Takes one in; an error ends the pass.
    fn add(&mut self, difference: &Difference) -> Result<(), String>;
}
