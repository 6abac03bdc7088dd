//! The shop's SQL, written once: every statement runs on the side that is the base, under that side's names.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use datamigration::dualwrite::{ApplyError, DualWrite, ReadError, Session, WriteError};
use datamigration::rows::{Key, Value};
use datamigration::store::Engine;
use futures::FutureExt;
use serde::{Deserialize, Serialize};

use crate::content::Content;

const TABLE: &str = "orders";

/// An order as it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub id: i64,
    #[serde(flatten)]
    pub content: Content,
    pub created_at: String,
    pub updated_at: String,
}

/// The orders, through the library.
#[derive(Debug, Clone)]
pub struct Orders {
    library: DualWrite,
    clock: std::sync::Arc<AtomicI64>,
}

fn key(id: i64) -> Key {
    Key(vec![Value::Int(id)])
}

/// `user_id, amount, note, status, write_id` in this order.
fn values(content: &Content) -> Vec<Value> {
    vec![
        Value::Int(content.user_id),
        Value::text(content.amount.as_str()),
        Value::text(content.note.as_str()),
        Value::text(content.status.as_str()),
        Value::text(content.write_id.as_str()),
    ]
}

const DECIMAL: &str = "CAST(? AS DECIMAL(12,2))";

/// A text as a time without a zone.
fn time(engine: Engine) -> &'static str {
    match engine {
        Engine::MySql => "CAST(? AS DATETIME(3))",
        _ => "CAST(? AS TIMESTAMP(3))",
    }
}

/// Something to begin the version with; the library stamps it.
fn now(engine: Engine) -> &'static str {
    match engine {
        Engine::MySql => "UTC_TIMESTAMP(6)",
        _ => "(now() AT TIME ZONE 'UTC')",
    }
}

impl Orders {
    pub fn new(library: DualWrite, clock_shift_ms: i64) -> Self {
        Self {
            library,
            clock: std::sync::Arc::new(AtomicI64::new(clock_shift_ms)),
        }
    }

    pub fn library(&self) -> &DualWrite {
        &self.library
    }

    /// Shifts this replica's application clock. Only `created_at` takes its value from it: versions never do.
    pub fn shift_clock(&self, ms: i64) {
        self.clock.store(ms, Ordering::Relaxed);
    }

    fn application_clock(&self) -> String {
        let shift = self.clock.load(Ordering::Relaxed);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_millis() as i64
            + shift;
        let time = jiff::Timestamp::from_millisecond(now).unwrap_or_default();
        time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
    }

    /// An order under a generated key; its id.
    pub async fn create(&self, content: Content) -> Result<i64, WriteError> {
        let created_at = self.application_clock();
        self.library
            .write_new(TABLE, move |session| {
                let (content, created_at) = (content.clone(), created_at.clone());
                async move {
                    let sql = format!(
                        "INSERT INTO {} (user_id, amount, note, status, write_id, created_at, updated_at) \
                         VALUES (?, {DECIMAL}, ?, ?, ?, {}, {})",
                        session.table(TABLE)?,
                        time(session.engine()),
                        now(session.engine())
                    );
                    let mut binds = values(&content);
                    binds.push(Value::text(created_at));
                    let id = session.insert_generated(TABLE, &sql, "id", &binds).await?;
                    id.as_i64()
                        .ok_or_else(|| ApplyError::application(format!("the generated key is {id:?}, not a number")))
                }
                .boxed()
            })
            .await
    }

