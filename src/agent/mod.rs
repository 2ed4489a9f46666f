//! The agent: the daemon on a host. This file joins its rooms.

mod args;
pub mod audit;
pub mod carrier;
mod command;
pub mod config;
pub mod control;
pub mod daemon;
pub mod health;
pub mod host;
pub mod identity;
pub mod keeper;
mod keys;
pub mod parameter_store;
mod parameters;
pub mod run_command;
mod services;
pub mod session;
pub mod setup;
pub mod transcript;
mod verify_recording;

pub use command::main;
