//! The program `ssm-gateway`.

mod administer;
mod attachments;
mod replay;
mod sessions;
mod tail;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::config::{DEFAULT_STATE, ServeOptions};
use super::start::start;
use crate::runtime::{exit, lifecycle, limits, logging, memory, systemd};

/// A control endpoint for ssm-agent, the AWS CLI and SDKs, and the session-manager-plugin
#[derive(Debug, Parser)]
#[command(name = "ssm-gateway", version)]
struct Arguments {
    /// Folder of the gateway's database and keys
    #[arg(long, env = "SSM_GATEWAY_STATE", default_value = DEFAULT_STATE, global = true, value_name = "DIR")]
    state: PathBuf,
    #[command(flatten)]
    logging: logging::Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    #[command(after_help = "Example: ssm-gateway serve --public-url https://gateway.example:8443")]
    Serve(ServeOptions),
    /// Key pairs with which people and their tools sign
    #[command(subcommand)]
    Access(administer::Access),
    /// Codes with which hosts register
    #[command(subcommand)]
    Activation(administer::Activation),
    /// Registered hosts
    #[command(subcommand)]
    Nodes(administer::Nodes),
    /// Files of packages that hosts get from the gateway
    #[command(subcommand)]
    Attachment(attachments::Attachment),
    /// Sessions and their recordings
    #[command(subcommand)]
    Sessions(sessions::Sessions),
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    memory::keep_freed();
    match run(arguments) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            exit::report(error.as_ref());
            let usage = error.downcast_ref::<super::config::ConfigError>().is_some();
            ExitCode::from(if usage { exit::USAGE } else { exit::FAILURE })
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    logging::init(&arguments.logging)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let state = arguments.state;
    let answer = match arguments.command {
        Command::Serve(options) => return runtime.block_on(serve(state, options)),
        Command::Access(command) => runtime.block_on(command.run(&state)),
        Command::Activation(command) => runtime.block_on(command.run(&state)),
        Command::Nodes(command) => runtime.block_on(command.run(&state)),
        Command::Attachment(command) => command.run(&state),
        Command::Sessions(command) => runtime.block_on(command.run(&state)),
    }?;
    io::stdout()
        .write_all(answer.as_bytes())
        .context("cannot write to standard output")
}

async fn serve(state: PathBuf, options: ServeOptions) -> anyhow::Result<()> {
    let settings = options.into_settings(state)?;
    if let Err(error) = limits::raise_nofile_limit() {
        warn!(%error, "the limit on open files stays as it is");
    }
    let cancel = CancellationToken::new();
    let signals = lifecycle::watch_signals(cancel.clone()).context("cannot watch signals")?;
    let (running, serving) = start(settings, cancel.clone()).await?;
    // For whoever started it with port 0.
    println!(
        "ssm-gateway listens on {}",
        running.url.as_str().trim_end_matches('/')
    );
    if let Some(plain) = &running.plain_url {
        println!(
            "and without TLS on {}",
            plain.as_str().trim_end_matches('/')
        );
    }
    systemd::ready();
    let stopping = async {
        cancel.cancelled().await;
        systemd::stopping();
    };
    let work = async { tokio::join!(serving, stopping, systemd::feed_watchdog(cancel.clone())) };
    tokio::select! {
        _ = work => {}
        // Ends with the process only: a second signal exits at once, also while work winds down.
        () = signals => {}
    }
    Ok(())
}
