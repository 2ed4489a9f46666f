//! The folder of one session's journal: its names, its lock, and the small files in it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::entry::About;
use super::super::remote::Target;
use crate::protocol::wire::SessionId;
use crate::runtime::atomic_file;

/// Journals kept of sessions that had the same id.
const NAMESAKES: u32 = 100;
/// Longest small file that is read; a service's state is some hundred bytes.
const SMALL_FILE: u64 = 1 << 20;
const ABOUT: &str = "about.json";
const LOCK: &str = "lock";
const SEGMENT_ENDING: &str = "segment";

/// Whose record it is and where it goes: `about.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The session.
    pub about: About,
    /// Where the record goes.
    pub targets: Vec<Target>,
}

/// How far one service has got: `position-<n>.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The first entry that it has not confirmed.
    pub entry: u64,
    /// It has the end.
    pub complete: bool,
    /// Why it was given up.
    pub given_up: Option<String>,
    /// What its uploader needs to go on.
    pub state: Value,
}

impl Position {
    /// Whether the service still needs entries.
    pub fn is_followed(&self) -> bool {
        !self.complete && self.given_up.is_none()
    }
}

/// A folder that this agent works on.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Locked while it is open.
    _lock: File,
}

impl Folder {
    /// Makes the folder of a session, mode 0700, with its manifest.
    ///
    /// # Errors
    /// The I/O error of the failing step.
    pub fn create(root: &Path, manifest: &Manifest) -> io::Result<Self> {
        atomic_file::create_private_dir(root)?;
        for number in 1..=NAMESAKES {
            let path = root.join(name(&manifest.about.session_id, number));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Self::fill(path.clone(), manifest).inspect_err(|_| remove(&path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("there are {NAMESAKES} journals of this session"),
        ))
    }

    fn fill(path: PathBuf, manifest: &Manifest) -> io::Result<Self> {
        let folder = Self::lock(path)?;
        atomic_file::write(&folder.path.join(ABOUT), &to_json(manifest)?, 0o600)?;
        Ok(folder)
    }

    /// Takes over a folder that is there.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another agent, or a session of this one, works on it.
    pub fn lock(path: PathBuf) -> io::Result<Self> {
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the manifest.
    ///
    /// # Errors
    /// If it cannot be read or is none.
    pub fn manifest(&self) -> io::Result<Manifest> {
        from_json(&self.path.join(ABOUT))
    }

    /// Reads how far service `number` has got; one that has confirmed nothing yet has no file.
    ///
    /// # Errors
    /// If it cannot be read or is none.
    pub fn position(&self, number: usize) -> io::Result<Position> {
        match from_json(&position_path(&self.path, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Position::default()),
            position => position,
        }
    }

    /// Segment files in the order of their entries.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn segments(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == SEGMENT_ENDING) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Deletes it; what cannot be deleted is left for the next start of the agent.
    pub fn delete(&self) {
        remove(&self.path);
    }
}

/// Writes how far service `number` has got.
///
/// # Errors
/// The I/O error of the failing step.
pub fn save_position(folder: &Path, number: usize, position: &Position) -> io::Result<()> {
    atomic_file::write(&position_path(folder, number), &to_json(position)?, 0o600)
}

/// The segment whose first entry has this number.
pub fn segment_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.{SEGMENT_ENDING}"))
}

/// Deletes a folder, its manifest first: what is left then is no journal any more.
fn remove(path: &Path) {
    let removed = fs::remove_file(path.join(ABOUT)).and_then(|()| fs::remove_dir_all(path));
    if let Err(error) = removed.or_else(|_| fs::remove_dir_all(path)) {
        tracing::warn!(path = %path.display(), %error, "cannot delete the journal of a session");
    }
}

fn name(session: &SessionId, number: u32) -> String {
    match number {
        1 => session.to_string(),
        _ => format!("{session}.{number}"),
    }
}

fn position_path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("position-{number}.json"))
}

fn to_json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(value)?)
}

fn from_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let length = fs::metadata(path)?.len();
    if length > SMALL_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{} has more than {SMALL_FILE} bytes", path.display()),
        ));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}
