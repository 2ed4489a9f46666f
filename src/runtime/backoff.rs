//! Jittered exponential back-off.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// First wait of the default back-off: short enough that a restarted gateway is found at once.
pub const INITIAL: Duration = Duration::from_millis(200);
/// Longest wait of the default back-off: a host is back within half a minute of its network.
pub const MAX: Duration = Duration::from_secs(30);

/// Waits between attempts: doubling from `initial`, capped, with full jitter in the upper half.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    attempt: u32,
    random: Random,
}

impl Backoff {
    /// From `initial`, doubling, at most `max`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self {
            initial,
            max,
            attempt: 0,
            random: Random::new(),
        }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let doubled = 1_u32.checked_shl(self.attempt).unwrap_or(u32::MAX);
        let ceiling = self.initial.saturating_mul(doubled).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        let half = ceiling / 2;
        half + (ceiling - half).mul_f64(self.random.next_fraction())
    }

    /// Starts again after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

impl Default for Backoff {
    /// From [`INITIAL`] to [`MAX`].
    fn default() -> Self {
        Self::new(INITIAL, MAX)
    }
}

/// SplitMix64 with a seed of the standard library's hasher: spreads hosts and sessions, guards no secret.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(RandomState::new().hash_one(0_u8))
    }

    /// A number from 0 (inclusive) to 1 (exclusive).
    fn next_fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a 53 bit number fits an f64 exactly"
        )]
        let fraction = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        fraction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_upper_half_until_the_cap() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));

        for ceiling in [200, 400, 800, 1000, 1000, 1000] {
            let wait = backoff.next_wait();
            let ceiling = Duration::from_millis(ceiling);

            assert!(
                wait >= ceiling / 2 && wait <= ceiling,
                "{wait:?} of {ceiling:?}"
            );
        }
    }

    #[test]
    fn waits_stay_at_the_cap_however_many_attempts_fail() {
        let mut backoff = Backoff::default();

        let longest = (0..200).map(|_| backoff.next_wait()).max().unwrap();

        assert!(longest <= MAX);
        assert!(backoff.next_wait() >= MAX / 2);
    }

    #[test]
    fn a_success_starts_from_the_initial_wait_again() {
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            backoff.next_wait();
        }

        backoff.reset();

        assert!(backoff.next_wait() <= INITIAL);
    }

    #[test]
    fn two_hosts_do_not_wait_in_step() {
        let waits = |mut backoff: Backoff| [(); 8].map(|()| backoff.next_wait());

        assert_ne!(waits(Backoff::default()), waits(Backoff::default()));
    }
}
