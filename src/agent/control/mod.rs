//! The control channel: the one connection of the agent that carries instructions, and the
//! connections that sessions ask for.
//!
//! ```text
//!  gateway ==> ControlChannel (opens) ==> Task (serves) --> dispatch --> Instruction --> sessions
//!          <==                        <==   ^-- Deliveries <-- Outbox <-- results <-----/
//!                                           ^\--> jobs, answers --> commands
//!
//!  gateway <=> DataChannelConnector (opens)  <-- transport::pump, one per session
//! ```
//!
//! The task reconnects for as long as the agent lives. Results of sessions are kept across
//! connections until the gateway has taken them.

mod channel;
mod data_channel;
mod dispatch;
mod handle;
mod link;
mod opening;
mod outbox;
mod results;
mod task;

pub use data_channel::{DataChannelConnector, DataChannels};
pub use dispatch::Instruction;
pub use handle::{Handle, Settings, Status};
pub use outbox::Outbox;
pub use task::open;

#[cfg(test)]
mod tests;
