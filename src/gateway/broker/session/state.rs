//! The states of a session.

use tokio::time::Instant;

use super::action::{Farewell, Verdict};
use super::ends::{Agent, Client};

/// Where a session stands. Each state has only what exists in it.
pub(super) enum State {
    /// In use, or waiting for an end.
    Open {
        agent: Agent,
        client: Client,
    },
    /// The result is known; the agent's last output is awaited.
    Draining {
        client: Client,
        farewell: Farewell,
        until: Instant,
    },
    /// Over; the ends are being told.
    Closing {
        /// The client, while the farewell has not reached it.
        client: Option<Client>,
        /// The agent's result is still awaited.
        awaits_result: bool,
        verdict: Option<Verdict>,
        until: Instant,
    },
    Ended,
}
