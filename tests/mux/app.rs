//! What the two ends say to each other over a session.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use ssm_agent::protocol::mux::{Event, Session, StreamId};

/// When a client ends its direction of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// When all is written; the answer comes behind that.
    BeforeReading,
    /// When all was answered, because the peer takes FIN for the end of both directions.
    AfterReading,
}

/// What a client says on a stream: lengths around the borders of payloads and frames, and a lot.
pub fn speech(number: usize) -> Bytes {
    const LENGTHS: [usize; 7] = [1, 7, 1024, 32_768, 65_536, 300_000, 1_000_000];
    let length = LENGTHS[number % LENGTHS.len()] + number;
    (0..length)
        .map(|at| (at * 31 + number + (at >> 8)).to_le_bytes()[0])
        .collect()
}

/// One end's doings on top of a session.
pub trait App {
    /// Reads, writes and finishes what can be.
    fn act(&mut self, session: &mut Session, now: Instant);
    /// Whether it has nothing more to do.
    fn is_over(&self) -> bool;
}

#[derive(Debug)]
struct Talk {
    said: Bytes,
    to_say: Bytes,
    heard: Vec<u8>,
    has_finished: bool,
    is_over: bool,
}

/// A client that says something on each stream and listens to the echo.
pub struct Chat {
    to_open: usize,
    ends: Ends,
    talks: BTreeMap<StreamId, Talk>,
}

impl Chat {
    pub fn new(streams: usize, ends: Ends) -> Self {
        Self {
            to_open: streams,
            ends,
            talks: BTreeMap::new(),
        }
    }

    pub fn check(&self) {
        for talk in self.talks.values() {
            assert_eq!(talk.heard.len(), talk.said.len());
            assert!(talk.heard == talk.said, "other bytes came back");
        }
    }
}

impl App for Chat {
    fn act(&mut self, session: &mut Session, now: Instant) {
        while self.to_open > 0 {
            self.to_open -= 1;
            let said = speech(self.to_open);
            let talk = Talk {
                to_say: said.clone(),
                said,
                heard: Vec::new(),
                has_finished: false,
                is_over: false,
            };
            self.talks.insert(session.open(now).unwrap(), talk);
        }
        for (id, talk) in &mut self.talks {
            session.write(*id, &mut talk.to_say);
            while let Some(piece) = session.read(*id, now) {
                talk.heard.extend_from_slice(&piece);
            }
            let may_finish = match self.ends {
                Ends::BeforeReading => talk.to_say.is_empty(),
                Ends::AfterReading => talk.heard.len() == talk.said.len(),
            };
            if may_finish && !talk.has_finished {
                talk.has_finished = true;
                session.finish(*id);
            }
        }
        while let Some(event) = session.poll_event() {
            match event {
                Event::PeerFinished { id, .. } => {
                    self.talks.get_mut(&id).unwrap().is_over = true;
                }
                Event::Readable(_) | Event::Writable(_) => {}
                Event::Opened(_) | Event::Reset { .. } => panic!("{event:?}"),
            }
        }
    }

    fn is_over(&self) -> bool {
        // A peer that takes FIN for the end of both directions need not answer it.
        self.talks.values().all(|talk| match self.ends {
            Ends::BeforeReading => talk.is_over && talk.has_finished,
            Ends::AfterReading => talk.has_finished,
        })
    }
}

/// A server that says back what it hears, and is over when the connection is.
#[derive(Default)]
pub struct Echo {
    streams: BTreeMap<StreamId, Bytes>,
}

impl App for Echo {
    fn act(&mut self, session: &mut Session, now: Instant) {
        while let Some(event) = session.poll_event() {
            match event {
                Event::Opened(id) => {
                    self.streams.insert(id, Bytes::new());
                }
                Event::PeerFinished { id, .. } => {
                    // What it could not say back yet is on its way before the end.
                    let mut unsaid = self.streams.remove(&id).unwrap();
                    session.write(id, &mut unsaid);
                    assert!(unsaid.is_empty(), "the stream was not drained");
                    session.finish(id);
                }
                Event::Readable(_) | Event::Writable(_) => {}
                Event::Reset { .. } => panic!("{event:?}"),
            }
        }
        for (id, unsaid) in &mut self.streams {
            session.write(*id, unsaid);
            while unsaid.is_empty()
                && let Some(piece) = session.read(*id, now)
            {
                *unsaid = piece;
                session.write(*id, unsaid);
            }
        }
    }

    fn is_over(&self) -> bool {
        false
    }
}
