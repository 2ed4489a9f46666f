//! Whole sessions: supervisor, real shells, real channels over sockets in memory, our own client.

mod command;
mod ending;
mod harness;
mod starting;
mod terminal;
