//! What all journals of an agent share: their folder and their bounds.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tracing::warn;

use super::journal::Journal;
use crate::protocol::wire::SessionId;

/// Memory per session for what the disk refuses: half a minute of brisk output.
pub const SESSION_MEMORY: u64 = 4 << 20;
/// The same for all sessions together.
const TOTAL_MEMORY: u64 = 64 << 20;

/// What was not uploaded for so long is deleted, unless the settings say otherwise: as long as
/// recordings are kept, 14 days.
const RETENTION: Duration = Duration::from_hours(14 * 24);

/// Where journals are, how large they get and how long they wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder; each session gets one within it.
    pub directory: PathBuf,
    /// Most bytes on disk for one session.
    pub session_bytes: u64,
    /// Most bytes on disk for all sessions.
    pub total_bytes: u64,
    /// A journal of a session that is over is deleted if no service took anything of it for so long.
    pub retention: Duration,
}

impl Settings {
    /// Journals in `directory`, one and all of at most `bytes`.
    pub fn new(directory: impl Into<PathBuf>, bytes: u64) -> Self {
        Self {
            directory: directory.into(),
            session_bytes: bytes,
            total_bytes: bytes,
            retention: RETENTION,
        }
    }
}

/// What all journals of an agent share.
pub struct Store {
    settings: Settings,
    /// Disk of all sessions.
    pub(super) disk: Budget,
    /// Memory of all sessions.
    pub(super) memory: Budget,
    /// The journals that somebody still works on, the oldest first.
    journals: Mutex<Vec<(SessionId, Weak<Journal>)>>,
}

impl Store {
    /// The store that the settings describe; the file system is not touched yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            disk: Budget::new(settings.total_bytes),
            memory: Budget::new(TOTAL_MEMORY),
            journals: Mutex::default(),
            settings,
        }
    }

    /// The folder of all journals.
    pub fn directory(&self) -> &Path {
        &self.settings.directory
    }

    /// How long a journal waits.
    pub(super) fn retention(&self) -> Duration {
        self.settings.retention
    }

    /// Somebody works on the journal of this session from now on.
    pub fn enter(&self, session: &SessionId, journal: &Arc<Journal>) {
        let mut journals = self.lock();
        journals.retain(|(_, journal)| journal.strong_count() > 0);
        journals.push((session.clone(), Arc::downgrade(journal)));
    }

    /// The journals that somebody works on, the oldest first.
    pub fn journals(&self) -> Vec<(SessionId, Arc<Journal>)> {
        let journals = self.lock();
        let live = journals.iter();
        live.filter_map(|(id, journal)| Some((id.clone(), journal.upgrade()?)))
            .collect()
    }

    /// Takes bytes of the disk of all sessions. If there are not so many left, the records of sessions
    /// that are over make room, the oldest first. Blocks the thread.
    pub(super) fn take_disk(&self, bytes: u64) -> bool {
        if self.disk.take(bytes) {
            return true;
        }
        for (session, journal) in self.journals() {
            if journal.is_over() && journal.holds_disk() {
                let problem = "it was deleted to make room for newer records";
                warn!(%session, "the oldest record that waits for its upload: {problem}");
                journal.evict(problem);
                if self.disk.take(bytes) {
                    return true;
                }
            }
        }
        false
    }

    /// Deletes the records of sessions that are over and of which no service took anything for too
    /// long. Blocks the thread.
    pub fn sweep(&self) {
        let hours = self.retention().as_secs() / 3600;
        for (session, journal) in self.journals() {
            if journal.is_over() && journal.idle() > self.retention() {
                let problem = format!("it was not taken for {hours} hours and is deleted");
                warn!(%session, "a record that waits for its upload: {problem}");
                journal.evict(&problem);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(SessionId, Weak<Journal>)>> {
        // Nothing that can panic runs while the lock is held.
        self.journals.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Whether nothing is taken.
    pub(super) fn is_unused(&self) -> bool {
        self.used.load(Ordering::Relaxed) == 0
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
