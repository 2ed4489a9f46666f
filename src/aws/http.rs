//! One HTTP exchange: pooled connections, TLS, proxies, a deadline and a limit on the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use url::Url;

use super::dial::Repeating;
use crate::runtime::proxy;

/// Largest answer that is read: documents are the largest, at 64 KiB each, a page of listings may
/// hold 50 of them.
pub const RESPONSE_LIMIT: usize = 4 * 1024 * 1024;
/// A host that does not answer an attempt to connect for this long, nor those made beside it each
/// second, is given up; callers try again. Half a second after the last one, which leaves them that
/// much more time to be as quick.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(4500);
/// Idle connections serve bursts of calls only. A connection that was idle when the network went away
/// must not be there any more when that is noticed, 5 s later at the earliest, and a session asks
/// for a token to dial again with: a request sent into it is repeated by the kernel at growing
/// distances, and reaches a service up to 10 s after the network is back.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

type Direct = HttpsConnector<Repeating<HttpConnector>>;
type Tunneled = HttpsConnector<Tunnel<Direct>>;

/// How a host is reached.
#[expect(clippy::large_enum_variant, reason = "there are two per client")]
#[derive(Debug, Clone)]
pub(super) enum Route {
    /// Without a proxy.
    Direct(Pool<Direct, Full<Bytes>>),
    /// Through a proxy's `CONNECT`.
    Tunnel(Pool<Tunneled, Full<Bytes>>),
}

/// Makes routes that share their pools.
pub(super) struct Routes {
    tls: Arc<ClientConfig>,
    direct: Pool<Direct, Full<Bytes>>,
}

/// Why an exchange did not come to an answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection: nothing was sent.
    #[error("cannot connect to {host}")]
    Connect {
        /// The host.
        host: String,
        /// What went wrong.
        #[source]
        cause: hyper_util::client::legacy::Error,
    },
    /// The connection broke; the service may have seen the request.
    #[error("connection to {host} broke")]
    Broken {
        /// The host.
        host: String,
        /// What went wrong.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No whole answer in time; the service may have seen the request.
    #[error("{host} has not answered within {} s", .after.as_secs())]
    Timeout {
        /// The host.
        host: String,
        /// The time it had.
        after: Duration,
    },
    /// The answer is larger than [`RESPONSE_LIMIT`].
    #[error("answer of {host} is larger than {RESPONSE_LIMIT} bytes")]
    TooLarge {
        /// The host.
        host: String,
    },
}

impl HttpError {
    /// Whether the request certainly never reached the service.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }
}

impl Routes {
    /// Routes whose TLS is `tls`.
    pub(super) fn new(tls: Arc<ClientConfig>) -> Self {
        let connector = HttpsConnector::from((tcp(), Arc::clone(&tls)));
        Self {
            tls,
            direct: pool(connector),
        }
    }

    /// The route to `url` that `proxies` asks for.
    ///
    /// Plain `http`, which only test endpoints speak, goes through `CONNECT` like everything else.
    pub(super) fn route(&self, url: &Url, proxies: &proxy::Settings) -> Route {
        let proxy = proxies.proxy_for(url);
        match proxy.and_then(|proxy| self.tunnel(proxy)) {
            Some(tunnel) => Route::Tunnel(tunnel),
            None => Route::Direct(self.direct.clone()),
        }
    }

    fn tunnel(&self, proxy: &proxy::Proxy) -> Option<Pool<Tunneled, Full<Bytes>>> {
        let address: Uri = proxy.to_string().parse().ok()?;
        let to_proxy = HttpsConnector::from((tcp(), Arc::clone(&self.tls)));
        let mut tunnel = Tunnel::new(address, to_proxy);
        if let Some(authorization) = proxy.authorization() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        Some(pool(HttpsConnector::from((tunnel, Arc::clone(&self.tls)))))
    }
}

impl Route {
    /// Sends `request` and reads the whole answer, both within `timeout`.
    pub(super) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, HttpError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let exchange = async {
            let (parts, body) = self.send(request, &host).await?.into_parts();
            let body = Limited::new(body, RESPONSE_LIMIT)
                .collect()
                .await
                .map_err(|cause| explain_read(&host, cause))?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        within(timeout, &host, exchange).await
    }

    /// Sends `request` and reads the head of the answer within `timeout`; its body is still to come.
    pub(super) async fn open(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, HttpError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        within(timeout, &host, self.send(request, &host)).await
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        host: &str,
    ) -> Result<Response<Incoming>, HttpError> {
        let response = match self {
            Self::Direct(pool) => pool.request(request).await,
            Self::Tunnel(pool) => pool.request(request).await,
        };
        response.map_err(|cause| explain_send(host, cause))
    }
}

/// What comes of `work` if it does within `timeout`.
pub(super) async fn within<T>(
    timeout: Duration,
    host: &str,
    work: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    let done = tokio::time::timeout(timeout, work).await;
    done.unwrap_or_else(|_| {
        Err(HttpError::Timeout {
            host: host.to_owned(),
            after: timeout,
        })
    })
}

fn tcp() -> Repeating<HttpConnector> {
    let mut connector = HttpConnector::new();
    // The TLS layer above takes the `https` URLs.
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    Repeating(connector)
}

/// The pool's own tasks end with its connections, when the last clone of the client is dropped.
fn pool<C>(connector: C) -> Pool<C, Full<Bytes>>
where
    C: hyper_util::client::legacy::connect::Connect + Clone,
{
    Pool::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_timer(TokioTimer::new())
        .build(connector)
}

fn explain_send(host: &str, cause: hyper_util::client::legacy::Error) -> HttpError {
    let host = host.to_owned();
    if cause.is_connect() {
        HttpError::Connect { host, cause }
    } else {
        HttpError::Broken {
            host,
            cause: cause.into(),
        }
    }
}

pub(super) fn explain_read(
    host: &str,
    cause: Box<dyn std::error::Error + Send + Sync>,
) -> HttpError {
    let host = host.to_owned();
    if cause.is::<LengthLimitError>() {
        HttpError::TooLarge { host }
    } else {
        HttpError::Broken { host, cause }
    }
}
