//! One session from the first connection to its end.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::api::{Api, StartSessionResponse};
use super::ending::{Cause, Ending};
use super::io::Io;
use super::port::{self, PortEnd, PortError};
use super::resume::{Dialer, OpenError, Reconnect};
use super::shell::{self, Shell, ShellEnd};
use crate::protocol::channel::{
    self, Channel, Clock, EncryptionAnswer, Event, HandshakeRole, Randomness, Window,
};
use crate::protocol::wire::PeerFeatures;
use crate::protocol::wire::SessionId;
use crate::runtime::cause::in_one_line;
use crate::runtime::clock;
use crate::transport::pump::pump_with_keys;
use crate::transport::{ChannelHandle, Connected, Incoming, KeySource, PumpEnd, PumpSettings};

/// How a session behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long the first connection is tried for.
    pub open_for: Duration,
    /// How long a lost connection is tried for, unless ResumeSession says that the session itself is over.
    pub reconnect_for: Duration,
    /// Interval of our pings.
    pub ping_interval: Duration,
    /// A connection that was silent for so long, pongs included, is dead.
    pub read_timeout: Duration,
    /// What is kept of the input until the agent has acknowledged it.
    pub send_window: Window,
    /// What is kept of the output until it has been written.
    pub receive_window: Window,
    /// Longest wait for the answer when the session is ended from here.
    pub farewell: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // A person waits for it, and most troubles are over by then or will not be.
            open_for: Duration::from_secs(15),
            // A client does not know how long its session may be idle or last. This is the longest
            // `maxSessionDuration`; long before it, whoever ended the session says so when asked.
            reconnect_for: Duration::from_secs(24 * 60 * 60),
            // The official plugin pings every 5 minutes and expects no answer; a dead peer
            // should show within two missed beats.
            ping_interval: Duration::from_secs(30),
            read_timeout: Duration::from_secs(75),
            send_window: Window::SEND,
            receive_window: Window::RECEIVE,
            farewell: Duration::from_secs(2),
        }
    }
}

/// How the data of a session is encrypted, should the agent ask for it.
pub struct Encryption {
    /// The node, as StartSession was told.
    pub target: String,
    /// Makes the data key.
    pub keys: Arc<dyn KeySource>,
}

/// Why there was no session to end.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The first connection could not be made.
    #[error("cannot reach session {session_id}")]
    Open {
        /// The session.
        session_id: SessionId,
        /// Cause.
        #[source]
        source: Box<OpenError>,
    },
    /// The agent started something this client cannot serve.
    #[error("session type {0} is unknown to this client")]
    Unsupported(String),
    /// The terminal does not take raw mode.
    #[error("cannot control the terminal")]
    Terminal(#[source] io::Error),
    /// A port session cannot be run here.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl SessionError {
    /// What a person may do about it, if that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Open { source, .. } => source.hint(),
            Self::Port(PortError::Listen { .. }) => {
                Some("choose another localPortNumber, or 0 for any free port")
            }
            Self::Unsupported(_) | Self::Terminal(_) | Self::Port(_) => None,
        }
    }
}

/// A session that was started and is to be run here.
pub struct Session<A> {
    api: Arc<A>,
    started: StartSessionResponse,
    tls: Arc<rustls::ClientConfig>,
    /// Or why there is none.
    encryption: Result<Encryption, String>,
    settings: Settings,
}

/// How the conversation came to its end.
enum Outcome {
    Ended(Ending),
    /// The pump ended first; it says why.
    PumpEnded {
        exit_code: Option<i32>,
    },
    Failed(SessionError),
}

/// What the agent said it started.
struct Opened {
    session_type: String,
    properties: Value,
    agent_version: String,
    customer_message: String,
}

