//! A shell or a command on a terminal, from its start to its end.
//!
//! One task moves bytes both ways. Nothing is dropped and neither direction blocks the other: output
//! is read only while the data channel takes it, input is taken from the channel only while the
//! terminal takes it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::select;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, debug, warn};

use super::connection::{Connection, News};
use super::end::{End, UNRECORDED, hang_up};
use super::input::Input;
use super::outcome::Outcome;
use super::task::Session;
use super::terminal::{self, DEFAULT_SIZE, Terminal};
use super::trail;
use super::user::RunAs;
use crate::agent::host::process::ExitStatus;
use crate::agent::host::pty::{KERNEL_BUFFER, Mode, Output};
use crate::agent::host::utf8::{self, Utf8Boundary};
use crate::agent::transcript::Recorder;
use crate::protocol::channel::HandshakeRole;
use crate::protocol::wire::control::SessionState;
use crate::protocol::wire::{Payload, TerminalSize};
use crate::transport::{Connector, Outgoing};

/// Longest wait for the size of the client's terminal. The AWS CLI takes about half a second from the
/// start of a session to the start of its plugin.
const SIZE_WAIT: Duration = Duration::from_secs(2);

/// What to run on the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shell {
    /// Text typed into the shell at its start; blank for none.
    pub(super) profile: String,
    /// A program and its arguments to run instead of the login shell; empty for the shell.
    pub(super) command: Vec<String>,
    /// What the terminal does with bytes.
    pub(super) mode: Mode,
    /// Who it runs as.
    pub(super) user: RunAs,
}

impl Shell {
    /// Whether it is a command for people: it may be over before it hears of another size.
    fn looks_at_size_once(&self) -> bool {
        !self.command.is_empty() && self.mode == Mode::Interactive
    }
}

/// Runs a shell session to its end. A shell starts while the data channel is being dialled, a command
/// for people once the client has told its size, and whatever is encrypted once the client has proven
/// that it has the key.
pub(super) async fn run<C: Connector>(shell: Shell, session: Session, connector: C) -> Outcome {
    let id = session.start.session_id.clone();
    let mut opening = Opening {
        connection: Connection::open(&session, connector, HandshakeRole::None),
        input: Input::default(),
        size: None,
    };
    if !shell.profile.trim().is_empty() {
        opening.input.push(format!("{}\n", shell.profile).into());
    }
    match opening.start(shell, &session).await {
        Ok(terminal) => {
            let running = Running::new(opening, terminal, session);
            running.run().await
        }
        Err(end) => {
            hang_up(opening.connection, &end, Vec::new(), &session).await;
            end.outcome(id)
        }
    }
}

/// A session whose terminal does not exist yet.
struct Opening {
    connection: Connection,
    input: Input,
    size: Option<TerminalSize>,
}

impl Opening {
    /// Starts the terminal, and keeps what the client says meanwhile.
    async fn start(&mut self, shell: Shell, session: &Session) -> Result<Terminal, End> {
        if session.kms_key_id.is_some() {
            self.agree(session).await?;
        }
        if shell.looks_at_size_once() {
            self.await_size(session).await?;
        }
        let size = self.size.unwrap_or(DEFAULT_SIZE);
        let mut starting = terminal::start(session, shell, size);
        loop {
            let news = select! {
                () = session.cancel.cancelled() => return Err(End::of_cancelled(session)),
                started = starting.started() => return started.map_err(End::NotStarted),
                news = self.connection.inbox.news(), if self.input.has_room() => news,
            };
            self.handle_news(news).await?;
        }
    }

    /// Waits until the handshake is over.
    async fn agree(&mut self, session: &Session) -> Result<(), End> {
        loop {
            let news = select! {
                () = session.cancel.cancelled() => return Err(End::of_cancelled(session)),
                news = self.connection.inbox.news() => news,
            };
            let is_open = matches!(news, News::Open { .. });
            self.handle_news(news).await?;
            if is_open {
                return Ok(());
            }
        }
    }

