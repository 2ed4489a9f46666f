//! The agent: the daemon on a host. This file joins its rooms.

pub mod control;
pub mod host;
pub mod identity;
pub mod session;
pub mod transcript;
