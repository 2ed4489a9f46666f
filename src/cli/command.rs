//! What `ssm-cli` does, from its command line to its exit code.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;

use super::agent::{self, AgentError};
use super::args::{Cli, Command, Form, in_lower_case};
use super::diagnostics::{self, Outcome, Subject};
use super::{instance, offline, render, status};
use crate::agent::{Places, verify_recording};
use crate::protocol::wire::local::{ChannelState, Time};
use crate::protocol::wire::version::AGENT_WIRE_VERSION;
use crate::runtime::clock::unix_ms;
use crate::runtime::exit::{self, Hint};

/// The program. The first of its arguments is its name.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let cli = Cli::parse_from(in_lower_case(arguments));
    match start(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            exit::report(error.as_ref());
            ExitCode::from(code_of(&error))
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let code = runtime.block_on(run(cli));
    // A look at a file system that hangs must not hold the process.
    runtime.shutdown_background();
    code
}

async fn run(cli: Cli) -> anyhow::Result<u8> {
    let places = cli.places;
    match cli.command {
        Command::GetInstanceInformation => {
            let information = instance::find(&places).await?;
            print(&format!("{}\n", serde_json::to_string(&information)?))?;
            Ok(exit::OK)
        }
        Command::GetDiagnostics { form, strict } => {
            diagnose(places, form.or(Form::Json), strict).await
        }
        Command::Status { form } => show_status(&places, form.or(Form::Table)).await,
        Command::SendOffline { content } => {
            let said = offline::send(&places, content).await?;
            print(&format!("{said}\n"))?;
            Ok(exit::OK)
        }
        Command::OfflineInvocation {
            command_id,
            details,
        } => {
            let said = offline::invocation(&places, command_id, details).await?;
            print(&format!("{said}\n"))?;
            Ok(exit::OK)
        }
        Command::VerifyRecording(arguments) => {
            let is_good = verify_recording::run(&arguments)?;
            Ok(if is_good { exit::OK } else { exit::FAILURE })
        }
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            print(&format!(
                "ssm-cli {version} (on the wire {AGENT_WIRE_VERSION})\n"
            ))?;
            Ok(exit::OK)
        }
    }
}

async fn diagnose(places: Places, form: Form, strict: bool) -> anyhow::Result<u8> {
    let subject = Arc::new(Subject::gather(places).await);
    let findings = diagnostics::examine(subject).await;
    match form {
        Form::Json => print(&format!("{}\n", diagnostics::to_json(&findings)))?,
        Form::Table => print(&render::columns(&diagnostics::to_table(&findings)))?,
    }
    let has_failed = |finding: &diagnostics::Finding| finding.verdict.status == Outcome::Failed;
    Ok(if strict && findings.iter().any(has_failed) {
        exit::FAILURE
    } else {
        exit::OK
    })
}

async fn show_status(places: &Places, form: Form) -> anyhow::Result<u8> {
    let asked = agent::status(&places.socket()).await;
    let status = asked.map_err(|error| {
        let hint = error.hint();
        Hint::with(error, hint)
    })?;
    let now = Time::from_unix_ms(i64::try_from(unix_ms()).unwrap_or(i64::MAX));
    match form {
        Form::Json => print(&format!("{}\n", serde_json::to_string_pretty(&status)?))?,
        Form::Table => print(&status::describe(&status, now))?,
    }
    Ok(match status.control_channel.state {
        ChannelState::Connected => exit::OK,
        ChannelState::Connecting
        | ChannelState::Waiting
        | ChannelState::Stopped
        | ChannelState::Unknown => exit::FAILURE,
    })
}

/// A reader who has seen enough is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn code_of(error: &anyhow::Error) -> u8 {
    let hinted = error.downcast_ref::<Hint>().map(Hint::error);
    match hinted.and_then(|error| error.downcast_ref::<AgentError>()) {
        Some(error) if error.is_absence() => exit::NOT_RUNNING,
        _ => exit::REFUSED,
    }
}
