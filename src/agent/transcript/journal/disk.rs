//! The end of a journal that is being written to disk. Works on blocking threads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::folder::segment_path;
use super::frame::{HEADER, Header};

/// Bytes after which a new segment begins: what a confirmed record keeps on disk at most.
const SEGMENT: u64 = 4 << 20;

/// The segment that is being written.
#[derive(Default)]
pub struct Disk {
    tail: Option<Tail>,
}

struct Tail {
    path: PathBuf,
    file: File,
    first: u64,
    /// The number of the entry that follows.
    next: u64,
    /// The part of the file that holds whole batches.
    whole: u64,
    /// Something beyond that may have been written.
    torn: bool,
}

/// A batch that was written.
pub struct Written {
    /// First entry of the segment that it is in.
    pub segment: u64,
    /// Length of the segment now.
    pub length: u64,
}

impl Disk {
    /// Whether a batch that begins with entry `next` begins a new segment.
    pub fn begins_segment(&self, next: u64) -> bool {
        let tail = self.tail.as_ref();
        tail.is_none_or(|tail| tail.next != next || tail.whole >= SEGMENT)
    }

    /// Appends a batch of `entries` whole, or leaves no trace of it. `header` says where it begins.
    ///
    /// # Errors
    /// The I/O error of the failing step.
    pub fn append(
        &mut self,
        folder: &Path,
        header: Header,
        entries: u64,
        frames: &[u8],
    ) -> io::Result<Written> {
        if self.begins_segment(header.first) {
            self.tail = None;
            self.tail = Some(Tail::create(folder, header)?);
        }
        let Some(tail) = &mut self.tail else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if let Err(error) = tail.append(frames) {
            // If even this fails, the next attempt starts with it; an empty segment has no use.
            let _ = tail.repair();
            if tail.next == tail.first {
                let _ = fs::remove_file(&tail.path);
                self.tail = None;
            }
            return Err(error);
        }
        tail.next += entries;
        Ok(Written {
            segment: tail.first,
            length: tail.whole,
        })
    }
}

impl Tail {
    fn create(folder: &Path, header: Header) -> io::Result<Self> {
        let path = segment_path(folder, header.first);
        let mut file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        if let Err(error) = file.write_all(&header.encode()) {
            // The error of the failing step matters more than that of the clean-up.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self {
            path,
            file,
            first: header.first,
            next: header.first,
            whole: HEADER as u64,
            torn: false,
        })
    }

    fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        self.repair()?;
        self.torn = true;
        self.file.write_all(frames)?;
        self.torn = false;
        self.whole += frames.len() as u64;
        Ok(())
    }

    /// Cuts off what an attempt that failed has left.
    fn repair(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.whole)?;
            self.torn = false;
        }
        Ok(())
    }
}
