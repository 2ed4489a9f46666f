//! Sending, receiving and acknowledging; `encryption`, `handshake` and `life` hold the tests of the
//! rest.

mod encryption;
mod handshake;
mod life;

use serde_json::{Value, json};

use super::super::event::ChannelError;
use super::super::settings::{Clock, HandshakeRole};
use super::*;
use crate::protocol::wire::payload::Flag;
use crate::protocol::wire::{Acknowledgement, Message, MessageId, TerminalSize};

#[test]
fn output_is_cut_into_the_peers_payload_size_and_numbered_from_0_with_syn_on_the_first() {
    let mut bench = Bench::shell();

    bench.send_output(&[7; 2500]);
    bench.acknowledge(0);

    let sent = bench.sent;
    let shape: Vec<_> = sent
        .iter()
        .map(|m| (m.sequence_number, m.flags, m.payload.len()))
        .collect();
    assert_eq!(shape, [(0, 1, 1024), (1, 0, 1024), (2, 0, 452)]);
    assert!(
        sent.iter()
            .all(|m| m.message_type == MessageType::OutputStreamData)
    );
}

#[test]
fn gateway_that_announces_it_gets_large_payloads() {
    let mut bench = Bench::shell();
    bench.channel.set_peer(PeerFeatures::ours());

    bench.send_output(&[7; 40_000]);
    bench.acknowledge(0);

    let sizes: Vec<_> = bench.sent.iter().map(|m| m.payload.len()).collect();
    assert_eq!(sizes, [32_768, 7232]);
    let peer = bench.channel.peer();
    assert!(peer.empty_output);
    assert!(
        !peer.reacknowledge && !peer.exit_code,
        "these are the client's to say"
    );
}

#[test]
fn client_messages_have_no_flags_and_the_clients_type() {
    let mut bench = Bench::client();
    bench.receive_output(0, b"$ ");

    bench.channel.send(Payload::Size(SIZE), bench.now).unwrap();
    bench.pump();

    let message = bench.sent.last().unwrap();
    assert_eq!(message.message_type, MessageType::InputStreamData);
    assert_eq!((message.sequence_number, message.flags), (0, 0));
    assert_eq!(message.payload_type, PayloadType::Size);
}

#[test]
fn acknowledgement_names_the_message_and_has_the_service_flags() {
    let mut bench = Bench::shell();

    bench.receive_input(0, PayloadType::Output, b"x");
    assert!(bench.sent.is_empty(), "not acknowledged before it is taken");
    bench.channel.poll_delivery(bench.now).unwrap();
    bench.pump();

    let message = &bench.sent[0];
    assert_eq!(message.message_type, MessageType::Acknowledge);
    assert_eq!((message.sequence_number, message.flags), (0, 3));
    let text: Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(
        text,
        json!({
            "AcknowledgedMessageType": "input_stream_data",
            "AcknowledgedMessageId": id().to_string(),
            "AcknowledgedMessageSequenceNumber": 0,
            "IsSequentialMessage": true,
        })
    );
}

#[test]
fn duplicate_message_is_acknowledged_but_not_delivered_twice_by_both_roles() {
    for mut bench in [Bench::shell(), Bench::client()] {
        for _ in 0..3 {
            bench.receive(0, PayloadType::Output, b"x");
            while bench.channel.poll_delivery(bench.now).is_some() {
                bench.delivered += 1;
            }
        }
        bench.pump();

        assert_eq!(bench.delivered, 1);
        assert_eq!(bench.acknowledged(), [0, 0, 0]);
    }
}

#[test]
fn unknown_payload_is_acknowledged_and_ignored() {
    let mut bench = Bench::shell();

    bench.receive_input(0, PayloadType::Unknown(99), b"?");
    bench.receive_input(1, PayloadType::EncryptionChallengeResponse, b"?");
    bench.receive_input(2, PayloadType::Flag, &[0, 0, 0, 2]);
    bench.pump();

    assert_eq!(bench.acknowledged(), [0, 1]);
    let delivered = bench.channel.poll_delivery(bench.now);
    assert_eq!(delivered, Some(Payload::Flag(Flag::TerminateSession)));
}

#[test]
fn payload_that_does_not_decode_is_reported_acknowledged_and_skipped() {
    let mut bench = Bench::shell();

    let bad = stream(MessageType::InputStreamData, 0, PayloadType::Size, b"{");
    let outcome = bench.channel.handle_message(bad, bench.now);
    bench.receive_input(1, PayloadType::Output, b"next");
    bench.pump();

    assert!(matches!(outcome, Err(ChannelError::Malformed(_))));
    assert_eq!(bench.acknowledged(), [0]);
    assert_eq!(
        bench.channel.poll_delivery(bench.now),
        Some(output(b"next"))
    );
}

#[test]
fn client_drops_a_message_with_a_wrong_digest_and_the_agent_takes_it() {
    for (mut bench, accepted) in [(Bench::client(), false), (Bench::shell(), true)] {
        let message_type = bench.channel.role.received_type();
        let mut raw = stream(message_type, 0, PayloadType::Output, b"x").to_vec();
        *raw.last_mut().unwrap() = b'y';

        let outcome = bench.channel.handle_message(raw.into(), bench.now);

        assert_eq!(outcome.is_ok(), accepted);
        assert_eq!(bench.channel.poll_delivery(bench.now).is_some(), accepted);
    }
}

