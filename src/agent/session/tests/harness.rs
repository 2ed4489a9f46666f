//! A world for sessions: a supervisor, gateways that relay in memory, and clients of our own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::duplex;
use tokio::select;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::{DataChannelSource, Outcome, Settings, ShellUser, Supervisor};
use crate::agent::transcript::Transcript;
use crate::protocol::channel::{self, Channel, Clock, EncryptionAnswer, HandshakeRole, Randomness};
use crate::protocol::wire::control::{
    AgentSessionState, ChannelClosed, SessionState, StartSession,
};
use crate::protocol::wire::{
    Message, MessageId, MessageType, Payload, PayloadType, PeerFeatures, SessionId, TerminalSize,
};
use crate::runtime::clock;
use crate::transport::{
    ChannelHandle, ConnectError, Connected, Connector, Incoming, KeySource, Outgoing, PumpSettings,
    Socket, pump,
};

/// The node of every world.
const NODE: &str = "mi-0123456789abcdef0";
/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(30);
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

async fn socket_pair() -> (Socket, Socket) {
    let (near, far) = duplex(IN_FLIGHT);
    let near = WebSocketStream::from_raw_socket(Box::new(near) as _, Role::Client, None);
    let far = WebSocketStream::from_raw_socket(Box::new(far) as _, Role::Server, None);
    tokio::join!(near, far)
}

/// A client of ours, and the gateway between it and the agent.
pub(super) struct Client {
    pub(super) handle: ChannelHandle,
    pub(super) exit_code: Option<i32>,
    /// Output seen and not yet waited for.
    pub(super) seen: String,
    /// Where output goes instead, if it is no text.
    pub(super) raw: Option<Vec<u8>>,
    /// Error output.
    pub(super) errors: Vec<u8>,
    pub(super) states: mpsc::UnboundedReceiver<SessionState>,
    relay: mpsc::UnboundedSender<Order>,
    tasks: JoinSet<()>,
}

enum Order {
    /// Sends this to the agent.
    ToAgent(Bytes),
    /// Goes on with this connection to the agent.
    Reconnect(Box<Socket>),
    /// Closes the connection to the agent.
    Cut,
}

impl Client {
    pub(super) async fn attach(agent: Socket, features: PeerFeatures) -> Self {
        Self::attach_with(agent, features, None).await
    }

