//! What the peer said, frame by frame.
//!
//! | frame | for | answer |
//! |---|---|---|
//! | SYN | a new odd id, at the server | the stream is opened, also if a former stream had that id |
//! | SYN | a stream that is open | ignored, as xtaci does |
//! | SYN | an even id, one stream too many, or at the client | refused with FIN |
//! | PSH | an unknown stream, or one whose peer sent FIN | ignored: it was under way when the stream went |
//! | FIN | an unknown stream | ignored, likewise |
//! | FIN | a stream whose peer sent FIN | our own end gives it up; from xtaci it means nothing |

use std::time::Instant;

use bytes::Bytes;

use super::{Session, notice};
use crate::protocol::mux::decoder::Item;
use crate::protocol::mux::event::ResetReason;
use crate::protocol::mux::settings::Role;
use crate::protocol::mux::stream::{Incoming, Stream, StreamId};

impl Session {
    /// Does what the peer said in a piece of `whole` bytes.
    pub(super) fn accept(&mut self, item: Item, whole: usize, now: Instant) {
        match item {
            Item::Syn(id) => self.accept_syn(id, now),
            Item::Fin(id) => self.accept_fin(id),
            Item::Data(id, piece) => self.accept_data(id, piece, whole, now),
        }
    }

    fn accept_syn(&mut self, id: StreamId, now: Instant) {
        if self.streams.contains_key(&id) {
            return;
        }
        let is_clients = id.0 % 2 == 1;
        let has_place = self.streams.len() < self.settings.max_streams;
        if self.settings.role == Role::Client || !is_clients || !has_place {
            self.refuse(id);
            return;
        }
        let mut stream = Stream::new(now);
        stream.notices.opened = true;
        notice(&mut self.noticed, id, &mut stream);
        self.insert(id, stream, now);
    }

    fn refuse(&mut self, id: StreamId) {
        self.outbox.push_farewell(id);
        if self.settings.half_close {
            self.outbox.push_farewell(id);
        }
    }

    fn accept_fin(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        match stream.incoming {
            Incoming::Open => {
                stream.incoming = Incoming::Finished;
                notice(&mut self.noticed, id, stream);
            }
            Incoming::Finished | Incoming::Over if self.settings.half_close => {
                let is_known = !stream.notices.opened;
                self.remove(id);
                if is_known {
                    self.resets.push_back((id, ResetReason::Peer));
                }
            }
            Incoming::Finished | Incoming::Over => {}
        }
    }

    fn accept_data(&mut self, id: StreamId, piece: Bytes, whole: usize, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.incoming != Incoming::Open {
            return;
        }
        if stream.received.is_empty() {
            stream.drained = now;
            stream.notices.readable = true;
            notice(&mut self.noticed, id, stream);
        }
        self.unread += piece.len();
        stream.received.push(piece, whole);
    }
}
