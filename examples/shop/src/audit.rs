//! The audit: does the final table hold what the acknowledged writes say? A pure function over the record and the
//! final rows. Per order it asks for a write that may have been the last one: one such that no acknowledged write of
//! that order began after it had finished.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::content::{Content, seed_id};
use crate::record::{Mark, Op, Outcome, Record, Request};

/// What is wrong with one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Absent, and no delete explains it.
    Missing,
    /// Its content belongs to a write that had finished before another acknowledged write of it began, or to no
    /// write at all.
    Stale,
    /// Present, although an acknowledged delete began after its content's write had finished.
    Resurrected,
}

/// One write of one order, as far as the verdict is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Write<'a> {
    id: &'a str,
    effect: Effect,
    start: u64,
    /// When it had happened at the latest, if it did.
    end: u64,
    /// Otherwise nobody knows whether it happened.
    acknowledged: bool,
}

/// A write whose outcome nobody was told still happens within this time or never, in microseconds: the library tries for
/// 5 s, and every statement and commit of it is bounded.
const UNKNOWN_SETTLES: u64 = 60_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Put,
    Delete,
    /// An acknowledged delete that found nothing: it saw the order absent, but explains no absence.
    SawAbsent,
}

/// `initial`: the write id of the row that was there before; `found`: the write id in the final row.
fn judge(initial: Option<&str>, writes: &[Write<'_>], found: Option<&str>) -> Option<Fault> {
    // What the acknowledged writes that began after `end` did; `None` is before everything.
    let later = |end: Option<u64>, effect: Effect| {
        writes
            .iter()
            .any(|write| write.acknowledged && write.effect == effect && end.is_none_or(|end| write.start > end))
    };
    match found {
        None => {
            let never_there = initial.is_none() && !later(None, Effect::Put);
            let deleted = writes
                .iter()
                .any(|write| write.effect == Effect::Delete && !later(Some(write.end), Effect::Put));
            (!never_there && !deleted).then_some(Fault::Missing)
        }
        Some(found) => {
            let end = if initial == Some(found) {
                None
            } else {
                let write = writes
                    .iter()
                    .find(|write| write.id == found && write.effect == Effect::Put);
                match write {
                    None => return Some(Fault::Stale),
                    Some(write) => Some(write.end),
                }
            };
            if later(end, Effect::Put) {
                Some(Fault::Stale)
            } else if later(end, Effect::Delete) || later(end, Effect::SawAbsent) {
                Some(Fault::Resurrected)
            } else {
                None
            }
        }
    }
}

fn write_of(request: &Request) -> Option<Write<'_>> {
    let end = match request.outcome {
        Outcome::Acknowledged => request.end,
        Outcome::Unknown => request.end.saturating_add(UNKNOWN_SETTLES),
        Outcome::Refused => return None,
    };
    let effect = match (request.op, request.outcome, request.effect) {
        (Op::Read, _, _) | (Op::Update, Outcome::Acknowledged, false) => return None,
        (Op::Delete, Outcome::Acknowledged, false) => Effect::SawAbsent,
        (Op::Delete, _, _) => Effect::Delete,
        (Op::Create | Op::Upsert | Op::Update, _, _) => Effect::Put,
    };
    Some(Write {
        id: &request.id,
        effect,
        start: request.start,
        end,
        acknowledged: request.outcome == Outcome::Acknowledged,
    })
}

/// The final rows by key.
pub type Rows = HashMap<i64, Content>;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    pub acknowledged: u64,
    pub missing: u64,
    pub stale: u64,
    pub resurrected: u64,
    /// The first faults, as sentences.
    pub examples: Vec<String>,
    pub unknown: u64,
    pub requests: u64,
    pub failed: u64,
    pub failed_in_kills: u64,
    pub requests_in_kills: u64,
    /// Why requests failed, with counts.
    pub reasons: BTreeMap<String, u64>,
    /// Longest time without an acknowledged write, and when it began, in milliseconds: a flip stops writes, and reads that
    /// go on meanwhile would hide it.
    pub longest_pause_ms: u64,
    pub longest_pause_at_ms: u64,
    /// The same, leaving out the windows after kills.
    pub longest_pause_outside_kills_ms: u64,
}

const EXAMPLES: usize = 20;

pub fn audit(record: &Record, rows: &Rows, marks: &[Mark]) -> Report {
    let mut report = Report::default();
    faults(record, rows, &mut report);
    // In microseconds of the record's clock.
    let kills: Vec<(u64, u64)> = marks
        .iter()
        .map(|mark| {
            (
                mark.unix_ms.saturating_sub(record.unix_ms) * 1000,
                mark.seconds * 1_000_000,
            )
        })
        .map(|(at, length)| (at, at + length))
        .collect();
    requests(record, &kills, &mut report);
    report
}

