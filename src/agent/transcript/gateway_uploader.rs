//! Uploading a recording to the gateway while its session runs.
//!
//! What arrives there is the cast as the file sink writes it, seals included: as long as neither of
//! the two misses entries, both are the same file and have the same digest.
//!
//! The gateway says with each answer how many entries it has, so nothing is stored twice and nothing is
//! left out, whatever was lost on the way: an answer, or the memory of an agent that was started
//! anew. After such a start the digest of what was uploaded before cannot be continued, so no further
//! seals are written: [`mod@super::verify`] proves the recording up to its last checkpoint, and the
//! gateway's own digest covers the whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;

use super::cast::{self, Encoder};
use super::digest::Hasher;
use super::entry::{About, Entry, Event};
use super::seal::Schedule;
use super::uploader::{Confirmed, Upload, UploadError, Uploader};
use crate::aws::{CallError, Client};
use crate::protocol::wire::recording::{PART_LIMIT, Part, Progress};

/// Entries are gathered this long: what somebody who follows a session lags behind, and what a host
/// that is destroyed takes with it.
const INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of entries that are wanted at a time, so that a session which prints at full speed goes out
/// in few requests.
const BATCH: usize = 1 << 20;
/// Bytes of cast that are put together for one request. An entry is at most one read from a terminal
/// or pipe, so a request stays below what a gateway takes.
const PIECE: usize = 512 << 10;
/// Times that a gateway may say in one call that it stands elsewhere. Twice is a lost answer and one
/// more that was lost meanwhile; more is a gateway that does not know its mind.
const CORRECTIONS: u32 = 4;

/// Uploads one session's recording.
pub struct GatewayUploader {
    client: Client,
    about: Arc<About>,
    cast: Cast,
}

/// The cast as it goes on after what the gateway has.
#[derive(Clone)]
struct Cast {
    stored: Stored,
    /// The digest of what is stored; `None` once it could not be continued.
    hasher: Option<Hasher>,
    checkpoints: Schedule,
}

/// What is at the gateway, and what the next run of the agent needs to go on from there.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Stored {
    bytes: u64,
    entries: u64,
    encoder: Encoder,
    /// Bytes that the gateway had and has no more, until a marker says so.
    gap: u64,
}

impl GatewayUploader {
    /// An uploader for the session that `about` tells of, through `client`, whose message gateway
    /// announced that it stores recordings. `state` is what [`Uploader::state`] gave to an earlier run,
    /// if there was one.
    pub fn new(client: Client, about: Arc<About>, state: Option<Value>) -> Self {
        let stored: Stored = state
            .and_then(|state| serde_json::from_value(state).ok())
            .unwrap_or_default();
        let cast = Cast {
            hasher: (stored.bytes == 0).then(Hasher::default),
            checkpoints: Schedule::default(),
            stored,
        };
        Self {
            client,
            about,
            cast,
        }
    }

    /// Works on a copy, so that a call that is given up in the middle leaves no trace: what it has
    /// stored shows in the next answer.
    async fn send(&mut self, entries: &[Entry]) -> Result<Confirmed, UploadError> {
        let (mut cast, mut taken, mut corrections) = (self.cast.clone(), 0, 0);
        let mut problem = None;
        while let Some(rest) = entries.get(taken..).filter(|rest| !rest.is_empty()) {
            let piece = cast.encode(&self.about, rest, PIECE);
            let stands = match self.put(&cast, &piece).await {
                Ok(stands) => stands,
                Err(error) => {
                    problem = Some(error);
                    break;
                }
            };
            if stands == piece.progress() {
                taken += piece.count;
                cast = piece.after;
            } else if stands.complete {
                taken = entries.len();
            } else if corrections < CORRECTIONS {
                corrections += 1;
                taken += cast.catch_up(&self.about, stands, rest);
            } else {
                let text = "the gateway does not keep to where the recording ends";
                problem = Some(UploadError::Transient(text.into()));
                break;
            }
        }
        self.cast = cast;
        match problem {
            // What went wrong goes wrong again, with nothing confirmed before it.
            Some(problem) if taken == 0 => Err(problem),
            _ => Ok(Confirmed { entries: taken }),
        }
    }

    async fn put(&self, cast: &Cast, piece: &Piece) -> Result<Progress, UploadError> {
        let part = Part {
            offset: cast.stored.bytes,
            entries: piece.after.stored.entries,
            complete: piece.is_last,
        };
        let (session, bytes) = (&self.about.session_id, piece.bytes.clone());
        let answer = self.client.upload_recording(session, part, bytes).await;
        answer.map_err(judge)
    }
}

