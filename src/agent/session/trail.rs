//! What the audit log and the roster are told of a session.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::kind::Kind;
use super::outcome::Outcome;
use super::roster::{Present, Roster};
use super::task::{Context, Session};
use crate::agent::audit::{self, AuditLog, Event, Recording, Text};
use crate::agent::transcript::{RecordedFile, RemoteCopy, Standing};
use crate::protocol::wire::SessionId;
use crate::protocol::wire::control::{StartRefused, StartSession};
use crate::runtime::cause::in_one_line;

/// Why a session is over whose task was cut off.
pub(super) const BROKE_OFF: &str = "the session broke off inside the agent";

/// A session that the log knows to be running. Dropped before its end is told, it broke off.
pub(super) struct Trail {
    audit: AuditLog,
    roster: Roster,
    session: SessionId,
    started: Instant,
    is_open: bool,
}

impl Trail {
    /// A session starts.
    pub(super) fn start(session: &Session, kind: &Kind) -> Self {
        let start = &session.start;
        let audit = session.context.settings.audit.clone();
        audit.record(&Event::SessionStarted {
            session: &start.session_id,
            owner: Text::from(&start.session_owner),
            document: Text::from(&start.document_name),
            reason: Text::from(&start.reason),
            kind: kind.name(),
            encrypted: session.kms_key_id.is_some(),
            command: kind.command().map(Text::from),
            target: kind.target().map(Text::from),
        });
        let roster = session.context.settings.roster.clone();
        roster.enter(
            &start.session_id,
            Present {
                kind: kind.name(),
                owner: start.session_owner.clone(),
                user: None,
                since: SystemTime::now(),
            },
        );
        Self {
            audit,
            roster,
            session: start.session_id.clone(),
            started: Instant::now(),
            is_open: true,
        }
    }

    /// The session ended like this.
    pub(super) fn end(mut self, outcome: &Outcome) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: &Outcome) {
        self.is_open = false;
        self.roster.leave(&self.session);
        let recording = &outcome.recording;
        self.audit.record(&Event::SessionEnded {
            session: &self.session,
            status: outcome.status.clone().into(),
            reason: Text::from(&outcome.reason),
            exit_code: outcome.exit_code,
            seconds: seconds(self.started.elapsed()),
            recordings: recording.files.iter().map(recorded).collect(),
            copies: recording.copies.iter().map(copied).collect(),
            lost_bytes: recording.lost_bytes,
            problem: recording.problem.as_ref().map(Text::from),
        });
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if self.is_open {
            self.tell(&Outcome::failed(self.session.clone(), BROKE_OFF));
        }
    }
}

/// A session does not start.
pub(super) fn refuse(context: &Context, start: &StartSession, refusal: &str) {
    context.settings.audit.record(&Event::SessionRefused {
        session: Some(&start.session_id),
        owner: Text::from(&start.session_owner),
        document: Text::from(&start.document_name),
        reason: Text::from(&start.reason),
        refusal: Text::from(refusal),
    });
}

/// A start message that could not be understood starts no session.
pub(super) fn refuse_unread(context: &Context, refused: &StartRefused) {
    context.settings.audit.record(&Event::SessionRefused {
        session: refused.session_id.as_ref(),
        owner: Text::from(""),
        document: Text::from(""),
        reason: Text::from(""),
        refusal: Text::from(in_one_line(refused)),
    });
}

/// The shell or command of a session runs as `user`.
pub(super) fn process(session: &Session, user: &str, command: &str) {
    let settings = &session.context.settings;
    settings.roster.set_user(&session.start.session_id, user);
    settings.audit.record(&Event::ProcessStarted {
        session: &session.start.session_id,
        user: Text::from(user),
        command: Text::from(command),
    });
}

/// A duration as the log has it, to the millisecond.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

fn copied(copy: &RemoteCopy) -> audit::RemoteCopy {
    audit::RemoteCopy {
        service: copy.service,
        place: Text::from(&copy.place),
        standing: match copy.standing {
            Standing::Complete => "complete",
            Standing::Continuing => "continuing",
            Standing::GivenUp(_) => "given-up",
        },
    }
}

fn recorded(file: &RecordedFile) -> Recording {
    Recording {
        file: Text::from(file.path.to_string_lossy()),
        bytes: file.bytes,
        sha256: file.sha256.to_string(),
    }
}
