//! What all journals of an agent share: their folder and their bounds.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory per session for what the disk refuses: half a minute of brisk output.
pub const SESSION_MEMORY: u64 = 4 << 20;
/// The same for all sessions together.
const TOTAL_MEMORY: u64 = 64 << 20;

/// Where journals are and how large they get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder; each session gets one within it.
    pub directory: PathBuf,
    /// Most bytes on disk for one session.
    pub session_bytes: u64,
    /// Most bytes on disk for all sessions.
    pub total_bytes: u64,
}

/// What all journals of an agent share.
pub struct Store {
    settings: Settings,
    /// Disk of all sessions.
    pub(super) disk: Budget,
    /// Memory of all sessions.
    pub(super) memory: Budget,
}

impl Store {
    /// The store that the settings describe; the file system is not touched yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            disk: Budget::new(settings.total_bytes),
            memory: Budget::new(TOTAL_MEMORY),
            settings,
        }
    }

    /// The folder of all journals.
    pub fn directory(&self) -> &Path {
        &self.settings.directory
    }

    /// The disk that one session may take.
    pub(super) fn session_disk(&self) -> Budget {
        Budget::new(self.settings.session_bytes)
    }
}

/// A number of bytes that are taken and given back.
pub(super) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: AtomicU64::new(0),
        }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes bytes if so many are left.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    /// Takes bytes that are in use already, whether they are left or not.
    pub(super) fn charge(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives bytes back.
    pub(super) fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
