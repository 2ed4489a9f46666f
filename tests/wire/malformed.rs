//! Malformed input is a typed error that names the field and the limit, never a panic.

use bytes::Bytes;
use proptest::prelude::*;
use ssm_agent::protocol::mux::frame::{HEADER_LENGTH, Header};
use ssm_agent::protocol::wire::codec::Limit;
use ssm_agent::protocol::wire::control::{ChannelClosed, StartSession};
use ssm_agent::protocol::wire::open_channel::{OpenDataChannel, decode_token_response};
use ssm_agent::protocol::wire::payload::{Flag, TerminalSize, decode_exit_code};
use ssm_agent::protocol::wire::session_document::SessionDocument;
use ssm_agent::protocol::wire::{
    Acknowledgement, DecodeError, Message, MessageId, MessageType, PayloadType, PeerFeatures,
    SessionId,
};

fn valid() -> Vec<u8> {
    Message {
        message_type: MessageType::OutputStreamData,
        created_ms: 1_700_000_000_000,
        sequence_number: 0,
        flags: 1,
        id: MessageId::from_random([1; 16]),
        payload_type: PayloadType::Output,
        payload: Bytes::from_static(b"hello"),
    }
    .encode()
    .to_vec()
}

fn decode_with(at: usize, bytes: &[u8]) -> Result<Message, DecodeError> {
    let mut message = valid();
    message[at..at + bytes.len()].copy_from_slice(bytes);
    Message::decode(&Bytes::from(message))
}

#[test]
fn every_cut_of_the_header_is_truncated() {
    let whole = valid();
    for length in 0..120 {
        let result = Message::decode(&Bytes::copy_from_slice(&whole[..length]));

        assert!(
            matches!(result, Err(DecodeError::Truncated { .. })),
            "{length}: {result:?}"
        );
    }
}

#[test]
fn header_length_beyond_the_message_is_refused() {
    for length in [0u32, 115, 1025, u32::MAX] {
        assert!(decode_with(0, &length.to_be_bytes()).is_err(), "{length}");
    }
    assert!(matches!(
        decode_with(0, &1000u32.to_be_bytes()),
        Err(DecodeError::Truncated {
            what: "payload length",
            ..
        })
    ));
}

#[test]
fn longer_header_moves_the_payload() {
    let mut message = valid();
    message[0..4].copy_from_slice(&118u32.to_be_bytes());

    let decoded = Message::decode(&Bytes::from(message)).unwrap();

    assert_eq!(decoded.payload, Bytes::from_static(b"llo"));
}

#[test]
fn payload_is_all_that_follows_whatever_its_length_field_says() {
    let decoded = decode_with(116, &9999u32.to_be_bytes()).unwrap();

    assert_eq!(decoded.payload, Bytes::from_static(b"hello"));
}

#[test]
fn empty_type_and_zero_date_are_refused() {
    assert!(matches!(
        decode_with(4, &[b' '; 32]),
        Err(DecodeError::Invalid {
            what: "message type",
            ..
        })
    ));
    assert!(matches!(
        decode_with(4, &[0; 32]),
        Err(DecodeError::Invalid {
            what: "message type",
            ..
        })
    ));
    assert!(matches!(
        decode_with(4, &[0xff; 32]),
        Err(DecodeError::Invalid {
            what: "message type",
            ..
        })
    ));
    assert!(matches!(
        decode_with(40, &[0; 8]),
        Err(DecodeError::Invalid {
            what: "created date",
            ..
        })
    ));
}

#[test]
fn type_padded_with_nuls_is_read() {
    let mut field = [0u8; 32];
    field[..11].copy_from_slice(b"acknowledge");

    assert_eq!(
        decode_with(4, &field).unwrap().message_type,
        MessageType::Acknowledge
    );
}

#[test]
fn payload_above_the_limit_is_refused_with_the_limit() {
    let mut message = valid();
    message.resize(120 + Limit::PAYLOAD + 1, 0);

    assert_eq!(
        Message::decode(&Bytes::from(message)).unwrap_err(),
        DecodeError::TooLarge {
            what: "payload",
            limit: Limit::PAYLOAD,
            got: Limit::PAYLOAD + 1
        }
    );
}

