//! How to make a session.

use std::time::Duration;

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opens streams: the client of a port session.
    Client,
    /// Is offered streams: the agent.
    Server,
}

/// Whether NOP frames are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// None are sent; the data channel has liveness of its own.
    Off,
    /// For a peer too old to live without. The peer is never given up for its silence.
    On {
        /// Time between two NOP frames.
        interval: Duration,
    },
}

impl KeepAlive {
    /// As often as xtaci/smux 1.5.15 does by default. It gives up a peer of which it heard nothing for
    /// 30 s.
    pub const XTACI: Self = Self::On {
        interval: Duration::from_secs(10),
    };
}

/// How to make a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Which end.
    pub role: Role,
    /// Whether the peer is ours: to it a FIN ends one direction of a stream and a second FIN the
    /// other. Else the peer is xtaci, which reads no more once it has sent FIN.
    pub half_close: bool,
    /// The keep-alive.
    pub keep_alive: KeepAlive,
    /// Streams at once. The server refuses further ones.
    pub max_streams: usize,
    /// Bytes received and not read yet, of all streams, at which there is no more room. A payload
    /// handed in before is taken whole, so that this is exceeded by less than one payload. What is
    /// kept keeps the buffers alive that it came in, of which it makes up a quarter or more.
    pub receive_budget: usize,
    /// Bytes taken for sending and not sent yet, of all streams. Each stream may hold
    /// [`Settings::SEND_FLOOR`] all the same.
    pub send_budget: usize,
    /// Bytes taken for sending and not sent yet, of one stream.
    pub stream_send_budget: usize,
    /// How long a stream may go without being read while there is no room and other streams wait.
    pub stall_timeout: Duration,
    /// The same while no other stream is open. The peer may be waiting to open one.
    pub lone_stall_timeout: Duration,
}

impl Settings {
    /// Twice the thousand that a session has to bear.
    pub const MAX_STREAMS: usize = 2048;
    /// As much as xtaci keeps, and as the send window of the channel below holds.
    pub const RECEIVE_BUDGET: usize = 4 << 20;
    /// Enough for the channel to find a full payload whenever its window opens.
    pub const SEND_BUDGET: usize = 2 << 20;
    /// Eight of the largest payloads.
    pub const STREAM_SEND_BUDGET: usize = 256 << 10;
    /// What a stream may always hold for sending, so that a full budget stops nobody for good.
    pub const SEND_FLOOR: usize = 4 << 10;
    /// Longer than a loaded target needs to come back, shorter than people wait.
    pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);
    /// A program that waits for a lock may let its connection lie for minutes.
    pub const LONE_STALL_TIMEOUT: Duration = Duration::from_secs(15 * 60);

    /// An end of a session with one of our own ends, with the default bounds.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            half_close: true,
            keep_alive: KeepAlive::Off,
            max_streams: Self::MAX_STREAMS,
            receive_budget: Self::RECEIVE_BUDGET,
            send_budget: Self::SEND_BUDGET,
            stream_send_budget: Self::STREAM_SEND_BUDGET,
            stall_timeout: Self::STALL_TIMEOUT,
            lone_stall_timeout: Self::LONE_STALL_TIMEOUT,
        }
    }
}
