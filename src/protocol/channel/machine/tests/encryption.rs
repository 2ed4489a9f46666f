use super::super::super::cipher::Randomness;
use super::super::super::settings::{EncryptionAnswer, EncryptionRequest};
use super::*;

const SECRET: &[u8] = b"what only these two may read";

#[test]
fn data_is_encrypted_both_ways_and_the_rest_is_not() {
    let mut line = Line::open();

    line.agent.send(output(SECRET), line.now).unwrap();
    line.agent
        .send(Payload::StdErr(Bytes::from_static(SECRET)), line.now)
        .unwrap();
    line.agent.send(Payload::ExitCode(3), line.now).unwrap();
    line.client.send(output(SECRET), line.now).unwrap();
    line.client.send(Payload::Size(SIZE), line.now).unwrap();
    let messages = line.exchange();

    assert_eq!(
        line.at_client,
        [
            output(SECRET),
            Payload::StdErr(Bytes::from_static(SECRET)),
            Payload::ExitCode(3),
        ]
    );
    assert_eq!(line.at_agent, [output(SECRET), Payload::Size(SIZE)]);
    for message in messages
        .iter()
        .filter(|m| m.message_type != MessageType::Acknowledge)
    {
        let is_size = message.payload_type == PayloadType::Size;
        assert_eq!(message.payload == SIZE.encode(), is_size);
        let is_secret = message.payload_type == PayloadType::Output;
        assert!(!is_secret || message.payload.len() == SECRET.len() + 28);
        assert!(!message.payload.windows(4).any(|window| window == b"only"));
    }
}

#[test]
fn handshake_asks_for_a_key_once_and_data_waits_for_it() {
    let mut line = Line::new();

    line.exchange();

    assert!(matches!(
        line.client.poll_key_request(),
        Some(KeyRequest::Generate { .. })
    ));
    assert_eq!(line.client.poll_key_request(), None);
    assert_eq!(
        line.agent.send(output(b"x"), line.now),
        Err(SendError::NotOpen)
    );
    let early = stream(MessageType::OutputStreamData, 1, PayloadType::Output, b"x");
    let refused = line.client.handle_message(early, line.now);
    assert_eq!(refused, Err(ChannelError::Unencrypted));
}

#[test]
fn nobody_opens_before_the_challenge_was_answered() {
    let mut line = Line::new();
    line.exchange();
    line.client.poll_key_request().unwrap();
    line.client.provide_key(Ok(key(1)), line.now);
    line.exchange();
    line.agent.poll_key_request().unwrap();
    line.agent.provide_key(Ok(key(2)), line.now);

    line.exchange();

    let Some(Event::HandshakeFailed(text)) = line.client.poll_event() else {
        panic!("keys differ");
    };
    assert!(text.contains("cannot be decrypted"), "{text}");
    assert_eq!(line.agent.poll_event(), None);
    line.now += Duration::from_secs(15);
    line.agent.handle_timeout(line.now);
    let text = "Timed out waiting for encryption challenge.";
    assert_eq!(
        line.agent.poll_event(),
        Some(Event::HandshakeFailed(text.into()))
    );
}

#[test]
fn key_that_nobody_waits_for_changes_nothing() {
    let mut line = Line::open();

    line.agent.provide_key(Ok(key(9)), line.now);
    line.client.provide_key(Err("late".into()), line.now);
    line.agent.send(output(SECRET), line.now).unwrap();
    line.exchange();

    assert_eq!(line.at_client, [output(SECRET)]);
}

#[test]
fn forged_message_is_neither_taken_nor_does_it_take_the_place_of_the_true_one() {
    for forged in [&b"plain text"[..], &[7; 60], b""] {
        let mut line = Line::open();
        line.agent.send(output(SECRET), line.now).unwrap();
        let number = 3;

        let forged = stream(
            MessageType::OutputStreamData,
            number,
            PayloadType::Output,
            forged,
        );
        let refused = line.client.handle_message(forged, line.now);

        assert!(matches!(refused, Err(ChannelError::Encrypted(_))));
        line.exchange();
        assert_eq!(line.at_client, [output(SECRET)]);
    }
}

#[test]
fn data_in_clear_that_came_ahead_of_the_handshake_is_not_taken_for_data() {
    let mut line = Line::new();
    let planted = stream(
        MessageType::OutputStreamData,
        1,
        PayloadType::Output,
        b"planted",
    );
    line.client.handle_message(planted, line.now).unwrap();
    let planted = stream(
        MessageType::InputStreamData,
        2,
        PayloadType::Output,
        b"planted",
    );
    let refused = line.agent.handle_message(planted, line.now);

    assert_eq!(refused, Err(ChannelError::Unencrypted));
    line.exchange();
    line.client.poll_key_request().unwrap();
    line.client.provide_key(Ok(key(1)), line.now);
    line.exchange();
    assert_eq!(line.client.poll_event(), None, "it is no shell in clear");
    assert!(line.at_client.is_empty());
}

