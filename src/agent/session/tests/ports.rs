//! Port sessions: real connections behind the agent, our own mux or a plugin's raw messages before it.

mod audit;
mod endings;
mod limits;
mod multiplexed;
mod old_client;
mod raw;
mod refusals;
mod silence;
mod targets;
mod tunnel;
