//! The queue of lines and the task that writes them.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

use super::event::{Event, line};
use super::file::{LogFile, Settings};
use crate::runtime::backoff::Backoff;

/// Bytes that may wait for the disk: the ends of 15,000 connections at once.
const QUEUE: usize = 4 << 20;
/// Wait after a failed write; doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Takes what is to be logged. A clone is the same log.
#[derive(Clone)]
pub struct AuditLog {
    queue: Option<Arc<Queue>>,
}

struct Queue {
    state: Mutex<State>,
    /// There is something to do for the writer.
    filled: Notify,
}

#[derive(Default)]
struct State {
    /// Whole lines that wait.
    waiting: String,
    /// Bytes that the writer has taken and the disk has not.
    in_flight: usize,
    /// Number of the next line.
    seq: u64,
    /// Lines that found no room since one did.
    lost: u64,
    /// Nothing is taken any more.
    is_closed: bool,
}

impl AuditLog {
    /// A log that keeps nothing.
    pub fn off() -> Self {
        Self { queue: None }
    }

    /// A log and its writer, which the caller spawns and which ends after [`Self::close`].
    pub fn open(settings: Settings) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            filled: Notify::new(),
        });
        let write = write(Arc::clone(&queue), LogFile::new(settings));
        let queue = Some(queue);
        (Self { queue }, write)
    }

    /// Logs an event; never waits.
    pub fn record(&self, event: &Event<'_>) {
        let Some(queue) = &self.queue else { return };
        let is_full = {
            let mut state = queue.lock();
            if state.is_closed {
                return;
            }
            state.push(event)
        };
        queue.filled.notify_one();
        if is_full {
            warn!("lines of the audit log are lost, the disk does not take them");
        }
    }

    /// Ends the log: what waits is written if that goes at once.
    pub fn close(&self) {
        if let Some(queue) = &self.queue {
            queue.lock().is_closed = true;
            queue.filled.notify_one();
        }
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_on = self.queue.is_some();
        f.debug_struct("AuditLog").field("is_on", &is_on).finish()
    }
}

impl Queue {
    /// Waits for lines and takes them all; `None` once there will be no more.
    async fn take(&self) -> Option<String> {
        loop {
            {
                let mut state = self.lock();
                if !state.waiting.is_empty() || state.lost > 0 {
                    return Some(state.hand_over());
                }
                if state.is_closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Waits until the log is closed or `wait` has passed.
    async fn closed_or(&self, wait: Duration) {
        let deadline = Instant::now() + wait;
        while !self.lock().is_closed {
            if timeout_at(deadline, self.filled.notified()).await.is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The lines that are there are whole, whatever happened to the next one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Queues an event. Returns whether it is the first one that finds no room.
    fn push(&mut self, event: &Event<'_>) -> bool {
        let mut lines = self.loss().unwrap_or_default();
        let seq = self.seq + u64::from(!lines.is_empty());
        lines.push_str(&line(Timestamp::now(), seq, event));
        if self.in_flight + self.waiting.len() + lines.len() > QUEUE {
            self.seq += 1;
            self.lost += 1;
            return self.lost == 1;
        }
        self.waiting.push_str(&lines);
        self.seq = seq + 1;
        self.lost = 0;
        false
    }

    /// The next line, if lines were lost before it.
    fn loss(&self) -> Option<String> {
        let lines = self.lost;
        (lines > 0).then(|| line(Timestamp::now(), self.seq, &Event::LinesLost { lines }))
    }

    /// Gives the writer everything, with a word on what was lost.
    fn hand_over(&mut self) -> String {
        if let Some(loss) = self.loss() {
            self.waiting.push_str(&loss);
            self.seq += 1;
            self.lost = 0;
        }
        self.in_flight = self.waiting.len();
        std::mem::take(&mut self.waiting)
    }
}

/// Writes what comes until the log is closed.
async fn write(queue: Arc<Queue>, mut file: LogFile) {
    while let Some(lines) = queue.take().await {
        let Some(returned) = offer(&queue, file, lines.into()).await else {
            return;
        };
        file = returned;
        queue.lock().in_flight = 0;
    }
}

/// Offers lines to the file until it takes them, and returns it. Once the log is closed there is one
/// last attempt, and no file afterwards if that fails.
async fn offer(queue: &Queue, mut file: LogFile, lines: Arc<str>) -> Option<LogFile> {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    let mut has_failed = false;
    loop {
        let is_last = queue.lock().is_closed;
        let result;
        (file, result) = append(file, Arc::clone(&lines)).await?;
        match result {
            Ok(()) if has_failed => info!("the audit log goes on"),
            Ok(()) => {}
            Err(error) if is_last => {
                let lines = lines.lines().count() as u64 + queue.lock().lost;
                error!(%error, lines, "the end of the audit log is lost");
                return None;
            }
            Err(error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    let path = file.path().display();
                    error!(%path, %error, "cannot write the audit log, sessions go on");
                }
                queue.closed_or(backoff.next_wait()).await;
                continue;
            }
        }
        return Some(file);
    }
}

/// One attempt, on a blocking thread.
async fn append(mut file: LogFile, lines: Arc<str>) -> Option<(LogFile, io::Result<()>)> {
    let work = move || {
        let result = file.append(lines.as_bytes());
        (file, result)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.inspect_err(|failure| error!(error = %failure, "the writer of the audit log broke"))
        .ok()
}

#[cfg(test)]
mod tests;
