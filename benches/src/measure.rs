//! One measured run: a child process, its wall time and CPU, and the CPU that the servers spent on it.

use crate::machine::{self, Server};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What a run cost, and what came of it.
#[derive(Clone, Debug)]
pub struct Cost {
    pub wall: Duration,
    /// CPU seconds of the tool itself.
    pub client: f64,
    /// CPU seconds of both servers.
    pub servers: f64,
    /// CPU seconds of everything else on the machine meanwhile.
    pub others: f64,
    /// KiB, where the tool is ours.
    pub peak: Option<u64>,
    /// What our own child said of itself.
    pub told: Value,
    pub code: Option<i32>,
    pub printed: String,
    /// Why the run does not count.
    pub failure: Option<String>,
}

impl Cost {
    pub fn cpu(&self) -> f64 {
        self.client + self.servers
    }
}

/// Runs a command with this input, and measures it.
pub fn measure(servers: &[Server], mut command: Command, input: &str) -> Cost {
    let used = || servers.iter().map(|server| server.cpu()).sum::<f64>();
    let (before, children, busy) = (used(), machine::ended_children(), machine::busy());
    let began = Instant::now();
    let output = run(&mut command, input);
    let wall = began.elapsed();
    let (client, servers) = (machine::ended_children() - children, used() - before);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    let told = last_object(&printed);
    Cost {
        wall,
        client,
        servers,
        others: (machine::busy() - busy - client - servers).max(0.0),
        peak: told["peak"].as_u64(),
        failure: (!output.status.success()).then(|| {
            let last: Vec<&str> = error.trim().lines().rev().take(3).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            format!("ended with {}: {}", output.status, last.join(" / "))
        }),
        code: output.status.code(),
        printed: format!("{printed}{error}"),
        told,
    }
}

/// The JSON object that the last line is, or null.
pub fn last_object(printed: &str) -> Value {
    let line = printed.lines().last();
    line.and_then(|line| serde_json::from_str::<Value>(line).ok())
        .filter(Value::is_object)
        .unwrap_or(Value::Null)
}

/// Runs a command to its end with this input.
pub fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A child that has no use for its input may have ended already.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("the child's output")
}
