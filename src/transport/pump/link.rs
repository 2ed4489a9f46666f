//! One connection: frames in and out, pings, liveness.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, Sink, Stream, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error as WebSocketError;

use super::PumpSettings;
use crate::transport::websocket::Socket;

/// What our pings say, as the reference's.
const PING_PAYLOAD: &str = "keepalive";
/// Time for the closing handshake: nothing of the session depends on it any more.
const CLOSE_WAIT: Duration = Duration::from_millis(500);
/// A connection that lived this long, or that brought a message, was a good one. One that is cut
/// before that counts as one more failed attempt, so that a gateway which accepts and hangs up at
/// once is not dialled in a tight loop.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// When a peer of our own is asked for a sign of life, and how long it may stay silent. A network
/// that swallows everything is noticed, and left by dialling again, before it is back; otherwise TCP
/// alone decides when it tries again, after an outage of 30 s up to 26 s later.
const OURS: Liveness = Liveness {
    ping_interval: Duration::from_secs(8),
    read_timeout: Duration::from_secs(13),
    is_only_in_silence: true,
};

/// How it is found out whether the peer is still there.
#[derive(Debug, Clone, Copy)]
struct Liveness {
    ping_interval: Duration,
    read_timeout: Duration,
    /// Whether a peer that is heard anyway is spared the pings.
    is_only_in_silence: bool,
}

/// One connection.
pub(super) struct Link {
    socket: Socket,
    opened: Instant,
    liveness: Liveness,
    next_ping: Instant,
    is_ping_due: bool,
    last_frame: Instant,
    brought_message: bool,
    needs_flush: bool,
}

/// Why a connection is no longer used.
#[derive(Debug)]
pub(super) enum Cut {
    /// The peer closed it, with this reason.
    Closed(String),
    /// It broke.
    Broken(WebSocketError),
    /// Nothing was heard for this long.
    Silent(Duration),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) if reason.is_empty() => f.write_str("closed by the peer"),
            Self::Closed(reason) => write!(f, "closed by the peer: {reason}"),
            Self::Broken(error) => error.fmt(f),
            Self::Silent(time) => write!(f, "nothing was heard for {time:?}"),
        }
    }
}

impl Link {
    /// A connection that was just made; `is_ours` tells a gateway of ours from others.
    pub(super) fn new(
        socket: Socket,
        settings: &PumpSettings,
        is_ours: bool,
        now: Instant,
    ) -> Self {
        let theirs = Liveness {
            ping_interval: settings.ping_interval,
            read_timeout: settings.read_timeout,
            is_only_in_silence: false,
        };
        let is_quicker = is_ours && OURS.read_timeout < theirs.read_timeout;
        let liveness = if is_quicker { OURS } else { theirs };
        Self {
            socket,
            opened: now,
            liveness,
            next_ping: now + liveness.ping_interval,
            is_ping_due: settings.ping_at_open,
            last_frame: now,
            brought_message: false,
            needs_flush: false,
        }
    }

    /// The next data message. Text and binary are the same to the peers we know.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Bytes, Cut>> {
        loop {
            let frame = match std::task::ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Err(Cut::Broken(error))),
                None => return Poll::Ready(Err(Cut::Closed(String::new()))),
            };
            self.last_frame = now;
            if self.liveness.is_only_in_silence {
                self.next_ping = now + self.liveness.ping_interval;
            }
            match frame {
                Message::Binary(bytes) => {
                    self.brought_message = true;
                    return Poll::Ready(Ok(bytes));
                }
                Message::Text(text) => {
                    self.brought_message = true;
                    return Poll::Ready(Ok(text.into()));
                }
                // The answer is queued by the library and goes out with the next flush.
                Message::Ping(_) => self.needs_flush = true,
                Message::Pong(_) | Message::Frame(_) => {}
                Message::Close(frame) => {
                    let reason = frame.map(|frame| format!("{} {}", frame.code, frame.reason));
                    let reason = reason.unwrap_or_default().trim().to_owned();
                    return Poll::Ready(Err(Cut::Closed(reason)));
                }
            }
        }
    }

    /// Ready when [`Link::write`] may be called. While it is pending, at most a small buffer is held.
    pub(super) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let socket = Pin::new(&mut self.socket);
        socket.poll_ready(cx).map_err(Cut::Broken)
    }

    /// Queues a message; large ones go out at once, small ones with the next flush.
    pub(super) fn write(&mut self, message: Bytes) -> Result<(), Cut> {
        self.send(Message::Binary(message))
    }

    /// Queues a ping if it is time for one.
    pub(super) fn write_due_ping(&mut self) -> Result<(), Cut> {
        if std::mem::take(&mut self.is_ping_due) {
            self.send(Message::Ping(Bytes::from_static(PING_PAYLOAD.as_bytes())))?;
        }
        Ok(())
    }

    /// Flushes what was queued, as far as the socket takes it; call it again when woken.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), Cut> {
        if self.needs_flush
            && let Poll::Ready(flushed) = Pin::new(&mut self.socket).poll_flush(cx)
        {
            self.needs_flush = false;
            flushed.map_err(Cut::Broken)?;
        }
        Ok(())
    }

    /// When to call [`Link::handle_timeout`].
    pub(super) fn deadline(&self) -> Instant {
        self.next_ping
            .min(self.last_frame + self.liveness.read_timeout)
    }

    /// Notices silence and makes pings due.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), Cut> {
        let limit = self.liveness.read_timeout;
        if self.last_frame + limit <= now {
            return Err(Cut::Silent(limit));
        }
        if self.next_ping <= now {
            self.is_ping_due = true;
            self.next_ping = now + self.liveness.ping_interval;
        }
        Ok(())
    }

    /// Whether the connection was of use.
    pub(super) fn is_proven(&self, now: Instant) -> bool {
        self.brought_message || self.age(now) >= PROVEN_AFTER
    }

    /// How long it has been open.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.opened)
    }

    /// Says goodbye and waits a moment for the peer's, so that nothing on its way is lost to a reset.
    pub(super) async fn close(mut self) {
        let goodbye = async {
            self.socket.close(None).await?;
            // Without an end of stream from TLS some peers report a truncated connection.
            self.socket.get_mut().shutdown().await?;
            while let Some(frame) = self.socket.next().await {
                frame?;
            }
            Ok::<(), WebSocketError>(())
        };
        // Whatever goes wrong, the connection is gone afterwards.
        let _ = timeout(CLOSE_WAIT, goodbye).await;
    }

    /// Says goodbye without waiting for anything.
    pub(super) fn close_now(mut self) {
        let _ = self.socket.close(None).now_or_never();
    }

    fn send(&mut self, message: Message) -> Result<(), Cut> {
        self.needs_flush = true;
        let socket = Pin::new(&mut self.socket);
        socket.start_send(message).map_err(Cut::Broken)
    }
}
