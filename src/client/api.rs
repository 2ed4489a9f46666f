//! What a client asks of the control endpoint: a new token after a cut, and the end of the session.

use std::error::Error;
use std::fmt;

use serde::Deserialize;

use crate::protocol::wire::SessionId;

/// What a client needs to attach to a session.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct StartSessionResponse {
    /// The session.
    #[serde(rename = "SessionId")]
    pub session_id: SessionId,
    /// Token for the first connection; good for one.
    #[serde(rename = "TokenValue")]
    pub token: String,
    /// URL of the client's data channel, for the whole session.
    #[serde(rename = "StreamUrl")]
    pub stream_url: String,
}

impl fmt::Debug for StartSessionResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartSessionResponse")
            .field("session_id", &self.session_id)
            .field("stream_url", &self.stream_url)
            .finish_non_exhaustive()
    }
}

/// The calls about a session that runs.
pub trait Api: Send + Sync + 'static {
    /// A token for the next connection; `None` if the session is over.
    fn resume(
        &self,
        session: &SessionId,
    ) -> impl Future<Output = Result<Option<String>, ApiError>> + Send;

    /// Ends the session.
    fn terminate(&self, session: &SessionId) -> impl Future<Output = Result<(), ApiError>> + Send;
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The answer is no and will stay so: not allowed, not known, no credentials.
    #[error("{operation} was refused")]
    Refused {
        /// The operation.
        operation: &'static str,
        /// Cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It may succeed later.
    #[error("{operation} failed")]
    Failed {
        /// The operation.
        operation: &'static str,
        /// Cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}
