//! Asks the running agent.

use std::path::Path;
use std::time::Duration;

use crate::protocol::wire::DecodeError;
use crate::protocol::wire::local::{ANSWER_LIMIT, AgentStatus, Answer, Request};
use crate::transport::local_socket::{self, AskError};

/// An agent answers at once, or is too busy for its sessions as well.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why the agent did not say how it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgentError {
    /// There was no answer.
    #[error(transparent)]
    NoAnswer(#[from] AskError),
    /// It is another protocol.
    #[error("the agent's answer is not understood")]
    Malformed(#[from] DecodeError),
    /// It refused.
    #[error("the agent refused: {0}")]
    Refused(String),
}

impl AgentError {
    /// Whether no agent runs.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::NoAnswer(AskError::NobodyThere(_)))
    }

    /// The next step for a person.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::NoAnswer(AskError::NobodyThere(_)) => {
                "start it with `systemctl start ssm-agent`; `ssm-cli get-diagnostics --output table` works without it"
            }
            Self::NoAnswer(AskError::Forbidden(_)) => "run it as root, or as the agent's own user",
            Self::NoAnswer(AskError::Late { .. } | AskError::Io { .. }) => {
                "look into its log: `journalctl -u ssm-agent`"
            }
            Self::Malformed(_) | Self::Refused(_) => {
                "agent and ssm-cli are of different versions: restart the agent"
            }
        }
    }
}

/// Asks the agent that listens on `socket` how it is.
///
/// # Errors
/// [`AgentError`].
pub(super) async fn status(socket: &Path) -> Result<AgentStatus, AgentError> {
    let line = Request::Status.encode();
    let answer = local_socket::ask(socket, line, ANSWER_LIMIT, PATIENCE).await?;
    match Answer::decode(&answer)? {
        Answer::Status(status) => Ok(*status),
        Answer::Refused { problem } => Err(AgentError::Refused(problem)),
        Answer::Done => Err(AgentError::Refused("it says nothing of itself".to_owned())),
    }
}

/// Has the agent that listens on `socket` look for commands that were left on this host.
///
/// # Errors
/// [`AgentError`].
pub(super) async fn take_local_commands(socket: &Path) -> Result<(), AgentError> {
    let line = Request::TakeLocalCommands.encode();
    let answer = local_socket::ask(socket, line, ANSWER_LIMIT, PATIENCE).await?;
    match Answer::decode(&answer)? {
        Answer::Done => Ok(()),
        Answer::Refused { problem } => Err(AgentError::Refused(problem)),
        Answer::Status(_) => Err(AgentError::Refused(
            "it answers another question".to_owned(),
        )),
    }
}
