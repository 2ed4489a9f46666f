//! Brings a journal to one service.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::super::uploader::{UploadError, Uploader, Wants};
use super::journal::{Journal, News};
use super::reader::{Batch, Cursor};
use crate::runtime::backoff::Backoff;
use crate::runtime::cause::in_one_line;

/// Wait after a failed upload; doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Longest time that one upload may take: 8 MiB at 70 KB/s. One that hangs gives its place to others.
const UPLOAD_LIMIT: Duration = Duration::from_mins(2);

/// How long a copy falls behind a session that prints as fast as it can.
const LAG: Duration = Duration::from_secs(5);
/// A session that prints nothing for so long makes a pause; its writer gathers for 50 ms.
const PAUSE: Duration = Duration::from_millis(250);

/// Follows a journal on behalf of one service. Its methods borrow it mutably all, for an uploader need not
/// be shared between threads.
pub struct Follower {
    journal: Arc<Journal>,
    /// Which of the journal's services it is.
    number: usize,
    uploader: Box<dyn Uploader>,
    /// Whoever holds a batch in memory holds a permit; each service has its own.
    permits: Arc<Semaphore>,
    cursor: Cursor,
    /// Entries beyond this number have not been offered yet.
    offered: u64,
    /// What the confirmed entries cost.
    done: u64,
    /// It has let the session have the processors, and now works until it has caught up.
    is_behind: bool,
}

impl Follower {
    /// A follower that begins with entry `entry`.
    pub fn new(
        journal: Arc<Journal>,
        number: usize,
        uploader: Box<dyn Uploader>,
        permits: Arc<Semaphore>,
        entry: u64,
    ) -> Self {
        Self {
            journal,
            number,
            uploader,
            permits,
            cursor: Cursor::at(entry),
            offered: entry,
            done: 0,
            is_behind: false,
        }
    }

