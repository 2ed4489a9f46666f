//! A session's end of its data channel.
//!
//! The pump, which drives the channel and dials again, runs as a task of its own; here is what the
//! session knows about its peers: whether the gateway is connected, whether the client is there,
//! and what each understands.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::select;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, debug};
use uuid::Uuid;

use super::end::End;
use super::settings::Settings;
use super::task::Session;
use crate::protocol::channel::{self, Channel, Clock, Event, HandshakeRole};
use crate::protocol::wire::control::SessionState;
use crate::protocol::wire::payload::Flag;
use crate::protocol::wire::{Payload, PeerFeatures, SessionId, TerminalSize};
use crate::runtime::cause::in_one_line;
use crate::runtime::clock;
use crate::transport::{ConnectError, Connected, Connector, Incoming, Outgoing, PumpEnd, pump};

/// How long the first connection may take; the reference's six attempts take up to 16 s and the
/// time of the calls.
const FIRST_CONTACT: Duration = Duration::from_secs(30);
/// How long a cancelled pump may take to end; it tells the peer.
const PUMP_SLACK: Duration = Duration::from_secs(1);

/// What happened on the data channel that matters to a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The first connection is up: [`Connection::greet`] is due.
    Connected,
    /// The handshake is over and data may flow. Kinds without a handshake are not told.
    Open {
        /// Version that the client named.
        client_version: String,
    },
    /// The client typed.
    Input(Bytes),
    /// The client's terminal has this size.
    Size(TerminalSize),
    /// The client asks for the end of the session.
    Leave,
    /// Any other flag; port sessions have a use for them.
    Flag(Flag),
    /// The gateway closed the session, or says that it is over.
    Closed,
    /// The data channel is gone for good; this is why.
    Lost(String),
    /// Nothing to do.
    Nothing,
}

/// A session's end of its data channel.
pub(super) struct Connection {
    /// To the client. Full while the send window is full.
    pub(super) outgoing: mpsc::Sender<Outgoing>,
    /// From the client and the gateway.
    pub(super) inbox: Inbox,
    /// Cancelled as soon as the session is over on the wire, ahead of unread input.
    pub(super) over: CancellationToken,
    cancel: CancellationToken,
    /// Whether there is a handshake.
    asks: bool,
    drain: Duration,
    linger: Duration,
}

/// The receiving half of a [`Connection`].
pub(super) struct Inbox {
    incoming: mpsc::Receiver<Incoming>,
    pump: AbortOnDropHandle<PumpEnd>,
    session_id: SessionId,
    gateway: Arc<OnceLock<PeerFeatures>>,
    client: Option<PeerFeatures>,
    /// Whether there ever was a connection.
    established: bool,
    connected: bool,
    paused: bool,
}

impl Connection {
    /// Begins to dial the session's data channel. With a [`HandshakeRole::Request`], and if the
    /// session is encrypted, data may flow once [`News::Open`] was heard.
    pub(super) fn open<C: Connector>(
        session: &Session,
        connector: C,
        handshake: HandshakeRole,
    ) -> Self {
        let settings = &session.context.settings;
        let session_id = session.start.session_id.clone();
        let handshake = session.protect(handshake);
        let asks = matches!(handshake, HandshakeRole::Request { .. });
        let gateway = Arc::new(OnceLock::new());
        let connector = FirstContact {
            connector,
            deadline: Instant::now() + FIRST_CONTACT,
            last_error: None,
            gateway: Arc::clone(&gateway),
        };
        let channel = Channel::new(
            channel_settings(session_id.clone(), handshake, settings),
            std::time::Instant::now(),
        );
        // The pump outlives the session's own cancellation, to drain.
        let cancel = CancellationToken::new();
        let keys = settings.keys.as_ref().map(|keys| Arc::clone(&keys.source));
        let pump = session.pump.clone();
        let (handle, run) = pump::pump_with_keys(channel, connector, keys, pump, cancel.clone());
        Self {
            outgoing: handle.outgoing,
            inbox: Inbox {
                incoming: handle.incoming,
                pump: AbortOnDropHandle::new(tokio::spawn(run.in_current_span())),
                session_id,
                gateway,
                client: None,
                established: false,
                connected: false,
                paused: false,
            },
            over: handle.over,
            cancel,
            asks,
            drain: settings.drain,
            linger: settings.linger,
        }
    }

