//! The proof of the data channel: two ends, a network that delays, drops, repeats, reorders and cuts,
//! and a virtual clock.
//!
//! Laws: every byte arrives once and in order; memory stays within the windows; every close ends; a
//! line with nothing to say falls silent. And of the streams over it: every byte of every stream arrives
//! once and in order; one that stalls never stops the others for ever.
//!
//! A failure names its seed. `SIMULATION_SEED=n` runs that one alone, `SIMULATION_RUNS=n` changes how
//! many seeds a test tries.

mod agent_peer;
mod channel_peer;
mod kms;
mod laws;
mod mux_laws;
mod mux_peer;
mod mux_plan;
mod network;
mod plugin_peer;
mod random;
mod reference_sender;
mod scenarios;
mod world;
