//! The writer of one session's recording: takes batches from a spool and offers them to a sink.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::entry::Entry;
use super::sink::{Sink, SinkError};
use super::spool::Spool;
use crate::runtime::backoff::Backoff;
use crate::runtime::cause::in_one_line;

/// Entries are gathered this long before they are written, so that a keystroke's echo does not cost
/// a write of its own. It is also what a crash of the agent can cost a recording.
const GATHER: Duration = Duration::from_millis(50);
/// Longest time that a write may take for a session which has to be recorded: it then ends.
pub const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// Wait after a failed write; doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two attempts on a failing sink.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Moves entries from `spool` to `sink` until the end is written or cannot be.
pub async fn run(spool: Arc<Spool>, mut sink: Box<dyn Sink>) {
    let spool = Detach(spool);
    let spool = &*spool.0;
    while let Some(batch) = spool.next_batch(GATHER).await {
        let taken = write(spool, sink.as_mut(), batch.into()).await;
        if let Some(file) = sink.file() {
            spool.made(file.clone());
        }
        if taken.is_err() {
            return;
        }
        spool.written();
    }
}

/// The sink will never take what it was offered.
struct GivenUp;

/// Offers a batch until the sink takes it. Once the recorder is done there is one last attempt.
async fn write(spool: &Spool, sink: &mut dyn Sink, batch: Arc<[Entry]>) -> Result<(), GivenUp> {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    let mut has_failed = false;
    loop {
        let is_last = spool.is_closed();
        let Err(error) = offer(spool, sink, &batch).await else {
            if has_failed {
                info!(sink = sink.name(), "recording goes on");
            }
            return Ok(());
        };
        has_failed = true;
        report(spool, sink.name(), &error);
        if is_last || error.is_final() {
            return Err(GivenUp);
        }
        spool.closed_or(backoff.next_wait()).await;
    }
}

/// Offers a batch once. A session that must not go on without is not left in the dark by a write that
/// hangs.
async fn offer(spool: &Spool, sink: &mut dyn Sink, batch: &Arc<[Entry]>) -> Result<(), SinkError> {
    if !spool.is_strict() {
        return sink.write(Arc::clone(batch)).await;
    }
    let name = sink.name();
    let mut write = sink.write(Arc::clone(batch));
    if let Ok(written) = timeout(WRITE_LIMIT, &mut write).await {
        return written;
    }
    let seconds = WRITE_LIMIT.as_secs();
    warn!(sink = name, seconds, "a write of the recording hangs");
    spool.stall(format!("a write of the recording hangs since {seconds} s"));
    write.await
}

fn report(spool: &Spool, sink: &'static str, error: &SinkError) {
    let text = in_one_line(error);
    if spool.stall(text.clone()) {
        warn!(
            sink,
            error = text,
            "session is not recorded, it goes on without"
        );
    } else {
        debug!(sink, error = text, "session is still not recorded");
    }
}

/// Tells the recorder that the writer is gone, also when its future is dropped or panics.
struct Detach(Arc<Spool>);

impl Drop for Detach {
    fn drop(&mut self) {
        self.0.detach("the recording was given up before its end");
    }
}
