//! The folder of the recordings: names, age, quota.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::{debug, warn};

use super::entry::{Format, Settings};
use crate::protocol::wire::SessionId;
use crate::runtime::atomic_file;

/// Shortest time between two sweeps at the end of sessions, as in the reference.
const SWEEP_INTERVAL: Duration = Duration::from_mins(15);
/// Running sessions sweep too, each time that all together have written this part of the quota.
const SWEEP_SHARE: u64 = 8;
/// Bytes written to see whether that is possible: a block of any file system.
const PROBE: usize = 4096;
/// Recordings kept of sessions that had the same id.
const NAMESAKES: u32 = 1000;

/// Makes the files of recordings and deletes old ones.
pub struct Shelf {
    directory: PathBuf,
    retention: Duration,
    quota: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Files of running sessions.
    open: HashSet<PathBuf>,
    swept: Option<Instant>,
    written_since_sweep: u64,
}

/// A finished recording in the folder.
struct Recorded {
    path: PathBuf,
    modified: SystemTime,
    size: u64,
}

impl Shelf {
    /// The shelf that the settings describe.
    pub fn new(settings: &Settings) -> Self {
        Self {
            directory: settings.directory.clone(),
            retention: settings.retention,
            quota: settings.quota,
            state: Mutex::default(),
        }
    }

    /// Bytes that all recordings together may take.
    pub fn quota(&self) -> u64 {
        self.quota
    }

    /// The folder.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes a new file, mode 0600, in the folder, mode 0700. A file of an earlier session with the
    /// same id is left alone: the new one is called `<session id>.2.cast`, and so on. The file is not
    /// swept before [`Self::close`].
    ///
    /// # Errors
    /// The I/O error of the failing step.
    pub fn create(&self, session: &SessionId, format: Format) -> io::Result<(PathBuf, File)> {
        atomic_file::create_private_dir(&self.directory)?;
        for number in 1..=NAMESAKES {
            let path = self.directory.join(file_name(session, format, number));
            let mut state = self.lock();
            if state.open.contains(&path) {
                continue;
            }
            match OpenOptions::new()
                .append(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
            {
                Ok(file) => {
                    // Where the file system has no locks, only this process knows that it is open.
                    let _ = file.try_lock_shared();
                    state.open.insert(path.clone());
                    return Ok((path, file));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("there are {NAMESAKES} recordings of this session"),
        ))
    }

    /// Writes a little file of this session and deletes it again, to see whether that is possible.
    ///
    /// # Errors
    /// The I/O error of the failing step.
    pub fn probe(&self, session: &SessionId) -> io::Result<()> {
        atomic_file::create_private_dir(&self.directory)?;
        let path = self.directory.join(format!(".{session}.probe"));
        let written = atomic_file::write(&path, &[0; PROBE], 0o600);
        let removed = fs::remove_file(&path);
        written.and(removed)
    }

    /// The session that writes to `path` is over.
    pub fn close(&self, path: &Path) {
        self.lock().open.remove(path);
    }

    /// Counts what sessions write, and sweeps when it adds up.
    pub fn count_written(&self, bytes: u64) {
        let mut state = self.lock();
        state.written_since_sweep = state.written_since_sweep.saturating_add(bytes);
        let sweep = state.written_since_sweep > self.quota / SWEEP_SHARE;
        drop(state);
        if sweep {
            self.sweep();
        }
    }

    /// Whether the last sweep is long enough ago for another.
    pub fn is_sweep_due(&self) -> bool {
        let swept = self.lock().swept;
        swept.is_none_or(|at| at.elapsed() >= SWEEP_INTERVAL)
    }

    /// Deletes finished recordings that are too old, then the oldest until the rest and the running
    /// ones fit the quota. What cannot be deleted is logged and left.
    pub fn sweep(&self) {
        self.sweep_at(SystemTime::now());
    }

    fn sweep_at(&self, now: SystemTime) {
        let open = {
            let mut state = self.lock();
            state.swept = Some(Instant::now());
            state.written_since_sweep = 0;
            state.open.clone()
        };
        let mut recordings = match self.recordings() {
            Ok(recordings) => recordings,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                warn!(directory = %self.directory.display(), %error, "cannot clean up recordings");
                return;
            }
        };
        let mut total: u64 = recordings.iter().map(|recorded| recorded.size).sum();
        recordings.retain(|recorded| !open.contains(&recorded.path));
        recordings.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        for recorded in recordings {
            let age = now.duration_since(recorded.modified).unwrap_or_default();
            if age <= self.retention && total <= self.quota {
                break;
            }
            if is_open_elsewhere(&recorded.path) {
                continue;
            }
            match fs::remove_file(&recorded.path) {
                Ok(()) => {
                    debug!(path = %recorded.path.display(), "old recording deleted");
                    total -= recorded.size;
                }
                Err(error) => {
                    warn!(path = %recorded.path.display(), %error, "cannot delete old recording");
                }
            }
        }
    }

    /// The regular files in the folder that are named like recordings.
    fn recordings(&self) -> io::Result<Vec<Recorded>> {
        let mut recordings = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let is_recording = path
                .extension()
                .is_some_and(|ending| Format::ALL.iter().any(|f| f.extension() == ending));
            if !is_recording {
                continue;
            }
            // A file that vanishes meanwhile is no recording any more.
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            if metadata.is_file() {
                recordings.push(Recorded {
                    modified: metadata.modified()?,
                    size: metadata.len(),
                    path,
                });
            }
        }
        Ok(recordings)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether another process of this agent records to the file: sessions outlive the agent's restart.
fn is_open_elsewhere(path: &Path) -> bool {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path);
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn file_name(session: &SessionId, format: Format, number: u32) -> String {
    let ending = format.extension();
    match number {
        1 => format!("{session}.{ending}"),
        _ => format!("{session}.{number}.{ending}"),
    }
}

#[cfg(test)]
mod tests;
