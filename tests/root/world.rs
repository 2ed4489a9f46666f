//! Sessions of an agent that is root: the real supervisor, the real login step, and a client beside
//! them in memory.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use ssm_agent::agent::host::users::Sudo;
use ssm_agent::agent::session::{DataChannelSource, Outcome, Settings, Supervisor};
use ssm_agent::agent::transcript::Transcript;
use ssm_agent::protocol::channel::{self, Channel, Clock};
use ssm_agent::protocol::wire::task::TaskStatus;
use ssm_agent::protocol::wire::{Payload, PeerFeatures, SessionId};
use ssm_agent::runtime::clock;
use ssm_agent::transport::{
    ChannelHandle, ConnectError, Connected, Connector, Incoming, Outgoing, PumpSettings, Socket,
    pump,
};
use tokio::io::duplex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

/// The program that takes the login step.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ssm-agent");
/// Id of every session.
const SESSION: &str = "alice-0123456789abcdef0";
/// No story waits longer for a session.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent.
pub struct World {
    supervisor: Supervisor,
    outcomes: mpsc::Receiver<Outcome>,
    dialled: mpsc::UnboundedReceiver<Socket>,
}

/// What came of a session.
#[derive(Debug)]
pub struct Ran {
    pub output: String,
    pub errors: String,
    pub outcome: Outcome,
}

impl Ran {
    /// The text of a session that failed.
    pub fn failure(&self) -> &str {
        assert_eq!(self.outcome.status, TaskStatus::Failed, "{self:?}");
        &self.outcome.output
    }

    /// The lines of the output.
    pub fn lines(&self) -> Vec<&str> {
        self.output.lines().map(str::trim_end).collect()
    }
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with_sudo(sudo: Sudo) -> Self {
        Self::with(|settings| settings.sudo = sudo)
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::recording(Transcript::new(None), change)
    }

    /// An agent that records.
    pub fn recording(transcript: Transcript, change: impl FnOnce(&mut Settings)) -> Self {
        let (links, dialled) = mpsc::unbounded_channel();
        let (report, outcomes) = mpsc::channel(8);
        let mut settings = Settings::new("mi-0123456789abcdef0", PROGRAM);
        settings.grace = Duration::from_millis(300);
        change(&mut settings);
        Self {
            supervisor: Supervisor::new(
                settings,
                Gateway(links),
                transcript,
                report,
                CancellationToken::new(),
            ),
            outcomes,
            dialled,
        }
    }

    /// Runs a command without a terminal; `start` may change the start message.
    pub async fn command(&mut self, script: &str, change: impl FnOnce(&mut Value)) -> Ran {
        let quoted = script.replace('\'', r"'\''");
        let mut start = start("NonInteractiveCommands");
        start["DocumentContent"]["properties"] = json!({"linux": {"commands": format!("sh -c '{quoted}'"), "separateOutputStream": true}});
        change(&mut start);
        self.run(start, "").await
    }

    /// Runs a shell and types `text` into it.
    pub async fn shell(&mut self, text: &str, change: impl FnOnce(&mut Value)) -> Ran {
        let mut start = start("Standard_Stream");
        change(&mut start);
        self.run(start, text).await
    }

    /// Runs a shell, types `text` into it, and has it ended from outside once it shows `mark`.
    pub async fn cut_off(
        &mut self,
        text: &str,
        mark: &str,
        change: impl FnOnce(&mut Value),
    ) -> Ran {
        let mut start = start("Standard_Stream");
        change(&mut start);
        self.start(start).await;
        timeout(PATIENCE, self.attend(text, Some(mark)))
            .await
            .expect("the session should have ended long ago")
    }

    async fn start(&mut self, start: Value) {
        // All have one id, and the one before is still there for a moment after it has reported.
        while self.supervisor.active() > 0 {
            tokio::task::yield_now().await;
        }
        let start = serde_json::from_value(start).unwrap();
        self.supervisor.start(Ok(Box::new(start)));
    }

    async fn run(&mut self, start: Value, typed: &str) -> Ran {
        self.start(start).await;
        timeout(PATIENCE, self.attend(typed, None))
            .await
            .expect("the session should have ended long ago")
    }

