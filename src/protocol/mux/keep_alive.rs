//! When to send a NOP, and when the peer is gone.

use std::time::{Duration, Instant};

use super::settings::KeepAlive;

/// The clocks of the keep-alive.
#[derive(Debug)]
pub(super) enum Pulse {
    /// There is none.
    Off,
    /// NOP frames go out and something is expected to come.
    On {
        interval: Duration,
        timeout: Duration,
        /// When the next NOP falls due.
        next: Instant,
        /// When anything came last, or when it could not because there was no room.
        heard: Instant,
    },
}

/// What became due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Nop,
    /// The peer was silent for this long.
    Silent(Duration),
}

impl Pulse {
    pub(super) fn new(keep_alive: KeepAlive, now: Instant) -> Self {
        match keep_alive {
            KeepAlive::Off => Self::Off,
            KeepAlive::On { interval, timeout } => Self::On {
                interval,
                timeout,
                next: now + interval,
                heard: now,
            },
        }
    }

    /// Something came from the peer, or nothing could because there was no room for it.
    pub(super) fn hear(&mut self, now: Instant) {
        if let Self::On { heard, .. } = self {
            *heard = now;
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Off => None,
            Self::On {
                timeout,
                next,
                heard,
                ..
            } => Some((*next).min(*heard + *timeout)),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Due {
        let Self::On {
            interval,
            timeout,
            next,
            heard,
        } = self
        else {
            return Due::Nothing;
        };
        if *heard + *timeout <= now {
            return Due::Silent(now.duration_since(*heard));
        }
        if *next > now {
            return Due::Nothing;
        }
        *next = now + *interval;
        Due::Nop
    }
}
