//! Connections of a client: the first with the token of StartSession, each later one with a token of
//! ResumeSession, all to the stream URL of StartSession.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use http::HeaderMap;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite;
use uuid::Uuid;

use super::api::{Api, ApiError};
use crate::protocol::wire::features::FEATURES_HEADER;
use crate::protocol::wire::open_channel::{OPEN_SCHEMA_VERSION, OpenDataChannel};
use crate::protocol::wire::version::CLIENT_WIRE_VERSION;
use crate::protocol::wire::{PeerFeatures, SessionId};
use crate::runtime::backoff::Backoff;
use crate::transport::websocket::{self, DialError};
use crate::transport::{ConnectError, Connected, Connector};

/// First wait between attempts to make the first connection.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between attempts to make the first connection; a person is waiting too.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The dial failed.
    #[error("cannot open the data channel")]
    Dial(#[from] DialError),
    /// The socket closed before it took the open message.
    #[error("cannot send the open message of the data channel")]
    Send(#[source] Box<tungstenite::Error>),
}

impl OpenError {
    /// Whether another attempt would end the same way.
    fn is_permanent(&self) -> bool {
        match self {
            Self::Dial(DialError::Url { .. }) => true,
            Self::Dial(DialError::Refused { status, .. }) => (400..500).contains(status),
            // A certificate or protocol that TLS does not take.
            Self::Dial(DialError::Network { source, .. }) => {
                source.kind() == io::ErrorKind::InvalidData
            }
            Self::Send(_) => false,
        }
    }
}

/// Opens data channels of one session.
pub(super) struct Dialer {
    pub(super) session_id: SessionId,
    pub(super) stream_url: String,
    pub(super) tls: Arc<rustls::ClientConfig>,
    client_id: String,
}

impl Dialer {
    pub(super) fn new(
        session_id: SessionId,
        stream_url: String,
        tls: Arc<rustls::ClientConfig>,
    ) -> Self {
        Self {
            session_id,
            stream_url,
            tls,
            client_id: Uuid::new_v4().to_string(),
        }
    }

    /// Opens the first connection; passing troubles are sat out for `patience`.
    pub(super) async fn open_first(
        &self,
        token: &str,
        patience: Duration,
    ) -> Result<Connected, OpenError> {
        let give_up = Instant::now() + patience;
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let error = match self.open(token).await {
                Ok(connected) => return Ok(connected),
                Err(error) => error,
            };
            let next = Instant::now() + backoff.next_wait();
            if error.is_permanent() || next >= give_up {
                return Err(error);
            }
            tracing::debug!(%error, "dialling again");
            tokio::time::sleep_until(next).await;
        }
    }

    async fn open(&self, token: &str) -> Result<Connected, OpenError> {
        let (mut socket, headers) =
            websocket::dial(&self.stream_url, HeaderMap::new(), &self.tls).await?;
        let open = OpenDataChannel {
            message_schema_version: OPEN_SCHEMA_VERSION.into(),
            request_id: Uuid::new_v4().to_string(),
            token_value: token.to_owned(),
            client_instance_id: None,
            client_id: self.client_id.clone(),
            client_version: Some(CLIENT_WIRE_VERSION.into()),
            features: Some(PeerFeatures::ours().to_string()),
        };
        socket
            .send(tungstenite::Message::text(open.encode()))
            .await
            .map_err(|error| OpenError::Send(Box::new(error)))?;
        Ok(Connected {
            socket,
            features: announced(&headers),
        })
    }
}

/// What the gateway announced; an unknown gateway announces nothing.
fn announced(headers: &HeaderMap) -> PeerFeatures {
    let Some(text) = headers
        .get(FEATURES_HEADER)
        .and_then(|value| value.to_str().ok())
    else {
        return PeerFeatures::default();
    };
    PeerFeatures::parse(text).unwrap_or_else(|error| {
        tracing::debug!(%error, "features of the gateway are ignored");
        PeerFeatures::default()
    })
}

/// Hands out the first connection, then makes one after each cut.
pub(super) struct Reconnect<A> {
    api: Arc<A>,
    dialer: Dialer,
    first: Option<Connected>,
}

impl<A: Api> Reconnect<A> {
    pub(super) fn new(api: Arc<A>, dialer: Dialer, first: Connected) -> Self {
        Self {
            api,
            dialer,
            first: Some(first),
        }
    }
}

impl<A: Api> Connector for Reconnect<A> {
    async fn connect(&mut self, attempt: u32) -> Result<Connected, ConnectError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        tracing::debug!(attempt, "resuming the session");
        let token = fresh_token(self.api.as_ref(), &self.dialer.session_id).await?;
        self.dialer
            .open(&token)
            .await
            .map_err(|error| ConnectError::Retry(Box::new(error)))
    }
}

async fn fresh_token(api: &impl Api, session: &SessionId) -> Result<String, ConnectError> {
    match api.resume(session).await {
        Ok(Some(token)) => Ok(token),
        Ok(None) => Err(ConnectError::Ended(format!(
            "Session: {session} timed out."
        ))),
        Err(error @ ApiError::Refused { .. }) => Err(ConnectError::Ended(format!(
            "Session: {session} was cut off and cannot be resumed: {}",
            chain(&error)
        ))),
        Err(error @ ApiError::Failed { .. }) => Err(ConnectError::Retry(Box::new(error))),
    }
}

/// An error with its causes in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
