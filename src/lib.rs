//! ssm-agent: a drop-in replacement for the AWS Systems Manager agent on Linux, the smallest
//! complete world around it, and everything they share.
//!
//! ```text
//!  ssm-agent, on the host                                     ssm-gateway, a control endpoint
//!
//!  host <-- session kind <-- channel <-- wire <-- transport <==> transport --> wire --> broker <-- api
//!  PTY, TCP      |                                                                        |
//!                +--> transcript --> sinks                                                +--> store
//!
//!  session-manager-plugin / quickstart:  terminal <-- client --> channel --> wire --> transport
//! ```
//!
//! `protocol` is pure and shared by every end. `agent`, `gateway` and `client` never import each
//! other; what two of them must agree on is a type in [`protocol::wire`]. `cli` asks the agent over a
//! local socket, and reads its configuration and registration with its code.

pub mod agent;
pub mod aws;
pub mod cli;
pub mod client;
pub mod gateway;
pub mod protocol;
pub mod quickstart;
pub mod runtime;
pub mod transport;
