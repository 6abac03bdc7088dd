//! The matrix of write results: what a failure at each step of the dual write means for the request.
//! Pure functions, so that every cell can be looked at; `write` only does what they say.

use crate::words::SecondaryWrites;

/// How the second write (prepared, not yet committed) went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Done and holding its locks.
    Done,
    /// Not done: it failed, took too long, or the circuit breaker is open.
    Failed,
    /// The follower's control row refused this instance's epoch, or its fence did: the mode has moved on.
    Stale,
}

/// What follows the second write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AfterPut {
    CommitBase,
    /// The queue entry goes into the base's own transaction, then the base is committed.
    QueueThenCommitBase,
    /// Nothing happened, on either side.
    RollBack,
}

pub fn after_put(put: Put, secondary: SecondaryWrites) -> AfterPut {
    match (put, secondary) {
        (Put::Done, _) => AfterPut::CommitBase,
        (Put::Failed, SecondaryWrites::Lenient) => AfterPut::QueueThenCommitBase,
        (Put::Failed, SecondaryWrites::Strict) | (Put::Stale, _) => AfterPut::RollBack,
    }
}

/// The same for second writes in several shards: the gravest decides, and only the failed ones' keys are queued.
pub fn after_puts(puts: impl IntoIterator<Item = Put>, secondary: SecondaryWrites) -> AfterPut {
    puts.into_iter()
        .map(|put| after_put(put, secondary))
        .max()
        .unwrap_or(AfterPut::CommitBase)
}

/// How a commit ended, as far as anybody can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    Yes,
    No,
    /// The connection broke after COMMIT was sent.
    Unknown,
}

/// What follows the base's commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterBase {
    /// The second write waits for its commit.
    CommitFollower,
    /// No second write is waiting (none in this mode, or it was queued in the base's transaction).
    Succeed,
    /// Nothing happened: the follower is rolled back.
    Fail,
    /// The follower is rolled back, the key queued if that can be done, and the caller told that nobody knows.
    TellUnknown,
}

pub fn after_base_commit(base: Committed, follower_waits: bool) -> AfterBase {
    match (base, follower_waits) {
        (Committed::Yes, true) => AfterBase::CommitFollower,
        (Committed::Yes, false) => AfterBase::Succeed,
        (Committed::No, _) => AfterBase::Fail,
        (Committed::Unknown, _) => AfterBase::TellUnknown,
    }
}

/// What the caller is told once the base has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Ok,
    OutcomeUnknown,
}

/// `queued` is `None` while no entry was needed. Strict never turns a lost second write into success, because the
/// other side is about to be the base; and never into failure, because this side has committed.
pub fn after_follower_commit(follower: Committed, secondary: SecondaryWrites, queued: Option<bool>) -> Answer {
    match (follower, secondary, queued) {
        (Committed::Yes, _, _) | (_, SecondaryWrites::Lenient, Some(true)) => Answer::Ok,
        (_, SecondaryWrites::Strict | SecondaryWrites::Lenient, _) => Answer::OutcomeUnknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SecondaryWrites::{Lenient, Strict};

    #[test]
    fn second_write() {
        for (put, secondary, expected) in [
            (Put::Done, Lenient, AfterPut::CommitBase),
            (Put::Done, Strict, AfterPut::CommitBase),
            (Put::Failed, Lenient, AfterPut::QueueThenCommitBase),
            (Put::Failed, Strict, AfterPut::RollBack),
            (Put::Stale, Lenient, AfterPut::RollBack),
            (Put::Stale, Strict, AfterPut::RollBack),
        ] {
            assert_eq!(after_put(put, secondary), expected, "{put:?} {secondary:?}");
        }
    }

    #[test]
    fn second_writes_in_several_shards() {
        for (puts, secondary, expected) in [
            (vec![], Strict, AfterPut::CommitBase),
            (vec![Put::Done, Put::Done], Strict, AfterPut::CommitBase),
            (vec![Put::Failed, Put::Done], Lenient, AfterPut::QueueThenCommitBase),
            (vec![Put::Done, Put::Failed], Strict, AfterPut::RollBack),
            (vec![Put::Failed, Put::Stale], Lenient, AfterPut::RollBack),
        ] {
            assert_eq!(after_puts(puts.clone(), secondary), expected, "{puts:?} {secondary:?}");
        }
    }

    #[test]
    fn base_commit() {
        for (base, waits, expected) in [
            (Committed::Yes, true, AfterBase::CommitFollower),
            (Committed::Yes, false, AfterBase::Succeed),
            (Committed::No, true, AfterBase::Fail),
            (Committed::No, false, AfterBase::Fail),
            (Committed::Unknown, true, AfterBase::TellUnknown),
            (Committed::Unknown, false, AfterBase::TellUnknown),
        ] {
            assert_eq!(after_base_commit(base, waits), expected, "{base:?} {waits}");
        }
    }

    #[test]
    fn follower_commit() {
        for (follower, secondary, queued, expected) in [
            (Committed::Yes, Lenient, None, Answer::Ok),
            (Committed::Yes, Strict, None, Answer::Ok),
            (Committed::No, Lenient, Some(true), Answer::Ok),
            (Committed::Unknown, Lenient, Some(true), Answer::Ok),
            (Committed::No, Lenient, Some(false), Answer::OutcomeUnknown),
            (Committed::Unknown, Lenient, Some(false), Answer::OutcomeUnknown),
            (Committed::No, Lenient, None, Answer::OutcomeUnknown),
            (Committed::No, Strict, Some(true), Answer::OutcomeUnknown),
            (Committed::No, Strict, Some(false), Answer::OutcomeUnknown),
            (Committed::Unknown, Strict, Some(true), Answer::OutcomeUnknown),
            (Committed::Unknown, Strict, Some(false), Answer::OutcomeUnknown),
        ] {
            assert_eq!(
                after_follower_commit(follower, secondary, queued),
                expected,
                "{follower:?} {secondary:?} {queued:?}"
            );
        }
    }

    /// Once the base may have committed, no answer says that nothing happened.
    #[test]
    fn a_committed_base_is_never_called_a_failure() {
        for waits in [true, false] {
            for base in [Committed::Yes, Committed::Unknown] {
                assert_ne!(after_base_commit(base, waits), AfterBase::Fail);
            }
        }
    }
}
