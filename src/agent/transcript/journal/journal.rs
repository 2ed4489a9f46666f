//! The entries of one session and how far each service has got with them.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::super::entry::{End, Entry, Event};
use super::super::remote::{Policy, Progress, RemoteCopy, Standing, Target};
use super::folder::{self, Folder, Position, segment_path};
use super::frame;
use super::reader::{Piece, Source, cost};
use super::recovery::Left;
use super::store::{Budget, SESSION_MEMORY, Store};

/// How often a position is written down while its service takes entries: each time the disk has to be
/// waited for. What a crash of the agent makes of it is offered again.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// The journal of one session.
pub struct Journal {
    pub(super) store: Arc<Store>,
    /// Disk and memory that it takes itself.
    pub(super) disk: Budget,
    pub(super) memory: Budget,
    state: Mutex<State>,
    /// Held while the small files of the folder are written, or the folder is deleted.
    files: Mutex<()>,
    news: watch::Sender<News>,
    /// Cancelled when a service that the session must not go on without takes no more.
    broken: CancellationToken,
    /// How many segments were taken from services that were too far behind.
    pub(super) shed: AtomicU64,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) folder: Option<Folder>,
    /// What is not confirmed by every service, in order.
    pub(super) segments: VecDeque<Segment>,
    /// Number of the next entry.
    next: u64,
    /// Bytes of session data in all entries so far.
    data: u64,
    pub(super) copies: Vec<Copy>,
    /// Bytes of session data that neither disk nor memory took.
    lost: u64,
    /// Nobody needs the folder any more.
    settled: bool,
    /// Time of the last entry.
    at: Duration,
    /// When an entry came or a service took one last; none before the first.
    touched: Option<Instant>,
}

/// A service's copy of the record.
pub struct Copy {
    pub(super) service: &'static str,
    pub(super) place: String,
    pub(super) target: Target,
    pub(super) position: Position,
    /// When that was last written down.
    pub(super) saved: Instant,
    /// Bytes that it lost because it was too far behind.
    pub(super) lost: u64,
}

/// Entries that follow each other in one place.
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) entries: u64,
    /// Bytes of file or of memory.
    pub(super) bytes: u64,
    /// Bytes of session data in them.
    pub(super) data: u64,
    /// Time of the last of them.
    pub(super) at: Duration,
    pub(super) place: Place,
}

pub(super) enum Place {
    File,
    Memory(Vec<Entry>),
}

/// What followers wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Entries so far.
    pub(super) entries: u64,
    /// What they cost, counted as in a batch.
    pub(super) cost: u64,
    /// Bytes of output in them.
    pub(super) output: u64,
    /// The last one is the end.
    pub(super) ended: bool,
    /// Every service has the end, or was given up.
    pub(super) settled: bool,
}

impl Journal {
    /// An empty journal of a session that starts.
    pub fn new(store: Arc<Store>, copies: Vec<Copy>) -> Self {
        Self {
            disk: store.session_disk(),
            memory: Budget::new(SESSION_MEMORY),
            store,
            state: Mutex::new(State {
                copies,
                ..State::default()
            }),
            files: Mutex::default(),
            news: watch::Sender::default(),
            broken: CancellationToken::new(),
            shed: AtomicU64::new(0),
        }
    }

    /// A journal of what an earlier agent has left; the end is in it.
    pub fn recovered(store: Arc<Store>, copies: Vec<Copy>, left: Left) -> Self {
        let Left {
            folder, segments, ..
        } = left;
        let journal = Self::new(store, copies);
        for segment in &segments {
            let (own, all) = match segment.place {
                Place::File => (&journal.disk, &journal.store.disk),
                Place::Memory(_) => (&journal.memory, &journal.store.memory),
            };
            own.charge(segment.bytes);
            all.charge(segment.bytes);
        }
        let mut state = journal.lock();
        state.next = segments.back().map_or(0, |last| last.first + last.entries);
        state.segments = segments;
        state.folder = Some(folder);
        state.touched = Some(Instant::now());
        journal.news.send_modify(|news| {
            news.entries = state.next;
            news.ended = true;
        });
        drop(state);
        journal
    }

