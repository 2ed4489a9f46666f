//! One function per decoder: takes any bytes, must not panic, and what it accepts must survive a
//! round trip. Shared by the corpus replay in `main.rs` and the fuzzing programs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use ssm_agent::gateway::api::signature::claimed_key;
use ssm_agent::protocol::mux::frame::{HEADER_LENGTH, Header};
use ssm_agent::protocol::mux::{Event, Role, Session, Settings, StreamId};
use ssm_agent::protocol::wire::command::{CancelCommand, Report, SendCommand};
use ssm_agent::protocol::wire::control::{AgentSessionState, ChannelClosed, StartSession};
use ssm_agent::protocol::wire::handshake::{
    EncryptionChallenge, HandshakeComplete, HandshakeRequest, HandshakeResponse,
    KmsEncryptionResult,
};
use ssm_agent::protocol::wire::job::{CommandId, Job, JobAck, JobReply, JobReplyAck};
use ssm_agent::protocol::wire::local::{Answer, Request};
use ssm_agent::protocol::wire::manifest::Manifest;
use ssm_agent::protocol::wire::mds::{Messages, SendReply};
use ssm_agent::protocol::wire::open_channel::{
    CreateControlChannel, CreateDataChannel, OpenControlChannel, OpenDataChannel,
    decode_token_response, encode_token_response,
};
use ssm_agent::protocol::wire::payload::{Flag, TerminalSize, decode_exit_code};
use ssm_agent::protocol::wire::recording::{Part, Progress};
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
    ("run_command", run_command),
    ("local", local),
    ("mds", mds),
    ("upload", upload),
    ("manifest", manifest),
    ("smux_frame", smux_frame),
    ("smux_session", smux_session),
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
    if let Ok(challenge) = EncryptionChallenge::decode(data)
        && let Ok(encrypted) = challenge.encrypted()
    {
        assert_eq!(EncryptionChallenge::new(&encrypted), challenge);
    }
    if let Ok(result) = serde_json::from_slice::<KmsEncryptionResult>(data) {
        let _ = result.ciphertext();
    }
}

fn mds(data: &[u8]) {
    if let Ok(reply) = SendReply::decode_kept(data) {
        assert_eq!(SendReply::decode_kept(&reply.encode_kept()), Ok(reply));
    }
    if let Ok(messages) = serde_json::from_slice::<Messages>(data) {
        for mail in &messages.messages {
            let _ = (mail.is_complete(), mail.created_ms());
        }
        let again = serde_json::to_vec(&messages).unwrap();
        assert_eq!(
            serde_json::from_slice::<Messages>(&again).unwrap(),
            messages
        );
    }
}

