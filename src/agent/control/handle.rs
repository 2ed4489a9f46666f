//! What the rest of the agent sets and sees of the control channel.

use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};

use super::dispatch::Instruction;
use super::outbox::Outbox;
use crate::protocol::wire::{Message, PeerFeatures};
use crate::runtime::backoff::Backoff;

/// Ping interval of the reference.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(54);
/// How long the reference waits for the answer to a ping.
pub(super) const PONG_TIMEOUT: Duration = Duration::from_secs(60);
/// How the control channel is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node.
    pub node_id: String,
    /// Waits between attempts to connect.
    pub backoff: Backoff,
    /// Time between two pings.
    pub ping_interval: Duration,
    /// Time for the answer to a ping, or for any other frame.
    pub pong_timeout: Duration,
}

impl Settings {
    /// The defaults, for this node.
    pub fn new(node_id: impl Into<String>) -> Self {
        Self {
            node_id: node_id.into(),
            backoff: Backoff::default(),
            ping_interval: PING_INTERVAL,
            pong_timeout: PONG_TIMEOUT,
        }
    }
}

/// How the control channel stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// An attempt is under way.
    Connecting,
    /// It is open.
    Connected {
        /// Since when.
        since: SystemTime,
        /// What the gateway announced.
        features: PeerFeatures,
    },
    /// It is not open; the next attempt comes by itself.
    Waiting {
        /// What went wrong, with its causes.
        problem: String,
        /// Whether the gateway denied this node the channel.
        is_denied: bool,
        /// Time until the next attempt.
        retry_in: Duration,
    },
    /// The agent stops.
    Stopped,
}

/// What the rest of the agent has of the control channel.
#[derive(Debug)]
pub struct Handle {
    /// What the gateway wants.
    pub instructions: mpsc::Receiver<Instruction>,
    /// Where results of sessions go.
    pub outbox: Outbox,
    /// How the channel stands.
    pub status: watch::Receiver<Status>,
    /// Messages about commands, as they came.
    pub jobs: mpsc::Receiver<Message>,
    /// Takes answers to them. What comes while there is no connection goes out with the next one.
    pub answers: mpsc::Sender<Message>,
    /// Whether there is a connection; marked as changed with every new one.
    pub connections: watch::Receiver<bool>,
}
