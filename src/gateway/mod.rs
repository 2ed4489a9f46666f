//! The gateway: a control endpoint of our own. It speaks to agents, to the AWS CLI and SDKs, and to
//! the session-manager-plugin as AWS does. This file joins its rooms.

pub mod api;
pub mod attachments;
pub mod broker;
pub mod certificate;
pub mod config;
pub mod recordings;
pub mod store;

mod command;
mod server;
mod start;

pub use command::main;
pub use config::Settings;
pub use start::{Running, StartError, start};

#[cfg(test)]
mod tests;
