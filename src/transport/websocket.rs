//! WebSocket dial and accept (contract stub).

use std::sync::Arc;

use http::HeaderMap;
use tokio_tungstenite::WebSocketStream;

/// A byte stream under a WebSocket: TCP, TLS, or an upgraded HTTP connection.
pub trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}

/// An open WebSocket.
pub type Socket = WebSocketStream<Box<dyn Stream>>;

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The URL cannot be used.
    #[error("cannot dial {url}: {detail}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong.
        detail: String,
    },
    /// The peer answered the upgrade with another status.
    #[error("the peer refused the upgrade with status {status}: {body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Start of the body.
        body: String,
    },
    /// Name look-up, connect, TLS, proxy or timeout.
    #[error("cannot connect to {host}")]
    Network {
        /// Host and port.
        host: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

/// Dials `url` (`wss://`, `ws://`) with extra request headers, through the environment's proxy if it
/// names one. Returns the socket and the response's headers.
///
/// # Errors
/// [`DialError`].
#[expect(
    clippy::todo,
    clippy::unused_async,
    unused_variables,
    reason = "contract"
)]
pub async fn dial(
    url: &str,
    headers: HeaderMap,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<(Socket, HeaderMap), DialError> {
    todo!()
}

/// Takes over the server side of a connection whose HTTP upgrade has been answered.
#[expect(
    clippy::todo,
    clippy::unused_async,
    unused_variables,
    reason = "contract"
)]
pub async fn accept_upgraded(stream: Box<dyn Stream>) -> Socket {
    todo!()
}
