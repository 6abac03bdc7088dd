//! The only writer of a DataMigration's status: computed whole from the account, compared without times, written only
//! when it differs, and the transitions told as events afterwards.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::Condition;
use crate::api::conditions::ConditionType;
use crate::api::status::{DataMigrationStatus, FlipStatus};
use crate::decide::{Account, Finding};
use crate::platform::Event;

/// The status that says this account.
pub fn status(
    account: &Account,
    previous: &DataMigrationStatus,
    generation: i64,
    now: Timestamp,
) -> DataMigrationStatus {
    let Account {
        phase,
        epoch,
        mode,
        secondary,
        message,
        waiting_for,
        progress,
        lag,
        rows,
        flip,
        findings,
        rest_stands,
    } = account.clone();
    DataMigrationStatus {
        observed_generation: generation,
        phase,
        epoch,
        mode,
        secondary_writes: secondary,
        message: Some(message).filter(|text| !text.is_empty()),
        waiting_for,
        progress,
        lag,
        rows,
        flip,
        conditions: conditions(&findings, &previous.conditions, rest_stands, generation, now),
    }
}

/// Conditions in their fixed order; a time changes only with the truth.
fn conditions(
    findings: &[Finding],
    previous: &[Condition],
    rest_stands: bool,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for kind in ConditionType::ALL {
        let Some(finding) = findings.iter().find(|finding| finding.kind == kind) else {
            let was = previous.iter().find(|condition| condition.type_ == kind.as_str());
            conditions.extend(was.filter(|_| rest_stands).cloned());
            continue;
        };
        let status = finding.truth.as_str().to_owned();
        let before = previous
            .iter()
            .find(|condition| condition.type_ == kind.as_str() && condition.status == status);
        conditions.push(Condition {
            type_: kind.as_str().to_owned(),
            status,
            reason: finding.reason.to_string(),
            // The API holds 32,768 bytes; a report of many tables is cut, not refused.
            message: finding.message.chars().take(4096).collect(),
            observed_generation: Some(generation),
            last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time.clone()),
        });
    }
    conditions
}

/// Whether two statuses say the same, whenever they were written.
pub fn same(a: &DataMigrationStatus, b: &DataMigrationStatus) -> bool {
    let plain = |status: &DataMigrationStatus| {
        let mut status = status.clone();
        for condition in &mut status.conditions {
            condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
        }
        // Of a flip's times only their presence says something; the first one seen stays.
        if let Some(FlipStatus {
            started_at,
            configured_at,
            acknowledged_at,
            put_back_at: _,
            ..
        }) = &mut status.flip
        {
            *started_at = Time(Timestamp::UNIX_EPOCH);
            for at in [configured_at, acknowledged_at] {
                *at = at.as_ref().map(|_| Time(Timestamp::UNIX_EPOCH));
            }
        }
        status
    };
    plain(a) == plain(b)
}

