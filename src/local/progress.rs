//! What a local run shows while it runs: a bar with rate and remaining time on a terminal, a line now and then elsewhere,
//! and the first differences as they are found. All of it on standard error; the result alone is standard output.

use super::arguments::Progress;
use super::export::Export;
use crate::api::task::{MigrationTaskStatus, TaskKind};
use crate::workers::{Desired, Difference, Differences, Reporter, WorkError};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows what a worker reports.
pub struct LocalReporter {
    bar: ProgressBar,
    lines: Option<Mutex<Instant>>,
    began: Instant,
    what: String,
    // Held so that the worker's end of it stays open.
    desired: watch::Sender<Desired>,
}

impl LocalReporter {
    pub fn new(kind: TaskKind, table: &str, progress: Progress) -> Self {
        let verb = match kind {
            TaskKind::Copy => "copy",
            _ => "verify",
        };
        let what = format!("{verb} {table}");
        let terminal = std::io::stderr().is_terminal();
        let shown = progress == Progress::Shown;
        let target = if shown && terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target).with_message(what.clone());
        let style = "{msg} {bar:30} {percent:>3}% {human_pos} of about {human_len} rows, {per_sec}, {elapsed} gone, {eta} to go";
        // The template is a constant: one that could not be read would show the default bar.
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self {
            bar,
            lines: (shown && !terminal).then(|| Mutex::new(Instant::now())),
            began: Instant::now(),
            what,
            desired: watch::channel(Desired::default()).0,
        }
    }

    fn line(&self, status: &MigrationTaskStatus, trouble: Option<&str>) {
        let Some(last) = &self.lines else { return };
        {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() < LINE_EVERY {
                return;
            }
            *last = Instant::now();
        }
        let progress = status.progress.clone().unwrap_or_default();
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let rate = progress.rows as f64 / seconds;
        let left = progress.rows_total.saturating_sub(progress.rows) as f64 / rate.max(1.0);
        eprintln!(
            "{}: {} of about {} rows, {rate:.0}/s, {left:.0} s to go{}",
            self.what,
            progress.rows,
            progress.rows_total,
            trouble.map(|why| format!("; {why}")).unwrap_or_default()
        );
    }
}

#[async_trait::async_trait]
impl Reporter for LocalReporter {
    async fn publish(&self, status: &MigrationTaskStatus) -> Result<(), WorkError> {
        let progress = status.progress.clone().unwrap_or_default();
        self.bar.set_length(progress.rows_total.max(progress.rows));
        self.bar.set_position(progress.rows);
        let trouble = status.message.as_deref();
        self.bar.set_message(match trouble {
            Some(why) => format!("{} ({why})", self.what),
            None => self.what.clone(),
        });
        self.line(status, trouble);
        Ok(())
    }

    fn desired(&self) -> watch::Receiver<Desired> {
        self.desired.subscribe()
    }
}

impl Drop for LocalReporter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Shows the first differences, and hands all of them to the export.
pub struct Told<'e> {
    export: Option<&'e mut Export>,
    left: u64,
    /// It has been said that there are more than are shown.
    said: bool,
}

impl<'e> Told<'e> {
    /// `show`: how many are shown.
    pub fn new(export: Option<&'e mut Export>, show: u64) -> Self {
        Self {
            export,
            left: show,
            // Whoever wants to see none need not be told that there are more.
            said: show == 0,
        }
    }
}

impl Differences for Told<'_> {
    fn add(&mut self, difference: &Difference) -> Result<(), String> {
        if self.left > 0 {
            self.left -= 1;
            eprintln!("{}", shown(difference));
        } else if !self.said {
            self.said = true;
            eprintln!("{}", further(self.export.is_some()));
        }
        match &mut self.export {
            Some(export) => export.add(difference),
            None => Ok(()),
        }
    }
}

fn further(exported: bool) -> &'static str {
    if exported {
        "(there are more: they are counted, and written to the export)"
    } else {
        "(there are more: they are counted; --show COUNT shows more, --export FILE writes every one)"
    }
}

fn shown(difference: &Difference) -> String {
    if let Some(why) = difference.kind.reason() {
        return format!(
            "{} {} {}: {why}",
            difference.table,
            difference.key,
            difference.kind.as_str()
        );
    }
    let seen = &difference.seen;
    let none = "no row";
    let mut line = format!(
        "{} {} {}: base {}, follower {}",
        difference.table,
        difference.key,
        difference.kind.as_str(),
        seen.base.as_deref().unwrap_or(none),
        seen.follower.as_deref().unwrap_or(none)
    );
    if !seen.columns.is_empty() {
        line.push_str(", in ");
        line.push_str(&seen.columns.join(", "));
    }
    if difference.repaired {
        line.push_str(" (repaired)");
    }
    line
}