#[test]
fn oversized_json_is_refused_before_it_is_parsed() {
    let large = vec![b' '; Limit::JSON_PAYLOAD + 1];

    assert!(matches!(
        ChannelClosed::decode(&large),
        Err(DecodeError::TooLarge { .. })
    ));
    assert!(matches!(
        OpenDataChannel::decode(&large),
        Err(DecodeError::TooLarge { .. })
    ));
    assert!(matches!(
        decode_token_response(&large),
        Err(DecodeError::TooLarge { .. })
    ));
    assert!(matches!(
        Acknowledgement::decode_sequence_number(&large),
        Err(DecodeError::TooLarge { .. })
    ));
}

#[test]
fn session_ids_that_could_leave_their_folder_are_refused() {
    for text in [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\0b",
        "a b",
        "ä",
        &"x".repeat(201),
    ] {
        assert!(SessionId::new(text).is_err(), "{text:?}");
    }
    for text in ["alice-0123456789abcdef0", "a.b@c=d+e,f_1"] {
        assert!(SessionId::new(text).is_ok(), "{text:?}");
    }
}

#[test]
fn token_response_without_token_is_an_error() {
    for body in [
        "",
        "<a/>",
        "<a><TokenValue/></a>",
        "<a><TokenValue> </TokenValue></a>",
        "<a><Tok",
        "{}",
        "&&&",
    ] {
        assert!(decode_token_response(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn features_outside_the_range_are_brought_into_it() {
    assert_eq!(
        PeerFeatures::parse("max-payload=1, x-new").unwrap(),
        PeerFeatures::default()
    );
    assert_eq!(
        PeerFeatures::parse("max-payload=99999999")
            .unwrap()
            .max_payload,
        32 << 10
    );
    assert!(PeerFeatures::parse("max-payload=-1").is_err());
}

#[test]
fn documents_with_unusable_rules_are_errors() {
    let document = |definition: &str| -> SessionDocument {
        serde_json::from_str(&format!(
            r#"{{"schemaVersion":"1.0","sessionType":"Port","parameters":{{"p":{definition}}}}}"#
        ))
        .unwrap()
    };
    let values = serde_json::from_str(r#"{"p":"v"}"#).unwrap();

    for definition in [
        r#"{"type":"String","allowedPattern":"("}"#,
        r#"{"type":"String","allowedPattern":"^[0-9]$"}"#,
        r#"{"type":"String","allowedValues":["w"]}"#,
        r#"{"type":"String","minChars":2}"#,
        r#"{"type":"Integer"}"#,
        r#"{"type":"String","allowedPattern":"((a{99}){99}){99}"}"#,
    ] {
        assert!(
            document(definition).resolve(&values).is_err(),
            "{definition}"
        );
    }
    let other: SessionDocument =
        serde_json::from_str(r#"{"schemaVersion":"2.2","sessionType":"Port"}"#).unwrap();
    assert!(other.resolve(&values).is_err());
}

#[test]
fn smux_header_of_another_protocol_is_refused() {
    let refused: [(&str, [u8; HEADER_LENGTH]); 5] = [
        ("smux version", [0, 0, 0, 0, 3, 0, 0, 0]),
        ("smux version", [2, 2, 5, 0, 3, 0, 0, 0]),
        ("smux command", [1, 4, 8, 0, 3, 0, 0, 0]),
        (
            "smux length of a frame without payload",
            [1, 0, 1, 0, 3, 0, 0, 0],
        ),
        (
            "smux length of a frame without payload",
            [1, 1, 0, 1, 3, 0, 0, 0],
        ),
    ];
    for (field, header) in refused {
        let error = Header::decode(header).unwrap_err();

        assert!(
            matches!(error, DecodeError::Invalid { what, .. } if what == field),
            "{error}"
        );
    }
}

proptest! {
    #[test]
    fn no_decoder_panics_on_noise(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Message::decode_verified(&Bytes::from(noise.clone()));
        let _ = StartSession::decode(&noise);
        let _ = ChannelClosed::decode(&noise);
        let _ = OpenDataChannel::decode(&noise);
        let _ = decode_token_response(&noise);
        let _ = TerminalSize::decode(&noise);
        let _ = Flag::decode(&noise);
        let _ = decode_exit_code(&noise);
        if let Some(header) = noise.first_chunk::<HEADER_LENGTH>() {
            let _ = Header::decode(*header);
        }
        let _ = PeerFeatures::parse(&String::from_utf8_lossy(&noise));
    }

    #[test]
    fn changed_header_never_panics(at in 0usize..125, value: u8) {
        let mut message = valid();
        message[at] = value;
        let _ = Message::decode_verified(&Bytes::from(message));
    }
}
