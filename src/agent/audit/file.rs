//! A file of lines that is put aside when it is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::runtime::atomic_file;

/// Where the log is, and how large it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file. The ones that were full have its name with `.1`, the youngest, `.2` and so on.
    pub path: PathBuf,
    /// Bytes after which a file is full.
    pub limit: u64,
    /// How many files there are at most, the present one included.
    pub files: u32,
}

/// How often a file that was put aside by somebody else is followed by the next.
const LOCK_ATTEMPTS: u32 = 100;

/// The file that lines are appended to. It is made when it is needed, and anew when it was deleted or
/// renamed.
pub(super) struct LogFile {
    settings: Settings,
    open: Option<Open>,
}

struct Open {
    file: File,
    /// Where an append that failed began, if what it left could not be cut off yet.
    torn_at: Option<u64>,
    /// The file's last line had no end when it was opened: a crash cut it short.
    is_cut: bool,
}

impl LogFile {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            open: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.settings.path
    }

    /// Appends whole lines, all or none.
    ///
    /// # Errors
    /// The I/O error of the failing step.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let appended = self.append_locked(lines);
        if let Some(open) = &self.open {
            open.unlock();
        }
        appended
    }

    fn append_locked(&mut self, lines: &[u8]) -> io::Result<()> {
        self.lock()?;
        let length = self.opened()?.length()?;
        if length > 0 && length.saturating_add(lines.len() as u64) > self.settings.limit {
            self.put_aside()?;
            self.open = None;
            self.lock()?;
        }
        self.opened()?.append(lines)
    }

    /// Opens the file that has the name and locks it: a process that keeps sessions over a restart
    /// writes to the same log, and only one of them may put the file aside.
    fn lock(&mut self) -> io::Result<()> {
        for _ in 0..LOCK_ATTEMPTS {
            if !self.is_in_place() {
                self.open = None;
            }
            self.opened()?.lock();
            // It may have been put aside while this waited for its lock.
            if self.is_in_place() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&self.settings.path)?,
        };
        Ok(self.open.insert(open))
    }

    /// Whether the open file is the one that has the name.
    fn is_in_place(&self) -> bool {
        let Some(open) = &self.open else {
            return false;
        };
        let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        match (open.file.metadata(), fs::symlink_metadata(self.path())) {
            (Ok(open), Ok(named)) => identity(&open) == identity(&named),
            (Err(_), _) | (_, Err(_)) => false,
        }
    }

    /// Makes room for a new file; the oldest is lost.
    fn put_aside(&self) -> io::Result<()> {
        let oldest = self.settings.files.saturating_sub(1);
        for number in (0..oldest).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        if oldest == 0 {
            fs::remove_file(self.path())?;
        }
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.settings.path.clone().into_os_string();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        name.into()
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            atomic_file::create_private_dir(folder)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)?;
        let mut last = [b'\n'];
        if file.metadata()?.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        Ok(Self {
            file,
            torn_at: None,
            is_cut: last != [b'\n'],
        })
    }

    /// Where the file system has no locks, there are none.
    fn lock(&self) {
        let _ = self.file.lock();
    }

    fn unlock(&self) {
        let _ = self.file.unlock();
    }

    /// Length of what is whole.
    fn length(&mut self) -> io::Result<u64> {
        self.repair()?;
        Ok(self.file.metadata()?.len())
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let before = self.length()?;
        let written = if self.is_cut {
            self.file
                .write_all(b"\n")
                .and_then(|()| self.file.write_all(lines))
        } else {
            self.file.write_all(lines)
        };
        match written {
            Ok(()) => self.is_cut = false,
            Err(_) => {
                self.torn_at = Some(before);
                // If even this fails, the next attempt starts with it.
                let _ = self.repair();
            }
        }
        written
    }

    /// Cuts off what an attempt that failed has left.
    fn repair(&mut self) -> io::Result<()> {
        if let Some(length) = self.torn_at {
            self.file.set_len(length)?;
            self.torn_at = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