    /// Tells the gateway that the agent's end is there.
    pub(super) async fn announce(&self) {
        self.send(Outgoing::State(SessionState::Connected)).await;
    }

    /// The same, and tells a client of ours that a shell is coming, unless a handshake tells it.
    pub(super) async fn greet(&self) {
        self.announce().await;
        if !self.asks && self.inbox.gateway().empty_output {
            self.send(Outgoing::Payload(Payload::Output(Bytes::new())))
                .await;
        }
    }

    /// Hands a message to the pump; waits while the send window is full.
    pub(super) async fn send(&self, message: Outgoing) {
        // A pump that is gone says why in `news`.
        let _ = self.outgoing.send(message).await;
    }

    /// How long it makes sense to wait for the client at the end.
    pub(super) fn patience(&self, hurry: &CancellationToken) -> Duration {
        if self.inbox.is_client_there() && !hurry.is_cancelled() {
            self.linger
        } else {
            self.drain
        }
    }

    /// Says goodbye, waits until everything was acknowledged as long as that makes sense, and closes.
    pub(super) async fn close(mut self, goodbye: Vec<Outgoing>, hurry: &CancellationToken) {
        let outgoing = self.outgoing.clone();
        let farewell = async move {
            for message in goodbye.into_iter().chain([Outgoing::Close]) {
                if outgoing.send(message).await.is_err() {
                    break;
                }
            }
        };
        let mut farewell = pin!(farewell);
        let mut is_said = false;
        let began = Instant::now();
        loop {
            let give_up = began + self.patience(hurry);
            select! {
                () = &mut farewell, if !is_said => is_said = true,
                incoming = self.inbox.incoming.recv() => match incoming {
                    // Only whether the client is there still matters.
                    Some(incoming) => drop(self.inbox.take(incoming)),
                    None => {
                        // It still closes the connection.
                        let _ = timeout(PUMP_SLACK, &mut self.inbox.pump).await;
                        return;
                    }
                },
                () = hurry.cancelled(), if !hurry.is_cancelled() => {}
                () = sleep_until(give_up) => break,
            }
        }
        debug!("the data channel did not drain in time");
        self.abort().await;
    }

    /// Ends the connection at once: nobody is left at the other end.
    pub(super) async fn abort(mut self) {
        self.cancel.cancel();
        // A pump that does not end now is aborted by being dropped.
        let gone = async { while self.inbox.incoming.recv().await.is_some() {} };
        let _ = timeout(PUMP_SLACK, gone).await;
    }
}

impl Inbox {
    /// What the gateway understands, as far as it said so.
    fn gateway(&self) -> PeerFeatures {
        self.gateway.get().copied().unwrap_or_default()
    }

    /// What the client understands, as far as it said so.
    fn client(&self) -> PeerFeatures {
        self.client.unwrap_or_default()
    }

    /// Whether a client that tells its size before it has seen any output is there or may still come.
    pub(super) fn may_tell_size(&self) -> bool {
        let is_told = |gateway: &PeerFeatures| gateway.empty_output;
        self.gateway.get().is_none_or(is_told)
            && self.client.is_none_or(|client| client.empty_output)
    }

    /// Largest payload that goes out in one message.
    pub(super) fn payload_size(&self) -> usize {
        self.gateway().max_payload.max(self.client().max_payload)
    }

    /// Whether the client understands exit codes.
    pub(super) fn client_takes_exit_code(&self) -> bool {
        self.client().exit_code
    }

    /// Whether to the client a FIN ends one direction of a stream only.
    pub(super) fn client_half_closes(&self) -> bool {
        self.client().half_close
    }

    /// Whether there ever was a connection.
    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    /// Whether output shall be read: the gateway was reached, and the client is not known to be away.
    pub(super) fn wants_output(&self) -> bool {
        self.established && !self.paused
    }

    /// Whether the client can be expected to acknowledge what is sent.
    pub(super) fn is_client_there(&self) -> bool {
        self.connected && !self.paused
    }

    /// Waits for the next news. Cancel-safe. After [`News::Lost`] and [`News::Closed`] there is none.
    pub(super) async fn news(&mut self) -> News {
        match self.incoming.recv().await {
            Some(incoming) => self.take(incoming),
            None => self.pump_end().await,
        }
    }

