//! The account of a pass: phase, totals, one sentence on where it is, one on what it waits for, and the conditions,
//! each with reason and message. What is said here is all that people and gates of other tools see.

use jiff::civil::DateTime;

use super::decision::{Account, Finding, Truth};
use super::flip::Shown;
use super::gates::{self, Gate};
use super::position::Position;
use super::rungs::target_only;
use super::stance::Stance;
use super::{Outlook, Pass, failed, throttled};
use crate::api::conditions::{ConditionType, Reason};
use crate::api::migration::Acknowledge;
use crate::api::phase::Phase;
use crate::api::status::RowTotals;
use crate::api::task::{TaskKind, VerifyScope};
use crate::api::tuning::RollbackPolicy;
use crate::words::Direction;

pub(super) fn account(pass: &Pass, outlook: &Outlook) -> Account {
    let control = pass.position.control();
    let phase = pass.position.rung(pass.world).or(pass.world.previous.phase);
    let mut account = Account {
        phase,
        epoch: control.map_or(pass.world.previous.epoch, |control| control.epoch),
        mode: control.map(|control| control.mode).or(pass.world.previous.mode),
        secondary: control
            .map(|control| control.secondary)
            .or(pass.world.previous.secondary_writes),
        flip: outlook.flip.clone(),
        ..Account::default()
    };
    if matches!(pass.position, Position::Untouched) {
        account.epoch = 0;
        account.mode = None;
        account.secondary = None;
    }
    totals(pass, &mut account);
    conditions(pass, outlook, &mut account);
    account
}

fn totals(pass: &Pass, account: &mut Account) {
    let Some(control) = pass.position.control() else { return };
    if account.phase == Some(Phase::SourceOnly) && pass.position.at_rest() {
        return;
    }
    let mut rows = RowTotals::default();
    let mut copies = 0;
    for task in pass
        .world
        .tasks
        .iter()
        .filter(|task| task.is(TaskKind::Copy) && task.spec.round == control.round)
    {
        if let Some(progress) = &task.status.progress {
            copies += 1;
            rows.copied = rows.copied.saturating_add(progress.rows);
            rows.total = rows.total.saturating_add(progress.rows_total.max(progress.rows));
            rows.rejects = rows.rejects.saturating_add(progress.rejects);
        }
    }
    let mut lag = None;
    for task in pass.world.tasks.iter().filter(|task| task.is(TaskKind::Verify)) {
        let Some(report) = &task.status.verify else { continue };
        rows.repaired = rows.repaired.saturating_add(report.repaired);
        rows.outstanding = rows.outstanding.saturating_add(report.outstanding);
        rows.rejects = rows.rejects.saturating_add(report.rejects);
        if task.spec.scope == Some(VerifyScope::Full) {
            rows.compared = rows.compared.saturating_add(report.compared);
        } else if let (Some(at), Some(through)) = (&task.status.reported_at, &report.verified_through)
            && let Ok(through) = through.parse::<DateTime>()
            && let Ok(through) = through.to_zoned(jiff::tz::TimeZone::UTC)
        {
            let seconds = at.0.duration_since(through.timestamp()).as_secs().max(0);
            lag = Some(lag.map_or(seconds, |lag: i64| lag.max(seconds)));
        }
    }
    account.lag = lag.map(|seconds| gates::human(std::time::Duration::from_secs(seconds.unsigned_abs())));
    let copied = gates::copied(pass.migration, pass.world, control).passed();
    account.progress = if copied {
        Some("100%".to_owned())
    } else if copies > 0 && rows.total > 0 {
        Some(format!("{}%", (rows.copied.saturating_mul(100) / rows.total).min(99)))
    } else {
        None
    };
    account.rows = Some(rows);
}

