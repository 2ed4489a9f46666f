//! The program that the AWS CLI starts under the name `session-manager-plugin`.
//!
//! The remote output, the version and the notice go to standard output; everything else, a remote
//! command's error output too, goes to standard error, so that what is piped from here holds nothing
//! but what the remote side wrote. (The official plugin writes all of it to standard output, and
//! always exits with 0.)
//!
//! While a remote command without a terminal runs, SIGINT and SIGQUIT are keys for it; the third within
//! a second ends the client. Where local programs connect to a remote port they are the way to leave,
//! and no failure, as with the official plugin.
//!
//! | exit status | meaning |
//! |---|---|
//! | that of the remote shell or command | it ended by itself |
//! | 0 | the session was closed without exit status and without a text, or connections to a port are wanted no more |
//! | 1 | it was closed with a text (shown), or it could not be run |
//! | 2 | the command line breaks the contract |
//! | 128 + n | signal n ended the client |
//! | 255 | the person left with `~.`, or the connection was lost for good |

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::ending::{Cause, Ending};
use super::io::Io;
use super::keys::Kms;
use super::session::{Encryption, Session, SessionError};
use super::signals::Signals;
use super::start::{self, Invocation, Start, UsageError};
use crate::aws::{ChainCredentials, Client, EndpointError, Endpoints};
use crate::protocol::wire::SessionId;
use crate::protocol::wire::version::CLIENT_WIRE_VERSION;
use crate::runtime::exit::{self, Hint};
use crate::runtime::logging::{self, LoggingError};
use crate::runtime::{memory, tls};

/// Names the level of log lines.
const LOG_VARIABLE: &str = "SSM_AGENT_LOG";
/// Log lines disturb a terminal in raw mode, so only those that someone must act on are written.
const DEFAULT_LOG_LEVEL: &str = "error";

/// Why a session could not be run.
#[derive(Debug, thiserror::Error)]
enum PluginError {
    #[error("cannot set up logging")]
    Logging(#[from] LoggingError),
    #[error("cannot tell where the control endpoint is")]
    Endpoint(#[from] EndpointError),
    #[error("cannot use the standard streams")]
    Streams(#[source] io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Runs the program with the process's arguments and environment.
pub fn main() -> ExitCode {
    memory::keep_freed();
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let status = match start::parse(&arguments, |name| std::env::var(name).ok()) {
        Ok(Invocation::Notice) => print(&notice()),
        Ok(Invocation::Version) => print(CLIENT_WIRE_VERSION),
        Ok(Invocation::Start(start)) => run(*start).unwrap_or_else(report),
        Err(error) => refuse(error),
    };
    ExitCode::from(status)
}

fn notice() -> String {
    format!(
        "The Session Manager plugin of ssm-agent {} is installed. \
         The AWS CLI starts it: aws ssm start-session --target NODE",
        env!("CARGO_PKG_VERSION")
    )
}

fn print(line: &str) -> u8 {
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => exit::OK,
        Err(_) => exit::FAILURE,
    }
}

fn refuse(error: UsageError) -> u8 {
    let hint = "this program is started by the AWS CLI: aws ssm start-session --target NODE; \
                see session-manager-plugin --version for its version";
    exit::report(&Hint::with(error, hint));
    exit::USAGE
}

fn report(error: PluginError) -> u8 {
    match hint(&error) {
        Some(hint) => exit::report(&Hint::with(error, hint)),
        None => exit::report(&error),
    }
    exit::FAILURE
}

fn hint(error: &PluginError) -> Option<&'static str> {
    match error {
        PluginError::Session(error) => error.hint(),
        PluginError::Logging(_) => Some("SSM_AGENT_LOG takes error, warn, info, debug or trace"),
        PluginError::Endpoint(_) | PluginError::Streams(_) | PluginError::Runtime(_) => None,
    }
}

/// Runs the session; returns the exit status.
fn run(start: Start) -> Result<u8, PluginError> {
    let level = std::env::var(LOG_VARIABLE).unwrap_or_else(|_| DEFAULT_LOG_LEVEL.into());
    let options = logging::Options {
        log_level: level,
        ..logging::Options::default()
    };
    logging::init(&options)?;
    // One session keeps one thread busy at most, and has its keystrokes wait for no other.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(PluginError::Runtime)?;

    let status = runtime.block_on(run_session(start));
    // A write to a stopped terminal may never return.
    runtime.shutdown_background();
    status
}

async fn run_session(start: Start) -> Result<u8, PluginError> {
    let aws = client(&start)?;
    let session_id = start.response.session_id.clone();
    let mut signals = Signals::take_over().map_err(PluginError::Streams)?;
    let io = Io::stdio().map_err(PluginError::Streams)?;
    let interrupts = io.interrupts();
    say(&format!(
        "\nStarting session with SessionId: {session_id}\n"
    ));

    let cancel = CancellationToken::new();
    let encryption = encryption(&start);
    let session =
        Session::new(aws, start.response, tls::client_config()).with_encryption(encryption);
    let mut run = Box::pin(session.run(io, &cancel));
    let mut caught = None;
    let ending = loop {
        tokio::select! {
            ending = &mut run => break ending?,
            number = signals.next() => {
                if interrupts.hand_over(number) {
                    continue;
                }
                if caught.is_some() {
                    break Ending::new(Cause::Cancelled);
                }
                caught = Some(number);
                cancel.cancel();
            }
        }
    };
    Ok(conclude(&session_id, &ending, caught))
}

fn client(start: &Start) -> Result<Client, EndpointError> {
    let mut endpoints = Endpoints::for_region(&start.region, None)?;
    if let Some(endpoint) = &start.endpoint {
        endpoints = endpoints.with_ssm(endpoint)?;
    }
    let credentials = ChainCredentials::new(start.profile.as_deref(), Some(&start.region));
    Ok(Client::new(
        endpoints,
        tls::client_config(),
        Arc::new(credentials),
    ))
}

fn encryption(start: &Start) -> Result<Encryption, String> {
    // Only old command lines do not name the node.
    let target = start.target.clone().ok_or(
        "this version of the AWS CLI does not say which node the session is on; please update it",
    )?;
    let kms = Kms::new(
        start.profile.as_deref(),
        &start.region,
        tls::client_config(),
    );
    Ok(Encryption {
        target,
        keys: Arc::new(kms),
    })
}

fn conclude(session_id: &SessionId, ending: &Ending, caught: Option<u8>) -> u8 {
    say(&format!("\n{}\n", ending.text(session_id)));
    match (ending.cause, caught) {
        (Cause::Cancelled, Some(number)) => exit::SIGNAL_BASE + number,
        _ => ending.exit_status(),
    }
}

/// Tells the person something; a closed standard error leaves nobody to tell.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
