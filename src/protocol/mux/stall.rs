//! Which stream stops the others.
//!
//! While there is no room nothing more is taken from the peer, whatever stream it is for. Reading
//! makes room again. If for the whole of a timeout it does not, the streams that were not read in
//! that time are what stops the others, and the one with the most unread bytes is given up. A stream
//! that is slow is left alone: each piece that is read of it starts its time again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::event::ResetReason;
use super::stream::{Stream, StreamId};

/// How long there has been no room, and how long that may last.
#[derive(Debug)]
pub(super) struct Stall {
    timeout: Duration,
    lone_timeout: Duration,
    /// Since when there is no room.
    since: Option<Instant>,
}

impl Stall {
    pub(super) fn new(timeout: Duration, lone_timeout: Duration) -> Self {
        Self {
            timeout,
            lone_timeout,
            since: None,
        }
    }

    /// There is room.
    pub(super) fn end(&mut self) {
        self.since = None;
    }

    /// There is no room.
    pub(super) fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Another stream is there to be stopped; the others get the full timeout from now on.
    pub(super) fn start_over(&mut self, now: Instant) {
        if let Some(since) = &mut self.since {
            *since = now;
        }
    }

    /// When a stream may have to be given up.
    pub(super) fn poll_timeout(&self, streams: &BTreeMap<StreamId, Stream>) -> Option<Instant> {
        let since = self.since?;
        streams
            .values()
            .filter(|stream| !stream.received.is_empty())
            .map(|stream| stream.drained.max(since) + self.patience(streams.len()))
            .min()
    }

    /// The stream to give up now.
    pub(super) fn victim(
        &self,
        streams: &BTreeMap<StreamId, Stream>,
        now: Instant,
    ) -> Option<(StreamId, ResetReason)> {
        let since = self.since?;
        let patience = self.patience(streams.len());
        streams
            .iter()
            .filter(|(_, stream)| !stream.received.is_empty())
            .filter(|(_, stream)| stream.drained.max(since) + patience <= now)
            .max_by_key(|(_, stream)| stream.received.len())
            .map(|(id, stream)| {
                let reason = ResetReason::Stalled {
                    unread: stream.received.len(),
                    stalled: now.duration_since(stream.drained),
                };
                (*id, reason)
            })
    }

    fn patience(&self, streams: usize) -> Duration {
        if streams > 1 {
            self.timeout
        } else {
            self.lone_timeout
        }
    }
}