/// What people should hear of: rungs, flips, and conditions that turned.
pub fn events(before: &DataMigrationStatus, after: &DataMigrationStatus) -> Vec<Event> {
    let mut events = Vec::new();
    let mut tell = |warning: bool, reason: &str, action: String, note: String| {
        events.push(Event {
            warning,
            reason: reason.to_owned(),
            action,
            note,
        });
    };
    if after.epoch > before.epoch
        && let Some(mode) = after.mode
    {
        let strict = after.secondary_writes.map_or("", |secondary| match secondary {
            crate::words::SecondaryWrites::Strict => " (strict)",
            crate::words::SecondaryWrites::Lenient => "",
        });
        tell(
            false,
            "Flipping",
            format!("FlipToEpoch{}", after.epoch),
            format!("epoch {}: {mode}{strict}", after.epoch),
        );
    }
    if let (Some(now), true) = (after.phase, after.phase != before.phase) {
        let note = match before.phase {
            Some(was) => format!("at {now}, coming from {was} (epoch {})", after.epoch),
            None => format!("at {now} (epoch {})", after.epoch),
        };
        tell(false, "PhaseReached", format!("Reach{now}AtEpoch{}", after.epoch), note);
    }
    for condition in &after.conditions {
        let was = before.conditions.iter().find(|was| was.type_ == condition.type_);
        let turned = was.is_none_or(|was| was.status != condition.status);
        let stalled_anew = condition.type_ == ConditionType::Stalled.as_str()
            && condition.status == "True"
            && was.is_some_and(|was| was.reason != condition.reason);
        if !(turned || stalled_anew) || !telling(condition, was) {
            continue;
        }
        let bad = matches!(condition.type_.as_str(), "Stalled" | "FlipReverted" | "SchemaDrift")
            == (condition.status == "True")
            && condition.status != "Unknown";
        // Ready turning false is the beginning of work, not a warning; Stalled says when it is more.
        // Being held back is what was asked for, unless nobody can tell the load.
        let warning = match condition.type_.as_str() {
            "Ready" => false,
            "Throttled" => condition.reason == "MeasureUnreadable",
            _ => bad,
        };
        let phase = after.phase.map_or("Unknown", crate::api::Phase::as_str);
        let action = format!("{}Turned{}At{phase}{}", condition.type_, condition.status, after.epoch);
        tell(
            warning,
            &condition.reason,
            action,
            format!("{}={}: {}", condition.type_, condition.status, condition.message),
        );
    }
    events
}

/// A condition that appears as "not yet" is no news, nor is one that goes away quietly.
fn telling(condition: &Condition, was: Option<&Condition>) -> bool {
    match condition.type_.as_str() {
        "Reconciling" => false,
        // Of what is wrong Stalled tells.
        "SchemaCompatible" | "FlipAcknowledged" | "Ready" | "CopyComplete" | "Verified" | "ReverseVerified"
        | "RollbackReady" | "SourceFenced" | "Archived" => condition.status == "True",
        "Stalled" | "FlipReverted" | "SchemaDrift" | "Throttled" => {
            condition.status == "True" || was.is_some_and(|was| was.status == "True")
        }
        _ => condition.status != "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Phase;
    use crate::api::conditions::Reason;
    use crate::decide::Truth;
    use crate::words::{Mode, SecondaryWrites};

    fn account(truth: Truth) -> Account {
        Account {
            phase: Some(Phase::SourceFirst),
            epoch: 1,
            mode: Some(Mode::SrcFirst),
            secondary: Some(SecondaryWrites::Lenient),
            findings: vec![Finding {
                kind: ConditionType::CopyComplete,
                truth,
                reason: Reason::Copied,
                message: "all rows are copied".to_owned(),
            }],
            ..Account::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let first = status(&account(Truth::False), &DataMigrationStatus::default(), 1, at(10));
        let second = status(&account(Truth::False), &first, 2, at(20));
        assert_eq!(second.conditions[0].last_transition_time.0, at(10));
        assert_eq!(second.conditions[0].observed_generation, Some(2));
        let third = status(&account(Truth::True), &second, 2, at(30));
        assert_eq!(third.conditions[0].last_transition_time.0, at(30));
    }

    #[test]
    fn the_same_account_later_is_no_change() {
        let first = status(&account(Truth::True), &DataMigrationStatus::default(), 1, at(10));
        let later = status(&account(Truth::True), &DataMigrationStatus::default(), 1, at(99));
        assert!(same(&first, &later));
        assert!(
            !same(&first, &status(&account(Truth::True), &first, 2, at(10))),
            "a new generation is to be seen"
        );
    }

    #[test]
    fn transitions_are_told_once() {
        let nothing = DataMigrationStatus::default();
        let begun = status(&account(Truth::False), &nothing, 1, at(10));
        let reasons = |events: Vec<Event>| events.into_iter().map(|event| event.reason).collect::<Vec<_>>();
        assert_eq!(reasons(events(&nothing, &begun)), ["Flipping", "PhaseReached"]);
        let done = status(&account(Truth::True), &begun, 1, at(20));
        assert_eq!(reasons(events(&begun, &done)), ["Copied"]);
        assert_eq!(events(&done, &done), []);
    }
}
