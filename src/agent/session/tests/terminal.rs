//! What goes through a terminal, both ways.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use super::client::Client;
use super::harness::{AgentSide, World, command_document, id, shell_document, soon};
use crate::agent::session::DataChannelSource;
use crate::protocol::wire::control::SessionState;
use crate::protocol::wire::task::TaskStatus;
use crate::protocol::wire::{Payload, PeerFeatures, SessionId};
use crate::transport::{ConnectError, Connected, Connector, Outgoing, Socket};

#[tokio::test]
async fn shell_session_runs_from_prompt_to_exit_status() {
    let mut world = World::new();
    let mut client = world.shell("alice-1").await;
    assert_eq!(client.wait_for_state().await, SessionState::Connected);

    client.type_text("echo $((6*7))\n").await;
    client.wait_for("\r\n42\r\n").await;
    client.type_text("exit 3\n").await;

    assert_eq!(client.wait_for_exit().await, 3);
    assert_eq!(client.wait_for_state().await, SessionState::Terminating);
    let outcome = world.outcome().await;
    assert_eq!(outcome.session_id, id("alice-1"));
    assert_eq!(outcome.status, TaskStatus::Success);
    assert_eq!(outcome.output, "");
    assert_eq!(outcome.exit_code, Some(3));
    assert_eq!(world.supervisor.active(), 0);
}

#[tokio::test]
async fn size_is_applied_whenever_it_comes() {
    let mut world = World::new();
    let mut client = world.shell("alice-1").await;

    client.type_text("stty size\n").await;
    client.wait_for("24 80\r\n").await;
    client.resize(123, 45).await;
    client.type_text("stty size\n").await;

    client.wait_for("45 123\r\n").await;
}

#[tokio::test]
async fn what_is_typed_before_the_shell_is_there_is_not_lost() {
    let mut world = World::new();
    world.start("alice-1", shell_document());
    let mut client = world.attach(PeerFeatures::ours()).await;

    // The client sends as soon as the empty output told it that a shell is coming.
    client.resize(99, 33).await;
    client.type_text("stty size\n").await;

    client.wait_for("33 99\r\n").await;
}

#[tokio::test]
async fn profile_is_typed_into_the_shell_first() {
    let mut world = World::new();
    world.start(
        "alice-1",
        json!({
            "schemaVersion": "1.0", "sessionType": "Standard_Stream",
            "inputs": {"shellProfile": {"linux": "WHERE=profile"}},
        }),
    );
    let mut client = world.attach(PeerFeatures::ours()).await;

    client.type_text("echo from-$WHERE\n").await;

    client.wait_for("from-profile\r\n").await;
}

#[tokio::test]
async fn control_c_reaches_the_foreground_job() {
    let mut world = World::new();
    let mut client = world.shell("alice-1").await;
    client
        .type_text("sh -c 'trap \"echo interrupted; exit\" INT; echo ready; while :; do sleep 0.05; done'\n")
        .await;
    client.wait_for("\r\nready\r\n").await;

    client.type_text("\x03").await;

    client.wait_for("interrupted\r\n% ").await;
}

#[tokio::test]
async fn client_that_did_not_announce_exit_codes_gets_none() {
    let mut world = World::new();
    world.start(
        "alice-1",
        command_document(&["sh", "-c", "printf done; exit 4"]),
    );
    let mut client = world.attach(PeerFeatures::default()).await;

    client.wait_for("done").await;

    assert_eq!(world.outcome().await.exit_code, Some(4));
    assert_eq!(client.exit_code, None);
}

#[tokio::test]
async fn command_of_the_document_runs_on_a_plain_terminal() {
    let mut world = World::new();
    world.start(
        "alice-1",
        command_document(&[
            "sh",
            "-c",
            "read line; printf 'got %s\\n' \"$line\"; exit 5",
        ]),
    );
    let mut client = world.attach(PeerFeatures::ours()).await;

    client.type_text("typed\n").await;

    assert_eq!(client.wait_for("\n").await, "got typed\n");
    assert_eq!(client.wait_for_exit().await, 5);
    client.ignore_the_rest();
    assert_eq!(world.outcome().await.exit_code, Some(5));
}

#[tokio::test]
async fn paste_of_a_megabyte_arrives_whole() {
    let mut world = World::new();
    let file = world.folder.path().join("pasted");
    let paste: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut client = world.shell("alice-1").await;
    let line = format!(
        "stty raw -echo; echo rea''dy; head -c {} > '{}'; echo do''ne\n",
        paste.len(),
        file.display()
    );
    client.type_text(&line).await;
    client.wait_for("ready").await;

    for chunk in paste.chunks(10_000) {
        client
            .send(Payload::Output(Bytes::copy_from_slice(chunk)))
            .await;
    }

    client.wait_for("done").await;
    assert!(std::fs::read(&file).unwrap() == paste);
}