    /// Sets an order under a key that the caller gives, whether it is there or not.
    pub async fn upsert(&self, id: i64, content: Content) -> Result<(), WriteError> {
        let created_at = self.application_clock();
        self.library
            .write(TABLE, [key(id)], move |session| {
                let (content, created_at) = (content.clone(), created_at.clone());
                async move {
                    if update(session, id, &content).await? {
                        return Ok(());
                    }
                    let (engine, table) = (session.engine(), session.table(TABLE)?);
                    let conflict = match engine {
                        Engine::MySql => {
                            "ON DUPLICATE KEY UPDATE user_id = VALUES(user_id), amount = VALUES(amount), \
                             note = VALUES(note), status = VALUES(status), write_id = VALUES(write_id)"
                        }
                        _ => {
                            "ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, amount = excluded.amount, \
                             note = excluded.note, status = excluded.status, write_id = excluded.write_id"
                        }
                    };
                    let sql = format!(
                        "INSERT INTO {table} (user_id, amount, note, status, write_id, created_at, updated_at, id) \
                         VALUES (?, {DECIMAL}, ?, ?, ?, {}, {}, ?) {conflict}",
                        time(engine),
                        now(engine)
                    );
                    let mut binds = values(&content);
                    binds.extend([Value::text(created_at), Value::Int(id)]);
                    session.execute(&sql, &binds).await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }

    /// Changes an order; whether it was there.
    pub async fn update(&self, id: i64, content: Content) -> Result<bool, WriteError> {
        self.library
            .write(TABLE, [key(id)], move |session| {
                let content = content.clone();
                async move { update(session, id, &content).await }.boxed()
            })
            .await
    }

    /// Deletes an order; whether it was there.
    pub async fn delete(&self, id: i64) -> Result<bool, WriteError> {
        self.library
            .write(TABLE, [key(id)], move |session| {
                async move {
                    let sql = format!("DELETE FROM {} WHERE id = ?", session.table(TABLE)?);
                    Ok(session.execute(&sql, &[Value::Int(id)]).await? > 0)
                }
                .boxed()
            })
            .await
    }

    pub async fn read(&self, id: i64) -> Result<Option<Order>, ReadError> {
        self.library
            .read(move |session| {
                async move {
                    let sql = format!(
                        "SELECT user_id, amount, note, status, write_id, created_at, updated_at FROM {} WHERE id = ?",
                        session.table(TABLE)?
                    );
                    let rows = session.query(&sql, &[Value::Int(id)]).await?;
                    Ok(rows.first().map(|row| Order {
                        id,
                        content: content(row),
                        created_at: text(row.get(5)),
                        updated_at: text(row.get(6)),
                    }))
                }
                .boxed()
            })
            .await
    }
}

async fn update(session: &mut Session, id: i64, content: &Content) -> Result<bool, ApplyError> {
    let table = session.table(TABLE)?;
    // MySQL counts changed rows: whether the order is there is asked, under the lock that the library took.
    if session
        .query(
            &format!("SELECT id FROM {table} WHERE id = ? FOR UPDATE"),
            &[Value::Int(id)],
        )
        .await?
        .is_empty()
    {
        return Ok(false);
    }
    let sql =
        format!("UPDATE {table} SET user_id = ?, amount = {DECIMAL}, note = ?, status = ?, write_id = ? WHERE id = ?");
    let mut binds = values(content);
    binds.push(Value::Int(id));
    session.execute(&sql, &binds).await?;
    Ok(true)
}

/// The content in a row that begins with `user_id, amount, note, status, write_id`.
pub fn content(row: &[Value]) -> Content {
    Content {
        user_id: row.first().and_then(Value::as_i64).unwrap_or_default(),
        amount: two_digits(&text(row.get(1))),
        note: text(row.get(2)),
        status: text(row.get(3)),
        write_id: text(row.get(4)),
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::Text(text)) => text.clone(),
        Some(Value::Int(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// A canonical decimal has no trailing zeros; amounts have two digits.
fn two_digits(amount: &str) -> String {
    let (whole, part) = amount.split_once('.').unwrap_or((amount, ""));
    format!("{whole}.{part:0<2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_spelled_with_two_digits() {
        assert_eq!(
            [two_digits("7"), two_digits("7.5"), two_digits("7.05")],
            ["7.00", "7.50", "7.05"]
        );
    }
}
