//! The command line of `copy` and `verify`. Addresses and passwords come from files or the environment: an argument is
//! seen by everybody who may list processes.

use crate::words::Direction;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Where the manifest and the databases are.
#[derive(Args, Debug)]
pub struct Common {
    /// The DataMigration's manifest. `-`: standard input.
    #[arg(short = 'f', long = "file", value_name = "MANIFEST")]
    pub file: PathBuf,
    /// Only this table (its name in the source); may be given several times. Default: all tables of the manifest.
    #[arg(short = 't', long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Namespace of the migration, where the manifest names none: control rows know it as NAMESPACE/NAME.
    #[arg(short = 'n', long, default_value = "default")]
    pub namespace: String,
    /// File with the source's connection URL. Default: the variable SOURCE_URL.
    #[arg(long, value_name = "FILE")]
    pub source_url_file: Option<PathBuf>,
    /// File with the target's connection URL. Default: the variable TARGET_URL.
    #[arg(long, value_name = "FILE")]
    pub target_url_file: Option<PathBuf>,
    /// The certificate authority of the source's server, as PEM. Default: the system's.
    #[arg(long, value_name = "FILE")]
    pub source_ca: Option<PathBuf>,
    /// The certificate authority of the target's server, as PEM. Default: the system's.
    #[arg(long, value_name = "FILE")]
    pub target_ca: Option<PathBuf>,
    /// Directory laid out like a worker's mounted Secrets: {source,target}/SHARD/url and {source,target}/ca.crt. Instead
    /// of the four options above.
    #[arg(long, value_name = "DIRECTORY", conflicts_with_all = ["source_url_file", "target_url_file", "source_ca", "target_ca"])]
    pub secrets: Option<PathBuf>,
    /// The result as JSON on standard output.
    #[arg(long)]
    pub json: bool,
    /// No progress on standard error.
    #[arg(short, long)]
    pub quiet: bool,
}

/// `datamigration copy`
#[derive(Args, Debug)]
pub struct CopyArguments {
    #[command(flatten)]
    pub common: Common,
    /// Connections that copy at the same time. Default: the manifest's copy.parallelism.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub parallelism: Option<u32>,
}

/// `datamigration verify`
#[derive(Args, Debug)]
pub struct VerifyArguments {
    #[command(flatten)]
    pub common: Common,
    /// Make the follower what the base is. Without it nothing is written to either database, and no row is locked.
    #[arg(long)]
    pub repair: bool,
    /// Only report: the default, said aloud.
    #[arg(long, conflicts_with = "repair")]
    pub no_repair: bool,
    /// Write every differing key to this file: .csv or .parquet, table, key, kind, both versions, differing columns.
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// Print at most so many differences while they are found.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub show: u64,
    /// Only count the rows of both sides, range by range: a first look that takes a fraction of the time, and says nothing
    /// about what the rows hold.
    #[arg(long, conflicts_with_all = ["repair", "export"])]
    pub counts: bool,
    /// Which side is right. Default: the base of the epoch in the databases; the source where they carry none.
    #[arg(long)]
    pub direction: Option<DirectionWord>,
}

/// What `--help` says of both, for the reference.
pub fn help() -> Vec<String> {
    let name = |name: &'static str| clap::Command::new(name).bin_name(format!("datamigration {name}"));
    [
        CopyArguments::augment_args(name("copy")),
        VerifyArguments::augment_args(name("verify")),
    ]
    .into_iter()
    .map(|mut command| command.render_help().to_string())
    .collect()
}

/// Which side is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DirectionWord {
    /// The source.
    Forward,
    /// The target.
    Reverse,
}

impl From<DirectionWord> for Direction {
    fn from(word: DirectionWord) -> Self {
        match word {
            DirectionWord::Forward => Self::Forward,
            DirectionWord::Reverse => Self::Reverse,
        }
    }
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A bar on a terminal, a line now and then elsewhere.
    Shown,
    /// Nothing.
    Hidden,
}

impl Common {
    /// How progress is shown.
    pub fn progress(&self) -> Progress {
        if self.quiet { Progress::Hidden } else { Progress::Shown }
    }
}
