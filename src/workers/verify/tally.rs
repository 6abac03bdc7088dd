//! The counts of a full pass: what became of every key that was settled, what is still owed, and the verdict at the end.

use super::differences::{Difference, Differences};
use super::events::event;
use super::repair::{Mismatch, Settled, Verdict};
use crate::api::task::VerifyReport;
use crate::control::verified::Found;
use crate::control::{MOST_LETTERS, MismatchEvent};
use crate::rows::Key;
use crate::workers::error::WorkError;

/// Counts of one pass over one table.
pub struct Tally<'d> {
    table: String,
    /// What the task's status says.
    pub report: VerifyReport,
    /// Keys to be settled once more at the end: the follower was newer, or did not take the row yet.
    pub postponed: Vec<Key>,
    repair: bool,
    max_deletes: u64,
    /// Rows of the follower that the base does not have; no more than may be deleted, and one.
    surplus: Vec<Settled>,
    surplus_rows: u64,
    /// Keys that writers held, or changed, through all attempts.
    locked: u64,
    /// Rows that the follower does not take: those that can be dead letters, how many there are, the first of them with
    /// the reason.
    refusals: Vec<(Key, String)>,
    /// The same with what was seen of them: told at the end, because until then they are tried again.
    untold: Vec<Settled>,
    refused: u64,
    refusal: Option<String>,
    /// Differences that this pass may not repair.
    left: u64,
    /// Of them, those that this worker found.
    found: u64,
    /// Differences to be written down.
    events: Vec<MismatchEvent>,
    differences: Option<&'d mut dyn Differences>,
    /// Why a difference that was met at the end could not be told.
    silent: Option<WorkError>,
}

impl<'d> Tally<'d> {
    /// `began`: the base's clock when the pass began.
    pub fn new(
        table: &str,
        began: String,
        repair: bool,
        max_deletes: u64,
        differences: Option<&'d mut dyn Differences>,
    ) -> Self {
        Self {
            table: table.to_owned(),
            report: VerifyReport {
                verified_through: Some(began),
                ..VerifyReport::default()
            },
            postponed: Vec::new(),
            repair,
            max_deletes,
            surplus: Vec::new(),
            surplus_rows: 0,
            locked: 0,
            refusals: Vec::new(),
            untold: Vec::new(),
            refused: 0,
            refusal: None,
            left: 0,
            found: 0,
            events: Vec::new(),
            differences,
            silent: None,
        }
    }

    /// Adds what earlier workers of this pass have verified.
    pub fn go_on_from(&mut self, found: &Found) {
        let count = |counted: i64| counted.unsigned_abs();
        self.report.compared += count(found.base_rows) + count(found.follower_rows);
        self.report.target_missing += count(found.target_missing);
        self.report.neq += count(found.neq);
        self.report.base_missing += count(found.base_missing);
        self.report.repaired += count(found.repaired);
        self.left += count(found.target_missing + found.neq + found.base_missing - found.repaired);
    }

    /// `surplus_counts`: this is where a row that the base lacks is met for good. `last`: what is not settled now stays
    /// outstanding.
    pub fn count(&mut self, settled: Settled, surplus_counts: bool, last: bool) -> Result<(), WorkError> {
        match &settled.verdict {
            Verdict::Equal => {}
            // Deleted from the base since it was read: the second direction meets it, if the follower still has it.
            Verdict::Left(Mismatch::BaseMissing) if !surplus_counts => {}
            Verdict::Left(Mismatch::BaseMissing) if self.repair => {
                self.surplus_rows += 1;
                if self.surplus_rows <= self.max_deletes {
                    self.surplus.push(settled);
                } else {
                    // Nothing of it will be deleted: what was kept for that is told now.
                    for kept in std::mem::take(&mut self.surplus) {
                        self.tell(&kept)?;
                        self.write_down(&kept);
                    }
                    self.tell(&settled)?;
                    self.write_down(&settled);
                }
            }
            Verdict::Repaired(kind) => {
                self.kind(*kind);
                self.report.repaired += 1;
                self.tell(&settled)?;
            }
            Verdict::Left(kind) => {
                self.kind(*kind);
                self.left += 1;
                self.found += 1;
                self.tell(&settled)?;
                self.write_down(&settled);
            }
            // A unique value may be free once the row that holds it is settled.
            Verdict::FollowerNewer | Verdict::Refused(_) if !last => self.postponed.push(settled.key),
            Verdict::Refused(why) => {
                self.refused += 1;
                self.report.rejects += 1;
                self.refusal
                    .get_or_insert_with(|| format!("key {}: {why}", settled.key));
                if self.refusals.len() <= MOST_LETTERS {
                    self.refusals.push((settled.key.clone(), why.clone()));
                    self.untold.push(settled);
                } else {
                    // Too many to be tried again: it stays refused.
                    self.tell(&settled)?;
                }
            }
            Verdict::FollowerNewer | Verdict::Locked => {
                self.locked += 1;
                self.found += 1;
                self.write_down(&settled);
            }
        }
        Ok(())
    }

    fn write_down(&mut self, settled: &Settled) {
        self.events.extend(event(&settled.key, &settled.verdict, &settled.seen));
    }

