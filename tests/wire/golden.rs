//! Vectors made with the reference's own serialisers, bytes seen on the wire, and JSON seen there.

use std::time::Instant;

use bytes::Bytes;
use serde_json::{Value, json};
use ssm_agent::protocol::mux::frame::{Command, Header};
use ssm_agent::protocol::mux::{Event, Role, Session, Settings};
use ssm_agent::protocol::wire::control::{
    AgentSessionState, ChannelClosed, SessionState, StartSession,
};
use ssm_agent::protocol::wire::handshake::{
    EncryptionChallenge, HandshakeComplete, HandshakeRequest, HandshakeResponse,
    KmsEncryptionRequest, KmsEncryptionResult,
};
use ssm_agent::protocol::wire::message::{FLAG_SYN, FLAGS_SERVICE};
use ssm_agent::protocol::wire::open_channel::{
    OpenControlChannel, OpenDataChannel, decode_token_response, encode_token_response,
};
use ssm_agent::protocol::wire::payload::{Flag, encode_exit_code};
use ssm_agent::protocol::wire::task::{TaskAcknowledge, TaskComplete, TaskStatus};
use ssm_agent::protocol::wire::{
    Acknowledgement, Message, MessageId, MessageType, PayloadType, SessionId, TerminalSize,
};

const CREATED_MS: u64 = 1_700_000_000_000;
const ID: &str = "00112233-4455-4677-8899-aabbccddeeff";

const V1: &str = "000000746f75747075745f73747265616d5f646174612020202020202020202020202020000000010000\
018bcfe56800000000000000000000000000000000018899aabbccddeeff00112233445546772cf24dba\
5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824000000010000000568656c6c6f";
const V2: &str = "00000074696e7075745f73747265616d5f64617461202020202020202020202020202020000000010000\
018bcfe56800000000000000000100000000000000008899aabbccddeeff0011223344554677d53ca1ea\
7dce87c11432052a8550ed2615cf715ca843c89710ed83325b691cba00000003000000157b22636f6c73\
223a38302c22726f7773223a32347d";
const V3: &str = "00000074696e7075745f73747265616d5f64617461202020202020202020202020202020000000010000\
018bcfe56800000000000000000500000000000000008899aabbccddeeff0011223344554677433ebf5b\
c03dffa38536673207a21281612cef5faa9bc7a4d5b9be2fdb12cf1a0000000a0000000400000002";
const V4: &str = "0000007461636b6e6f776c65646765202020202020202020202020202020202020202020000000010000\
018bcfe56800000000000000000000000000000000038776655443322110ffeeddccbbaa49886425d86b\
bfc3d70c545afbcfa613baf26f077dd01ec9b82f57b34cdb15a4844200000000000000b07b2241636b6e\
6f776c65646765644d65737361676554797065223a226f75747075745f73747265616d5f64617461222c\
2241636b6e6f776c65646765644d6573736167654964223a2230303131323233332d343435352d343637\
372d383839392d616162626363646465656666222c2241636b6e6f776c65646765644d65737361676553\
657175656e63654e756d626572223a302c22497353657175656e7469616c4d657373616765223a747275\
657d";
const V5: &str = "0000007473746172745f7075626c69636174696f6e202020202020202020202020202020000000010000\
018bcfe56800000000000000000000000000000000008899aabbccddeeff0011223344554677e3b0c442\
98fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8550000000000000000";
const V6: &str = "000000746f75747075745f73747265616d5f646174612020202020202020202020202020000000010000\
018bcfe56800000000000000000400000000000000008899aabbccddeeff001122334455467775b98d70\
3ed4df6516928d0bc88a131bd33a2887c556c2b9299dd3d4329254f60000000c0000000c455849545f43\
4f44453a2033";

fn message(message_type: MessageType, sequence_number: i64, flags: u64) -> Message {
    Message {
        message_type,
        created_ms: CREATED_MS,
        sequence_number,
        flags,
        id: MessageId::from(uuid::Uuid::parse_str(ID).unwrap()),
        payload_type: PayloadType::None,
        payload: Bytes::new(),
    }
}

