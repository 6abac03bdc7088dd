//! The result of a local run, table by table: what a person reads on standard output, or JSON for a program.

use super::Exit;
use crate::workers::{TaskContext, WorkError};
use serde::Serialize;
use std::time::Instant;

/// What a table came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// Every row was copied.
    Copied,
    /// Every row is equal, or was made so.
    Equal,
    /// Both sides have the same number of rows in every range; what the rows hold was not looked at.
    SameCounts,
    /// The run came to its end, and something differs or could not be carried.
    Different,
    /// The run did not come to its end.
    Unfinished,
}

impl Verdict {
    /// What the shell is told.
    pub fn exit(self) -> Exit {
        match self {
            Self::Copied | Self::Equal | Self::SameCounts => Exit::Equal,
            Self::Different => Exit::Different,
            Self::Unfinished => Exit::Unfinished,
        }
    }
}

/// One table's result.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Name in the source.
    pub table: String,
    /// What it came to.
    pub verdict: Verdict,
    /// Rows that a copy has read, those that it could not carry among them; rows that a verify has compared, both sides
    /// together.
    pub rows: u64,
    /// Of the base's rows, those that could not be carried, or that the follower does not take.
    pub rejects: u64,
    /// Wall-clock time.
    pub seconds: f64,
    /// Rows of the base that the follower lacked.
    pub target_missing: u64,
    /// Rows with different content.
    pub neq: u64,
    /// Rows of the follower that the base lacks.
    pub base_missing: u64,
    /// Rows that the follower had in another shard than they belong to.
    pub misplaced: u64,
    /// Differences that were repaired.
    pub repaired: u64,
    /// Differences that are left.
    pub outstanding: u64,
    /// Why, as one CamelCase word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Outcome {
    /// `done`: what it means that the work came to its end without an error.
    pub fn new(
        table: &str,
        context: &TaskContext,
        result: Result<(), WorkError>,
        done: Verdict,
        began: Instant,
    ) -> Self {
        let status = context.status.current();
        let report = status.verify.unwrap_or_default();
        let progress = status.progress.unwrap_or_default();
        let verdict = match &result {
            Ok(()) => done,
            Err(error) if came_to_an_end(error) => Verdict::Different,
            Err(_) => Verdict::Unfinished,
        };
        let error = result.err();
        Self {
            table: table.to_owned(),
            verdict,
            rows: progress.rows,
            rejects: progress.rejects + report.rejects,
            seconds: began.elapsed().as_secs_f64(),
            target_missing: report.target_missing,
            neq: report.neq,
            base_missing: report.base_missing,
            misplaced: report.misplaced,
            repaired: report.repaired,
            outstanding: report.outstanding,
            reason: error.as_ref().map(|error| error.reason().to_owned()),
            message: error.map(|error| error.to_string()),
        }
    }
}

/// Whether every row was looked at, although the answer is no.
fn came_to_an_end(error: &WorkError) -> bool {
    matches!(
        error.reason(),
        "DifferencesFound" | "TooManyDeletes" | "RowsRefused" | "RowsRejected" | "CountsDiffer"
    )
}

/// Prints the results to standard output.
pub fn print(outcomes: &[Outcome], json: bool) {
    if json {
        // Plain texts and numbers: there is nothing in it that could not be written.
        println!("{}", serde_json::to_string_pretty(outcomes).unwrap_or_default());
        return;
    }
    for outcome in outcomes {
        println!("{}", sentence(outcome));
    }
}

fn sentence(outcome: &Outcome) -> String {
    let Outcome {
        table, rows, seconds, ..
    } = outcome;
    let rate = *rows as f64 / seconds.max(0.001);
    let took = format!("{rows} rows in {seconds:.1} s, {rate:.0}/s");
    let mut found = format!(
        "{} target_missing, {} neq, {} base_missing",
        outcome.target_missing, outcome.neq, outcome.base_missing
    );
    // Of no interest where nothing is sharded.
    if outcome.misplaced > 0 {
        found = format!("{found}, {} misplaced", outcome.misplaced);
    }
    if outcome.rejects > 0 {
        found = format!("{found}, {} refused", outcome.rejects);
    }
    let why = outcome.message.as_deref().unwrap_or_default();
    match outcome.verdict {
        Verdict::Copied => format!("{table}: copied ({took})"),
        Verdict::Equal if outcome.repaired > 0 => {
            format!("{table}: equal, {} rows repaired ({found}; {took})", outcome.repaired)
        }
        Verdict::Equal => format!("{table}: equal ({took})"),
        Verdict::SameCounts => {
            format!("{table}: the same number of rows on both sides, which is all that was looked at ({took})")
        }
        Verdict::Different if outcome.reason.as_deref() == Some("CountsDiffer") => {
            format!("{table}: different ({took})\n  {why}")
        }
        Verdict::Different if outcome.reason.as_deref() == Some("RowsRejected") => {
            let carried = rows.saturating_sub(outcome.rejects);
            format!(
                "{table}: {carried} of {rows} rows copied, {} could not be carried ({took})\n  {why}",
                outcome.rejects
            )
        }
        Verdict::Different => format!("{table}: different: {found} ({took})\n  {why}"),
        Verdict::Unfinished => format!("{table}: not finished ({took})\n  {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(verdict: Verdict, reason: &str, rejects: u64) -> Outcome {
        Outcome {
            table: "customers".to_owned(),
            verdict,
            rows: 5_000,
            rejects,
            seconds: 2.0,
            target_missing: 0,
            neq: 0,
            base_missing: 0,
            misplaced: 0,
            repaired: 0,
            outstanding: rejects,
            reason: Some(reason.to_owned()),
            message: Some("table customers: why".to_owned()),
        }
    }

    #[test]
    fn a_copy_says_how_many_rows_it_could_not_carry() {
        let text = sentence(&outcome(Verdict::Different, "RowsRejected", 3));
        let expected = "customers: 4997 of 5000 rows copied, 3 could not be carried (";
        assert!(
            text.starts_with(expected) && text.ends_with("\n  table customers: why"),
            "{text}"
        );
    }

    #[test]
    fn a_verify_says_what_it_found() {
        let text = sentence(&outcome(Verdict::Different, "RowsRefused", 2));
        let expected = "customers: different: 0 target_missing, 0 neq, 0 base_missing, 2 refused (";
        assert!(text.starts_with(expected), "{text}");
        let text = sentence(&outcome(Verdict::Different, "DifferencesFound", 0));
        assert!(!text.contains("refused"), "{text}");
    }
}
