//! How a command stands on one node, for the dispatcher.

use std::time::Duration;

use tokio::time::Instant;

/// Time for the answer to a job, and first wait before it is sent again; doubles.
pub(super) const RESEND_FIRST: Duration = Duration::from_secs(2);
/// Longest wait before a job is sent again.
pub(super) const RESEND_MAX: Duration = Duration::from_secs(30);
/// How many times a node that stays connected is told of a cancellation, within two minutes. One that
/// has not cancelled by then has heard it, and cannot.
const TELLINGS: u32 = 8;

/// An invocation that is not over.
#[derive(Debug)]
pub(super) struct Invocation {
    pub(super) stage: Stage,
    /// Somebody wants it cancelled, and the node may have it.
    pub(super) cancellation: Option<Cancellation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Queued,
    Due {
        wait: Duration,
        /// The next attempt; none before the first and while the node is away.
        next: Option<Instant>,
        is_sent: bool,
    },
    Delivered,
}

/// A cancellation that the node is told of until it reports. Once is not enough: the node may take no
/// job just then, and the reference forgets the cancellation of what it has not begun.
#[derive(Debug)]
pub(super) struct Cancellation {
    left: u32,
    wait: Duration,
    /// When the node is told again.
    pub(super) next: Option<Instant>,
}

impl Cancellation {
    pub(super) fn new() -> Self {
        Self {
            left: TELLINGS,
            wait: RESEND_FIRST,
            next: None,
        }
    }

    /// The node is told now; returns when to tell it again.
    pub(super) fn tell(&mut self, now: Instant) -> Option<Instant> {
        self.left = self.left.saturating_sub(1);
        self.next = (self.left > 0).then(|| now + self.wait);
        self.wait = (self.wait * 2).min(RESEND_MAX);
        self.next
    }
}
