//! How far this host's clock is from the services', learned from the `Date` of their answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use tracing::warn;

/// Differences up to this are left alone: `Date` has whole seconds and an answer takes its time.
/// Signatures are accepted within 5 minutes.
const TOLERANCE_SECS: u64 = 60;

/// The difference, shared by everything that signs.
#[derive(Debug, Clone, Default)]
pub struct Skew {
    /// Seconds to add to the local clock.
    offset: Arc<AtomicI64>,
}

impl Skew {
    /// The time by the services' clock.
    pub fn now(&self) -> SystemTime {
        self.correct(SystemTime::now())
    }

    /// Learns from an answer that carried `date` and arrived at `local` by this host's clock.
    /// Tells whether the offset has changed, so that a refused signature is worth another attempt.
    pub fn observe(&self, date: SystemTime, local: SystemTime) -> bool {
        let measured = seconds_between(local, date);
        let known = self.offset.load(Ordering::Relaxed);
        if known.abs_diff(measured) <= TOLERANCE_SECS {
            return false;
        }
        let offset = if measured.unsigned_abs() <= TOLERANCE_SECS {
            0
        } else {
            measured
        };
        self.offset.store(offset, Ordering::Relaxed);
        warn!(
            seconds = offset,
            "this host's clock differs from the service's; signing with the service's time"
        );
        true
    }

    fn correct(&self, local: SystemTime) -> SystemTime {
        let offset = self.offset.load(Ordering::Relaxed);
        let distance = Duration::from_secs(offset.unsigned_abs());
        let corrected = if offset < 0 {
            local.checked_sub(distance)
        } else {
            local.checked_add(distance)
        };
        corrected.unwrap_or(local)
    }
}

fn seconds_between(from: SystemTime, to: SystemTime) -> i64 {
    let seconds = |distance: Duration| i64::try_from(distance.as_secs()).unwrap_or(i64::MAX);
    match to.duration_since(from) {
        Ok(ahead) => seconds(ahead),
        Err(error) => -seconds(error.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_348_800)
    }

    #[test]
    fn clock_within_a_minute_is_left_alone() {
        let skew = Skew::default();

        assert!(!skew.observe(noon() + Duration::from_secs(59), noon()));
        assert_eq!(skew.correct(noon()), noon());
    }

    #[test]
    fn slow_and_fast_clocks_are_corrected() {
        for date in [noon() + HOUR, noon() - HOUR] {
            let skew = Skew::default();

            assert!(skew.observe(date, noon()));
            assert_eq!(skew.correct(noon()), date);
        }
    }

    #[test]
    fn known_difference_is_no_news() {
        let skew = Skew::default();
        skew.observe(noon() + HOUR, noon());

        assert!(!skew.observe(noon() + HOUR + Duration::from_secs(5), noon()));
    }

    #[test]
    fn repaired_clock_ends_the_correction() {
        let skew = Skew::default();
        skew.observe(noon() + HOUR, noon());

        assert!(skew.observe(noon() + Duration::from_secs(2), noon()));
        assert_eq!(skew.correct(noon()), noon());
    }

    #[test]
    fn clones_share_what_was_learned() {
        let skew = Skew::default();
        let clone = skew.clone();

        skew.observe(noon() + HOUR, noon());

        assert_eq!(clone.correct(noon()), noon() + HOUR);
    }
}
