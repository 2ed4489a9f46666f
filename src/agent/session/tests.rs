//! Whole sessions: supervisor, real shells, real channels over sockets in memory, our own client.

mod audit;
mod away;
mod client;
mod command;
mod encryption;
mod ending;
mod harness;
mod interactive;
mod ports;
mod recording;
mod starting;
mod terminal;
