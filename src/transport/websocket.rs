//! WebSocket dial and accept, with buffers sized for many idle sessions.
//!
//! ```text
//! dial: look up -> connect (all addresses) -> proxy tunnel? -> TLS? -> HTTP upgrade -> Socket
//! ```
//!
//! A peer's fragments are put together again, its pings are answered while the socket is read, and
//! its first frame may be a ping. Compression is never offered: no known peer asks for it.

mod connect;
mod error;
mod upgrade;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use url::Url;

use crate::protocol::wire::codec::Limit;
use crate::runtime::proxy;

pub use error::{CertificateProblem, DialError, Step};

/// Time for looking up a name: a resolver that tries three servers answers or fails within it.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for reaching any address of a host.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for a TLS handshake.
pub const TLS_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for the answer to an upgrade; the service may think about a token for some seconds.
pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);

/// Read buffer of a socket. The library's own default of 128 KiB would be most of an idle session's
/// memory; one TLS record is never larger than this.
const READ_BUFFER: usize = 16 << 10;
/// Small messages are gathered up to here between flushes; larger ones are written at once.
const WRITE_BUFFER: usize = 32 << 10;
/// Largest message taken from a peer.
const MAX_MESSAGE: usize = Limit::PAYLOAD + Limit::HEADER;

/// A byte stream under a WebSocket: TCP, TLS, or an upgraded HTTP connection.
pub trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}

impl fmt::Debug for dyn Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

/// An open WebSocket.
pub type Socket = WebSocketStream<Box<dyn Stream>>;

/// Dials `url` (`wss://`, `ws://`) with extra request headers, through the environment's proxy if it
/// names one. Returns the socket and the response's headers.
///
/// # Errors
/// [`DialError`].
pub async fn dial(
    url: &str,
    headers: HeaderMap,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<(Socket, HeaderMap), DialError> {
    dial_with(url, headers, tls, proxy::Settings::of_process()).await
}

/// [`dial`] with proxy settings of the caller's.
async fn dial_with(
    url: &str,
    headers: HeaderMap,
    tls: &Arc<rustls::ClientConfig>,
    proxies: &proxy::Settings,
) -> Result<(Socket, HeaderMap), DialError> {
    let target = Target::parse(url)?;
    let stream = connect_to(&target, tls, proxies).await?;
    let switched = upgrade::websocket(stream, &target, headers).await?;
    let socket = WebSocketStream::from_partially_read(
        switched.stream,
        switched.read_ahead.into(),
        Role::Client,
        Some(config()),
    )
    .await;
    Ok((socket, switched.headers))
}

/// Connects to `url` (`https://`, `http://`) as a dial would, and stops before anything is said.
///
/// # Errors
/// [`DialError`].
pub async fn connect(
    url: &Url,
    tls: &Arc<rustls::ClientConfig>,
    proxies: &proxy::Settings,
) -> Result<Box<dyn Stream>, DialError> {
    let target = match url.scheme() {
        "https" => Target::of(url.clone(), true)?,
        "http" => Target::of(url.clone(), false)?,
        other => return Err(refuse(url.as_str(), format!("{other:?} is not HTTP"))),
    };
    connect_to(&target, tls, proxies).await
}

async fn connect_to(
    target: &Target,
    tls: &Arc<rustls::ClientConfig>,
    proxies: &proxy::Settings,
) -> Result<Box<dyn Stream>, DialError> {
    let stream = match proxies.proxy_for(&target.url) {
        Some(proxy) => connect::through_proxy(proxy, target, tls).await?,
        None => connect::tcp(&target.host, target.port).await?,
    };
    if target.secure {
        connect::secure(stream, &target.host, target.port, tls).await
    } else {
        Ok(stream)
    }
}

/// Takes over the server side of a connection whose HTTP upgrade has been answered.
pub async fn accept_upgraded(stream: Box<dyn Stream>) -> Socket {
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        // Never reached by who waits for the sink to be ready before each message.
        .max_write_buffer_size(WRITE_BUFFER + 2 * MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// Where a dial goes.
struct Target {
    url: Url,
    host: String,
    port: u16,
    secure: bool,
}

impl Target {
    fn parse(text: &str) -> Result<Self, DialError> {
        let url = Url::parse(text).map_err(|error| refuse(text, error.to_string()))?;
        let secure = match url.scheme() {
            "wss" => true,
            "ws" => false,
            other => return Err(refuse(text, format!("{other:?} is no WebSocket scheme"))),
        };
        Self::of(url, secure)
    }

    fn of(url: Url, secure: bool) -> Result<Self, DialError> {
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(refuse(url.as_str(), "it names no host".into()));
        };
        let host = match host {
            url::Host::Domain(name) => name.to_owned(),
            url::Host::Ipv4(address) => address.to_string(),
            url::Host::Ipv6(address) => address.to_string(),
        };
        Ok(Self {
            url,
            host,
            port,
            secure,
        })
    }
}

fn refuse(url: &str, detail: String) -> DialError {
    DialError::Url {
        url: url.to_owned(),
        detail,
    }
}

/// `host:port`, with the brackets that IPv6 needs.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests;
