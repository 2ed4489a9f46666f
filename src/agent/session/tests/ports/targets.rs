//! Destinations: what stands behind the agent.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::agent::session::tests::harness::soon;

/// A listener on this host, which nothing accepts from by itself.
pub(super) struct Target {
    pub(super) listener: TcpListener,
    pub(super) port: u16,
}

impl Target {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    pub(super) async fn accept(&self) -> TcpStream {
        soon(self.listener.accept()).await.unwrap().0
    }

    /// Sends back whatever comes, on any number of connections, to their end.
    pub(super) fn echo(self) -> Echo {
        let port = self.port;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = self.listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Echo {
            port,
            _tasks: tasks,
        }
    }
}

/// An echoing target.
pub(super) struct Echo {
    pub(super) port: u16,
    _tasks: JoinSet<()>,
}

/// A port of which connections are refused until it listens.
pub(super) fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

pub(super) fn forwarding(port: u16) -> Value {
    json!({
        "schemaVersion": "1.0", "sessionType": "Port",
        "properties": {"portNumber": port.to_string(), "type": "LocalPortForwarding"},
    })
}

pub(super) fn raw(port: u16) -> Value {
    json!({
        "schemaVersion": "1.0", "sessionType": "Port",
        "properties": {"portNumber": port.to_string()},
    })
}

pub(super) async fn read_exact(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    soon(stream.read_exact(&mut bytes)).await.unwrap();
    bytes
}

pub(super) async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    soon(stream.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

pub(super) async fn write(stream: &mut TcpStream, bytes: &[u8]) {
    soon(stream.write_all(bytes)).await.unwrap();
}

/// Ends a connection in the way that its other end calls a reset.
pub(super) fn break_off(stream: TcpStream) {
    use nix::sys::socket::{setsockopt, sockopt};
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, sockopt::Linger, &linger).unwrap();
    drop(stream);
}

/// Bytes that show a loss, a repetition and a swap.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_le_bytes).take(length).collect()
}
