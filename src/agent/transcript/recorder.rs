//! The session's end of a recording.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Span, warn};

use super::entry::{End, Entry, Event, Report};
use super::journal::Journal;
use super::remote::{RemoteCopy, Standing};
use super::spool::{Offer, Spool};
use crate::protocol::wire::TerminalSize;

/// Longest time that a slow sink holds a session back before its entries are dropped. Two seconds
/// bridge a write-back burst of a busy disk, and a person does not take the session for dead yet.
pub const STALL_LIMIT: Duration = Duration::from_secs(2);
/// Longest time that the end of a session waits for the last entries to be written.
pub const FINISH_LIMIT: Duration = Duration::from_secs(2);
/// Longest time that the end of a session waits for services to have the record. A small one is
/// there by then; the rest goes on without anybody waiting.
pub const UPLOAD_LIMIT: Duration = Duration::from_secs(3);
/// Shorter data is copied, so that a few bytes do not keep the large read buffer that they are part
/// of alive until they are written.
const COPY_BELOW: usize = 4096;

/// Records one session. Its methods never fail; each waits at most [`STALL_LIMIT`] in one stall.
///
/// Dropped without [`Recorder::finish`], it ends the recording with a reason that says so.
pub struct Recorder {
    span: Span,
    origin: Instant,
    record_input: bool,
    spools: Vec<Arc<Spool>>,
    abandon: CancellationToken,
    broken: CancellationToken,
    journal: Option<Arc<Journal>>,
}

impl Recorder {
    /// A recorder in front of these spools; `abandon` ends their writer.
    pub(super) fn new(
        spools: Vec<Arc<Spool>>,
        record_input: bool,
        abandon: CancellationToken,
        span: Span,
    ) -> Self {
        Self {
            span,
            origin: Instant::now(),
            record_input,
            spools,
            abandon,
            broken: CancellationToken::new(),
            journal: None,
        }
    }

    /// The journal that one of the spools leads to, and what is cancelled when a record that has to be
    /// is not.
    pub(super) fn with_journal(
        mut self,
        journal: Option<Arc<Journal>>,
        broken: CancellationToken,
    ) -> Self {
        self.journal = journal;
        self.broken = broken;
        self
    }

    /// Cancelled when a file or service that the session must not go on without takes no more.
    pub fn broken(&self) -> CancellationToken {
        self.broken.clone()
    }

    /// Records bytes sent to the person.
    pub async fn output(&mut self, bytes: Bytes) {
        self.data(bytes, Event::Output).await;
    }

    /// Records bytes of the error stream sent to the person.
    pub async fn error_output(&mut self, bytes: Bytes) {
        self.data(bytes, Event::ErrorOutput).await;
    }

    /// Records what the person typed, if the settings want it.
    pub async fn input(&mut self, bytes: Bytes) {
        if self.record_input {
            self.data(bytes, Event::Input).await;
        }
    }

    /// Records a new size of the terminal.
    pub async fn resize(&mut self, size: TerminalSize) {
        self.record(Event::Resize(size)).await;
    }

    /// Ends the recording and waits up to [`FINISH_LIMIT`] until it is written, then up to
    /// [`UPLOAD_LIMIT`] until services have it.
    pub async fn finish(self, end: End) -> Report {
        let at = self.origin.elapsed();
        for spool in &self.spools {
            spool.close(at, end.clone());
        }
        let finished = join_all(self.spools.iter().map(|spool| spool.finished()));
        let in_time = timeout_at(Instant::now() + FINISH_LIMIT, finished).await;
        if in_time.is_err() {
            self.give_up();
        }
        if let Some(journal) = &self.journal {
            // The report says which of them have it.
            let _ = timeout_at(Instant::now() + UPLOAD_LIMIT, journal.settled()).await;
        }
        self.report()
    }

    async fn data(&mut self, bytes: Bytes, event: impl FnOnce(Bytes) -> Event) {
        if bytes.is_empty() || self.spools.is_empty() {
            return;
        }
        let bytes = if bytes.len() < COPY_BELOW {
            Bytes::copy_from_slice(&bytes)
        } else {
            bytes
        };
        self.record(event(bytes)).await;
    }

    async fn record(&mut self, event: Event) {
        let entry = Entry {
            at: self.origin.elapsed(),
            event,
        };
        let mut deadline = None;
        for spool in &self.spools {
            if spool.offer(&entry) == Offer::Full {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + STALL_LIMIT);
                if offer_until(spool, &entry, deadline).await == Patience::Lost {
                    warn!(
                        parent: &self.span,
                        "session is not recorded, the disk is too slow; it goes on without"
                    );
                }
            }
        }
    }

    fn give_up(&self) {
        let problem = format!(
            "the end of the recording was not written within {} s",
            FINISH_LIMIT.as_secs()
        );
        warn!(parent: &self.span, "{problem}");
        for spool in &self.spools {
            spool.detach(&problem);
        }
        self.abandon.cancel();
    }

    fn report(&self) -> Report {
        let mut report = Report::default();
        let mut problems = Vec::new();
        for outcome in self.spools.iter().map(|spool| spool.outcome()) {
            report.files.extend(outcome.file);
            report.lost_bytes = report.lost_bytes.max(outcome.lost);
            // What ails one file mostly ails the others.
            if problems.is_empty() {
                problems.extend(outcome.problem);
            }
        }
        if let Some(journal) = &self.journal {
            report.lost_bytes = report.lost_bytes.max(journal.lost());
            report.copies = journal.copies();
            problems.extend(report.copies.iter().filter_map(problem_of));
        }
        report.problem = (!problems.is_empty()).then(|| problems.join("; "));
        report
    }
}

/// What went wrong with a copy.
fn problem_of(copy: &RemoteCopy) -> Option<String> {
    let RemoteCopy {
        service,
        lost_bytes,
        ..
    } = copy;
    match &copy.standing {
        Standing::GivenUp(problem) => Some(format!("{service}: {problem}")),
        Standing::Continuing | Standing::Complete if *lost_bytes > 0 => Some(format!(
            "{service}: it was so far behind that {lost_bytes} bytes are missing"
        )),
        Standing::Continuing | Standing::Complete => None,
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        for spool in &self.spools {
            spool.close(
                self.origin.elapsed(),
                End {
                    reason: "the session broke off".to_owned(),
                    exit_code: None,
                },
            );
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Kept,
    /// For the first time in this recording.
    Lost,
}

/// Waits for room until `deadline`; the sinks share it, so that two slow ones do not stall twice.
async fn offer_until(spool: &Spool, entry: &Entry, deadline: Instant) -> Patience {
    let mut patience = Patience::Kept;
    loop {
        let waited = timeout_at(deadline, spool.room()).await;
        if waited.is_err() && spool.stall(slow()) {
            patience = Patience::Lost;
        }
        if spool.offer(entry) != Offer::Full {
            return patience;
        }
    }
}

fn slow() -> String {
    let seconds = STALL_LIMIT.as_secs();
    format!("the recording did not take data for {seconds} s")
}
