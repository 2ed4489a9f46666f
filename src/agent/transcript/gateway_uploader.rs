//! Uploading a recording to the gateway while its session runs.
//!
//! The gateway says with each answer how many entries it has, so nothing is stored twice and nothing is
//! left out, whatever was lost on the way: an answer, or the memory of an agent that was started
//! anew. After such a start the cast has no further seals (`growing.rs`); the gateway's own digest
//! covers the whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tracing::warn;

use super::entry::{About, Entry};
use super::growing::{Growing, Piece, Stored};
use super::uploader::{Confirmed, Upload, UploadError, Uploader};
use crate::aws::{CallError, Client};
use crate::protocol::wire::recording::{Part, Progress};

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
    cast: Growing,
}

impl GatewayUploader {
    /// An uploader for the session that `about` tells of, through `client`, whose message gateway
    /// announced that it stores recordings. `state` is what [`Uploader::state`] gave to an earlier run,
    /// if there was one.
    pub fn new(client: Client, about: Arc<About>, state: Option<Value>) -> Self {
        let stored: Stored = state
            .and_then(|state| serde_json::from_value(state).ok())
            .unwrap_or_default();
        Self {
            client,
            about,
            cast: Growing::after(stored),
        }
    }

    /// Works on a copy, so that a call that is given up in the middle leaves no trace: what it has
    /// stored shows in the next answer.
    async fn send(&mut self, entries: &[Entry]) -> Result<Confirmed, UploadError> {
        let (mut cast, mut taken, mut corrections) = (self.cast.clone(), 0, 0);
        let mut problem = None;
        while let Some(rest) = entries.get(taken..).filter(|rest| !rest.is_empty()) {
            let mut piece = encode(&cast, &self.about, rest, PIECE);
            let bytes = std::mem::take(&mut piece.bytes);
            let stands = match self.put(&cast, &piece, bytes.into()).await {
                Ok(stands) => stands,
                Err(error) => {
                    problem = Some(error);
                    break;
                }
            };
            if stands == progress(&piece) {
                taken += piece.count;
                cast = piece.after;
            } else if stands.complete {
                taken = entries.len();
            } else if corrections < CORRECTIONS {
                corrections += 1;
                taken += catch_up(&mut cast, &self.about, stands, rest);
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

    async fn put(
        &self,
        cast: &Growing,
        piece: &Piece,
        bytes: Bytes,
    ) -> Result<Progress, UploadError> {
        let part = Part {
            offset: cast.stored.bytes,
            entries: piece.after.stored.entries,
            complete: piece.is_last,
        };
        let session = &self.about.session_id;
        let answer = self.client.upload_recording(session, part, bytes).await;
        answer.map_err(judge)
    }
}

/// How the gateway stands when it has the piece.
fn progress(piece: &Piece) -> Progress {
    Progress {
        bytes: piece.after.stored.bytes,
        entries: piece.after.stored.entries,
        complete: piece.is_last,
    }
}

/// Encodes entries, as many as it takes to reach `limit` bytes.
fn encode(cast: &Growing, about: &Arc<About>, entries: &[Entry], limit: usize) -> Piece {
    let mut piece = cast.piece(about);
    for entry in entries {
        piece.add(entry);
        if piece.bytes.len() >= limit {
            break;
        }
    }
    piece
}

/// Makes the cast go on from where the gateway stands; returns how many of `entries` it has.
fn catch_up(cast: &mut Growing, about: &Arc<About>, stands: Progress, entries: &[Entry]) -> usize {
    let known = cast.stored.entries;
    let ahead = usize::try_from(stands.entries.saturating_sub(known)).unwrap_or(usize::MAX);
    let has = ahead.min(entries.len());
    if has > 0 {
        *cast = encode(cast, about, &entries[..has], usize::MAX).after;
    }
    // If it has more than was offered, the next entries show how it stands.
    if ahead <= has && stands.bytes != cast.stored.bytes {
        let (expected, got) = (cast.stored.bytes, stands.bytes);
        warn!(session = %about.session_id, expected, got, "the gateway has another recording than was sent");
        if stands.entries < known {
            cast.stored.gap = expected.saturating_sub(got);
        }
        cast.stored.bytes = got;
        cast.hasher = None;
    }
    has
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
