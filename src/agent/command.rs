//! What `ssm-agent` does, from its command line to its exit code.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::{Parser, ValueEnum};
use tokio::select;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::args::{Cli, Command, Places, Register, translate_legacy};
use super::config::{self, Settings};
use super::daemon::{self, Keeping, Start};
use super::host::login;
use super::identity::{self, Vault, registration};
use super::keeper::{self, Program};
use super::session::Roster;
use super::{carrier, setup, verify_recording};
use crate::aws::{Activation, Secret};
use crate::runtime::cause::in_one_line;
use crate::runtime::exit::{self, Hint};
use crate::runtime::{lifecycle, logging, memory, systemd};

/// The region whose endpoints are checked where the node's is not known; it has every sort of them.
const ANY_REGION: &str = "us-east-1";
/// Tasks that run before sockets and terminals are looked at again: few, so that a key typed into one
/// session does not wait for long behind the bulk output of another.
const EVENT_INTERVAL: u32 = 8;

/// The question of the reference.
const OVERRIDE: &str = "Instance already registered. Would you like to override existing with new registration information? [Yes/No]: ";

/// The program. The login step is taken before anything starts a thread.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments
        .get(1)
        .is_some_and(|first| first == login::SUBCOMMAND)
    {
        return login::main(arguments.into_iter().skip(2));
    }
    let is_legacy_version = arguments.len() == 2 && arguments[1] == "-version";
    if is_legacy_version {
        println!(
            "SSM Agent version: {}",
            crate::protocol::wire::version::AGENT_WIRE_VERSION
        );
        return ExitCode::SUCCESS;
    }
    let cli = Cli::parse_from(translate_legacy(arguments));
    match dispatch(cli) {
        Ok(true) => ExitCode::from(exit::OK),
        Ok(false) => ExitCode::from(exit::FAILURE),
        Err(error) => {
            exit::report(error.as_ref());
            ExitCode::from(exit::FAILURE)
        }
    }
}

/// Returns whether what was to be checked is good.
fn dispatch(cli: Cli) -> anyhow::Result<bool> {
    logging::init(&cli.logging)?;
    // A recording may be examined on a host that has no agent, and no configuration of one.
    if let Some(Command::VerifyRecording(arguments)) = &cli.command {
        return verify_recording::run(arguments);
    }
    let (settings, warnings) = config::load(&cli.places.config)?;
    let logging = cli.logging;
    match cli.command.unwrap_or(Command::Run) {
        Command::CheckConfig => {
            check_config(&cli.places, &settings, &warnings)?;
        }
        command => {
            for warning in &warnings {
                tracing::warn!(file = %cli.places.config.display(), "{warning}");
            }
            memory::keep_freed();
            // One thread runs all sessions; files are written by others. What passes from task to task
            // stays on one processor: with two threads bulk output is a quarter slower and costs a
            // quarter more processor time, as each wakes the other for every message.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .event_interval(EVENT_INTERVAL)
                .enable_all()
                .build()
                .context("cannot start the runtime")?;
            match command {
                Command::Register(register) => {
                    runtime.block_on(self::register(&register, &settings, &cli.places))?;
                }
                Command::Deregister { yes } => deregister(yes, &cli.places)?,
                Command::Fingerprint {
                    similarity_threshold,
                } => set_threshold(&cli.places, similarity_threshold)?,
                Command::KeepSessions => runtime.block_on(keep_sessions(settings, cli.places))?,
                Command::Run
                | Command::CheckConfig
                | Command::VerifyRecording(_)
                | Command::Login { .. } => {
                    runtime.block_on(run(settings, cli.places, &logging))?;
                }
            }
        }
    }
    Ok(true)
}

