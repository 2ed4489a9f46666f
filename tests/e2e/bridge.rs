//! A client that nobody here wrote: the crate `aws-ssm-bridge`, with the AWS SDK for Rust beneath it.

use std::io;
use std::sync::Arc;

use aws_config::{BehaviorVersion, Region};
use aws_ssm_bridge::documents::{
    InteractiveCommand, NonInteractiveCommand, PortForwardingToRemoteHost,
};
use aws_ssm_bridge::{
    EndpointPolicy, OutputStream, PortForwardConfig, PortForwarder, Session, SessionBuilder,
    SessionManager, ShutdownSignal, SmuxConfig, SmuxSession,
};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ports::Server;
use super::programs::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn independent_client_has_a_shell_with_its_size() {
    let (world, node) = World::with_agent().await;
    let session = open(&world, &node).await;
    let mut shell = Shell::of(&session).await;

    session.send_terminal_size(97, 31).await.unwrap();
    session
        .send("stty size; echo sum=$((40 + 2))\r")
        .await
        .unwrap();

    shell.wait_for("31 97").await;
    shell.wait_for("sum=42").await;
    session.terminate().await.unwrap();
    assert!(session.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_client_loses_nothing_either_way() {
    const LINES: usize = 20_000;
    let (world, node) = World::with_agent().await;
    let session = open(&world, &node).await;
    let mut shell = Shell::of(&session).await;
    session
        .send("stty raw -echo; echo go; head -c 1280000 | md5sum; seq 1 20000; echo done\r")
        .await
        .unwrap();
    shell.wait_for("go\n").await;

    let typed: Vec<u8> = (0..1_280_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    session.send(typed.clone()).await.unwrap();
    shell.wait_for("done\n").await;

    let text = &shell.seen[shell.seen.rfind("go\n").unwrap() + 3..];
    let (digest, numbers) = text.split_once('\n').unwrap();
    assert!(digest.starts_with(&md5(&typed)), "{digest}");
    let expected: String = (1..=LINES).map(|n| format!("{n}\n")).collect();
    assert!(numbers.starts_with(&expected), "output differs");
    session.terminate().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_client_learns_that_its_shell_ended() {
    let (world, node) = World::with_agent().await;
    let session = open(&world, &node).await;
    let mut shell = Shell::of(&session).await;

    session.send("echo la''st; exit 3\r").await.unwrap();

    shell.wait_for("last").await;
    timeout(PATIENCE, session.closed()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_client_runs_commands() {
    let (world, node) = World::with_agent().await;
    let command = "sh -c 'echo from-$((40+2)); exit 6'";
    let interactive = SessionBuilder::new(&node).document(InteractiveCommand::new(command));
    let plain = SessionBuilder::new(&node).document(NonInteractiveCommand::new(command));
    for settings in [interactive, plain] {
        let session = start(&world, settings).await;
        let mut shell = Shell::of(&session).await;

        shell.wait_for("from-42").await;
        timeout(PATIENCE, session.closed()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_client_forwards_many_connections_at_once() {
    let (world, node) = World::with_agent().await;
    let server = Server::start().await;
    let remote = PortForwardingToRemoteHost::new("localhost", server.port.parse().unwrap());
    for settings in [
        SessionBuilder::new(&node).port_forward(server.port.parse().unwrap()),
        SessionBuilder::new(&node).document(remote),
    ] {
        let session = Arc::new(start(&world, settings).await);
        let forwarder = PortForwarder::bind(PortForwardConfig::default())
            .await
            .unwrap();
        let address = forwarder.local_addr();
        let shutdown = ShutdownSignal::new();
        let forwarding = tokio::spawn(forwarder.forward(Arc::clone(&session), shutdown.clone()));

        let mut clients = JoinSet::new();
        for number in 0..10 {
            clients.spawn(async move {
                let sent: Vec<u8> = (number..=250).cycle().take(300_000).collect();
                let mut received = vec![0; sent.len()];
                let (mut from, mut to) = TcpStream::connect(address).await.unwrap().into_split();
                let (read, written) =
                    tokio::join!(from.read_exact(&mut received), to.write_all(&sent));
                read.and(written)?;
                assert!(received == sent, "{number}");
                io::Result::Ok(())
            });
        }
        let ended = timeout(PATIENCE, clients.join_all()).await.unwrap();
        // A forwarder whose session is over resets what nobody has accepted.
        let reason = session.close_reason();
        assert!(
            ended.iter().all(Result::is_ok),
            "{ended:?}, session closed: {reason:?}"
        );
        shutdown.shutdown();
        timeout(PATIENCE, forwarding)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        session.terminate().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_of_an_independent_mux_ends_with_the_server() {
    let (world, node) = World::with_agent().await;
    let server = Server::start().await;
    let settings = SessionBuilder::new(&node).port_forward(server.port.parse().unwrap());
    let session = Arc::new(start(&world, settings).await);
    session.wait_ready().await.unwrap();
    let mux = SmuxSession::new(Arc::clone(&session), SmuxConfig { keepalive: false });
    let mut stream = mux.open_stream().unwrap();

    stream.write_all(b"bye\n").await.unwrap();
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;

    read.expect("the stream ends").unwrap();
    assert_eq!(answer, "bye\nend");
    session.terminate().await.unwrap();
}

/// Starts a session through the SDK's client, on the listener without TLS: the crate trusts the
/// system's authorities only.
async fn open(world: &World, node: &str) -> Session {
    start(world, SessionBuilder::new(node)).await
}

async fn start(world: &World, settings: SessionBuilder) -> Session {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(world.credentials.clone())
        .endpoint_url(&world.plain_url)
        .load()
        .await;
    let settings = settings
        .endpoint_policy(EndpointPolicy::AllowAny)
        .into_config();
    SessionManager::from_conf(&config)
        .start_session(settings)
        .await
        .unwrap()
}

fn md5(bytes: &[u8]) -> String {
    use md5::{Digest as _, Md5};
    Md5::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What the session puts out.
pub struct Shell {
    output: OutputStream,
    seen: String,
}

impl Shell {
    /// Subscribes, and waits until the agent takes input.
    pub async fn of(session: &Session) -> Self {
        let output = session.output();
        session.wait_ready().await.unwrap();
        Self {
            output,
            seen: String::new(),
        }
    }

    pub async fn wait_for(&mut self, text: &str) {
        let read = async {
            while !self.seen.contains(text) {
                let piece = self.output.next().await;
                let piece = piece.unwrap_or_else(|| panic!("{text:?} did not come"));
                self.seen.push_str(&String::from_utf8_lossy(&piece));
            }
        };
        timeout(PATIENCE, read)
            .await
            .unwrap_or_else(|_| panic!("{text:?} did not come in time"));
    }
}
