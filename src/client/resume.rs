//! Connections of a client: the first with the token of StartSession, each later one with a token of
//! ResumeSession, all to the stream URL of StartSession.

use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use http::HeaderMap;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_tungstenite::tungstenite;
use uuid::Uuid;

use super::api::Api;
use crate::aws::CallError;
use crate::protocol::wire::features::FEATURES_HEADER;
use crate::protocol::wire::open_channel::{OPEN_SCHEMA_VERSION, OpenDataChannel};
use crate::protocol::wire::version::CLIENT_WIRE_VERSION;
use crate::protocol::wire::{PeerFeatures, SessionId};
use crate::runtime::backoff::Backoff;
use crate::runtime::cause::in_one_line;
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
    /// There was no answer in all the time there was.
    #[error("the data channel did not open within {0:?}")]
    Timeout(Duration),
}

impl OpenError {
    /// What a person may do about it, if that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Dial(error) => error.hint(),
            Self::Send(_) | Self::Timeout(_) => None,
        }
    }

    /// Whether another attempt would end the same way.
    fn is_permanent(&self) -> bool {
        match self {
            Self::Dial(DialError::Refused { status, .. }) => (400..500).contains(status),
            Self::Dial(
                DialError::Url { .. }
                | DialError::Certificate { .. }
                | DialError::ProxyRefused { .. }
                | DialError::NotWebSocket { .. },
            ) => true,
            Self::Dial(
                DialError::Lookup { .. } | DialError::Network { .. } | DialError::Timeout { .. },
            )
            | Self::Send(_)
            | Self::Timeout(_) => false,
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
        let mut failure = OpenError::Timeout(patience);
        loop {
            match timeout_at(give_up, self.open(token)).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => failure = error,
                Err(_) => return Err(failure),
            }
            let next = Instant::now() + backoff.next_wait();
            if failure.is_permanent() || next >= give_up {
                return Err(failure);
            }
            tracing::debug!(error = %failure, "dialling again");
            sleep_until(next).await;
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
        Err(error) if is_final(&error) => Err(ConnectError::Ended(format!(
            "Session: {session} was cut off and cannot be resumed: {}",
            in_one_line(&error)
        ))),
        Err(error) => Err(ConnectError::Retry(Box::new(error))),
    }
}

/// Whether another call would end the same way.
fn is_final(error: &CallError) -> bool {
    match error {
        CallError::Service { .. } => !error.is_transient_refusal(),
        CallError::Credentials { .. }
        | CallError::Sign { .. }
        | CallError::Decode { .. }
        | CallError::Answer { .. }
        | CallError::Address { .. } => true,
        CallError::Network { .. } => false,
    }
}
