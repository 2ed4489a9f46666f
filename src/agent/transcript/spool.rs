//! The bounded memory between a recorder and one sink.
//!
//! One producer (the recorder) and one consumer (the writer). Entries count their data plus
//! [`ENTRY_COST`] until the sink has taken them, so a batch that is being written still counts; an
//! idle spool holds no memory.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::entry::{End, Entry, Event, RecordedFile};

/// What an entry costs beside its data, rounded up: the entry, and the head of its buffer.
pub const ENTRY_COST: usize = 128;

/// A bounded queue of entries with a count of what found no room.
pub struct Spool {
    limit: usize,
    state: Mutex<State>,
    /// There is something to do for the writer.
    filled: Notify,
    /// There is room again, or there is no use in waiting for any.
    room: Notify,
    /// The writer is gone.
    finished: Notify,
    /// Cancelled when the sink does not take what it has to, if there is a session that must not go
    /// on without.
    broken: Option<CancellationToken>,
}

struct State {
    queue: Vec<Entry>,
    /// Bytes in `queue` and in the batch that is being written.
    used: usize,
    in_flight: Option<InFlight>,
    /// Bytes dropped since the last entry that was taken.
    missing: u64,
    intake: Intake,
    outcome: Outcome,
}

/// The batch that the writer has taken and the sink has not.
struct InFlight {
    cost: usize,
    data: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    /// The sink takes what it is given.
    Open,
    /// The sink was too slow or has failed: a full spool drops instead of waiting.
    Stalled,
    /// The recorder is done.
    Closed,
    /// The writer is gone.
    Gone,
}

/// What became of the entries so far.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Bytes that the sink will never get.
    pub lost: u64,
    /// What went wrong first.
    pub problem: Option<String>,
    /// The file that was made, and what was in it after the last batch.
    pub file: Option<RecordedFile>,
}

/// What a spool did with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is queued.
    Taken,
    /// It is dropped and counted.
    Dropped,
    /// There is no room now; waiting for [`Spool::room`] may help.
    Full,
}

