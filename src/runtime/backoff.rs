//! Jittered exponential back-off (contract stub).

use std::time::Duration;

/// Waits between attempts: doubling from `initial`, capped, with full jitter in the upper half.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    attempt: u32,
}

#[expect(clippy::todo, reason = "contract")]
impl Backoff {
    /// From `initial`, doubling, at most `max`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self {
            initial,
            max,
            attempt: 0,
        }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let _ = (self.initial, self.max, self.attempt);
        todo!()
    }

    /// Starts again after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}