impl<A: Api> Session<A> {
    /// A session as StartSession answered it.
    pub fn new(api: A, started: StartSessionResponse, tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            api: Arc::new(api),
            started,
            tls,
            encryption: Err("this client does not support encryption with KMS".to_owned()),
            settings: Settings::default(),
        }
    }

    /// Lets the session be encrypted, or says why it cannot be, should the agent ask for it.
    #[must_use]
    pub fn with_encryption(self, encryption: Result<Encryption, String>) -> Self {
        Self { encryption, ..self }
    }

    /// Replaces the default settings.
    #[must_use]
    pub fn with_settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// Connects and runs the session until it ends, the person leaves, or `cancel` fires. The terminal,
    /// if `io` has one, is as it was before when this returns, and also when it is dropped.
    ///
    /// If the end comes from this side, the session is terminated for the other side too.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn run(self, io: Io, cancel: &CancellationToken) -> Result<Ending, SessionError> {
        let result = self.converse(io, cancel).await;
        let over_there =
            matches!(&result, Ok(ending) if matches!(ending.cause, Cause::Closed | Cause::Lost));
        if !over_there {
            self.terminate().await;
        }
        result
    }

    async fn converse(&self, io: Io, cancel: &CancellationToken) -> Result<Ending, SessionError> {
        let dialer = Dialer::new(
            self.started.session_id.clone(),
            self.started.stream_url.clone(),
            Arc::clone(&self.tls),
        );
        let first = tokio::select! {
            first = dialer.open_first(&self.started.token, self.settings.open_for) => {
                first.map_err(|source| self.open_error(source))?
            }
            () = cancel.cancelled() => return Ok(Ending::new(Cause::Cancelled)),
        };
        self.run_channel(dialer, first, io, cancel).await
    }

    async fn run_channel(
        &self,
        dialer: Dialer,
        first: Connected,
        mut io: Io,
        cancel: &CancellationToken,
    ) -> Result<Ending, SessionError> {
        let stop = CancellationToken::new();
        let keys = self.encryption.as_ref().ok();
        let (mut handle, pump) = pump_with_keys(
            self.channel(first.features),
            Reconnect::new(Arc::clone(&self.api), dialer, first),
            keys.map(|encryption| Arc::clone(&encryption.keys)),
            self.pump_settings(),
            stop.clone(),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(pump);

        let outcome = tokio::select! {
            outcome = serve(&self.started.session_id, &mut handle, &mut io) => outcome,
            () = cancel.cancelled() => Outcome::Ended(Ending::new(Cause::Cancelled)),
        };

        drop(handle);
        if !matches!(outcome, Outcome::PumpEnded { .. }) {
            stop.cancel();
        }
        // Dropping the set ends a pump that is stuck.
        let pump_end = timeout(self.settings.farewell, tasks.join_next()).await;
        match outcome {
            Outcome::Ended(ending) => Ok(ending),
            Outcome::Failed(error) => Err(error),
            Outcome::PumpEnded { exit_code } => Ok(Ending {
                exit_code,
                ..self.explain(pump_end.ok().flatten())
            }),
        }
    }

    fn channel(&self, peer: PeerFeatures) -> Channel {
        let (instant, unix_ms) = clock::anchor();
        let seed = Uuid::new_v4().as_u64_pair().0;
        let settings = channel::Settings {
            peer,
            send_window: self.settings.send_window,
            receive_window: self.settings.receive_window,
            handshake: self.handshake(),
            ..channel::Settings::client(
                self.started.session_id.clone(),
                Clock { instant, unix_ms },
                seed,
            )
        };
        Channel::new(settings, instant)
    }

    fn handshake(&self) -> HandshakeRole {
        let answer = |encryption: &Encryption| {
            let mut bytes = [0; Randomness::SIZE];
            rand::fill(&mut bytes).expect("the system's random source works");
            EncryptionAnswer {
                target_id: encryption.target.clone(),
                randomness: Randomness::new(&bytes),
            }
        };
        HandshakeRole::Answer {
            encryption: self.encryption.as_ref().map(answer).map_err(Clone::clone),
        }
    }

    fn pump_settings(&self) -> PumpSettings {
        PumpSettings {
            ping_interval: self.settings.ping_interval,
            read_timeout: self.settings.read_timeout,
            ping_at_open: true,
            reconnect_for: self.settings.reconnect_for,
            session_ends: None,
        }
    }

    fn open_error(&self, source: OpenError) -> SessionError {
        SessionError::Open {
            session_id: self.started.session_id.clone(),
            source: Box::new(source),
        }
    }

    /// Says why the pump ended on its own.
    fn explain(&self, end: Option<Result<PumpEnd, tokio::task::JoinError>>) -> Ending {
        let session = &self.started.session_id;
        let reason = match end {
            Some(Ok(PumpEnd::Ended(reason))) => reason,
            Some(Ok(PumpEnd::GaveUp(error))) => {
                format!("Session: {session} was cut off: {}", in_one_line(&error))
            }
            Some(Ok(end @ (PumpEnd::Closed { .. } | PumpEnd::Cancelled))) => {
                tracing::error!(?end, "the pump ended although nobody had asked for it");
                format!("Session: {session} was cut off.")
            }
            Some(Err(error)) => {
                tracing::error!(%error, "the pump failed");
                format!("Session: {session} was cut off by an internal error.")
            }
            None => format!("Session: {session} was cut off."),
        };
        Ending::new(Cause::Lost).because(reason)
    }

    /// Ends the session for the other side, so that its shell does not wait for nobody.
    async fn terminate(&self) {
        let call = self.api.terminate(&self.started.session_id);
        match timeout(self.settings.farewell, call).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(
                    error = in_one_line(&error),
                    "the session was not terminated"
                );
            }
            Err(_) => tracing::debug!("the session was not terminated in time"),
        }
    }
}

