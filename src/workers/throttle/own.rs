//! The worker's own container: how near it is to its limits of memory and CPU, from the control group's files (version 2).
//! Without a limit, or without such files, there is nothing to be near to.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// CPU use is averaged over this long.
const CPU_OVER: Duration = Duration::from_secs(10);

/// Reads the files, and remembers enough of CPU time to average it.
#[derive(Debug)]
pub struct Own {
    folder: PathBuf,
    /// CPU microseconds used, and when.
    used: VecDeque<(Instant, u64)>,
}

/// Shares of the limits in use, 1 being all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Memory that the kernel could not take back, of `memory.max`.
    pub memory: Option<f64>,
    /// CPU time over the last seconds, of `cpu.max`.
    pub cpu: Option<f64>,
}

impl Own {
    /// A container sees its own group at the root.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            used: VecDeque::new(),
        }
    }

    /// How near the limits are.
    pub fn usage(&mut self, now: Instant) -> Usage {
        Usage {
            memory: memory(&self.folder),
            cpu: self.cpu(now),
        }
    }

    fn cpu(&mut self, now: Instant) -> Option<f64> {
        let cores = cores(&self.folder)?;
        let used = field(&self.folder.join("cpu.stat"), "usage_usec")?;
        self.used.push_back((now, used));
        // The newest measurement that is old enough stays: the average is over at least that long.
        while self
            .used
            .get(1)
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= CPU_OVER)
        {
            self.used.pop_front();
        }
        let (since, before) = *self.used.front()?;
        let elapsed = now.saturating_duration_since(since);
        if elapsed < CPU_OVER {
            return None;
        }
        Some(used.saturating_sub(before) as f64 / 1e6 / elapsed.as_secs_f64() / cores)
    }
}

fn memory(folder: &Path) -> Option<f64> {
    let limit: u64 = text(&folder.join("memory.max"))?.trim().parse().ok()?;
    let used: u64 = text(&folder.join("memory.current"))?.trim().parse().ok()?;
    let idle = field(&folder.join("memory.stat"), "inactive_file").unwrap_or(0);
    (limit > 0).then(|| used.saturating_sub(idle) as f64 / limit as f64)
}

/// `cpu.max`: quota and period in microseconds, or `max` for no limit.
fn cores(folder: &Path) -> Option<f64> {
    let text = text(&folder.join("cpu.max"))?;
    let mut parts = text.split_whitespace();
    let quota: f64 = parts.next()?.parse().ok()?;
    let period: f64 = parts.next()?.parse().ok()?;
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn field(path: &Path, name: &str) -> Option<u64> {
    text(path)?
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Files of the kernel's: read at once, from memory.
fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn memory_counts_what_the_kernel_cannot_take_back() {
        let folder = group(&[
            ("memory.max", "1000\n"),
            ("memory.current", "950\n"),
            ("memory.stat", "anon 600\ninactive_file_other 9\ninactive_file 350\n"),
        ]);
        assert_eq!(Own::new(folder.path()).usage(Instant::now()).memory, Some(0.6));
    }

    #[test]
    fn without_limits_there_is_nothing_to_be_near_to() {
        let folder = group(&[
            ("memory.max", "max\n"),
            ("memory.current", "950\n"),
            ("cpu.max", "max 100000\n"),
            ("cpu.stat", "usage_usec 5\n"),
        ]);
        assert_eq!(Own::new(folder.path()).usage(Instant::now()), Usage::default());
        assert_eq!(Own::new("/nowhere").usage(Instant::now()), Usage::default());
    }

    #[test]
    fn cpu_is_averaged_over_seconds() {
        let folder = group(&[
            ("cpu.max", "50000 100000\n"),
            ("cpu.stat", "usage_usec 1000000\nuser_usec 7\n"),
        ]);
        let mut own = Own::new(folder.path());
        let start = Instant::now();
        assert_eq!(own.usage(start).cpu, None);
        std::fs::write(folder.path().join("cpu.stat"), "usage_usec 4000000\n").unwrap();
        assert_eq!(own.usage(start + Duration::from_secs(5)).cpu, None);
        // Four seconds of half a core in ten seconds.
        std::fs::write(folder.path().join("cpu.stat"), "usage_usec 5000000\n").unwrap();
        assert_eq!(own.usage(start + Duration::from_secs(10)).cpu, Some(0.8));
        // One more second of it in the next five: 2 of 10 s.
        std::fs::write(folder.path().join("cpu.stat"), "usage_usec 5000000\n").unwrap();
        let cpu = own.usage(start + Duration::from_secs(15)).cpu.unwrap();
        assert!((cpu - 0.2).abs() < 1e-9, "{cpu}");
    }
}
