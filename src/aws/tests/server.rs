//! A tiny HTTP server for tests: answers what a closure says and remembers what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::aws::credentials::{CredentialSource, StaticCredentials};
use crate::aws::{Client, Endpoints};

/// A request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: http::Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    /// The operation that the target header names.
    pub(crate) fn operation(&self) -> &str {
        let target = self.header("x-amz-target");
        target.strip_prefix("AmazonSSM.").unwrap_or(target)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An answer: status, headers, body.
pub(crate) struct Reply(
    pub(crate) u16,
    pub(crate) Vec<(&'static str, String)>,
    pub(crate) String,
);

impl Reply {
    pub(crate) fn json(body: &str) -> Self {
        Self(200, vec![], body.to_owned())
    }

    pub(crate) fn refusal(code: &str) -> Self {
        Self(
            400,
            vec![],
            format!(r#"{{"__type":"{code}","message":"refused"}}"#),
        )
    }
}

/// Decides the answer to the n-th request, counted from 0.
type Handler = dyn Fn(usize, &Seen) -> Reply + Send + Sync;

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    trusted: Arc<rustls::ClientConfig>,
    tls: bool,
    _tasks: JoinSet<()>,
}

impl TestServer {
    /// Serves plain HTTP.
    pub(crate) async fn start(
        handler: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(Arc::new(handler), false).await
    }

    /// Serves HTTPS.
    pub(crate) async fn start_tls(
        handler: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(Arc::new(handler), true).await
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// All services at this server, in region `test-1`.
    pub(crate) fn endpoints(&self) -> Endpoints {
        let scheme = if self.tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", self.address);
        Endpoints::for_region("test-1", None)
            .and_then(|endpoints| endpoints.with_ssm(&url))
            .and_then(|endpoints| endpoints.with_messages(&url))
            .and_then(|endpoints| endpoints.with_delivery(&url))
            .and_then(|endpoints| endpoints.with_kms(&url))
            .and_then(|endpoints| endpoints.with_s3(&url))
            .and_then(|endpoints| endpoints.with_logs(&url))
            .unwrap()
    }

    /// A TLS configuration that trusts this server.
    pub(crate) fn tls(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.trusted)
    }

    /// A client of this server with an access key.
    pub(crate) fn client(&self) -> Client {
        self.client_with(StaticCredentials::new("AKID", "secret", None))
    }

    pub(crate) fn client_with(&self, credentials: impl CredentialSource) -> Client {
        Client::new(self.endpoints(), self.tls(), Arc::new(credentials))
    }

    async fn serve(handler: Arc<Handler>, tls: bool) -> Self {
        let (acceptor, trusted) = certificate();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            tls.then_some(acceptor),
            handler,
            Arc::clone(&seen),
        ));
        Self {
            address,
            seen,
            trusted,
            tls,
            _tasks: tasks,
        }
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    handler: Arc<Handler>,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let handler = Arc::clone(&handler);
        let seen = Arc::clone(&seen);
        match &acceptor {
            None => {
                connections.spawn(answer(stream, handler, seen));
            }
            Some(acceptor) => {
                let handshake = acceptor.accept(stream);
                connections.spawn(async move {
                    if let Ok(stream) = handshake.await {
                        answer(stream, handler, seen).await;
                    }
                });
            }
        }
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    handler: Arc<Handler>,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let service = service_fn(|request: Request<Incoming>| async {
        let (parts, body) = request.into_parts();
        let request = Seen {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        };
        let count = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let Reply(status, headers, body) = handler(count, &request);
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
    });
    // A client that goes away in the middle is part of the tests.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// A certificate for 127.0.0.1, as the server and the client need it.
fn certificate() -> (TlsAcceptor, Arc<rustls::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), Arc::new(client))
}

/// A proxy that connects every `CONNECT` to `target`, whatever it asks for, and tells what it was
/// asked.
pub(crate) async fn start_proxy(
    target: SocketAddr,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&asked);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut tunnels = JoinSet::new();
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let heads = Arc::clone(&heads);
            tunnels.spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(near.read_u8().await.unwrap());
                }
                heads.lock().unwrap().push(String::from_utf8(head).unwrap());
                let mut far = TcpStream::connect(target).await.unwrap();
                near.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")
                    .await
                    .unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, asked, tasks)
}
