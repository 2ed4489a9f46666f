//! The channel machine.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use crate::protocol::wire::control::{ChannelClosed, SessionState};
use crate::protocol::wire::{DecodeError, Payload, PeerFeatures, SessionId};

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends `output_stream_data`, acknowledges duplicates again.
    Agent,
    /// Sends `input_stream_data`, verifies digests.
    Client,
}

/// What the handshake is for this end.
#[derive(Debug, Clone, PartialEq)]
pub enum HandshakeRole {
    /// Agent: no handshake, data may flow at once.
    None,
    /// Agent: ask for this session type before data may flow.
    Request {
        /// `Port`, `NonInteractiveCommands`, …
        session_type: String,
        /// Substituted document properties for `Port`, else null.
        properties: Value,
    },
    /// Client: answer a handshake if the agent asks for one; else the first output means a shell.
    Answer,
}

/// A bound on bytes and messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Bytes of payload.
    pub bytes: usize,
    /// Messages.
    pub messages: usize,
}

/// Relates the monotonic clock to the wall clock for creation dates.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// An instant …
    pub instant: Instant,
    /// … and the Unix time in milliseconds at that instant.
    pub unix_ms: u64,
}

/// How to make a channel.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which end.
    pub role: Role,
    /// The session.
    pub session_id: SessionId,
    /// What the peer announced so far.
    pub peer: PeerFeatures,
    /// Unacknowledged payload kept at most.
    pub send_window: Window,
    /// Payload received and not yet taken, at most.
    pub receive_window: Window,
    /// The handshake.
    pub handshake: HandshakeRole,
    /// Longest wait for acknowledgements after close.
    pub drain: Duration,
    /// Relation of the clocks.
    pub clock: Clock,
    /// Seed for message ids.
    pub seed: u64,
}

/// What the owner of a channel learns besides payloads.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Client: the session type is known (by handshake or inferred); input may flow.
    /// Agent: the handshake, if any, is over; the client's version is known if there was one.
    Open {
        /// Session type, e.g. `Standard_Stream` or `Port`.
        session_type: String,
        /// Client: properties of a `Port` session, else null.
        properties: Value,
        /// Version that the peer named in the handshake; empty without one.
        peer_version: String,
        /// Client: text for the person, may be empty.
        customer_message: String,
    },
    /// The gateway closed the session.
    Closed(ChannelClosed),
    /// The client is gone for now: do not read more output.
    Paused,
    /// The client is back.
    Resumed,
    /// Agent: the gateway told what the attached client understands.
    PeerFeatures(PeerFeatures),
    /// After `close`: everything was acknowledged (true), or the drain deadline passed (false).
    Drained(bool),
    /// The handshake failed; the session has to end with this text.
    HandshakeFailed(String),
}

/// A message that a peer got wrong. The message is ignored and the channel goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// It does not decode.
    #[error("malformed message: {0}")]
    Malformed(#[from] DecodeError),
    /// Its type has no business on a data channel in this direction.
    #[error("unexpected message of type {0}")]
    Unexpected(String),
}

/// Why a payload was not taken for sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The send window is full; wait until `send_capacity` is above zero.
    #[error("the send window is full")]
    WindowFull,
    /// The channel was closed by `close` or by the peer.
    #[error("the channel is closed")]
    Closed,
    /// The handshake is not over.
    #[error("the handshake is not over")]
    NotOpen,
}

/// One end of a data channel.
pub struct Channel {
    settings: Settings,
}

#[expect(
    clippy::todo,
    clippy::needless_pass_by_value,
    unused_variables,
    reason = "contract"
)]
impl Channel {
    /// Makes a channel that is not connected yet.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self { settings }
    }

    /// A connection is up and its open message was sent: everything unacknowledged goes out again.
    pub fn handle_connected(&mut self, now: Instant) {
        todo!()
    }

    /// The connection is gone.
    pub fn handle_disconnected(&mut self, now: Instant) {
        todo!()
    }

    /// Takes one whole WebSocket message.
    ///
    /// # Errors
    /// [`ChannelError`]: the message is ignored, the channel goes on.
    pub fn handle_message(&mut self, message: Bytes, now: Instant) -> Result<(), ChannelError> {
        todo!()
    }

    /// Does what `poll_timeout` asked for.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }

    /// The next message to write, if connected. Call it only when the socket takes more.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        todo!()
    }

    /// The next payload in order; taking it acknowledges it. Do not call it without room for the result.
    pub fn poll_delivery(&mut self, now: Instant) -> Option<Payload> {
        todo!()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// When to call `handle_timeout`, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// Bytes of payload that `send` would take now; 0 while full, paused, not open or closed.
    pub fn send_capacity(&self) -> usize {
        todo!()
    }

    /// Takes a payload for sending; output is cut into messages of the peer's payload size.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken.
    pub fn send(&mut self, payload: Payload, now: Instant) -> Result<(), SendError> {
        todo!()
    }

    /// Agent: tells the gateway the session's state.
    pub fn send_state(&mut self, state: SessionState, now: Instant) {
        todo!()
    }

    /// What the peer announced, e.g. learned when connecting.
    pub fn set_peer(&mut self, features: PeerFeatures) {
        todo!()
    }

    /// What the peer announced.
    pub fn peer(&self) -> PeerFeatures {
        todo!()
    }

    /// No more sends; [`Event::Drained`] follows when all is acknowledged or the deadline passed.
    pub fn close(&mut self, now: Instant) {
        todo!()
    }
}