fn conditions(pass: &Pass, outlook: &Outlook, account: &mut Account) {
    headline(pass, outlook, account);
    let findings = &mut account.findings;
    if pass.preflight.is_some() || pass.position == Position::Untouched {
        findings.push(from_gate(
            ConditionType::SchemaCompatible,
            gates::preflight(pass.preflight),
            Reason::PreflightPassed,
            "databases, privileges, tables and columns are as they have to be",
            Truth::Unknown,
        ));
    }
    let known = pass
        .world
        .previous
        .conditions
        .iter()
        .any(|was| was.type_ == ConditionType::FlipAcknowledged.as_str());
    if !(known && matches!(pass.position, Position::Unread(_))) {
        acknowledged(pass, outlook, findings);
    }
    if let Position::Strange(gate) | Position::Unproved { gate, .. } = &pass.position {
        withdraw(pass, gate, findings);
        account.rest_stands = true;
        return;
    }
    let Some(rung) = pass.position.rung(pass.world) else {
        account.rest_stands = true;
        return;
    };
    evidence(pass, rung, findings);
    findings.extend(throttled::throttled(pass.world, rung));
    way_back(pass, rung, findings);
    if matches!(rung, Phase::TargetOnly | Phase::Archived) {
        ends(pass, rung, findings);
    }
    if let Some((task, _, message)) = failed(pass.world).find(|(_, reason, _)| reason == "SchemaDrift") {
        let text = format!("{message} (task {})", task.name);
        findings.push(finding(
            ConditionType::SchemaDrift,
            Truth::True,
            Reason::Worker("SchemaDrift".to_owned()),
            text,
        ));
    }
    match &outlook.shown {
        Some(Shown::Reverted(why)) => {
            findings.push(finding(
                ConditionType::FlipReverted,
                Truth::True,
                Reason::PutBack,
                why.clone(),
            ));
        }
        Some(Shown::Right) => findings.push(finding(
            ConditionType::FlipReverted,
            Truth::False,
            Reason::AsFlipped,
            format!(
                "ConfigMap {} shows what it was flipped to",
                pass.migration.application.config_map
            ),
        )),
        _ => {}
    }
}

/// Ready, Reconciling, Stalled, and the two sentences.
fn headline(pass: &Pass, outlook: &Outlook, account: &mut Account) {
    let desired = pass.desired;
    let rung = account.phase;
    let place = rung.map_or_else(|| "the rung is not known yet".to_owned(), |rung| format!("at {rung}"));
    let mode = match (&account.mode, account.epoch) {
        (Some(mode), epoch) if epoch > 0 => match account.secondary {
            Some(crate::words::SecondaryWrites::Strict) => format!(" ({mode} strict, epoch {epoch})"),
            _ => format!(" ({mode}, epoch {epoch})"),
        },
        _ => String::new(),
    };
    let gate = stuck(pass).unwrap_or_else(|| outlook.gate.clone());
    let (ready, reconciling, stalled) = match &gate {
        Gate::Pass if pass.world.deleting.is_some() => {
            account.message = format!("{place}{mode}, being deleted");
            (
                (
                    Truth::False,
                    Reason::Deleting,
                    "the resource is being deleted".to_owned(),
                ),
                (
                    Truth::True,
                    Reason::Deleting,
                    "the application is left in a safe mode first".to_owned(),
                ),
                not_stalled(),
            )
        }
        Gate::Pass if rung == Some(desired) && outlook.next.is_none() => {
            let holds = if pass.suspended {
                Reason::Suspended
            } else {
                Reason::Holding
            };
            account.message = format!("{place}{mode}, as desired");
            let text = format!("holding {place}, as desired");
            (
                (Truth::True, holds.clone(), text.clone()),
                (Truth::False, holds, text),
                not_stalled(),
            )
        }
        Gate::Pass if pass.suspended => {
            account.message = format!("{place}{mode}, suspended on the way to {desired}");
            account.waiting_for = Some("spec.suspend to be false again".to_owned());
            let text = format!("suspended {place}; set spec.suspend to false to go on to {desired}");
            (
                (Truth::False, Reason::Suspended, text.clone()),
                (Truth::False, Reason::Suspended, text),
                not_stalled(),
            )
        }
        Gate::Pass => {
            let down = rung.is_some_and(|rung| !desired.at_least(rung));
            let reason = if down { Reason::SteppingBack } else { Reason::Climbing };
            let next = outlook
                .next
                .map_or_else(String::new, |next| format!(", next {}", next.words()));
            account.message = format!("{place}{mode}, going to {desired}{next}");
            let text = account.message.clone();
            (
                (Truth::False, reason.clone(), text.clone()),
                (Truth::True, reason, text),
                not_stalled(),
            )
        }
        Gate::Hold(reason, why) => {
            account.message = format!("{place}{mode}, {}", going(rung, desired));
            account.waiting_for = Some(told(outlook, why));
            let stalled = match &outlook.overdue {
                Some(overdue) => (Truth::True, Reason::AcknowledgementTimeout, overdue.clone()),
                None => not_stalled(),
            };
            let suspended = pass.suspended && !matches!(pass.position, Position::Flight(_));
            let word = if suspended { Reason::Suspended } else { reason.clone() };
            let moving = if suspended { Truth::False } else { Truth::True };
            (
                (Truth::False, word.clone(), why.clone()),
                (moving, word, told(outlook, why)),
                stalled,
            )
        }
        Gate::Stop(reason, why) => {
            account.message = format!("{place}{mode}, {}", going(rung, desired));
            account.waiting_for = Some(format!("somebody to act: {why}"));
            let text = why.clone();
            (
                (Truth::False, reason.clone(), text.clone()),
                (Truth::False, reason.clone(), text.clone()),
                (Truth::True, reason.clone(), text),
            )
        }
    };
    for (kind, (truth, reason, message)) in [
        (ConditionType::Ready, ready),
        (ConditionType::Reconciling, reconciling),
        (ConditionType::Stalled, stalled),
    ] {
        account.findings.push(finding(kind, truth, reason, message));
    }
}

