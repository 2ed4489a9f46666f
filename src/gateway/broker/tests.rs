//! The broker between stand-ins for agent and client, over in-memory streams and a paused clock.

mod lifecycle;
mod limits;
mod relaying;
mod stand_in;
