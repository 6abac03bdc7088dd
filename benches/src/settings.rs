//! What a run can be told through the environment, and what follows from it.

use std::path::{Path, PathBuf};

/// The row count that the bars are stated for.
pub const FULL_ROWS: u64 = 2_000_000;

pub struct Settings {
    /// Rows of `orders`; the other tables follow from it.
    pub rows: u64,
    pub rounds: usize,
    /// Also what takes long: four times the rows, for memory.
    pub full: bool,
    /// Where the report goes. Short runs leave docs/ alone.
    pub output: PathBuf,
    /// Contestants whose name contains none of these words are left out; empty: all.
    pub only: Vec<String>,
}

impl Settings {
    /// Reads BENCH_ROWS, BENCH_ROUNDS, BENCH_FULL, BENCH_OUTPUT, BENCH_ONLY, and sizes the servers' buffers, which are
    /// read by `tests/cluster/databases`: everything fits, twice, with two secondary indexes.
    pub fn read() -> Self {
        let rows = number("BENCH_ROWS").unwrap_or(FULL_ROWS);
        let full = number("BENCH_FULL").is_some_and(|wanted| wanted > 0);
        let root = root();
        let output = match std::env::var_os("BENCH_OUTPUT") {
            Some(path) => PathBuf::from(path),
            None if rows >= FULL_ROWS => root.join("docs/benchmarks.md"),
            None => std::env::var_os("CARGO_TARGET_DIR")
                .map_or_else(|| root.join("target"), PathBuf::from)
                .join("benchmarks.md"),
        };
        Self {
            rows,
            rounds: number("BENCH_ROUNDS").unwrap_or(3).max(1) as usize,
            full,
            output,
            only: std::env::var("BENCH_ONLY")
                .map(|words| words.split(',').map(str::to_owned).collect())
                .unwrap_or_default(),
        }
    }

    /// Megabytes for the buffer pool, and half of it for shared_buffers, beside which PostgreSQL uses the page cache.
    pub fn buffer_megabytes(&self) -> u64 {
        let rows = if self.full { self.rows * 4 } else { self.rows };
        (256 + rows * 1_000 / 1_000_000).min(8_192)
    }

    pub fn takes(&self, contestant: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| contestant.contains(word.as_str()))
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let digits = text.replace(['_', ','], "");
    Some(
        digits
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text}: expected a number")),
    )
}
