//! One smux session, either role.

mod incoming;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use super::decoder::Decoder;
use super::event::{Event, MuxError, OpenError, ResetReason};
use super::frame::MAX_PAYLOAD;
use super::keep_alive::Pulse;
use super::outbox::Outbox;
use super::settings::{Role, Settings};
use super::stall::Stall;
use super::stream::{Incoming, Outgoing, Stream, StreamId};

/// The first id that a client uses; xtaci begins there too.
const FIRST_ID: u32 = 3;
/// Unsent FIN frames of streams that are gone, at which there is no more room: a peer that opens
/// streams which are refused has to take the refusals before it opens more.
const MAX_FAREWELLS: usize = 1024;

/// What a session holds in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Bytes received and not read.
    pub unread: usize,
    /// Bytes taken for sending and not handed out.
    pub queued: usize,
    /// Streams open in either direction.
    pub streams: usize,
    /// Streams in the line of those to be sent from, at most all of them.
    pub turns: usize,
    /// Unsent FIN frames of streams that are gone.
    pub farewells: usize,
}

/// One smux session.
///
/// Bytes of the peer go into `handle_bytes` while `has_room`; bytes for the peer come out of
/// `poll_transmit`. Drain `poll_event` after each call that takes `&mut self`. A stream is forgotten
/// when both directions are finished and all is read and sent, or when it is reset; what is called
/// with its id afterwards does nothing.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    decoder: Decoder,
    streams: BTreeMap<StreamId, Stream>,
    /// The id of the next stream to open; None when all were used.
    next_id: Option<StreamId>,
    /// Bytes received and not read, of all streams.
    unread: usize,
    outbox: Outbox,
    pulse: Pulse,
    stall: Stall,
    /// Streams with something to tell, in turn.
    noticed: VecDeque<StreamId>,
    /// Streams that are gone before their owner knew.
    resets: VecDeque<(StreamId, ResetReason)>,
}

