//! Whatever we encode decodes to the same value.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use ssm_agent::protocol::mux::frame::{Command, Header};
use ssm_agent::protocol::wire::open_channel::{decode_token_response, encode_token_response};
use ssm_agent::protocol::wire::payload::{Flag, decode_exit_code, encode_exit_code};
use ssm_agent::protocol::wire::session_document::SessionDocument;
use ssm_agent::protocol::wire::task::{TaskComplete, TaskStatus};
use ssm_agent::protocol::wire::{
    Acknowledgement, Message, MessageId, MessageType, Payload, PayloadType, PeerFeatures,
    TerminalSize,
};

fn any_type() -> impl Strategy<Value = MessageType> {
    prop_oneof![
        Just(MessageType::InputStreamData),
        Just(MessageType::OutputStreamData),
        Just(MessageType::Acknowledge),
        Just(MessageType::ChannelClosed),
        Just(MessageType::AgentTaskComplete),
        "[a-z][a-z_]{0,30}x".prop_map(|text| MessageType::Unknown(text.into())),
    ]
}

proptest! {
    #[test]
    fn message_survives(
        message_type in any_type(), created_ms in 1u64.., sequence_number: i64, flags: u64, id: [u8; 16],
        payload_type: u32, payload in proptest::collection::vec(any::<u8>(), 0..4096),
    ) {
        let message = Message {
            message_type, created_ms, sequence_number, flags,
            id: MessageId::from_random(id),
            payload_type: PayloadType::from_wire(payload_type),
            payload: Bytes::from(payload),
        };

        prop_assert_eq!(Message::decode_verified(&message.encode()), Ok(message));
    }

    #[test]
    fn changed_payload_is_noticed(payload in proptest::collection::vec(any::<u8>(), 1..64), at: prop::sample::Index) {
        let message = Message {
            message_type: MessageType::OutputStreamData, created_ms: 1, sequence_number: 0, flags: 0,
            id: MessageId::from_random([7; 16]), payload_type: PayloadType::Output, payload: Bytes::from(payload),
        };
        let mut bytes = message.encode().to_vec();
        let length = bytes.len();
        bytes[120 + at.index(length - 120)] ^= 1;

        prop_assert!(Message::decode_verified(&Bytes::from(bytes)).is_err());
    }

    #[test]
    fn acknowledgement_survives(sequence_number: i64, id: [u8; 16]) {
        let encoded = Acknowledgement {
            message_type: MessageType::InputStreamData,
            message_id: MessageId::from_random(id),
            sequence_number,
        }.encode();

        prop_assert_eq!(Acknowledgement::decode_sequence_number(&encoded), Ok(sequence_number));
        prop_assert!(serde_json::from_slice::<Value>(&encoded).is_ok());
    }

    #[test]
    fn stream_payload_survives(cols: u16, rows: u16, code: i32, flag: u32, bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let flag = Flag::decode(&flag.to_be_bytes()).unwrap();
        let payloads = [
            Payload::Size(TerminalSize { cols, rows }), Payload::ExitCode(code), Payload::Flag(flag),
            Payload::Output(Bytes::from(bytes.clone())), Payload::StdErr(Bytes::from(bytes)),
        ];
        for payload in payloads {
            let decoded = Payload::decode(payload.payload_type(), payload.clone().into_bytes());
            prop_assert_eq!(decoded, Ok(Some(payload)));
        }
        prop_assert_eq!(decode_exit_code(&encode_exit_code(code)), Ok(code));
    }

    #[test]
    fn features_survive(max_payload in 1024usize..=32768, exit_code: bool, reacknowledge: bool, empty_output: bool, half_close: bool, recordings: bool, recording_upload: bool) {
        let features = PeerFeatures { max_payload, exit_code, reacknowledge, empty_output, half_close, recordings, recording_upload };

        prop_assert_eq!(PeerFeatures::parse(&features.to_string()), Ok(features));
    }

    #[test]
    fn token_survives(token in "[ -~]{1,200}[!-~]") {
        let token = token.trim().to_owned();
        let encoded = encode_token_response("CreateControlChannelResult", &token);

        prop_assert_eq!(decode_token_response(encoded.as_bytes()), Ok(token));
    }

    #[test]
    fn smux_headers_survive(stream_id: u32, length: u16) {
        let header = Header { command: Command::Psh, length, stream_id };

        prop_assert_eq!(Header::decode(header.encode()), Ok(header));
    }

    #[test]
    fn task_output_is_cut_and_survives(output in "\\PC{0,3000}", code: Option<i32>) {
        let mut complete = TaskComplete::new("s", "n", TaskStatus::Failed, &output);
        complete.exit_code = code;

        prop_assert!(complete.output.chars().count() <= 2500);
        prop_assert_eq!(TaskComplete::decode(&complete.encode()), Ok(complete));
    }

    #[test]
    fn substituted_value_is_never_scanned_again(value in "[{} a-z$]{0,40}") {
        let document: SessionDocument = serde_json::from_value(json!({
            "schemaVersion": "1.0", "sessionType": "InteractiveCommands",
            "parameters": {"a": {"type": "String"}, "b": {"type": "String", "default": "B"}},
            "properties": {"whole": "{{ a }}", "part": "<{{a}}|{{ b }}>"},
        })).unwrap();
        let values = Map::from_iter([("a".to_owned(), Value::String(value.clone()))]);

        let resolved = document.resolve(&values).unwrap();

        prop_assert_eq!(&resolved.properties["whole"], &Value::String(value.clone()));
        prop_assert_eq!(&resolved.properties["part"], &Value::String(format!("<{value}|B>")));
    }
}

#[test]
fn list_parameter_keeps_its_json_type() {
    let document: SessionDocument = serde_json::from_value(json!({
        "schemaVersion": "1.0", "sessionType": "Port",
        "parameters": {"ports": {"type": "StringList", "minItems": 1, "allowedPattern": "^[0-9]+$"}},
        "properties": {"ports": "{{ ports }}", "text": "x{{ports}}"},
    }))
    .unwrap();
    let values = |items: Value| Map::from_iter([("ports".to_owned(), items)]);

    let resolved = document.resolve(&values(json!(["22"]))).unwrap();

    assert_eq!(resolved.properties["ports"], json!(["22"]));
    assert_eq!(resolved.properties["text"], json!("x[\"22\"]"));
    assert!(document.resolve(&values(json!(["22", "x"]))).is_err());
    assert!(document.resolve(&values(json!([]))).is_err());
    assert!(document.resolve(&values(json!("22"))).is_err());
    assert!(document.resolve(&Map::new()).is_err());
}
