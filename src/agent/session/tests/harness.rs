//! A world for sessions: a supervisor, and gateways in memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::duplex;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

use super::super::{DataChannelSource, Outcome, Settings, ShellUser, Supervisor};
use super::client::Client;
use crate::agent::transcript::Transcript;
use crate::protocol::wire::control::StartSession;
use crate::protocol::wire::{PeerFeatures, SessionId};
use crate::transport::{ConnectError, Connected, Connector, Socket};

/// The node of every world.
pub(super) const NODE: &str = "mi-0123456789abcdef0";
/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes on their way between two ends of a socket in memory.
const IN_FLIGHT: usize = 64 << 10;

/// A supervisor and what surrounds it.
pub(super) struct World {
    pub(super) supervisor: Supervisor,
    pub(super) outcomes: mpsc::Receiver<Outcome>,
    /// Gateway ends of the data channels that agents dialled.
    pub(super) dialled: mpsc::UnboundedReceiver<(SessionId, Socket)>,
    pub(super) folder: TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|_| {}, Transcript::new(None))
    }

    pub(super) fn with(change: impl FnOnce(&mut Settings), transcript: Transcript) -> Self {
        let (links, dialled) = mpsc::unbounded_channel();
        Self::make(Gateway { links }, dialled, change, transcript)
    }

    /// A world whose agents dial in another way.
    pub(super) fn of(source: impl DataChannelSource) -> Self {
        let (_, dialled) = mpsc::unbounded_channel();
        Self::make(source, dialled, |_| {}, Transcript::new(None))
    }

    fn make(
        source: impl DataChannelSource,
        dialled: mpsc::UnboundedReceiver<(SessionId, Socket)>,
        change: impl FnOnce(&mut Settings),
        transcript: Transcript,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(NODE, login_program(folder.path()));
        settings.shell_user = ShellUser::Agent;
        settings.grace = Duration::from_millis(300);
        settings.drain = Duration::from_millis(500);
        settings.linger = Duration::from_secs(10);
        change(&mut settings);
        let (report, outcomes) = mpsc::channel(8);
        let cancel = CancellationToken::new();
        Self {
            supervisor: Supervisor::new(settings, source, transcript, report, cancel),
            outcomes,
            dialled,
            folder,
        }
    }

    pub(super) fn start(&mut self, id: &str, document: Value) {
        self.start_with(id, document, json!({}));
    }

    /// Starts a session with values for the parameters of its document.
    pub(super) fn start_with(&mut self, id: &str, document: Value, parameters: Value) {
        let mut start = start(id, document);
        start.parameters = serde_json::from_value(parameters).unwrap();
        self.supervisor.start(Ok(Box::new(start)));
    }

    /// Starts a shell and attaches a client of ours to it.
    pub(super) async fn shell(&mut self, id: &str) -> Client {
        self.start(id, shell_document());
        let mut client = self.attach(PeerFeatures::ours()).await;
        client.wait_for("% ").await;
        client
    }

    /// Attaches a client with these features to the session whose agent dials next.
    pub(super) async fn attach(&mut self, features: PeerFeatures) -> Client {
        let (_, socket) = soon(self.dialled.recv()).await.unwrap();
        Client::attach(socket, features).await
    }

    pub(super) async fn outcome(&mut self) -> Outcome {
        soon(self.outcomes.recv()).await.unwrap()
    }
}

pub(super) fn shell_document() -> Value {
    json!({"schemaVersion": "1.0", "sessionType": "Standard_Stream"})
}

pub(super) fn command_document(words: &[&str]) -> Value {
    json!({
        "schemaVersion": "1.0", "sessionType": "Standard_Stream",
        "properties": {"command": words},
    })
}

pub(super) fn start(id: &str, document: Value) -> StartSession {
    let mut message = json!({
        "DocumentName": "SSM-SessionManagerRunShell",
        "SessionId": id,
        "SessionOwner": "arn:aws:iam::111122223333:user/alice",
    });
    message["DocumentContent"] = document;
    serde_json::from_value(message).unwrap()
}

pub(super) fn id(text: &str) -> SessionId {
    SessionId::new(text).unwrap()
}

pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future)
        .await
        .expect("it should have happened long ago")
}

/// Waits until no process has this word on its command line.
pub(super) async fn until_gone(word: &str) {
    while is_running(word) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) fn is_running(word: &str) -> bool {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .any(|line| {
            line.split(|&byte| byte == 0)
                .any(|argument| argument == word.as_bytes())
        })
}

/// Stands in for the login step: runs what stands after `--`, or a shell with a plain prompt. Without
/// a terminal it tells on its standard input what it cannot run. Like the login step it does not pass
/// on that interrupts are ignored, as they are where the tests run in the background.
///
/// Another process writes it: a descriptor of ours, inherited by a process that another test starts
/// at that moment, would keep the file from being executed.
fn login_program(folder: &Path) -> PathBuf {
    const SCRIPT: &str = r#"#!/bin/sh
export PATH=/usr/local/bin:/usr/bin:/bin TERM=xterm-256color
detached=
while [ $# -gt 0 ]; do
    argument=$1
    shift
    [ "$argument" = --detached ] && detached=yes
    if [ "$argument" = -- ]; then
        [ "$detached" ] || exec env --default-signal=INT,QUIT setsid --ctty "$@"
        command -v "$1" >/dev/null || { printf 'cannot execute %s' "$1" >&0; exit 127; }
        exec env --default-signal=INT,QUIT setsid "$@" </dev/null
    fi
done
PS1='% ' exec env --default-signal=INT,QUIT setsid --ctty sh -i
"#;
    let path = folder.join("login");
    let written = std::process::Command::new("sh")
        .args(["-c", "printf '%s' \"$1\" > \"$0\" && chmod 755 \"$0\""])
        .arg(&path)
        .arg(SCRIPT)
        .status();
    assert!(written.unwrap().success());
    path
}

/// The far end of agents' dialling.
pub(super) struct Gateway {
    pub(super) links: mpsc::UnboundedSender<(SessionId, Socket)>,
}

impl DataChannelSource for Gateway {
    type Connector = AgentSide;

    fn connector(&self, session: &SessionId) -> AgentSide {
        AgentSide::new(session, &self.links)
    }
}

/// Dials in memory.
pub(super) struct AgentSide {
    session: SessionId,
    links: mpsc::UnboundedSender<(SessionId, Socket)>,
}

impl AgentSide {
    pub(super) fn new(
        session: &SessionId,
        links: &mpsc::UnboundedSender<(SessionId, Socket)>,
    ) -> Self {
        Self {
            session: session.clone(),
            links: links.clone(),
        }
    }
}

impl Connector for AgentSide {
    async fn connect(&mut self, _attempt: u32) -> Result<Connected, ConnectError> {
        let (agent, gateway) = socket_pair().await;
        self.links
            .send((self.session.clone(), gateway))
            .map_err(|_| ConnectError::Ended("the gateway does not know it".into()))?;
        Ok(Connected {
            socket: agent,
            features: PeerFeatures::ours(),
        })
    }
}

pub(super) async fn socket_pair() -> (Socket, Socket) {
    let (near, far) = duplex(IN_FLIGHT);
    let near = WebSocketStream::from_raw_socket(Box::new(near) as _, Role::Client, None);
    let far = WebSocketStream::from_raw_socket(Box::new(far) as _, Role::Server, None);
    tokio::join!(near, far)
}
