//! The client: the person's end of a session.
//!
//! ```text
//! start (argv) -> plugin -> session -> resume (connections) -> transport::pump
//!                              |
//!                              +-> keys (KMS)
//!                              +-> shell -> uplink   (typing, escape) <- io (terminal, stdio)
//!                              |        \-> downlink                  -> io
//!                              +-> command -> downlink; interrupts (signals as keys)
//!                              +-> port  -> listener, multiplexed, in_turn, raw
//! ```
//!
//! [`plugin`] is the program that the AWS CLI starts; [`Session`] is the same for other programs,
//! between any streams.

pub mod api;
mod command;
mod downlink;
pub mod ending;
mod escape;
mod interrupts;
mod io;
mod keys;
pub mod plugin;
mod port;
mod resume;
mod session;
mod shell;
mod signals;
pub mod start;
mod stdio;
mod terminal;
mod typing;
mod uplink;

pub use api::{Api, Parameters, StartSessionResponse, start_session};
pub use ending::{Cause, Ending};
pub use interrupts::Interrupts;
pub use io::Io;
pub use keys::Kms;
pub use port::{PortError, PropertiesError};
pub use resume::OpenError;
pub use session::{Encryption, Session, SessionError, Settings};
