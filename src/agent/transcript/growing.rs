//! A cast as it goes on at a service, piece by piece.
//!
//! What arrives there is the cast as the file sink writes it, seals included: as long as neither of
//! the two misses entries, both are the same file and have the same digest. After a new start of the
//! agent the digest of what was brought before cannot be continued, so no further seals are written:
//! [`mod@super::verify`] proves the recording up to its last checkpoint.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cast::{self, Encoder};
use super::digest::Hasher;
use super::entry::{About, Entry, Event};
use super::seal::Schedule;
use crate::protocol::wire::recording::PART_LIMIT;

/// The cast as it goes on after what a service has.
#[derive(Clone)]
pub struct Growing {
    pub(super) stored: Stored,
    /// The digest of what is stored; `None` once it could not be continued.
    pub(super) hasher: Option<Hasher>,
    checkpoints: Schedule,
}

/// What is at a service, and what the next run of the agent needs to go on from there.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Stored {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    encoder: Encoder,
    /// Bytes that the service had and has no more, until a marker says so.
    pub(super) gap: u64,
}

/// Some entries as they are sent.
pub struct Piece {
    about: Arc<About>,
    /// Their lines.
    pub(super) bytes: Vec<u8>,
    /// How many entries are in it.
    pub(super) count: usize,
    /// Bytes of output in them.
    pub(super) output: u64,
    /// The end of the session is in it.
    pub(super) is_last: bool,
    /// The cast after it.
    pub(super) after: Growing,
}

impl Growing {
    /// The cast after what is stored.
    pub(super) fn after(stored: Stored) -> Self {
        Self {
            hasher: (stored.bytes == 0).then(Hasher::default),
            checkpoints: Schedule::default(),
            stored,
        }
    }

    /// An empty piece of what follows.
    pub(super) fn piece(&self, about: &Arc<About>) -> Piece {
        Piece {
            about: Arc::clone(about),
            bytes: Vec::new(),
            count: 0,
            output: 0,
            is_last: false,
            after: self.clone(),
        }
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
    fn missing(&mut self, at: std::time::Duration, bytes: u64, out: &mut Vec<u8>) {
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

impl Piece {
    /// Adds an entry.
    pub(super) fn add(&mut self, entry: &Entry) {
        self.after.append(&self.about, entry, &mut self.bytes);
        self.count += 1;
        self.is_last = matches!(entry.event, Event::End(_));
        if let Event::Output(bytes) | Event::ErrorOutput(bytes) = &entry.event {
            self.output += bytes.len() as u64;
        }
    }
}
