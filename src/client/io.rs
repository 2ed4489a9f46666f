//! Where a session's bytes come from and go to: this process's terminal or any streams.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::interrupts::Interrupts;
use super::stdio::{self, Hangup, Input};
use super::terminal::{self, SIZE_WITHOUT_TERMINAL};
use crate::protocol::wire::TerminalSize;

/// A stream of input.
pub(super) type Source = Box<dyn AsyncRead + Send + Unpin>;
/// A stream for output.
pub(super) type Sink = Box<dyn AsyncWrite + Send + Unpin>;

/// The person's side of a session.
pub struct Io {
    pub(super) input: Source,
    pub(super) output: Sink,
    pub(super) error: Sink,
    /// Tells when nobody reads the output any more.
    pub(super) hangup: Hangup,
    /// The terminal that input comes from, if it does.
    pub(super) keyboard: Option<OwnedFd>,
    /// The terminal that shows the output, or else the one that input comes from.
    pub(super) screen: Screen,
    /// Signals of this program that are keys for a remote command.
    pub(super) interrupts: Interrupts,
}

impl Io {
    /// Arbitrary streams. At the end of `input` the remote shell is told so.
    pub fn pipes(
        input: impl AsyncRead + Send + Unpin + 'static,
        output: impl AsyncWrite + Send + Unpin + 'static,
        error: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self {
            input: Box::new(input),
            output: Box::new(output),
            error: Box::new(error),
            hangup: Hangup::never(),
            keyboard: None,
            screen: Screen::none(),
            interrupts: Interrupts::default(),
        }
    }

    /// This process's stdin, stdout and stderr, be they a terminal or not.
    ///
    /// Has to be called within a runtime.
    ///
    /// # Errors
    /// If one of them is closed, or the handler for changes of the size cannot be installed.
    pub fn stdio() -> io::Result<Self> {
        let duplicate = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned();
        Self::from_fds(
            duplicate(&io::stdin())?,
            duplicate(&io::stdout())?,
            duplicate(&io::stderr())?,
        )
    }

    /// Descriptors, each of them a terminal or not. Their flags stay as they are.
    ///
    /// Has to be called within a runtime.
    ///
    /// # Errors
    /// If a descriptor cannot be duplicated or watched, or the handler for changes of the size cannot
    /// be installed.
    pub fn from_fds(input: OwnedFd, output: OwnedFd, error: OwnedFd) -> io::Result<Self> {
        let terminal = |fd: &OwnedFd| fd.is_terminal().then(|| fd.try_clone()).transpose();
        let keyboard = terminal(&input)?;
        let screen = match terminal(&output)? {
            Some(screen) => Some(screen),
            None => terminal(&input)?,
        };
        Ok(Self {
            input: Box::new(Input::new(input)?),
            hangup: Hangup::of(output.try_clone()?),
            output: Box::new(stdio::output(output)),
            error: Box::new(stdio::output(error)),
            keyboard,
            screen: screen.map_or(Ok(Screen::none()), Screen::of)?,
            interrupts: Interrupts::default(),
        })
    }

    /// What takes the signals that stand for keys while a remote command without a terminal runs.
    pub fn interrupts(&self) -> Interrupts {
        self.interrupts.clone()
    }

    /// Whether a person types at a terminal of this process.
    pub fn is_interactive(&self) -> bool {
        self.keyboard.is_some()
    }
}

/// What tells the size of the window.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: Option<(OwnedFd, Signal)>,
}

impl Screen {
    fn none() -> Self {
        Self { terminal: None }
    }

    fn of(terminal: OwnedFd) -> io::Result<Self> {
        let changes = signal(SignalKind::window_change())?;
        Ok(Self {
            terminal: Some((terminal, changes)),
        })
    }

    /// The size now.
    pub(super) fn size(&self) -> TerminalSize {
        self.terminal
            .as_ref()
            .map_or(SIZE_WITHOUT_TERMINAL, |(fd, _)| terminal::size_of(fd))
    }

    /// Waits for a change of the size; for ever without a terminal. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        let change = match &mut self.terminal {
            Some((_, changes)) => changes.recv().await,
            None => None,
        };
        if change.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
