//! Which sessions start, and what is said about those that do not.

use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use super::client::Client;
use super::harness::{AgentSide, World, command_document, id, shell_document, soon, start};
use crate::agent::session::{DataChannelSource, Settings};
use crate::agent::transcript::Transcript;
use crate::protocol::wire::control::{SessionState, StartRefused};
use crate::protocol::wire::task::TaskStatus;
use crate::protocol::wire::{DecodeError, PeerFeatures, SessionId};
use crate::transport::{ConnectError, Connected, Connector, Socket};

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

#[tokio::test(start_paused = true)]
async fn data_channel_is_not_tried_for_ever_at_the_start() {
    let mut world = World::of(Nowhere);
    world.start("alice-1", shell_document());

    let outcome = world.outcomes.recv().await.unwrap();

    assert_eq!(outcome.status, TaskStatus::Failed);
    assert_eq!(
        outcome.output,
        "Setting up data channel with id alice-1 failed: cannot connect: no route to host"
    );
}

#[tokio::test]
async fn command_that_ends_before_the_channel_is_open_is_heard_all_the_same() {
    let (links, mut dialled) = mpsc::unbounded_channel();
    let mut world = World::of(Slow(links));
    world.start(
        "alice-1",
        command_document(&["sh", "-c", "printf quick; exit 8"]),
    );
    let (_, socket) = soon(dialled.recv()).await.unwrap();
    let mut client = Client::attach(socket, PeerFeatures::ours()).await;

    client.wait_for("quick").await;

    assert_eq!(client.wait_for_state().await, SessionState::Connected);
    assert_eq!(client.wait_for_state().await, SessionState::Terminating);
    client.ignore_the_rest();
    assert_eq!(world.outcome().await.exit_code, Some(8));
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
            "Port number is empty in session properties. null",
        ),
        (
            "unknown",
            json!({"schemaVersion": "1.0", "sessionType": "Tunnel"}),
            "Plugin with name Tunnel is not supported by this version of ssm agent, please update to latest version. Step name: Tunnel",
        ),
        (
            "schema",
            json!({"schemaVersion": "2.0", "sessionType": "Standard_Stream"}),
            "schema version \"2.0\" is not supported, session documents have \"1.0\"",
        ),
        (
            "kms",
            json!({"schemaVersion": "1.0", "sessionType": "Standard_Stream", "inputs": {"kmsKeyId": "alias/x"}}),
            "the session preferences ask for KMS encryption, which is not available to this agent",
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
    let mut world = World::of(Panicking);

    for name in ["alice-1", "alice-2"] {
        world.start(name, shell_document());

        let outcome = world.outcome().await;
        assert_eq!(outcome.session_id, id(name));
        assert_eq!(outcome.status, TaskStatus::Failed);
        assert_eq!(
            outcome.output,
            "an error inside the agent ended the session"
        );
    }
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

struct Panicking;

impl DataChannelSource for Panicking {
    type Connector = AgentSide;

    fn connector(&self, _session: &SessionId) -> AgentSide {
        panic!("a mistake of ours");
    }
}

/// Dials late.
struct Slow(mpsc::UnboundedSender<(SessionId, Socket)>);

impl DataChannelSource for Slow {
    type Connector = SlowSide;

    fn connector(&self, session: &SessionId) -> SlowSide {
        SlowSide(AgentSide::new(session, &self.0))
    }
}

struct SlowSide(AgentSide);

impl Connector for SlowSide {
    async fn connect(&mut self, attempt: u32) -> Result<Connected, ConnectError> {
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.0.connect(attempt).await
    }
}

/// Finds no gateway.
struct Nowhere;

impl DataChannelSource for Nowhere {
    type Connector = Self;

    fn connector(&self, _session: &SessionId) -> Self {
        Self
    }
}

impl Connector for Nowhere {
    async fn connect(&mut self, _attempt: u32) -> Result<Connected, ConnectError> {
        Err(ConnectError::Retry("no route to host".into()))
    }
}
