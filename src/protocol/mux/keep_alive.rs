//! When to send a NOP.
//!
//! NOPs are for a peer that gives up whoever is silent. Silence of the peer itself is no reason for
//! either role to end a session, because it says nothing about the peer:
//!
//! - The plugin's development build names a version at which it would send NOPs, and sends none.
//! - A client is not told when the agent's connection to the gateway is cut, nor an agent at once when
//!   the client's is. What was sent during a cut comes after it, as late as it may be.
//!
//! Whether somebody is there is known below, where each data channel has liveness of its own, and by
//! the gateway, which ends a session whose other end does not come back.

use std::time::{Duration, Instant};

use super::settings::KeepAlive;

/// The clock of the keep-alive.
#[derive(Debug)]
pub(super) enum Pulse {
    /// There is none.
    Off,
    /// NOP frames go out.
    On {
        interval: Duration,
        /// When the next one falls due.
        next: Instant,
    },
}

impl Pulse {
    pub(super) fn new(keep_alive: KeepAlive, now: Instant) -> Self {
        match keep_alive {
            KeepAlive::Off => Self::Off,
            KeepAlive::On { interval } => Self::On {
                interval,
                next: now + interval,
            },
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Off => None,
            Self::On { next, .. } => Some(*next),
        }
    }

    /// Whether a NOP is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        match self {
            Self::On { interval, next } if *next <= now => {
                *next = now + *interval;
                true
            }
            Self::Off | Self::On { .. } => false,
        }
    }
}