#[test]
fn messages_for_the_other_end_are_unexpected() {
    for (mut bench, message_type) in [
        (Bench::shell(), MessageType::OutputStreamData),
        (Bench::shell(), MessageType::AgentTaskComplete),
        (Bench::client(), MessageType::InputStreamData),
        (Bench::client(), MessageType::AgentSessionState),
    ] {
        let raw = service(message_type.clone(), b"{}");

        let outcome = bench.channel.handle_message(raw, bench.now);

        assert_eq!(
            outcome,
            Err(ChannelError::Unexpected(message_type.to_string()))
        );
    }
}

#[test]
fn full_window_refuses_and_says_when_there_is_room_again() {
    let mut bench = Bench::shell();
    bench.send_output(b"first");
    bench.acknowledge(0);
    while bench.channel.send_capacity() > 0 {
        bench.channel.send(output(&[0; 1000]), bench.now).unwrap();
    }

    let refused = bench.channel.send(output(b"x"), bench.now);
    assert_eq!(refused, Err(SendError::WindowFull));
    bench.pump();
    bench.acknowledge(1);

    assert!(bench.channel.send_capacity() > 0);
}

const SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

/// One channel with a clock, and all it wrote.
struct Bench {
    channel: Channel,
    now: Instant,
    sent: Vec<Message>,
    delivered: usize,
}

impl Bench {
    fn shell() -> Self {
        let mut bench =
            Self::new(|clock| Settings::agent(session(), HandshakeRole::None, clock, 1));
        assert!(matches!(
            bench.channel.poll_event(),
            Some(Event::Open { .. })
        ));
        bench
    }

    fn port() -> Self {
        let request = HandshakeRole::Request {
            session_type: "Port".into(),
            properties: json!({"portNumber": "22"}),
            encryption: None,
        };
        Self::new(|clock| Settings::agent(session(), request, clock, 1))
    }

    fn client() -> Self {
        Self::new(|clock| Settings::client(session(), clock, 2))
    }

    fn new(settings: impl FnOnce(Clock) -> Settings) -> Self {
        let now = Instant::now();
        let clock = Clock {
            instant: now,
            unix_ms: 1_700_000_000_000,
        };
        let mut channel = Channel::new(settings(clock), now);
        channel.handle_connected(now);
        Self {
            channel,
            now,
            sent: Vec::new(),
            delivered: 0,
        }
    }

    fn pump(&mut self) {
        while let Some(raw) = self.channel.poll_transmit(self.now) {
            self.sent.push(Message::decode_verified(&raw).unwrap());
        }
    }

    fn send_output(&mut self, bytes: &[u8]) {
        self.channel.send(output(bytes), self.now).unwrap();
        self.pump();
    }

    fn receive(&mut self, sequence_number: i64, payload_type: PayloadType, payload: &[u8]) {
        let message_type = self.channel.role.received_type();
        let raw = stream(message_type, sequence_number, payload_type, payload);
        self.channel.handle_message(raw, self.now).unwrap();
    }

    fn receive_input(&mut self, sequence_number: i64, payload_type: PayloadType, payload: &[u8]) {
        self.receive(sequence_number, payload_type, payload);
    }

    fn receive_output(&mut self, sequence_number: i64, payload: &[u8]) {
        self.receive(sequence_number, PayloadType::Output, payload);
    }

    fn receive_unacknowledged_size(&mut self, sequence_number: i64) {
        self.receive(sequence_number, PayloadType::Size, &SIZE.encode());
        self.channel.poll_delivery(self.now).unwrap();
    }

    fn acknowledge(&mut self, sequence_number: i64) {
        let payload = Acknowledgement {
            message_type: self.channel.role.sent_type(),
            message_id: id(),
            sequence_number,
        }
        .encode();
        let raw = service(MessageType::Acknowledge, &payload);
        self.channel.handle_message(raw, self.now).unwrap();
        self.pump();
    }

    fn acknowledged(&self) -> Vec<i64> {
        self.sent
            .iter()
            .filter(|message| message.message_type == MessageType::Acknowledge)
            .map(|message| Acknowledgement::decode_sequence_number(&message.payload).unwrap())
            .collect()
    }
}

fn session() -> SessionId {
    SessionId::new("s-1").unwrap()
}

fn id() -> MessageId {
    MessageId::from_random([9; 16])
}

fn output(bytes: &[u8]) -> Payload {
    Payload::Output(Bytes::copy_from_slice(bytes))
}

fn response(status: i64) -> Vec<u8> {
    json!({"ClientVersion": "1.2.0.0", "ProcessedClientActions": [
        {"ActionType": "SessionType", "ActionStatus": status, "ActionResult": null, "Error": "why"}]})
    .to_string()
    .into_bytes()
}

fn service(message_type: MessageType, payload: &[u8]) -> Bytes {
    stream(message_type, 0, PayloadType::None, payload)
}

fn stream(
    message_type: MessageType,
    sequence_number: i64,
    payload_type: PayloadType,
    payload: &[u8],
) -> Bytes {
    Message {
        message_type,
        created_ms: 1,
        sequence_number,
        flags: 0,
        id: id(),
        payload_type,
        payload: Bytes::copy_from_slice(payload),
    }
    .encode()
}
