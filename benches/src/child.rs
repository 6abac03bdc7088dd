//! This binary as a child: one assignment on its input, one line of JSON on its output.

use crate::machine;
use crate::measure;
use crate::ours::Ours;
use crate::raw;
use crate::reading;
use datamigration::api::task::TaskKind;
use datamigration::workers::Exit;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;

/// The argument that makes it one.
pub const WORD: &str = "child";

#[derive(Serialize, Deserialize)]
pub enum Assignment {
    Prepare(Ours),
    Copy(Ours),
    /// So many processes at the same copy, as the pods of a Job are.
    Pods(Ours, usize),
    Verify(Ours),
    /// The copier's reads alone, over so many connections.
    Read(Ours, usize),
    /// Raw loads: into this database, from these files, on so many connections.
    Insert(Raw),
    CopyIn(Raw),
}

#[derive(Serialize, Deserialize)]
pub struct Raw {
    pub url: String,
    pub table: String,
    pub parts: Vec<PathBuf>,
    pub lanes: usize,
}

impl Assignment {
    /// The command and its input: URLs carry passwords and stay out of arguments.
    pub fn command(&self) -> (Command, String) {
        let mut command = Command::new(std::env::current_exe().expect("this binary's path"));
        command.arg(WORD);
        (command, serde_json::to_string(self).expect("an assignment as JSON"))
    }
}

/// Does the assignment and says what came of it: `seconds` where the clock starts late, `cpu`, `peak` in KiB, and for
/// the workers `exit` (the code that the Job would see), `reason`, `message` and `status`.
pub async fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(
            std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()),
        ))
        .with_writer(std::io::stderr)
        .init();
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("an assignment");
    let assignment: Assignment = serde_json::from_str(&text).expect("an assignment");
    let mut told = match assignment {
        Assignment::Prepare(ours) => match Box::pin(ours.prepare()).await {
            Ok(()) => json!({}),
            Err(refused) => json!({ "refused": refused }),
        },
        Assignment::Copy(ours) => work(&ours, TaskKind::Copy).await,
        Assignment::Pods(ours, pods) => together(ours, pods),
        Assignment::Verify(ours) => work(&ours, TaskKind::Verify).await,
        Assignment::Read(ours, lanes) => match Box::pin(reading::alone(&ours, lanes)).await {
            Ok(rows) => json!({ "reason": "Done", "rows": rows }),
            Err(refused) => json!({ "refused": refused }),
        },
        Assignment::Insert(raw) => {
            json!({"seconds": raw::insert(&raw.url, &raw.table, &raw.parts, raw.lanes).await.as_secs_f64()})
        }
        Assignment::CopyIn(raw) => {
            json!({"seconds": raw::copy_in(&raw.url, &raw.table, &raw.parts, raw.lanes).await.as_secs_f64()})
        }
    };
    if told["peak"].is_null() {
        told["peak"] = machine::peak_memory().into();
    }
    told["cpu"] = machine::own().into();
    println!("{told}");
}

async fn work(ours: &Ours, kind: TaskKind) -> Value {
    match Box::pin(ours.work(kind)).await {
        Err(refused) => json!({ "refused": refused }),
        Ok((ended, status)) => {
            let (exit, reason, message) = match &ended {
                Ok(()) => (Exit::Done, "Done", String::new()),
                Err(error) => (error.exit(), error.reason(), error.to_string()),
            };
            json!({"exit": exit as u8, "reason": reason, "message": message, "status": status})
        }
    }
}

/// What the first of them to fail said, else the last; the largest peak of them.
fn together(ours: Ours, pods: usize) -> Value {
    let (_, input) = Assignment::Copy(ours).command();
    let lanes: Vec<_> = (0..pods)
        .map(|_| {
            let input = input.clone();
            std::thread::spawn(move || {
                let mut command = Command::new(std::env::current_exe().expect("this binary's path"));
                let output = measure::run(command.arg(WORD), &input);
                measure::last_object(&String::from_utf8_lossy(&output.stdout))
            })
        })
        .collect();
    let told: Vec<Value> = lanes.into_iter().map(|lane| lane.join().expect("a pod")).collect();
    let peak = told.iter().filter_map(|told| told["peak"].as_u64()).max();
    let failed = told.iter().find(|told| told["reason"] != "Done");
    let mut said = failed.or(told.last()).cloned().unwrap_or(Value::Null);
    said["peak"] = peak.into();
    said
}
