//! How long a session may go on at most, whoever is connected.

use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::broker::traffic::Traffic;
use crate::gateway::store::sessions::SessionLimits;

/// The deadlines of a session as a whole.
pub(super) struct Lifetime {
    limits: SessionLimits,
    active: Instant,
    ends: Option<Instant>,
}

impl Lifetime {
    /// Of a session that is `age` old. It counts as active now: when data last passed before a
    /// restart of the gateway is not known.
    pub(super) fn new(limits: SessionLimits, age: Duration, now: Instant) -> Self {
        Self {
            limits,
            active: now,
            ends: limits.max_duration.map(|max| now + max.saturating_sub(age)),
        }
    }

    /// Takes note of what passed. It is asked for when a deadline comes near only, so that a message
    /// costs no more than a stamp.
    pub(super) fn note(&mut self, traffic: &Traffic) {
        let last = traffic.last(self.limits.activity);
        self.active = last.map_or(self.active, |last| last.max(self.active));
    }

    /// When the session ends, as far as is known now.
    pub(super) fn deadline(&self) -> Instant {
        let idle = self.active + self.limits.idle_timeout;
        self.ends.map_or(idle, |ends| ends.min(idle))
    }

    /// Why the session ends now, for its client; none if it does not.
    pub(super) fn verdict(&self, now: Instant) -> Option<String> {
        if let (Some(ends), Some(max)) = (self.ends, self.limits.max_duration)
            && ends <= now
        {
            let minutes = match max.as_secs() / 60 {
                1 => "1 minute".to_owned(),
                minutes => format!("{minutes} minutes"),
            };
            return Some(format!(
                "Your session reached its maximum duration of {minutes} and has been terminated."
            ));
        }
        let is_idle = self.active + self.limits.idle_timeout <= now;
        // AWS's words, which scripts look for.
        let idle = "Your session timed out due to inactivity and has been terminated.";
        is_idle.then(|| idle.to_owned())
    }
}