#[track_caller]
fn assert_vector(hex: &str, expected: &Message) {
    let bytes = Bytes::from(unhex(hex));

    assert_eq!(expected.encode(), bytes);
    assert_eq!(Message::decode_verified(&bytes).as_ref(), Ok(expected));
}

#[test]
fn output_message_v1_matches() {
    assert_vector(
        V1,
        &Message {
            payload_type: PayloadType::Output,
            payload: Bytes::from_static(b"hello"),
            ..message(MessageType::OutputStreamData, 0, FLAG_SYN)
        },
    );
}

#[test]
fn size_message_v2_matches() {
    assert_vector(
        V2,
        &Message {
            payload_type: PayloadType::Size,
            payload: TerminalSize { cols: 80, rows: 24 }.encode(),
            ..message(MessageType::InputStreamData, 1, 0)
        },
    );
}

#[test]
fn terminate_flag_message_v3_matches() {
    assert_vector(
        V3,
        &Message {
            payload_type: PayloadType::Flag,
            payload: Flag::TerminateSession.encode(),
            ..message(MessageType::InputStreamData, 5, 0)
        },
    );
}

#[test]
fn acknowledgement_v4_matches() {
    let acknowledged = Message::decode(&Bytes::from(unhex(V1))).unwrap();
    let payload = Acknowledgement {
        message_type: acknowledged.message_type,
        message_id: acknowledged.id,
        sequence_number: acknowledged.sequence_number,
    }
    .encode();

    assert_eq!(Acknowledgement::decode_sequence_number(&payload), Ok(0));
    assert_vector(
        V4,
        &Message {
            id: MessageId::from(
                uuid::Uuid::parse_str("ffeeddcc-bbaa-4988-8776-655443322110").unwrap(),
            ),
            payload,
            ..message(MessageType::Acknowledge, 0, FLAGS_SERVICE)
        },
    );
}

#[test]
fn empty_start_publication_v5_matches() {
    assert_vector(V5, &message(MessageType::StartPublication, 0, 0));
}

#[test]
fn exit_code_message_v6_matches() {
    assert_vector(
        V6,
        &Message {
            payload_type: PayloadType::ExitCode,
            payload: encode_exit_code(3),
            ..message(MessageType::OutputStreamData, 4, 0)
        },
    );
}

#[test]
fn message_id_swaps_its_halves() {
    let id = MessageId::from(uuid::Uuid::parse_str(ID).unwrap());

    assert_eq!(
        id.to_wire().to_vec(),
        unhex("8899aabbccddeeff0011223344554677")
    );
    assert_eq!(MessageId::from_wire(id.to_wire()), id);
}

#[test]
fn smux_headers_seen_on_the_wire_match() {
    let psh = |length| Header {
        command: Command::Psh,
        length,
        stream_id: 3,
    };
    let seen = [
        ("0100000003000000", Header::bare(Command::Syn, 3)),
        ("0102050003000000", psh(5)),
        ("01020a0003000000", psh(10)),
        ("0101000003000000", Header::bare(Command::Fin, 3)),
        ("0103000000000000", Header::bare(Command::Nop, 0)),
    ];
    for (hex, header) in seen {
        assert_eq!(header.encode().to_vec(), unhex(hex));
        assert_eq!(Header::decode(header.encode()), Ok(header));
    }
}

