//! The files of recordings. Everything here waits for the disk: it is called on blocking threads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use aws_lc_rs::digest::{Context, SHA256};
use nix::sys::statvfs::statvfs;

use crate::protocol::wire::SessionId;
use crate::runtime::atomic_file;

/// Mode of the files: they hold what people saw.
const FILE_MODE: u32 = 0o600;
/// Bytes hashed at a time.
const BUFFER: usize = 64 << 10;

/// The folder of recordings, mode 0700, made at the first part.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file of a session's recording. A session id cannot leave the folder.
    pub fn file_of(&self, session: &SessionId) -> PathBuf {
        self.path.join(format!("{session}.cast"))
    }

    /// Makes the file have exactly its first `length` bytes and then `part`, on the disk for good, or
    /// as little of `part` as the disk lets us take back. Gives `false` if there are fewer than
    /// `length` bytes: then nothing was done.
    ///
    /// # Errors
    /// The I/O error of the failing step.
    pub(super) fn append(&self, session: &SessionId, length: u64, part: &[u8]) -> io::Result<bool> {
        atomic_file::create_private_dir(&self.path)?;
        let mut file = OpenOptions::new()
            .append(true)
            .create(length == 0)
            .mode(FILE_MODE)
            .open(self.file_of(session))?;
        let found = file.metadata()?.len();
        if found < length {
            return Ok(false);
        }
        if found > length {
            file.set_len(length)?;
        }
        let written = file.write_all(part).and_then(|()| file.sync_data());
        if written.is_err() {
            // If this fails too, the next part begins with it.
            let _ = file.set_len(length);
        }
        written.map(|()| true)
    }

    /// SHA-256 of a recording's first `length` bytes, in hexadecimal.
    ///
    /// # Errors
    /// The I/O error of the failing step, `UnexpectedEof` if there are fewer.
    pub(super) fn digest(&self, session: &SessionId, length: u64) -> io::Result<String> {
        let mut file = File::open(self.file_of(session))?.take(length);
        let mut context = Context::new(&SHA256);
        let mut buffer = vec![0; BUFFER];
        let mut left = length;
        while left > 0 {
            let count = match file.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            context.update(&buffer[..count]);
            left = left.saturating_sub(count as u64);
        }
        let digest = context.finish();
        Ok(digest.as_ref().iter().map(|b| format!("{b:02x}")).collect())
    }

    /// Deletes a recording. One that is not there is deleted.
    ///
    /// # Errors
    /// The I/O error.
    pub(super) fn remove(&self, session: &SessionId) -> io::Result<()> {
        match fs::remove_file(self.file_of(session)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Bytes that the folder's disk has left for us; `None` if it does not say. Before the first part
    /// there is no folder, but the one that it will be in.
    pub(super) fn free(&self) -> Option<u64> {
        let status = statvfs(&self.path).or_else(|error| match self.path.parent() {
            Some(parent) => statvfs(parent),
            None => Err(error),
        });
        let status = status.ok()?;
        Some(
            status
                .blocks_available()
                .saturating_mul(status.fragment_size()),
        )
    }
}

/// Up to `most` bytes of `file` from `offset` on, as many as there are.
///
/// # Errors
/// The I/O error.
pub fn read_at(file: &File, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut filled = 0;
    while filled < most {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
