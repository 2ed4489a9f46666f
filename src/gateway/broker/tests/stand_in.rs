//! A broker with an agent and a client to talk to.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::Map;
use tokio::io::duplex;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::Role as Side;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use super::super::*;
use crate::gateway::store::Store;
use crate::gateway::store::sessions::{SessionLimits, SessionRecord, SessionStatus};
use crate::protocol::wire::control::{ChannelClosed, StartSession};
use crate::protocol::wire::open_channel::{OpenControlChannel, OpenDataChannel};
use crate::protocol::wire::session_document::SessionDocument;
use crate::protocol::wire::task::{TaskAcknowledge, TaskComplete, TaskStatus};
use crate::protocol::wire::{
    Acknowledgement, Message, MessageId, MessageType, PayloadType, SessionId,
};
use crate::transport::Socket;
use crate::transport::websocket::accept_upgraded;

pub(super) const NODE: &str = "mi-0123456789abcdef0";
pub(super) const OTHER_NODE: &str = "mi-0123456789abcdef1";
pub(super) const OWNER: &str = "arn:aws:iam::000000000000:user/alice";
pub(super) const RUN_AS: &str = "deploy";
/// What a stream between stand-in and broker holds.
const STREAM: usize = 64 << 10;
/// Nothing in these tests takes longer, on the paused clock.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) struct World {
    pub(super) broker: Broker,
    pub(super) store: Store,
    cancel: CancellationToken,
    run: JoinHandle<()>,
}

impl World {
    pub(super) async fn new() -> Self {
        let store = Store::open_in_memory().unwrap();
        for node in [NODE, OTHER_NODE] {
            let created = store.create_node_access_key("node", node, SystemTime::now());
            created.await.unwrap();
        }
        Self::on(store).await
    }

    pub(super) async fn on(store: Store) -> Self {
        let cancel = CancellationToken::new();
        let settings = Settings::new(Url::parse("wss://gateway.example:8443").unwrap());
        let (broker, run) = Broker::new(store.clone(), settings, cancel.clone())
            .await
            .unwrap();
        Self {
            broker,
            store,
            cancel,
            run: tokio::spawn(run),
        }
    }

    /// Stops the gateway and starts another one with the same store.
    pub(super) async fn restart(self) -> Self {
        self.cancel.cancel();
        self.run.await.unwrap();
        Self::on(self.store).await
    }

    pub(super) async fn start(&self) -> Ticket {
        self.broker.start_session(request()).await.unwrap()
    }

    pub(super) async fn record(&self, id: &SessionId) -> SessionRecord {
        self.store.session(id).await.unwrap().unwrap()
    }

    /// Waits until the session's record has this status.
    pub(super) async fn until_status(&self, id: &SessionId, status: SessionStatus) {
        until(async || self.record(id).await.status == status).await;
    }

    /// A control channel of [`NODE`], open.
    pub(super) async fn control(&self) -> Peer {
        self.control_of(NODE).await
    }

    /// The same of this node.
    pub(super) async fn control_of(&self, node: &str) -> Peer {
        let token = self.broker.create_control_channel(node);
        let peer = self.control_of_with(node, &token).await;
        until(async || self.broker.is_connected(node)).await;
        peer
    }

    pub(super) async fn control_with(&self, token: &str) -> Peer {
        self.control_of_with(NODE, token).await
    }

    async fn control_of_with(&self, node: &str, token: &str) -> Peer {
        let (mut peer, socket) = Peer::pair().await;
        self.broker
            .serve_control_channel(node.into(), async { Some(socket) });
        let open = OpenControlChannel {
            cookie: None,
            message_schema_version: "1.0".into(),
            request_id: String::new(),
            token_value: token.into(),
            agent_version: "3.3.0.0".into(),
            platform_type: "linux".into(),
        };
        peer.send_frame(Frame::text(open.encode())).await;
        peer
    }

    /// The agent's end of a session, open.
    pub(super) async fn agent(&self, id: &SessionId) -> Peer {
        let token = self.broker.create_data_channel(NODE, id).await.unwrap();
        self.agent_with(id, &token, Signer::Node(NODE.into())).await
    }

    pub(super) async fn agent_with(&self, id: &SessionId, token: &str, signer: Signer) -> Peer {
        self.data(id, token, Some(NODE), None, signer).await
    }

    /// A client that announces our features.
    pub(super) async fn client(&self, ticket: &Ticket) -> Peer {
        let features = Some("max-payload=32768, exit-code");
        let id = &ticket.session_id;
        self.data(id, &ticket.token, None, features, Signer::Nobody)
            .await
    }

    pub(super) async fn data(
        &self,
        id: &SessionId,
        token: &str,
        node: Option<&str>,
        features: Option<&str>,
        signer: Signer,
    ) -> Peer {
        let (mut peer, socket) = Peer::pair().await;
        self.broker
            .serve_data_channel(id.clone(), signer, async { Some(socket) });
        // The official client's first frame is a ping.
        peer.send_frame(Frame::Ping("keepalive".into())).await;
        let open = OpenDataChannel {
            message_schema_version: "1.0".into(),
            request_id: String::new(),
            token_value: token.into(),
            client_instance_id: node.map(Into::into),
            client_id: String::new(),
            client_version: None,
            features: features.map(Into::into),
        };
        peer.send_frame(Frame::text(open.encode())).await;
        peer
    }

    /// A session with both ends connected, and the control channel of its node.
    pub(super) async fn session(&self) -> (SessionId, Peer, Peer, Peer) {
        self.session_within(SessionLimits::default()).await
    }

