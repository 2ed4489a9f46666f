//! Bringing commands to nodes and taking their reports.
//!
//! ```text
//!  api -- Event --> Courier (one task) -- Dispatcher: who gets what when
//!  control channels, --^     |  \--> store: how invocations stand
//!   polls (answers, reports) +-----> registry: agent_job to the node's control channel, or else
//!                            +-----> letterboxes: a message for the node's next poll
//! ```

mod courier;
mod dispatcher;
mod letterbox;
mod polls;
mod reports;

pub(super) use courier::{Courier, Event, Mailbox, limit_of, mailbox};
pub(super) use letterbox::Letterboxes;
pub use polls::DeliveryError;
pub(super) use polls::{answer, poll_jobs, take_reply};
pub(super) use reports::{handle_ack, handle_reply};
