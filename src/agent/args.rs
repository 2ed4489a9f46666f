//! The command line of `ssm-agent`, and the reference's single-dash flags translated to it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use super::local_api;
use super::verify_recording::{self, VerifyRecording};
use crate::runtime::logging;

/// Default folder of everything that must survive a restart, as in the reference.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/amazon/ssm";
/// Default folder of what people read afterwards, as in the reference.
pub const DEFAULT_LOG_DIR: &str = "/var/log/amazon/ssm";
/// Default folder of the socket that `ssm-cli` asks the agent through; systemd makes it.
pub const DEFAULT_RUNTIME_DIR: &str = "/run/ssm-agent";
/// Default configuration file, as in the reference.
pub const DEFAULT_CONFIG: &str = "/etc/amazon/ssm/amazon-ssm-agent.json";

/// The runtime folder of an agent whose state is elsewhere than usual.
const RUNTIME_IN_STATE: &str = "run";

/// A drop-in replacement for the AWS Systems Manager agent.
#[derive(Debug, Parser)]
#[command(
    name = "ssm-agent",
    version,
    about,
    after_help = "Example: ssm-agent register --id ID --code CODE --region eu-central-1"
)]
pub struct Cli {
    /// Folders and files.
    #[command(flatten)]
    pub places: Places,
    /// Logging.
    #[command(flatten)]
    pub logging: logging::Options,
    /// What to do; `run` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where the agent finds and keeps things.
#[derive(Debug, Clone, Args)]
pub struct Places {
    /// Configuration file
    #[arg(long, global = true, default_value = DEFAULT_CONFIG, value_name = "FILE", value_parser = absolute())]
    pub config: PathBuf,
    /// Folder for registration and credentials
    #[arg(long = "state-dir", global = true, default_value = DEFAULT_STATE_DIR, value_name = "DIR", value_parser = absolute())]
    pub state: PathBuf,
    /// Folder for recordings and the audit log, unless the configuration names another
    #[arg(long = "log-dir", global = true, default_value = DEFAULT_LOG_DIR, value_name = "DIR", value_parser = absolute())]
    pub logs: PathBuf,
    /// Folder of the socket that ssm-cli asks the agent through; by default /run/ssm-agent, or `run`
    /// in a state folder that was named
    #[arg(long = "runtime-dir", global = true, value_name = "DIR", value_parser = absolute())]
    pub runtime: Option<PathBuf>,
}

/// What is started in another folder finds them too.
fn absolute() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(std::path::absolute)
}

impl Places {
    /// Where `ssm-cli` asks the agent. Agents with state folders of their own do not share it.
    pub fn socket(&self) -> PathBuf {
        let folder = match &self.runtime {
            Some(folder) => folder.clone(),
            None if self.state == Path::new(DEFAULT_STATE_DIR) => DEFAULT_RUNTIME_DIR.into(),
            None => self.state.join(RUNTIME_IN_STATE),
        };
        folder.join(local_api::SOCKET)
    }
}

/// What `ssm-agent` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent until it is told to stop (the default)
    #[command(after_help = "Example: ssm-agent run --config ./agent.json --state-dir ./state")]
    Run,
    /// Register this host with a hybrid activation
    #[command(after_help = "Example: ssm-agent register --id ID --code CODE --region eu-central-1")]
    Register(Register),
    /// Forget that this host is registered
    #[command(
        long_about = "Forget that this host is registered: its key, its node id and its fingerprint. The service still \
                      lists the node until somebody deregisters it there.",
        after_help = "Example: ssm-agent deregister --yes"
    )]
    Deregister {
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Read and check the configuration as a start would, and exit
    #[command(after_help = "Example: ssm-agent check-config --config ./agent.json")]
    CheckConfig,
    /// Set how similar the hardware must be to keep the registration
    #[command(after_help = "Example: ssm-agent fingerprint --similarity-threshold 40")]
    Fingerprint {
        /// Percent of equal hardware facts needed, 1 to 100; -1 switches the check off
        #[arg(long, allow_negative_numbers = true, value_name = "N")]
        similarity_threshold: i32,
    },
    /// Say whether a recording is as it was written
    #[command(
        long_about = verify_recording::ABOUT,
        after_help = "Example: ssm-agent verify-recording /var/log/amazon/ssm/sessions/alice-0123.cast"
    )]
    VerifyRecording(VerifyRecording),
    /// Carry sessions for the agent, whose socket is the standard input; used by the agent itself
    #[command(hide = true)]
    KeepSessions,
    /// Become a session's user and start its shell; used by the agent itself
    #[command(hide = true, disable_help_flag = true)]
    Login {
        /// The login step's own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Arguments of `register`.
#[derive(Debug, Args)]
pub struct Register {
    /// Activation code; better given in the variable than on the command line, where others see it
    #[arg(long, env = "SSM_ACTIVATION_CODE", hide_env_values = true)]
    pub code: Option<String>,
    /// Activation id
    #[arg(long)]
    pub id: Option<String>,
    /// Region of the activation
    #[arg(long)]
    pub region: Option<String>,
    /// Replace an existing registration without asking
    #[arg(short, long)]
    pub yes: bool,
    /// Remove the registration instead
    #[arg(long)]
    pub clear: bool,
    /// Accept this registration on any hardware
    #[arg(long)]
    pub disable_similarity_check: bool,
}

/// Rewrites the reference's flags (`-register -code C …`, `--register` too) to our subcommands;
/// anything else is left as it is.
pub fn translate_legacy(arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(verb) = arguments
        .iter()
        .skip(1)
        .find_map(|argument| legacy_verb(argument))
    else {
        return arguments;
    };
    let mut arguments = arguments.into_iter();
    let mut translated: Vec<OsString> = arguments.next().into_iter().collect();
    translated.push(verb.into());
    for argument in arguments {
        if legacy_verb(&argument) == Some(verb) {
            continue;
        }
        match argument.to_str().and_then(legacy_flag) {
            Some(flag) => translated.push(flag.into()),
            None => translated.push(argument),
        }
    }
    translated
}

fn legacy_verb(argument: &OsString) -> Option<&'static str> {
    match argument.to_str()? {
        "-register" | "--register" => Some("register"),
        "-fingerprint" | "--fingerprint" => Some("fingerprint"),
        "-version" => Some("--version"),
        _ => None,
    }
}

