//! A link: one open WebSocket, driven by polling, so that a task can wait for several at once and
//! neither direction of one ever waits for the other.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError};

use super::lane::Lane;
use crate::transport::Socket;

/// Interval of our pings; below the 30 s after which some middleboxes forget an idle connection.
const PING_INTERVAL: Duration = Duration::from_secs(25);
/// A peer from which nothing was heard for this long is gone: two pings without an answer.
const SILENCE_LIMIT: Duration = Duration::from_secs(70);
/// A peer that takes nothing for this long does not move. Well below the time after which the other
/// end gives a connection up on which its pings are not answered: 13 s for ours, 60 s for the
/// reference agent.
const STALL_LIMIT: Duration = Duration::from_secs(4);
/// How long a connection that we close may take to be closed by the peer too.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Payload of our pings, the same as the agents'.
const PING: Bytes = Bytes::from_static(b"keepalive");

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cut {
    /// It was closed or reset: by a peer that went away or died.
    Closed,
    /// Nothing was heard for too long: the network between is cut.
    Silent,
    /// The peer sent what nobody may send; it gets this reason when we close.
    Broken(&'static str),
}

/// How far sending got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The lane is empty and everything is with the kernel.
    All,
    /// The peer takes nothing more for now.
    Blocked,
}

/// What the passing of time brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lapse {
    /// The peer takes nothing any more.
    Stalled,
    /// The peer is gone.
    Silent,
}

/// See the module.
pub(super) struct Link {
    socket: Socket,
    heard: Instant,
    /// False while back-pressure keeps us from reading: silence then means nothing.
    is_reading: bool,
    ping_at: Instant,
    is_ping_due: bool,
    is_unflushed: bool,
    blocked_since: Option<Instant>,
}

impl Link {
    pub(super) fn new(socket: Socket, now: Instant) -> Self {
        Self {
            socket,
            heard: now,
            is_reading: true,
            ping_at: now + PING_INTERVAL,
            is_ping_due: false,
            is_unflushed: false,
            blocked_since: None,
        }
    }

    /// Reads the next data message. Pings are answered on the way.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Bytes, Cut>> {
        if !self.is_reading {
            self.is_reading = true;
            self.heard = now;
        }
        loop {
            let Poll::Ready(message) = self.socket.poll_next_unpin(cx) else {
                return Poll::Pending;
            };
            self.heard = now;
            return Poll::Ready(match message {
                Some(Ok(Message::Binary(bytes))) => Ok(bytes),
                Some(Ok(Message::Text(text))) => Ok(text.into()),
                Some(Ok(Message::Ping(_))) => {
                    self.is_unflushed = true;
                    continue;
                }
                Some(Ok(Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Close(_))) | None => Err(Cut::Closed),
                Some(Err(error)) => Err(cut_of(&error)),
            });
        }
    }

    /// The link is not being read, because what it sends has nowhere to go.
    pub(super) fn pause_reading(&mut self) {
        self.is_reading = false;
    }

    /// Sends what is in `lane`, as much as the peer takes, and flushes once at the end.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        lane: &mut Lane,
        now: Instant,
    ) -> Result<Sent, Cut> {
        let sent = self.try_send(cx, lane);
        match sent {
            Ok(Sent::All) => self.blocked_since = None,
            Ok(Sent::Blocked) => {
                self.blocked_since.get_or_insert(now);
            }
            Err(_) => {}
        }
        sent
    }

    fn try_send(&mut self, cx: &mut Context<'_>, lane: &mut Lane) -> Result<Sent, Cut> {
        loop {
            let ready = Pin::new(&mut self.socket).poll_ready(cx);
            let Poll::Ready(ready) = ready else {
                return Ok(Sent::Blocked);
            };
            ready.map_err(|error| cut_of(&error))?;
            let message = if self.is_ping_due {
                self.is_ping_due = false;
                Message::Ping(PING)
            } else if let Some(message) = lane.pop() {
                // The peer took what was before: it moves.
                self.blocked_since = None;
                Message::Binary(message)
            } else {
                break;
            };
            self.is_unflushed = true;
            let started = Pin::new(&mut self.socket).start_send(message);
            started.map_err(|error| cut_of(&error))?;
        }
        if self.is_unflushed {
            let Poll::Ready(flushed) = Pin::new(&mut self.socket).poll_flush(cx) else {
                return Ok(Sent::Blocked);
            };
            flushed.map_err(|error| cut_of(&error))?;
            self.is_unflushed = false;
        }
        Ok(Sent::All)
    }

    /// When [`Link::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Instant {
        let silent = self.is_reading.then_some(self.heard + SILENCE_LIMIT);
        let stalled = self.blocked_since.map(|since| since + STALL_LIMIT);
        let others = silent.into_iter().chain(stalled);
        others.fold(self.ping_at, Instant::min)
    }

    /// Looks at the clock: notes that a ping is due, or tells what has been lasting too long.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Lapse> {
        if now >= self.ping_at {
            self.ping_at = now + PING_INTERVAL;
            self.is_ping_due = true;
        }
        if self.is_reading && now >= self.heard + SILENCE_LIMIT {
            return Some(Lapse::Silent);
        }
        let since = self.blocked_since?;
        if now < since + STALL_LIMIT {
            return None;
        }
        self.blocked_since = Some(now);
        Some(Lapse::Stalled)
    }

    /// Closes with `code` and `reason`, see [`close`].
    pub(super) async fn close(self, code: CloseCode, reason: &'static str) {
        close(self.socket, code, reason).await;
    }
}

/// Sends a close frame, then reads on until the peer closes too: a socket that is dropped with
/// unread data in it takes back what was sent last.
pub(super) async fn close(mut socket: Socket, code: CloseCode, reason: &'static str) {
    let frame = CloseFrame {
        code,
        reason: reason.into(),
    };
    let closing = async {
        if socket.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                return;
            }
        }
        // The socket may have refused to read on after a message it did not like.
        let mut stream = socket.into_inner();
        if stream.shutdown().await.is_ok() {
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    };
    // Who does not close in time is left alone.
    let _ = timeout(CLOSE_LIMIT, closing).await;
}

fn cut_of(error: &Error) -> Cut {
    match error {
        Error::Capacity(_) => Cut::Broken("message is too large"),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Cut::Closed,
        Error::Protocol(_) | Error::Utf8(_) => Cut::Broken("websocket protocol error"),
        _ => Cut::Closed,
    }
}