impl Session {
    /// Makes a session without streams.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            decoder: Decoder::new(),
            streams: BTreeMap::new(),
            next_id: Some(StreamId(FIRST_ID)),
            unread: 0,
            outbox: Outbox::default(),
            pulse: Pulse::new(settings.keep_alive, now),
            stall: Stall::new(settings.stall_timeout, settings.lone_stall_timeout),
            noticed: VecDeque::new(),
            resets: VecDeque::new(),
        }
    }

    /// Takes the next piece of the incoming byte stream, cut anywhere.
    ///
    /// # Errors
    /// [`MuxError::Malformed`]: the byte stream cannot be followed any further; end the session.
    pub fn handle_bytes(&mut self, mut bytes: Bytes, now: Instant) -> Result<(), MuxError> {
        let whole = bytes.len();
        while let Some(item) = self.decoder.next(&mut bytes)? {
            self.accept(item, whole, now);
        }
        if self.is_full() {
            self.stall.begin(now);
        }
        Ok(())
    }

    /// Whether to hand in more bytes. While it is false, leave them where they are: that makes the
    /// peer wait.
    pub fn has_room(&self) -> bool {
        !self.is_full() && self.outbox.farewells() < MAX_FAREWELLS
    }

    /// Client: opens a stream. Bytes may be written at once.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&mut self, now: Instant) -> Result<StreamId, OpenError> {
        if self.settings.role != Role::Client {
            return Err(OpenError::NotTheClient);
        }
        let limit = self.settings.max_streams;
        if self.streams.len() >= limit {
            return Err(OpenError::TooMany { limit });
        }
        let id = self.next_id.ok_or(OpenError::OutOfIds)?;
        self.next_id = id.0.checked_add(2).map(StreamId);
        let mut stream = Stream::new(now);
        stream.owes_syn = true;
        self.outbox.take_turn(id, &mut stream);
        self.insert(id, stream, now);
        Ok(id)
    }

    /// Bytes that `write` would take now; 0 if the stream takes none any more. When it was 0 on an
    /// open stream, [`Event::Writable`] follows.
    pub fn send_capacity(&self, id: StreamId) -> usize {
        match self.streams.get(&id) {
            Some(stream) if stream.outgoing == Outgoing::Open => self.capacity(stream),
            Some(_) | None => 0,
        }
    }

    /// Takes bytes for sending off the front of `data`, as many as fit. [`Event::Writable`] follows
    /// if some were left. Bytes for a stream that was finished or is gone are taken and dropped, like
    /// those that were under way when it went.
    pub fn write(&mut self, id: StreamId, data: &mut Bytes) {
        let capacity = self.send_capacity(id);
        match self.streams.get_mut(&id) {
            Some(stream) if stream.outgoing == Outgoing::Open => {
                let piece = data.split_to(data.len().min(capacity));
                if !piece.is_empty() {
                    self.outbox.push(id, stream, piece);
                }
            }
            Some(_) | None => data.clear(),
        }
    }

    /// Writes no more: FIN follows what was written. The peer's direction goes on. A foreign peer may
    /// take it for the end of both and never answer; `reset` forgets the stream when it is of no more
    /// use.
    pub fn finish(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.outgoing == Outgoing::Open
        {
            stream.outgoing = Outgoing::Finishing;
            self.outbox.take_turn(id, stream);
        }
    }

    /// Gives the stream up with all that was not sent and not read. No event follows.
    pub fn reset(&mut self, id: StreamId) {
        let Some(stream) = self.remove(id) else {
            return;
        };
        if stream.owes_syn {
            return;
        }
        if stream.outgoing != Outgoing::Finished {
            self.outbox.push_farewell(id);
        }
        if self.settings.half_close {
            self.outbox.push_farewell(id);
        }
    }

    /// Hands over the next received bytes, at most 32 KiB; None if there are none.
    pub fn read(&mut self, id: StreamId, now: Instant) -> Option<Bytes> {
        let stream = self.streams.get_mut(&id)?;
        let piece = stream.received.pop(MAX_PAYLOAD)?;
        stream.drained = now;
        let is_at_end = stream.received.is_empty() && stream.incoming == Incoming::Finished;
        self.unread -= piece.len();
        if is_at_end {
            notice(&mut self.noticed, id, stream);
        }
        self.note_room();
        Some(piece)
    }

    /// Bytes that `read` has for a stream.
    pub fn unread(&self, id: StreamId) -> usize {
        self.streams
            .get(&id)
            .map_or(0, |stream| stream.received.len())
    }

    /// The next piece of the outgoing byte stream, at most `max` bytes (at least 9 are made of it).
    ///
    /// Bytes are copied once, together with their headers, into payloads; what exceeds a small
    /// payload is handed out as it is.
    pub fn poll_transmit(&mut self, max: usize) -> Option<Bytes> {
        let budget = self.settings.stream_send_budget;
        let Self {
            outbox,
            streams,
            noticed,
            ..
        } = self;
        let mut over = Vec::new();
        let piece = outbox.poll_transmit(max, streams, |id, stream, before| {
            if stream.is_over() {
                over.push(id);
            }
            let crossed = |mark: usize| before >= mark && stream.sending.len() < mark;
            if crossed(budget / 2) || crossed(Settings::SEND_FLOOR) {
                stream.notices.writable = true;
                notice(noticed, id, stream);
            }
        });
        for id in over {
            self.streams.remove(&id);
        }
        piece
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some((id, reason)) = self.resets.pop_front() {
            return Some(Event::Reset { id, reason });
        }
        while let Some(&id) = self.noticed.front() {
            if let Some(stream) = self.streams.get_mut(&id) {
                if let Some(event) = stream.poll_event(id, self.settings.half_close) {
                    return Some(event);
                }
                stream.is_noticed = false;
                if stream.is_over() {
                    self.streams.remove(&id);
                }
            }
            self.noticed.pop_front();
        }
        None
    }

    /// When to call `handle_timeout`, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.pulse.poll_timeout(),
            self.stall.poll_timeout(&self.streams),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what `poll_timeout` asked for.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((id, reason)) = self.stall.victim(&self.streams, now) {
            self.reset(id);
            self.resets.push_back((id, reason));
        }
        if self.pulse.handle_timeout(now) {
            self.outbox.owe_nop();
        }
    }

    /// What is held in memory.
    pub fn held(&self) -> Held {
        Held {
            unread: self.unread,
            queued: self.outbox.queued(),
            streams: self.streams.len(),
            turns: self.outbox.turns(),
            farewells: self.outbox.farewells(),
        }
    }
}

impl Session {
    fn is_full(&self) -> bool {
        self.unread >= self.settings.receive_budget
    }

    /// What a stream may take for sending: its own budget and the session's, and the floor always.
    fn capacity(&self, stream: &Stream) -> usize {
        let queued = stream.sending.len();
        let own = self.settings.stream_send_budget.saturating_sub(queued);
        let shared = (self.settings.send_budget).saturating_sub(self.outbox.queued());
        let floor = Settings::SEND_FLOOR.saturating_sub(queued);
        own.min(shared).max(floor)
    }

    fn insert(&mut self, id: StreamId, stream: Stream, now: Instant) {
        self.streams.insert(id, stream);
        self.stall.start_over(now);
    }

    fn remove(&mut self, id: StreamId) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        self.outbox.forget(id, &stream);
        self.unread -= stream.received.len();
        self.note_room();
        Some(stream)
    }

    /// Ends the clock that runs while there is no room, if there is some.
    fn note_room(&mut self) {
        if !self.is_full() {
            self.stall.end();
        }
    }
}

/// Puts a stream at the end of the line of those with something to tell unless it stands in it.
fn notice(noticed: &mut VecDeque<StreamId>, id: StreamId, stream: &mut Stream) {
    if !std::mem::replace(&mut stream.is_noticed, true) {
        noticed.push_back(id);
    }
}

#[cfg(test)]
mod tests;
