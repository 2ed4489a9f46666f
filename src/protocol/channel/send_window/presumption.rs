//! Peers that do not acknowledge repeats.
//!
//! The official plugin acknowledges a message when it takes or stores it, and answers every repeat
//! with silence. If that one acknowledgement is lost, with a cut connection or in a relay, the
//! message would be sent for ever and the window would fill with such messages. But on one
//! connection messages arrive in order: when a message was sent, and one that was first sent later
//! was acknowledged (a *round*), the plugin has seen the former, and had it been new, it would have
//! been acknowledged, be it as the next one or as one that came too early.
//!
//! There are reasons for silence other than a repeat, so one round is not enough: the plugin's
//! session may not be ready (then the expected message is refused, but later ones are stored and
//! acknowledged), and a relay whose client is away may have dropped the message. So rounds count
//! only once the session was seen to be ready, and a message is presumed delivered after
//! [`ROUNDS`] of them. Others that went through [`FOLLOWER_ROUNDS`] meanwhile go with it; they need
//! not be sent as often, because the same silence explains them.
//!
//! On an idle line nothing is sent later. Then an empty output message goes out as a probe. The
//! official plugin takes it like any output and does nothing with it: a shell prints the empty
//! string (`DisplayMessage`), port kinds write zero bytes to their stream (`WriteStream`). Without a
//! ready session it is refused, or stored if it came early, and lost afterwards at no loss. (Checked
//! in the plugin's `datachannel/streaming.go`, `HandleOutputMessage` and
//! `ProcessIncomingMessageBufferItems`.)
//!
//! Kinds whose session refuses output again after it was ready must do without presumption: basic
//! port forwarding, which does so between two local connections. The flag by which the plugin tells
//! of it can be seconds late, because the plugin resends one message at a time.

use std::time::Duration;

use super::{Flight, Kind, Outstanding, SendWindow, is_solo};

/// Rounds after which the oldest message is presumed delivered. A relay that drops messages makes
/// one false round each time its client goes away and comes back; sixteen in a row do not happen.
const ROUNDS: u8 = 16;
/// Rounds that a younger message needs when the oldest is presumed delivered.
const FOLLOWER_ROUNDS: u8 = 3;
/// Shortest time between two rounds: all of them take at least 0.8 s.
const ROUND_INTERVAL: Duration = Duration::from_millis(50);
/// Probes without any acknowledgement, of whatever message: nobody is there.
const UNANSWERED_PROBES: u8 = 4;

/// What is known of the peer's habits.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// It answers repeats with silence.
    is_mute: bool,
    /// The owner allows presumption.
    is_presumption_allowed: bool,
    /// Its session was seen to take messages.
    pub(super) is_ready: bool,
    /// The last message that has to be taken before the next one arrives, if not acknowledged.
    pub(super) solo: Option<i64>,
    pub(super) wants_probe: bool,
    unanswered_probes: u8,
}

impl Listener {
    /// Anything was acknowledged.
    pub(super) fn answered(&mut self) {
        self.unanswered_probes = 0;
    }

    /// A message went out for the first time, which is what a probe would be for.
    pub(super) fn sent_first(&mut self, kind: Kind) {
        self.wants_probe = false;
        if kind == Kind::Probe {
            self.unanswered_probes = self.unanswered_probes.saturating_add(1);
        }
    }
}

impl SendWindow {
    /// Sets whether the peer leaves repeats unacknowledged, and whether presumption is allowed.
    pub(in super::super) fn set_listener(&mut self, is_mute: bool, is_presumption_allowed: bool) {
        if (self.listener.is_mute, self.listener.is_presumption_allowed)
            == (is_mute, is_presumption_allowed)
        {
            return;
        }
        self.listener.is_mute = is_mute;
        self.listener.is_presumption_allowed = is_presumption_allowed;
        self.listener.wants_probe = false;
        let parked: Vec<_> = (self.base..)
            .zip(&self.outstanding)
            .filter(|(_, message)| is_parked(message.as_ref()))
            .map(|(sequence_number, _)| sequence_number)
            .collect();
        for sequence_number in parked {
            self.schedule(sequence_number);
        }
    }

