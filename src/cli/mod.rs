//! `ssm-cli`: what an operator on a host asks of its agent, and what can be found out without one.
//!
//! ```text
//! command --> agent (asks the running one) --> status, instance
//!        |--> diagnostics (one file a check) --> render
//!        \--> verify-recording, which is the agent's
//! ```
//!
//! It reads the configuration and the registration with the agent's own code, so that it looks where
//! the agent would.

mod agent;
mod args;
mod command;
mod diagnostics;
mod instance;
mod offline;
mod probe;
mod render;
mod status;

pub use command::main;
