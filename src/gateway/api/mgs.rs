//! Channels of agents and clients (contract stub).

use super::ApiState;

/// Routes of control and data channels.
pub fn routes(_state: ApiState) -> axum::Router {
    axum::Router::new()
}
