//! Starts a command without a terminal, and learns whether it really runs.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, Span};

use super::super::groups;
use super::super::task::{Context, Session};
use super::super::user::RunAsError;
use super::Command;
use super::output::Outputs;
use crate::agent::host::pipes::{self, Pipe, SpawnError, Spawned, Streams};
use crate::agent::host::process::Processes;
use crate::agent::host::pty::Output;
use crate::protocol::wire::SessionId;
use crate::runtime::cause::in_one_line;

/// Most of a report that is read; the login step writes one line.
const REPORT: usize = 4096;

/// A command that runs.
pub(super) struct Process {
    pub(super) outputs: Outputs,
    pub(super) processes: Processes,
    /// The user it runs as.
    pub(super) user: String,
    /// What runs, for the record.
    pub(super) shown: String,
}

/// Why a command does not run. The beginnings are the reference's.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("Unable to start command: {0}")]
    Prepare(String),
    #[error("Error occurred starting the command: {report}")]
    Login {
        /// What the login step said.
        report: String,
        /// Its exit code.
        code: i32,
    },
}

/// What keeps a process from being spawned.
#[derive(Debug, thiserror::Error)]
enum PrepareError {
    #[error(transparent)]
    User(#[from] RunAsError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// A command that is being started. Dropped before it runs, what was started ends again.
pub(super) struct Starting(AbortOnDropHandle<Result<Process, StartError>>);

impl Starting {
    /// Waits until it runs. Cancel-safe until it returned.
    pub(super) async fn started(&mut self) -> Result<Process, StartError> {
        match (&mut self.0).await {
            Ok(started) => started,
            Err(error) => Err(StartError::Prepare(in_one_line(&error))),
        }
    }
}

/// Starts a command.
pub(super) fn start(session: &Session, command: Command) -> Starting {
    let context = Arc::clone(&session.context);
    let id = session.start.session_id.clone();
    let start = async move {
        let prepared = prepare(context, id, command).await;
        let mut prepared = prepared.map_err(StartError::Prepare)?;
        let report = read_report(&prepared.report).await;
        if report.is_empty() {
            return Ok(prepared.process);
        }
        let code = prepared.process.processes.exited().await.code();
        Err(StartError::Login { report, code })
    };
    Starting(AbortOnDropHandle::new(tokio::spawn(
        start.in_current_span(),
    )))
}

struct Prepared {
    process: Process,
    report: Pipe,
}

/// It forks, and it may ask a directory service for the user or create one.
async fn prepare(
    context: Arc<Context>,
    id: SessionId,
    command: Command,
) -> Result<Prepared, String> {
    let span = Span::current();
    let spawned =
        tokio::task::spawn_blocking(move || span.in_scope(|| spawn(&context, &id, command)));
    match spawned.await {
        Ok(prepared) => prepared.map_err(|error| in_one_line(&error)),
        Err(error) => Err(in_one_line(&error)),
    }
}

fn spawn(context: &Context, id: &SessionId, command: Command) -> Result<Prepared, PrepareError> {
    let login = command.user.find(context, true)?;
    let group = groups::make(&context.settings, id);
    let step = login.step(&context.settings, id, &command.words, true, group.as_ref());
    let spawned = pipes::spawn(&pipes::Command {
        program: step.program,
        args: step.args,
        environment: step.environment,
        streams: match command.separate {
            Some(_) => Streams::Separate,
            None => Streams::Merged,
        },
    });
    let Spawned {
        output,
        error,
        report,
        processes,
    } = match spawned {
        Ok(spawned) => spawned,
        Err(error) => {
            groups::discard(group);
            return Err(error.into());
        }
    };
    let prefixes = command.separate.unwrap_or_default();
    let process = Process {
        outputs: Outputs::new(output, error, prefixes),
        processes: processes
            .within(group)
            .attended(context.settings.pam_service.is_some()),
        user: login.account.name,
        shown: command.words.join(" "),
    };
    Ok(Prepared { process, report })
}

/// What the login step reports: nothing once the command has taken over.
async fn read_report(report: &Pipe) -> String {
    let mut text = Vec::new();
    while let Ok(Output::Bytes(bytes)) = report.read().await {
        text.extend_from_slice(&bytes);
        if text.len() >= REPORT {
            break;
        }
    }
    String::from_utf8_lossy(&text).trim_end().to_owned()
}
