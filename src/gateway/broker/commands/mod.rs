//! Bringing commands to nodes and taking their reports.
//!
//! ```text
//!  api -- Event --> Courier (one task) -- Dispatcher: who gets what when
//!  control channels --^      |  \--> store: how invocations stand
//!   (answers, reports)       +-----> registry: agent_job to the node's control channel
//! ```

mod courier;
mod dispatcher;
mod reports;

pub(super) use courier::{Courier, Event, Mailbox, limit_of, mailbox};
pub(super) use reports::{handle_ack, handle_reply};