/// A conflict or a failed preflight stops the way up, even where the rung itself holds.
fn stuck(pass: &Pass) -> Option<Gate> {
    let stops = |gate: Gate| matches!(gate, Gate::Stop(..)).then_some(gate);
    stops(gates::alone(pass.world)).or_else(|| {
        let at_foot = pass
            .position
            .rung(pass.world)
            .is_none_or(|rung| rung == Phase::SourceOnly);
        at_foot.then(|| stops(gates::preflight(pass.preflight))).flatten()
    })
}

fn going(rung: Option<Phase>, desired: Phase) -> String {
    if rung == Some(desired) {
        "at work".to_owned()
    } else {
        format!("on the way to {desired}")
    }
}

fn told(outlook: &Outlook, why: &str) -> String {
    match outlook.flip.as_ref().and_then(|flip| flip.given_up.as_ref()) {
        Some(given_up) => format!("{why} (the previous flip was given up: {given_up})"),
        None => why.to_owned(),
    }
}

fn not_stalled() -> (Truth, Reason, String) {
    (
        Truth::False,
        Reason::Progressing,
        "it goes on by itself as soon as what it waits for is there".to_owned(),
    )
}

fn acknowledged(pass: &Pass, outlook: &Outlook, findings: &mut Vec<Finding>) {
    let kind = ConditionType::FlipAcknowledged;
    findings.push(match &pass.position {
        Position::Untouched => finding(
            kind,
            Truth::Unknown,
            Reason::NoFlipYet,
            "the application has not been flipped yet".to_owned(),
        ),
        Position::At {
            stance,
            control,
            journal,
        } => finding(
            kind,
            Truth::True,
            Reason::Acknowledged,
            format!(
                "{} epoch {} ({}), as of {} by the base's clock",
                match &pass.migration.application.acknowledge {
                    Acknowledge::Instances { .. } => "every instance follows",
                    // Nobody has looked.
                    Acknowledge::Delay { .. } =>
                        "the delay has passed after which acknowledge.by: Delay takes every instance to follow",
                },
                control.epoch,
                stance.words(),
                journal.acked_at.as_deref().unwrap_or("an unknown time")
            ),
        ),
        Position::Flight(flight) => {
            let late = outlook
                .overdue
                .as_ref()
                .map(|why| (Reason::AcknowledgementTimeout, why.clone()));
            let (reason, message) = late.unwrap_or_else(|| match &outlook.gate {
                Gate::Hold(reason, why) | Gate::Stop(reason, why) => (reason.clone(), why.clone()),
                Gate::Pass => (
                    Reason::ClosingEpoch,
                    format!("epoch {} is being closed", flight.control.epoch),
                ),
            });
            finding(kind, Truth::False, reason, message)
        }
        Position::Unread(_) | Position::Adopt(_) | Position::Unproved { .. } | Position::Strange(_) => finding(
            kind,
            Truth::Unknown,
            Reason::JournalUnknown,
            "the databases' journal is not known yet".to_owned(),
        ),
    });
}

/// What was proved is about rows that may be gone.
fn withdraw(pass: &Pass, gate: &Gate, findings: &mut Vec<Finding>) {
    let (Gate::Hold(reason, why) | Gate::Stop(reason, why)) = gate else {
        return;
    };
    for kind in [
        ConditionType::CopyComplete,
        ConditionType::Verified,
        ConditionType::ReverseVerified,
        ConditionType::RollbackReady,
    ] {
        let previous = &pass.world.previous.conditions;
        if previous.iter().any(|was| was.type_ == kind.as_str()) {
            findings.push(finding(kind, Truth::Unknown, reason.clone(), why.clone()));
        }
    }
}

