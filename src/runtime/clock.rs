//! The wall clock in the unit that the wire uses.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The wall clock in milliseconds since the Unix epoch; 0 if it stands before that.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// The two clocks read together: what relates monotonic time, which state machines count in, to the
/// dates that they write.
pub fn anchor() -> (Instant, u64) {
    (tokio::time::Instant::now().into_std(), unix_ms())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_lie_in_this_century() {
        let ms = unix_ms();

        assert!(ms > 1_700_000_000_000 && ms < 4_102_444_800_000, "{ms}");
    }

    #[test]
    fn both_clocks_are_read_at_the_same_time() {
        let (instant, ms) = anchor();

        assert!(instant.elapsed() < Duration::from_secs(5));
        assert!(unix_ms().abs_diff(ms) < 5_000);
    }
}
