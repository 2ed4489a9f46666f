//! A client of our own, and the gateway that relays between it and the agent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::select;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::harness::{NODE, id, socket_pair, soon};
use crate::protocol::channel::{self, Channel, Clock, EncryptionAnswer, HandshakeRole, Randomness};
use crate::protocol::wire::control::{AgentSessionState, ChannelClosed, SessionState};
use crate::protocol::wire::{
    Message, MessageId, MessageType, Payload, PayloadType, PeerFeatures, TerminalSize,
};
use crate::runtime::clock;
use crate::transport::{
    ChannelHandle, ConnectError, Connected, Connector, Incoming, KeySource, Outgoing, PumpSettings,
    Socket, pump,
};

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
                session_ends: None,
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