    /// The next news, if there is any by now.
    pub(super) fn try_news(&mut self) -> Option<News> {
        let incoming = self.incoming.try_recv().ok()?;
        Some(self.take(incoming))
    }

    /// Waits for the end of a connection that is over on the wire, past what nobody will take.
    pub(super) async fn end(&mut self) -> End {
        loop {
            match self.news().await {
                News::Closed => return End::Closed,
                News::Lost(reason) => return End::Lost(reason),
                News::Connected
                | News::Open { .. }
                | News::Input(_)
                | News::Size(_)
                | News::Leave
                | News::Flag(_)
                | News::Nothing => {}
            }
        }
    }

    fn take(&mut self, incoming: Incoming) -> News {
        match incoming {
            Incoming::Connected => {
                self.connected = true;
                if std::mem::replace(&mut self.established, true) {
                    News::Nothing
                } else {
                    News::Connected
                }
            }
            Incoming::Disconnected { .. } => {
                self.connected = false;
                News::Nothing
            }
            Incoming::Payload(payload) => match payload {
                Payload::Output(bytes) => News::Input(bytes),
                Payload::Size(size) => News::Size(size),
                Payload::Flag(Flag::TerminateSession) => News::Leave,
                Payload::Flag(flag) => News::Flag(flag),
                Payload::StdErr(_) | Payload::ExitCode(_) => News::Nothing,
            },
            Incoming::Event(event) => self.take_event(event),
        }
    }

    fn take_event(&mut self, event: Event) -> News {
        match event {
            Event::Closed(_) => return News::Closed,
            Event::Paused => self.paused = true,
            Event::Resumed => self.paused = false,
            Event::PeerFeatures(features) => self.client = Some(features),
            // The beginning is the reference's.
            Event::HandshakeFailed(text) => {
                return News::Lost(format!(
                    "Encountered error while initiating handshake. {text}"
                ));
            }
            Event::Open {
                session_type,
                peer_version,
                ..
            } if !session_type.is_empty() => {
                return News::Open {
                    client_version: peer_version,
                };
            }
            Event::Open { .. } | Event::Drained(_) => {}
        }
        News::Nothing
    }

    async fn pump_end(&mut self) -> News {
        let end = (&mut self.pump).await;
        let reason = match end {
            Ok(PumpEnd::Closed { .. } | PumpEnd::Cancelled) => return News::Closed,
            Ok(PumpEnd::Ended(_)) if self.established => return News::Closed,
            Ok(PumpEnd::Ended(reason)) => reason,
            Ok(PumpEnd::GaveUp(error)) => in_one_line(&error),
            Err(error) => format!("its task failed: {error}"),
        };
        News::Lost(if self.established {
            format!("the data channel was lost: {reason}")
        } else {
            let id = &self.session_id;
            format!("Setting up data channel with id {id} failed: {reason}")
        })
    }
}

fn channel_settings(
    session_id: SessionId,
    handshake: HandshakeRole,
    settings: &Settings,
) -> channel::Settings {
    let (instant, unix_ms) = clock::anchor();
    let seed = Uuid::new_v4().as_u64_pair().0;
    channel::Settings {
        send_window: settings.send_window,
        receive_window: settings.receive_window,
        drain: settings.linger,
        ..channel::Settings::agent(session_id, handshake, Clock { instant, unix_ms }, seed)
    }
}

/// Connects a session for the first time within a deadline, and remembers what the gateway
/// announced. After that it leaves everything to the connector within.
struct FirstContact<C> {
    connector: C,
    deadline: Instant,
    last_error: Option<String>,
    gateway: Arc<OnceLock<PeerFeatures>>,
}

impl<C: Connector> Connector for FirstContact<C> {
    async fn connect(&mut self, attempt: u32) -> Result<Connected, ConnectError> {
        if self.gateway.get().is_some() {
            return self.connector.connect(attempt).await;
        }
        match timeout_at(self.deadline, self.connector.connect(attempt)).await {
            Ok(Ok(connected)) => {
                self.gateway.get_or_init(|| connected.features);
                Ok(connected)
            }
            Ok(Err(error)) => {
                self.last_error = Some(in_one_line(&error));
                Err(error)
            }
            Err(_elapsed) => {
                let reason = self.last_error.take();
                Err(ConnectError::Ended(reason.unwrap_or_else(|| {
                    format!("no answer within {} s", FIRST_CONTACT.as_secs())
                })))
            }
        }
    }
}
