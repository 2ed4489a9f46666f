//! Why a session is over, and what follows from it.

use super::connection::Connection;
use super::outcome::Outcome;
use super::task::Session;
use crate::agent::host::process::ExitStatus;
use crate::agent::transcript;
use crate::protocol::wire::SessionId;
use crate::transport::Outgoing;

/// What the person is told of [`End::Unrecorded`].
pub(super) const UNRECORDED: &str =
    "the session has to be recorded, and its record is not taken any more";

/// Why all sessions are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The agent stops.
    Agent,
    /// The host shuts down.
    Host,
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The shell or command ended.
    Exited(ExitStatus),
    /// The client asked for it.
    Left,
    /// The gateway asked for it on the control channel.
    Terminated,
    /// The gateway closed the data channel.
    Closed,
    /// What carries it stops.
    Stopping(Stop),
    /// The data channel is gone for good; this is why.
    Lost(String),
    /// The shell or command cannot be started; this is why.
    NotStarted(String),
    /// The destination of a raw stream closed its connection.
    Finished,
    /// A service that has to have the record takes no more of it.
    Unrecorded,
    /// Something broke in the middle of the session; this is why.
    Broken(String),
}

impl End {
    /// The end of a session whose token was cancelled.
    pub(super) fn of_cancelled(session: &Session) -> Self {
        if session.context.stopping.is_cancelled() {
            let stop = session.context.stop.get().copied();
            Self::Stopping(stop.unwrap_or(Stop::Agent))
        } else {
            Self::Terminated
        }
    }

    /// Whether anybody is left at the other end of the data channel.
    pub(super) fn leaves_somebody(&self) -> bool {
        match self {
            Self::Exited(_)
            | Self::Left
            | Self::Terminated
            | Self::Stopping(_)
            | Self::NotStarted(_)
            | Self::Finished
            | Self::Unrecorded
            | Self::Broken(_) => true,
            Self::Closed | Self::Lost(_) => false,
        }
    }

    /// The exit status of the shell or command, if that is what ended the session.
    pub(super) fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Exited(status) => Some(status.code()),
            Self::Left
            | Self::Terminated
            | Self::Closed
            | Self::Stopping(_)
            | Self::Lost(_)
            | Self::NotStarted(_)
            | Self::Finished
            | Self::Unrecorded
            | Self::Broken(_) => None,
        }
    }

    /// How the record ends.
    pub(super) fn for_record(&self) -> transcript::End {
        let reason = match self {
            Self::Exited(ExitStatus::Exited(_)) => "the shell or command ended".to_owned(),
            Self::Exited(ExitStatus::Signaled(signal)) => {
                format!("the shell or command was ended by {signal}")
            }
            Self::Left => "the client ended the session".to_owned(),
            Self::Terminated => "the session was terminated".to_owned(),
            Self::Closed => "the gateway closed the session".to_owned(),
            Self::Stopping(Stop::Agent) => "the agent stopped".to_owned(),
            Self::Stopping(Stop::Host) => "the host shut down".to_owned(),
            Self::Finished => "the destination closed the connection".to_owned(),
            Self::Unrecorded => UNRECORDED.to_owned(),
            Self::Lost(reason) | Self::NotStarted(reason) | Self::Broken(reason) => reason.clone(),
        };
        transcript::End {
            reason,
            exit_code: self.exit_code(),
        }
    }

    /// What is reported.
    pub(super) fn outcome(&self, id: SessionId) -> Outcome {
        let outcome = match self {
            Self::Exited(status) => Outcome {
                exit_code: Some(status.code()),
                ..Outcome::success(id)
            },
            Self::Left | Self::Terminated | Self::Closed | Self::Finished => Outcome::success(id),
            Self::Stopping(stop) => Outcome {
                output: match stop {
                    Stop::Agent => "the agent was stopped".to_owned(),
                    Stop::Host => "the host is shutting down".to_owned(),
                },
                ..Outcome::success(id)
            },
            Self::Unrecorded => Outcome::failed(id, UNRECORDED),
            Self::Lost(reason) | Self::NotStarted(reason) | Self::Broken(reason) => {
                Outcome::failed(id, reason)
            }
        };
        Outcome {
            reason: self.for_record().reason,
            ..outcome
        }
    }
}

/// Ends the data channel as the end of the session demands.
pub(super) async fn hang_up(
    connection: Connection,
    end: &End,
    goodbye: Vec<Outgoing>,
    session: &Session,
) {
    if end.leaves_somebody() {
        connection.close(goodbye, &session.cancel).await;
    } else {
        connection.abort().await;
    }
}
