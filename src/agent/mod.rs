//! The agent: the daemon on a host. This file joins its rooms.

mod args;
pub mod audit;
pub mod carrier;
mod command;
pub mod config;
pub mod connection;
pub mod control;
pub mod daemon;
pub mod fleet;
pub mod health;
pub mod host;
pub mod identity;
pub mod keeper;
mod keys;
pub mod local_api;
mod networks;
pub mod parameter_store;
mod parameters;
pub mod run_command;
mod services;
pub mod session;
pub mod setup;
mod status;
pub mod transcript;
pub mod verify_recording;

pub use args::{DEFAULT_RUNTIME_DIR, Places};
pub use command::main;
