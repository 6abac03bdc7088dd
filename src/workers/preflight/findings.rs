//! What a preflight found: one entry per check, so that a person reads everything that is wrong at once.

use crate::api::task::Check;
use crate::workers::error::WorkError;

/// The reason of a check that found nothing.
const PASSED: &str = "Passed";

#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

#[derive(Debug)]
struct Finding {
    name: String,
    ok: bool,
    reason: &'static str,
    message: String,
}

impl Findings {
    /// As it has to be.
    pub fn passed(&mut self, name: impl Into<String>, message: impl Into<String>) {
        self.add(name.into(), true, PASSED, message.into());
    }

    /// No obstacle, but somebody should know.
    pub fn warned(&mut self, name: impl Into<String>, reason: &'static str, message: impl Into<String>) {
        self.add(name.into(), true, reason, message.into());
    }

    /// In the way; the message has the remedy.
    pub fn failed(&mut self, name: impl Into<String>, reason: &'static str, message: impl Into<String>) {
        self.add(name.into(), false, reason, message.into());
    }

    fn add(&mut self, name: String, ok: bool, reason: &'static str, message: String) {
        self.0.push(Finding {
            name,
            ok,
            reason,
            message,
        });
    }

    /// Takes over another list as it is.
    pub fn all_of(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Takes over what is in the way by another list and was not said yet.
    pub fn failures_of(&mut self, other: Self) {
        for finding in other.0.into_iter().filter(|finding| !finding.ok) {
            if !self.0.iter().any(|said| said.message == finding.message) {
                self.0.push(finding);
            }
        }
    }

    /// How much is in the way so far.
    pub fn failures(&self) -> usize {
        self.0.iter().filter(|finding| !finding.ok).count()
    }

    pub fn all_ok(&self) -> bool {
        self.0.iter().all(|finding| finding.ok)
    }

    pub fn checks(&self) -> Vec<Check> {
        self.0
            .iter()
            .map(|finding| Check {
                name: finding.name.clone(),
                ok: finding.ok,
                reason: finding.reason.to_owned(),
                message: finding.message.clone(),
            })
            .collect()
    }

    /// One sentence for a preflight that found nothing in the way; otherwise the first thing that is.
    pub fn verdict(&self) -> Result<String, WorkError> {
        if let Some(first) = self.0.iter().find(|finding| !finding.ok) {
            let more = self.0.iter().filter(|finding| !finding.ok).count() - 1;
            let message = match more {
                0 => first.message.clone(),
                _ => format!("{} (and {more} more, see status.checks)", first.message),
            };
            return Err(WorkError::permanent(first.reason, message));
        }
        let notes = self.0.iter().filter(|finding| finding.reason != PASSED).count();
        Ok(match notes {
            0 => format!("{} checks passed", self.0.len()),
            _ => format!(
                "{} checks passed, {notes} of them with a note in status.checks",
                self.0.len()
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_the_verdict_and_the_others_are_counted() {
        let mut findings = Findings::default();
        findings.passed("Connection source/main", "MariaDB answers");
        findings.warned("Version orders", "VersionCoarse", "seconds");
        assert_eq!(
            findings.verdict().unwrap(),
            "2 checks passed, 1 of them with a note in status.checks"
        );
        findings.failed("Key orders", "KeyMissing", "no key");
        findings.failed("Rows orders", "TargetNotEmpty", "rows");
        let error = findings.verdict().unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("KeyMissing", false));
        assert_eq!(error.to_string(), "no key (and 1 more, see status.checks)");
        assert_eq!(findings.checks().iter().filter(|check| check.ok).count(), 2);
    }
}