fn local(data: &[u8]) {
    if let Ok(request) = Request::decode(data) {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    if let Ok(answer) = Answer::decode(data) {
        let line = answer.encode();
        assert!(!line.contains(&b'\n'));
        assert_eq!(Answer::decode(&line), Ok(answer));
    }
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
    for bytes in data.as_chunks::<HEADER_LENGTH>().0 {
        if let Ok(header) = Header::decode(*bytes) {
            assert_eq!(header.encode(), *bytes);
        }
    }
}

/// The first byte says who listens and how; the rest is what the peer says. What is said in return
/// must be something that our other end can follow.
fn smux_session(data: &[u8]) {
    let Some((&habits, said)) = data.split_first() else {
        return;
    };
    let role = |is_client| {
        if is_client {
            Role::Client
        } else {
            Role::Server
        }
    };
    let settings = Settings {
        half_close: habits & 2 == 0,
        max_streams: 4,
        receive_budget: 100,
        ..Settings::new(role(habits & 1 == 1))
    };
    let mut now = Instant::now();
    let mut session = Session::new(settings, now);
    let mut other = Session::new(Settings::new(role(habits & 1 == 0)), now);
    let mut open = BTreeSet::new();
    if habits & 1 == 1 {
        open.extend(session.open(now));
    }
    for piece in said.chunks(1 + usize::from(habits >> 4)) {
        if session
            .handle_bytes(Bytes::copy_from_slice(piece), now)
            .is_err()
        {
            return;
        }
        note_events(&mut session, &mut open);
        let unread: usize = open.iter().map(|id| session.unread(*id)).sum();
        assert_eq!(session.held().unread, unread);
        assert!(session.held().streams <= 4);
        if habits & 4 == 0 {
            play(&mut session, &mut open, now);
        }
        if !session.has_room() {
            now += Duration::from_secs(3600);
            session.handle_timeout(now);
            note_events(&mut session, &mut open);
        }
        while let Some(answer) = session.poll_transmit(32 << 10) {
            other.handle_bytes(answer, now).expect("we speak smux");
        }
    }
}

fn run_command(data: &[u8]) {
    if let Ok(job) = Job::decode(data) {
        assert_eq!(Job::decode(&job.encode()), Ok(job.clone()));
        let _ = job.subject();
        if let Ok(command) = CommandId::of_job(&job.job_id) {
            // It is a folder: nothing in it leads elsewhere.
            assert!(!command.as_str().contains(['/', '.', '\0']));
        }
        command_content(&job.content);
    }
    if let Ok(ack) = JobAck::decode(data) {
        assert_eq!(JobAck::decode(&ack.encode()), Ok(ack));
    }
    if let Ok(reply) = JobReply::decode(data) {
        assert_eq!(JobReply::decode(&reply.encode()), Ok(reply.clone()));
        command_content(&reply.content);
    }
    if let Ok(ack) = JobReplyAck::decode(data) {
        assert_eq!(JobReplyAck::decode(&ack.encode()), Ok(ack));
    }
}

/// A request that brings a part of a record: `<path and query>`, header lines, an empty line, the body.
fn upload(data: &[u8]) {
    let head = data.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = data.split_at(head.unwrap_or(data.len()));
    let body = body.get(2..).unwrap_or_default();
    let mut lines = head.split(|&byte| byte == b'\n');
    let Some(Ok(uri)) = lines.next().map(http::Uri::try_from) else {
        return;
    };
    if let Ok(part) = Part::decode(uri.query().unwrap_or_default()) {
        assert_eq!(Part::decode(&part.to_string()), Ok(part));
    }
    if let Some(name) = uri.path().strip_prefix("/v1/recordings/")
        && let Ok(id) = SessionId::new(name)
    {
        // It is a file: nothing in it leads elsewhere.
        assert!(!id.as_str().contains(['/', '\0']) && !id.as_str().starts_with('.'));
    }
    let mut request = http::Request::put(uri);
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        request = request.header(name, value.get(1..).unwrap_or_default().trim_ascii());
    }
    if let Ok(request) = request.body(()) {
        let (parts, ()) = request.into_parts();
        // Noon of 31 January 2026, when the seeds were signed.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_860_800);
        let _ = claimed_key("ssmmessages", &parts, body, now);
    }
    if let Ok(progress) = serde_json::from_slice::<Progress>(body) {
        assert_eq!(
            serde_json::from_slice(&progress.encode()).ok(),
            Some(progress)
        );
    }
}

/// The manifest of a package, asked for the file of several hosts.
fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(manifest) = Manifest::read(text) else {
        return;
    };
    for (platform, version) in [("debian", "12"), ("amazon", "2023.1.2"), ("", "")] {
        if let Ok((name, file)) = manifest.file(platform, version, "x86_64") {
            assert!(text.contains('{') && name.len() <= text.len());
            assert!(file.sha256().is_none_or(|digest| !digest.is_empty()));
            assert!(file.size().is_none_or(|size| size > 0));
        }
    }
}

/// What stands as text within a job or a reply.
fn command_content(text: &str) {
    if let Ok(send) = SendCommand::decode(text) {
        assert_eq!(SendCommand::decode(&send.encode()), Ok(send));
    }
    if let Ok(cancel) = CancelCommand::decode(text) {
        assert_eq!(CancelCommand::decode(&cancel.encode()), Ok(cancel));
    }
    if let Ok(report) = Report::decode(text) {
        assert_eq!(Report::decode(&report.encode()), Ok(report));
    }
}

fn note_events(session: &mut Session, open: &mut BTreeSet<StreamId>) {
    while let Some(event) = session.poll_event() {
        match event {
            Event::Opened(id) => {
                open.insert(id);
            }
            Event::Reset { id, .. } => assert!(open.remove(&id), "{id} was not open"),
            Event::Readable(id) | Event::Writable(id) | Event::PeerFinished { id, .. } => {
                assert!(open.contains(&id), "{id} is not open");
            }
        }
    }
}

/// Says back what came, and gives some streams up.
fn play(session: &mut Session, open: &mut BTreeSet<StreamId>, now: Instant) {
    open.retain(|id| {
        while let Some(mut piece) = session.read(*id, now) {
            match piece.first() {
                Some(b'r') => {
                    session.reset(*id);
                    return false;
                }
                Some(b'f') => session.finish(*id),
                _ => session.write(*id, &mut piece),
            }
        }
        true
    });
}