/// Waits for the session type, then serves it.
async fn serve(session_id: &SessionId, handle: &mut ChannelHandle, io: &mut Io) -> Outcome {
    let opened = match wait_until_open(&mut handle.incoming).await {
        Ok(opened) => opened,
        Err(outcome) => return outcome,
    };
    if !opened.customer_message.is_empty() {
        let text = format!("{}\n", opened.customer_message);
        if let Err(error) = io.error.write_all(text.as_bytes()).await {
            tracing::debug!(%error, "a message of the agent was not shown");
        }
    }
    if opened.session_type == port::SESSION_TYPE {
        return forward(session_id, &opened, handle, io).await;
    }
    let Some(shell) = Shell::of(&opened.session_type) else {
        tracing::debug!(properties = %opened.properties, "session type is not supported");
        return Outcome::Failed(SessionError::Unsupported(opened.session_type));
    };

    let mut exit_code = None;
    let end = shell::run(shell, handle, io, &mut exit_code).await;
    let ending = match end {
        Ok(ShellEnd::Closed(closed)) => Ending::closed(closed),
        Ok(ShellEnd::Left) => Ending::new(Cause::Left),
        Ok(ShellEnd::HandshakeFailed(text)) => Ending::new(Cause::Failed).because(text),
        Ok(ShellEnd::Output(error)) => output_failed(&error),
        Ok(ShellEnd::PumpEnded) => return Outcome::PumpEnded { exit_code },
        Err(error) => return Outcome::Failed(SessionError::Terminal(error)),
    };
    Outcome::Ended(Ending {
        exit_code: exit_code.or(ending.exit_code),
        ..ending
    })
}

/// Serves a port session.
async fn forward(
    session_id: &SessionId,
    opened: &Opened,
    handle: &mut ChannelHandle,
    io: &mut Io,
) -> Outcome {
    let opened = port::Opened {
        session_id,
        properties: &opened.properties,
        agent_version: &opened.agent_version,
    };
    Outcome::Ended(match port::run(opened, handle, io).await {
        Ok(PortEnd::Closed(closed)) => Ending::closed(closed),
        Ok(PortEnd::HandshakeFailed(text)) => Ending::new(Cause::Failed).because(text),
        Ok(PortEnd::Output(error)) => output_failed(&error),
        Ok(PortEnd::Stopped) => Ending::new(Cause::Stopped),
        Ok(PortEnd::PumpEnded) => return Outcome::PumpEnded { exit_code: None },
        Err(error) => return Outcome::Failed(error.into()),
    })
}

fn output_failed(error: &io::Error) -> Ending {
    if error.kind() == ErrorKind::BrokenPipe {
        return Ending::new(Cause::OutputClosed);
    }
    Ending::new(Cause::Failed).because(format!("cannot write output: {error}"))
}

async fn wait_until_open(incoming: &mut mpsc::Receiver<Incoming>) -> Result<Opened, Outcome> {
    while let Some(next) = incoming.recv().await {
        match next {
            Incoming::Event(Event::Open {
                session_type,
                properties,
                peer_version: agent_version,
                customer_message,
            }) => {
                return Ok(Opened {
                    session_type,
                    properties,
                    agent_version,
                    customer_message,
                });
            }
            Incoming::Event(Event::Closed(closed)) => {
                return Err(Outcome::Ended(Ending::closed(closed)));
            }
            Incoming::Event(Event::HandshakeFailed(text)) => {
                return Err(Outcome::Ended(Ending::new(Cause::Failed).because(text)));
            }
            Incoming::Payload(payload) => {
                debug_assert!(false, "{payload:?} before the channel is open");
                tracing::error!("a payload came before the channel was open");
            }
            Incoming::Event(
                Event::Paused | Event::Resumed | Event::PeerFeatures(_) | Event::Drained(_),
            )
            | Incoming::Connected
            | Incoming::Disconnected { .. } => {}
        }
    }
    Err(Outcome::PumpEnded { exit_code: None })
}
