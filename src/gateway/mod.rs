//! The gateway: a control endpoint of our own. This file joins its rooms.

pub mod api;
pub mod broker;
pub mod store;
