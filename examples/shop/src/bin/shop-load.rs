//! `shop-load`: prepares the orders, puts load on the shop and records every request, notes what was killed, and in
//! the end audits the final table against the record.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use datamigration::store::{ConnectConfig, Database, SecretUrl};
use shop::audit::audit;
use shop::config::{Tls, url};
use shop::load::{self, Options};
use shop::record::{Record, append_mark, read_marks};
use shop::table;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Parser)]
#[command(version, about = "Load generator and audit for the shop")]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Creates the orders table where there is none, and inserts orders 1..=rows.
    Seed {
        #[command(flatten)]
        connection: Connection,
        /// 0: the empty table.
        #[arg(long, default_value_t = 200_000)]
        rows: i64,
    },
    /// Puts load on the shop until the duration is over, the stop file appears, or SIGTERM or Ctrl-C comes.
    Run(Run),
    /// Notes that something is being killed now: failures shortly after it are counted apart.
    Mark {
        #[arg(long)]
        marks: PathBuf,
        /// What is killed.
        #[arg(long)]
        what: String,
        /// For how long failures are its doing.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Sets a replica's application clock ahead (or, negative, back); the shop must have SHOP_TEST_ENDPOINTS.
    ShiftClock {
        /// The replica's address, as http://host:port.
        #[arg(long)]
        url: String,
        #[arg(long, allow_hyphen_values = true)]
        millis: i64,
    },
    /// Reads the final table and says what is missing, stale or resurrected; exit code 1 if anything is.
    Audit {
        #[command(flatten)]
        connection: Connection,
        #[arg(long)]
        record: PathBuf,
        #[arg(long)]
        marks: Option<PathBuf>,
        /// Orders that were there before the load; must be what the record says.
        #[arg(long)]
        seeded: Option<i64>,
    },
}

/// A database.
#[derive(Debug, Args)]
struct Connection {
    /// Where the password matters, give the URL by a file or by SHOP_DATABASE_URL: arguments are seen by everybody.
    #[arg(long, env = "SHOP_DATABASE_URL", hide_env_values = true)]
    url: Option<String>,
    #[arg(long, conflicts_with = "url")]
    url_file: Option<PathBuf>,
    #[arg(long)]
    ca: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Tls::VerifyFull)]
    tls: Tls,
}

#[derive(Debug, Args)]
struct Run {
    /// Address of a replica or of the service, as http://host:port; several are taken in turn.
    #[arg(long, required = true)]
    url: Vec<String>,
    /// Keeps connections open. Without it every request has its own, so that behind one address every replica gets
    /// its share.
    #[arg(long)]
    keep_alive: bool,
    /// Writes per second.
    #[arg(long, default_value_t = 150.0)]
    rate: f64,
    /// Requests in flight at most.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// Seconds to run at most.
    #[arg(long)]
    seconds: Option<u64>,
    /// Runs until this file exists.
    #[arg(long)]
    stop_file: Option<PathBuf>,
    /// The record; a new file.
    #[arg(long)]
    record: PathBuf,
    /// Orders 1..=seeded are there.
    #[arg(long)]
    seeded: i64,
    #[arg(long, default_value_t = 50)]
    hot_keys: i64,
    /// Share of the writes that goes to the hot keys.
    #[arg(long, default_value_t = 30)]
    hot_percent: u8,
    /// Seconds to wait for an answer.
    #[arg(long, default_value_t = 15)]
    timeout: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where kills are noted; the audit reads it.
    #[arg(long)]
    marks: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    shop::log();
    match run(Command::parse().verb).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("shop-load: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(verb: Verb) -> Result<ExitCode, Box<dyn std::error::Error>> {
    shop::install_tls()?;
    match verb {
        Verb::Seed { connection, rows } => {
            let database = connection.open().await?;
            table::create_schema(&database).await?;
            table::seed(&database, rows).await?;
            println!("seeded: {rows} orders");
        }
        Verb::Run(run) => {
            if let Some(marks) = &run.marks {
                // There from the beginning, so that nobody takes a missing file for one without marks.
                std::fs::OpenOptions::new().append(true).create(true).open(marks)?;
            }
            let stop = CancellationToken::new();
            tokio::spawn(stop_on_signal(stop.clone()));
            println!("{}", load::run(run.options(), stop).await?);
        }
        Verb::Mark { marks, what, seconds } => append_mark(&marks, &what, seconds)?,
        Verb::ShiftClock { url, millis } => {
            let url = format!("{}/test/clock?ms={millis}", url.trim_end_matches('/'));
            reqwest::Client::builder()
                .no_proxy()
                .build()?
                .post(url)
                .send()
                .await?
                .error_for_status()?;
        }
        Verb::Audit {
            connection,
            record,
            marks,
            seeded,
        } => {
            let record = Record::read(&record)?;
            if let Some(expected) = seeded.filter(|expected| *expected != record.seeded) {
                return Err(format!(
                    "the record is of {} seeded orders, --seeded says {expected}",
                    record.seeded
                )
                .into());
            }
            let marks = match marks.filter(|path| path.exists()) {
                Some(path) => read_marks(&path)?,
                None => Vec::new(),
            };
            let rows = table::all(&connection.open().await?).await?;
            let report = audit(&record, &rows, &marks);
            println!("{report}");
            return Ok(if report.clean() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(1)
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn stop_on_signal(stop: CancellationToken) {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be waited for");
            return;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    stop.cancel();
}

impl Connection {
    async fn open(&self) -> Result<Database, Box<dyn std::error::Error>> {
        let url = match &self.url {
            Some(url) => SecretUrl::new(url.as_str()),
            None => url(self.url_file.as_ref(), "SHOP_DATABASE_URL")?
                .ok_or("no database is given; set SHOP_DATABASE_URL or --url-file")?,
        };
        Ok(Database::connect(&ConnectConfig {
            url,
            tls: self.tls.into(),
            ca: self.ca.clone(),
            max_connections: 2,
            label: "orders".to_owned(),
            application: "shop-load".to_owned(),
        })
        .await?)
    }
}

impl Run {
    fn options(self) -> Options {
        Options {
            urls: self.url,
            new_connections: !self.keep_alive,
            rate: self.rate,
            concurrency: self.concurrency,
            duration: self.seconds.map(Duration::from_secs),
            stop_file: self.stop_file,
            record: self.record,
            seeded: self.seeded,
            hot_keys: self.hot_keys,
            hot_percent: self.hot_percent,
            timeout: Duration::from_secs(self.timeout),
            seed: self.seed,
        }
    }
}
