//! The files. Everything here waits for the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use crate::runtime::atomic_file;

/// Folder of the files in the state folder.
const NAME: &str = "attachments";
const FILE_MODE: u32 = 0o600;
/// Bytes copied at a time.
const BUFFER: usize = 64 << 10;
/// Digits of a digest.
const DIGITS: usize = 64;

/// The folder of the files, mode 0700.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
    /// Its length.
    pub size: u64,
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// It cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// It cannot be kept.
    #[error("cannot write to {path}", path = path.display())]
    Write {
        /// The folder.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

impl Folder {
    /// The folder in the state folder `state`.
    pub fn new(state: &Path) -> Self {
        Self {
            path: state.join(NAME),
        }
    }

    /// The file with that digest; none if the text is no digest.
    fn file_of(&self, sha256: &str) -> Option<PathBuf> {
        let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let is_digest = sha256.len() == DIGITS && sha256.chars().all(is_digit);
        is_digest.then(|| self.path.join(sha256))
    }

    /// Opens the file with that digest; none if there is none.
    ///
    /// # Errors
    /// The I/O error.
    pub fn open(&self, sha256: &str) -> io::Result<Option<(File, u64)>> {
        let Some(path) = self.file_of(sha256) else {
            return Ok(None);
        };
        match File::open(path) {
            Ok(file) => {
                let length = file.metadata()?.len();
                Ok(Some((file, length)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes a copy of the file at `path`.
    ///
    /// # Errors
    /// [`AddError`].
    pub fn add(&self, path: &Path) -> Result<Stored, AddError> {
        let unreadable = |source| AddError::Read {
            path: path.to_owned(),
            source,
        };
        let unwritable = |source| AddError::Write {
            path: self.path.clone(),
            source,
        };
        let mut from = File::open(path).map_err(unreadable)?;
        atomic_file::create_private_dir(&self.path).map_err(unwritable)?;
        let unfinished = self.path.join(format!(".{}.tmp", uuid::Uuid::new_v4()));
        let mut to = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&unfinished)
            .map_err(unwritable)?;
        let copied = copy(&mut from, &mut to, unreadable, unwritable);
        let kept = copied.and_then(|stored| {
            to.sync_all().map_err(unwritable)?;
            fs::rename(&unfinished, self.path.join(&stored.sha256)).map_err(unwritable)?;
            Ok(stored)
        });
        if kept.is_err() {
            // The error of the failing step matters more than that of the clean-up.
            let _ = fs::remove_file(&unfinished);
        }
        kept
    }

    /// All files, by digest.
    ///
    /// # Errors
    /// The I/O error.
    pub fn list(&self) -> io::Result<Vec<Stored>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if self.file_of(&name).is_some() {
                all.push(Stored {
                    sha256: name,
                    size: entry.metadata()?.len(),
                });
            }
        }
        all.sort_by(|a, b| a.sha256.cmp(&b.sha256));
        Ok(all)
    }

    /// Deletes the file with that digest; tells whether there was one.
    ///
    /// # Errors
    /// The I/O error.
    pub fn remove(&self, sha256: &str) -> io::Result<bool> {
        let Some(path) = self.file_of(sha256) else {
            return Ok(false);
        };
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn copy(
    from: &mut File,
    to: &mut File,
    unreadable: impl Fn(io::Error) -> AddError,
    unwritable: impl Fn(io::Error) -> AddError,
) -> Result<Stored, AddError> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; BUFFER];
    let mut size: u64 = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        context.update(&buffer[..count]);
        to.write_all(&buffer[..count]).map_err(&unwritable)?;
        size = size.saturating_add(count as u64);
    }
    let digest = context.finish();
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    Ok(Stored {
        sha256: digits.collect(),
        size,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// SHA-256 of `abc`.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn file_goes_by_the_digest_of_its_content() {
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::new(state.path());
        let file = state.path().join("a.zip");
        fs::write(&file, "abc").unwrap();

        let stored = folder.add(&file).unwrap();
        let again = folder.add(&file).unwrap();

        assert_eq!((stored.sha256.as_str(), stored.size), (ABC, 3));
        assert_eq!(folder.list().unwrap(), [again]);
        let (_, length) = folder.open(ABC).unwrap().unwrap();
        assert_eq!(length, 3);
        let mode = fs::metadata(state.path().join("attachments").join(ABC)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        assert!(folder.remove(ABC).unwrap());
        assert!(!folder.remove(ABC).unwrap());
        assert!(folder.open(ABC).unwrap().is_none());
    }

    #[test]
    fn names_that_are_no_digests_lead_nowhere() {
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::new(state.path());
        fs::write(state.path().join("secret"), "x").unwrap();

        for name in ["../secret", "", &ABC.to_uppercase(), &format!("{ABC}/x")] {
            assert!(folder.open(name).unwrap().is_none(), "{name}");
            assert!(!folder.remove(name).unwrap(), "{name}");
        }
        assert!(folder.list().unwrap().is_empty());
    }

    #[test]
    fn file_that_cannot_be_read_leaves_nothing() {
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::new(state.path());

        let error = folder.add(&state.path().join("nowhere")).unwrap_err();
        let folder_itself = folder.add(state.path()).unwrap_err();

        assert!(matches!(error, AddError::Read { .. }));
        assert!(matches!(folder_itself, AddError::Read { .. }));
        assert_eq!(
            fs::read_dir(state.path().join("attachments"))
                .unwrap()
                .count(),
            0
        );
    }
}
