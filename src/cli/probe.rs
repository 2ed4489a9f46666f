//! One HTTP exchange with a service, over the agent's proxies and TLS, of which the status, the date and a
//! body up to a limit matter.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{DATE, HOST, HeaderMap, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::fmt::rfc2822;
use url::{Position, Url};

use crate::runtime::proxy;
use crate::transport::DialError;
use crate::transport::websocket;

/// Longest body that is read of an answer that is a line: instance metadata.
pub(super) const LINE: usize = 4 << 10;

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
    /// The body, of an answer that is a success; empty if it is longer than the limit.
    pub(super) body: String,
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

/// Sends a request without a body to `url`, and reads a body of at most `limit` bytes.
///
/// # Errors
/// [`ProbeError`].
pub(super) async fn exchange(
    method: Method,
    url: &Url,
    headers: &[(&'static str, &str)],
    tls: &Arc<rustls::ClientConfig>,
    proxies: &proxy::Settings,
    limit: usize,
) -> Result<Answer, ProbeError> {
    let started = Instant::now();
    let stream = websocket::connect(url, tls, proxies).await?;
    let broken = |error: hyper::Error| ProbeError::Http(error.into());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let mut request = Request::builder()
        .method(method)
        .uri(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(USER_AGENT, concat!("ssm-cli/", env!("CARGO_PKG_VERSION")));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| ProbeError::Http(error.into()))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (parts, body) = response.into_parts();
        let local = SystemTime::now();
        let took = started.elapsed();
        let body = match parts.status.is_success() {
            true => Limited::new(body, limit)
                .collect()
                .await
                .map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned())
                .unwrap_or_default(),
            false => String::new(),
        };
        Ok(Answer {
            status: parts.status.as_u16(),
            date: date_of(&parts.headers),
            local,
            took,
            body,
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