/// What has been proved about the rows.
fn evidence(pass: &Pass, rung: Phase, findings: &mut Vec<Finding>) {
    let Some(control) = pass.position.control() else { return };
    let (migration, world) = (pass.migration, pass.world);
    match rung {
        Phase::SourceOnly => {}
        Phase::SourceFirst => {
            let copied = gates::copied(migration, world, control);
            let done = copied.passed();
            findings.push(from_gate(
                ConditionType::CopyComplete,
                copied,
                Reason::Copied,
                "all rows are copied",
                Truth::False,
            ));
            let verified = if done {
                gates::fully_verified(migration, world, control, Direction::Forward)
            } else {
                Gate::Hold(Reason::NotStarted, "the full verify begins after the copy".to_owned())
            };
            let text = "the target equals the source: every row compared, nothing outstanding";
            findings.push(from_gate(
                ConditionType::Verified,
                verified,
                Reason::Verified,
                text,
                Truth::False,
            ));
        }
        Phase::TargetFirst | Phase::TargetOnly | Phase::Archived => {
            findings.push(finding(
                ConditionType::CopyComplete,
                Truth::True,
                Reason::Copied,
                "all rows were copied before the target became the base".to_owned(),
            ));
            let verified = if rung == Phase::TargetFirst {
                gates::fully_verified(migration, world, control, Direction::Reverse)
            } else {
                Gate::Pass
            };
            let text = if rung == Phase::TargetFirst {
                "the source equals the target: every row compared, nothing outstanding"
            } else {
                "the source equalled the target when the application left it"
            };
            findings.push(from_gate(
                ConditionType::ReverseVerified,
                verified,
                Reason::Verified,
                text,
                Truth::False,
            ));
        }
    }
}

fn way_back(pass: &Pass, rung: Phase, findings: &mut Vec<Finding>) {
    let kind = ConditionType::RollbackReady;
    let returns = gates::reversible(pass.migration, pass.preflight);
    match (&pass.position, rung) {
        (_, Phase::SourceOnly) => {}
        (_, Phase::SourceFirst | Phase::TargetFirst) if !returns.passed() => {
            findings.push(from_gate(kind, returns, Reason::WayBackOpen, "", Truth::False));
        }
        (_, Phase::SourceFirst) => {
            let text = "going back to SourceOnly is possible at any time".to_owned();
            findings.push(finding(kind, Truth::True, Reason::WayBackOpen, text));
        }
        (
            Position::At {
                stance: Stance::TargetFirst,
                control,
                journal,
            },
            Phase::TargetFirst,
        ) => {
            let gate = gates::fully_verified(pass.migration, pass.world, control, Direction::Reverse)
                .and_then(|| gates::clean(pass.migration, pass.world, control, journal, pass.now));
            if pass.migration.rollback == RollbackPolicy::None {
                let text = "spec.rollback is None: nothing is promised about the way back".to_owned();
                findings.push(finding(kind, Truth::False, Reason::RollbackNotKept, text));
            } else {
                let text = "going back to SourceFirst is possible now";
                findings.push(from_gate(kind, gate, Reason::WayBackOpen, text, Truth::False));
            }
        }
        (_, Phase::TargetFirst) => {
            let text = "a flip is under way".to_owned();
            findings.push(finding(kind, Truth::False, Reason::AwaitingAcknowledgement, text));
        }
        (_, Phase::TargetOnly | Phase::Archived) => {
            let text = "the source is no longer kept in step".to_owned();
            findings.push(finding(kind, Truth::False, Reason::NoWayBack, text));
        }
    }
}

fn ends(pass: &Pass, rung: Phase, findings: &mut Vec<Finding>) {
    let archived = rung == Phase::Archived;
    let fenced = match &pass.position {
        Position::At { journal, .. } if journal.fenced || archived => Gate::Pass,
        _ => target_only::fenced(pass.world),
    };
    let text = "the source's tables refuse writes";
    findings.push(from_gate(
        ConditionType::SourceFenced,
        fenced,
        Reason::Fenced,
        text,
        Truth::False,
    ));
    let report = target_only::the(pass.world, TaskKind::Archive).and_then(|task| task.status.archive.as_ref());
    let text = report.map_or_else(
        || "the source is archived".to_owned(),
        |report| {
            let rows: u64 = report.tables.iter().map(|table| table.rows).sum();
            let deleted = if report.deleted {
                "; the source's rows are deleted"
            } else {
                ""
            };
            format!(
                "{rows} rows of {} tables are archived and were compared with the source{deleted}",
                report.tables.len()
            )
        },
    );
    let gate = if archived {
        Gate::Pass
    } else {
        target_only::archived(pass.world)
    };
    if archived || pass.desired == Phase::Archived {
        findings.push(from_gate(
            ConditionType::Archived,
            gate,
            Reason::Archived,
            &text,
            Truth::False,
        ));
    }
}

fn finding(kind: ConditionType, truth: Truth, reason: Reason, message: String) -> Finding {
    Finding {
        kind,
        truth,
        reason,
        message,
    }
}

/// Open gate: true. Closed for now: `closed`. Closed until somebody acts: false.
fn from_gate(kind: ConditionType, gate: Gate, open: Reason, text: &str, closed: Truth) -> Finding {
    match gate {
        Gate::Pass => finding(kind, Truth::True, open, text.to_owned()),
        Gate::Hold(reason, why) => finding(kind, closed, reason, why),
        Gate::Stop(reason, why) => finding(kind, Truth::False, reason, why),
    }
}
