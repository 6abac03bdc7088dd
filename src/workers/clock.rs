//! Arithmetic on the databases' clocks, which are canonical UTC texts of one length and therefore compare as texts.

use super::error::WorkError;
use crate::rows::Value;
use crate::store::{Database, Engine};
use jiff::civil::DateTime;
use std::time::Duration;

/// Before every row.
pub const BEGINNING: &str = "1000-01-01 00:00:00.000000";
/// No open transaction is believed to be older: a session that was forgotten must not make every window a full pass.
const OLDEST: Duration = Duration::from_hours(1);

fn parsed(time: &str) -> Result<DateTime, WorkError> {
    time.parse().map_err(|_| {
        WorkError::permanent(
            "ClockUnreadable",
            format!("expected a UTC time as YYYY-MM-DD HH:MM:SS.ffffff from the database, found {time:?}"),
        )
    })
}

/// How long after the year 1970 began.
pub fn since_beginning(time: &str) -> Result<Duration, WorkError> {
    let since = parsed(time)?.duration_since(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0));
    Ok(Duration::try_from(since).unwrap_or_default())
}

/// A time earlier by `duration`.
pub fn minus(time: &str, duration: Duration) -> Result<String, WorkError> {
    let earlier = parsed(time)?.saturating_sub(duration);
    let text = earlier.strftime("%Y-%m-%d %H:%M:%S.%6f").to_string();
    Ok(if text.as_str() < BEGINNING || text.starts_with('-') {
        BEGINNING.to_owned()
    } else {
        text
    })
}

/// How long the longest open transaction of the database has lasted, as far as this account may see it.
pub async fn longest_open(database: &Database) -> Duration {
    let sql = match database.engine() {
        Engine::MySql => {
            "SELECT CAST(COALESCE(MAX(TIMESTAMPDIFF(SECOND, trx_started, NOW())), 0) AS SIGNED) \
             FROM information_schema.innodb_trx"
        }
        Engine::Postgres => {
            "SELECT CAST(COALESCE(EXTRACT(EPOCH FROM MAX(clock_timestamp() - xact_start)), 0) AS BIGINT) \
             FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
        }
        // Whoever writes to a file is alone while it does.
        Engine::Sqlite => return Duration::ZERO,
    };
    match database
        .query(sql, &[])
        .await
        .ok()
        .and_then(|rows| rows.into_iter().flatten().next())
    {
        Some(Value::Int(seconds)) if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()).min(OLDEST),
        // Without the privilege to see it, the lag and the next full pass are what is left.
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_read_to_the_microsecond() {
        let at = since_beginning("1970-01-02 00:00:01.000002").unwrap();
        assert_eq!(
            at,
            Duration::from_hours(24) + Duration::from_secs(1) + Duration::from_micros(2)
        );
        assert!(since_beginning("now").is_err());
    }

    #[test]
    fn times_stay_comparable_as_texts() {
        let time = "2026-03-01 00:00:00.250000";
        assert_eq!(
            minus(time, Duration::from_millis(500)).unwrap(),
            "2026-02-28 23:59:59.750000"
        );
        assert_eq!(minus(time, Duration::ZERO).unwrap(), time);
        assert_eq!(minus(BEGINNING, Duration::from_mins(1)).unwrap(), BEGINNING);
        assert!(minus("yesterday", Duration::ZERO).is_err());
    }
}