    /// A client that encrypts if the agent asks for it, with the keys of `keys`.
    pub(super) async fn attach_with(
        agent: Socket,
        features: PeerFeatures,
        keys: Option<Arc<dyn KeySource>>,
    ) -> Self {
        let (ours, theirs) = socket_pair().await;
        let (relay, orders) = mpsc::unbounded_channel();
        let (report, states) = mpsc::unbounded_channel();
        let (instant, unix_ms) = clock::anchor();
        let clock = Clock { instant, unix_ms };
        let mut settings = channel::Settings::client(id("alice-1"), clock, 7);
        if keys.is_some() {
            settings.handshake = HandshakeRole::Answer {
                encryption: Ok(EncryptionAnswer {
                    target_id: NODE.into(),
                    randomness: Randomness::new(&[9; Randomness::SIZE]),
                }),
            };
        }
        let (handle, run) = pump::pump_with_keys(
            Channel::new(settings, instant),
            ClientSide(Some(ours)),
            keys,
            PumpSettings {
                ping_interval: Duration::from_secs(300),
                read_timeout: Duration::from_secs(600),
                ping_at_open: false,
                reconnect_for: Duration::from_secs(1),
            },
            CancellationToken::new(),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(run.await) });
        let mut client = Self {
            handle,
            exit_code: None,
            seen: String::new(),
            raw: None,
            errors: Vec::new(),
            states,
            relay,
            tasks,
        };
        client.announce(features);
        let relaying = run_relay(agent, theirs, orders, report);
        client.tasks.spawn(relaying);
        client
    }

    /// The gateway tells the agent that a client with these features is attached.
    pub(super) fn announce(&self, features: PeerFeatures) {
        self.tell_agent(MessageType::StartPublication, features.to_string().into());
    }

    pub(super) fn pause(&self) {
        self.tell_agent(MessageType::PausePublication, Bytes::new());
    }

    /// The gateway closes the session.
    pub(super) fn close_session(&self) {
        let closed = ChannelClosed {
            message_type: "channel_closed".into(),
            message_id: String::new(),
            destination_id: String::new(),
            session_id: String::new(),
            schema_version: 1,
            created_date: String::new(),
            output: String::new(),
            exit_code: None,
        };
        self.tell_agent(MessageType::ChannelClosed, closed.encode());
    }

    fn tell_agent(&self, message_type: MessageType, payload: Bytes) {
        let message = Message {
            message_type,
            created_ms: clock::unix_ms(),
            sequence_number: 0,
            flags: 0,
            id: MessageId::from(Uuid::new_v4()),
            payload_type: PayloadType::None,
            payload,
        };
        let _ = self.relay.send(Order::ToAgent(message.encode()));
    }

    /// Cuts the agent's connection.
    pub(super) fn cut(&self) {
        let _ = self.relay.send(Order::Cut);
    }

    /// Goes on with the agent's new connection.
    pub(super) fn reconnect(&self, agent: Socket) {
        let _ = self.relay.send(Order::Reconnect(Box::new(agent)));
    }

    pub(super) async fn send(&self, payload: Payload) {
        let sent = self.handle.outgoing.send(Outgoing::Payload(payload));
        soon(sent).await.unwrap();
    }

    pub(super) async fn type_text(&self, text: &str) {
        self.send(Payload::Output(Bytes::copy_from_slice(text.as_bytes())))
            .await;
    }

    pub(super) async fn resize(&self, cols: u16, rows: u16) {
        self.send(Payload::Size(TerminalSize { cols, rows })).await;
    }

    /// Reads output until `text` was seen; gives what came before and including it.
    pub(super) async fn wait_for(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let incoming = soon(self.handle.incoming.recv()).await;
            assert!(incoming.is_some(), "{text:?} is not in {:?}", self.seen);
            self.take(incoming.unwrap());
        }
    }

    /// Reads until the error output holds `text`.
    pub(super) async fn wait_for_error(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.errors).contains(text) {
            let incoming = soon(self.handle.incoming.recv()).await;
            self.take(incoming.expect("the text comes before the end"));
        }
    }

    /// Reads until an exit code came.
    pub(super) async fn wait_for_exit(&mut self) -> i32 {
        loop {
            if let Some(code) = self.exit_code {
                return code;
            }
            let incoming = soon(self.handle.incoming.recv()).await;
            self.take(incoming.expect("an exit code comes before the end"));
        }
    }

    pub(super) async fn wait_for_state(&mut self) -> SessionState {
        soon(self.states.recv()).await.unwrap()
    }

    fn take(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Payload(Payload::Output(bytes)) => match &mut self.raw {
                Some(raw) => raw.extend_from_slice(&bytes),
                None => {
                    let text = std::str::from_utf8(&bytes).expect("no character is split");
                    self.seen.push_str(text);
                }
            },
            Incoming::Payload(Payload::StdErr(bytes)) => self.errors.extend_from_slice(&bytes),
            Incoming::Payload(Payload::ExitCode(code)) => self.exit_code = Some(code),
            _ => {}
        }
    }

    /// Takes what comes and forgets it, so that the agent can drain. Ends with the test.
    pub(super) fn ignore_the_rest(mut self) {
        tokio::spawn(async move {
            let whole = &mut self;
            while whole.handle.incoming.recv().await.is_some() {}
        });
    }
}

/// Connects the client once.
struct ClientSide(Option<Socket>);

impl Connector for ClientSide {
    async fn connect(&mut self, _attempt: u32) -> Result<Connected, ConnectError> {
        let over = || ConnectError::Ended("it was closed".into());
        Ok(Connected {
            socket: self.0.take().ok_or_else(over)?,
            features: PeerFeatures::ours(),
        })
    }
}

/// Passes frames both ways; session states go to the gateway itself.
async fn run_relay(
    agent: Socket,
    mut client: Socket,
    mut orders: mpsc::UnboundedReceiver<Order>,
    states: mpsc::UnboundedSender<SessionState>,
) {
    let mut agent = Some(agent);
    loop {
        let from_agent = async {
            match &mut agent {
                Some(agent) => agent.next().await,
                None => std::future::pending().await,
            }
        };
        select! {
            // What the gateway says of a client precedes what the client says.
            biased;
            order = orders.recv() => match order {
                Some(Order::ToAgent(bytes)) => {
                    if let Some(agent) = &mut agent {
                        let _ = agent.send(Frame::Binary(bytes)).await;
                    }
                }
                Some(Order::Reconnect(socket)) => agent = Some(*socket),
                Some(Order::Cut) => agent = None,
                None => return,
            },
            frame = from_agent => match frame {
                Some(Ok(Frame::Binary(bytes))) => match Message::decode(&bytes) {
                    Ok(message) if message.message_type == MessageType::AgentSessionState => {
                        let state = AgentSessionState::decode(&message.payload).unwrap();
                        let _ = states.send(state.session_state);
                    }
                    _ => {
                        let _ = client.send(Frame::Binary(bytes)).await;
                    }
                },
                Some(Ok(_)) => {}
                Some(Err(_)) | None => agent = None,
            },
            frame = client.next() => match frame {
                Some(Ok(frame @ Frame::Binary(_))) => {
                    if let Some(agent) = &mut agent {
                        let _ = agent.send(frame).await;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}
