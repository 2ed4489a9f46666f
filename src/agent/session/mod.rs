//! Sessions: one operator's use of this host each, from the start message to its result.
//!
//! ```text
//! start message --> Supervisor --one task each--> task --> kind (shell) --> Outcome
//!                                                            |   |
//!                                  data channel <-- connection   terminal, recorder
//! ```
//!
//! The supervisor owns the tasks; `task` checks what was asked for and picks the kind; `shell` is
//! the one kind so far, on a `terminal`, with its `input` queue and the ways it can `end`;
//! `connection` is a session's end of its data channel, and `encryption` what keeps it from others'
//! eyes.

mod connection;
mod encryption;
mod end;
mod input;
mod kind;
mod outcome;
mod settings;
mod shell;
mod supervisor;
mod task;
mod terminal;

pub use encryption::Keys;
pub use outcome::Outcome;
pub use settings::{Settings, ShellUser};
pub use supervisor::{DataChannelSource, Supervisor};

#[cfg(test)]
mod tests;
