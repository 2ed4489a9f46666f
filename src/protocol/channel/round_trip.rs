//! The round trip time and the retransmission timeout that follows from it.

use std::time::Duration;

/// Timeout before the first sample; the reference starts with the same.
const INITIAL_TIMEOUT: Duration = Duration::from_millis(200);
/// Shortest timeout. The connection below is TCP, which loses nothing, so haste gains nothing; the
/// reference looks at its timers every 100 ms and resends from 200 ms on.
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
/// Longest timeout, backed off or not: how stale a peer that came back unannounced may be.
const MAX_TIMEOUT: Duration = Duration::from_secs(5);
/// Least room for variation.
const GRANULARITY: Duration = Duration::from_millis(10);

/// Smoothed round trip time as in RFC 6298. Callers follow Karn's rule: a message that was sent
/// more than once gives no sample.
#[derive(Debug)]
pub(super) struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
}

impl RoundTrip {
    pub(super) fn new() -> Self {
        Self {
            smoothed: None,
            variation: Duration::ZERO,
        }
    }

    /// Takes the time between a message that was sent once and its acknowledgement.
    pub(super) fn sample(&mut self, sample: Duration) {
        match self.smoothed {
            None => {
                self.smoothed = Some(sample);
                self.variation = sample / 2;
            }
            Some(smoothed) => {
                self.variation = self.variation * 3 / 4 + smoothed.abs_diff(sample) / 4;
                self.smoothed = Some(smoothed * 7 / 8 + sample / 8);
            }
        }
    }

    /// How long to wait for an acknowledgement.
    pub(super) fn timeout(&self) -> Duration {
        let Some(smoothed) = self.smoothed else {
            return INITIAL_TIMEOUT;
        };
        (smoothed + GRANULARITY.max(self.variation * 4)).clamp(MIN_TIMEOUT, MAX_TIMEOUT)
    }

    /// The timeout after `attempts` that went unanswered: doubled by each.
    pub(super) fn backed_off(&self, attempts: u32) -> Duration {
        let factor = 1u32.checked_shl(attempts).unwrap_or(u32::MAX);
        self.timeout().saturating_mul(factor).min(MAX_TIMEOUT)
    }

    /// Time within which a peer that is known to be listening answers, but at least `floor`.
    pub(super) fn answer_time(&self, floor: Duration) -> Duration {
        let smoothed = self.smoothed.unwrap_or(INITIAL_TIMEOUT);
        (smoothed * 2).max(floor).min(self.timeout())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn timeout_starts_at_200_ms_and_never_falls_below() {
        let mut round_trip = RoundTrip::new();
        assert_eq!(round_trip.timeout(), 200 * MS);

        for _ in 0..100 {
            round_trip.sample(MS);
        }

        assert_eq!(round_trip.timeout(), 200 * MS);
    }

    #[test]
    fn timeout_follows_slow_answers_and_their_variation() {
        let mut round_trip = RoundTrip::new();

        round_trip.sample(400 * MS);
        assert_eq!(round_trip.timeout(), 1200 * MS);
        round_trip.sample(400 * MS);
        assert_eq!(round_trip.timeout(), 1000 * MS);
        for _ in 0..100 {
            round_trip.sample(400 * MS);
        }

        assert!((409..=410).contains(&round_trip.timeout().as_millis()));
    }

    #[test]
    fn timeout_is_capped_even_when_backed_off_for_ever() {
        let mut round_trip = RoundTrip::new();
        assert_eq!(round_trip.backed_off(1), 400 * MS);
        assert_eq!(round_trip.backed_off(1000), MAX_TIMEOUT);

        round_trip.sample(Duration::from_secs(3600));

        assert_eq!(round_trip.timeout(), MAX_TIMEOUT);
    }

    #[test]
    fn answer_time_lies_between_its_floor_and_the_timeout() {
        let mut round_trip = RoundTrip::new();
        assert_eq!(round_trip.answer_time(50 * MS), 200 * MS);

        round_trip.sample(MS);

        assert_eq!(round_trip.answer_time(50 * MS), 50 * MS);
    }
}
