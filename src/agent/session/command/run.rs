//! Runs a command without a terminal from its handshake to its end.
//!
//! Nothing is dropped: output is read only while the data channel takes it, so that a client that is
//! away stops the command by its full pipes, and a command that ended waits until the client is
//! there to hear of it.

use std::future::ready;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::select;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, debug};

use super::super::connection::{Connection, News};
use super::super::end::{End, UNRECORDED, hang_up};
use super::super::outcome::Outcome;
use super::super::task::Session;
use super::super::terminal::DEFAULT_SIZE;
use super::super::trail;
use super::output::{Outputs, Source};
use super::start::{self, Process, StartError};
use super::{Command, SESSION_TYPE};
use crate::agent::host::process::{ExitStatus, Processes};
use crate::agent::transcript::Recorder;
use crate::protocol::channel::HandshakeRole;
use crate::protocol::wire::Payload;
use crate::protocol::wire::control::SessionState;
use crate::transport::{Connector, Outgoing};

/// What the keyboard sends for an interrupt (`^C`).
const INTERRUPT: u8 = 0x03;
/// What the keyboard sends for a quit (`^\`).
const QUIT: u8 = 0x1c;
/// Exit code of a command that a signal ended, for clients that did not announce exit codes; the
/// reference's.
const ENDED_BY_SIGNAL: i32 = -1;
/// Exit code of a command that could not be started, for the same.
const NOT_STARTED: i32 = 1;

/// Runs a command to its end. It starts when the client has agreed to the session type.
pub(in super::super) async fn run<C: Connector>(
    command: Command,
    session: Session,
    connector: C,
) -> Outcome {
    let id = session.start.session_id.clone();
    let role = HandshakeRole::Request {
        session_type: SESSION_TYPE.into(),
        properties: Value::Null,
        encryption: None,
    };
    let mut opening = Opening {
        connection: Connection::open(&session, connector, role),
        is_separate: command.separate.is_some(),
        signals: Vec::new(),
    };
    match opening.start(command, &session).await {
        Ok(process) => Running::new(opening, process, session).run().await,
        Err(Over { end, goodbye }) => {
            hang_up(opening.connection, &end, goodbye, &session).await;
            end.outcome(id)
        }
    }
}

/// A session whose command does not run yet.
struct Opening {
    connection: Connection,
    is_separate: bool,
    /// What the client sent meanwhile for the command.
    signals: Vec<Signal>,
}

/// A session that is over before its command ran.
struct Over {
    end: End,
    goodbye: Vec<Outgoing>,
}

impl From<End> for Over {
    fn from(end: End) -> Self {
        Self {
            end,
            goodbye: Vec::new(),
        }
    }
}

impl Opening {
    /// Agrees with the client on the session type, then starts the command.
    async fn start(&mut self, command: Command, session: &Session) -> Result<Process, Over> {
        let mut command = Some(command);
        let mut starting: Option<start::Starting> = None;
        loop {
            let started = async {
                match &mut starting {
                    Some(starting) => starting.started().await,
                    None => std::future::pending().await,
                }
            };
            let news = select! {
                () = session.cancel.cancelled() => return Err(End::of_cancelled(session).into()),
                started = started => return started.map_err(|error| self.not_started(&error)),
                news = self.connection.inbox.news() => news,
            };
            match news {
                News::Connected => self.connection.announce().await,
                News::Open { .. } => {
                    starting = command.take().map(|command| start::start(session, command));
                }
                News::Input(bytes) => self.keep_signals(&bytes),
                News::Leave => return Err(End::Left.into()),
                News::Closed => return Err(End::Closed.into()),
                News::Lost(reason) => return Err(End::Lost(reason).into()),
                News::Size(_) | News::Flag(_) | News::Nothing => {}
            }
        }
    }

    fn keep_signals(&mut self, bytes: &[u8]) {
        for signal in signals_in(bytes) {
            if !self.signals.contains(&signal) {
                self.signals.push(signal);
            }
        }
    }

    /// The client is told as the reference tells it: by error output, exit code, state.
    fn not_started(&self, error: &StartError) -> Over {
        let text = error.to_string();
        let mut goodbye = vec![Outgoing::Payload(Payload::StdErr(
            format!("{text}\n").into(),
        ))];
        if let StartError::Login { code, .. } = *error {
            let takes_code = self.connection.inbox.client_takes_exit_code();
            if takes_code || self.is_separate {
                let code = if takes_code { code } else { NOT_STARTED };
                goodbye.push(Outgoing::Payload(Payload::ExitCode(code)));
            }
            goodbye.push(Outgoing::State(SessionState::Terminating));
        }
        Over {
            end: End::NotStarted(text),
            goodbye,
        }
    }
}

/// What wakes a running session.
enum Event {
    Cancelled,
    /// The record that has to be is not taken any more.
    Unrecorded,
    Exited(ExitStatus),
    News(News),
    /// The data channel takes more of the output that waits.
    Room,
    /// Output was read and waits, or a stream ended.
    Read,
    /// The command has ended, all of its output was sent, and the client is there.
    Done(ExitStatus),
}

/// A session whose command runs.
struct Running {
    session: Session,
    connection: Connection,
    is_separate: bool,
    outputs: Outputs,
    processes: Processes,
    exited: Option<ExitStatus>,
    recorder: Recorder,
    unrecorded: CancellationToken,
    _writer: AbortOnDropHandle<()>,
}