    /// Is the client of the session that was started last, to its end, which `mark` brings about.
    async fn attend(&mut self, typed: &str, mark: Option<&str>) -> Ran {
        let socket = tokio::select! {
            socket = self.dialled.recv() => socket.unwrap(),
            outcome = self.outcomes.recv() => {
                let (output, errors) = (String::new(), String::new());
                return Ran { output, errors, outcome: outcome.unwrap() };
            }
        };
        let (mut handle, _tasks) = client(socket);
        if !typed.is_empty() {
            let payload = Payload::Output(Bytes::copy_from_slice(typed.as_bytes()));
            let _ = handle.outgoing.send(Outgoing::Payload(payload)).await;
        }
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        // It ends with the agent's connection.
        while let Some(incoming) = handle.incoming.recv().await {
            match incoming {
                Incoming::Payload(Payload::Output(bytes)) => {
                    output.extend_from_slice(&bytes);
                    let shows = |mark: &str| String::from_utf8_lossy(&output).contains(mark);
                    if mark.is_some_and(shows) {
                        self.supervisor.terminate(&SessionId::new(SESSION).unwrap());
                    }
                }
                Incoming::Payload(Payload::StdErr(bytes)) => errors.extend_from_slice(&bytes),
                _ => {}
            }
        }
        Ran {
            output: String::from_utf8(output).unwrap(),
            errors: String::from_utf8(errors).unwrap(),
            outcome: self.outcomes.recv().await.unwrap(),
        }
    }
}

/// Makes a session run as these users: the start message's and the document's default.
pub fn run_as(named: &str, default: &str) -> impl FnOnce(&mut Value) {
    move |start| {
        start["RunAsUser"] = json!(named);
        start["DocumentContent"]["inputs"] =
            json!({"runAsEnabled": true, "runAsDefaultUser": default});
    }
}

fn start(session_type: &str) -> Value {
    json!({
        "DocumentName": "story",
        "SessionId": SESSION,
        "DocumentContent": {"schemaVersion": "1.0", "sessionType": session_type},
    })
}

fn client(agent: Socket) -> (ChannelHandle, JoinSet<()>) {
    let (instant, unix_ms) = clock::anchor();
    let id = SessionId::new(SESSION).unwrap();
    let settings = channel::Settings::client(id, Clock { instant, unix_ms }, 7);
    let (handle, run) = pump::pump(
        Channel::new(settings, instant),
        Once(Some(agent)),
        PumpSettings {
            ping_interval: Duration::from_secs(300),
            read_timeout: Duration::from_secs(600),
            ping_at_open: false,
            reconnect_for: Duration::from_millis(1),
            session_ends: None,
        },
        CancellationToken::new(),
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(async { drop(run.await) });
    (handle, tasks)
}

/// Where the agent dials: a client is at the other end.
struct Gateway(mpsc::UnboundedSender<Socket>);

impl DataChannelSource for Gateway {
    type Connector = Dialler;

    fn connector(&self, _session: &SessionId) -> Dialler {
        Dialler(self.0.clone())
    }
}

struct Dialler(mpsc::UnboundedSender<Socket>);

impl Connector for Dialler {
    async fn connect(&mut self, _attempt: u32) -> Result<Connected, ConnectError> {
        let (near, far) = duplex(64 << 10);
        let near = WebSocketStream::from_raw_socket(Box::new(near) as _, Role::Client, None);
        let far = WebSocketStream::from_raw_socket(Box::new(far) as _, Role::Server, None);
        let (near, far) = tokio::join!(near, far);
        let over = |_| ConnectError::Ended("nobody takes it".into());
        self.0.send(far).map_err(over)?;
        connected(near)
    }
}

/// Connects once.
struct Once(Option<Socket>);

impl Connector for Once {
    async fn connect(&mut self, _attempt: u32) -> Result<Connected, ConnectError> {
        let over = || ConnectError::Ended("it was closed".into());
        connected(self.0.take().ok_or_else(over)?)
    }
}

fn connected(socket: Socket) -> Result<Connected, ConnectError> {
    Ok(Connected {
        socket,
        features: PeerFeatures::ours(),
    })
}
