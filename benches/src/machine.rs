//! What the kernel counts: CPU time of processes and of the whole machine, peak memory, and what machine this is.

use std::path::Path;
use std::time::{Duration, Instant};

/// The kernel shows CPU time to programs in hundredths of a second on every architecture that Linux runs on today.
const TICKS: f64 = 100.0;

/// A server: one process, or one with children of its own.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    pub pid: u32,
}

impl Server {
    /// Seconds of CPU that it and its children, also those that have ended, have used.
    pub fn cpu(self) -> f64 {
        let own = stat(self.pid).map_or(0.0, |stat| stat.own + stat.ended_children);
        let children = processes().filter_map(stat).filter(|stat| stat.parent == self.pid);
        own + children.map(|stat| stat.own).sum::<f64>()
    }
}

/// Seconds of CPU of the children of this process that have ended.
pub fn ended_children() -> f64 {
    stat(std::process::id()).map_or(0.0, |stat| stat.ended_children)
}

/// Seconds of CPU of this process.
pub fn own() -> f64 {
    stat(std::process::id()).map_or(0.0, |stat| stat.own)
}

/// Peak resident memory of this process in KiB.
pub fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

/// Seconds of CPU that anybody used on this machine, what the hypervisor withheld included.
pub fn busy() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbers: Vec<f64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|number| number.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    [0, 1, 2, 5, 6, 7].iter().filter_map(|at| numbers.get(*at)).sum::<f64>() / TICKS
}

/// Waits until the servers have finished what the last run left them to do (flushing, purging), at most `most`.
pub async fn rest(servers: &[Server], most: Duration) {
    let began = Instant::now();
    let used = || servers.iter().map(|server| server.cpu()).sum::<f64>();
    let mut before = used();
    while began.elapsed() < most {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = used();
        if now - before <= 0.02 {
            return;
        }
        before = now;
    }
}

/// Cores, processor, memory, kernel.
pub fn describe() -> String {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let memory: u64 = field(&read("/proc/meminfo"), "MemTotal")
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or(0);
    format!(
        "{} cores ({}), {} GiB of memory, Linux {}",
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        field(&read("/proc/cpuinfo"), "model name"),
        memory.div_ceil(1 << 20),
        read("/proc/sys/kernel/osrelease").trim()
    )
}

pub fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

struct Stat {
    parent: u32,
    own: f64,
    ended_children: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: (number(11)? + number(12)?) / TICKS,
        ended_children: (number(13)? + number(14)?) / TICKS,
    })
}

fn processes() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}
