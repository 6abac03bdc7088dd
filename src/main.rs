//! The `datamigration` binary: operator and workers in one image, chosen by subcommand.

use clap::{Parser, Subcommand};
use kube::CustomResourceExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use datamigration::api::{DataMigration, MigrationTask};
use datamigration::controller::{self, Options};
use datamigration::local;
use datamigration::platform::job::WorkerImage;

/// Moves live tables from one database to another under an application's traffic.
#[derive(Parser)]
#[command(name = "datamigration", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the operator.
    Operator {
        /// Serve this namespace only; may be given several times. Default: all namespaces.
        #[arg(long = "namespace")]
        namespaces: Vec<String>,
        /// Image of the worker pods: the operator's own.
        #[arg(long, env = "DATAMIGRATION_WORKER_IMAGE")]
        worker_image: String,
        #[arg(long, env = "DATAMIGRATION_WORKER_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
        worker_image_pull_policy: String,
        /// ServiceAccount of worker pods whose migration names none.
        #[arg(
            long,
            env = "DATAMIGRATION_WORKER_SERVICE_ACCOUNT",
            default_value = "datamigration-worker"
        )]
        worker_service_account: String,
        /// Name of this operator among others.
        #[arg(long, env = "POD_NAME", default_value = "datamigration-operator")]
        identity: String,
        /// Namespace of the Lease.
        #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
        lease_namespace: String,
    },
    /// Does one MigrationTask; started by the operator's Jobs.
    Worker {
        #[arg(long)]
        namespace: String,
        #[arg(long)]
        task: String,
    },
    /// Copies the tables of a manifest from a shell, without a cluster.
    ///
    /// Exit codes: 0 every row is copied; 1 some rows could not be carried (they are in _datamigration_rejects); 2 arguments
    /// or manifest are wrong; 3 the run did not come to its end. An interrupted copy goes on where it was.
    Copy(local::CopyArguments),
    /// Compares the tables of a manifest from a shell, without a cluster.
    ///
    /// Exit codes: 0 equal (with --repair: made equal); 1 differences are left; 2 arguments or manifest are wrong; 3 the run
    /// did not come to its end, so that nothing is said about equality.
    Verify(local::VerifyArguments),
    /// Prints docs/reference.md: every field and condition.
    Reference,
    /// Prints docs/types.md: what every column type becomes in another database.
    Types,
    /// Prints the CustomResourceDefinitions as YAML.
    Crd {
        /// Write one file per definition into this directory instead.
        #[arg(long)]
        output: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    // Two of rustls's providers are in the graph; with none installed it would panic at the first connection.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("a TLS provider was installed before main");
        return ExitCode::FAILURE;
    }
    match Arguments::parse().command {
        Command::Operator {
            namespaces,
            worker_image,
            worker_image_pull_policy,
            worker_service_account,
            identity,
            lease_namespace,
        } => operator(Options {
            namespaces,
            worker: WorkerImage {
                image: worker_image,
                pull_policy: worker_image_pull_policy,
                service_account: worker_service_account,
                log: std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()),
            },
            identity,
            lease_namespace,
        }),
        Command::Worker { namespace, task } => worker(&namespace, &task),
        Command::Copy(arguments) => from_shell(local::copy(&arguments)),
        Command::Verify(arguments) => from_shell(local::compare(&arguments)),
        Command::Reference => {
            print!("{}", datamigration::reference::markdown());
            ExitCode::SUCCESS
        }
        Command::Types => {
            print!("{}", datamigration::types_page::markdown());
            ExitCode::SUCCESS
        }
        Command::Crd { output } => crd(output.as_deref()),
    }
}

fn log(usual: &str) {
    // The controller's own spans repeat what our lines say.
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| usual.to_owned());
    let filter = tracing_subscriber::EnvFilter::new(format!("kube_runtime=warn,{wanted}"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
}

fn runtime() -> Option<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.inspect_err(|error| tracing::error!(%error, "cannot start")).ok()
}

fn worker(namespace: &str, task: &str) -> ExitCode {
    log("info");
    let Some(runtime) = runtime() else {
        return ExitCode::FAILURE;
    };
    ExitCode::from(runtime.block_on(Box::pin(datamigration::workers::run(namespace, task))) as u8)
}

/// A person reads along: warnings are enough beside the progress.
fn from_shell(run: impl Future<Output = local::Exit>) -> ExitCode {
    log("warn");
    let Some(runtime) = runtime() else {
        return ExitCode::from(local::Exit::Unfinished as u8);
    };
    ExitCode::from(runtime.block_on(Box::pin(run)) as u8)
}

fn operator(options: Options) -> ExitCode {
    log("info");
    let Some(runtime) = runtime() else {
        return ExitCode::FAILURE;
    };
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        on_signal(&stop)?;
        controller::run(options, stop).await.map_err(std::io::Error::other)
    });
    match result {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(%error, "stopped");
            ExitCode::FAILURE
        }
    }
}

/// Cancels the token when Kubernetes or a person asks the process to end.
fn on_signal(stop: &CancellationToken) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop");
        stop.cancel();
    });
    Ok(())
}

fn crd(output: Option<&Path>) -> ExitCode {
    for definition in [DataMigration::crd(), MigrationTask::crd()] {
        let rendered = serde_yaml_ng::to_string(&definition).map_err(|error| error.to_string());
        let written = rendered.and_then(|text| match output {
            None => {
                print!("---\n{text}");
                Ok(())
            }
            Some(directory) => {
                let path = directory.join(format!("{}.yaml", definition.spec.names.plural));
                std::fs::create_dir_all(directory)
                    .and_then(|()| std::fs::write(&path, text))
                    .map_err(|error| format!("{}: {error}", path.display()))
            }
        });
        if let Err(error) = written {
            eprintln!("cannot write the definition of {}: {error}", definition.spec.names.kind);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
