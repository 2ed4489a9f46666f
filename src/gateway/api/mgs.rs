//! The message gateway: control and data channels.
//!
//! | request | from | answer |
//! |---|---|---|
//! | `POST /v1/control-channel/<node>` | agent, signed | 201, XML with a token |
//! | `GET /v1/control-channel/<node>` | agent, signed | WebSocket |
//! | `POST /v1/data-channel/<session>` | agent, signed | 201, XML with a token |
//! | `GET /v1/data-channel/<session>` | agent, signed; client, signed or not | WebSocket |
//!
//! Every upgrade says what this gateway understands beyond the reference's wire. The connection
//! itself is the broker's from then on.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::{debug, error, warn};

use super::ApiState;
use super::signature::{Caller, SignatureError};
use crate::gateway::broker::{DataChannelError, Signer};
use crate::protocol::wire::codec::Limit;
use crate::protocol::wire::features::FEATURES_HEADER;
use crate::protocol::wire::open_channel::{
    CreateControlChannel, CreateDataChannel, encode_token_response,
};
use crate::protocol::wire::{DecodeError, PeerFeatures, SessionId};
use crate::transport::Socket;
use crate::transport::websocket::accept_upgraded;

const SERVICE: &str = "ssmmessages";

/// Routes of control and data channels.
pub fn routes(state: ApiState) -> Router {
    let control = post(create_control_channel).get(open_control_channel);
    let data = post(create_data_channel).get(open_data_channel);
    Router::new()
        .route("/v1/control-channel/{id}", control)
        .route("/v1/data-channel/{id}", data)
        .with_state(state)
}

async fn create_control_channel(
    State(state): State<ApiState>,
    Path(node_id): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let (node, body) = signed_by_node(&state, request).await?;
    if node != node_id {
        return Err(Refusal::AnotherNode);
    }
    CreateControlChannel::decode(&body)?;
    let token = state.broker.create_control_channel(&node_id);
    Ok(created("CreateControlChannelResult", &token))
}

async fn create_data_channel(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let (node, body) = signed_by_node(&state, request).await?;
    CreateDataChannel::decode(&body)?;
    let id = SessionId::new(id)?;
    let token = state.broker.create_data_channel(&node, &id).await?;
    Ok(created("CreateDataChannelResult", &token))
}

async fn open_control_channel(
    State(state): State<ApiState>,
    Path(node_id): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let (mut parts, _) = request.into_parts();
    match state.verifier.verify(SERVICE, &parts, b"").await? {
        Caller::Node { node_id: node } if node == node_id => {}
        Caller::Node { .. } => return Err(Refusal::AnotherNode),
        Caller::Person { .. } => return Err(Refusal::NotANode),
    }
    let (response, socket) = upgrade(&mut parts)?;
    state.broker.serve_control_channel(node_id, socket);
    Ok(response)
}

async fn open_data_channel(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let (mut parts, _) = request.into_parts();
    let id = SessionId::new(id)?;
    let signer = if parts.headers.contains_key(header::AUTHORIZATION) {
        match state.verifier.verify(SERVICE, &parts, b"").await? {
            Caller::Node { node_id } => Signer::Node(node_id),
            Caller::Person { .. } => Signer::Person,
        }
    } else {
        Signer::Nobody
    };
    // An agent stops dialling when it reads this; a client has to be told on its WebSocket.
    if matches!(signer, Signer::Node(_)) && !state.broker.is_live(&id) {
        return Err(DataChannelError::Over.into());
    }
    let (response, socket) = upgrade(&mut parts)?;
    state.broker.serve_data_channel(id, signer, socket);
    Ok(response)
}

/// Which node signed `request`, and the request's body.
async fn signed_by_node(
    state: &ApiState,
    request: Request,
) -> Result<(String, bytes::Bytes), Refusal> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, Limit::OPEN_MESSAGE)
        .await
        .map_err(|_| Refusal::Body)?;
    match state.verifier.verify(SERVICE, &parts, &body).await? {
        Caller::Node { node_id } => Ok((node_id, body)),
        Caller::Person { .. } => Err(Refusal::NotANode),
    }
}

fn created(root: &str, token: &str) -> Response {
    let xml = [(header::CONTENT_TYPE, "application/xml")];
    let body = encode_token_response(root, token);
    (StatusCode::CREATED, xml, body).into_response()
}

/// The answer to an upgrade, and the WebSocket that stands once it was sent.
fn upgrade(
    parts: &mut Parts,
) -> Result<
    (
        Response,
        impl Future<Output = Option<Socket>> + Send + use<>,
    ),
    Refusal,
> {
    let has = |name: HeaderName, token: &str| has_token(&parts.headers, &name, token);
    let is_websocket = has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY);
    let (true, Some(key)) = (is_websocket, key) else {
        return Err(Refusal::NoWebSocket);
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = parts
        .extensions
        .remove::<OnUpgrade>()
        .ok_or(Refusal::NoWebSocket)?;
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .header(FEATURES_HEADER, PeerFeatures::ours().to_string())
        .body(Body::empty())
        .expect("the headers are made of plain text");
    let socket = async {
        match upgrade.await {
            Ok(stream) => Some(accept_upgraded(Box::new(TokioIo::new(stream))).await),
            Err(error) => {
                debug!(%error, "connection ended before its upgrade");
                None
            }
        }
    };
    Ok((response, socket))
}

/// Whether one of the comma-separated values of `name` is `token`.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut tokens = values.flat_map(|value| value.split(',')).map(str::trim);
    tokens.any(|value| value.eq_ignore_ascii_case(token))
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error("the channel belongs to another node")]
    AnotherNode,
    #[error("only agents open this channel")]
    NotANode,
    #[error("the body is too large or was cut off")]
    Body,
    #[error("the request is malformed: {0}")]
    Malformed(#[from] DecodeError),
    #[error("this path is a websocket")]
    NoWebSocket,
    #[error(transparent)]
    DataChannel(#[from] DataChannelError),
}

impl Refusal {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Signature(SignatureError::Store(_)) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalServerErrorException",
            ),
            Self::Signature(error) => (StatusCode::FORBIDDEN, error.code()),
            Self::AnotherNode | Self::NotANode | Self::DataChannel(DataChannelError::WrongNode) => {
                (StatusCode::FORBIDDEN, "AccessDeniedException")
            }
            Self::Body | Self::Malformed(_) | Self::NoWebSocket => {
                (StatusCode::BAD_REQUEST, "ValidationException")
            }
            Self::DataChannel(DataChannelError::Over) => {
                (StatusCode::BAD_REQUEST, "ResourceNotFoundException")
            }
        }
    }

    fn log(&self) {
        match self {
            Self::Signature(SignatureError::Store(error)) => {
                let error: &dyn std::error::Error = error;
                error!(error, "channel request failed");
            }
            Self::DataChannel(DataChannelError::Over) => {
                debug!(error = %self, "channel request is refused");
            }
            Self::Signature(_)
            | Self::AnotherNode
            | Self::NotANode
            | Self::Body
            | Self::Malformed(_)
            | Self::NoWebSocket
            | Self::DataChannel(DataChannelError::WrongNode) => {
                warn!(error = %self, "channel request is refused");
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.log();
        let (status, code) = self.status_and_code();
        let text = self.to_string();
        let text = quick_xml::escape::escape(&text);
        let xml = [(header::CONTENT_TYPE, "application/xml")];
        let body = format!("<{code}><Message>{text}</Message></{code}>");
        (status, xml, body).into_response()
    }
}

#[cfg(test)]
mod tests;
