//! The writer's end of a journal.

use std::io;
use std::sync::Arc;

use super::super::entry::{Entry, Event, RecordedFile};
use super::super::sink::{Sink, SinkError, Write};
use super::disk::{Disk, Written};
use super::folder::{Folder, Manifest};
use super::frame::{self, HEADER};
use super::journal::Journal;
use super::reader::cost;

/// Writes the entries of one session to its journal: to disk, or where that refuses, to memory.
pub struct JournalSink {
    journal: Arc<Journal>,
    /// Away while a write is under way, and for good if that was abandoned.
    files: Option<Files>,
}

/// The part that works on blocking threads.
struct Files {
    manifest: Manifest,
    disk: Disk,
}

impl JournalSink {
    /// A sink of the journal; the file system is touched at the first write.
    pub fn new(journal: Arc<Journal>, manifest: Manifest) -> Self {
        Self {
            journal,
            files: Some(Files {
                manifest,
                disk: Disk::default(),
            }),
        }
    }

    async fn take(&mut self, batch: Arc<[Entry]>) -> Result<(), SinkError> {
        let mut files = self
            .files
            .take()
            .ok_or_else(|| SinkError::Broken("an earlier write was abandoned".into()))?;
        let journal = Arc::clone(&self.journal);
        let work = move || {
            let result = files.take(&journal, &batch);
            (files, result)
        };
        let (files, result) = blocking(work).await?;
        self.files = Some(files);
        result
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SinkError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|failure| SinkError::Broken(failure.into()))
}

impl Sink for JournalSink {
    fn name(&self) -> &'static str {
        "journal"
    }

    fn write(&mut self, batch: Arc<[Entry]>) -> Write<'_> {
        Box::pin(self.take(batch))
    }

    fn file(&self) -> Option<&RecordedFile> {
        None
    }
}

impl Drop for JournalSink {
    fn drop(&mut self) {
        self.journal
            .break_off("the recording was given up before its end");
    }
}

impl Files {
    fn take(&mut self, journal: &Journal, batch: &[Entry]) -> Result<(), SinkError> {
        let taken = self.store(journal, batch);
        // Whoever comes last, the end or the last service's word, cleans up.
        journal.settle();
        taken
    }

    fn store(&mut self, journal: &Journal, batch: &[Entry]) -> Result<(), SinkError> {
        if !journal.is_followed() {
            // Nobody reads it; only the end matters.
            if let Some(Event::End(end)) = batch.last().map(|entry| &entry.event) {
                journal.break_off(&end.reason);
            }
            return Ok(());
        }
        match self.write(journal, batch) {
            Ok(written) => {
                journal.written(written.segment, written.length, batch);
                Ok(())
            }
            Err(error) => keep(journal, batch).map_err(|Full| {
                journal.refused();
                error
            }),
        }
    }

    fn write(&mut self, journal: &Journal, batch: &[Entry]) -> Result<Written, SinkError> {
        let root = journal.store.directory();
        let failed = |path: &std::path::Path, source: io::Error| SinkError::Io {
            path: path.to_owned(),
            source,
        };
        let folder = match journal.folder() {
            Some(folder) => folder,
            None => {
                let folder =
                    Folder::create(root, &self.manifest).map_err(|error| failed(root, error))?;
                let path = folder.path().to_owned();
                journal.set_folder(folder);
                path
            }
        };
        let mut frames = Vec::new();
        for entry in batch {
            frame::encode(entry, &mut frames);
        }
        let header = journal.end();
        let mut bytes = frames.len() as u64;
        if self.disk.begins_segment(header.first) {
            bytes += HEADER as u64;
        }
        let full = |limit| SinkError::Quota {
            path: folder.clone(),
            quota: limit,
        };
        if !journal.take_disk(bytes) {
            return Err(full(journal.disk.limit()));
        }
        if !journal.store.take_disk(bytes) {
            journal.disk.give(bytes);
            return Err(full(journal.store.disk.limit()));
        }
        let entries = batch.len() as u64;
        let written = self.disk.append(&folder, header, entries, &frames);
        written.map_err(|error| {
            journal.disk.give(bytes);
            journal.store.disk.give(bytes);
            failed(&folder, error)
        })
    }
}

/// Memory is full too.
struct Full;

/// Keeps a batch in memory. The end is always kept: with it the data before it is lost if need be.
fn keep(journal: &Journal, batch: &[Entry]) -> Result<(), Full> {
    let bytes: u64 = batch.iter().map(cost).sum();
    if journal.memory.take(bytes) {
        if journal.store.memory.take(bytes) {
            journal.keep(bytes, batch.to_vec(), 0);
            return Ok(());
        }
        journal.memory.give(bytes);
    }
    match batch.last() {
        Some(last) if matches!(last.event, Event::End(_)) => {
            let bytes = batch.iter().map(|e| e.event.data_len() as u64).sum();
            let before = batch.iter().map(|entry| match entry.event {
                Event::Missing { bytes } => bytes,
                _ => 0,
            });
            let gap = Entry {
                at: last.at,
                event: Event::Missing {
                    bytes: bytes + before.sum::<u64>(),
                },
            };
            let rest: Vec<Entry> = [gap, last.clone()].into();
            let kept: u64 = rest.iter().map(cost).sum();
            journal.memory.charge(kept);
            journal.store.memory.charge(kept);
            journal.keep(kept, rest, bytes);
            Ok(())
        }
        _ => Err(Full),
    }
}
