//! Points in time as SQLite keeps them: whole milliseconds since 1970.

use std::time::{Duration, SystemTime};

/// `time` in milliseconds since 1970; times before that count as 1970.
pub(super) fn to_millis(time: SystemTime) -> i64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time `millis` after 1970; negative values count as 1970.
pub(super) fn from_millis(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
