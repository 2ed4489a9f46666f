//! What the owner of a channel learns besides payloads.

use bytes::Bytes;
use serde_json::Value;

use super::cipher::CipherError;
use crate::protocol::wire::control::ChannelClosed;
use crate::protocol::wire::handshake::EncryptionContext;
use crate::protocol::wire::{DecodeError, PeerFeatures};

/// What the owner of a channel learns besides payloads.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Client: the session type is known (by handshake or inferred); input may flow.
    /// Agent: the handshake, if any, is over; the client's version is known if there was one.
    Open {
        /// Session type, e.g. `Standard_Stream` or `Port`. Empty for an agent without handshake,
        /// whose owner knows it anyway.
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
    /// Agent: the gateway told what the attached client understands, and it is news, as with the first
    /// client it always is.
    PeerFeatures(PeerFeatures),
    /// After `close`: everything was acknowledged (true), or the drain deadline passed (false).
    Drained(bool),
    /// The handshake failed; the session has to end with this text.
    HandshakeFailed(String),
}

/// A data key that a channel needs of KMS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRequest {
    /// Client: a new key of 64 bytes.
    Generate {
        /// The KMS key that makes it.
        kms_key_id: String,
        /// What it is to be bound to.
        context: EncryptionContext,
    },
    /// Agent: the key that the client had made.
    Decrypt {
        /// The KMS key that made it.
        kms_key_id: String,
        /// The key as KMS encrypted it.
        ciphertext: Bytes,
        /// What it is bound to.
        context: EncryptionContext,
    },
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
    /// It does not decrypt. It was not acknowledged.
    #[error("encrypted message: {0}")]
    Encrypted(#[from] CipherError),
    /// It has data in clear, while the key that data has to be encrypted with is still to come. It
    /// was not acknowledged.
    #[error("data came before its key")]
    Unencrypted,
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
