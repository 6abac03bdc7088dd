//! The application: writes at a steady rate through the dual-write library, most of them on a few hot rows, inserts under
//! generated keys and deletes among them, each recorded with what was answered.

use crate::history::{Effect, Write};
use datamigration::dualwrite::{ApplyError, DualWrite, WriteError};
use datamigration::rows::{Key, Value};
use datamigration::store::Engine;
use futures::FutureExt;
use rand::Rng;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Writes that are under way at the same time, at most.
const AT_ONCE: u32 = 48;
/// Rows that take most of the writes.
const HOT: i64 = 20;

/// What the load has done so far; shared with whoever watches it.
#[derive(Clone)]
pub struct Load {
    library: DualWrite,
    seeded: i64,
    began: Instant,
    done: Arc<Mutex<Vec<Write>>>,
    created: Arc<Mutex<Vec<i64>>>,
    refused: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Create,
    Update(i64),
    Upsert(i64),
    Delete(i64),
}

impl Load {
    pub fn new(library: DualWrite, seeded: i64) -> Self {
        Self {
            library,
            seeded,
            began: Instant::now(),
            done: Arc::default(),
            created: Arc::default(),
            refused: Arc::default(),
        }
    }

    pub fn writes(&self) -> Vec<Write> {
        self.done.lock().unwrap().clone()
    }

    /// Why writes failed or were refused: nothing of them happened.
    pub fn refused(&self) -> Vec<String> {
        self.refused.lock().unwrap().clone()
    }

    /// Microseconds since the load began.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Writes until it is stopped; ends when the last write is answered.
    pub async fn run(&self, rate: f64, stop: &CancellationToken) {
        let places = Arc::new(Semaphore::new(AT_ONCE as usize));
        // What could not begin in time begins as soon as it can: users do not go away because the shop is slow.
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        let mut number = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let place = places.clone().acquire_owned().await.unwrap();
            let (step, load) = (self.step(), self.clone());
            number += 1;
            tokio::spawn(async move {
                load.write(number, step).await;
                drop(place);
            });
        }
        let _all = places.acquire_many(AT_ONCE).await.unwrap();
    }

    fn step(&self) -> Step {
        let mut random = rand::rng();
        let die = random.random_range(0..100);
        if random.random_bool(0.7) {
            // Spread over the table, so that every chunk has some.
            let key = 1 + random.random_range(0..HOT) * (self.seeded / HOT);
            return match die {
                0..55 => Step::Update(key),
                55..80 => Step::Upsert(key),
                _ => Step::Delete(key),
            };
        }
        let created = self.created.lock().unwrap();
        let key = if !created.is_empty() && random.random_bool(0.5) {
            created[random.random_range(0..created.len())]
        } else {
            random.random_range(1..=self.seeded)
        };
        match die {
            0..40 => Step::Create,
            40..70 => Step::Update(key),
            70..85 => Step::Upsert(key),
            _ => Step::Delete(key),
        }
    }

    async fn write(&self, number: u64, step: Step) {
        let start = self.now();
        let answer = match step {
            Step::Create => self.create(number).await.map(|key| (key, 1)),
            Step::Update(key) => {
                let sql = "UPDATE orders SET note = ?, amount = CAST(? AS DECIMAL(12,2)) WHERE id = ?";
                self.change(key, sql, vec![note(number), amount(number), Value::Int(key)])
                    .await
            }
            Step::Upsert(key) => self.upsert(number, key).await,
            Step::Delete(key) => {
                self.change(key, "DELETE FROM orders WHERE id = ?", vec![Value::Int(key)])
                    .await
            }
        };
        let (acknowledged, key) = match (answer, step) {
            // It found no row.
            (Ok((_, 0)), Step::Update(_) | Step::Delete(_)) => return,
            (Ok((key, _)), _) => (true, key),
            (Err(WriteError::OutcomeUnknown(_)), Step::Update(key) | Step::Upsert(key) | Step::Delete(key)) => {
                (false, key)
            }
            (Err(error), _) => return self.refused.lock().unwrap().push(error.to_string()),
        };
        let effect = match step {
            Step::Delete(_) => Effect::Gone,
            _ => Effect::Put(number),
        };
        let end = self.now();
        if matches!(step, Step::Create) {
            self.created.lock().unwrap().push(key);
        }
        self.done.lock().unwrap().push(Write {
            key,
            start,
            end,
            effect,
            acknowledged,
        });
    }

    async fn create(&self, number: u64) -> Result<i64, WriteError> {
        self.library
            .write_new("orders", move |session| {
                async move {
                    let sql = "INSERT INTO orders (customer, amount, note) VALUES (?, CAST(? AS DECIMAL(12,2)), ?)";
                    let binds = [Value::text("new"), amount(number), note(number)];
                    let id = session.insert_generated("orders", sql, "id", &binds).await?;
                    id.as_i64().ok_or_else(|| ApplyError::application("no number"))
                }
                .boxed()
            })
            .await
    }

    async fn upsert(&self, number: u64, key: i64) -> Result<(i64, u64), WriteError> {
        self.library
            .write("orders", [Key(vec![Value::Int(key)])], move |session| {
                async move {
                    let conflict = match session.engine() {
                        Engine::MySql => "ON DUPLICATE KEY UPDATE note = VALUES(note), amount = VALUES(amount)",
                        Engine::Postgres | Engine::Sqlite => {
                            "ON CONFLICT (id) DO UPDATE SET note = excluded.note, amount = excluded.amount"
                        }
                    };
                    let sql = format!(
                        "INSERT INTO orders (id, customer, amount, note) VALUES (?, ?, CAST(? AS DECIMAL(12,2)), ?) {conflict}"
                    );
                    let binds = [Value::Int(key), Value::text("again"), amount(number), note(number)];
                    Ok((key, session.execute(&sql, &binds).await?))
                }
                .boxed()
            })
            .await
    }

    async fn change(&self, key: i64, sql: &'static str, binds: Vec<Value>) -> Result<(i64, u64), WriteError> {
        self.library
            .write("orders", [Key(vec![Value::Int(key)])], move |session| {
                let binds = binds.clone();
                async move { Ok((key, session.execute(sql, &binds).await?)) }.boxed()
            })
            .await
    }
}

/// The content that names its write.
fn note(number: u64) -> Value {
    Value::text(format!("write {number}"))
}

fn amount(number: u64) -> Value {
    match number % 5 {
        0 => Value::Null,
        _ => Value::text(format!("{}.{:02}", number % 100_000, number % 100)),
    }
}
