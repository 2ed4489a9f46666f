//! Port sessions between the programs: many connections at once, refusals, Unix sockets, raw streams.

use std::io;
use std::sync::Arc;

use serde_json::{Value, json};
use ssm_agent::client::{Ending, Io, Parameters, Session, start_session};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::programs::{LOOK, PATIENCE, World};

const FORWARD: &str = "AWS-StartPortForwardingSession";

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_pass_at_once_and_keep_their_half_close() {
    let (world, node) = World::with_agent().await;
    let server = Server::start().await;
    let mut tunnel = Tunnel::open(&world, &node, FORWARD, &[("portNumber", &server.port)]).await;

    let mut clients = JoinSet::new();
    for number in 0..20_usize {
        let port = tunnel.port;
        clients.spawn(async move {
            let sent: Vec<u8> = (0..=250_u8).cycle().take(200_000 + number * 1000).collect();
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (mut from, mut to) = stream.split();
            let write = async {
                to.write_all(&sent).await.unwrap();
                to.shutdown().await.unwrap();
            };
            let mut received = Vec::new();
            let (read, ()) = tokio::join!(from.read_to_end(&mut received), write);
            read.unwrap();
            // The server answers only once it has seen the end.
            assert!(received == [&sent[..], b"end"].concat(), "{number}");
        });
    }
    let all = clients.join_all();
    timeout(PATIENCE, all).await.expect("all answers come");

    tunnel.says("Connection accepted for session [").await;
    tunnel.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_connection_ends_alone_and_is_told() {
    let (world, node) = World::with_agent().await;
    // Bound, so that nobody else gets the port, but listening to nobody.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = closed.local_addr().unwrap().port();
    let mut tunnel =
        Tunnel::open(&world, &node, FORWARD, &[("portNumber", &port.to_string())]).await;

    let mut refused = TcpStream::connect(("127.0.0.1", tunnel.port))
        .await
        .unwrap();
    let mut nothing = Vec::new();
    // An end or a reset, and soon.
    let read = timeout(PATIENCE, refused.read_to_end(&mut nothing)).await;

    assert!(read.is_ok() && nothing.is_empty());
    tunnel
        .complains("Connection to destination port failed")
        .await;
    let listener = closed.listen(1).unwrap();
    let again = TcpStream::connect(("127.0.0.1", tunnel.port))
        .await
        .unwrap();
    timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    drop(again);
    tunnel.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_of_the_host_and_socket_of_the_client_are_joined() {
    let (world, node) = World::with_agent().await;
    let target = world.folder.path().join("target");
    let listener = UnixListener::bind(&target).unwrap();
    let target = target.to_str().unwrap().to_owned();
    let tunnel = Tunnel::open(
        &world,
        &node,
        "SSM-StartUnixSocketForwarding",
        &[("socket", &target)],
    )
    .await;

    let mut client = TcpStream::connect(("127.0.0.1", tunnel.port))
        .await
        .unwrap();
    let (mut server, _): (UnixStream, _) =
        timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    client.write_all(b"GET").await.unwrap();
    let mut request = [0; 3];
    server.read_exact(&mut request).await.unwrap();
    server.write_all(b"answer").await.unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();

    assert_eq!((&request, answer.as_str()), (b"GET", "answer"));
    tunnel.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_stream_is_standard_input_and_output_and_ends_with_the_server() {
    let (world, node) = World::with_agent().await;
    let server = Server::start().await;
    let (mut input, theirs_in) = tokio::io::duplex(64 << 10);
    let (mut output, theirs_out) = tokio::io::duplex(64 << 10);
    let io = Io::pipes(theirs_in, theirs_out, tokio::io::sink());
    let running = run(
        &world,
        &node,
        "AWS-StartSSHSession",
        &[("portNumber", &server.port)],
        io,
    )
    .await;

    input.write_all(b"SSH-2.0-here\r\n").await.unwrap();
    drop(input);
    let mut received = Vec::new();
    let read = timeout(PATIENCE, output.read_to_end(&mut received)).await;

    read.expect("the stream ends").unwrap();
    assert_eq!(received, b"SSH-2.0-here\r\nend");
    let ending = timeout(PATIENCE, running).await.unwrap().unwrap();
    assert_eq!(ending.exit_status(), 0, "{ending:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn address_on_the_deny_list_is_refused_with_a_reason() {
    let (world, node) = World::with_agent().await;
    for host in ["169.254.169.254", "::ffff:169.254.169.254", "2852039166"] {
        let io = Io::pipes(tokio::io::empty(), tokio::io::sink(), tokio::io::sink());
        let parameters = [("host", host), ("portNumber", "80")];
        let document = "AWS-StartPortForwardingSessionToRemoteHost";
        let running = run(&world, &node, document, &parameters, io).await;

        let ending = timeout(PATIENCE, running).await.unwrap().unwrap();

        let reason = ending.reason.clone();
        assert!(reason.contains("is forbidden"), "{host}: {ending:?}");
        assert_eq!(ending.exit_status(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_go_wrong_leave_nothing_open() {
    let (world, node) = World::with_agent().await;
    let content = json!({
        "schemaVersion": "1.0", "sessionType": "Port",
        "parameters": {"port": {"type": "String"}},
        "properties": {"portNumber": "{{ port }}", "type": "LocalPortForwarding"},
    });
    let document =
        json!({"Name": "Lax", "DocumentType": "Session", "Content": content.to_string()});
    let _: Value = world.client.ssm("CreateDocument", &document).await.unwrap();
    let before = (world.agent_descriptors(), world.agent_children());

    for _ in 0..5 {
        // Refused: bound, so that nobody else gets the port, but listening to nobody.
        let closed = TcpSocket::new_v4().unwrap();
        closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = closed.local_addr().unwrap().port().to_string();
        connect_in_vain(&world, &node, &port).await;
        // Reset as soon as it is there.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let resets = async {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_zero_linger().unwrap();
        };
        tokio::join!(connect_in_vain(&world, &node, &port), resets);
        let remote = "AWS-StartPortForwardingSessionToRemoteHost";
        for (document, parameters) in [
            (remote, [("host", "169.254.169.254"), ("portNumber", "80")]),
            (
                remote,
                [("host", "no-such-host.invalid"), ("portNumber", "80")],
            ),
        ] {
            assert_eq!(fail(&world, &node, document, &parameters).await, 1);
        }
        let malformed = [("port", "22; reboot")];
        assert_eq!(fail(&world, &node, "Lax", &malformed).await, 1);
    }

    let deadline = Instant::now() + PATIENCE;
    let after = || (world.agent_descriptors(), world.agent_children());
    while after().0 > before.0 || after().1 > before.1 {
        assert!(Instant::now() < deadline, "{:?} after {before:?}", after());
        sleep(LOOK).await;
    }
}

/// Runs a session that comes to nothing; gives the exit status.
async fn fail(world: &World, node: &str, document: &str, parameters: &[(&str, &str)]) -> u8 {
    let io = Io::pipes(tokio::io::empty(), tokio::io::sink(), tokio::io::sink());
    let running = run(world, node, document, parameters, io).await;
    let ending = timeout(PATIENCE, running).await.unwrap().unwrap();
    ending.exit_status()
}

/// Forwards a connection that comes to nothing, and leaves.
async fn connect_in_vain(world: &World, node: &str, port: &str) {
    let tunnel = Tunnel::open(world, node, FORWARD, &[("portNumber", port)]).await;
    let mut stream = TcpStream::connect(("127.0.0.1", tunnel.port))
        .await
        .unwrap();
    let mut nothing = Vec::new();
    // An end or a reset.
    let read = timeout(PATIENCE, stream.read_to_end(&mut nothing)).await;
    assert!(read.is_ok() && nothing.is_empty());
    tunnel.leave().await;
}

/// Puts out what it reads until the end, or until a line `bye`, and then `end`.
pub struct Server {
    pub port: String,
    _accepting: JoinSet<()>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client may go away at any time.
                serving.spawn(async move { drop(echo(stream).await) });
            }
        });
        Self {
            port,
            _accepting: accepting,
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = stream.read(&mut buffer).await?;
        let bytes = &buffer[..count];
        stream.write_all(bytes).await?;
        if count == 0 || bytes.ends_with(b"bye\n") {
            return stream.write_all(b"end").await;
        }
    }
}

/// A port session with its listener.
struct Tunnel {
    port: u16,
    output: DuplexStream,
    errors: DuplexStream,
    running: JoinHandle<Ending>,
    cancel: CancellationToken,
}

impl Tunnel {
    async fn open(world: &World, node: &str, document: &str, parameters: &[(&str, &str)]) -> Self {
        let (output, theirs_out) = tokio::io::duplex(64 << 10);
        let (errors, theirs_err) = tokio::io::duplex(64 << 10);
        let io = Io::pipes(tokio::io::empty(), theirs_out, theirs_err);
        let cancel = CancellationToken::new();
        let running = run_until(world, node, document, parameters, io, cancel.clone()).await;
        let mut tunnel = Self {
            port: 0,
            output,
            errors,
            running,
            cancel,
        };
        let said = read_until(&mut tunnel.output, "Waiting for connections...").await;
        let mut words = said.split_whitespace();
        words.find(|word| *word == "Port").unwrap();
        tunnel.port = words.next().unwrap().parse().unwrap();
        tunnel
    }

    async fn says(&mut self, text: &str) {
        read_until(&mut self.output, text).await;
    }

    async fn complains(&mut self, text: &str) {
        read_until(&mut self.errors, text).await;
    }

    async fn leave(self) {
        self.cancel.cancel();
        timeout(PATIENCE, self.running).await.unwrap().unwrap();
    }
}

async fn read_until(stream: &mut DuplexStream, text: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    let read = async {
        while !seen.contains(text) {
            let count = stream.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "{text:?} did not come, but {seen:?}");
            seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    };
    timeout(PATIENCE, read).await.expect("it is said");
    seen
}

pub async fn run(
    world: &World,
    node: &str,
    document: &str,
    parameters: &[(&str, &str)],
    io: Io,
) -> JoinHandle<Ending> {
    let cancel = CancellationToken::new();
    run_until(world, node, document, parameters, io, cancel).await
}

async fn run_until(
    world: &World,
    node: &str,
    document: &str,
    parameters: &[(&str, &str)],
    io: Io,
    cancel: CancellationToken,
) -> JoinHandle<Ending> {
    let parameters: Parameters = parameters
        .iter()
        .map(|&(name, value)| (name.to_owned(), vec![value.to_owned()]))
        .collect();
    let started = start_session(&world.client, node, Some(document), &parameters, None)
        .await
        .unwrap();
    let tls = Arc::clone(world.client.tls());
    let session = Session::new(world.client.clone(), started, tls);
    tokio::spawn(async move { session.run(io, &cancel).await.unwrap() })
}
