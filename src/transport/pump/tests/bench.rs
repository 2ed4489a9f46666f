//! What the pump's tests share: pumps with a scripted connector, and messages of a hand-made peer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_util::sync::CancellationToken;

use crate::protocol::channel::{Channel, Clock, HandshakeRole, Settings};
use crate::protocol::wire::control::ChannelClosed;
use crate::protocol::wire::{
    Message, MessageId, MessageType, Payload, PayloadType, PeerFeatures, SessionId, TerminalSize,
};
use crate::transport::pump::{
    ChannelHandle, ConnectError, Connected, Connector, Incoming, KeySource, Outgoing, PumpEnd,
    PumpSettings, pump_with_keys,
};
use crate::transport::websocket::Socket;

pub(super) const SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

pub(super) fn settings() -> PumpSettings {
    PumpSettings {
        ping_interval: Duration::from_secs(54),
        read_timeout: Duration::from_secs(114),
        ping_at_open: false,
        reconnect_for: Duration::from_secs(600),
        session_ends: None,
    }
}

/// Hands out what the test gave it; an error once there is nothing left.
pub(super) struct Scripted {
    script: mpsc::UnboundedReceiver<Result<Connected, ConnectError>>,
    attempts: Arc<Mutex<Vec<u32>>>,
}

impl Connector for Scripted {
    async fn connect(&mut self, attempt: u32) -> Result<Connected, ConnectError> {
        self.attempts.lock().unwrap().push(attempt);
        self.script.try_recv().unwrap_or_else(|_| {
            let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            Err(ConnectError::Retry(Box::new(refused)))
        })
    }
}

/// A pump that is not running yet.
pub(super) struct End {
    channel: Settings,
    pub(super) settings: PumpSettings,
    pub(super) keys: Option<Arc<dyn KeySource>>,
    pub(super) script: mpsc::UnboundedSender<Result<Connected, ConnectError>>,
    connector: Scripted,
}

impl End {
    pub(super) fn agent() -> Self {
        Self::new(|id, clock| Settings::agent(id, HandshakeRole::None, clock, 1))
    }

    pub(super) fn client() -> Self {
        Self::new(|id, clock| Settings::client(id, clock, 2))
    }

    pub(super) fn new(channel: impl FnOnce(SessionId, Clock) -> Settings) -> Self {
        let (script, receiver) = mpsc::unbounded_channel();
        let clock = Clock {
            instant: Instant::now().into_std(),
            unix_ms: 1_700_000_000_000,
        };
        Self {
            channel: channel(SessionId::new("bob-0123456789abcdef0").unwrap(), clock),
            settings: settings(),
            keys: None,
            script,
            connector: Scripted {
                script: receiver,
                attempts: Arc::default(),
            },
        }
    }

    pub(super) fn give(&self, socket: Socket) {
        give(&self.script, socket);
    }

    pub(super) fn online(self, socket: Socket) -> Running {
        self.give(socket);
        self.start()
    }

    pub(super) fn start(self) -> Running {
        let cancel = CancellationToken::new();
        let attempts = Arc::clone(&self.connector.attempts);
        let channel = Channel::new(self.channel, Instant::now().into_std());
        let (handle, run) = pump_with_keys(
            channel,
            self.connector,
            self.keys,
            self.settings,
            cancel.clone(),
        );
        Running {
            handle,
            pump: tokio::spawn(run),
            script: self.script,
            attempts,
            cancel,
        }
    }
}

/// A running pump and the session's end of it.
pub(super) struct Running {
    pub(super) handle: ChannelHandle,
    pub(super) pump: JoinHandle<PumpEnd>,
    pub(super) script: mpsc::UnboundedSender<Result<Connected, ConnectError>>,
    attempts: Arc<Mutex<Vec<u32>>>,
    pub(super) cancel: CancellationToken,
}

impl Running {
    pub(super) fn give(&self, socket: Socket) {
        give(&self.script, socket);
    }

    pub(super) fn attempts(&self) -> Vec<u32> {
        self.attempts.lock().unwrap().clone()
    }

    pub(super) async fn send(&self, outgoing: Outgoing) {
        self.handle.outgoing.send(outgoing).await.unwrap();
    }

