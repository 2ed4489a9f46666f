//! What the owner of a session learns besides bytes.

use std::time::Duration;

use super::stream::StreamId;
use crate::protocol::wire::DecodeError;

/// What the owner of a session learns besides bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Server: the peer opened a stream.
    Opened(StreamId),
    /// There are bytes to read, where there were none before. Read until there are none.
    Readable(StreamId),
    /// There is room to write again. It may come without anyone having found the stream full.
    Writable(StreamId),
    /// The peer writes no more, and all it wrote was read.
    PeerFinished {
        /// The stream.
        id: StreamId,
        /// Whether the peer may still read. If not, it drops what is sent to it, and the stream
        /// should be finished too.
        may_still_read: bool,
    },
    /// The stream is gone, with what was not read or not sent.
    Reset {
        /// The stream.
        id: StreamId,
        /// Why.
        reason: ResetReason,
    },
}

/// Why a stream was reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResetReason {
    /// The peer neither writes nor reads any more.
    #[error("the peer reset the stream")]
    Peer,
    /// It was not read while there was no room left for the other streams.
    #[error("{unread} bytes were not read for {stalled:?} and stopped the other streams")]
    Stalled {
        /// What lay unread.
        unread: usize,
        /// For how long nothing of it was read.
        stalled: Duration,
    },
}

/// Why a session has to end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MuxError {
    /// The byte stream cannot be followed any further.
    #[error("malformed smux frame: {0}")]
    Malformed(#[from] DecodeError),
}

/// Why no stream was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Only the client opens streams.
    #[error("only the client opens streams")]
    NotTheClient,
    /// As many as allowed are open.
    #[error("{limit} streams are open already")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// Every stream id was used once. Open streams go on; new ones need a new session.
    #[error("the session has used up its stream ids")]
    OutOfIds,
}