fn faults(record: &Record, rows: &Rows, report: &mut Report) {
    let by_id = record.by_id();
    let mut writes: HashMap<i64, Vec<Write<'_>>> = HashMap::new();
    for request in &record.requests {
        if let (Some(key), Some(write)) = (request.key, write_of(request)) {
            writes.entry(key).or_default().push(write);
        }
    }
    // A create that was not answered has no key of its own until a row with its content is found; one row only.
    let mut homes: HashSet<&str> = HashSet::new();
    let mut keys: Vec<i64> = rows.keys().copied().collect();
    keys.sort_unstable();
    for key in keys {
        let id = rows[&key].write_id.as_str();
        if let Some(request) = by_id.get(id)
            && request.key.is_none()
            && homes.insert(id)
            && let Some(write) = write_of(request)
        {
            writes.entry(key).or_default().push(write);
        }
    }
    let mut keys: Vec<i64> = rows
        .keys()
        .copied()
        .chain(writes.keys().copied())
        .chain(1..=record.seeded)
        .collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let initial = (1..=record.seeded).contains(&key).then(|| seed_id(key));
        let row = rows.get(&key);
        let history = writes.get(&key).map_or(&[][..], Vec::as_slice);
        let mut fault = judge(initial.as_deref(), history, row.map(|row| row.write_id.as_str()));
        if let Some(row) = row
            && fault.is_none()
            && *row != Content::of(&row.write_id)
        {
            fault = Some(Fault::Stale);
        }
        let Some(fault) = fault else { continue };
        match fault {
            Fault::Missing => report.missing += 1,
            Fault::Stale => report.stale += 1,
            Fault::Resurrected => report.resurrected += 1,
        }
        if report.examples.len() < EXAMPLES {
            report.examples.push(example(key, fault, row, history));
        }
    }
}

fn example(key: i64, fault: Fault, row: Option<&Content>, history: &[Write<'_>]) -> String {
    let found = row.map_or("no row".to_owned(), |row| format!("content of {}", row.write_id));
    let mut last: Vec<&Write<'_>> = history.iter().collect();
    last.sort_by_key(|write| write.start);
    let last: Vec<String> = last
        .iter()
        .rev()
        .take(4)
        .rev()
        .map(|write| {
            let unknown = if write.acknowledged { "" } else { "?" };
            format!(
                "{:?} {} [{}..{}{unknown} ms]",
                write.effect,
                write.id,
                write.start / 1000,
                write.end / 1000
            )
        })
        .collect();
    format!(
        "order {key} is {fault:?}: found {found}; its last writes: {}",
        last.join(", ")
    )
}

fn requests(record: &Record, kills: &[(u64, u64)], report: &mut Report) {
    let killed = |at: u64| kills.iter().any(|(from, to)| (*from..*to).contains(&at));
    let mut successes = vec![0, record.ended];
    for request in &record.requests {
        report.requests += 1;
        let in_kill = killed(request.start) || killed(request.end);
        report.requests_in_kills += u64::from(in_kill);
        if request.outcome == Outcome::Acknowledged {
            if request.op != Op::Read {
                report.acknowledged += 1;
                successes.push(request.end);
            }
            continue;
        }
        report.unknown += u64::from(request.outcome == Outcome::Unknown && request.op != Op::Read);
        report.failed += 1;
        report.failed_in_kills += u64::from(in_kill);
        *report
            .reasons
            .entry(request.why.clone().unwrap_or_else(|| "no reason given".into()))
            .or_default() += 1;
    }
    successes.sort_unstable();
    for pair in successes.windows(2) {
        let pause = (pair[1] - pair[0]) / 1000;
        if pause > report.longest_pause_ms {
            (report.longest_pause_ms, report.longest_pause_at_ms) = (pause, pair[0] / 1000);
        }
        if !killed(pair[0]) && !killed(pair[1]) {
            report.longest_pause_outside_kills_ms = report.longest_pause_outside_kills_ms.max(pause);
        }
    }
}

impl Report {
    pub fn clean(&self) -> bool {
        self.missing == 0 && self.stale == 0 && self.resurrected == 0
    }

    /// Failed requests outside the kills, in percent of the requests there.
    pub fn failed_percent(&self) -> f64 {
        let requests = self.requests - self.requests_in_kills;
        if requests == 0 {
            0.0
        } else {
            100.0 * (self.failed - self.failed_in_kills) as f64 / requests as f64
        }
    }
}

impl std::fmt::Display for Report {
    /// The last line is the verdict, and has one form.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for example in &self.examples {
            writeln!(f, "  {example}")?;
        }
        for (reason, count) in &self.reasons {
            writeln!(f, "  {count} failed: {reason}")?;
        }
        writeln!(f, "outcome unknown: {}", self.unknown)?;
        writeln!(
            f,
            "failed requests: {} of {}, {} of them within the kills; outside {:.3} %",
            self.failed,
            self.requests,
            self.failed_in_kills,
            self.failed_percent()
        )?;
        writeln!(
            f,
            "longest pause: {} ms (at {:.1} s), outside the kills {} ms",
            self.longest_pause_ms,
            self.longest_pause_at_ms as f64 / 1000.0,
            self.longest_pause_outside_kills_ms
        )?;
        write!(
            f,
            "audit: {} acknowledged, {} missing, {} stale, {} resurrected",
            self.acknowledged, self.missing, self.stale, self.resurrected
        )
    }
}

#[cfg(test)]
mod tests;
