//! Whole sessions: supervisor, real shells, real channels over sockets in memory, our own client.

mod harness;

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::harness::{
    AgentSide, Client, World, command_document, id, is_running, shell_document, soon, start,
    until_gone,
};
use super::{DataChannelSource, Settings, Supervisor};
use crate::agent::transcript::{self, Transcript};
use crate::protocol::wire::control::{SessionState, StartRefused};
use crate::protocol::wire::payload::Flag;
use crate::protocol::wire::task::TaskStatus;
use crate::protocol::wire::{DecodeError, Payload, PeerFeatures, SessionId};
use crate::transport::{ConnectError, Connected, Connector};

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
        .type_text("sh -c 'trap \"echo interrupted; exit\" INT; echo ready; sleep 1000'\n")
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
    let mut world = World::new();
    let (links, mut dialled) = mpsc::unbounded_channel();
    let source = Plain { links };
    let (report, _outcomes) = mpsc::channel(8);
    let mut settings = Settings::new("mi-1", world.folder.path().join("login"));
    settings.shell_user = super::ShellUser::Agent;
    let cancel = CancellationToken::new();
    world.supervisor = Supervisor::new(settings, source, Transcript::new(None), report, cancel);
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
            if outgoing
                .send(crate::transport::Outgoing::Payload(payload))
                .await
                .is_err()
            {
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

#[tokio::test]
async fn jobs_left_behind_end_and_the_last_output_arrives() {
    let mut world = World::new();
    let mut client = world.shell("alice-1").await;
    client
        .type_text("nohup sleep 98761 >/dev/null 2>&1 & sleep 98762 & echo la''st; exit\n")
        .await;

    client.wait_for("last\r\n").await;
    client.wait_for_exit().await;
    world.outcome().await;

    assert!(!is_running("98761") && !is_running("98762"));
}

#[tokio::test]
async fn terminated_session_ends_with_its_processes() {
    let mut world = World::new();
    let client = world.shell("alice-1").await;
    client.type_text("sleep 98763\n").await;
    while !is_running("98763") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    world.supervisor.terminate(&id("alice-1"));

    let outcome = world.outcome().await;
    assert_eq!(
        (outcome.status, outcome.exit_code),
        (TaskStatus::Success, None)
    );
    assert_eq!(outcome.output, "");
    until_gone("98763").await;
}

#[tokio::test]
async fn terminating_an_unknown_session_does_nothing() {
    let mut world = World::new();
    let mut client = world.shell("alice-1").await;

    world.supervisor.terminate(&id("alice-2"));

    client.type_text("echo st''ill\n").await;
    client.wait_for("still").await;
    assert_eq!(world.supervisor.active(), 1);
}

#[tokio::test]
async fn session_ends_when_the_gateway_closes_its_channel() {
    let mut world = World::new();
    let client = world.shell("alice-1").await;

    client.close_session();

    assert_eq!(world.outcome().await.status, TaskStatus::Success);
}

#[tokio::test]
async fn session_ends_when_the_client_asks_for_it() {
    let mut world = World::new();
    let client = world.shell("alice-1").await;

    client.send(Payload::Flag(Flag::TerminateSession)).await;
    client.ignore_the_rest();

    assert_eq!(world.outcome().await.status, TaskStatus::Success);
}

#[tokio::test]
async fn session_the_gateway_has_forgotten_ends() {
    let mut world = World::new();
    let client = world.shell("alice-1").await;

    drop(world.dialled);
    client.cut();

    let outcome = soon(world.outcomes.recv()).await.unwrap();
    assert_eq!(outcome.status, TaskStatus::Success);
}

#[tokio::test]
async fn data_channel_that_cannot_be_opened_is_reported() {
    let mut world = World::new();
    drop(world.dialled);
    world
        .supervisor
        .start(Ok(Box::new(start("alice-1", shell_document()))));

    let outcome = soon(world.outcomes.recv()).await.unwrap();

    assert_eq!(outcome.status, TaskStatus::Failed);
    assert_eq!(
        outcome.output,
        "Setting up data channel with id alice-1 failed: the gateway does not know it"
    );
}

#[tokio::test]
async fn shell_that_cannot_be_started_is_reported() {
    let missing = |settings: &mut Settings| settings.program = "/nonexistent/agent".into();
    let mut world = World::with(missing, Transcript::new(None));
    world.start("alice-1", shell_document());
    let _client = world.attach(PeerFeatures::ours()).await;

    let outcome = world.outcome().await;

    assert_eq!(outcome.status, TaskStatus::Failed);
    let expected = "Unable to start command: cannot start /nonexistent/agent: ";
    assert!(outcome.output.starts_with(expected), "{}", outcome.output);
}

#[tokio::test]
async fn what_cannot_run_is_refused_with_a_reason() {
    let mut world = World::new();
    for (name, document, reason) in [
        (
            "port",
            json!({"schemaVersion": "1.0", "sessionType": "Port"}),
            "Plugin with name Port is not supported by this version of ssm agent, please update to latest version. Step name: Port",
        ),
        (
            "schema",
            json!({"schemaVersion": "2.0", "sessionType": "Standard_Stream"}),
            "schema version \"2.0\" is not supported, session documents have \"1.0\"",
        ),
        (
            "kms",
            json!({"schemaVersion": "1.0", "sessionType": "Standard_Stream", "inputs": {"kmsKeyId": "alias/x"}}),
            "the session preferences ask for KMS encryption, which is not available in this build of the agent",
        ),
        (
            "parameter",
            json!({"schemaVersion": "1.0", "sessionType": "Standard_Stream", "parameters": {"p": {"type": "String"}}}),
            "parameter p has no value and no default",
        ),
    ] {
        world.start(name, document);

        let outcome = world.outcome().await;
        assert_eq!(outcome.session_id, id(name));
        assert_eq!(outcome.status, TaskStatus::Failed);
        assert_eq!(outcome.output, reason);
    }
    assert!(
        world.dialled.is_empty(),
        "a refused session opens no data channel"
    );
}

#[tokio::test]
async fn start_message_that_cannot_be_read_is_reported_if_it_names_its_session() {
    let mut world = World::new();
    let cause = DecodeError::Invalid {
        what: "start message",
        detail: "it is no JSON".into(),
    };
    for session_id in [None, Some(id("alice-1"))] {
        world.supervisor.start(Err(StartRefused {
            session_id,
            cause: cause.clone(),
        }));
    }

    let outcome = world.outcome().await;

    assert_eq!(outcome.session_id, id("alice-1"));
    assert_eq!(outcome.status, TaskStatus::Failed);
    assert!(
        outcome.output.contains("it is no JSON"),
        "{}",
        outcome.output
    );
    assert!(world.outcomes.is_empty());
}

#[tokio::test]
async fn session_above_the_limit_is_refused_and_the_place_is_free_afterwards() {
    let mut world = World::with(|settings| settings.limit = 1, Transcript::new(None));
    let mut client = world.shell("alice-1").await;

    world.start("alice-2", shell_document());
    let refused = world.outcome().await;
    assert_eq!(refused.session_id, id("alice-2"));
    assert_eq!(
        refused.output,
        "the agent runs 1 sessions, which is its limit"
    );

    client.type_text("exit\n").await;
    client.wait_for_exit().await;
    client.ignore_the_rest();
    world.outcome().await;
    while world.supervisor.active() > 0 {
        tokio::task::yield_now().await;
    }
    world.shell("alice-3").await;
}

#[tokio::test]
async fn session_that_runs_is_not_started_again() {
    let mut world = World::new();
    let mut client = world.shell("alice-1").await;

    world.start("alice-1", shell_document());

    assert_eq!(world.supervisor.active(), 1);
    client.type_text("exit\n").await;
    client.wait_for_exit().await;
    client.ignore_the_rest();
    world.outcome().await;
    assert!(world.outcomes.is_empty() && world.dialled.is_empty());
}

#[tokio::test]
async fn panic_ends_its_session_and_no_other() {
    let (report, mut outcomes) = mpsc::channel(8);
    let settings = Settings::new("mi-1", "/nonexistent");
    let cancel = CancellationToken::new();
    let mut supervisor =
        Supervisor::new(settings, Panicking, Transcript::new(None), report, cancel);

    for name in ["alice-1", "alice-2"] {
        supervisor.start(Ok(Box::new(start(name, shell_document()))));

        let outcome = soon(outcomes.recv()).await.unwrap();
        assert_eq!(outcome.session_id, id(name));
        assert_eq!(outcome.status, TaskStatus::Failed);
        assert_eq!(
            outcome.output,
            "an error inside the agent ended the session"
        );
    }
}

#[tokio::test]
async fn stopping_agent_ends_every_session_and_says_why() {
    let mut world = World::new();
    for name in ["alice-1", "alice-2", "alice-3"] {
        let client = world.shell(name).await;
        client.type_text("trap '' HUP; sleep 98764\n").await;
        client.ignore_the_rest();
    }

    soon(world.supervisor.shutdown(Duration::from_secs(20))).await;

    for _ in 0..3 {
        let outcome = world.outcomes.recv().await.unwrap();
        assert_eq!(outcome.status, TaskStatus::Success);
        assert_eq!(outcome.output, "the agent was stopped");
    }
    assert!(!is_running("98764"));
}

#[tokio::test]
async fn shutdown_kills_what_does_not_end_by_its_deadline() {
    let patient = |settings: &mut Settings| settings.grace = Duration::from_secs(1000);
    let mut world = World::with(patient, Transcript::new(None));
    let mut client = world.shell("alice-1").await;
    client
        .type_text("trap '' HUP; echo se''t; sleep 98765\n")
        .await;
    client.wait_for("set").await;

    soon(world.supervisor.shutdown(Duration::from_millis(100))).await;

    until_gone("98765").await;
}

#[tokio::test]
async fn session_is_recorded_as_the_client_saw_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::with(|_| {}, Transcript::new(Some(recording(folder.path()))));
    world.start("alice-1", command_document(&["printf", "one\\ntwo\\n"]));
    let mut client = world.attach(PeerFeatures::ours()).await;

    client.wait_for_exit().await;
    client.ignore_the_rest();
    let outcome = world.outcome().await;

    assert_eq!(outcome.output, "");
    let log = std::fs::read_to_string(folder.path().join("alice-1.log")).unwrap();
    assert_eq!(log, "one\ntwo\n");
}