fn legacy_flag(argument: &str) -> Option<String> {
    let name = argument
        .strip_prefix("--")
        .or_else(|| argument.strip_prefix('-'))?;
    let (name, value) = match name.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (name, None),
    };
    let flag = match name {
        "code" => "--code",
        "id" => "--id",
        "region" => "--region",
        "y" => "--yes",
        "clear" => "--clear",
        "disableSimilarityCheck" => "--disable-similarity-check",
        "similarityThreshold" => "--similarity-threshold",
        _ => return None,
    };
    Some(match value {
        Some(value) => format!("{flag}={value}"),
        None => flag.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_registration_flags_become_the_register_command() {
        let cli = parse("-register -code C -id I -region eu-central-1 -y");

        let Some(Command::Register(register)) = cli.command else {
            panic!("{cli:?}")
        };
        assert_eq!(register.code.as_deref(), Some("C"));
        assert_eq!(register.id.as_deref(), Some("I"));
        assert_eq!(register.region.as_deref(), Some("eu-central-1"));
        assert!(register.yes && !register.clear);
    }

    #[test]
    fn reference_flags_in_any_order_and_form_are_understood() {
        let cli = parse("--code=C -region=r --register -disableSimilarityCheck --id I");

        let Some(Command::Register(register)) = cli.command else {
            panic!("{cli:?}")
        };
        assert_eq!(register.code.as_deref(), Some("C"));
        assert!(register.disable_similarity_check);
        let cli = parse("-register -clear");
        assert!(matches!(
            cli.command,
            Some(Command::Register(Register { clear: true, .. }))
        ));
        let cli = parse("-fingerprint -similarityThreshold -1");
        assert!(matches!(
            cli.command,
            Some(Command::Fingerprint {
                similarity_threshold: -1
            })
        ));
    }

    #[test]
    fn agents_with_states_of_their_own_have_sockets_of_their_own() {
        for (line, socket) in [
            ("run", "/run/ssm-agent/agent.sock"),
            ("run --state-dir /y", "/y/run/agent.sock"),
            ("run --state-dir /y --runtime-dir /z", "/z/agent.sock"),
        ] {
            assert_eq!(parse(line).places.socket(), Path::new(socket), "{line}");
        }
    }

    #[test]
    fn own_commands_pass_unchanged() {
        let cli = parse("run --config /x --state-dir /y");

        assert!(matches!(cli.command, Some(Command::Run)));
        assert_eq!(cli.places.config, PathBuf::from("/x"));
        assert_eq!(cli.places.state, PathBuf::from("/y"));
        assert!(parse("").command.is_none());
    }

    #[test]
    fn folders_are_found_from_everywhere() {
        let relative = parse("run --state-dir y").places.state;

        assert_eq!(relative, std::env::current_dir().unwrap().join("y"));
    }

    fn parse(line: &str) -> Cli {
        let arguments = std::iter::once("ssm-agent").chain(line.split_whitespace());
        Cli::try_parse_from(translate_legacy(arguments.map(OsString::from).collect())).unwrap()
    }
}