async fn run(settings: Settings, places: Places, logging: &logging::Options) -> anyhow::Result<()> {
    let cancel = CancellationToken::new();
    let signals = tokio::spawn(lifecycle::watch_signals(cancel.clone())?);
    let program = own_program()?;
    let keepers = match runtime_folder() {
        Some(runtime) => Some(Keeping {
            runtime,
            program: keeper_program(&places, logging)?,
        }),
        None => None,
    };
    let own = Roster::default();
    let reload = Reload {
        places: places.clone(),
        own: own.clone(),
        cancel: cancel.clone(),
    };
    let reloading = tokio::spawn(reload.wait(signal(SignalKind::hangup())?));
    let start = Start {
        settings,
        socket: places.socket(),
        places: carrier_places(places)?,
        keepers,
        own,
    };
    let result = daemon::run(start, cancel).await;
    signals.abort();
    if result.is_ok() && reloading.is_finished() && reloading.await.is_ok_and(|wanted| wanted) {
        tracing::info!("starting anew with the changed configuration");
        let again = std::process::Command::new(&program)
            .args(std::env::args_os().skip(1))
            .exec();
        return Err(again).with_context(|| format!("cannot start {} again", program.display()));
    }
    result
}

/// What SIGHUP does: the agent starts anew in its process, with the configuration of then.
struct Reload {
    places: Places,
    /// The sessions that the agent carries itself: they would end with this run.
    own: Roster,
    cancel: CancellationToken,
}

impl Reload {
    /// Waits for the signal, or for the end of this run; whether the agent shall start anew.
    async fn wait(self, mut hangups: Signal) -> bool {
        loop {
            select! {
                () = self.cancel.cancelled() => {
                    systemd::stopping();
                    return false;
                }
                _ = hangups.recv() => {}
            }
            let own = self.own.list().len();
            if own > 0 {
                tracing::warn!(
                    sessions = own,
                    "not reloaded: sessions would end that the agent carries itself; try again when they are over"
                );
                continue;
            }
            match self.check() {
                Ok(()) => {
                    systemd::reloading();
                    self.cancel.cancel();
                    return true;
                }
                Err(error) => tracing::error!(
                    error = in_one_line(error.as_ref()),
                    "not reloaded, the configuration of before holds"
                ),
            }
        }
    }
}

impl Reload {
    /// Whether an agent could start with the configuration as it is now.
    fn check(&self) -> anyhow::Result<()> {
        let (settings, _) = config::load(&self.places.config)?;
        check_usable(&self.places, &settings)
    }
}

async fn keep_sessions(settings: Settings, places: Places) -> anyhow::Result<()> {
    let cancel = CancellationToken::new();
    let signals = tokio::spawn(lifecycle::watch_signals(cancel.clone())?);
    let start = keeper::Start {
        settings,
        places: carrier_places(places)?,
    };
    let result = keeper::run(start, cancel).await;
    signals.abort();
    result
}

fn carrier_places(places: Places) -> anyhow::Result<carrier::Places> {
    Ok(carrier::Places {
        state: places.state,
        logs: places.logs,
        program: own_program()?,
    })
}

fn own_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}

/// The folder that systemd made for what outlives a restart of the service.
fn runtime_folder() -> Option<PathBuf> {
    let folders = std::env::var_os("RUNTIME_DIRECTORY")?;
    // Several are separated by colons; the first is ours.
    let first = std::env::split_paths(&folders).next()?;
    first.is_absolute().then_some(first)
}

/// What a keeper is started as: this program, with what was said to it.
fn keeper_program(places: &Places, logging: &logging::Options) -> anyhow::Result<Program> {
    let format = logging.log_format.to_possible_value();
    let format = format.context("the log format has no name")?;
    let flags: [(&str, &OsStr); 5] = [
        ("--config", places.config.as_os_str()),
        ("--state-dir", places.state.as_os_str()),
        ("--log-dir", places.logs.as_os_str()),
        ("--log-format", OsStr::new(format.get_name())),
        ("--log-level", OsStr::new(&logging.log_level)),
    ];
    let mut arguments = vec![OsString::from("keep-sessions")];
    arguments.extend(
        flags
            .iter()
            .flat_map(|(flag, value)| [OsString::from(flag), (*value).into()]),
    );
    Ok(Program {
        path: own_program()?,
        arguments,
    })
}