    pub(super) async fn output(&self, bytes: &'static [u8]) {
        self.send(Outgoing::Payload(Payload::Output(Bytes::from_static(
            bytes,
        ))))
        .await;
    }

    pub(super) fn flood(&self, total: usize) -> JoinHandle<()> {
        let outgoing = self.handle.outgoing.clone();
        tokio::spawn(async move {
            let all = Bytes::from(pattern(total));
            for start in (0..total).step_by(32 << 10) {
                let part = all.slice(start..total.min(start + (32 << 10)));
                let payload = Outgoing::Payload(Payload::Output(part));
                outgoing.send(payload).await.unwrap();
            }
        })
    }

    pub(super) async fn next_payload(&mut self) -> Incoming {
        self.wait_for(|incoming| matches!(incoming, Incoming::Payload(_)))
            .await
    }

    /// The next `count` bytes of output or input.
    pub(super) async fn received(&mut self, count: usize) -> Vec<u8> {
        let mut received = Vec::with_capacity(count);
        while received.len() < count {
            if let Incoming::Payload(Payload::Output(bytes)) = self.next_payload().await {
                received.extend_from_slice(&bytes);
            }
        }
        received
    }

    pub(super) async fn wait_connected(&mut self) {
        self.wait_for(|incoming| matches!(incoming, Incoming::Connected))
            .await;
    }

    pub(super) async fn wait_disconnected(&mut self) -> Instant {
        let is_cut = |incoming: &Incoming| matches!(incoming, Incoming::Disconnected { .. });
        match self.wait_for(is_cut).await {
            Incoming::Disconnected { give_up } => give_up,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn wait_for(&mut self, wanted: impl Fn(&Incoming) -> bool) -> Incoming {
        loop {
            let incoming = self.handle.incoming.recv().await.expect("the pump runs");
            if wanted(&incoming) {
                return incoming;
            }
        }
    }
}

/// A connection to an endpoint that announced nothing.
pub(super) fn give_foreign(
    script: &mpsc::UnboundedSender<Result<Connected, ConnectError>>,
    socket: Socket,
) {
    let connected = Connected {
        socket,
        features: PeerFeatures::default(),
    };
    script.send(Ok(connected)).unwrap();
}

pub(super) fn give(
    script: &mpsc::UnboundedSender<Result<Connected, ConnectError>>,
    socket: Socket,
) {
    let connected = Connected {
        socket,
        features: PeerFeatures::ours(),
    };
    script.send(Ok(connected)).unwrap();
}

/// Waits until the queue to the pump has been full for a while in which both pumps could run.
pub(super) async fn wait_until_stalled(outgoing: &mpsc::Sender<Outgoing>) {
    let mut full_for = 0;
    while full_for < 2000 {
        tokio::task::yield_now().await;
        full_for = if outgoing.capacity() == 0 {
            full_for + 1
        } else {
            0
        };
    }
}

pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0_u8..251).cycle().take(length).collect()
}

pub(super) async fn next_frame(socket: &mut Socket) -> Frame {
    socket.next().await.expect("the pump is connected").unwrap()
}

pub(super) fn stream_message(number: i64, payload: &'static [u8]) -> Frame {
    message(
        MessageType::OutputStreamData,
        number,
        PayloadType::Output,
        payload,
    )
}

pub(super) fn service(message_type: MessageType, payload: &[u8]) -> Frame {
    message(message_type, 0, PayloadType::None, payload)
}

pub(super) fn message(
    message_type: MessageType,
    number: i64,
    payload_type: PayloadType,
    payload: &[u8],
) -> Frame {
    let message = Message {
        message_type,
        created_ms: 1_700_000_000_000,
        sequence_number: number,
        flags: 0,
        id: MessageId::from_random([7; 16]),
        payload_type,
        payload: Bytes::copy_from_slice(payload),
    };
    Frame::Binary(message.encode())
}

pub(super) fn closed(output: &str) -> Bytes {
    ChannelClosed {
        message_type: MessageType::ChannelClosed.to_string(),
        message_id: String::new(),
        destination_id: String::new(),
        session_id: String::new(),
        schema_version: 1,
        created_date: String::new(),
        output: output.to_owned(),
        exit_code: None,
    }
    .encode()
}
