//! Sessions: one operator's use of this host each, from the start message to its result.
//!
//! ```text
//! start message --> Supervisor --one task each--> task --> kind (shell, command) --> Outcome
//!                                                            |   |
//!                                  data channel <-- connection   terminal or pipes, recorder
//! ```
//!
//! The supervisor owns the tasks; `task` checks what was asked for, with values of Parameter Store
//! (`parameters`), and picks the kind; `shell` is one on a `terminal`, with its `input` queue;
//! `command` is one without a terminal; `user` says who they run as, `end` how they can end;
//! `connection` is a session's end of its data channel.

mod command;
mod connection;
mod end;
mod input;
mod kind;
mod outcome;
mod parameters;
mod settings;
mod shell;
mod supervisor;
mod task;
mod terminal;
mod user;

pub use outcome::Outcome;
pub use parameters::{Lookup, ParameterStore};
pub use settings::{Settings, ShellUser};
pub use supervisor::{DataChannelSource, Supervisor};

#[cfg(test)]
mod tests;