/// Some entries as they are sent.
struct Piece {
    bytes: Bytes,
    /// Entries in it.
    count: usize,
    /// The end of the session is in it.
    is_last: bool,
    /// The cast after it.
    after: Cast,
}

impl Piece {
    /// How the gateway stands when it has the piece.
    fn progress(&self) -> Progress {
        Progress {
            bytes: self.after.stored.bytes,
            entries: self.after.stored.entries,
            complete: self.is_last,
        }
    }
}

impl Cast {
    /// Encodes entries, as many as it takes to reach `limit` bytes.
    fn encode(&self, about: &About, entries: &[Entry], limit: usize) -> Piece {
        let mut after = self.clone();
        let mut bytes = Vec::new();
        let mut count = 0;
        for entry in entries {
            after.append(about, entry, &mut bytes);
            count += 1;
            if bytes.len() >= limit {
                break;
            }
        }
        let last = entries[..count].last();
        Piece {
            bytes: bytes.into(),
            count,
            is_last: last.is_some_and(|entry| matches!(entry.event, Event::End(_))),
            after,
        }
    }

    /// Goes on from where the gateway stands; returns how many of `entries` it has.
    fn catch_up(&mut self, about: &About, stands: Progress, entries: &[Entry]) -> usize {
        let known = self.stored.entries;
        let ahead = usize::try_from(stands.entries.saturating_sub(known)).unwrap_or(usize::MAX);
        let has = ahead.min(entries.len());
        if has > 0 {
            *self = self.encode(about, &entries[..has], usize::MAX).after;
        }
        // If it has more than was offered, the next entries show how it stands.
        if ahead <= has && stands.bytes != self.stored.bytes {
            let (expected, got) = (self.stored.bytes, stands.bytes);
            warn!(session = %about.session_id, expected, got, "the gateway has another recording than was sent");
            if stands.entries < known {
                self.stored.gap = expected.saturating_sub(got);
            }
            self.stored.bytes = got;
            self.hasher = None;
        }
        has
    }

    /// Appends the header if there is none yet, the lines of `entry`, and a seal where one stands.
    fn append(&mut self, about: &About, entry: &Entry, out: &mut Vec<u8>) {
        let start = out.len();
        if self.stored.bytes == 0 {
            out.extend_from_slice(&cast::header(about));
        }
        match std::mem::take(&mut self.stored.gap) {
            0 => {}
            bytes => self.missing(entry.at, bytes, out),
        }
        self.stored.encoder.encode(entry, out);
        if out.len() - start > PART_LIMIT {
            // No read is that large; a gateway would refuse it for good.
            out.truncate(start);
            self.missing(entry.at, entry.event.data_len() as u64, out);
        }
        self.count(&out[start..]);
        self.stored.entries += 1;
        let Some(hasher) = &self.hasher else { return };
        if let Some(seal) = self.checkpoints.seal_after(entry, self.stored.bytes) {
            let line = seal.line(entry.at, hasher);
            self.count(&line);
            out.extend_from_slice(&line);
        }
    }

    /// Appends a marker where bytes are missing.
    fn missing(&mut self, at: Duration, bytes: u64, out: &mut Vec<u8>) {
        let event = Event::Missing { bytes };
        self.stored.encoder.encode(&Entry { at, event }, out);
    }

    fn count(&mut self, bytes: &[u8]) {
        self.stored.bytes += bytes.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
    }
}

impl Uploader for GatewayUploader {
    fn name(&self) -> &'static str {
        "gateway"
    }

    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn batch_limit(&self) -> usize {
        BATCH
    }

    fn upload<'a>(&'a mut self, entries: &'a [Entry]) -> Upload<'a> {
        Box::pin(self.send(entries))
    }

    fn state(&self) -> Value {
        json!(self.cast.stored)
    }

    fn place(&self) -> String {
        format!("gateway:{}", self.about.session_id)
    }
}

/// Which refusals stay: whoever asks again gets the same answer.
fn judge(error: CallError) -> UploadError {
    match error.status() {
        Some(404 | 410 | 413) => UploadError::Refused(error.into()),
        Some(400 | 403) if error.is_denied() || error.code() == Some("ValidationException") => {
            UploadError::Refused(error.into())
        }
        _ => UploadError::Transient(error.into()),
    }
}

#[cfg(test)]
mod tests;