#[test]
fn smux_sessions_say_the_bytes_seen_on_the_wire() {
    let now = Instant::now();
    let session = |role| {
        let settings = Settings {
            half_close: false,
            ..Settings::new(role)
        };
        Session::new(settings, now)
    };
    let mut client = session(Role::Client);
    let mut server = session(Role::Server);

    let id = client.open(now).unwrap();
    client.write(id, &mut Bytes::from_static(b"ping1"));
    let request = client.poll_transmit(1024).unwrap();
    server.handle_bytes(request.clone(), now).unwrap();
    let opened = server.poll_event();
    let read = server.read(id, now).unwrap();
    server.write(id, &mut Bytes::from([b"echo:", &read[..]].concat()));
    server.finish(id);
    let answer = server.poll_transmit(1024).unwrap();
    client.handle_bytes(answer.clone(), now).unwrap();
    client.finish(id);
    let farewell = client.poll_transmit(1024).unwrap();

    assert_eq!(opened, Some(Event::Opened(id)));
    assert_eq!(request, unhex("0100000003000000010205000300000070696e6731"));
    assert_eq!(
        answer,
        unhex("01020a00030000006563686f3a70696e67310101000003000000")
    );
    assert_eq!(farewell, unhex("0101000003000000"));
}

#[test]
fn open_messages_have_the_members_seen_on_the_wire() {
    let control = r#"{"Cookie":null,"MessageSchemaVersion":"1.0","RequestId":"r","TokenValue":"t","AgentVersion":"3.3.0.0","PlatformType":"linux"}"#;
    let agent = r#"{"MessageSchemaVersion":"1.0","RequestId":"r","TokenValue":"t","ClientInstanceId":"i-1","ClientId":""}"#;
    let client = r#"{"MessageSchemaVersion":"1.0","RequestId":"r","TokenValue":"t","ClientId":"c","ClientVersion":"1.2.0.0"}"#;

    assert_eq!(
        OpenControlChannel::decode(control.as_bytes())
            .unwrap()
            .encode(),
        control
    );
    let agent_open = OpenDataChannel::decode(agent.as_bytes()).unwrap();
    assert_eq!(agent_open.client_instance_id.as_deref(), Some("i-1"));
    assert_eq!(agent_open.encode(), agent);
    let client_open = OpenDataChannel::decode(client.as_bytes()).unwrap();
    assert_eq!(client_open.client_instance_id, None);
    assert_eq!(client_open.encode(), client);
}

#[test]
fn token_response_is_read_whatever_its_root_and_namespace() {
    let seen = br#"<?xml version="1.0"?><a:Any xmlns:a="urn:x"><a:MessageSchemaVersion>1.0</a:MessageSchemaVersion><a:TokenValue>AAEA&amp;b/+=</a:TokenValue></a:Any>"#;

    assert_eq!(decode_token_response(seen).unwrap(), "AAEA&b/+=");
    let ours = encode_token_response("CreateDataChannelResult", "a<b>&\"c");
    assert_eq!(decode_token_response(ours.as_bytes()).unwrap(), "a<b>&\"c");
}

#[test]
fn start_message_is_read_in_either_case_with_unknown_members() {
    let content = json!({
        "documentName": "SSM-SessionManagerRunShell",
        "documentContent": {"schemaVersion": "1.0", "sessionType": "Standard_Stream", "inputs": {"kmsKeyId": ""},
            "properties": {"linux": {"commands": ""}}},
        "sessionId": "alice-0123456789abcdef0", "DataChannelId": "x", "DataChannelToken": "y",
        "runAsUser": null, "parameters": null,
    });
    let envelope =
        json!({"Content": content.to_string(), "TaskId": "t", "Topic": "any", "SchemaVersion": 1});

    let start = StartSession::decode(envelope.to_string().as_bytes()).unwrap();

    assert_eq!(start.session_id.as_str(), "alice-0123456789abcdef0");
    assert_eq!(start.document_content.session_type, "Standard_Stream");
    assert_eq!(StartSession::decode(&start.encode()).unwrap(), start);
}

#[test]
fn refused_start_message_still_names_its_session() {
    let content = json!({"SessionId": "bob-1", "DocumentContent": {"schemaVersion": 7}});
    let envelope = json!({"Content": content.to_string(), "TaskId": "t"});

    let refused = StartSession::decode(envelope.to_string().as_bytes()).unwrap_err();

    assert_eq!(refused.session_id, Some(SessionId::new("bob-1").unwrap()));
}

