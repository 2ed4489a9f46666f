//! The protocol: pure code shared by agent, gateway and client.
//!
//! Bytes and the time go in, values and actions come out. Nothing here opens a socket or a file,
//! spawns a task, reads a clock or the environment; randomness is passed in.

pub mod channel;
pub mod mux;
pub mod wire;