/// Whether what the configuration names can be used.
fn check_usable(places: &Places, settings: &Settings) -> anyhow::Result<()> {
    setup::tls(settings).context("SsmAgent.CaFile cannot be used")?;
    let identity = setup::identity(settings, &places.state);
    let region = identity::known_region(&identity).unwrap_or_else(|| ANY_REGION.to_owned());
    setup::overrides(settings)
        .resolve(&region)
        .context("the endpoints cannot be used")?;
    Ok(())
}

fn check_config(places: &Places, settings: &Settings, warnings: &[String]) -> anyhow::Result<()> {
    check_usable(places, settings)?;
    for warning in warnings {
        println!("warning: {warning}");
    }
    let path = places.config.display();
    if places.config.exists() {
        println!("{path} is usable");
    } else {
        println!("{path} does not exist, the defaults apply");
    }
    Ok(())
}

async fn register(register: &Register, settings: &Settings, places: &Places) -> anyhow::Result<()> {
    let vault = Vault::new(&places.state);
    let is_whole = register.code.is_some() && register.id.is_some() && register.region.is_some();
    if register.clear && !is_whole {
        registration::clear(&vault)?;
        println!("Registration information has been removed from the instance.");
        return Ok(());
    }
    let request = registration::Request {
        activation: Activation {
            code: Secret::new(needed(
                register.code.as_ref(),
                "--code (or SSM_ACTIVATION_CODE)",
            )?),
            id: needed(register.id.as_ref(), "--id")?,
        },
        region: needed(register.region.as_ref(), "--region")?,
        disable_similarity_check: register.disable_similarity_check,
    };
    if registration::registered_as(&vault)?.is_some()
        && !register.yes
        && !confirmed(OVERRIDE, "give -y to replace the registration")?
    {
        return Err(anyhow!("Registration canceled by user"));
    }
    let tls = setup::tls(settings).context("SsmAgent.CaFile cannot be used")?;
    let registered =
        registration::register(&vault, &setup::overrides(settings), tls, &request).await;
    let registered = registered.map_err(|error| match error.hint() {
        Some(hint) => anyhow!(Hint::with(error, hint)),
        None => anyhow!(error),
    })?;
    println!(
        "Successfully registered the instance with AWS SSM using Managed instance-id: {}",
        registered.node_id
    );
    Ok(())
}

fn deregister(yes: bool, places: &Places) -> anyhow::Result<()> {
    let vault = Vault::new(&places.state);
    let Some(node_id) = registration::registered_as(&vault)? else {
        println!("This host is not registered.");
        return Ok(());
    };
    let question = format!("Forget that this host is registered as {node_id}? [Yes/No]: ");
    if !yes && !confirmed(&question, "give -y to forget the registration")? {
        return Err(anyhow!("nothing was changed"));
    }
    registration::clear(&vault)?;
    println!("This host is no longer registered; it was {node_id}.");
    eprintln!("hint: an agent that runs keeps its identity until `systemctl restart ssm-agent`");
    eprintln!(
        "hint: the service lists the node until `aws ssm deregister-managed-instance --instance-id {node_id}`"
    );
    Ok(())
}

fn needed(value: Option<&String>, name: &str) -> anyhow::Result<String> {
    value
        .cloned()
        .ok_or_else(|| anyhow!("registration needs {name}"))
}

/// Asks; without a terminal nobody can answer, and nothing is replaced.
fn confirmed(question: &str, hint: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(anyhow!(Hint::with(
            anyhow!("this host is registered already"),
            hint
        )));
    }
    print!("{question}");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "yes" | "y"
    ))
}

fn set_threshold(places: &Places, threshold: i32) -> anyhow::Result<()> {
    if threshold != -1 && !(1..=100).contains(&threshold) {
        return Err(anyhow!(
            "similarity threshold {threshold} is neither -1 nor within 1 to 100"
        ));
    }
    let vault = Vault::new(&places.state);
    let mut stored = vault.fingerprint()?.unwrap_or_default();
    stored.similarity_threshold = threshold;
    vault.store_fingerprint(&stored)?;
    println!("Fingerprint SimilarityThreshold set to {threshold}");
    Ok(())
}
