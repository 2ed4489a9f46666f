//! A stand-in for the gateway on loopback, over TLS: answers token calls, accepts WebSockets, and
//! remembers what it was asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::aws::{Client, Endpoints, StaticCredentials};
use crate::protocol::wire::features::FEATURES_HEADER;
use crate::protocol::wire::open_channel::encode_token_response;
use crate::transport::websocket::{Socket, accept_upgraded};

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the gateway does from now on.
#[derive(Debug, Clone, Default)]
pub enum Mood {
    /// Give tokens and accept WebSockets, announcing these features.
    #[default]
    Accepts,
    /// Refuse tokens with this status and body.
    RefusesToken(u16, &'static str),
    /// Refuse WebSockets with this status.
    RefusesUpgrade(u16),
    /// Leave WebSocket upgrades without an answer.
    HangsInUpgrade,
}

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A gateway that listens.
pub struct Gateway {
    shared: Arc<Shared>,
    sockets: mpsc::UnboundedReceiver<Socket>,
    port: u16,
    trusted: Arc<rustls::ClientConfig>,
    _tasks: JoinSet<()>,
}

struct Shared {
    mood: Mutex<Mood>,
    seen: Mutex<Vec<Seen>>,
    accepted: mpsc::UnboundedSender<Socket>,
}

impl Gateway {
    pub async fn listen(mood: Mood) -> Self {
        let (acceptor, trusted) = certificate();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (accepted, sockets) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            mood: Mutex::new(mood),
            seen: Mutex::default(),
            accepted,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, acceptor, Arc::clone(&shared)));
        Self {
            shared,
            sockets,
            port,
            trusted,
            _tasks: tasks,
        }
    }

    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The next WebSocket that was accepted.
    pub async fn accept(&mut self) -> Socket {
        let socket = tokio::time::timeout(PATIENCE, self.sockets.recv()).await;
        socket.expect("a WebSocket in time").unwrap()
    }

    /// How many upgrades it was asked for.
    pub fn upgrades(&self) -> usize {
        let seen = self.seen();
        seen.iter()
            .filter(|seen| seen.method == Method::GET)
            .count()
    }

    /// Waits until it was asked for so many upgrades.
    pub async fn wait_for_upgrades(&self, number: usize) {
        let poll = async {
            while self.upgrades() < number {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, poll).await;
        in_time.expect("an upgrade in time");
    }

    /// A client that trusts this gateway.
    pub fn client(&self) -> Client {
        let endpoint = format!("https://localhost:{}", self.port);
        let endpoints = Endpoints::for_region("test-1", None)
            .and_then(|endpoints| endpoints.with_messages(&endpoint))
            .unwrap();
        let credentials = StaticCredentials::new("AKID", "secret", Some("session-token"));
        Client::new(endpoints, Arc::clone(&self.trusted), Arc::new(credentials))
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(serve(stream, acceptor.clone(), Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(|request| answer(request, Arc::clone(&shared)));
    // Clients that break off are part of the tests.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

async fn answer(
    mut request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.body_mut().collect().await.unwrap().to_bytes();
    shared.seen.lock().unwrap().push(Seen {
        method: request.method().clone(),
        target: request.uri().path_and_query().unwrap().to_string(),
        headers: request.headers().clone(),
        body,
    });
    let mood = shared.mood.lock().unwrap().clone();
    Ok(match (request.method(), mood) {
        (&Method::POST, Mood::RefusesToken(status, text)) => reply(status, text.into()),
        (&Method::POST, _) => reply(201, encode_token_response("Result", "a&token")),
        (_, Mood::RefusesUpgrade(status)) => reply(status, "no".into()),
        (_, Mood::HangsInUpgrade) => std::future::pending().await,
        (_, Mood::Accepts | Mood::RefusesToken(..)) => upgrade(request, &shared),
    })
}

fn reply(status: u16, body: String) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(status).unwrap();
    Response::builder()
        .status(status)
        .body(body.into())
        .unwrap()
}

fn upgrade(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let key = derive_accept_key(request.headers()[SEC_WEBSOCKET_KEY].as_bytes());
    let accepted = shared.accepted.clone();
    // Ends with the connection that it waits for.
    tokio::spawn(async move {
        let stream = hyper::upgrade::on(request).await.unwrap();
        let socket = accept_upgraded(Box::new(TokioIo::new(stream))).await;
        let _ = accepted.send(socket);
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, key)
        .header(FEATURES_HEADER, "max-payload=32768, exit-code")
        .body(Full::default())
        .unwrap()
}

fn certificate() -> (TlsAcceptor, Arc<rustls::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let chain = vec![made.cert.der().clone()];
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let trusted = crate::runtime::tls::client_config_with(made.cert.pem().as_bytes()).unwrap();
    (TlsAcceptor::from(Arc::new(server)), trusted)
}
