//! The HTTP/1.1 exchanges after which a connection stops being HTTP: a proxy's CONNECT and the
//! WebSocket upgrade.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use url::Position;

use super::connect::timed_out;
use super::{DialError, Step, Stream, Target, UPGRADE_TIMEOUT, authority};
use crate::runtime::proxy::Proxy;

/// How much of a refusal's body goes into the error.
const MAX_REFUSAL_BODY: usize = 1024;
/// Largest head of an answer that is read.
const MAX_HEAD: usize = 64 << 10;

/// A connection that has stopped being HTTP.
pub(super) struct Switched {
    /// The connection.
    pub stream: Box<dyn Stream>,
    /// What the peer sent right behind its answer.
    pub read_ahead: Bytes,
    /// Headers of the answer.
    pub headers: HeaderMap,
}

/// What came of an exchange.
enum Outcome {
    Switched(Switched),
    Refused { status: StatusCode, body: String },
}

/// Upgrades `stream` to a WebSocket.
pub(super) async fn websocket(
    stream: Box<dyn Stream>,
    target: &Target,
    headers: HeaderMap,
) -> Result<Switched, DialError> {
    let not_websocket = |detail: String| DialError::NotWebSocket {
        host: authority(&target.host, target.port),
        detail,
    };
    let key = generate_key();
    let request = upgrade_request(target, headers, &key).map_err(|error| DialError::Url {
        url: target.url.to_string(),
        detail: error.to_string(),
    })?;
    let outcome = timeout(UPGRADE_TIMEOUT, exchange(stream, request))
        .await
        .map_err(|_| timed_out(&target.host, target.port, Step::Upgrade, UPGRADE_TIMEOUT))?
        .map_err(|error| not_websocket(spell_out(&error)))?;
    match outcome {
        Outcome::Refused { status, body } => Err(DialError::Refused {
            status: status.as_u16(),
            body,
        }),
        Outcome::Switched(switched) => {
            let accept = switched.headers.get(header::SEC_WEBSOCKET_ACCEPT);
            if accept.map(HeaderValue::as_bytes)
                == Some(derive_accept_key(key.as_bytes()).as_bytes())
            {
                Ok(switched)
            } else {
                Err(not_websocket("its answer is not for our key".into()))
            }
        }
    }
}

/// Has `proxy`, at the other end of `stream`, connect to `target`.
pub(super) async fn tunnel(
    stream: Box<dyn Stream>,
    proxy: &Proxy,
    target: &Target,
) -> Result<Box<dyn Stream>, DialError> {
    let host = authority(&target.host, target.port);
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(&host)
        .header(header::HOST, &host);
    if let Some(authorization) = proxy.authorization() {
        request = request.header(header::PROXY_AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::new()).map_err(|error| DialError::Url {
        url: host.clone(),
        detail: error.to_string(),
    })?;
    let outcome = timeout(UPGRADE_TIMEOUT, exchange(stream, request))
        .await
        .map_err(|_| timed_out(proxy.host(), proxy.port(), Step::Upgrade, UPGRADE_TIMEOUT))?;
    match outcome {
        Ok(Outcome::Switched(switched)) if switched.read_ahead.is_empty() => Ok(switched.stream),
        // Whoever is behind the tunnel waits for us to speak first, in TLS and in HTTP alike.
        Ok(Outcome::Switched(_)) => Err(DialError::NotWebSocket {
            host,
            detail: format!("something spoke first through the proxy {proxy}"),
        }),
        Ok(Outcome::Refused { status, .. }) => Err(DialError::ProxyRefused {
            proxy: proxy.to_string(),
            host,
            status: status.as_u16(),
        }),
        Err(error) => Err(DialError::Network {
            host: proxy.to_string(),
            source: std::io::Error::other(error),
        }),
    }
}

fn upgrade_request(
    target: &Target,
    headers: HeaderMap,
    key: &str,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    let path = &target.url[Position::BeforePath..Position::AfterQuery];
    let mut request = Request::builder()
        .uri(path)
        // As in signatures: the port is named only if it is not the scheme's own.
        .header(
            header::HOST,
            &target.url[Position::BeforeHost..Position::AfterPort],
        )
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, key)
        .body(Empty::new())?;
    request.headers_mut().extend(headers);
    Ok(request)
}

/// Sends `request` and reads the answer; the connection is taken over if it says so.
async fn exchange(
    stream: Box<dyn Stream>,
    request: Request<Empty<Bytes>>,
) -> Result<Outcome, hyper::Error> {
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    let connection = pin!(connection.with_upgrades());
    let answer = pin!(async move {
        let tunnels = request.method() == Method::CONNECT;
        let response = sender.send_request(request).await?;
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS
            || tunnels && response.status().is_success();
        if switches {
            take_over(response).await
        } else {
            refusal(response).await
        }
    });
    match select(answer, connection).await {
        Either::Left((outcome, _)) => outcome,
        // The connection ends first when it has handed over the stream, or when it broke.
        Either::Right((ended, answer)) => match answer.await {
            Ok(outcome) => Ok(outcome),
            Err(error) => Err(ended.err().unwrap_or(error)),
        },
    }
}

async fn take_over(response: Response<Incoming>) -> Result<Outcome, hyper::Error> {
    let headers = response.headers().clone();
    let upgraded: Upgraded = hyper::upgrade::on(response).await?;
    let (stream, read_ahead): (Box<dyn Stream>, Bytes) =
        match upgraded.downcast::<TokioIo<Box<dyn Stream>>>() {
            Ok(parts) => (parts.io.into_inner(), parts.read_buf),
            Err(upgraded) => (Box::new(TokioIo::new(upgraded)), Bytes::new()),
        };
    Ok(Outcome::Switched(Switched {
        stream,
        read_ahead,
        headers,
    }))
}

async fn refusal(response: Response<Incoming>) -> Result<Outcome, hyper::Error> {
    let status = response.status();
    let mut body = response.into_body();
    let mut start = BytesMut::new();
    while start.len() < MAX_REFUSAL_BODY
        && let Some(frame) = body.frame().await
    {
        // A body that breaks off still tells more than none.
        let Ok(frame) = frame else { break };
        if let Some(data) = frame.data_ref() {
            start.extend_from_slice(data);
        }
    }
    start.truncate(MAX_REFUSAL_BODY);
    let body = String::from_utf8_lossy(&start).trim().to_owned();
    Ok(Outcome::Refused { status, body })
}

/// hyper's own text names only the step; the reason is its source.
fn spell_out(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
