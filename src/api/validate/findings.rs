//! What is wrong with a manifest, collected, and the small checks that several fields share.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// Path of the field, such as `spec.tables[0].key`.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Collects everything that is wrong, so that people need not find it piece by piece.
#[derive(Default)]
pub(super) struct Findings(pub(super) Vec<Invalid>);

impl Findings {
    pub(super) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Invalid {
            field: field.into(),
            message: message.into(),
        });
    }

    pub(super) fn not_yet(&mut self, field: impl Into<String>, value: &str, instead: &str) {
        self.add(
            field,
            format!("{value} is not supported by this version of datamigration; {instead}"),
        );
    }

    pub(super) fn duration(&mut self, field: &str, text: Option<&String>, default: Duration) -> Duration {
        let Some(text) = text else { return default };
        if let Some(duration) = parse_duration(text) {
            duration
        } else {
            self.add(
                field,
                format!("{text:?} is not a duration; write it like 30s, 5m, 1h30m or 7d"),
            );
            default
        }
    }
}

pub(super) fn identifier(found: &mut Findings, field: &str, text: &str) {
    if text.is_empty() || text.len() > 63 || text.chars().any(char::is_control) {
        found.add(
            field,
            format!("{text:?} is not a name of 1 to 63 bytes without control characters"),
        );
    }
}

pub(super) fn duplicates<'a>(found: &mut Findings, field: &str, what: &str, names: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            found.add(field, format!("{what} {name:?} stands there twice; keep one"));
        }
    }
}

/// Reads `1h30m`, `90s`, `250ms`, `7d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let amount: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match rest.get(..unit)? {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(amount.checked_mul(millis)?))?;
        rest = rest.get(unit..)?;
    }
    Some(total)
}