impl Running {
    fn new(opening: Opening, process: Process, session: Session) -> Self {
        trail::process(&session, &process.user, &process.shown);
        let about = session.about(&process.user, &process.shown, DEFAULT_SIZE);
        let (recorder, write) = session.context.transcript.start(about, &session.targets);
        let writer = tokio::spawn(write.in_current_span());
        for signal in opening.signals {
            process.processes.signal(signal);
        }
        Self {
            session,
            connection: opening.connection,
            is_separate: opening.is_separate,
            outputs: process.outputs,
            processes: process.processes,
            exited: None,
            unrecorded: recorder.broken(),
            recorder,
            _writer: AbortOnDropHandle::new(writer),
        }
    }

    async fn run(mut self) -> Outcome {
        let end = loop {
            let event = self.next_event().await;
            if let Some(end) = self.handle(event).await {
                break end;
            }
        };
        debug!(?end, "the session is over");
        self.finish(end).await
    }

    async fn next_event(&mut self) -> Event {
        let Connection {
            outgoing, inbox, ..
        } = &mut self.connection;
        let outputs = &mut self.outputs;
        let is_waiting = outputs.is_waiting();
        let has_output = is_waiting || outputs.is_open();
        let wants_output = has_output && inbox.wants_output();
        let done = self
            .exited
            .filter(|_| !has_output && inbox.is_client_there());
        let output = async {
            // Room first: what is read must have a place to go. The room is still there when the
            // output is sent, as nobody else sends.
            match outgoing.reserve().await {
                Ok(_room) if is_waiting => Event::Room,
                Ok(_room) => {
                    outputs.read().await;
                    Event::Read
                }
                // The pump is gone, and `news` is about to say so.
                Err(_closed) => std::future::pending().await,
            }
        };
        select! {
            () = self.session.cancel.cancelled() => Event::Cancelled,
            () = self.unrecorded.cancelled() => Event::Unrecorded,
            status = self.processes.exited(), if self.exited.is_none() => Event::Exited(status),
            news = inbox.news() => Event::News(news),
            event = output, if wants_output => event,
            Some(status) = ready(done) => Event::Done(status),
        }
    }

    /// Does what an event asks for; gives the end if it is one.
    async fn handle(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Cancelled => return Some(End::of_cancelled(&self.session)),
            Event::Unrecorded => return Some(End::Unrecorded),
            Event::Done(status) => return Some(End::Exited(status)),
            Event::Exited(status) => {
                self.exited = Some(status);
                self.outputs.expect_end();
            }
            Event::News(news) => return self.handle_news(news).await,
            Event::Room | Event::Read => self.send_message().await,
        }
        None
    }

    async fn handle_news(&mut self, news: News) -> Option<End> {
        match news {
            News::Input(bytes) => {
                for signal in signals_in(&bytes) {
                    self.processes.signal(signal);
                }
            }
            News::Leave => return Some(End::Left),
            News::Closed => return Some(End::Closed),
            News::Lost(reason) => return Some(End::Lost(reason)),
            News::Connected | News::Open { .. } | News::Size(_) | News::Flag(_) | News::Nothing => {
            }
        }
        None
    }

    /// Records and sends one message of the output that waits.
    async fn send_message(&mut self) {
        let longest = self.connection.inbox.payload_size();
        let payload = match self.outputs.take_message(longest) {
            None => return,
            Some((Source::Output, bytes)) => {
                self.recorder.output(bytes.clone()).await;
                Payload::Output(bytes)
            }
            Some((Source::Error, bytes)) => {
                self.recorder.error_output(bytes.clone()).await;
                Payload::StdErr(bytes)
            }
        };
        self.connection.send(Outgoing::Payload(payload)).await;
    }

    /// Tells everybody, ends what is left of the processes, and closes the record.
    async fn finish(self, end: End) -> Outcome {
        let mut goodbye = Vec::new();
        if let End::Exited(status) = end {
            let code = self.exit_code(status).map(Payload::ExitCode);
            goodbye.extend(code.map(Outgoing::Payload));
            goodbye.push(Outgoing::State(SessionState::Terminating));
        }
        if end == End::Unrecorded {
            let text = format!("{UNRECORDED}\n");
            goodbye.push(Outgoing::Payload(Payload::StdErr(text.into())));
        }
        // Whoever still writes is told by SIGPIPE.
        drop(self.outputs);
        tokio::join!(
            self.processes.end(self.session.context.settings.grace),
            hang_up(self.connection, &end, goodbye, &self.session),
        );
        let report = self.recorder.finish(end.for_record()).await;
        let mut outcome = end.outcome(self.session.start.session_id);
        outcome.add_report(report);
        outcome
    }

    /// The exit code to tell the client, if it shall be told.
    fn exit_code(&self, status: ExitStatus) -> Option<i32> {
        match status {
            _ if self.connection.inbox.client_takes_exit_code() => Some(status.code()),
            ExitStatus::Exited(code) if self.is_separate => Some(code),
            ExitStatus::Signaled(_) if self.is_separate => Some(ENDED_BY_SIGNAL),
            ExitStatus::Exited(_) | ExitStatus::Signaled(_) => None,
        }
    }
}

/// What typed bytes mean to a command without a terminal: its input is empty, so nothing but the keys
/// that a terminal turns into signals.
fn signals_in(bytes: &[u8]) -> impl Iterator<Item = Signal> {
    bytes.iter().filter_map(|byte| match *byte {
        INTERRUPT => Some(Signal::SIGINT),
        QUIT => Some(Signal::SIGQUIT),
        _ => None,
    })
}
