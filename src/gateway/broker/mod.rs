//! The broker: who is connected, which sessions there are, and the relay between their ends.
//!
//! ```text
//!  agent --- control channel --- registry -+
//!    |                                     |
//!    +------ data channel ---- opening --- worker: session (decides), relay (moves bytes) --- ledger
//!                                          |
//!  client -- data channel ---- opening ----+
//! ```
//!
//! One task per session owns everything of it; one task per control channel likewise. Sessions that
//! have not ended are in the store, so that both ends find theirs again after a restart.

#[expect(
    clippy::module_inception,
    reason = "the main type lives in a file named after it"
)]
mod broker;
mod commands;
mod control;
mod frames;
mod hub;
mod lane;
mod ledger;
mod link;
mod opening;
mod registry;
mod relay;
mod session;
mod settings;
mod timers;
mod tokens;
mod traffic;
mod worker;

#[cfg(test)]
mod tests;

pub use broker::{Broker, BrokerError, DataChannelError, SendRequest, StartRequest, Ticket};
pub use commands::DeliveryError;
pub use settings::{
    DEFAULT_AGENT_RECONNECT, DEFAULT_AGENT_RETURN, DEFAULT_GRACE, DEFAULT_START_DEADLINE,
    DEFAULT_TOKEN_LIFETIME, Settings,
};

/// The words after which the reference agent gives its data channel up.
pub const SESSION_OVER: &str = "Session is already terminated";

/// Who signed the upgrade of a data channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// The agent of this node.
    Node(String),
    /// A person; newer clients sign.
    Person,
    /// Nobody; older clients do not sign. The token says who they are.
    Nobody,
}