    /// Waits until the client has told its size, or is not expected to.
    async fn await_size(&mut self, session: &Session) -> Result<(), End> {
        let give_up = Instant::now() + SIZE_WAIT;
        while self.size.is_none() && self.input.is_empty() && self.connection.inbox.may_tell_size()
        {
            let news = select! {
                () = session.cancel.cancelled() => return Err(End::of_cancelled(session)),
                () = sleep_until(give_up) => break,
                news = self.connection.inbox.news() => news,
            };
            self.handle_news(news).await?;
        }
        Ok(())
    }

    async fn handle_news(&mut self, news: News) -> Result<(), End> {
        match news {
            News::Connected => self.connection.greet().await,
            News::Input(bytes) => self.input.push(bytes),
            News::Size(size) => self.size = Some(size),
            News::Leave => return Err(End::Left),
            News::Closed => return Err(End::Closed),
            News::Lost(reason) => return Err(End::Lost(reason)),
            News::Open { .. } | News::Flag(_) | News::Nothing => {}
        }
        Ok(())
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
    /// The session is over on the wire, and the terminal takes no input to read on to the reason.
    Over,
    Output(io::Result<Output>),
    Written(io::Result<usize>),
}

/// A session whose shell runs.
struct Running {
    session: Session,
    connection: Connection,
    terminal: Terminal,
    input: Input,
    /// Whether anybody may still write to the terminal.
    output_open: bool,
    boundary: Utf8Boundary,
    /// Output that was read and recorded; its pieces wait for room in the data channel.
    waiting: Bytes,
    recorder: Recorder,
    unrecorded: CancellationToken,
    _writer: AbortOnDropHandle<()>,
}

impl Running {
    fn new(opening: Opening, terminal: Terminal, session: Session) -> Self {
        let size = opening.size.unwrap_or(DEFAULT_SIZE);
        trail::process(&session, &terminal.user, &terminal.command);
        let about = session.about(&terminal.user, &terminal.command, size);
        let (recorder, write) = session.context.transcript.start(about, &session.targets);
        let writer = tokio::spawn(write.in_current_span());
        let running = Self {
            session,
            connection: opening.connection,
            terminal,
            input: opening.input,
            output_open: true,
            boundary: Utf8Boundary::default(),
            waiting: Bytes::new(),
            unrecorded: recorder.broken(),
            recorder,
            _writer: AbortOnDropHandle::new(writer),
        };
        if let Some(size) = opening.size {
            running.set_size(size);
        }
        running
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
            outgoing,
            inbox,
            over,
            ..
        } = &mut self.connection;
        let Terminal { pty, processes, .. } = &mut self.terminal;
        let is_waiting = !self.waiting.is_empty();
        let wants_output = inbox.wants_output() && (is_waiting || self.output_open);
        let output = async {
            // Room first: what is read from the terminal must have a place to go. The room is still
            // there when the output is sent, as nobody else sends.
            match outgoing.reserve().await {
                Ok(_room) if is_waiting => Event::Room,
                Ok(_room) => Event::Output(pty.read().await),
                // The pump is gone, and `news` is about to say so.
                Err(_closed) => std::future::pending().await,
            }
        };
        select! {
            () = self.session.cancel.cancelled() => Event::Cancelled,
            () = self.unrecorded.cancelled() => Event::Unrecorded,
            // A shell that ended before anybody could be told is told about once there is somebody.
            status = processes.exited(), if inbox.is_established() => Event::Exited(status),
            news = inbox.news(), if self.input.has_room() => Event::News(news),
            () = over.cancelled(), if !self.input.has_room() => Event::Over,
            event = output, if wants_output => event,
            written = pty.write(self.input.front()), if !self.input.is_empty() => {
                Event::Written(written)
            }
        }
    }

