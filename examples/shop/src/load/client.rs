//! One request to the shop, and what may be said of its outcome afterwards.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::plan::Step;
use crate::content::Content;
use crate::record::{Op, Outcome};

#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    urls: Vec<String>,
    next: AtomicUsize,
}

#[derive(Debug)]
pub struct Reply {
    pub outcome: Outcome,
    pub effect: bool,
    pub key: Option<i64>,
    pub why: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    id: i64,
    effect: bool,
}

#[derive(Debug, Deserialize)]
struct Problem {
    error: String,
}

impl Client {
    pub fn new(urls: &[String], timeout: Duration, new_connections: bool) -> Result<Self, String> {
        let mut builder = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(Duration::from_secs(2))
            .no_proxy();
        if new_connections {
            builder = builder.pool_max_idle_per_host(0);
        }
        let urls = urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        Ok(Self {
            http: builder.build().map_err(|error| error.to_string())?,
            urls,
            next: AtomicUsize::new(0),
        })
    }

    pub async fn request(&self, step: &Step, id: &str) -> Reply {
        let base = &self.urls[self.next.fetch_add(1, Ordering::Relaxed) % self.urls.len()];
        let url = match step.key {
            None => format!("{base}/orders"),
            Some(key) => format!("{base}/orders/{key}"),
        };
        let request = match step.op {
            Op::Create => self.http.request(Method::POST, url).json(&Content::of(id)),
            Op::Upsert => self.http.request(Method::PUT, url).json(&Content::of(id)),
            Op::Update => self.http.request(Method::PATCH, url).json(&Content::of(id)),
            Op::Delete => self.http.request(Method::DELETE, url).query(&[("write_id", id)]),
            Op::Read => self.http.request(Method::GET, url),
        };
        let failed = |outcome, why: String| Reply {
            outcome,
            effect: false,
            key: None,
            why: Some(why),
        };
        let response = match request.send().await {
            Ok(response) => response,
            // Nothing was sent when no connection came about.
            Err(error) if error.is_connect() => return failed(Outcome::Refused, "no connection".into()),
            Err(error) => return failed(Outcome::Unknown, kind(&error).into()),
        };
        let status = response.status();
        let text = match response.text().await {
            Ok(text) => text,
            Err(error) => return failed(Outcome::Unknown, kind(&error).into()),
        };
        match status {
            StatusCode::NOT_FOUND => Reply {
                outcome: Outcome::Acknowledged,
                effect: false,
                key: step.key,
                why: None,
            },
            StatusCode::OK if step.op == Op::Read => Reply {
                outcome: Outcome::Acknowledged,
                effect: true,
                key: step.key,
                why: None,
            },
            StatusCode::OK => match serde_json::from_str::<Answer>(&text) {
                Ok(Answer { id, effect }) => Reply {
                    outcome: Outcome::Acknowledged,
                    effect,
                    key: Some(id),
                    why: None,
                },
                Err(error) => failed(Outcome::Unknown, format!("answer not understood: {error}")),
            },
            StatusCode::SERVICE_UNAVAILABLE => failed(Outcome::Refused, reason(&text)),
            StatusCode::GATEWAY_TIMEOUT => failed(Outcome::Unknown, reason(&text)),
            other => failed(Outcome::Unknown, format!("status {other}")),
        }
    }
}

fn kind(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else {
        "connection broke after sending"
    }
}

/// The service's own words, without what differs from request to request.
fn reason(text: &str) -> String {
    let text = serde_json::from_str::<Problem>(text).map_or_else(|_| text.to_owned(), |problem| problem.error);
    text.chars()
        .map(|c| if c.is_ascii_digit() { '#' } else { c })
        .take(160)
        .collect()
}