    /// Differences that are not written down yet.
    pub fn take_events(&mut self) -> Vec<MismatchEvent> {
        std::mem::take(&mut self.events)
    }

    /// Differences that this worker found and did not repair at once: what a budget is spent on. Not rows that the base
    /// lacks: they wait for the pass's end, which a budget would never let come, and `maxDeletes` bounds them.
    pub fn spent(&self) -> u64 {
        self.found
    }

    /// Rows that the follower did not take, for another attempt; they count no more.
    pub fn take_refusals(&mut self) -> Vec<(Key, String)> {
        let taken = self.refusals.len() as u64;
        self.report.rejects -= taken;
        self.refused -= taken;
        // Those beyond the most that are tried again are refused whatever becomes of the others.
        if self.refused == 0 {
            self.refusal = None;
        }
        self.untold.clear();
        std::mem::take(&mut self.refusals)
    }

    /// Rows that the follower does not take; every so many of them are dead letters now.
    pub fn buried(&mut self, letters: u64) {
        let letters = letters.min(self.refused);
        self.refused -= letters;
        self.report.rejects -= letters;
        self.report.dead_letters += letters;
    }

    /// Rows that the follower does not take, so far.
    pub fn refusals(&self) -> &[(Key, String)] {
        &self.refusals
    }

    fn tell(&mut self, settled: &Settled) -> Result<(), WorkError> {
        let (Some(differences), Some(difference)) = (&mut self.differences, Difference::of(&self.table, settled))
        else {
            return Ok(());
        };
        differences
            .add(&difference)
            .map_err(|why| WorkError::permanent("ExportFailed", why))
    }

    fn kind(&mut self, kind: Mismatch) {
        match kind {
            Mismatch::TargetMissing => self.report.target_missing += 1,
            Mismatch::Neq => self.report.neq += 1,
            Mismatch::BaseMissing => self.report.base_missing += 1,
            Mismatch::Misplaced => self.report.misplaced += 1,
        }
    }

    /// The rows of the follower that the pass may delete now that it knows how many there are; `None` when it may not.
    pub fn may_be_deleted(&mut self) -> Option<Vec<Key>> {
        if self.repair && self.surplus_rows <= self.max_deletes {
            self.surplus_rows = 0;
            Some(
                std::mem::take(&mut self.surplus)
                    .into_iter()
                    .map(|one| one.key)
                    .collect(),
            )
        } else {
            None
        }
    }

    /// The report while the pass goes on.
    pub fn interim(&mut self) -> &VerifyReport {
        self.report.outstanding =
            self.left + self.locked + self.refused + self.surplus_rows + self.postponed.len() as u64;
        &self.report
    }

    /// The report once nothing is left to be settled.
    pub fn end(&mut self) -> &VerifyReport {
        for refused in std::mem::take(&mut self.untold) {
            if let Err(error) = self.tell(&refused) {
                self.silent.get_or_insert(error);
            }
        }
        if self.surplus_rows > 0 {
            self.report.base_missing += self.surplus_rows;
            self.left += self.surplus_rows;
            self.report.deletes_held = self.surplus_rows;
            self.surplus_rows = 0;
        }
        self.report.outstanding = self.left + self.locked + self.refused;
        &self.report
    }

    /// What the pass came to.
    pub fn verdict(&self) -> Result<(), WorkError> {
        let table = &self.table;
        let report = &self.report;
        if let Some(error) = &self.silent {
            return Err(WorkError::permanent("ExportFailed", error.to_string()));
        }
        if report.deletes_held > 0 {
            return Err(WorkError::permanent(
                "TooManyDeletes",
                format!(
                    "table {table}: {} rows of the follower have no counterpart in the base, more than verify.maxDeletes \
                     ({}); nothing was deleted. If these rows may go, raise spec.verify.maxDeletes; if not, find out who \
                     wrote them, or whether spec.tables[].where is what you meant",
                    report.deletes_held, self.max_deletes
                ),
            ));
        }
        if self.left > 0 {
            return Err(WorkError::permanent(
                "DifferencesFound",
                format!(
                    "table {table}: {} target_missing, {} neq, {} base_missing, {} misplaced are left, because this verify only \
                     reports; repair them, or let a verify do it (spec.verify.repair: Automatic; from a shell: --repair)",
                    report.target_missing, report.neq, report.base_missing, report.misplaced
                ),
            ));
        }
        if let Some(refusal) = self.refusal.as_ref().filter(|_| self.refused > 0) {
            return Err(WorkError::permanent(
                "RowsRefused",
                format!(
                    "table {table}: {} rows of the base cannot be put into the follower, the first: {refusal}; correct the rows \
                     or the follower's column: the next pass tries them again",
                    self.refused
                ),
            ));
        }
        if self.locked > 0 {
            return Err(WorkError::Waiting {
                reason: "RowsLocked",
                message: format!(
                    "table {table}: {} differing rows were locked or kept changing through all attempts; the next pass \
                     looks at them again. Look for idle transactions on both databases",
                    self.locked
                ),
            });
        }
        Ok(())
    }
}
