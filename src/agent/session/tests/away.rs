//! Sessions whose gateway cannot be reached for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{pause, resume, sleep};

use super::super::DataChannelSource;
use super::client::Client;
use super::harness::{AgentSide, World};
use crate::protocol::wire::task::TaskStatus;
use crate::protocol::wire::{PeerFeatures, SessionId};
use crate::transport::{ConnectError, Connected, Connector, Socket};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn session_is_kept_for_as_long_as_it_may_be_idle() {
    let inputs = json!({"idleSessionTimeout": "60"});
    let (mut world, mut client, outage) = shell_with(inputs).await;

    outage.begin(&client);
    pause();
    sleep(45 * MINUTE).await;
    outage.end();
    let (_, socket) = world.dialled.recv().await.unwrap();
    resume();

    client.reconnect(socket);
    client.announce(PeerFeatures::ours());
    client.type_text("echo ba''ck\n").await;
    client.wait_for("back").await;
}

#[tokio::test]
async fn session_is_given_up_when_it_may_last_no_longer() {
    let inputs = json!({"idleSessionTimeout": "60", "maxSessionDuration": "40"});
    let (mut world, client, outage) = shell_with(inputs).await;

    outage.begin(&client);
    pause();
    sleep(39 * MINUTE).await;
    let lives = world.supervisor.active();
    sleep(MINUTE).await;
    resume();

    assert_eq!(lives, 1);
    assert_eq!(world.outcome().await.status, TaskStatus::Failed);
}

#[tokio::test]
async fn session_whose_preferences_say_nothing_is_given_up_after_half_an_hour() {
    let (mut world, client, outage) = shell_with(Value::Null).await;

    outage.begin(&client);
    pause();
    sleep(29 * MINUTE).await;
    let lives = world.supervisor.active();
    sleep(2 * MINUTE).await;
    resume();

    assert_eq!(lives, 1);
    assert_eq!(world.outcome().await.status, TaskStatus::Failed);
}

/// A shell with these preferences, and what makes its gateway unreachable.
async fn shell_with(inputs: Value) -> (World, Client, Outage) {
    let (links, dialled) = mpsc::unbounded_channel();
    let outage = Outage(Arc::default());
    let mut world = World::of(Gateway {
        links,
        outage: outage.clone(),
    });
    world.dialled = dialled;
    let document = json!({
        "schemaVersion": "1.0", "sessionType": "Standard_Stream", "inputs": inputs,
    });
    world.start("alice-1", document);
    let mut client = world.attach(PeerFeatures::ours()).await;
    client.wait_for("% ").await;
    (world, client, outage)
}

/// Whether the gateway is out of reach.
#[derive(Clone)]
struct Outage(Arc<AtomicBool>);

impl Outage {
    fn begin(&self, client: &Client) {
        self.0.store(true, Ordering::Relaxed);
        client.cut();
    }

    fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

struct Gateway {
    links: mpsc::UnboundedSender<(SessionId, Socket)>,
    outage: Outage,
}

impl DataChannelSource for Gateway {
    type Connector = Dialer;

    fn connector(&self, session: &SessionId) -> Dialer {
        Dialer {
            side: AgentSide::new(session, &self.links),
            outage: self.outage.clone(),
        }
    }
}

struct Dialer {
    side: AgentSide,
    outage: Outage,
}

impl Connector for Dialer {
    async fn connect(&mut self, attempt: u32) -> Result<Connected, ConnectError> {
        if self.outage.0.load(Ordering::Relaxed) {
            return Err(ConnectError::Retry("no route to the gateway".into()));
        }
        self.side.connect(attempt).await
    }
}