#[tokio::test]
async fn session_runs_where_nothing_can_be_recorded_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no-folder");
    std::fs::write(&file, "").unwrap();
    let mut world = World::with(|_| {}, Transcript::new(Some(recording(&file))));
    world.start("alice-1", command_document(&["printf", "runs"]));
    let mut client = world.attach(PeerFeatures::ours()).await;

    client.wait_for("runs").await;
    client.wait_for_exit().await;
    client.ignore_the_rest();

    let outcome = world.outcome().await;
    assert_eq!(outcome.status, TaskStatus::Success);
    assert!(
        outcome.output.starts_with("recording incomplete: "),
        "{}",
        outcome.output
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_at_once_work() {
    const SESSIONS: usize = 100;
    let mut world = World::new();
    for n in 0..SESSIONS {
        world.start(&format!("alice-{n}"), shell_document());
    }
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        clients.push(world.attach(PeerFeatures::ours()).await);
    }
    assert_eq!(world.supervisor.active(), SESSIONS);

    for client in &mut clients {
        client.wait_for("% ").await;
        client.type_text("exit 6\n").await;
    }
    for mut client in clients {
        assert_eq!(client.wait_for_exit().await, 6);
        client.ignore_the_rest();
    }

    for _ in 0..SESSIONS {
        assert_eq!(world.outcome().await.exit_code, Some(6));
    }
}

/// A gateway that announces nothing, as that of AWS.
struct Plain {
    links: mpsc::UnboundedSender<(SessionId, crate::transport::Socket)>,
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

struct Panicking;

impl DataChannelSource for Panicking {
    type Connector = AgentSide;

    fn connector(&self, _session: &SessionId) -> AgentSide {
        panic!("a mistake of ours");
    }
}

fn recording(folder: &std::path::Path) -> transcript::Settings {
    transcript::Settings {
        directory: folder.to_owned(),
        formats: transcript::Format::ALL.to_vec(),
        retention: Duration::from_secs(3600),
        quota: 1 << 30,
        record_input: false,
        spool: transcript::DEFAULT_SPOOL,
    }
}
