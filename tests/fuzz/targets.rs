//! One function per decoder: takes any bytes, must not panic, and what it accepts must survive a
//! round trip. Shared by the corpus replay in `main.rs` and the fuzzing programs.

use bytes::{Bytes, BytesMut};
use ssm_agent::protocol::mux::frame::Frame;
use ssm_agent::protocol::wire::control::{AgentSessionState, ChannelClosed, StartSession};
use ssm_agent::protocol::wire::handshake::{
    EncryptionChallenge, HandshakeComplete, HandshakeRequest, HandshakeResponse,
};
use ssm_agent::protocol::wire::open_channel::{
    CreateControlChannel, CreateDataChannel, OpenControlChannel, OpenDataChannel,
    decode_token_response, encode_token_response,
};
use ssm_agent::protocol::wire::payload::{Flag, TerminalSize, decode_exit_code};
use ssm_agent::protocol::wire::session_document::{
    SessionDocument, StoredParameter, StoredParameters,
};
use ssm_agent::protocol::wire::task::{TaskAcknowledge, TaskComplete};
use ssm_agent::protocol::wire::version::{AgentGates, ClientGates};
use ssm_agent::protocol::wire::{Acknowledgement, Message, Payload, PeerFeatures, SessionId};

/// Takes any bytes and must not panic.
pub type Target = fn(&[u8]);

/// Name and function of every target; the name is also its corpus folder and fuzzing program.
pub const TARGETS: &[(&str, Target)] = &[
    ("message", message),
    ("payload", payload),
    ("acknowledgement", acknowledgement),
    ("open_channel", open_channel),
    ("token_response", token_response),
    ("handshake", handshake),
    ("start_session", start_session),
    ("session_document", session_document),
    ("service_messages", service_messages),
    ("features", features),
    ("smux_frame", smux_frame),
];

/// Runs the target called `name`.
#[allow(dead_code, reason = "called by the fuzzing programs")]
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("every fuzzing program names a target");
    target(data);
}

fn message(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(message) = Message::decode(&bytes) {
        // What was padded, trimmed or digested wrongly becomes canonical; from then on nothing changes.
        let canonical = message.encode();
        assert_eq!(Message::decode_verified(&canonical), Ok(message));
    }
    let _ = Message::decode_verified(&bytes);
}

fn payload(data: &[u8]) {
    let Some((&number, rest)) = data.split_first() else {
        return;
    };
    let payload_type = ssm_agent::protocol::wire::PayloadType::from_wire(number.into());
    if let Ok(Some(payload)) = Payload::decode(payload_type, Bytes::copy_from_slice(rest)) {
        let again = Payload::decode(payload.payload_type(), payload.clone().into_bytes());
        assert_eq!(again, Ok(Some(payload)));
    }
    let _ = TerminalSize::decode(rest);
    let _ = Flag::decode(rest);
    let _ = decode_exit_code(rest);
}

fn acknowledgement(data: &[u8]) {
    let _ = Acknowledgement::decode_sequence_number(data);
}

fn open_channel(data: &[u8]) {
    if let Ok(open) = OpenDataChannel::decode(data) {
        assert_eq!(OpenDataChannel::decode(open.encode().as_bytes()), Ok(open));
    }
    if let Ok(open) = OpenControlChannel::decode(data) {
        assert_eq!(
            OpenControlChannel::decode(open.encode().as_bytes()),
            Ok(open)
        );
    }
    let _ = CreateControlChannel::decode(data);
    let _ = CreateDataChannel::decode(data);
}

fn token_response(data: &[u8]) {
    if let Ok(token) = decode_token_response(data) {
        assert!(!token.is_empty());
        let again = encode_token_response("CreateDataChannelResult", &token);
        // Control characters cannot be written into XML 1.0 and come back; tokens have none.
        if !token.chars().any(char::is_control) {
            assert_eq!(decode_token_response(again.as_bytes()), Ok(token));
        }
    }
}

fn handshake(data: &[u8]) {
    let _ = HandshakeRequest::decode(data);
    if let Ok(response) = HandshakeResponse::decode(data) {
        assert_eq!(HandshakeResponse::decode(&response.encode()), Ok(response));
    }
    let _ = HandshakeComplete::decode(data);
    let _ = EncryptionChallenge::decode(data);
}

fn start_session(data: &[u8]) {
    if let Ok(start) = StartSession::decode(data) {
        let _ = start.document_content.resolve(&start.parameters);
    }
}

fn session_document(data: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<SessionDocument>(data) {
        let _ = document.preferences();
        let defaults = document.parameters.keys().cloned();
        let values = defaults.map(|name| (name, "{{ a }}".into())).collect();
        if let Ok(resolved) = document.resolve(&values) {
            let _ = (resolved.preferences(), resolved.command());
        }
        if let Ok(names) = document.references(&values) {
            let stored = |name: &String| StoredParameter {
                name: name.clone(),
                kind: "StringList".into(),
                value: "{{ssm:a}},b".into(),
                ..StoredParameter::default()
            };
            let answers: Vec<_> = names.iter().map(stored).collect();
            if let Ok(stored) = StoredParameters::collect(&names, &answers) {
                let _ = document.resolve_with(&values, &stored);
            }
        }
    }
}

fn service_messages(data: &[u8]) {
    if let Ok(closed) = ChannelClosed::decode(data) {
        assert_eq!(ChannelClosed::decode(&closed.encode()), Ok(closed));
    }
    if let Ok(complete) = TaskComplete::decode(data) {
        assert_eq!(TaskComplete::decode(&complete.encode()), Ok(complete));
    }
    let _ = TaskAcknowledge::decode(data);
    let _ = AgentSessionState::decode(data);
}

fn features(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(features) = PeerFeatures::parse(text) {
        assert_eq!(PeerFeatures::parse(&features.to_string()), Ok(features));
    }
    let _ = ClientGates::of(text);
    let _ = AgentGates::of(text);
    let _ = SessionId::new(text);
}

fn smux_frame(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    let mut again = BytesMut::new();
    while let Ok(Some(frame)) = Frame::decode(&mut buffer) {
        frame
            .encode_into(&mut again)
            .expect("a decoded frame is within the limit");
    }
    assert_eq!(&data[..again.len()], &again[..]);
}
