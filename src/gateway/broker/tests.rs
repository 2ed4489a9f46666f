//! The broker between stand-ins for agent and client, over in-memory streams and a paused clock.

mod commands;
mod lifecycle;
mod limits;
mod relaying;
mod stand_in;
