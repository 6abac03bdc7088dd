//! The audit against hand-made histories, and against a naive oracle that tries every order of every small history.

use proptest::prelude::*;

use super::*;

/// After everything in these histories.
const LATE: u64 = 1_000;

/// `end`: `None` is a write of which nobody knows whether it happened.
fn write(id: &str, effect: Effect, start: u64, end: impl Into<Option<u64>>) -> Write<'_> {
    let end = end.into();
    Write {
        id,
        effect,
        start,
        end: end.unwrap_or(LATE),
        acknowledged: end.is_some(),
    }
}

fn put(id: &str, start: u64, end: impl Into<Option<u64>>) -> Write<'_> {
    write(id, Effect::Put, start, end)
}

fn delete(id: &str, start: u64, end: impl Into<Option<u64>>) -> Write<'_> {
    write(id, Effect::Delete, start, end)
}

#[test]
fn one_order() {
    let w = [put("a", 1, 2), put("b", 3, 4)];
    assert_eq!(judge(None, &w, Some("b")), None);
    assert_eq!(judge(None, &w, Some("a")), Some(Fault::Stale));
    assert_eq!(judge(None, &w, None), Some(Fault::Missing));
    assert_eq!(judge(None, &w, Some("c")), Some(Fault::Stale), "content of no write");
    let w = [put("a", 1, 4), put("b", 3, 5)];
    assert_eq!(judge(None, &w, Some("a")), None, "they overlapped");
    let w = [put("a", 1, 2), delete("d", 3, 4)];
    assert_eq!(judge(None, &w, Some("a")), Some(Fault::Resurrected));
    assert_eq!(judge(None, &w, None), None);
    let w = [put("a", 1, 2), delete("d", 3, 4), put("b", 5, 6)];
    assert_eq!(judge(None, &w, None), Some(Fault::Missing));
    assert_eq!(judge(None, &w, Some("a")), Some(Fault::Stale));
}

#[test]
fn what_was_there_before() {
    assert_eq!(judge(Some("seed"), &[], Some("seed")), None);
    assert_eq!(judge(Some("seed"), &[], None), Some(Fault::Missing));
    assert_eq!(judge(Some("seed"), &[], Some("other")), Some(Fault::Stale));
    assert_eq!(
        judge(Some("seed"), &[delete("d", 1, 2)], Some("seed")),
        Some(Fault::Resurrected)
    );
    assert_eq!(judge(Some("seed"), &[put("a", 1, 2)], Some("seed")), Some(Fault::Stale));
    assert_eq!(judge(None, &[], None), None);
}

#[test]
fn unknown_writes_may_have_happened_at_any_time_or_never() {
    let w = [put("u", 1, None), put("a", 5, 6)];
    assert_eq!(judge(None, &w, Some("u")), None, "it may have happened late");
    assert_eq!(judge(None, &w, Some("a")), None, "or never");
    assert_eq!(judge(None, &[put("a", 1, 2), delete("u", 3, None)], None), None);
    assert_eq!(
        judge(None, &[put("a", 1, 2), put("u", 3, None)], None),
        Some(Fault::Missing)
    );
}

/// One request that nobody answered must not excuse its order for the rest of the run.
#[test]
fn an_unknown_write_explains_nothing_that_came_long_after_it() {
    use Outcome::{Acknowledged, Unknown};
    let minute = 60_000;
    let requests = vec![
        request("u", Some(1), Op::Delete, (1, 2), Unknown),
        request("v", Some(2), Op::Upsert, (1, 2), Unknown),
        request("a", Some(1), Op::Upsert, (2 * minute, 2 * minute + 1), Acknowledged),
        request("b", Some(2), Op::Upsert, (2 * minute, 2 * minute + 1), Acknowledged),
    ];
    let record = record(0, requests);
    let fine: Rows = [(1, Content::of("a")), (2, Content::of("b"))].into_iter().collect();
    assert!(audit(&record, &fine, &[]).clean());
    let lost: Rows = [(2, Content::of("v"))].into_iter().collect();
    let report = audit(&record, &lost, &[]);
    assert_eq!((report.missing, report.stale), (1, 1), "{report}");
}

#[test]
fn reads_that_go_on_do_not_hide_that_writes_stood_still() {
    use Outcome::Acknowledged;
    let mut requests = vec![request("a", Some(1), Op::Upsert, (0, 1), Acknowledged)];
    requests.extend((1..40).map(|n| request("r", Some(1), Op::Read, (n * 100, n * 100 + 1), Acknowledged)));
    requests.push(request("b", Some(1), Op::Upsert, (4_000, 4_001), Acknowledged));
    let report = audit(&record(0, requests), &Rows::from([(1, Content::of("b"))]), &[]);
    assert_eq!(report.longest_pause_ms, 4_000);
}

#[test]
fn a_delete_that_found_nothing_explains_no_absence() {
    let nothing = write("n", Effect::SawAbsent, 3, 4);
    assert_eq!(
        judge(None, &[put("a", 1, 2), nothing.clone()], None),
        Some(Fault::Missing)
    );
    assert_eq!(
        judge(None, &[put("a", 1, 2), nothing], Some("a")),
        Some(Fault::Resurrected)
    );
}

fn request(id: &str, key: Option<i64>, op: Op, at: (u64, u64), outcome: Outcome) -> Request {
    Request {
        id: id.into(),
        key,
        op,
        start: at.0 * 1000,
        end: at.1 * 1000,
        outcome,
        effect: true,
        why: None,
    }
}

