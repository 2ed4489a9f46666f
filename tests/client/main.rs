//! The client against a stand-in: `session-manager-plugin` as a program, at a real pseudo-terminal and
//! between pipes, and [`ssm_agent::client::Session`] as a library; the other end is a channel in the
//! agent's role behind a WebSocket server, without any gateway.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

mod contract;
mod endpoint;
mod library;
mod pipes;
mod ports;
mod program;
mod resume;
mod stand_in;
mod terminal;

use std::time::Duration;

/// Longer than any test waits for an event.
const DEADLINE: Duration = Duration::from_secs(20);
