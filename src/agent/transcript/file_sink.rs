//! The sink that writes a session's recording to a file, as a cast or as a plain log.
//!
//! A batch is appended whole or cut off again, so that a disk that fills in the middle of a line
//! leaves a readable file with the right digest. All file work, hashing included, is done on the
//! runtime's blocking threads.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use super::cast;
use super::digest::Hasher;
use super::entry::{About, Entry, Event, Format, RecordedFile};
use super::seal::Schedule;
use super::shelf::Shelf;
use super::sink::{Sink, SinkError, Write};

/// Bytes of cast that are put together for one write. Small enough to stay in the cache of the core,
/// and freed after each batch.
const CHUNK: usize = 64 << 10;
/// Slices given to one write of the plain log.
const SLICES: usize = 64;

/// Writes one session's recording to one file, made at the first batch.
pub struct FileSink {
    /// None while a write is under way, and for good if it was abandoned.
    recording: Option<Recording>,
    made: Option<RecordedFile>,
}

/// The part of the sink that works on blocking threads.
struct Recording {
    format: Format,
    shelf: Arc<Shelf>,
    about: Arc<About>,
    encoder: cast::Encoder,
    open: Option<OpenFile>,
}

struct OpenFile {
    path: PathBuf,
    file: File,
    /// The part of the file that holds whole batches.
    whole: Extent,
    /// Something beyond that may have been written.
    torn: bool,
}

/// The beginning of a file, and its digest.
#[derive(Clone, Default)]
struct Extent {
    length: u64,
    hasher: Hasher,
    checkpoints: Schedule,
}

impl FileSink {
    /// A sink for one session; the file system is touched at the first write.
    pub fn new(format: Format, shelf: Arc<Shelf>, about: Arc<About>) -> Self {
        Self {
            recording: Some(Recording {
                format,
                shelf,
                about,
                encoder: cast::Encoder::default(),
                open: None,
            }),
            made: None,
        }
    }

    async fn append(&mut self, batch: Arc<[Entry]>) -> Result<(), SinkError> {
        let mut recording = self
            .recording
            .take()
            .ok_or_else(|| SinkError::Broken("an earlier write was abandoned".into()))?;
        let work = move || {
            let result = recording.append(&batch);
            (recording, result)
        };
        let (recording, result) = tokio::task::spawn_blocking(work)
            .await
            .map_err(|failure| SinkError::Broken(failure.into()))?;
        if let Some(open) = &recording.open {
            self.made = Some(open.describe());
        }
        self.recording = Some(recording);
        result
    }
}

impl Sink for FileSink {
    fn name(&self) -> &'static str {
        "file"
    }

    fn write(&mut self, batch: Arc<[Entry]>) -> Write<'_> {
        Box::pin(self.append(batch))
    }

    fn file(&self) -> Option<&RecordedFile> {
        self.made.as_ref()
    }
}

impl Recording {
    fn append(&mut self, batch: &[Entry]) -> Result<(), SinkError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.create()?,
        };
        let before = open.whole.length;
        let result = self.append_to(&mut open, batch);
        self.shelf.count_written(open.whole.length - before);
        self.open = Some(open);
        result
    }

    fn append_to(&mut self, open: &mut OpenFile, batch: &[Entry]) -> Result<(), SinkError> {
        let quota = self.shelf.quota();
        let encoder = self.encoder.clone();
        let written = open.repair().and_then(|()| {
            open.torn = true;
            let mut out = Bounded {
                file: &open.file,
                quota,
                extent: open.whole.clone(),
            };
            match self.format {
                Format::Cast => self.write_cast(&mut out, batch)?,
                Format::Log => write_log(&mut out, batch)?,
            }
            Ok(out.extent)
        });
        match written {
            Ok(extent) => {
                open.whole = extent;
                open.torn = false;
                Ok(())
            }
            Err(source) => {
                self.encoder = encoder;
                // If even this fails, the next attempt starts with it.
                let _ = open.repair();
                let path = open.path.clone();
                Err(match source.kind() {
                    io::ErrorKind::QuotaExceeded if source.raw_os_error().is_none() => {
                        SinkError::Quota { path, quota }
                    }
                    _ => SinkError::Io { path, source },
                })
            }
        }
    }

    fn create(&self) -> Result<OpenFile, SinkError> {
        let created = self.shelf.create(&self.about.session_id, self.format);
        let (path, file) = created.map_err(|source| SinkError::Io {
            path: self.shelf.directory().to_owned(),
            source,
        })?;
        Ok(OpenFile {
            path,
            file,
            whole: Extent::default(),
            torn: false,
        })
    }

    fn write_cast(&mut self, out: &mut Bounded<'_>, batch: &[Entry]) -> io::Result<()> {
        let mut chunk = if out.extent.length == 0 {
            cast::header(&self.about)
        } else {
            Vec::new()
        };
        for entry in batch {
            self.encoder.encode(entry, &mut chunk);
            let length = out.extent.length + chunk.len() as u64;
            let seal = out.extent.checkpoints.seal_after(entry, length);
            if seal.is_some() || chunk.len() >= CHUNK {
                out.write_all(&chunk)?;
                chunk.clear();
            }
            if let Some(seal) = seal {
                let line = seal.line(entry.at, &out.extent.hasher);
                out.write_all(&line)?;
            }
        }
        out.write_all(&chunk)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            self.shelf.close(&open.path);
        }
    }
}

impl OpenFile {
    /// Cuts off what an attempt that failed has left.
    fn repair(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.whole.length)?;
            self.torn = false;
        }
        Ok(())
    }

    fn describe(&self) -> RecordedFile {
        RecordedFile {
            path: self.path.clone(),
            bytes: self.whole.length,
            sha256: self.whole.hasher.digest(),
        }
    }
}

/// A file that takes a number of bytes and no more.
struct Bounded<'a> {
    file: &'a File,
    quota: u64,
    /// What the file holds if all goes well.
    extent: Extent,
}

impl Bounded<'_> {
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        let length = self.extent.length.saturating_add(bytes as u64);
        if length > self.quota {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.extent.length = length;
        Ok(())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.count(bytes.len())?;
        self.extent.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    /// Writes all pieces without putting them together first.
    fn write_all_pieces(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        self.count(pieces.iter().map(|piece| piece.len()).sum())?;
        for piece in pieces {
            self.extent.hasher.update(piece);
        }
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut slices = &mut slices[..];
        while !slices.is_empty() {
            match self.file.write_vectored(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The plain log holds what was sent to the person and nothing else.
fn write_log(out: &mut Bounded<'_>, batch: &[Entry]) -> io::Result<()> {
    let sent: Vec<&[u8]> = batch.iter().filter_map(sent).collect();
    sent.chunks(SLICES)
        .try_for_each(|pieces| out.write_all_pieces(pieces))
}

fn sent(entry: &Entry) -> Option<&[u8]> {
    match &entry.event {
        Event::Output(bytes) | Event::ErrorOutput(bytes) => Some(bytes),
        Event::Input(_) | Event::Resize(_) | Event::Missing { .. } | Event::End(_) => None,
    }
}

#[cfg(test)]
pub(super) mod tests;
