//! When a message goes out again.
//!
//! The connection is TCP, so within one connection nothing is lost by the network; messages and
//! acknowledgements are lost when a connection is cut, when a relay has nobody to pass them to, and
//! when the peer refuses a message because it has no room or is not ready. So a message that was
//! sent a retransmission timeout ago goes out again when either
//!
//! - something first sent after it on the same connection was acknowledged (it was *passed*), or
//! - nothing at all was acknowledged for a timeout. Then a burst goes out of those sent longest ago.
//!   If it is answered, twice as many follow, and so on, unless the answers turn out to be for the
//!   originals: the peer was only slow, and repeating a whole window would slow it further.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Flight, Outstanding, SendWindow};

/// Bytes sent again when nothing was acknowledged for a timeout: what a socket takes at once.
const FIRST_BURST: usize = 64 << 10;
/// After an answered burst, how long at least to wait for a sign that the originals arrive.
const RECOVERY_PAUSE: Duration = Duration::from_millis(20);

/// Unanswered bursts after which an idle line is probed.
const BURSTS_BEFORE_PROBE: u32 = 2;

/// How the peer as a whole is answering.
#[derive(Debug)]
pub(super) struct Pace {
    /// Last acknowledgement or burst.
    quiet_since: Instant,
    /// Bursts since the last acknowledgement.
    unanswered: u32,
    /// Size of the last burst, until an original is acknowledged.
    burst: Option<usize>,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            quiet_since: now,
            unanswered: 0,
            burst: None,
        }
    }

    pub(super) fn progress(&mut self, now: Instant) {
        self.quiet_since = now;
        self.unanswered = 0;
    }

    /// A message that was sent only once was acknowledged, so others under way may be as well.
    pub(super) fn originals_arrive(&mut self) {
        self.burst = None;
    }

    fn next_burst(&mut self, now: Instant) -> usize {
        let burst = match self.burst {
            Some(burst) if self.unanswered == 0 => burst.saturating_mul(2),
            Some(_) | None => FIRST_BURST,
        };
        self.quiet_since = now;
        self.unanswered += 1;
        self.burst = Some(burst);
        burst
    }
}

impl SendWindow {
    /// When `handle_timeout` has something to do.
    pub(in super::super) fn poll_timeout(&self) -> Option<Instant> {
        let passed = self.passed.first().map(|&(resend, _)| resend);
        [passed, self.quiet_deadline()].into_iter().flatten().min()
    }

    /// Makes due what is overdue.
    pub(in super::super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(resend, sequence_number)) = self.passed.first()
            && resend <= now
        {
            self.passed.pop_first();
            self.make_due(sequence_number);
        }
        if self
            .quiet_deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.make_burst_due(now);
            self.settle();
        }
    }

    /// When silence has lasted too long for the message sent longest ago. While messages wait for
    /// the socket, silence means nothing.
    fn quiet_deadline(&self) -> Option<Instant> {
        if !self.due.is_empty() {
            return None;
        }
        let &(_, sequence_number) = self.flights.front()?;
        let sent_at = self.get(sequence_number)?.sent_at;
        let wait = match self.pace {
            Pace {
                burst: Some(_),
                unanswered: 0,
                ..
            } => self.round_trip.answer_time(RECOVERY_PAUSE),
            Pace { unanswered, .. } => self.round_trip.backed_off(unanswered),
        };
        Some((sent_at + self.round_trip.timeout()).max(self.pace.quiet_since + wait))
    }

    /// Makes a burst due of what was sent longest ago. The next burst goes on from there, or messages
    /// that a mute peer never answers would keep the others from their turn.
    fn make_burst_due(&mut self, now: Instant) {
        let mut room = self.pace.next_burst(now);
        let timeout = self.round_trip.timeout();
        while room > 0
            && let Some(&(transmission, sequence_number)) = self.flights.front()
        {
            if self.is_sent(transmission, sequence_number) {
                let Some(message) = self.get(sequence_number) else {
                    break;
                };
                if message.sent_at + timeout > now {
                    break;
                }
                room = room.saturating_sub(message.encoded.len());
                self.make_due(sequence_number);
            }
            self.flights.pop_front();
        }
        if self.pace.unanswered >= BURSTS_BEFORE_PROBE {
            self.consider_probe();
        }
    }

    fn make_due(&mut self, sequence_number: i64) {
        if let Some(message) = self.get_mut(sequence_number) {
            message.flight = Flight::Due;
            self.due.insert(sequence_number);
        }
    }

    /// Sends a message that is due, as it was.
    pub(super) fn send_again(&mut self, sequence_number: i64, now: Instant) -> Bytes {
        let transmission = self.next_transmission(sequence_number);
        let Some(message) = self.get_mut(sequence_number) else {
            debug_assert!(
                false,
                "message {sequence_number} is due but not outstanding"
            );
            return Bytes::new();
        };
        message.flight = Flight::Sent;
        message.transmission = transmission;
        message.sent_at = now;
        message.sends = message.sends.saturating_add(1);
        message.ambiguous = true;
        let encoded = message.encoded.clone();
        let is_suspect = message.rounds > 0;
        if is_suspect && sequence_number == self.base {
            self.consider_probe();
        }
        encoded
    }

    /// Everything sent before `transmission` and not since then was passed.
    pub(super) fn pass_before(&mut self, transmission: u64) {
        while let Some(&(earlier, sequence_number)) = self.flights.front()
            && earlier < transmission
        {
            self.flights.pop_front();
            if self.is_sent(earlier, sequence_number) {
                self.pass(sequence_number);
            }
        }
        self.presume_delivered();
    }

    /// Schedules the next transmission of a message that was passed.
    pub(super) fn schedule(&mut self, sequence_number: i64) {
        let Some(message) = self.get(sequence_number) else {
            return;
        };
        let resend = message.sent_at + self.resend_interval(sequence_number, message);
        if let Some(message) = self.get_mut(sequence_number) {
            message.flight = Flight::Passed { resend };
            self.passed.insert((resend, sequence_number));
        }
    }

    fn resend_interval(&self, sequence_number: i64, message: &Outstanding) -> Duration {
        self.suspect_interval(sequence_number, message)
            .unwrap_or_else(|| self.round_trip.backed_off(message.sends.saturating_sub(1)))
    }
}
