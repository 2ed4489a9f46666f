//! Sessions: one operator's use of this host each, from the start message to its result.
//!
//! ```text
//! start message --> Supervisor --one task each--> task --> kind (shell, ...) --> Outcome
//!                                                            |   |
//!                                  data channel <-- connection   terminal or pipes, recorder
//! ```
//!
//! The supervisor owns the tasks; `task` checks what was asked for, with values of Parameter Store
//! (`parameters`), and picks the kind: a `shell` or command on a `terminal`, a `command` without one,
//! or a `port`. `user` says who they run as; `input` queues what a client sends, `connection` is a
//! session's end of its data channel, `encryption` what keeps that from others' eyes, `end` names the
//! ways in which a session can be over, `record` the services that get its record, `trail` is what the
//! audit log is told of it, and `roster` what `ssm-cli status` shows.

mod command;
mod connection;
mod encryption;
mod end;
mod groups;
mod input;
mod kind;
mod outcome;
mod port;
mod record;
mod roster;
mod settings;
mod shell;
mod supervisor;
mod task;
mod terminal;
mod trail;
mod user;

pub use encryption::Keys;
pub use end::Stop;
pub use groups::end_left;
pub use outcome::Outcome;
pub use port::{DenyList, Network, Networks};
pub use record::Record;
pub use roster::{Changes, Present, Roster};
pub use settings::{Settings, ShellUser};
pub use supervisor::{DataChannelSource, Supervisor};

#[cfg(test)]
mod tests;
