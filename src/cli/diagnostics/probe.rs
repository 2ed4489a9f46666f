//! One HTTP exchange with a service, over the agent's proxies and TLS, of which only the status and the
//! date matter.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{DATE, HOST, HeaderMap, USER_AGENT};
use http::{Method, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::fmt::rfc2822;
use url::{Position, Url};

use crate::runtime::proxy;
use crate::transport::DialError;
use crate::transport::websocket;

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// The service's clock, if it told.
    pub(super) date: Option<SystemTime>,
    /// Ours then.
    pub(super) local: SystemTime,
    /// How long it took.
    pub(super) took: Duration,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// What listens there does not speak HTTP.
    #[error("it does not speak HTTP")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ProbeError {
    /// The next step for a person.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Dial(error) => match error {
                DialError::Lookup { .. } => {
                    "check /etc/resolv.conf and that the name exists; a private endpoint needs its private DNS"
                }
                DialError::Network { .. } | DialError::Timeout { .. } => {
                    "let the host connect there: security group, firewall, route, or a proxy in HTTPS_PROXY of the unit"
                }
                DialError::Certificate { .. } => error.hint().unwrap_or("check the certificate"),
                DialError::ProxyRefused { .. } => error.hint().unwrap_or("check the proxy"),
                DialError::Url { .. }
                | DialError::Refused { .. }
                | DialError::NotWebSocket { .. } => {
                    "check the endpoints of the configuration and the proxy"
                }
            },
            Self::Http(_) => "something else than the service listens there: check the endpoint",
        }
    }
}

/// Sends a request without a body to `url`.
///
/// # Errors
/// [`ProbeError`].
pub(super) async fn exchange(
    method: Method,
    url: &Url,
    tls: &Arc<rustls::ClientConfig>,
    proxies: &proxy::Settings,
) -> Result<Answer, ProbeError> {
    let started = Instant::now();
    let stream = websocket::connect(url, tls, proxies).await?;
    let broken = |error: hyper::Error| ProbeError::Http(error.into());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let request = Request::builder()
        .method(method)
        .uri(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(USER_AGENT, concat!("ssm-cli/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| ProbeError::Http(error.into()))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (parts, _) = response.into_parts();
        let local = SystemTime::now();
        let took = started.elapsed();
        Ok(Answer {
            status: parts.status.as_u16(),
            date: date_of(&parts.headers),
            local,
            took,
        })
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => match ended {
            // The service closes after its answer, which is there already.
            Ok(()) => answer.await,
            Err(error) => Err(broken(error)),
        },
    }
}

fn date_of(headers: &HeaderMap) -> Option<SystemTime> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(date.into())
}