impl Spool {
    /// An empty spool for `limit` bytes. One entry always fits.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            state: Mutex::new(State {
                queue: Vec::new(),
                used: 0,
                in_flight: None,
                missing: 0,
                intake: Intake::Open,
                outcome: Outcome::default(),
            }),
            filled: Notify::new(),
            room: Notify::new(),
            finished: Notify::new(),
            broken: None,
        }
    }

    /// Its sink has to take everything; `broken` is cancelled when it does not.
    pub fn strict(mut self, broken: CancellationToken) -> Self {
        self.broken = Some(broken);
        self
    }

    /// Whether its sink has to take everything.
    pub fn is_strict(&self) -> bool {
        self.broken.is_some()
    }

    /// Queues a copy of `entry` if there is room, or drops it if the sink has stalled.
    pub fn offer(&self, entry: &Entry) -> Offer {
        let mut state = self.lock();
        let fits = state.used == 0 || state.used + cost(entry) <= self.limit;
        match state.intake {
            Intake::Open | Intake::Stalled if fits => state.push(entry.clone()),
            Intake::Open => return Offer::Full,
            Intake::Stalled | Intake::Closed | Intake::Gone => {
                state.drop_entry(entry);
                return Offer::Dropped;
            }
        }
        let wake = state.queue.len() == 1 || self.is_urgent(&state);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Offer::Taken
    }

    /// Waits until [`Self::offer`] may do better than [`Offer::Full`].
    pub async fn room(&self) {
        self.room.notified().await;
    }

    /// The sink has failed, or the recorder has waited long enough: nobody waits for room until the
    /// sink has caught up. Returns whether this is the first problem.
    pub fn stall(&self, problem: String) -> bool {
        let mut state = self.lock();
        if state.intake == Intake::Open {
            state.intake = Intake::Stalled;
        }
        let is_first = state.outcome.problem.is_none();
        state.outcome.problem.get_or_insert(problem);
        drop(state);
        self.room.notify_one();
        self.break_session();
        is_first
    }

    /// Queues the end, limit or not, and lets the writer finish. Only the first call counts.
    pub fn close(&self, at: Duration, end: End) {
        let mut state = self.lock();
        if matches!(state.intake, Intake::Open | Intake::Stalled) {
            state.push(Entry {
                at,
                event: Event::End(end),
            });
            state.intake = Intake::Closed;
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Waits until the writer is gone.
    pub async fn finished(&self) {
        while self.lock().intake != Intake::Gone {
            self.finished.notified().await;
        }
    }

    /// What became of the entries so far.
    pub fn outcome(&self) -> Outcome {
        self.lock().outcome.clone()
    }

    /// Writer: waits for entries, then up to `gather` for more, and takes them all. None once
    /// everything up to the end has been taken.
    pub async fn next_batch(&self, gather: Duration) -> Option<Vec<Entry>> {
        loop {
            {
                let state = self.lock();
                if !state.queue.is_empty() {
                    break;
                }
                if state.intake == Intake::Closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
        let deadline = Instant::now() + gather;
        while !self.is_urgent(&self.lock()) {
            if timeout_at(deadline, self.filled.notified()).await.is_err() {
                break;
            }
        }
        let mut state = self.lock();
        let batch = std::mem::take(&mut state.queue);
        state.in_flight = Some(InFlight {
            cost: batch.iter().map(cost).sum(),
            data: batch.iter().map(data_len).sum(),
        });
        Some(batch)
    }

    /// Writer: the sink took the batch. A stall ends when the sink has caught up.
    pub fn written(&self) {
        let mut state = self.lock();
        if let Some(batch) = state.in_flight.take() {
            state.used -= batch.cost;
        }
        if state.intake == Intake::Stalled && state.queue.is_empty() {
            state.intake = Intake::Open;
        }
        drop(state);
        self.room.notify_one();
    }

    /// Writer: the sink made this file, and this is in it by now.
    pub fn made(&self, file: RecordedFile) {
        self.lock().outcome.file = Some(file);
    }

    /// Writer: whether the recorder is done.
    pub fn is_closed(&self) -> bool {
        self.lock().intake == Intake::Closed
    }

    /// Writer: waits until the recorder is done or `wait` has passed.
    pub async fn closed_or(&self, wait: Duration) {
        let deadline = Instant::now() + wait;
        while !self.is_closed() {
            if timeout_at(deadline, self.filled.notified()).await.is_err() {
                return;
            }
        }
    }

    /// The writer is gone, or its end is not waited for: nothing is taken any more, and what the sink
    /// has not taken is lost because of `problem`.
    pub fn detach(&self, problem: &str) {
        let mut state = self.lock();
        if state.intake == Intake::Gone {
            return;
        }
        let queue = std::mem::take(&mut state.queue);
        let in_flight = state.in_flight.take();
        if state.intake != Intake::Closed || !queue.is_empty() || in_flight.is_some() {
            let problem = || problem.to_owned();
            state.outcome.problem.get_or_insert_with(problem);
        }
        let is_early = state.intake != Intake::Closed;
        state.outcome.lost += queue.iter().map(data_len).sum::<u64>();
        state.outcome.lost += in_flight.map_or(0, |batch| batch.data);
        state.intake = Intake::Gone;
        drop(state);
        self.room.notify_one();
        self.finished.notify_one();
        if is_early {
            self.break_session();
        }
    }

    fn break_session(&self) {
        if let Some(broken) = &self.broken {
            broken.cancel();
        }
    }

    /// Half of the memory is in use, or the end is near: no more gathering.
    fn is_urgent(&self, state: &State) -> bool {
        state.used >= self.limit / 2 || state.intake == Intake::Closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs while the lock is held, and the counters stand by themselves.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, entry: Entry) {
        if self.missing > 0 {
            let gap = Entry {
                at: entry.at,
                event: Event::Missing {
                    bytes: std::mem::take(&mut self.missing),
                },
            };
            self.used += cost(&gap);
            self.queue.push(gap);
        }
        self.used += cost(&entry);
        self.queue.push(entry);
    }

    fn drop_entry(&mut self, entry: &Entry) {
        let bytes = data_len(entry);
        self.missing += bytes;
        self.outcome.lost += bytes;
    }
}

fn cost(entry: &Entry) -> usize {
    ENTRY_COST + entry.event.data_len()
}

fn data_len(entry: &Entry) -> u64 {
    entry.event.data_len() as u64
}
