//! The result of a session.

use tracing::warn;

use crate::agent::transcript::Report;
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

    /// Tells the person if the recording is not complete.
    pub(super) fn add_report(&mut self, report: Report) {
        let Some(problem) = report.problem else {
            return;
        };
        let lost_bytes = report.lost_bytes;
        warn!(problem, lost_bytes, "recording incomplete");
        self.add(&format!("recording incomplete: {problem}"));
    }

    /// Adds a line to the text for the person.
    fn add(&mut self, line: &str) {
        if !self.output.is_empty() {
            self.output.push('\n');
        }
        self.output.push_str(line);
    }
}
