//! One stream: what is owed to it and by it.

use std::fmt;
use std::time::Instant;

use super::event::Event;
use super::queue::Queue;

/// Names a stream within its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(super) u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Our direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// The owner may write.
    Open,
    /// The owner writes no more; FIN goes out behind what it wrote.
    Finishing,
    /// FIN went out.
    Finished,
}

/// The peer's direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Incoming {
    /// The peer may write.
    Open,
    /// FIN came; the owner still has to read or to be told.
    Finished,
    /// FIN came, all was read and the owner knows.
    Over,
}

/// What the owner has to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Notices {
    pub(super) opened: bool,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) received: Queue,
    /// When bytes were last read, or when the first of those that lie there came.
    pub(super) drained: Instant,
    pub(super) sending: Queue,
    pub(super) owes_syn: bool,
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
    pub(super) notices: Notices,
    /// Whether it is in the line of those to be told of.
    pub(super) is_noticed: bool,
    /// Whether it is in the line of those to be sent from.
    pub(super) has_turn: bool,
}

impl Stream {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            received: Queue::default(),
            drained: now,
            sending: Queue::default(),
            owes_syn: false,
            outgoing: Outgoing::Open,
            incoming: Incoming::Open,
            notices: Notices::default(),
            is_noticed: false,
            has_turn: false,
        }
    }

    /// Whether anything of it is to be sent.
    pub(super) fn owes(&self) -> bool {
        self.owes_syn || !self.sending.is_empty() || self.outgoing == Outgoing::Finishing
    }

    /// Whether nothing can happen to it any more.
    pub(super) fn is_over(&self) -> bool {
        self.outgoing == Outgoing::Finished && self.incoming == Incoming::Over
    }

    /// The next event of this stream.
    pub(super) fn poll_event(&mut self, id: StreamId, half_close: bool) -> Option<Event> {
        if std::mem::take(&mut self.notices.opened) {
            return Some(Event::Opened(id));
        }
        if std::mem::take(&mut self.notices.readable) && !self.received.is_empty() {
            return Some(Event::Readable(id));
        }
        if self.incoming == Incoming::Finished && self.received.is_empty() {
            self.incoming = Incoming::Over;
            return Some(Event::PeerFinished {
                id,
                may_still_read: half_close,
            });
        }
        if std::mem::take(&mut self.notices.writable) && self.outgoing == Outgoing::Open {
            return Some(Event::Writable(id));
        }
        None
    }
}
