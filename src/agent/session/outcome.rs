//! The result of a session.

use std::error::Error;

use crate::protocol::wire::SessionId;
use crate::protocol::wire::task::TaskStatus;

/// The result of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The session.
    pub session_id: SessionId,
    /// Whether it ran.
    pub status: TaskStatus,
    /// Text for the person; empty when all went well.
    pub output: String,
    /// Exit status of the shell or command, if it ended by itself.
    pub exit_code: Option<i32>,
}

impl Outcome {
    /// The session ran and ended.
    pub(super) fn success(session_id: SessionId) -> Self {
        Self {
            session_id,
            status: TaskStatus::Success,
            output: String::new(),
            exit_code: None,
        }
    }

    /// The session could not start, or broke.
    pub(super) fn failed(session_id: SessionId, output: impl Into<String>) -> Self {
        Self {
            session_id,
            status: TaskStatus::Failed,
            output: output.into(),
            exit_code: None,
        }
    }
}

/// An error and its causes in one line.
pub(super) fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