#[test]
fn client_that_cannot_encrypt_is_refused_with_its_reason() {
    let now = Instant::now();
    let mut line = Line::new();
    line.client = Channel::new(Settings::client(session(), clock(now), 2), now);
    line.client.handle_connected(now);

    line.exchange();

    let text = "KMSEncryption failed on client with status 2 error: Failed to process action KMSEncryption: this client does not support encryption with KMS";
    assert_eq!(
        line.agent.poll_event(),
        Some(Event::HandshakeFailed(text.into()))
    );
}

#[test]
fn probe_toward_the_official_plugin_is_encrypted_too() {
    let mut line = Line::open();
    line.agent.send(output(SECRET), line.now).unwrap();
    line.exchange();
    line.agent.send(output(SECRET), line.now).unwrap();
    let mut sent = Vec::new();

    // Nothing is acknowledged any more.
    for _ in 0..100 {
        line.now = line.agent.poll_timeout().unwrap_or(line.now);
        line.agent.handle_timeout(line.now);
        while let Some(raw) = line.agent.poll_transmit(line.now) {
            sent.push(Message::decode(&raw).unwrap());
        }
    }

    let newest = sent.iter().max_by_key(|m| m.sequence_number).unwrap();
    assert_eq!(newest.payload.len(), 28, "an empty output, encrypted");
    assert!(sent.iter().all(|m| m.payload.len() >= 28));
}

/// Two channels on a perfect line.
struct Line {
    agent: Channel,
    client: Channel,
    now: Instant,
    at_agent: Vec<Payload>,
    at_client: Vec<Payload>,
}

impl Line {
    fn new() -> Self {
        let now = Instant::now();
        let handshake = HandshakeRole::Request {
            session_type: "Standard_Stream".into(),
            properties: Value::Null,
            encryption: Some(EncryptionRequest {
                kms_key_id: "alias/k".into(),
                target_id: "mi-1".into(),
                requires_challenge: true,
                randomness: Randomness::new(&[7; Randomness::SIZE]),
            }),
        };
        let mut agent = Channel::new(Settings::agent(session(), handshake, clock(now), 1), now);
        let mut settings = Settings::client(session(), clock(now), 2);
        settings.handshake = HandshakeRole::Answer {
            encryption: Ok(EncryptionAnswer {
                target_id: "mi-1".into(),
                randomness: Randomness::new(&[8; Randomness::SIZE]),
            }),
        };
        let mut client = Channel::new(settings, now);
        agent.handle_connected(now);
        client.handle_connected(now);
        Self {
            agent,
            client,
            now,
            at_agent: Vec::new(),
            at_client: Vec::new(),
        }
    }

    /// After a handshake with one key.
    fn open() -> Self {
        let mut line = Self::new();
        line.exchange();
        line.client.poll_key_request().unwrap();
        line.client.provide_key(Ok(key(1)), line.now);
        line.exchange();
        line.agent.poll_key_request().unwrap();
        line.agent.provide_key(Ok(key(1)), line.now);
        line.exchange();
        for end in [&mut line.agent, &mut line.client] {
            assert!(matches!(end.poll_event(), Some(Event::Open { .. })));
        }
        line
    }

    /// Passes messages until there are no more; returns them.
    fn exchange(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let before = messages.len();
            pass(&mut self.agent, &mut self.client, self.now, &mut messages);
            pass(&mut self.client, &mut self.agent, self.now, &mut messages);
            self.at_agent.extend(self.agent.poll_delivery(self.now));
            self.at_client.extend(self.client.poll_delivery(self.now));
            if messages.len() == before {
                return messages;
            }
        }
    }
}

fn pass(from: &mut Channel, to: &mut Channel, now: Instant, passed: &mut Vec<Message>) {
    while let Some(raw) = from.poll_transmit(now) {
        passed.push(Message::decode_verified(&raw).unwrap());
        to.handle_message(raw, now).unwrap();
    }
}

fn clock(now: Instant) -> Clock {
    Clock {
        instant: now,
        unix_ms: 1_700_000_000_000,
    }
}

fn key(seed: u8) -> DataKey {
    DataKey::new(&[seed; 64], Bytes::from_static(b"encrypted")).unwrap()
}
