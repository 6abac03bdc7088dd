//! What was written and what became of it, and whether a final row can be explained by it. Pure: it knows keys, moments
//! and write numbers, and nothing of databases.

use std::collections::HashMap;

/// What a write did to its row, or would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The row holds the content of the write of this number.
    Put(u64),
    Gone,
}

/// One write of one row that had an effect, or may have had one.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub key: i64,
    /// Microseconds since the load began.
    pub start: u64,
    /// The moment of the answer.
    pub end: u64,
    pub effect: Effect,
    /// Otherwise nobody was told whether it happened.
    pub acknowledged: bool,
}

/// A row as it is found at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// As it was before the load.
    Untouched,
    Put(u64),
    Absent,
}

/// Whether some write may have been the last of its row, or none has been: no acknowledged write began after the answer
/// to the one whose effect is found.
pub fn explained(seeded: bool, writes: &[Write], found: Found) -> bool {
    let later = |end: u64| writes.iter().any(|write| write.acknowledged && write.start > end);
    let untouched = !writes.iter().any(|write| write.acknowledged);
    let by_a_write = |effect: Effect| {
        writes
            .iter()
            .any(|write| write.effect == effect && (!write.acknowledged || !later(write.end)))
    };
    match found {
        Found::Untouched => seeded && untouched,
        Found::Put(number) => by_a_write(Effect::Put(number)),
        Found::Absent => by_a_write(Effect::Gone) || (!seeded && untouched),
    }
}

/// The keys whose final row no order of the writes explains. Rows 1 to `seeded` were there before.
pub fn unexplained(seeded: i64, writes: &[Write], found: &HashMap<i64, Found>) -> Vec<i64> {
    let mut by_key: HashMap<i64, Vec<Write>> = HashMap::new();
    for write in writes {
        by_key.entry(write.key).or_default().push(*write);
    }
    let unwritten: Vec<i64> = (1..=seeded)
        .chain(found.keys().copied())
        .filter(|key| !by_key.contains_key(key))
        .collect();
    let mut wrong: Vec<i64> = unwritten
        .into_iter()
        .map(|key| (key, [].as_slice()))
        .chain(by_key.iter().map(|(key, writes)| (*key, writes.as_slice())))
        .filter(|(key, writes)| {
            let found = found.get(key).copied().unwrap_or(Found::Absent);
            !explained((1..=seeded).contains(key), writes, found)
        })
        .map(|(key, _)| key)
        .collect();
    wrong.sort_unstable();
    wrong.dedup();
    wrong
}

#[test]
fn a_lost_a_stale_and_a_returned_row_are_told_from_what_may_be() {
    let write = |start, end, effect, acknowledged| Write {
        key: 1,
        start,
        end,
        effect,
        acknowledged,
    };
    let put = |number, start, end| write(start, end, Effect::Put(number), true);
    let one_after_the_other = [put(1, 0, 10), put(2, 20, 30)];
    assert!(explained(true, &one_after_the_other, Found::Put(2)));
    for wrong in [Found::Put(1), Found::Untouched, Found::Absent, Found::Put(3)] {
        assert!(!explained(true, &one_after_the_other, wrong), "{wrong:?}");
    }
    let at_once = [put(1, 0, 25), put(2, 20, 30)];
    assert!(explained(true, &at_once, Found::Put(1)) && explained(true, &at_once, Found::Put(2)));
    let deleted = [put(1, 0, 10), write(20, 30, Effect::Gone, true)];
    assert!(explained(true, &deleted, Found::Absent) && !explained(true, &deleted, Found::Put(1)));
    let unknown = [put(1, 0, 10), write(20, 30, Effect::Gone, false)];
    assert!(explained(true, &unknown, Found::Absent) && explained(true, &unknown, Found::Put(1)));
    assert!(explained(false, &[], Found::Absent) && !explained(true, &[], Found::Absent));
    let lost = HashMap::from([(1, Found::Untouched), (3, Found::Untouched), (9, Found::Put(4))]);
    assert_eq!(unexplained(3, &[], &lost), [2, 9]);
}
