//! Reads a journal on behalf of one follower.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};

use super::super::entry::{Entry, Event};
use super::super::growing::Piece as Cast;
use super::super::spool::ENTRY_COST;
use super::super::uploader::Wants;
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
    /// The number after each of them; more than one further on where some were joined or left out.
    ends: Vec<u64>,
    /// Where it goes on if all of them are confirmed.
    after: Cursor,
    /// The cast that they were put into, in place of `entries`.
    pub(super) cast: Option<Cast>,
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
        if confirmed >= self.len() {
            return self.after;
        }
        let last = confirmed
            .checked_sub(1)
            .and_then(|last| self.ends.get(last));
        Cursor::at(last.copied().unwrap_or(self.start))
    }

    /// How many entries there are to be confirmed.
    pub(super) fn len(&self) -> usize {
        let in_cast = self.cast.as_ref().map(|cast| cast.count);
        in_cast.unwrap_or(self.entries.len())
    }

    /// What they take in memory.
    pub(super) fn bytes(&self) -> u64 {
        let in_cast = self.cast.as_ref().map(|cast| cast.bytes.len() as u64);
        in_cast.unwrap_or_else(|| self.entries.iter().map(cost).sum())
    }

    /// What the first `count` entries count of what a follower waits for; all of them, if they are in
    /// a cast.
    pub(super) fn counted(&self, wants: Wants, count: usize) -> u64 {
        if let Some(cast) = &self.cast {
            return cast.output;
        }
        let counted = self.entries.iter().take(count).map(|entry| match wants {
            Wants::Entries => cost(entry),
            Wants::Output | Wants::Cast => entry.event.data_len() as u64,
        });
        counted.sum()
    }

    /// Number of the first entry that was not read.
    pub(super) fn end(&self) -> u64 {
        self.after.entry
    }

    /// Takes the entry with this number; returns what it costs.
    fn take(&mut self, number: u64, entry: Entry, wants: Wants) -> u64 {
        if let Some(cast) = &mut self.cast {
            let before = cast.bytes.len();
            cast.add(&entry);
            return (cast.bytes.len() - before) as u64;
        }
        let cost = match (wants, &entry.event) {
            (Wants::Output, Event::Input(_) | Event::Resize(_)) => return 0,
            (Wants::Output, Event::Output(bytes) | Event::ErrorOutput(bytes)) => {
                if self.join(number, bytes) {
                    return bytes.len() as u64;
                }
                cost(&entry)
            }
            _ => cost(&entry),
        };
        self.entries.push(entry);
        self.ends.push(number + 1);
        cost
    }

    /// Appends output to the entry before, if that is output too.
    fn join(&mut self, number: u64, more: &Bytes) -> bool {
        let (Some(last), Some(end)) = (self.entries.last_mut(), self.ends.last_mut()) else {
            return false;
        };
        let (Event::Output(bytes) | Event::ErrorOutput(bytes)) = &mut last.event else {
            return false;
        };
        // In place, unless the buffer is shared with the journal's memory.
        let taken = std::mem::take(bytes);
        let mut joined = taken
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        joined.extend_from_slice(more);
        *bytes = joined.freeze();
        *end = number + 1;
        true
    }
}

impl Journal {
    /// Reads what follows `cursor`, until the entries cost `limit`; at least one. If there is a `cast`,
    /// they go into it. Blocks the thread.
    pub(super) fn read(
        &self,
        cursor: Cursor,
        limit: u64,
        wants: Wants,
        cast: Option<Cast>,
    ) -> io::Result<Batch> {
        let mut batch = Batch {
            start: cursor.entry,
            entries: Vec::new(),
            ends: Vec::new(),
            after: cursor,
            cast,
        };
        let mut taken = 0;
        while taken < limit {
            let Some(piece) = self.piece(batch.after.entry) else {
                break;
            };
            piece.read(&mut batch, &mut taken, limit, wants)?;
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
    fn read(self, batch: &mut Batch, taken: &mut u64, limit: u64, wants: Wants) -> io::Result<()> {
        let cursor = batch.after;
        if batch.len() == 0 {
            batch.start = cursor.entry.max(self.first);
        }
        match self.source {
            Source::Memory(entries) => {
                batch.after.entry = cursor.entry.max(self.first);
                for entry in entries {
                    if *taken >= limit {
                        break;
                    }
                    *taken += batch.take(batch.after.entry, entry, wants);
                    batch.after.entry += 1;
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
                        *taken += batch.take(entry, read, wants);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::{Settings, Store};
    use super::*;
    use crate::protocol::wire::TerminalSize;

    #[test]
    fn output_alone_comes_in_one_piece_and_is_confirmed_up_to_where_it_stands() {
        let journal = journal(vec![
            Event::Resize(TerminalSize { cols: 80, rows: 24 }),
            Event::Output("a".into()),
            Event::Input("secret".into()),
            Event::ErrorOutput("b".into()),
            Event::Missing { bytes: 7 },
            Event::Output("c".into()),
            Event::Input("secret".into()),
        ]);

        let read = |limit| journal.read(Cursor::default(), limit, Wants::Output, None);
        let batch = read(1000).unwrap();

        let events = [
            Event::Output("ab".into()),
            Event::Missing { bytes: 7 },
            Event::Output("c".into()),
        ];
        let read_events: Vec<Event> = batch.entries.iter().map(|e| e.event.clone()).collect();
        assert_eq!(read_events, events);
        let ends: Vec<u64> = (0..=3).map(|count| batch.after(count).entry).collect();
        assert_eq!(ends, [0, 4, 5, 7]);
    }

    #[test]
    fn batch_of_single_characters_holds_as_much_as_any_other() {
        let journal = journal(vec![Event::Output("x".into()); 5000]);

        let length = |wants| {
            let batch = journal.read(Cursor::default(), 4096, wants, None).unwrap();
            let lengths = batch.entries.iter().map(|entry| entry.event.data_len());
            lengths.sum::<usize>()
        };

        assert_eq!(length(Wants::Entries), 4096_usize.div_ceil(ENTRY_COST + 1));
        assert_eq!(length(Wants::Output), 4096 - ENTRY_COST);
    }

    fn journal(events: Vec<Event>) -> Journal {
        let settings = Settings::new("/nonexistent", 0);
        let journal = Journal::new(Arc::new(Store::new(settings)), Vec::new());
        let at = Duration::ZERO;
        let entries = events.into_iter().map(|event| Entry { at, event });
        journal.keep(0, entries.collect(), 0);
        journal
    }
}
