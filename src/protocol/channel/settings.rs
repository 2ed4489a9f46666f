//! How to make a channel.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::cipher::Randomness;
use crate::protocol::wire::{PeerFeatures, SessionId};

/// What a client that does not encrypt says when it is asked to.
const NO_ENCRYPTION: &str = "this client does not support encryption with KMS";

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends `output_stream_data`, does not look at digests.
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
        /// Encrypt the data with a key of KMS.
        encryption: Option<EncryptionRequest>,
    },
    /// Client: answer a handshake if the agent asks for one; else the first output means a shell.
    Answer {
        /// How to encrypt if the agent asks for it, or the reason to give for not being able to.
        encryption: Result<EncryptionAnswer, String>,
    },
}

/// How an agent encrypts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptionRequest {
    /// The KMS key that makes the session's data key.
    pub kms_key_id: String,
    /// The agent's own node id; the client has to know the node by the same.
    pub target_id: String,
    /// Refuse clients that do not tie the data key to this handshake; the official plugin does not.
    pub requires_challenge: bool,
    /// For nonces and challenges.
    pub randomness: Randomness,
}

/// How a client encrypts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptionAnswer {
    /// The node, as the session was started on it.
    pub target_id: String,
    /// For nonces.
    pub randomness: Randomness,
}

/// A number of payload bytes and a number of messages: a bound on them, or how many are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Bytes of payload.
    pub bytes: usize,
    /// Messages.
    pub messages: usize,
}

impl Window {
    /// Unacknowledged payload kept for sending. 4 MiB fill 50 MB/s at a round trip of 80 ms; the
    /// messages are as many as that makes at 1024 bytes each.
    pub const SEND: Self = Self {
        bytes: 4 << 20,
        messages: 4096,
    };
    /// Received payload kept until it is taken. It holds all that a peer with the send window above
    /// can have under way (one large payload may exceed that window, and probes come on top), so
    /// that between our own ends nothing is refused and sent twice.
    pub const RECEIVE: Self = Self {
        bytes: (4 << 20) + (1 << 20),
        messages: 8192,
    };

    /// Whether one more message of `bytes` fits beside `held`. A message larger than the whole
    /// bound fits into an empty store, or it could never be delivered.
    pub(super) fn has_room(self, held: Self, bytes: usize) -> bool {
        held.messages < self.messages
            && (held.bytes == 0 || held.bytes.saturating_add(bytes) <= self.bytes)
    }
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
    /// Payload received and not yet taken, at most; the same again for payload that is out of order.
    pub receive_window: Window,
    /// The handshake.
    pub handshake: HandshakeRole,
    /// Agent: whether a message that a client leaves unacknowledged in a way that shows that it was
    /// taken may be presumed delivered, see the module `send_window::presumption`. Off for basic
    /// port forwarding, where that way shows nothing; there each acknowledgement that is lost with
    /// an official plugin's connection takes a place in the send window for good.
    pub presume_delivery: bool,
    /// Longest wait for acknowledgements after close.
    pub drain: Duration,
    /// Relation of the clocks.
    pub clock: Clock,
    /// Seed for message ids.
    pub seed: u64,
}

impl Settings {
    /// Longest wait for acknowledgements after close; the reference agent waits as long.
    pub const DRAIN: Duration = Duration::from_secs(2);

    /// An agent's end with the default windows and a peer nothing is known of.
    pub fn agent(session_id: SessionId, handshake: HandshakeRole, clock: Clock, seed: u64) -> Self {
        Self {
            role: Role::Agent,
            session_id,
            peer: PeerFeatures::default(),
            send_window: Window::SEND,
            receive_window: Window::RECEIVE,
            handshake,
            presume_delivery: true,
            drain: Self::DRAIN,
            clock,
            seed,
        }
    }

    /// A client's end with the default windows and a peer nothing is known of, that does not
    /// encrypt.
    pub fn client(session_id: SessionId, clock: Clock, seed: u64) -> Self {
        Self {
            role: Role::Client,
            handshake: HandshakeRole::Answer {
                encryption: Err(NO_ENCRYPTION.to_owned()),
            },
            presume_delivery: false,
            ..Self::agent(session_id, HandshakeRole::None, clock, seed)
        }
    }
}
