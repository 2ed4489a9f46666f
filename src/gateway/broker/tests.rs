//! The broker between stand-ins for agent and client, over in-memory streams and a paused clock.

mod commands;
mod lifecycle;
mod limits;
mod polls;
mod relaying;
mod stand_in;
