mod frames;
mod receiving;
mod sending;
mod streams;

use std::time::Duration;

use super::*;
use crate::protocol::mux::frame::{Command, HEADER_LENGTH, Header};

const SECOND: Duration = Duration::from_secs(1);
/// A large payload of a channel between our own ends.
const PAYLOAD: usize = 32 << 10;

/// Two sessions with a byte stream each way between them.
struct Pair {
    client: Session,
    server: Session,
    now: Instant,
}

impl Pair {
    fn new(change: impl Fn(&mut Settings)) -> Self {
        let now = Instant::now();
        let session = |role| {
            let mut settings = Settings::new(role);
            change(&mut settings);
            Session::new(settings, now)
        };
        Self {
            client: session(Role::Client),
            server: session(Role::Server),
            now,
        }
    }

    /// A stream that both know.
    fn stream(&mut self) -> StreamId {
        let id = self.client.open(self.now).unwrap();
        self.exchange();
        assert_eq!(events(&mut self.server), [Event::Opened(id)]);
        id
    }

    /// Carries over what either has to say, as long as the other has room.
    fn exchange(&mut self) {
        carry(&mut self.client, &mut self.server, self.now);
        carry(&mut self.server, &mut self.client, self.now);
    }
}

fn carry(from: &mut Session, to: &mut Session, now: Instant) {
    while to.has_room()
        && let Some(piece) = from.poll_transmit(PAYLOAD)
    {
        to.handle_bytes(piece, now).unwrap();
    }
}

fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

fn write(session: &mut Session, id: StreamId, bytes: impl Into<Bytes>) {
    let mut bytes = bytes.into();
    session.write(id, &mut bytes);
    assert!(bytes.is_empty(), "{} bytes were left", bytes.len());
}

fn read_all(session: &mut Session, id: StreamId, now: Instant) -> Vec<u8> {
    std::iter::from_fn(|| session.read(id, now))
        .flatten()
        .collect()
}

/// All that a session has to say, as headers with their payload.
fn frames(session: &mut Session) -> Vec<(Command, u32, Vec<u8>)> {
    let bytes: Vec<u8> = std::iter::from_fn(|| session.poll_transmit(PAYLOAD))
        .flatten()
        .collect();
    let mut rest = &bytes[..];
    let mut frames = Vec::new();
    while let Some((header, behind)) = rest.split_first_chunk::<HEADER_LENGTH>() {
        let header = Header::decode(*header).unwrap();
        let (payload, behind) = behind.split_at(usize::from(header.length));
        frames.push((header.command, header.stream_id, payload.to_vec()));
        rest = behind;
    }
    assert!(rest.is_empty());
    frames
}

fn bare(command: Command, id: u32) -> Bytes {
    Bytes::copy_from_slice(&Header::bare(command, id).encode())
}

fn psh(id: u32, payload: &[u8]) -> Bytes {
    let header = Header {
        command: Command::Psh,
        length: u16::try_from(payload.len()).unwrap(),
        stream_id: id,
    };
    Bytes::from([&header.encode()[..], payload].concat())
}