    /// Cancelled when a service that the session must not go on without takes no more.
    pub fn broken(&self) -> CancellationToken {
        self.broken.clone()
    }

    /// Waits until every service has the end or was given up.
    pub async fn settled(&self) {
        // The sender lives as long as the journal.
        let _ = self.news.subscribe().wait_for(|news| news.settled).await;
    }

    /// How far each service has got.
    pub fn copies(&self) -> Vec<RemoteCopy> {
        let copies = &self.lock().copies;
        let copy = |copy: &Copy| RemoteCopy {
            service: copy.service,
            destination: copy.target.destination.clone(),
            place: copy.place.clone(),
            lost_bytes: copy.lost,
            standing: match &copy.position {
                Position {
                    given_up: Some(problem),
                    ..
                } => Standing::GivenUp(problem.clone()),
                Position { complete: true, .. } => Standing::Complete,
                _ => Standing::Continuing,
            },
        };
        copies.iter().map(copy).collect()
    }

    /// How far each service is just now.
    pub fn progress(&self) -> Vec<Progress> {
        let state = self.lock();
        let progress = |copy: &Copy| Progress {
            service: copy.service,
            place: copy.place.clone(),
            entries: state.next,
            confirmed: copy.position.entry.min(state.next),
            problem: copy.position.given_up.clone(),
        };
        state.copies.iter().map(progress).collect()
    }

    /// Bytes of the session's data that neither disk nor memory took at its end, or that the service
    /// which was furthest behind lost.
    pub fn lost(&self) -> u64 {
        let state = self.lock();
        let behind = state.copies.iter().map(|copy| copy.lost).max();
        state.lost + behind.unwrap_or(0)
    }

    pub(super) fn news(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }

    /// Whether anybody will read what is written.
    pub(super) fn is_followed(&self) -> bool {
        self.lock().copies.iter().any(Copy::is_followed)
    }

    /// Number of the next entry, and the bytes of data before it.
    pub(super) fn end(&self) -> frame::Header {
        let state = self.lock();
        frame::Header {
            first: state.next,
            data: state.data,
        }
    }

    pub(super) fn folder(&self) -> Option<PathBuf> {
        let state = self.lock();
        state.folder.as_ref().map(|folder| folder.path().to_owned())
    }

    pub(super) fn set_folder(&self, folder: Folder) {
        self.lock().folder = Some(folder);
    }

    /// Entries were written to the segment that begins with `segment`, which has `length` bytes now.
    pub(super) fn written(&self, segment: u64, length: u64, batch: &[Entry]) {
        let mut state = self.lock();
        let entries = batch.len() as u64;
        let (data, at) = (
            data_of(batch),
            batch.last().map_or(state.at, |last| last.at),
        );
        match state.segments.back_mut() {
            Some(last) if last.first == segment && matches!(last.place, Place::File) => {
                last.entries += entries;
                last.bytes = length;
                last.data += data;
                last.at = at;
            }
            _ => state.segments.push_back(Segment {
                first: segment,
                entries,
                bytes: length,
                data,
                at,
                place: Place::File,
            }),
        }
        self.count(state, batch);
    }

    /// Keeps entries in memory, for which `bytes` were taken from the budgets.
    pub(super) fn keep(&self, bytes: u64, batch: Vec<Entry>, lost: u64) {
        let mut state = self.lock();
        state.lost += lost;
        let counted = batch.clone();
        let (more, time) = (
            data_of(&batch),
            batch.last().map_or(state.at, |last| last.at),
        );
        match state.segments.back_mut() {
            Some(Segment {
                entries,
                bytes: held,
                data,
                at,
                place: Place::Memory(kept),
                ..
            }) => {
                *entries += batch.len() as u64;
                *held += bytes;
                *data += more;
                *at = time;
                kept.extend(batch);
            }
            _ => {
                let first = state.next;
                state.segments.push_back(Segment {
                    first,
                    entries: batch.len() as u64,
                    bytes,
                    data: more,
                    at: time,
                    place: Place::Memory(batch),
                });
            }
        }
        self.count(state, &counted);
    }

