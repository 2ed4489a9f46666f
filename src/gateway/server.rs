//! Listeners and their connections: TLS, HTTP/1.1 with upgrades, limits, and an orderly end.

mod placed;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, debug_span, error, warn};

use self::placed::Placed;
use super::api::Arrival;
use crate::transport::gather::Gather;

/// How long a TLS handshake may take; a peer across the world needs a second.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a connection may take to send a request's head, and may lie idle between two requests.
const HEAD_DEADLINE: Duration = Duration::from_secs(60);
/// Longest head of a request; that of a signed upgrade has about 1 KiB.
const HEAD_LIMIT: usize = 32 << 10;
/// Headers of a request; SDKs send about 15.
const HEADERS: usize = 64;
/// How long requests under way may take once the gateway stops.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// Pause after an accept that failed for lack of something, most likely file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One listener. TLS if it has an acceptor, plain HTTP otherwise.
pub(super) struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    places: Arc<Semaphore>,
}

impl Server {
    /// Over TLS. `places` limits the connections; listeners can share it.
    pub(super) fn tls(
        listener: TcpListener,
        acceptor: TlsAcceptor,
        router: Router,
        places: Arc<Semaphore>,
    ) -> Self {
        Self {
            listener,
            tls: Some(acceptor),
            router,
            places,
        }
    }

    /// Without TLS; requests carry [`Arrival::Plain`] with `address`.
    pub(super) fn plain(
        listener: TcpListener,
        address: SocketAddr,
        router: Router,
        places: Arc<Semaphore>,
    ) -> Self {
        Self {
            listener,
            tls: None,
            router: router.layer(Extension(Arrival::Plain(address))),
            places,
        }
    }

    /// Serves until `cancel`, then lets requests under way finish. Connections that were upgraded
    /// have left by then and belong to whoever took them over.
    pub(super) async fn run(self, cancel: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => break,
                Some(ended) = connections.join_next() => {
                    report(ended);
                    continue;
                }
                accepted = accept(&self.listener, &self.places) => accepted,
            };
            let (stream, peer, place) = accepted;
            let (tls, router, cancel) = (self.tls.clone(), self.router.clone(), cancel.clone());
            let connection = async move {
                if let Err(error) = serve(stream, place, tls, router, cancel).await {
                    // Scanners, clients without our certificate, cut connections: daily bread.
                    debug!(%error, "connection ended");
                }
            };
            connections.spawn(connection.instrument(debug_span!("connection", %peer)));
        }
        drop(self.listener);
        let drained = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        if tokio::time::timeout(DRAIN_DEADLINE, drained).await.is_err() {
            warn!(
                left = connections.len(),
                "connections outlived the shutdown deadline"
            );
            connections.shutdown().await;
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!(%error, "a connection broke");
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

type ConnectionError = Box<dyn std::error::Error + Send + Sync>;

async fn serve(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    tls: Option<TlsAcceptor>,
    router: Router,
    cancel: CancellationToken,
) -> Result<(), ConnectionError> {
    // Keystrokes are small messages that must not wait for company.
    stream.set_nodelay(true)?;
    let stream = Gather::new(stream);
    match tls {
        Some(acceptor) => {
            let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream));
            let Some(stream) = cancel.run_until_cancelled(handshake).await else {
                return Ok(());
            };
            speak(Placed::new(stream??, place), router, cancel).await
        }
        None => speak(Placed::new(stream, place), router, cancel).await,
    }
}

async fn speak<S>(
    stream: Placed<S>,
    router: Router,
    cancel: CancellationToken,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let impatience = stream.impatience();
    let router = TowerToHyperService::new(router);
    let answer = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(impatience.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        ended = &mut connection => return Ok(ended?),
        () = cancel.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

#[cfg(test)]
mod tests;
