//! The HTTP face of the gateway: operations of people and of agents, signatures, channels.
//!
//! | path | who | where |
//! |---|---|---|
//! | `POST /` | people, agents | `dispatch`, `ssm`, `agent`, `mds` |
//! | `/v1/control-channel`, `/v1/data-channel` | agents, clients | [`mgs`] |
//! | `/v1/recordings` | agents, people | `recordings` |
//! | `/v1/attachments` | whoever has the URL | `attachments` |

pub mod mgs;
pub mod signature;

mod agent;
mod answer;
mod attachments;
mod dispatch;
mod mds;
mod panics;
mod recordings;
mod ssm;
mod validation;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::middleware;
use axum::routing::post;
use tokio_util::sync::CancellationToken;

use crate::gateway::attachments::Attachments;
use crate::gateway::broker::Broker;
use crate::gateway::recordings::Recordings;
use crate::gateway::store::Store;

use signature::Verifier;

/// What every operation may use.
#[derive(Clone)]
pub struct ApiState {
    /// Nodes, keys, activations, sessions, documents.
    pub store: Store,
    /// Live agents and sessions.
    pub broker: Broker,
    /// Records of sessions that agents upload.
    pub recordings: Recordings,
    /// Files of packages.
    pub attachments: Attachments,
    /// Checks signatures.
    pub verifier: Verifier,
    /// Cancelled when the gateway stops: ends long polls.
    pub cancel: CancellationToken,
}

/// How a request came in, if not over TLS; an extension of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Over the plain listener on this address.
    Plain(SocketAddr),
}

/// How long a connection waits for a peer that takes nothing of an answer: for ever, unless an answer
/// says otherwise. An extension of the request.
#[derive(Debug, Clone, Default)]
pub struct Impatience(Arc<OnceLock<Duration>>);

impl Impatience {
    /// From now on the connection is cut once the peer has taken nothing for so long. The first word
    /// counts.
    pub fn set(&self, limit: Duration) {
        self.0.get_or_init(|| limit);
    }

    /// What was said.
    pub fn limit(&self) -> Option<Duration> {
        self.0.get().copied()
    }
}

/// All routes.
pub fn router(state: ApiState) -> axum::Router {
    axum::Router::new()
        .route("/", post(dispatch::handle))
        .with_state(state.clone())
        .merge(recordings::routes(state.clone()))
        .merge(attachments::routes(state.clone()))
        .merge(mgs::routes(state))
        .layer(middleware::from_fn(panics::catch))
}
