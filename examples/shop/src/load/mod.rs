//! The load: orders created, changed, deleted and read at a steady rate, a share of the writes on a few hot keys, and
//! every request recorded with what is known of its outcome.

mod client;
mod plan;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{Mutex, Semaphore, mpsc};

pub use client::{Client, Reply};
pub use plan::{Known, Plan, Step};

use crate::record::{Line, Op, Outcome, RecordError, Request, Writer, unix_ms};

#[derive(Debug, Clone)]
pub struct Options {
    pub urls: Vec<String>,
    /// A connection per request: behind one service address every replica then gets its share.
    pub new_connections: bool,
    /// Writes per second; a fifth as many reads come on top.
    pub rate: f64,
    pub concurrency: usize,
    pub duration: Option<Duration>,
    pub stop_file: Option<PathBuf>,
    pub record: PathBuf,
    /// Orders 1..=seeded are there already.
    pub seeded: i64,
    pub hot_keys: i64,
    pub hot_percent: u8,
    pub timeout: Duration,
    pub seed: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("{0}")]
    Options(String),
    #[error("the HTTP client cannot be built: {0}")]
    Client(String),
}

/// Reads per write.
const READS: f64 = 0.2;

/// Runs until the duration is over, the stop file appears or `stop` is told; the record is whole when it returns.
pub async fn run(options: Options, stop: tokio_util::sync::CancellationToken) -> Result<Summary, LoadError> {
    if options.seeded < options.hot_keys || options.urls.is_empty() || options.rate <= 0.0 {
        return Err(LoadError::Options(format!(
            "expected at least one --url, a --rate above 0 and at least {} seeded orders for the hot keys; found {} urls, rate {}, {} seeded",
            options.hot_keys,
            options.urls.len(),
            options.rate,
            options.seeded
        )));
    }
    let run = format!("{:08x}", rand::rng().random::<u32>());
    let mut writer = Writer::create(&options.record)?;
    writer.append(&Line::Begin {
        run: run.clone(),
        unix_ms: unix_ms(),
        seeded: options.seeded,
    })?;
    writer.flush()?;
    let began = Instant::now();

    let (send, mut receive) = mpsc::unbounded_channel::<Request>();
    let recorder = tokio::task::spawn_blocking(move || -> Result<(Writer, u64), RecordError> {
        let mut count = 0;
        while let Some(request) = receive.blocking_recv() {
            let mut batch = vec![request];
            while let Ok(request) = receive.try_recv() {
                batch.push(request);
            }
            for request in batch {
                writer.append(&Line::Request(request))?;
                count += 1;
            }
            writer.flush()?;
        }
        Ok((writer, count))
    });

    let client =
        Arc::new(Client::new(&options.urls, options.timeout, options.new_connections).map_err(LoadError::Client)?);
    let known = Arc::new(Mutex::new(Known::new(options.seeded)));
    let plan = Plan::new(options.hot_keys, options.seeded, options.hot_percent);
    let places = Arc::new(Semaphore::new(options.concurrency));
    let summary = Arc::new(Counts::default());
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / (options.rate * (1.0 + READS))));
    // When the service pauses the load waits for it and then goes on at its rate: a burst afterwards tests nothing.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut number = 0_u64;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        if options.duration.is_some_and(|duration| began.elapsed() >= duration)
            || (number.is_multiple_of(16) && options.stop_file.as_ref().is_some_and(|path| path.exists()))
        {
            break;
        }
        let Ok(place) = places.clone().acquire_owned().await else {
            break;
        };
        number += 1;
        let step = {
            let known = known.lock().await;
            if random.random_bool(READS / (1.0 + READS)) {
                Step {
                    op: Op::Read,
                    key: Some(plan.any_key(&known, &mut random)),
                }
            } else {
                plan.next(&known, &mut random)
            }
        };
        let id = format!("{run}-{number}");
        let (client, known, send, summary) = (client.clone(), known.clone(), send.clone(), summary.clone());
        tokio::spawn(async move {
            let start = began.elapsed().as_micros() as u64;
            let reply = client.request(&step, &id).await;
            let end = began.elapsed().as_micros() as u64;
            if step.op == Op::Create
                && let (Outcome::Acknowledged, Some(key)) = (reply.outcome, reply.key)
            {
                known.lock().await.created(key);
            }
            summary.count(reply.outcome);
            let key = reply.key.or(step.key);
            let Reply {
                outcome, effect, why, ..
            } = reply;
            // The recorder ends only after the last sender, so nothing is dropped here.
            let _ = send.send(Request {
                id,
                key,
                op: step.op,
                start,
                end,
                outcome,
                effect,
                why,
            });
            drop(place);
        });
    }
    // Every request in flight ends by itself, by its own timeout at the latest.
    let _ = places.acquire_many(options.concurrency as u32).await;
    drop(send);
    let ended = began.elapsed().as_micros() as u64;
    let (mut writer, requests) = recorder
        .await
        .map_err(|error| LoadError::Options(format!("the recorder ended early: {error}")))??;
    writer.append(&Line::End { at: ended, requests })?;
    writer.flush()?;
    Ok(summary.summary(began.elapsed()))
}

#[derive(Debug, Default)]
struct Counts {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
}

/// What a run did, reads included.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    pub acknowledged: u64,
    pub refused: u64,
    pub unknown: u64,
    pub took: Duration,
}

impl Counts {
    fn count(&self, outcome: Outcome) {
        match outcome {
            Outcome::Acknowledged => &self.acknowledged,
            Outcome::Refused => &self.refused,
            Outcome::Unknown => &self.unknown,
        }
        .fetch_add(1, Ordering::Relaxed);
    }

    fn summary(&self, took: Duration) -> Summary {
        Summary {
            acknowledged: self.acknowledged.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            unknown: self.unknown.load(Ordering::Relaxed),
            took,
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let requests = self.acknowledged + self.refused + self.unknown;
        write!(
            f,
            "load: {requests} requests in {:.1} s ({:.0}/s): {} acknowledged, {} refused, {} outcome unknown",
            self.took.as_secs_f64(),
            requests as f64 / self.took.as_secs_f64().max(0.001),
            self.acknowledged,
            self.refused,
            self.unknown
        )
    }
}
