//! The HTTP face of the gateway: operations of people and of agents, signatures, channels.

pub mod signature;

pub mod mgs;

use tokio_util::sync::CancellationToken;

use crate::gateway::broker::Broker;
use crate::gateway::store::Store;

use signature::Verifier;

/// What every operation may use.
#[derive(Clone)]
pub struct ApiState {
    /// Nodes, keys, activations, sessions.
    pub store: Store,
    /// Live agents and sessions.
    pub broker: Broker,
    /// Checks signatures.
    pub verifier: Verifier,
    /// Cancelled when the gateway stops: ends long polls.
    pub cancel: CancellationToken,
}

/// All routes.
pub fn router(state: ApiState) -> axum::Router {
    mgs::routes(state)
}