#[tokio::test]
async fn bulk_output_arrives_whole_at_a_client_that_reads_slowly() {
    let mut world = World::new();
    world.start(
        "alice-1",
        command_document(&["seq", "-f", "%.0f ä€😀", "1", "300000"]),
    );
    let mut client = world.attach(PeerFeatures::ours()).await;
    let expected: String = (1..=300_000).map(|n| format!("{n} ä€😀\n")).collect();

    client.wait_for("\n100000 ä€😀\n").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.wait_for_exit().await;

    let tail = &expected[expected.find("\n100001 ").unwrap() + 1..];
    assert!(
        client.seen == tail,
        "{} of {} bytes",
        client.seen.len(),
        tail.len()
    );
}

#[tokio::test]
async fn characters_are_not_split_for_a_peer_that_takes_small_messages() {
    // The harness panics on a message that is no UTF-8.
    let (links, mut dialled) = mpsc::unbounded_channel();
    let mut world = World::of(Plain { links });
    world.start(
        "alice-1",
        command_document(&["seq", "-f", "%.0f€", "1", "20000"]),
    );
    let (_, socket) = soon(dialled.recv()).await.unwrap();
    let features = PeerFeatures {
        exit_code: true,
        ..PeerFeatures::default()
    };
    let mut client = Client::attach(socket, features).await;

    client.wait_for_exit().await;

    let expected: String = (1..=20_000).map(|n| format!("{n}€\n")).collect();
    assert!(client.seen == expected);
}

#[tokio::test]
async fn program_that_reads_no_input_can_still_write() {
    let mut world = World::new();
    let mut client = world.shell("alice-1").await;
    client
        .type_text(
            "stty raw -echo; echo rea''dy; sleep 0.3; seq 1 100000; echo do''ne; sleep 1000\n",
        )
        .await;
    client.wait_for("ready").await;

    let outgoing = client.handle.outgoing.clone();
    let paste = tokio::spawn(async move {
        loop {
            let payload = Payload::Output(Bytes::from_static(&[b'x'; 32 << 10]));
            if outgoing.send(Outgoing::Payload(payload)).await.is_err() {
                break;
            }
        }
    });

    client.wait_for("done").await;
    paste.abort();
    world.supervisor.terminate(&id("alice-1"));
    assert_eq!(world.outcome().await.status, TaskStatus::Success);
}

#[tokio::test]
async fn paused_client_stops_the_program_and_a_resumed_one_misses_nothing() {
    let mut world = World::new();
    world.start("alice-1", shell_document());
    let mut client = world.attach(PeerFeatures::ours()).await;
    client.wait_for("% ").await;
    let file = world.folder.path().join("written");

    client.pause();
    // Anything the client sends resumes, so the program has to start by itself.
    let script = format!(
        "(sleep 0.2; seq 1 2000000; echo > '{}'; echo fini''shed) & \n",
        file.display()
    );
    client.type_text(&script).await;
    client.wait_for("% ").await;
    client.pause();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(
        !file.exists(),
        "the program could write all to a client that is away"
    );

    client.announce(PeerFeatures::ours());
    let output = client.wait_for("finished").await;

    let last = output
        .lines()
        .filter(|line| line.starts_with("2000000"))
        .count();
    let numbers = output
        .lines()
        .filter(|line| line.parse::<u32>().is_ok())
        .count();
    assert_eq!((last, numbers), (1, 2_000_000));
}

#[tokio::test]
async fn session_goes_on_over_a_new_connection_without_losing_a_byte() {
    let mut world = World::new();
    world.start("alice-1", command_document(&["seq", "1", "1000000"]));
    let mut client = world.attach(PeerFeatures::ours()).await;
    let mut output = client.wait_for("\n1000\n").await;

    client.cut();
    let (_, socket) = soon(world.dialled.recv()).await.unwrap();
    client.reconnect(socket);
    client.announce(PeerFeatures::ours());
    client.wait_for_exit().await;

    output.push_str(&client.seen);
    let expected: String = (1..=1_000_000).map(|n| format!("{n}\n")).collect();
    assert!(output == expected);
}

/// A gateway that announces nothing, as that of AWS.
struct Plain {
    links: mpsc::UnboundedSender<(SessionId, Socket)>,
}

impl DataChannelSource for Plain {
    type Connector = PlainSide;

    fn connector(&self, session: &SessionId) -> PlainSide {
        PlainSide(AgentSide::new(session, &self.links))
    }
}

struct PlainSide(AgentSide);

impl Connector for PlainSide {
    async fn connect(&mut self, attempt: u32) -> Result<Connected, ConnectError> {
        let connected = self.0.connect(attempt).await?;
        Ok(Connected {
            features: PeerFeatures::default(),
            ..connected
        })
    }
}
