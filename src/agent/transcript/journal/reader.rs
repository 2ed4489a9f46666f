//! Reads a journal on behalf of one follower.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

use super::super::entry::Entry;
use super::super::spool::ENTRY_COST;
use super::frame::{self, HEADER};
use super::journal::Journal;

/// Where a follower reads on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    /// Number of the next entry.
    pub(super) entry: u64,
    /// Where it stands: the first entry of a segment, and an offset in its file.
    hint: Option<(u64, u64)>,
}

/// Entries that were read.
pub(super) struct Batch {
    pub(super) start: u64,
    pub(super) entries: Vec<Entry>,
    /// Where it goes on if all of them are confirmed.
    after: Cursor,
}

impl Cursor {
    /// A cursor in front of an entry.
    pub(super) fn at(entry: u64) -> Self {
        Self { entry, hint: None }
    }
}

impl Batch {
    /// Where it goes on if the first `confirmed` entries are.
    pub(super) fn after(&self, confirmed: usize) -> Cursor {
        if confirmed >= self.entries.len() {
            return self.after;
        }
        Cursor {
            entry: self.start + confirmed as u64,
            hint: None,
        }
    }
}

impl Journal {
    /// Reads what follows `cursor`, until the entries cost `limit`; at least one. Blocks the thread.
    pub(super) fn read(&self, cursor: Cursor, limit: u64) -> io::Result<Batch> {
        let mut batch = Batch {
            start: cursor.entry,
            entries: Vec::new(),
            after: cursor,
        };
        let mut taken = 0;
        while taken < limit {
            let Some(piece) = self.piece(batch.after.entry) else {
                break;
            };
            piece.read(&mut batch, &mut taken, limit)?;
        }
        Ok(batch)
    }
}

/// What an entry counts in a batch: its data and what it takes in memory beside.
pub(super) fn cost(entry: &Entry) -> u64 {
    (entry.event.data_len() + ENTRY_COST) as u64
}

/// A part of the journal that is being read.
pub(super) struct Piece {
    pub(super) first: u64,
    pub(super) entries: u64,
    pub(super) source: Source,
}

/// Where it is.
pub(super) enum Source {
    /// A file of this length.
    File(PathBuf, u64),
    /// Entries from the cursor on.
    Memory(Vec<Entry>),
}

impl Piece {
    fn read(self, batch: &mut Batch, taken: &mut u64, limit: u64) -> io::Result<()> {
        let cursor = batch.after;
        if batch.entries.is_empty() {
            batch.start = cursor.entry.max(self.first);
        }
        match self.source {
            Source::Memory(entries) => {
                batch.after.entry = cursor.entry.max(self.first);
                for entry in entries {
                    if *taken >= limit {
                        break;
                    }
                    *taken += cost(&entry);
                    batch.after.entry += 1;
                    batch.entries.push(entry);
                }
                batch.after.hint = None;
            }
            Source::File(path, length) => {
                let start = (self.first, HEADER as u64);
                let hint = cursor.hint.filter(|(first, _)| *first == self.first);
                let (mut entry, mut offset) = match hint {
                    Some((_, offset)) => (cursor.entry, offset),
                    None => start,
                };
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(offset))?;
                let mut file = BufReader::new(file.take(length - offset));
                while *taken < limit && entry < self.first + self.entries {
                    let frame = frame::read(&mut file, length - offset)?;
                    let (read, size) = frame.ok_or(io::ErrorKind::InvalidData)?;
                    offset += size;
                    if entry >= cursor.entry {
                        *taken += cost(&read);
                        batch.entries.push(read);
                    }
                    entry += 1;
                }
                batch.after = Cursor {
                    entry,
                    hint: Some((self.first, offset)),
                };
            }
        }
        Ok(())
    }
}
