//! Opening a data channel: its first message says who is there and shows the token.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tracing::{debug, warn};

use super::hub::{Hub, SessionHandle};
use super::relay::Role;
use super::tokens::Scope;
use super::worker::Command;
use super::{SESSION_OVER, Signer, frames, link};
use crate::protocol::wire::open_channel::OpenDataChannel;
use crate::protocol::wire::{DecodeError, PeerFeatures, SessionId};
use crate::transport::Socket;

/// How long a peer may take to send its first message.
const OPEN_LIMIT: Duration = Duration::from_secs(15);

/// Why a channel is not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The connection ended first.
    #[error("the connection ended before the first message")]
    Closed,
    /// The first message did not come.
    #[error("the first message did not come in time")]
    Late,
    /// The first message is no open message.
    #[error("the first message is no open message")]
    Malformed(#[from] DecodeError),
    /// The token does not open this channel for this peer.
    #[error("the token is not valid: unknown, expired, used, or of another role")]
    Token,
    /// An agent that is not the one of the session's node.
    #[error("only the agent of the session's node can take the agent's end")]
    NotTheNode,
}

impl OpenError {
    /// What the peer is told; close frames have little room.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Closed | Self::Late => "the open message did not come",
            Self::Malformed(_) => "the first message is no open message",
            Self::Token => "the token is not valid",
            Self::NotTheNode => "not the agent of this session's node",
        }
    }
}

/// Waits for the first data message; pings may come before it.
pub(super) async fn first_message(socket: &mut Socket) -> Result<Bytes, OpenError> {
    let first = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.into()),
                Some(Ok(Message::Binary(bytes))) => return Ok(bytes),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(OpenError::Closed),
            }
        }
    };
    timeout(OPEN_LIMIT, first)
        .await
        .unwrap_or(Err(OpenError::Late))
}

/// Takes a connection to the data channel of `id` up to the point where the session has it.
pub(super) async fn serve(hub: Arc<Hub>, id: SessionId, signer: Signer, mut socket: Socket) {
    let open = first_message(&mut socket)
        .await
        .and_then(|message| Ok(OpenDataChannel::decode(&message)?));
    let open = match open {
        Ok(open) => open,
        Err(error) => return refuse(socket, &error).await,
    };
    let role = match open.client_instance_id {
        Some(_) => Role::Agent,
        None => Role::Client,
    };
    let Some(session) = hub.session(&id) else {
        return say_over(&id, role, socket).await;
    };
    if let Err(error) = check(&hub, &id, &session, &signer, &open) {
        return refuse(socket, &error).await;
    }
    let attach = Command::Attach {
        role,
        socket: Box::new(socket),
        features: client_features(&open),
    };
    if let Err(Command::Attach { socket, .. }) = session.send(attach).await {
        say_over(&id, role, *socket).await;
    }
}

fn check(
    hub: &Hub,
    id: &SessionId,
    session: &SessionHandle,
    signer: &Signer,
    open: &OpenDataChannel,
) -> Result<(), OpenError> {
    let scope = match &open.client_instance_id {
        Some(node_id) => {
            let is_node = matches!(signer, Signer::Node(signer) if signer == node_id);
            if !is_node || **node_id != *session.node_id {
                return Err(OpenError::NotTheNode);
            }
            Scope::Agent(id.clone())
        }
        None => Scope::Client(id.clone()),
    };
    let is_good = hub.tokens.redeem(&scope, &open.token_value, Instant::now());
    is_good.then_some(()).ok_or(OpenError::Token)
}

/// What the client announced; foreign clients announce nothing.
fn client_features(open: &OpenDataChannel) -> PeerFeatures {
    let Some(text) = &open.features else {
        return PeerFeatures::default();
    };
    PeerFeatures::parse(text).unwrap_or_else(|error| {
        debug!(%error, "the client's features are ignored");
        PeerFeatures::default()
    })
}

async fn refuse(socket: Socket, error: &OpenError) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    warn!(%error, cause, "data channel is refused");
    link::close(socket, CloseCode::Policy, error.reason()).await;
}

/// The session is over. A client is told in the way that makes it leave; it would try again and
/// again otherwise.
async fn say_over(id: &SessionId, role: Role, mut socket: Socket) {
    debug!(?role, "session is over");
    if role == Role::Client {
        let message = frames::channel_closed(id, "", "the session is over", None);
        // A client that is gone needs no word.
        let _ = socket.send(Message::Binary(message)).await;
    }
    link::close(socket, CloseCode::Policy, SESSION_OVER).await;
}
