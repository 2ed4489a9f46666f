//! One connection of the control channel: liveness, and writes that cannot hang.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{self, Message as Frame};

use crate::protocol::wire::Message;
use crate::transport::Socket;

/// Payload of our pings.
const PING: &[u8] = b"keepalive";
/// A peer that takes nothing for this long is as good as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the peer may be silent after the host's network changed: a connection that leads nowhere is
/// left long before TCP would notice.
const PROBE_LIMIT: Duration = Duration::from_secs(6);
/// Time for saying goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How often to ping, and how long the peer may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// Time between two pings.
    pub ping_interval: Duration,
    /// Time without any frame after which the connection is dead.
    pub silence_limit: Duration,
}

/// An open connection.
pub struct Link {
    socket: Socket,
    liveness: Liveness,
    next_ping: Instant,
    heard: Instant,
    /// When a peer that was asked for a sign of life has to have given one.
    answer_by: Option<Instant>,
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer said goodbye.
    #[error("the gateway closed the control channel")]
    Closed,
    /// TCP, TLS or WebSocket broke, or the peer broke the protocol.
    #[error("the control channel broke")]
    Broken(#[source] tungstenite::Error),
    /// Nothing was heard, not even the answer to a ping.
    #[error("the gateway was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// Nothing could be sent.
    #[error("the gateway took no data for {} s", .0.as_secs())]
    Stuck(Duration),
}

impl Link {
    /// Takes over a connection that was opened now.
    pub fn new(socket: Socket, liveness: Liveness) -> Self {
        let now = Instant::now();
        Self {
            socket,
            liveness,
            next_ping: now + liveness.ping_interval,
            heard: now,
            answer_by: None,
        }
    }

    /// Waits for the next message, pinging meanwhile. Text counts as binary, as in the reference.
    /// Nothing is lost when this is cancelled.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is over.
    pub async fn receive(&mut self) -> Result<Bytes, LinkError> {
        loop {
            let silent_at = self.heard + self.liveness.silence_limit;
            let silent_at = self.answer_by.map_or(silent_at, |by| by.min(silent_at));
            let frame = tokio::select! {
                frame = self.socket.next() => frame,
                () = tokio::time::sleep_until(self.next_ping) => {
                    self.next_ping = Instant::now() + self.liveness.ping_interval;
                    self.write(Frame::Ping(Bytes::from_static(PING))).await?;
                    continue;
                }
                () = tokio::time::sleep_until(silent_at) => {
                    return Err(LinkError::Silent(self.heard.elapsed()));
                }
            };
            let frame = frame.ok_or(LinkError::Closed)?.map_err(broken)?;
            self.heard = Instant::now();
            self.answer_by = None;
            match frame {
                Frame::Binary(_) | Frame::Text(_) => return Ok(frame.into_data()),
                Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => {}
                Frame::Close(_) => return Err(LinkError::Closed),
            }
        }
    }

    /// Finds out whether the connection still leads to the peer: it has to be heard soon.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is over.
    pub async fn probe(&mut self) -> Result<(), LinkError> {
        self.answer_by = Some(Instant::now() + PROBE_LIMIT);
        self.write(Frame::Ping(Bytes::from_static(PING))).await
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is over.
    pub async fn send(&mut self, message: &Message) -> Result<(), LinkError> {
        self.write(Frame::Binary(message.encode())).await
    }

    /// Says goodbye and closes.
    pub async fn close(mut self) {
        // A peer that is gone does not mind.
        let _ = timeout(CLOSE_TIMEOUT, self.socket.close(None)).await;
    }

    async fn write(&mut self, frame: Frame) -> Result<(), LinkError> {
        match timeout(WRITE_TIMEOUT, self.socket.send(frame)).await {
            Ok(sent) => sent.map_err(broken),
            Err(_) => Err(LinkError::Stuck(WRITE_TIMEOUT)),
        }
    }
}

fn broken(error: tungstenite::Error) -> LinkError {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            LinkError::Closed
        }
        error => LinkError::Broken(error),
    }
}
