//! The way down: writes what the remote side sends, several messages in one call, and tells the
//! person about the state of the connection.

use std::future::pending;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::io::Sink;
use crate::protocol::channel::Event;
use crate::protocol::wire::Payload;
use crate::protocol::wire::control::ChannelClosed;
use crate::transport::Incoming;

/// Output gathered into one write at most, in bytes. A pipe takes 64 KiB at a time by default.
const GATHER: usize = 64 << 10;
/// A cut is told after this long; a shorter one is not worth a line on the screen.
const CUT_WORTH_TELLING: Duration = Duration::from_secs(2);

/// Explains the escape sequences; the terminal is raw, so lines end with both characters.
const HELP: &str = "\r\nAt the start of a line:\r\n  ~.  leave and end the session\r\n  ~?  this text\r\n  ~~  send ~\r\n";
const CUT: &str = "\r\n[connection lost, dialling again; ~. at the start of a line leaves]\r\n";
const BACK: &str = "\r\n[connected again]\r\n";

/// What the way up wants to be shown.
#[derive(Debug)]
pub(super) enum Notice {
    /// The escape sequences.
    Help,
}

/// The person's side of the way down.
pub(super) struct Downlink<'a> {
    pub(super) output: &'a mut Sink,
    pub(super) error: &'a mut Sink,
    /// Whether a person watches, who is to be told about cuts.
    pub(super) interactive: bool,
    /// The remote exit code, the first that was told.
    pub(super) exit_code: &'a mut Option<i32>,
}

/// Why nothing comes down any more.
#[derive(Debug)]
pub(super) enum End {
    /// The gateway closed the session.
    Closed(ChannelClosed),
    /// The handshake failed.
    HandshakeFailed(String),
    /// The pump ended.
    PumpEnded,
    /// Output cannot be written.
    Output(io::Error),
}

#[derive(Debug, Clone, Copy)]
enum Link {
    Up,
    Cut { tell_at: Instant },
    CutTold,
}

enum Wake {
    Incoming(Option<Incoming>),
    Notice(Notice),
    TellCut,
}

impl Downlink<'_> {
    /// Runs until the session is over or output cannot be written.
    pub(super) async fn run(
        mut self,
        incoming: &mut mpsc::Receiver<Incoming>,
        mut notices: mpsc::Receiver<Notice>,
    ) -> End {
        let mut link = Link::Up;
        loop {
            let wake = tokio::select! {
                next = incoming.recv() => Wake::Incoming(next),
                Some(notice) = notices.recv() => Wake::Notice(notice),
                () = link.worth_telling() => Wake::TellCut,
            };
            let done = match wake {
                Wake::Incoming(None) => Ok(Some(End::PumpEnded)),
                Wake::Incoming(Some(next)) => self.take(next, incoming, &mut link).await,
                Wake::Notice(Notice::Help) => self.tell(HELP).await.map(|()| None),
                Wake::TellCut => {
                    link = Link::CutTold;
                    self.tell(CUT).await.map(|()| None)
                }
            };
            match done {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => return End::Output(error),
            }
        }
    }

    /// Handles `next` and whatever was read past it while output was being gathered.
    async fn take(
        &mut self,
        next: Incoming,
        incoming: &mut mpsc::Receiver<Incoming>,
        link: &mut Link,
    ) -> io::Result<Option<End>> {
        let mut item = Some(next);
        while let Some(next) = item.take() {
            match next {
                Incoming::Payload(Payload::Output(bytes)) => {
                    item = self.write_output(bytes, incoming).await?;
                }
                Incoming::Payload(Payload::StdErr(bytes)) => {
                    self.error.write_all(&bytes).await?;
                    self.error.flush().await?;
                }
                Incoming::Payload(Payload::ExitCode(code)) => {
                    self.exit_code.get_or_insert(code);
                }
                // An agent has no size, and flags concern ports.
                Incoming::Payload(Payload::Size(_) | Payload::Flag(_)) => {}
                Incoming::Event(Event::Closed(closed)) => return Ok(Some(End::Closed(closed))),
                Incoming::Event(Event::HandshakeFailed(text)) => {
                    return Ok(Some(End::HandshakeFailed(text)));
                }
                Incoming::Event(
                    Event::Open { .. }
                    | Event::Paused
                    | Event::Resumed
                    | Event::PeerFeatures(_)
                    | Event::Drained(_),
                ) => {}
                Incoming::Disconnected { .. } => link.cut(),
                Incoming::Connected => {
                    if link.restored() {
                        self.tell(BACK).await?;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Writes `first` and all output that has arrived behind it; returns the first item that is none.
    async fn write_output(
        &mut self,
        first: Bytes,
        incoming: &mut mpsc::Receiver<Incoming>,
    ) -> io::Result<Option<Incoming>> {
        let mut batch = BytesMut::from(first);
        let other = loop {
            match incoming.try_recv() {
                Ok(Incoming::Payload(Payload::Output(more))) => batch.extend_from_slice(&more),
                Ok(other) => break Some(other),
                Err(_) => break None,
            }
            if batch.len() >= GATHER {
                self.output.write_all(&batch).await?;
                batch.clear();
            }
        };
        self.output.write_all(&batch).await?;
        self.output.flush().await?;
        Ok(other)
    }

    async fn tell(&mut self, text: &str) -> io::Result<()> {
        if self.interactive {
            self.error.write_all(text.as_bytes()).await?;
            self.error.flush().await?;
        }
        Ok(())
    }
}

impl Link {
    fn cut(&mut self) {
        if let Self::Up = self {
            *self = Self::Cut {
                tell_at: Instant::now() + CUT_WORTH_TELLING,
            };
        }
    }

    /// The connection is up; returns whether the person had been told that it was not.
    fn restored(&mut self) -> bool {
        matches!(std::mem::replace(self, Self::Up), Self::CutTold)
    }

    /// Waits until a cut is worth telling; for ever if there is none.
    async fn worth_telling(&self) {
        match self {
            Self::Cut { tell_at } => sleep_until(*tell_at).await,
            Self::Up | Self::CutTold => pending().await,
        }
    }
}
