//! How the agent opens a channel of either kind: a token for an HTTP call, a WebSocket, and the token
//! as the first message.
//!
//! A token is good for one connection, so each attempt begins with a new one.

use std::time::Duration;

use futures_util::SinkExt;
use http::HeaderMap;
use tokio_tungstenite::tungstenite;
use tracing::debug;
use url::Url;

use crate::aws::{CallError, Client};
use crate::protocol::wire::features::FEATURES_HEADER;
use crate::protocol::wire::open_channel::decode_token_response;
use crate::protocol::wire::{DecodeError, PeerFeatures};
use crate::transport::{Connected, DialError, websocket};

/// Time for all three steps. Each has its own limits; this one holds when they add up.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// What to open.
pub struct Opening<'a> {
    /// Makes and signs the calls.
    pub client: &'a Client,
    /// `control-channel` or `data-channel`.
    pub collection: &'static str,
    /// Node or session.
    pub id: &'a str,
    /// Query of the WebSocket's URL.
    pub query: &'static str,
}

/// Why a channel could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The gateway gave no token, or there is nothing to sign with.
    #[error("cannot get a token for the channel")]
    Token(#[source] CallError),
    /// The gateway's answer holds no token.
    #[error("cannot read the token for the channel")]
    Answer(#[source] DecodeError),
    /// The upgrade could not be signed.
    #[error("cannot sign the channel's connection")]
    Sign(#[source] CallError),
    /// There is no WebSocket.
    #[error("cannot connect the channel")]
    Dial(#[source] DialError),
    /// The WebSocket broke at once.
    #[error("cannot send the channel's first message")]
    Send(#[source] tungstenite::Error),
    /// It took too long.
    #[error("the channel was not open after {} s", .0.as_secs())]
    Timeout(Duration),
    /// The gateway's address cannot have a path.
    #[error("{0} cannot be the address of a gateway")]
    Address(Url),
}

impl OpenError {
    /// Whether the gateway denied the token, which is what the reference goes by.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Token(refusal) if refusal.is_denied())
    }
}

impl Opening<'_> {
    /// Opens the channel: posts `create`, dials, and sends what `first_message` makes of the token.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        &self,
        create: String,
        first_message: impl FnOnce(String) -> String,
    ) -> Result<Connected, OpenError> {
        tokio::time::timeout(OPEN_TIMEOUT, self.open_unlimited(create, first_message))
            .await
            .unwrap_or(Err(OpenError::Timeout(OPEN_TIMEOUT)))
    }

    async fn open_unlimited(
        &self,
        create: String,
        first_message: impl FnOnce(String) -> String,
    ) -> Result<Connected, OpenError> {
        let mut url = self.url()?;
        let answer = self.client.messages(url.path(), create).await;
        let answer = answer.map_err(OpenError::Token)?;
        let token = decode_token_response(&answer).map_err(OpenError::Answer)?;

        url.set_query(Some(self.query));
        let signature = self.client.sign_upgrade(&url).await;
        let signature = signature.map_err(OpenError::Sign)?;
        let (mut socket, headers) = websocket::dial(url.as_str(), signature, self.client.tls())
            .await
            .map_err(OpenError::Dial)?;
        let first_message = tungstenite::Message::text(first_message(token));
        socket.send(first_message).await.map_err(OpenError::Send)?;
        Ok(Connected {
            socket,
            features: features(&headers),
        })
    }

    /// The channel's WebSocket URL, without the query. Its path is that of the token call.
    fn url(&self) -> Result<Url, OpenError> {
        let mut url = self.client.endpoints().messages.clone();
        let scheme = if url.scheme() == "http" { "ws" } else { "wss" };
        let has_scheme = url.set_scheme(scheme).is_ok();
        let has_path = url
            .path_segments_mut()
            .map(|mut path| {
                path.pop_if_empty().extend(["v1", self.collection, self.id]);
            })
            .is_ok();
        if has_scheme && has_path {
            Ok(url)
        } else {
            Err(OpenError::Address(url))
        }
    }
}

/// What the gateway announced; a gateway of AWS announces nothing.
fn features(headers: &HeaderMap) -> PeerFeatures {
    let text = headers
        .get(FEATURES_HEADER)
        .map(|value| value.to_str().unwrap_or_default());
    match text.map(PeerFeatures::parse) {
        None => PeerFeatures::default(),
        Some(Ok(features)) => features,
        Some(Err(error)) => {
            debug!(%error, "the gateway's features are not understood");
            PeerFeatures::default()
        }
    }
}