    /// Nothing follows any more; where the end has not come, this is it.
    pub(super) fn break_off(&self, reason: &str) {
        if self.news.borrow().ended {
            return;
        }
        let at = self.lock().at;
        let event = Event::End(End {
            reason: reason.to_owned(),
            exit_code: None,
        });
        self.keep(0, vec![Entry { at, event }], 0);
    }

    fn count(&self, mut state: MutexGuard<'_, State>, batch: &[Entry]) {
        state.next += batch.len() as u64;
        state.touched = Some(Instant::now());
        state.data += data_of(batch);
        let entries = state.next;
        state.at = batch.last().map_or(state.at, |last| last.at);
        drop(state);
        self.news.send_modify(|news| {
            news.entries = entries;
            news.cost += batch.iter().map(cost).sum::<u64>();
            news.output += batch.iter().map(output).sum::<u64>();
            news.ended |= matches!(batch.last().map(|e| &e.event), Some(Event::End(_)));
        });
    }

    /// Whether the session is over, and somebody still waits for its record.
    pub(super) fn is_over(&self) -> bool {
        self.news.borrow().ended && !self.is_settled()
    }

    /// Whether nobody needs it any more.
    pub fn is_settled(&self) -> bool {
        self.news.borrow().settled
    }

    /// How far services may fall behind a busy session by their own choice.
    pub(super) fn slack(&self) -> u64 {
        self.disk.limit() / 4
    }

    /// Whether it has files.
    pub(super) fn holds_disk(&self) -> bool {
        !self.disk.is_unused()
    }

    /// For how long no entry came and no service took one.
    pub(super) fn idle(&self) -> Duration {
        let touched = self.lock().touched;
        touched.map_or(Duration::ZERO, |touched| touched.elapsed())
    }

    /// Gives up what is not at its service yet, and deletes everything. Blocks the thread.
    pub(super) fn evict(&self, problem: &str) {
        for copy in &mut self.lock().copies {
            if copy.is_followed() {
                copy.position.given_up = Some(problem.to_owned());
            }
        }
        self.settle();
    }

    /// Neither disk nor memory takes more.
    pub(super) fn refused(&self) {
        self.break_if(Copy::is_followed);
    }

    fn break_if(&self, is_concerned: impl Fn(&Copy) -> bool) {
        let is_broken = (self.lock().copies.iter())
            .any(|copy| copy.target.policy == Policy::FailClosed && is_concerned(copy));
        if is_broken {
            self.break_session();
        }
    }

    /// The session must not go on.
    pub(super) fn break_session(&self) {
        self.broken.cancel();
    }

    /// The segment that has entry `entry`, or the first one after it.
    pub(super) fn piece(&self, entry: u64) -> Option<Piece> {
        let state = self.lock();
        let segment = state
            .segments
            .iter()
            .find(|s| s.first + s.entries > entry)?;
        Some(Piece {
            first: segment.first,
            entries: segment.entries,
            source: match &segment.place {
                Place::File => {
                    let folder = state.folder.as_ref()?.path();
                    Source::File(segment_path(folder, segment.first), segment.bytes)
                }
                Place::Memory(kept) => {
                    let skip = usize::try_from(entry.saturating_sub(segment.first));
                    Source::Memory(kept.get(skip.ok()?..)?.to_vec())
                }
            },
        })
    }

    /// Service `number` has confirmed everything before `entry`; now and then writes that down and
    /// deletes what nobody needs any more. Blocks the thread.
    /// Returns whether that was everything.
    pub(super) fn confirm(&self, number: usize, entry: u64, uploader: Value) -> bool {
        let ended = self.news.borrow().ended;
        let mut is_complete = false;
        let changed = self.change(number, |position, next| {
            is_complete = ended && entry >= next;
            position.entry = entry;
            position.complete = is_complete;
            position.state = uploader;
        });
        if is_complete || changed.is_some_and(|saved| saved.elapsed() >= SAVE_INTERVAL) {
            self.save(number);
        } else if self.is_in_memory() {
            self.trim();
        }
        is_complete
    }

    /// Service `number` takes no more because of `problem`. Blocks the thread.
    /// Returns true, for that is the end of it.
    pub(super) fn give_up(&self, number: usize, problem: String) -> bool {
        self.change(number, |position, _| {
            position.given_up.get_or_insert(problem);
        });
        self.save(number);
        self.break_if(|copy| copy.position.given_up.is_some());
        true
    }

