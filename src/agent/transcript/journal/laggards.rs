//! What a full journal does with a service that is far behind: it loses what stands in the way of the
//! others, so that one that hangs holds nobody else back.

use std::fs;
use std::sync::atomic::Ordering;

use tracing::warn;

use super::super::entry::{Entry, Event};
use super::super::remote::Policy;
use super::folder::segment_path;
use super::journal::{Journal, Place, Segment, State};
use super::reader::cost;

/// Bytes of data that a service may be behind and lose nothing: what one has to gather before it can
/// store something for good, and a segment more.
const NEAR: u64 = 10 << 20;

impl Journal {
    /// Takes bytes of the disk that this session may use. If there are not so many left, services that
    /// are far behind the foremost make room. Blocks the thread.
    pub(super) fn take_disk(&self, bytes: u64) -> bool {
        if self.disk.take(bytes) {
            return true;
        }
        // What was confirmed since that was last written down is not needed any more.
        let copies = self.lock().copies.len();
        (0..copies).for_each(|number| self.save(number));
        while !self.disk.take(bytes) {
            if !self.shed() {
                return false;
            }
        }
        true
    }

    /// Puts a marker in the place of the oldest segment that only laggards wait for. Returns whether
    /// there was one.
    fn shed(&self) -> bool {
        let mut state = self.lock();
        let Some(at) = state.oldest_of_laggards() else {
            return false;
        };
        let Segment {
            first,
            entries,
            data,
            at: time,
            ..
        } = state.segments[at];
        let mut must_break = false;
        for copy in state.copies.iter_mut().filter(|copy| copy.is_followed()) {
            if copy.position.entry <= first {
                if copy.lost == 0 {
                    let service = copy.service;
                    warn!(
                        service,
                        "the service is so far behind that its copy loses bytes"
                    );
                }
                copy.lost += data;
                must_break |= copy.target.policy == Policy::FailClosed;
            }
        }
        let gap = Entry {
            at: time,
            event: Event::Missing { bytes: data },
        };
        let bytes = cost(&gap);
        let marker = Segment {
            first: first + entries - 1,
            entries: 1,
            bytes,
            data: 0,
            at: time,
            place: Place::Memory(vec![gap]),
        };
        let shed = std::mem::replace(&mut state.segments[at], marker);
        let folder = state.folder.as_ref().map(|f| f.path().to_owned());
        drop(state);
        self.shed.fetch_add(1, Ordering::Relaxed);
        self.memory.charge(bytes);
        self.store.memory.charge(bytes);
        self.release(&shed);
        if let Some(folder) = folder {
            let path = segment_path(&folder, first);
            if let Err(error) = fs::remove_file(&path) {
                warn!(path = %path.display(), %error, "cannot delete a segment");
            }
        }
        if must_break {
            self.break_session();
        }
        true
    }
}

impl State {
    /// The oldest segment on disk that the foremost service has confirmed long ago, and that no other
    /// is in the middle of.
    fn oldest_of_laggards(&self) -> Option<usize> {
        let followed = self.copies.iter().filter(|copy| copy.is_followed());
        let positions: Vec<u64> = followed.map(|copy| copy.position.entry).collect();
        let foremost = *positions.iter().max()?;
        let mut behind: u64 = self.segments.iter().map(|segment| segment.data).sum();
        for (at, segment) in self.segments.iter().enumerate() {
            behind -= segment.data;
            let end = segment.first + segment.entries;
            if behind < NEAR || end > foremost {
                return None;
            }
            let is_between = |&entry: &u64| entry <= segment.first || entry >= end;
            if matches!(segment.place, Place::File) && positions.iter().all(is_between) {
                return Some(at);
            }
        }
        None
    }
}
