//! Starts the terminal of a session: finds the user, spawns the login step on a pseudo-terminal.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;
use tracing::Span;

use super::groups;
use super::shell::Shell;
use super::task::{Context, Session};
use super::user::RunAsError;
use crate::agent::host::process::Processes;
use crate::agent::host::pty::{self, Pty, SpawnError};
use crate::protocol::wire::{SessionId, TerminalSize};
use crate::runtime::cause::in_one_line;

/// Size of a terminal until the client tells its own.
pub(super) const DEFAULT_SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

/// A terminal and what runs on it.
pub(super) struct Terminal {
    pub(super) pty: Pty,
    pub(super) processes: Processes,
    /// The user it runs as.
    pub(super) user: String,
    /// What runs on it, for the record.
    pub(super) command: String,
}

/// Why there is no terminal.
#[derive(Debug, thiserror::Error)]
pub(super) enum TerminalError {
    #[error(transparent)]
    User(#[from] RunAsError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// A terminal that is being started. Dropped before it is there, what was started ends again.
pub(super) struct Starting(AbortOnDropHandle<Result<Terminal, TerminalError>>);

/// Starts a terminal with the login shell of the session's user, or with the command of `shell`.
pub(super) fn start(session: &Session, shell: Shell, size: TerminalSize) -> Starting {
    let context = Arc::clone(&session.context);
    let id = session.start.session_id.clone();
    let span = Span::current();
    // It starts a process, and it may ask a directory service for the user or create one.
    let task =
        tokio::task::spawn_blocking(move || span.in_scope(|| spawn(&context, &id, &shell, size)));
    Starting(AbortOnDropHandle::new(task))
}

impl Starting {
    /// Waits for the terminal; the error is the text for the person. Cancel-safe until it returned.
    pub(super) async fn started(&mut self) -> Result<Terminal, String> {
        let reason = match (&mut self.0).await {
            Ok(Ok(terminal)) => return Ok(terminal),
            Ok(Err(error)) => in_one_line(&error),
            Err(error) => in_one_line(&error),
        };
        // The words of the reference agent.
        Err(format!("Unable to start command: {reason}"))
    }
}

fn spawn(
    context: &Context,
    id: &SessionId,
    shell: &Shell,
    size: TerminalSize,
) -> Result<Terminal, TerminalError> {
    let words = &shell.command;
    let login = shell.user.find(context, !words.is_empty())?;
    let group = groups::make(&context.settings, id);
    let step = login.step(&context.settings, id, words, false, group.as_ref());
    let command = pty::Command {
        program: step.program,
        args: step.args,
        environment: step.environment,
        mode: shell.mode,
    };
    let (pty, processes) = match pty::spawn(&command, size) {
        Ok(spawned) => spawned,
        Err(error) => {
            groups::discard(group);
            return Err(error.into());
        }
    };
    Ok(Terminal {
        pty,
        processes: processes
            .within(group)
            .attended(context.settings.pam_service.is_some()),
        command: match &words[..] {
            [] => login.account.shell.display().to_string(),
            words => words.join(" "),
        },
        user: login.account.name,
    })
}
