//! The result of a session.

use tracing::{info, warn};

use crate::agent::transcript::{Report, Standing};
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
    /// Why it ended.
    pub reason: String,
    /// What became of its recording.
    pub recording: Report,
}

impl Outcome {
    /// The session ran and ended.
    pub(super) fn success(session_id: SessionId) -> Self {
        Self {
            session_id,
            status: TaskStatus::Success,
            output: String::new(),
            exit_code: None,
            reason: String::new(),
            recording: Report::default(),
        }
    }

    /// The session could not start, or broke.
    pub(super) fn failed(session_id: SessionId, output: impl Into<String>) -> Self {
        let output = output.into();
        Self {
            session_id,
            status: TaskStatus::Failed,
            reason: output.clone(),
            output,
            exit_code: None,
            recording: Report::default(),
        }
    }

    /// Adds what became of the recording, and tells the person if it is not complete.
    pub(super) fn add_report(&mut self, report: Report) {
        if let Some(problem) = &report.problem {
            let lost_bytes = report.lost_bytes;
            warn!(problem, lost_bytes, "recording incomplete");
            self.add(&format!("recording incomplete: {problem}"));
        }
        for copy in &report.copies {
            if copy.standing == Standing::Continuing {
                info!(
                    service = copy.service,
                    place = copy.place,
                    "the record is still being uploaded"
                );
            }
        }
        self.recording = report;
    }

    /// Adds a line to the text for the person.
    fn add(&mut self, line: &str) {
        if !self.output.is_empty() {
            self.output.push('\n');
        }
        self.output.push_str(line);
    }
}
