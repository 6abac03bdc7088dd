//! The load generator's record: one JSON line per request, appended when the request has ended, all times on one
//! monotonic clock. It begins with what was there before and ends with a line that says it is whole.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "line")]
pub enum Line {
    /// Opens the record.
    Begin {
        run: String,
        /// Wall clock at time 0, for the marks.
        unix_ms: u64,
        /// Orders 1..=seeded were there before.
        seeded: i64,
    },
    Request(Request),
    /// Closes it: nothing is missing.
    End {
        at: u64,
        requests: u64,
    },
}

/// One request and how it ended. Times in microseconds since the run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub id: String,
    /// Unknown for a create that was not answered.
    pub key: Option<i64>,
    pub op: Op,
    pub start: u64,
    pub end: u64,
    pub outcome: Outcome,
    /// Whether an acknowledged write found something to do (an update or delete of an absent order does not).
    #[serde(default)]
    pub effect: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Create,
    Upsert,
    Update,
    Delete,
    Read,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Acknowledged,
    /// Nothing happened: refused, failed, or never sent.
    Refused,
    /// Nobody knows: the service said so, or the connection broke after sending.
    Unknown,
}

/// Something that was killed on purpose: failures shortly after it are counted apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub unix_ms: u64,
    pub what: String,
    /// For how long failures are its doing.
    pub seconds: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("{path} line {line}: {why}; the file is not a record of shop-load, or it was cut")]
    Line { path: String, line: usize, why: String },
    #[error("{path} has no {what} line; the load generator did not end by itself, so the record is not whole")]
    NotWhole { path: String, what: &'static str },
}

/// A whole record.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub run: String,
    pub unix_ms: u64,
    pub seeded: i64,
    pub requests: Vec<Request>,
    pub ended: u64,
}

pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// Appends lines; `flush` after every batch.
#[derive(Debug)]
pub struct Writer {
    path: String,
    file: BufWriter<std::fs::File>,
}

impl Writer {
    /// A new file: two runs have two clocks, so they are never appended to one another.
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        let name = path.display().to_string();
        match std::fs::OpenOptions::new().append(true).create_new(true).open(path) {
            Ok(file) => Ok(Self {
                path: name,
                file: BufWriter::new(file),
            }),
            Err(source) => Err(RecordError::Io { path: name, source }),
        }
    }

    pub fn append(&mut self, line: &Line) -> Result<(), RecordError> {
        let text = serde_json::to_string(line).map_err(std::io::Error::from);
        text.and_then(|text| writeln!(self.file, "{text}"))
            .map_err(|source| RecordError::Io {
                path: self.path.clone(),
                source,
            })
    }

    pub fn flush(&mut self) -> Result<(), RecordError> {
        self.file.flush().map_err(|source| RecordError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, RecordError> {
    let name = path.display().to_string();
    let io = |source| RecordError::Io {
        path: name.clone(),
        source,
    };
    let mut found = Vec::new();
    for (index, line) in BufReader::new(std::fs::File::open(path).map_err(io)?)
        .lines()
        .enumerate()
    {
        let line = line.map_err(io)?;
        found.push(serde_json::from_str(&line).map_err(|error| RecordError::Line {
            path: name.clone(),
            line: index + 1,
            why: error.to_string(),
        })?);
    }
    Ok(found)
}

impl Record {
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let name = path.display().to_string();
        let mut record = Self::default();
        let (mut begun, mut promised) = (false, None);
        for line in lines::<Line>(path)? {
            match line {
                Line::Begin { run, unix_ms, seeded } => {
                    (record.run, record.unix_ms, record.seeded, begun) = (run, unix_ms, seeded, true);
                }
                Line::Request(request) => record.requests.push(request),
                Line::End { at, requests } => (record.ended, promised) = (at, Some(requests)),
            }
        }
        if !begun {
            return Err(RecordError::NotWhole {
                path: name,
                what: "begin",
            });
        }
        if promised != Some(record.requests.len() as u64) {
            return Err(RecordError::NotWhole {
                path: name,
                what: "matching end",
            });
        }
        Ok(record)
    }

    /// Requests by the id of their write; reads are not in it.
    pub fn by_id(&self) -> HashMap<&str, &Request> {
        self.requests
            .iter()
            .filter(|r| r.op != Op::Read)
            .map(|r| (r.id.as_str(), r))
            .collect()
    }
}

pub fn read_marks(path: &Path) -> Result<Vec<Mark>, RecordError> {
    lines(path)
}

pub fn append_mark(path: &Path, what: &str, seconds: u64) -> Result<(), RecordError> {
    let io = |source| RecordError::Io {
        path: path.display().to_string(),
        source,
    };
    let text = serde_json::to_string(&Mark {
        unix_ms: unix_ms(),
        what: what.to_owned(),
        seconds,
    })
    .map_err(|error| io(error.into()))?;
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(io)?;
    writeln!(file, "{text}").map_err(io)
}