#[test]
fn service_messages_have_the_members_seen_on_the_wire() {
    let state = AgentSessionState {
        schema_version: 1,
        session_state: SessionState::Connected,
        session_id: "s".into(),
    };
    assert_eq!(
        state.encode(),
        r#"{"SchemaVersion":1,"SessionState":"Connected","SessionId":"s"}"#
    );

    let closed = r#"{"MessageType":"channel_closed","MessageId":"m","DestinationId":"i","SessionId":"s","SchemaVersion":1,"CreatedDate":"d","Output":""}"#;
    assert_eq!(
        ChannelClosed::decode(closed.as_bytes()).unwrap().encode(),
        closed
    );
}

#[test]
fn task_messages_have_the_members_seen_on_the_wire() {
    let complete = r#"{"SchemaVersion":1,"TaskId":"s","Topic":"agent_task_complete","FinalTaskStatus":"Success","IsRoutingFailure":false,"AwsAccountId":"","InstanceId":"i-1","Output":"","S3Bucket":"","S3UrlSuffix":"","CwlGroup":"","CwlStream":"","RetryNumber":1}"#;
    let acknowledge =
        r#"{"SchemaVersion":1,"MessageId":"m","TaskId":"s","Topic":"agent_task_complete"}"#;

    let made = TaskComplete::new("s", "i-1", TaskStatus::Success, "");

    assert_eq!(made.encode(), complete);
    assert_eq!(TaskComplete::decode(complete.as_bytes()).unwrap(), made);
    assert_eq!(
        TaskAcknowledge::decode(acknowledge.as_bytes())
            .unwrap()
            .encode(),
        acknowledge
    );
}

#[test]
fn handshake_payloads_seen_on_the_wire_survive() {
    let request = r#"{"AgentVersion":"3.3.0.0","RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port","Properties":{"portNumber":"22","type":"LocalPortForwarding","localPortNumber":"0"}}}]}"#;
    let response = r#"{"ClientVersion":"1.2.0.0","ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":1,"ActionResult":null,"Error":""}],"Errors":null}"#;
    let complete = r#"{"HandshakeTimeToComplete":202961716,"CustomerMessage":""}"#;

    assert_json(
        &HandshakeRequest::decode(request.as_bytes())
            .unwrap()
            .encode(),
        request,
    );
    assert_json(
        &HandshakeResponse::decode(response.as_bytes())
            .unwrap()
            .encode(),
        response,
    );
    assert_json(
        &HandshakeComplete::decode(complete.as_bytes())
            .unwrap()
            .encode(),
        complete,
    );
}

#[test]
fn kms_payloads_seen_on_the_wire_survive() {
    let parameters =
        r#"{"KMSKeyId":"arn:aws:kms:us-east-1:1:key/k","Challenge":"AAECAwQFBgcICQoLDA0ODw=="}"#;
    let result = r#"{"KMSCipherTextKey":"AQIDBA==","KMSCipherTextHash":null,"ChallengeAcknowledgement":false}"#;
    // The official plugin's result has no acknowledgement.
    let short = r#"{"KMSCipherTextKey":"AQIDBA==","KMSCipherTextHash":null}"#;

    let read: KmsEncryptionRequest = serde_json::from_str(parameters).unwrap();
    assert_json(&serde_json::to_vec(&read).unwrap(), parameters);
    let read: KmsEncryptionResult = serde_json::from_str(short).unwrap();
    assert_json(&serde_json::to_vec(&read).unwrap(), result);
    assert_eq!(read.ciphertext().unwrap(), [1, 2, 3, 4]);
    assert_eq!(read, KmsEncryptionResult::new(&[1, 2, 3, 4], false));
    let challenge = EncryptionChallenge::new(&[0xff; 3]);
    assert_json(&challenge.encode(), r#"{"Challenge":"////"}"#);
    assert_eq!(challenge.encrypted().unwrap(), [0xff; 3]);
}

#[track_caller]
fn assert_json(got: &[u8], expected: &str) {
    let got: Value = serde_json::from_slice(got).unwrap();
    let expected: Value = serde_json::from_str(expected).unwrap();
    assert_eq!(got, expected);
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