    /// Does what an event asks for; gives the end if it is one.
    async fn handle(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Cancelled => return Some(End::of_cancelled(&self.session)),
            Event::Unrecorded => return Some(End::Unrecorded),
            Event::Exited(status) => return Some(End::Exited(status)),
            Event::News(news) => return self.handle_news(news).await,
            Event::Output(Ok(Output::Bytes(bytes))) => {
                let bytes = self.boundary.push(bytes);
                self.keep(bytes).await;
                self.send_piece().await;
                // Others have their turn between two reads of bulk output.
                yield_now().await;
            }
            Event::Room => self.send_piece().await,
            Event::Over => self.input.close(),
            Event::Output(Ok(Output::None)) => {}
            Event::Output(Ok(Output::End)) => self.output_open = false,
            Event::Output(Err(error)) => {
                warn!(%error, "cannot read from the terminal");
                self.output_open = false;
            }
            Event::Written(Ok(count)) => {
                let written = self.input.take(count);
                self.recorder.input(written).await;
            }
            Event::Written(Err(error)) => {
                debug!(%error, "nobody reads the input");
                self.input.clear();
            }
        }
        None
    }

    async fn handle_news(&mut self, news: News) -> Option<End> {
        match news {
            News::Connected => self.connection.greet().await,
            News::Input(bytes) => self.input.push(bytes),
            News::Size(size) => {
                self.set_size(size);
                self.recorder.resize(size).await;
            }
            News::Leave => return Some(End::Left),
            News::Closed => return Some(End::Closed),
            News::Lost(reason) => return Some(End::Lost(reason)),
            News::Open { .. } | News::Flag(_) | News::Nothing => {}
        }
        None
    }

    fn set_size(&self, size: TerminalSize) {
        if let Err(error) = self.terminal.pty.resize(size) {
            warn!(%error, ?size, "cannot set the size of the terminal");
        }
    }

    /// Records output, which waits for being sent from then on.
    async fn keep(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.recorder.output(bytes.clone()).await;
            self.waiting = bytes;
        }
    }

    /// Sends one message of the output that waits.
    async fn send_piece(&mut self) {
        if !self.waiting.is_empty() {
            let size = self.connection.inbox.payload_size();
            let piece = utf8::take_piece(&mut self.waiting, size);
            let payload = Payload::Output(piece);
            self.connection.send(Outgoing::Payload(payload)).await;
        }
    }

    /// Sends all output that waits; once the deadline has passed, forgets it.
    async fn send_waiting(&mut self, deadline: Instant) {
        while !self.waiting.is_empty() {
            if timeout_at(deadline, self.send_piece()).await.is_err() {
                self.waiting.clear();
            }
        }
    }

    /// Reads and sends what the shell had written before it ended, and no more: a job that was left
    /// behind may write for ever.
    async fn put_out_the_rest(&mut self, deadline: Instant) {
        let mut read = 0;
        self.send_waiting(deadline).await;
        while self.output_open && read < KERNEL_BUFFER {
            match self.terminal.pty.read_now() {
                Ok(Output::Bytes(bytes)) => {
                    read += bytes.len();
                    let bytes = self.boundary.push(bytes);
                    self.keep(bytes).await;
                    self.send_waiting(deadline).await;
                }
                Ok(Output::None | Output::End) | Err(_) => break,
            }
        }
        let held = self.boundary.flush();
        self.keep(held).await;
        self.send_waiting(deadline).await;
    }

    /// Tells everybody, ends what is left of the processes, and closes the record.
    async fn finish(mut self, end: End) -> Outcome {
        let mut goodbye = Vec::new();
        if let End::Exited(status) = end {
            let cancel = self.session.cancel.clone();
            let deadline = Instant::now() + self.connection.patience(&cancel);
            select! {
                () = self.put_out_the_rest(deadline) => {}
                () = cancel.cancelled() => {}
            }
            if self.connection.inbox.client_takes_exit_code() {
                let code = Payload::ExitCode(status.code());
                goodbye.push(Outgoing::Payload(code));
            }
            goodbye.push(Outgoing::State(SessionState::Terminating));
        }
        if end == End::Unrecorded {
            let text = format!("\r\n{UNRECORDED}\r\n");
            goodbye.push(Outgoing::Payload(Payload::Output(text.into())));
        }
        let Terminal { pty, processes, .. } = self.terminal;
        drop(pty);
        tokio::join!(
            processes.end(self.session.context.settings.grace),
            hang_up(self.connection, &end, goodbye, &self.session),
        );
        let report = self.recorder.finish(end.for_record()).await;
        let mut outcome = end.outcome(self.session.start.session_id);
        outcome.add_report(report);
        outcome
    }
}