    /// The peer sent what the official plugin only sends once its session is there. Other clients
    /// may send it earlier, so it proves nothing about a single message.
    pub(in super::super) fn note_ready(&mut self) {
        self.listener.is_ready = true;
    }

    /// The peer answered the message that had to be taken alone, so it has taken it.
    pub(in super::super) fn note_solo_taken(&mut self) {
        if let Some(sequence_number) = self.listener.solo {
            self.remove(sequence_number);
            self.settle();
        }
    }

    /// The oldest message was acknowledged. It was the next one for the peer, so if it was output,
    /// a session took it.
    pub(super) fn note_in_order(&mut self, kind: Kind) {
        match kind {
            Kind::Output | Kind::Probe => self.listener.is_ready = true,
            Kind::HandshakeRequest | Kind::Handshake | Kind::Other => {}
        }
    }

    /// Whether new messages have to wait until the peer has taken the last one.
    pub(super) fn awaits_solo(&self) -> bool {
        self.listener.is_mute && !self.listener.is_ready && self.listener.solo.is_some()
    }

    /// Notes that a message in flight was passed.
    pub(super) fn pass(&mut self, sequence_number: i64) {
        let is_oldest = sequence_number == self.base;
        let Some(message) = self.get(sequence_number) else {
            return;
        };
        if !self.is_suspicious(sequence_number, message.kind) {
            self.schedule(sequence_number);
            return;
        }
        let rounds = message.rounds.saturating_add(1);
        if let Some(message) = self.get_mut(sequence_number) {
            message.rounds = rounds;
            message.flight = Flight::Parked;
        }
        if is_oldest || rounds < FOLLOWER_ROUNDS {
            self.schedule(sequence_number);
        }
    }

    /// Lets go of the oldest message and its followers if it went through enough rounds.
    pub(super) fn presume_delivered(&mut self) {
        let is_due = self
            .get(self.base)
            .is_some_and(|oldest| oldest.rounds >= ROUNDS);
        if !is_due {
            return;
        }
        let delivered: Vec<_> = (self.base..)
            .zip(&self.outstanding)
            .filter(|(_, message)| {
                message
                    .as_ref()
                    .is_some_and(|message| message.rounds >= FOLLOWER_ROUNDS)
            })
            .map(|(sequence_number, _)| sequence_number)
            .collect();
        for sequence_number in delivered {
            self.remove(sequence_number);
        }
    }

    /// The oldest message takes part in rounds until they are enough.
    pub(super) fn unpark_oldest(&mut self) {
        let oldest = self.outstanding.front().and_then(Option::as_ref);
        if is_parked(oldest) {
            self.schedule(self.base);
        }
    }

    /// A message that a ready peer passed over in silence is repeated as fast as it answers: the
    /// number of repeats is bounded. `None` for others, which back off.
    pub(super) fn suspect_interval(
        &self,
        sequence_number: i64,
        message: &Outstanding,
    ) -> Option<Duration> {
        let is_suspect = message.rounds > 0
            && self.listener.is_ready
            && self.is_suspicious(sequence_number, message.kind);
        is_suspect.then(|| self.round_trip.answer_time(ROUND_INTERVAL))
    }

    /// After messages were repeated: asks for a probe if silence about the oldest would mean something.
    pub(super) fn consider_probe(&mut self) {
        let Some(oldest) = self.get(self.base) else {
            return;
        };
        // A plugin that has taken the request refuses a probe until the handshake is over, and what
        // comes behind the probe, the end of the handshake, would wait for it.
        if oldest.kind != Kind::HandshakeRequest
            && self.is_suspicious(self.base, oldest.kind)
            && self.listener.unanswered_probes < UNANSWERED_PROBES
        {
            self.listener.wants_probe = true;
        }
    }

    /// Whether silence about this message suggests that it was delivered. The first message and
    /// those of the handshake are always taken when their turn comes, ready or not.
    fn is_suspicious(&self, sequence_number: i64, kind: Kind) -> bool {
        let listener = &self.listener;
        let is_taken_when_seen = is_solo(sequence_number, kind)
            || (listener.is_presumption_allowed && listener.is_ready);
        listener.is_mute && is_taken_when_seen
    }
}

fn is_parked(message: Option<&Outstanding>) -> bool {
    message.is_some_and(|message| message.flight == Flight::Parked)
}
