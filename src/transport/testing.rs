//! What the tests of this room share: certificates, servers, sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::websocket::{Socket, Stream, accept_upgraded};
use crate::runtime::tls;

pub(super) struct Identity {
    pem: String,
    server: Arc<rustls::ServerConfig>,
}

impl Identity {
    pub(super) fn for_names(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Self::from_params(&CertificateParams::new(names).unwrap())
    }

    pub(super) fn from_params(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Self {
            pem: certificate.pem(),
            server: Arc::new(server),
        }
    }

    pub(super) fn trusting(&self) -> Arc<rustls::ClientConfig> {
        tls::client_config_with(self.pem.as_bytes()).unwrap()
    }

    pub(super) async fn serve<F, T>(
        &self,
        serve: impl FnOnce(Box<dyn Stream>) -> F + Send + 'static,
    ) -> (SocketAddr, JoinHandle<T>)
    where
        F: Future<Output = T> + Send,
        T: Default + Send + 'static,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.server));
        serve_plain(move |stream| async move {
            match acceptor.accept(stream).await {
                Ok(stream) => serve(Box::new(stream)).await,
                Err(_) => T::default(),
            }
        })
        .await
    }
}

/// Both ends of a WebSocket in memory, with room for `room` bytes each way; the first is the client's.
pub(super) async fn socket_pair(room: usize) -> (Socket, Socket) {
    let (near, far) = tokio::io::duplex(room);
    let near: Box<dyn Stream> = Box::new(near);
    let client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    (client, accept_upgraded(Box::new(far)).await)
}

/// The server's side of an upgrade, and the request's head.
pub(super) async fn accept(mut stream: Box<dyn Stream>) -> (Socket, String) {
    let head = read_head(&mut stream).await;
    let answer = upgrade_answer(&accept_key(&head));
    stream.write_all(answer.as_bytes()).await.unwrap();
    (accept_upgraded(stream).await, head)
}

pub(super) async fn serve_plain<F, T>(
    serve: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, JoinHandle<T>)
where
    F: Future<Output = T> + Send,
    T: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    (address, server)
}

pub(super) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

pub(super) fn accept_key(head: &str) -> String {
    let key = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    derive_accept_key(key.unwrap().1.as_bytes())
}

pub(super) fn upgrade_answer(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         X-Ssm-Features: max-payload=32768\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}
