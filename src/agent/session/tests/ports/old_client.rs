//! A plugin by raw messages; from before multiplexing: one connection at a time.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message as Frame;

use super::targets::{Target, closed_port, forwarding, read_exact, read_to_end, write};
use crate::agent::session::tests::harness::{World, soon};
use crate::protocol::mux::Session;
use crate::protocol::wire::handshake::{HandshakeResponse, ProcessedAction, STATUS_SUCCESS};
use crate::protocol::wire::payload::Flag;
use crate::protocol::wire::task::TaskStatus;
use crate::protocol::wire::{
    Acknowledgement, Message, MessageId, MessageType, Payload, PayloadType,
};
use crate::transport::Socket;

#[tokio::test]
async fn connections_follow_one_another() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut plugin = Plugin::attach(&mut world, target.port).await;
    let mut first = target.accept().await;
    plugin.send(PayloadType::Output, b"one").await;
    assert_eq!(read_exact(&mut first, 3).await, b"one");
    write(&mut first, b"eins").await;
    assert_eq!(plugin.next_output().await, "eins");

    plugin.flag(Flag::DisconnectToPort).await;

    assert_eq!(read_to_end(&mut first).await, b"");
    plugin.send(PayloadType::Output, b"two").await;
    let mut second = target.accept().await;
    assert_eq!(read_exact(&mut second, 3).await, b"two");
    write(&mut second, b"zwei").await;
    assert_eq!(plugin.next_output().await, "zwei");
}

#[tokio::test]
async fn connection_that_the_destination_ended_is_made_anew_for_the_next_bytes() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut plugin = Plugin::attach(&mut world, target.port).await;
    let mut first = target.accept().await;
    write(&mut first, b"bye").await;
    drop(first);
    assert_eq!(plugin.next_output().await, "bye");

    // The agent may need a moment to see the end; what comes before is for the old connection.
    let mut second = loop {
        plugin.send(PayloadType::Output, b"x").await;
        let wait = std::time::Duration::from_millis(20);
        if let Ok(accepted) = tokio::time::timeout(wait, target.listener.accept()).await {
            break accepted.unwrap().0;
        }
    };

    assert_eq!(read_exact(&mut second, 1).await, b"x");
}

#[tokio::test]
async fn refused_connection_fails_the_session() {
    let (_socket, port) = closed_port();
    let mut world = World::new();
    let _plugin = Plugin::attach(&mut world, port).await;

    let outcome = world.outcome().await;

    assert_eq!(outcome.status, TaskStatus::Failed);
    let expected = "Unable to connect to specified port: ";
    assert!(outcome.output.starts_with(expected), "{}", outcome.output);
}

#[tokio::test]
async fn terminate_flag_ends_the_session() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut plugin = Plugin::attach(&mut world, target.port).await;
    let mut connection = target.accept().await;
    plugin.send(PayloadType::Output, b"last").await;

    plugin.flag(Flag::TerminateSession).await;

    assert_eq!(read_to_end(&mut connection).await, b"last");
    assert_eq!(world.outcome().await.status, TaskStatus::Success);
}

/// The last plugin that does not multiplex, or near it.
const BASIC: &str = "1.1.54.0";

/// The wire's view of a plugin.
pub(super) struct Plugin {
    socket: Socket,
    next: i64,
}

impl Plugin {
    /// Attaches to a forwarding session and answers its handshake.
    async fn attach(world: &mut World, port: u16) -> Self {
        Self::attach_as(BASIC, world, port).await
    }

    /// The same for a plugin that calls itself this version.
    pub(super) async fn attach_as(version: &str, world: &mut World, port: u16) -> Self {
        world.start("alice-1", forwarding(port));
        let (_, socket) = soon(world.dialled.recv()).await.unwrap();
        let mut plugin = Self { socket, next: 0 };
        plugin.wait_for(PayloadType::HandshakeRequest).await;
        let response = HandshakeResponse {
            client_version: version.into(),
            processed_client_actions: vec![ProcessedAction {
                action_type: "SessionType".into(),
                action_status: STATUS_SUCCESS,
                action_result: Value::Null,
                error: String::new(),
            }],
            errors: None,
        };
        let payload = response.encode();
        plugin.send(PayloadType::HandshakeResponse, &payload).await;
        plugin.wait_for(PayloadType::HandshakeComplete).await;
        plugin
    }

    async fn send(&mut self, payload_type: PayloadType, payload: &[u8]) {
        let number = self.next;
        self.next += 1;
        let payload = Bytes::copy_from_slice(payload);
        self.put(MessageType::InputStreamData, number, payload_type, payload)
            .await;
    }

    /// Sends what a mux session has to send.
    pub(super) async fn send_from(&mut self, mux: &mut Session) {
        while let Some(piece) = mux.poll_transmit(1024) {
            self.send(PayloadType::Output, &piece).await;
        }
    }

    /// The gateway tells the agent something.
    pub(super) async fn tell(&mut self, message_type: MessageType) {
        self.put(message_type, 0, PayloadType::None, Bytes::new())
            .await;
    }

    /// Answers pings, and takes no notice of the rest.
    pub(super) async fn idle(&mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
        panic!("the agent has closed the connection");
    }

    async fn flag(&mut self, flag: Flag) {
        let payload = Payload::Flag(flag).into_bytes();
        self.send(PayloadType::Flag, &payload).await;
    }

    async fn next_output(&mut self) -> Bytes {
        self.wait_for(PayloadType::Output).await
    }

    /// Reads, and acknowledges, until a payload of this type came.
    pub(super) async fn wait_for(&mut self, wanted: PayloadType) -> Bytes {
        loop {
            let frame = soon(self.socket.next()).await.unwrap().unwrap();
            let Frame::Binary(bytes) = frame else {
                continue;
            };
            let message = Message::decode_verified(&bytes).unwrap();
            if message.message_type != MessageType::OutputStreamData {
                continue;
            }
            let acknowledgement = Acknowledgement {
                message_type: message.message_type,
                message_id: message.id,
                sequence_number: message.sequence_number,
            };
            let payload = acknowledgement.encode();
            self.put(MessageType::Acknowledge, 0, PayloadType::None, payload)
                .await;
            if message.payload_type == wanted {
                return message.payload;
            }
        }
    }

    async fn put(
        &mut self,
        message_type: MessageType,
        sequence_number: i64,
        payload_type: PayloadType,
        payload: Bytes,
    ) {
        let message = Message {
            message_type,
            created_ms: 1_700_000_000_000,
            sequence_number,
            flags: 0,
            id: MessageId::from_random([7; 16]),
            payload_type,
            payload,
        };
        let frame = Frame::Binary(message.encode());
        soon(self.socket.send(frame)).await.unwrap();
    }
}
