//! The outgoing byte stream: whose turn it is, and where a frame was cut.
//!
//! Streams take turns of one frame each. The byte stream is handed out in payloads without regard to
//! the borders of frames, except that in large payloads a frame ends with its payload: the peer then
//! gets each in one piece.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{Command, HEADER_LENGTH, Header, MAX_PAYLOAD};
use super::stream::{Outgoing, Stream, StreamId};

/// In payloads of at least this size, frames end where the payload ends.
const LARGE: usize = 8 << 10;
/// Less room than this at the end of a large payload is left free, because a frame costs as much as
/// it would carry.
const SCRAP: usize = 1 << 10;

/// What is to be sent, in which order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The streams that owe something, in turn.
    turns: VecDeque<StreamId>,
    /// FIN frames of streams that are gone.
    farewells: VecDeque<StreamId>,
    owes_nop: bool,
    /// The rest of the payload of a frame whose header was handed out.
    rest: Bytes,
    /// Bytes of all streams' queues.
    queued: usize,
}

impl Outbox {
    /// Bytes taken for sending and not handed out.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Streams in the line of those to be sent from.
    pub(super) fn turns(&self) -> usize {
        self.turns.len()
    }

    /// Frames that say good-bye.
    pub(super) fn farewells(&self) -> usize {
        self.farewells.len()
    }

    pub(super) fn owe_nop(&mut self) {
        self.owes_nop = true;
    }

    /// Sends a FIN for a stream that is gone or never was.
    pub(super) fn push_farewell(&mut self, id: StreamId) {
        self.farewells.push_back(id);
    }

    /// Takes bytes for sending.
    pub(super) fn push(&mut self, id: StreamId, stream: &mut Stream, piece: Bytes) {
        let whole = piece.len();
        self.queued += whole;
        stream.sending.push(piece, whole);
        self.take_turn(id, stream);
    }

    /// Puts a stream at the end of the line unless it stands in it.
    pub(super) fn take_turn(&mut self, id: StreamId, stream: &mut Stream) {
        if !std::mem::replace(&mut stream.has_turn, true) {
            self.turns.push_back(id);
        }
    }

    /// A stream is gone with what it had to send, and with its place in the line: while nothing is
    /// handed out, streams that come and go must leave nothing behind.
    pub(super) fn forget(&mut self, id: StreamId, stream: &Stream) {
        self.queued -= stream.sending.len();
        if stream.has_turn {
            self.turns.retain(|&waiting| waiting != id);
        }
    }

    /// The next up to `max` bytes of the byte stream. `sent` is told of every stream that had its
    /// turn and of how much it had to send before that turn.
    pub(super) fn poll_transmit(
        &mut self,
        max: usize,
        streams: &mut BTreeMap<StreamId, Stream>,
        mut sent: impl FnMut(StreamId, &mut Stream, usize),
    ) -> Option<Bytes> {
        let max = max.max(HEADER_LENGTH + 1);
        if self.rest.len() >= max {
            return Some(self.rest.split_to(max));
        }
        let mut out = BytesMut::with_capacity(self.estimate().min(max));
        out.put(std::mem::take(&mut self.rest));
        self.put_bare(&mut out, max);
        while self.rest.is_empty() && room(&out, max) > HEADER_LENGTH {
            let Some(id) = self.turns.pop_front() else {
                break;
            };
            // Every stream in the line is there: `forget` takes out those that are gone.
            let Some(stream) = streams.get_mut(&id) else {
                continue;
            };
            if max >= LARGE && !stream.sending.is_empty() && room(&out, max) < SCRAP {
                self.turns.push_front(id);
                break;
            }
            let before = stream.sending.len();
            self.put_turn(id, stream, &mut out, max);
            stream.has_turn = stream.owes();
            if stream.has_turn {
                self.turns.push_back(id);
            }
            sent(id, stream, before);
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    /// Bytes that a payload may come to.
    fn estimate(&self) -> usize {
        let headers = 3 * self.turns.len() + self.farewells.len() + 1;
        self.rest.len() + self.queued + headers * HEADER_LENGTH
    }

    fn put_bare(&mut self, out: &mut BytesMut, max: usize) {
        if self.owes_nop && room(out, max) >= HEADER_LENGTH {
            self.owes_nop = false;
            put(out, Header::bare(Command::Nop, 0));
        }
        while room(out, max) >= HEADER_LENGTH {
            let Some(id) = self.farewells.pop_front() else {
                break;
            };
            put(out, Header::bare(Command::Fin, id.0));
        }
    }

    /// One turn: SYN, one frame of bytes and FIN, as far as they are owed and fit.
    fn put_turn(&mut self, id: StreamId, stream: &mut Stream, out: &mut BytesMut, max: usize) {
        if stream.owes_syn {
            stream.owes_syn = false;
            put(out, Header::bare(Command::Syn, id.0));
        }
        let space = room(out, max).saturating_sub(HEADER_LENGTH);
        if !stream.sending.is_empty() && space > 0 {
            if max >= LARGE {
                self.put_whole_frame(id, stream, out, space);
            } else {
                self.put_cut_frame(id, stream, out, space);
            }
        }
        let owes_fin = stream.outgoing == Outgoing::Finishing && stream.sending.is_empty();
        if owes_fin && self.rest.is_empty() && room(out, max) >= HEADER_LENGTH {
            stream.outgoing = Outgoing::Finished;
            put(out, Header::bare(Command::Fin, id.0));
        }
    }

    /// A frame that fits, of as many bytes as fit.
    fn put_whole_frame(
        &mut self,
        id: StreamId,
        stream: &mut Stream,
        out: &mut BytesMut,
        space: usize,
    ) {
        let mut length = stream.sending.len().min(MAX_PAYLOAD).min(space);
        self.put_psh(id, length, out);
        while length > 0
            && let Some(piece) = stream.sending.pop(length)
        {
            length -= piece.len();
            out.put(piece);
        }
    }

    /// A frame of bytes that lie together; what does not fit follows in the next payloads.
    fn put_cut_frame(
        &mut self,
        id: StreamId,
        stream: &mut Stream,
        out: &mut BytesMut,
        space: usize,
    ) {
        if let Some(mut piece) = stream.sending.pop(MAX_PAYLOAD) {
            self.put_psh(id, piece.len(), out);
            out.put(piece.split_to(piece.len().min(space)));
            self.rest = piece;
        }
    }

    fn put_psh(&mut self, id: StreamId, length: usize, out: &mut BytesMut) {
        self.queued -= length;
        let header = Header {
            command: Command::Psh,
            length: u16::try_from(length).expect("at most 32768"),
            stream_id: id.0,
        };
        put(out, header);
    }
}

fn room(out: &BytesMut, max: usize) -> usize {
    max - out.len()
}

fn put(out: &mut BytesMut, header: Header) {
    out.put_slice(&header.encode());
}
