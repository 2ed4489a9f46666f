//! Where recordings are kept, how many and how long.

use std::path::PathBuf;
use std::time::Duration;

/// As long as the history of sessions, which is AWS's time.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// One recording: 1 GiB, what an agent keeps of all its sessions by default.
pub const DEFAULT_LIMIT: u64 = 1 << 30;
/// All together: 16 GiB, some 10,000 hours of people at work.
pub const DEFAULT_QUOTA: u64 = 16 << 30;

/// How recordings are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Their folder; it belongs to them alone.
    pub directory: PathBuf,
    /// Recordings to which nothing was added for longer than this are deleted.
    pub retention: Duration,
    /// Most bytes of one recording.
    pub limit: u64,
    /// Bytes that all together may take; the oldest are deleted first. Parts that arrive at the same
    /// time may together go beyond it by their own size.
    pub quota: u64,
}

impl Settings {
    /// The defaults, in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            retention: DEFAULT_RETENTION,
            limit: DEFAULT_LIMIT,
            quota: DEFAULT_QUOTA,
        }
    }
}