fn record(seeded: i64, requests: Vec<Request>) -> Record {
    Record {
        run: "r".into(),
        unix_ms: 1_000_000,
        seeded,
        ended: 5_000_000,
        requests,
    }
}

#[test]
fn a_whole_record() {
    use Outcome::{Acknowledged, Refused, Unknown};
    let record = record(
        2,
        vec![
            request("a", Some(10), Op::Create, (1, 2), Acknowledged),
            request("b", Some(10), Op::Update, (3, 4), Acknowledged),
            request("c", None, Op::Create, (3, 4), Unknown),
            request("d", Some(2), Op::Delete, (5, 6), Acknowledged),
            request("e", Some(1), Op::Update, (5, 6), Refused),
            request("f", Some(10), Op::Read, (7, 8), Acknowledged),
        ],
    );
    let mut rows: Rows = [(1, Content::seeded(1)), (10, Content::of("b")), (11, Content::of("c"))]
        .into_iter()
        .collect();
    let report = audit(&record, &rows, &[]);
    assert!(report.clean(), "{report}");
    assert_eq!((report.acknowledged, report.unknown, report.failed), (3, 1, 2));
    assert!(
        report
            .to_string()
            .ends_with("\naudit: 3 acknowledged, 0 missing, 0 stale, 0 resurrected")
    );

    // Every way to be wrong, one at a time.
    let faults = |change: &dyn Fn(&mut Rows)| {
        let mut rows = rows.clone();
        change(&mut rows);
        let report = audit(&record, &rows, &[]);
        (report.missing, report.stale, report.resurrected)
    };
    assert_eq!(
        faults(&|rows| drop(rows.remove(&1))),
        (1, 0, 0),
        "an untouched seeded order is gone"
    );
    assert_eq!(faults(&|rows| drop(rows.remove(&10))), (1, 0, 0));
    assert_eq!(faults(&|rows| drop(rows.insert(10, Content::of("a")))), (0, 1, 0));
    assert_eq!(faults(&|rows| drop(rows.insert(2, Content::seeded(2)))), (0, 0, 1));
    assert_eq!(
        faults(&|rows| drop(rows.insert(1, Content::of("e")))),
        (0, 1, 0),
        "a refused write happened"
    );
    assert_eq!(
        faults(&|rows| drop(rows.insert(12, Content::of("c")))),
        (0, 1, 0),
        "an order was created twice"
    );
    assert_eq!(
        faults(&|rows| drop(rows.insert(13, Content::of("x")))),
        (0, 1, 0),
        "a row of nobody"
    );
    rows.insert(
        10,
        Content {
            amount: "1.00".into(),
            ..Content::of("b")
        },
    );
    assert_eq!(
        audit(&record, &rows, &[]).stale,
        1,
        "half of the content is another write's"
    );
}

#[test]
fn failures_after_a_kill_are_counted_apart_and_pauses_are_measured() {
    use Outcome::{Acknowledged, Refused};
    let record = record(
        0,
        vec![
            request("a", Some(1), Op::Upsert, (1, 2), Acknowledged),
            request("b", Some(1), Op::Upsert, (1041, 1042), Refused),
            request("c", Some(1), Op::Upsert, (3080, 3081), Refused),
            request("d", Some(1), Op::Upsert, (4082, 4083), Acknowledged),
        ],
    );
    let marks = [Mark {
        unix_ms: 1_000_050,
        what: "shop-1".into(),
        seconds: 1,
    }];
    let report = audit(&record, &Rows::from([(1, Content::of("d"))]), &marks);
    assert_eq!((report.failed, report.failed_in_kills), (2, 1));
    assert_eq!((report.longest_pause_ms, report.longest_pause_at_ms), (4081, 2));
    assert!((report.failed_percent() - 100.0 / 3.0).abs() < 1e-9);
}

/// Every final content that some order of the writes leaves: acknowledged ones all happen, unknown ones may not, and
/// none is put before one that had finished when it began.
fn oracle(initial: Option<&str>, writes: &[Write<'_>]) -> HashSet<Option<String>> {
    fn go(now: Option<String>, left: &[Write<'_>], found: &mut HashSet<Option<String>>) {
        if left.iter().all(|write| !write.acknowledged) {
            found.insert(now);
        }
        for (index, write) in left.iter().enumerate() {
            // Something that had finished when this began must come first.
            if left.iter().any(|other| other.acknowledged && other.end < write.start) {
                continue;
            }
            let mut rest = left.to_vec();
            rest.remove(index);
            let next = (write.effect == Effect::Put).then(|| write.id.to_owned());
            go(next, &rest, found);
        }
    }
    let mut found = HashSet::new();
    go(initial.map(str::to_owned), writes, &mut found);
    found
}

const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];

prop_compose! {
    fn history()(parts in prop::collection::vec((any::<bool>(), 0_u64..12, 1_u64..6, 0_u8..5), 0..=5)) -> Vec<Write<'static>> {
        parts
            .into_iter()
            .zip(IDS)
            .map(|((put, start, length, known), id)| {
                let effect = if put { Effect::Put } else { Effect::Delete };
                write(id, effect, start, (known > 0).then_some(start + length))
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn agrees_with_every_order_tried(writes in history(), seeded in any::<bool>()) {
        let initial = seeded.then_some("seed");
        let possible = oracle(initial, &writes);
        for found in IDS.iter().copied().chain(["seed"]).map(Some).chain([None]) {
            let fine = judge(initial, &writes, found).is_none();
            prop_assert_eq!(fine, possible.contains(&found.map(str::to_owned)), "found {:?}, possible {:?}", found, possible);
        }
    }
}
