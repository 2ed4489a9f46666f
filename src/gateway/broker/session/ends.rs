//! The two ends of a session, as far as the session can see them.

use tokio::time::Instant;

use crate::gateway::broker::link::Cut;

/// The agent's end.
pub(super) enum Agent {
    /// It was told to start and has not been here yet.
    Expected {
        until: Instant,
    },
    Attached,
    /// It was here.
    Away {
        how: Cut,
        until: Instant,
    },
}

/// The client's end.
#[derive(Clone, Copy)]
pub(super) enum Client {
    /// It has not been here yet.
    Expected {
        until: Instant,
    },
    Attached,
    /// It was here.
    Away {
        until: Instant,
    },
}

impl Client {
    /// Until when it is waited for.
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Self::Expected { until } | Self::Away { until } => Some(until),
            Self::Attached => None,
        }
    }
}
