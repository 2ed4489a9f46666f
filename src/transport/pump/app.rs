//! The session's side of the pump: what it sends, what it is told, and when it is gone.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use tracing::debug;

use super::{Incoming, Outgoing};
use crate::protocol::channel::{Channel, Event, SendError};
use crate::protocol::wire::Payload;

/// Messages handled per turn and direction before the others get theirs.
const BATCH: usize = 64;

/// The session's side of the pump.
pub(super) struct App {
    outgoing: mpsc::Receiver<Outgoing>,
    /// Resolves when the session has dropped its receiver; there once it dropped its senders.
    departure: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Taken from the queue, but refused by the channel for now.
    held: Option<Payload>,
    incoming: PollSender<Incoming>,
    /// What the session is told before any further payload.
    notices: VecDeque<Incoming>,
    /// What the session is told after the last payload.
    last_words: Option<Event>,
    life: Life,
}

/// Where the session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Active,
    /// The handshake failed: nothing can be sent any more.
    Refused,
    /// The session asked for the end.
    Closing,
    /// The channel has drained, or has given up.
    Drained(bool),
}

/// What a notice is about, if only the latest one on it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Connection,
    Publication,
    PeerFeatures,
}

impl Subject {
    fn of(notice: &Incoming) -> Option<Self> {
        match notice {
            Incoming::Connected | Incoming::Disconnected { .. } => Some(Self::Connection),
            Incoming::Event(Event::Paused | Event::Resumed) => Some(Self::Publication),
            Incoming::Event(Event::PeerFeatures(_)) => Some(Self::PeerFeatures),
            Incoming::Payload(_) | Incoming::Event(_) => None,
        }
    }
}

impl App {
    pub(super) fn new(
        outgoing: mpsc::Receiver<Outgoing>,
        incoming: mpsc::Sender<Incoming>,
    ) -> Self {
        Self {
            outgoing,
            departure: None,
            held: None,
            incoming: PollSender::new(incoming),
            notices: VecDeque::new(),
            last_words: None,
            life: Life::Active,
        }
    }

    /// Tells the session something before any further payload. A notice takes the place of an unread
    /// one on the same subject, so that a session which does not read cannot pile them up.
    pub(super) fn notify(&mut self, notice: Incoming) {
        if let Some(subject) = Subject::of(&notice) {
            self.notices
                .retain(|unread| Subject::of(unread) != Some(subject));
        }
        self.notices.push_back(notice);
    }

    /// After the session's `Close`: whether the channel drained, once that is decided.
    pub(super) fn drained(&self) -> Option<bool> {
        match self.life {
            Life::Drained(drained) => Some(drained),
            Life::Active | Life::Refused | Life::Closing => None,
        }
    }

    /// Takes the channel's events. Returns whether the peer closed the session.
    pub(super) fn collect_events(&mut self, channel: &mut Channel) -> bool {
        let mut closed_by_peer = false;
        while let Some(event) = channel.poll_event() {
            match event {
                Event::Drained(drained) => self.life = Life::Drained(drained),
                // Payloads that came before it may still wait for room.
                Event::Closed(_) => {
                    closed_by_peer = true;
                    self.last_words = Some(event);
                }
                Event::HandshakeFailed(_) => {
                    if self.life == Life::Active {
                        self.life = Life::Refused;
                    }
                    self.notify(Incoming::Event(event));
                }
                Event::Open { .. } | Event::Paused | Event::Resumed | Event::PeerFeatures(_) => {
                    self.notify(Incoming::Event(event));
                }
            }
        }
        closed_by_peer
    }

    /// Takes what the session sends, as far as the channel has room. Returns whether there may be
    /// more right now.
    pub(super) fn take_outgoing(
        &mut self,
        channel: &mut Channel,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> bool {
        for _ in 0..BATCH {
            if !self.send_held(channel, now) || self.departure.is_some() {
                return false;
            }
            match self.outgoing.poll_recv(cx) {
                Poll::Pending => return false,
                Poll::Ready(Some(Outgoing::Payload(payload))) => self.held = Some(payload),
                Poll::Ready(Some(Outgoing::State(state))) => channel.send_state(state, now),
                Poll::Ready(Some(Outgoing::PresumeNothing)) => channel.presume_nothing(),
                Poll::Ready(Some(Outgoing::Close)) => {
                    if self.drained().is_none() {
                        self.life = Life::Closing;
                    }
                    channel.close(now);
                }
                Poll::Ready(None) => {
                    self.departure = Some(self.watch_receiver());
                    return true;
                }
            }
        }
        true
    }

    /// Hands over what the session has room for. Returns whether there may be more right now.
    pub(super) fn deliver(
        &mut self,
        channel: &mut Channel,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> bool {
        for _ in 0..BATCH {
            if self.poll_deliver(channel, cx, now) != Poll::Ready(true) {
                return false;
            }
        }
        true
    }

    /// Ready if the session dropped its handle without a `Close`.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_closing = match self.life {
            Life::Active | Life::Refused => false,
            Life::Closing | Life::Drained(_) => true,
        };
        match &mut self.departure {
            Some(departure) if !is_closing => departure.as_mut().poll(cx),
            Some(_) | None => Poll::Pending,
        }
    }

    /// Hands over the next thing. False if there is none, or nobody to take it.
    pub(super) fn poll_deliver(
        &mut self,
        channel: &mut Channel,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<bool> {
        // Room first: a payload that was taken from the channel counts as delivered.
        if std::task::ready!(self.incoming.poll_reserve(cx)).is_err() {
            return Poll::Ready(false);
        }
        let Some(next) = self.next_incoming(channel, now) else {
            return Poll::Ready(false);
        };
        // It fails only if the session has dropped its receiver.
        Poll::Ready(self.incoming.send_item(next).is_ok())
    }

    /// Notices, then payloads, then the last words.
    fn next_incoming(&mut self, channel: &mut Channel, now: Instant) -> Option<Incoming> {
        self.notices
            .pop_front()
            .or_else(|| channel.poll_delivery(now).map(Incoming::Payload))
            .or_else(|| self.last_words.take().map(Incoming::Event))
    }

    /// Returns whether nothing is held any more.
    fn send_held(&mut self, channel: &mut Channel, now: Instant) -> bool {
        let Some(payload) = self.held.take() else {
            return true;
        };
        // Only a payload that may come back is worth a copy.
        let copy = (channel.send_capacity() == 0).then(|| payload.clone());
        match channel.send(payload, now) {
            Ok(()) => true,
            Err(SendError::WindowFull) => {
                self.held = copy;
                self.held.is_none()
            }
            Err(SendError::NotOpen) if self.life == Life::Active => {
                self.held = copy;
                self.held.is_none()
            }
            Err(error @ (SendError::NotOpen | SendError::Closed)) => {
                debug!(%error, "a payload was dropped");
                true
            }
        }
    }

    fn watch_receiver(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let sender = self.incoming.get_ref().cloned();
        Box::pin(async move {
            if let Some(sender) = sender {
                sender.closed().await;
            }
        })
    }
}
