//! One command from nothing to a recorded shell: a gateway, an agent and a client in one process,
//! on the loopback interface, in a temporary folder, without root and without AWS.
//!
//! What runs is the real thing: the agent registers with an activation, signs its calls, holds its
//! control channel over TLS; the client starts its session through the API.

mod world;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use tokio_util::sync::CancellationToken;
use tracing::Level;

use crate::agent::host::login;
use crate::client::{self, Io, Parameters, Session};
use crate::runtime::{exit, lifecycle, memory};
use world::World;

/// Threads for three programs in one: as many as the smallest machines have cores.
const WORKER_THREADS: usize = 2;
/// Document of the gateway that runs one program instead of a shell.
const COMMAND_DOCUMENT: &str = "SSM-RunProgram";

/// A recorded shell on this host through a gateway, an agent and a client of its own
#[derive(Debug, Parser)]
#[command(
    name = "quickstart",
    version,
    after_help = "Examples:\n  quickstart\n  quickstart -- uname -a\n  echo 'id; exit 3' | quickstart\n  quickstart --keep"
)]
struct Cli {
    /// Stay up afterwards, keep everything, and print `aws ssm` lines for a second terminal
    #[arg(long)]
    keep: bool,
    /// Log what gateway and agent do on standard error: error, warn, info, debug, trace
    #[arg(long, default_value = "error", value_name = "LEVEL")]
    log_level: Level,
    /// Program to run in the session instead of a shell, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The program. The login step, which the agent runs for each session, is taken first.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments
        .get(1)
        .is_some_and(|first| first == login::SUBCOMMAND)
    {
        return login::main(arguments.into_iter().skip(2));
    }
    let cli = Cli::parse_from(arguments);
    memory::keep_freed();
    match start(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            exit::report(error.as_ref());
            ExitCode::from(exit::FAILURE)
        }
    }
}

fn start(cli: &Cli) -> anyhow::Result<u8> {
    crate::runtime::logging::init(&crate::runtime::logging::Options {
        log_format: crate::runtime::logging::Format::Human,
        log_level: cli.log_level.to_string(),
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(run(cli));
    // A write to a terminal that was stopped may never return, and must not hold the process.
    runtime.shutdown_background();
    result
}

async fn run(cli: &Cli) -> anyhow::Result<u8> {
    let cancel = CancellationToken::new();
    let signals = tokio::spawn(lifecycle::watch_signals(cancel.clone())?);
    let world = World::start(std::env::current_exe()?).await?;
    // Only a person is told; a program's output stays its own.
    let io = Io::stdio().context("cannot use standard input and output")?;
    let is_talkative = cli.command.is_empty() && io.is_interactive();
    if is_talkative {
        eprintln!(
            "gateway   {}\nagent     {} on this host\nstate     {}\n",
            world.url(),
            world.node_id(),
            world.folder().display()
        );
    }
    let ending = converse(cli, &world, io, &cancel).await;
    let recording = if cli.keep {
        world.recordings()
    } else {
        world.recordings_moved_out()?
    };
    if is_talkative || cli.keep {
        say_where(&recording);
    }
    if cli.keep {
        world.print_how_to_use();
        cancel.cancelled().await;
        eprintln!();
        say_where(&world.recordings_moved_out()?);
    }
    world.stop().await;
    signals.abort();
    ending
}

/// Runs one session from StartSession to its end; returns the exit code for this process.
async fn converse(
    cli: &Cli,
    world: &World,
    io: Io,
    cancel: &CancellationToken,
) -> anyhow::Result<u8> {
    let (document, parameters) = if cli.command.is_empty() {
        (None, Parameters::new())
    } else {
        let words = Parameters::from([("command".to_owned(), cli.command.clone())]);
        (Some(COMMAND_DOCUMENT), words)
    };
    let reason = Some("quickstart");
    let started = client::start_session(
        world.client(),
        world.node_id(),
        document,
        &parameters,
        reason,
    )
    .await?;
    let session_id = started.session_id.clone();
    let tls = Arc::clone(world.client().tls());
    let ending = Session::new(world.client().clone(), started, tls)
        .run(io, cancel)
        .await?;
    if ending.exit_code.is_none() {
        eprintln!("{}", ending.text(&session_id));
    }
    Ok(ending.exit_status())
}

fn say_where(recordings: &[PathBuf]) {
    let play = |path: &Path| {
        path.extension()
            .is_some_and(|extension| extension == "cast")
    };
    for path in recordings {
        let what = if play(path) {
            "recording (asciicast)"
        } else {
            "recording (plain log)"
        };
        eprintln!("{what}  {}", path.display());
    }
}