    /// The same with these limits.
    pub(super) async fn session_within(
        &self,
        limits: SessionLimits,
    ) -> (SessionId, Peer, Peer, Peer) {
        let mut control = self.control().await;
        let request = StartRequest {
            limits,
            ..request()
        };
        let ticket = self.broker.start_session(request).await.unwrap();
        control.expect(MessageType::InteractiveShell).await;
        let mut agent = self.agent(&ticket.session_id).await;
        let client = self.client(&ticket).await;
        agent.expect(MessageType::StartPublication).await;
        (ticket.session_id, control, agent, client)
    }
}

/// One end of a WebSocket to the broker.
pub(super) struct Peer {
    pub(super) socket: Socket,
}

impl Peer {
    pub(super) async fn pair() -> (Self, Socket) {
        let (near, far) = duplex(STREAM);
        let socket = WebSocketStream::from_raw_socket(Box::new(near) as _, Side::Client, None);
        let peer = Self {
            socket: socket.await,
        };
        (peer, accept_upgraded(Box::new(far)).await)
    }

    pub(super) async fn send_frame(&mut self, frame: Frame) {
        self.socket.send(frame).await.unwrap();
    }

    pub(super) async fn send(&mut self, message: Bytes) {
        self.send_frame(Frame::Binary(message)).await;
    }

    /// The next data message as it came; none if the connection ended.
    pub(super) async fn try_next(&mut self) -> Option<Bytes> {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Frame::Binary(bytes))) => return Some(bytes),
                    Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                    Some(Ok(Frame::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(other)) => panic!("unexpected {other:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.unwrap()
    }

    pub(super) async fn next(&mut self) -> Bytes {
        self.try_next().await.expect("the connection ended")
    }

    /// Waits until the broker has read everything sent so far, by way of a ping.
    pub(super) async fn sync(&mut self) {
        self.send_frame(Frame::Ping("sync".into())).await;
        let pong = async {
            while self.socket.next().await.unwrap().unwrap() != Frame::Pong("sync".into()) {}
        };
        tokio::time::timeout(PATIENCE, pong).await.unwrap();
    }

    /// The next message, which has this type.
    pub(super) async fn expect(&mut self, message_type: MessageType) -> Message {
        let message = Message::decode_verified(&self.next().await).unwrap();
        assert_eq!(message.message_type, message_type);
        message
    }

    pub(super) async fn expect_start(&mut self) -> StartSession {
        let message = self.expect(MessageType::InteractiveShell).await;
        StartSession::decode(&message.payload).unwrap()
    }

    pub(super) async fn expect_closed(&mut self) -> ChannelClosed {
        let message = self.expect(MessageType::ChannelClosed).await;
        ChannelClosed::decode(&message.payload).unwrap()
    }

    /// The reason of the close frame that comes next.
    pub(super) async fn close_reason(&mut self) -> String {
        let close = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Frame::Close(Some(frame)))) => return frame.reason.to_string(),
                    Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                    other => panic!("no close frame but {other:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, close).await.unwrap()
    }

    /// Reports a result on this control channel and takes the acknowledgement.
    pub(super) async fn complete(&mut self, result: &TaskComplete) {
        let id = Uuid::new_v4();
        let message = message(MessageType::AgentTaskComplete, 0, id, result.encode());
        self.send(message).await;
        let reply = self.expect(MessageType::AgentTaskAcknowledge).await;
        let acknowledge = TaskAcknowledge::decode(&reply.payload).unwrap();
        assert_eq!(acknowledge.message_id, id.to_string());
        assert_eq!(acknowledge.task_id, result.task_id);
    }
}

pub(super) fn request() -> StartRequest {
    let document = serde_json::json!({
        "schemaVersion": "1.0", "sessionType": "Standard_Stream",
    });
    StartRequest {
        node_id: NODE.into(),
        document_name: "SSM-SessionManagerRunShell".into(),
        document: serde_json::from_value::<SessionDocument>(document).unwrap(),
        parameters: Map::new(),
        owner: OWNER.into(),
        run_as_user: RUN_AS.into(),
        reason: "maintenance".into(),
        limits: SessionLimits::default(),
    }
}

pub(super) fn result(id: &SessionId, status: TaskStatus, output: &str) -> TaskComplete {
    TaskComplete::new(id.as_str(), NODE, status, output)
}

pub(super) fn output(number: i64, text: impl Into<Bytes>) -> Bytes {
    let id = Uuid::new_v4();
    message(MessageType::OutputStreamData, number, id, text.into())
}

pub(super) fn input(number: i64, text: impl Into<Bytes>) -> Bytes {
    let id = Uuid::new_v4();
    message(MessageType::InputStreamData, number, id, text.into())
}

pub(super) fn acknowledge(number: i64) -> Bytes {
    let acknowledgement = Acknowledgement {
        message_type: MessageType::OutputStreamData,
        message_id: MessageId::from(Uuid::new_v4()),
        sequence_number: number,
    };
    let id = Uuid::new_v4();
    message(MessageType::Acknowledge, 0, id, acknowledgement.encode())
}

pub(super) fn message(kind: MessageType, number: i64, id: Uuid, payload: Bytes) -> Bytes {
    Message {
        message_type: kind,
        created_ms: 1_700_000_000_000,
        sequence_number: number,
        flags: 0,
        id: MessageId::from(id),
        payload_type: PayloadType::Output,
        payload,
    }
    .encode()
}

/// Waits until `condition` holds.
pub(super) async fn until(condition: impl AsyncFn() -> bool) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.unwrap();
}