    /// Uploads until the service has the end, or is given up, or `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        let mut has_failed = false;
        let service = self.uploader.name();
        while !self.journal.is_settled() {
            let Some(step) = stop.run_until_cancelled(self.step()).await else {
                debug!(
                    service,
                    "upload of the record stops, the next start goes on"
                );
                self.on_disk(|journal, number| {
                    journal.save(number);
                    true
                })
                .await;
                return;
            };
            match step {
                Ok(step) => {
                    backoff.reset();
                    if has_failed {
                        has_failed = false;
                        info!(service, "upload of the record goes on");
                    }
                    // Not to be stopped half way: what the service has must not be offered again.
                    if self.confirm(step).await {
                        return;
                    }
                }
                Err(error) if error.is_final() => {
                    let problem = in_one_line(&error);
                    warn!(
                        service,
                        place = self.uploader.place(),
                        error = problem,
                        "upload of the record was given up"
                    );
                    self.on_disk(move |journal, number| journal.give_up(number, problem))
                        .await;
                    return;
                }
                Err(error) => {
                    let error = in_one_line(&error);
                    if has_failed {
                        debug!(service, error, "upload of the record still fails");
                    } else {
                        warn!(
                            service,
                            error, "upload of the record failed, it is tried again"
                        );
                    }
                    has_failed = true;
                    let wait = sleep(backoff.next_wait());
                    stop.run_until_cancelled(wait).await;
                }
            }
        }
    }

    /// Waits for entries, then for more of them, and uploads a batch.
    async fn step(&mut self) -> Result<Step, UploadError> {
        let limit = self.uploader.batch_limit() as u64;
        let ended = self.gather(limit).await;
        let _permit = self.permits.acquire().await.map_err(transient)?;
        let journal = Arc::clone(&self.journal);
        let cursor = self.cursor;
        let wants = self.uploader.wants();
        let cast = match wants {
            Wants::Entries | Wants::Output => None,
            Wants::Cast => self.uploader.cast(),
        };
        let shed = journal.shed.load(Ordering::Relaxed);
        let read = tokio::task::spawn_blocking(move || journal.read(cursor, limit, wants, cast));
        let mut batch = read
            .await
            .map_err(transient)?
            .map_err(|error| match error.kind() {
                // It was too far behind, and is told of the gap with the next attempt.
                _ if self.journal.shed.load(Ordering::Relaxed) != shed => transient(error),
                // What was written and is not there any more will not come back.
                io::ErrorKind::InvalidData
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::NotFound => UploadError::Refused(Box::new(error)),
                _ => transient(error),
            })?;
        if self.journal.is_settled() {
            return Err(transient("the record was deleted"));
        }
        let (offered, end) = (batch.len(), batch.end());
        if offered == 0 && !ended {
            self.offered = end;
            return Ok(Step {
                batch,
                confirmed: 0,
                cost: 0,
            });
        }
        let (bytes, all) = (batch.bytes(), batch.counted(wants, offered));
        let upload = match batch.cast.take() {
            Some(piece) => self.uploader.upload_cast(piece),
            None => self.uploader.upload(&batch.entries),
        };
        let confirmed = timeout(UPLOAD_LIMIT, upload).await.map_err(transient)??;
        let confirmed = confirmed.entries.min(offered);
        if confirmed == 0 && (ended || bytes >= limit) {
            return Err(transient("the service confirmed nothing of a full batch"));
        }
        let cost = if confirmed == offered {
            all
        } else {
            batch.counted(wants, confirmed)
        };
        self.offered = if 0 < confirmed && confirmed < offered {
            // It took a part: it may take the next one at once.
            batch.after(confirmed).entry
        } else {
            end
        };
        Ok(Step {
            batch,
            confirmed,
            cost,
        })
    }

    /// Waits for an entry that was not offered yet, then until a batch is full, the interval has
    /// passed or the session is over; returns whether that is so.
    async fn gather(&mut self, limit: u64) -> bool {
        let mut news = self.journal.news();
        // The sender lives as long as the journal, which this follower holds.
        let _ = news
            .wait_for(|news| news.entries > self.offered || news.ended)
            .await;
        let deadline = Instant::now() + self.uploader.interval();
        let wants = self.uploader.wants();
        let done = self.done;
        let is_full = |news: &News| waiting(wants, news).saturating_sub(done) >= limit;
        let is_due = news.wait_for(|news| news.ended || is_full(news));
        let _ = timeout_at(deadline, is_due).await;
        let is_busy = is_full(&news.borrow());
        if is_busy && !self.is_behind {
            self.give_way(wants, &news).await;
        }
        self.is_behind = is_busy;
        news.borrow().ended
    }

    /// Waits while the session prints as fast as it can: a burst is over by the time its copy takes
    /// the processors and the disk from it.
    async fn give_way(&mut self, wants: Wants, news: &Receiver<News>) {
        let until = Instant::now() + LAG;
        let slack = self.journal.slack();
        let mut before = *news.borrow();
        while Instant::now() < until && !before.ended && !self.journal.is_in_memory() {
            sleep(PAUSE).await;
            let now = *news.borrow();
            let is_much = waiting(wants, &now).saturating_sub(self.done) >= slack;
            if is_much || now.entries == before.entries {
                return;
            }
            before = now;
        }
    }

    /// Writes down what was confirmed; returns whether that is everything.
    async fn confirm(&mut self, step: Step) -> bool {
        let Step {
            batch,
            confirmed,
            cost,
        } = step;
        if confirmed == 0 {
            return false;
        }
        self.cursor = batch.after(confirmed);
        self.done += cost;
        let (entry, state) = (self.cursor.entry, self.uploader.state());
        drop(batch);
        self.on_disk(move |journal, number| journal.confirm(number, entry, state))
            .await
    }

    async fn on_disk(
        &mut self,
        work: impl FnOnce(&Journal, usize) -> bool + Send + 'static,
    ) -> bool {
        let (journal, number) = (Arc::clone(&self.journal), self.number);
        let work = tokio::task::spawn_blocking(move || work(&journal, number));
        work.await.unwrap_or_else(|failure| {
            warn!(error = %failure, "the journal of a session failed");
            true
        })
    }
}

/// A batch that was offered, and how much of it was confirmed.
struct Step {
    batch: Batch,
    confirmed: usize,
    /// What those count, as [`waiting`] does.
    cost: u64,
}

/// What all entries so far count toward a batch.
fn waiting(wants: Wants, news: &News) -> u64 {
    match wants {
        Wants::Entries => news.cost,
        // A cast is longer than what it tells of.
        Wants::Output | Wants::Cast => news.output,
    }
}

fn transient(error: impl Into<Box<dyn Error + Send + Sync>>) -> UploadError {
    UploadError::Transient(error.into())
}