    /// Changes a position in memory; when it was last written down.
    fn change(&self, number: usize, change: impl FnOnce(&mut Position, u64)) -> Option<Instant> {
        let mut state = self.lock();
        let next = state.next;
        state.touched = Some(Instant::now());
        let copy = state.copies.get_mut(number)?;
        change(&mut copy.position, next);
        Some(copy.saved)
    }

    /// Writes down how far service `number` has got and deletes what nobody needs any more. Blocks the
    /// thread.
    pub(super) fn save(&self, number: usize) {
        // On a full disk there may be room once something was deleted.
        let is_saved = self.try_save(number).is_ok();
        self.trim();
        if !is_saved && let Err(error) = self.try_save(number) {
            debug!(%error, "cannot write down how far the upload of a record has got");
        }
        self.settle();
    }

    /// Whether the disk did not take what stands first. Memory is short, and needed at once.
    pub(super) fn is_in_memory(&self) -> bool {
        let state = self.lock();
        let first = state.segments.front();
        first.is_some_and(|segment| matches!(segment.place, Place::Memory(_)))
    }

    fn try_save(&self, number: usize) -> io::Result<()> {
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let (folder, position) = {
            let mut state = self.lock();
            let folder = state.folder.as_ref().map(|folder| folder.path().to_owned());
            let Some((folder, copy)) = folder.zip(state.copies.get_mut(number)) else {
                return Ok(());
            };
            copy.saved = Instant::now();
            (folder, copy.position.clone())
        };
        folder::save_position(&folder, number, &position)
    }

    /// Deletes segments that every service has confirmed, but the file that is being written.
    fn trim(&self) {
        let mut state = self.lock();
        let needed = state.copies.iter().filter(|copy| copy.is_followed());
        let needed = needed.map(|copy| copy.position.entry).min();
        let needed = needed.unwrap_or(u64::MAX);
        let mut done = Vec::new();
        while let Some(segment) = state.segments.front() {
            let is_written = state.segments.len() == 1 && matches!(segment.place, Place::File);
            if segment.first + segment.entries > needed || is_written {
                break;
            }
            done.extend(state.segments.pop_front());
        }
        let folder = state.folder.as_ref().map(|f| f.path().to_owned());
        drop(state);
        for segment in done {
            self.release(&segment);
            if let (Place::File, Some(folder)) = (segment.place, &folder) {
                let path = segment_path(folder, segment.first);
                if let Err(error) = fs::remove_file(&path) {
                    warn!(path = %path.display(), %error, "cannot delete a confirmed segment");
                }
            }
        }
    }

    pub(super) fn release(&self, segment: &Segment) {
        let (own, all) = match segment.place {
            Place::File => (&self.disk, &self.store.disk),
            Place::Memory(_) => (&self.memory, &self.store.memory),
        };
        own.give(segment.bytes);
        all.give(segment.bytes);
    }

    /// Deletes the folder once every service has the end or was given up, and the session is over.
    pub(super) fn settle(&self) {
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        let is_needed = !self.news.borrow().ended || state.copies.iter().any(Copy::is_followed);
        if is_needed || state.settled {
            return;
        }
        state.settled = true;
        let folder = state.folder.take();
        let segments = std::mem::take(&mut state.segments);
        drop(state);
        for segment in &segments {
            self.release(segment);
        }
        if let Some(folder) = folder {
            folder.delete();
        }
        self.news.send_modify(|news| news.settled = true);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs while the lock is held, and the counters stand by themselves.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn data_of(batch: &[Entry]) -> u64 {
    let lengths = batch.iter().map(|entry| entry.event.data_len() as u64);
    lengths.sum()
}

fn output(entry: &Entry) -> u64 {
    match &entry.event {
        Event::Output(bytes) | Event::ErrorOutput(bytes) => bytes.len() as u64,
        Event::Input(_) | Event::Resize(_) | Event::Missing { .. } | Event::End(_) => 0,
    }
}

impl Copy {
    /// Whether it still needs entries.
    pub(super) fn is_followed(&self) -> bool {
        self.position.is_followed()
    }
}
