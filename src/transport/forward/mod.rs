//! Connections that are forwarded over a mux session, as both its ends do it: one task drives all
//! streams, and none is polled that was not woken.
//!
//! | file | holds |
//! |---|---|
//! | `streams` | all of a session: what is driven |
//! | `stream` | one stream: a connection and what passes between it and the session |
//! | `ready` | which streams have something to do |
//! | `socket` | a TCP connection or Unix socket, polled in both directions |
//! | `traffic` | counts of bytes |

mod ready;
mod socket;
mod stream;
mod streams;
mod traffic;

pub use socket::{READ, Socket};
pub use streams::{Change, Closing, Streams};
pub use traffic::Traffic;
