//! The seals of a cast, which make a change to it visible afterwards.
//!
//! A seal is a marker event, which players ignore. It carries the SHA-256 of every byte of the file
//! before the digest's own digits, so it covers the header, all events, and all seals before it:
//!
//! ```text
//! {"version":2,…}
//! [0.012345,"o","…"]
//! [0.012345,"m","checkpoint, sha256 64 hexadecimal digits"]             now and then
//! [9.000000,"o","…"]
//! [9.100000,"m","session ended: …"]
//! [9.100000,"m","recording complete, sha256 64 hexadecimal digits"]     the last line
//! ```
//!
//! What one session can print or type never becomes a seal: it stands in events of other kinds, and
//! the line feed that would begin a line of its own is escaped there.
//!
//! A verifier needs the file and nothing else ([`mod@super::verify`]); for a recording that is complete,
//! `head -c -67 FILE | sha256sum` prints the digest that `tail -c 67 FILE` shows. A recording without
//! its last seal was cut short, by a crash or by somebody, and is proven up to its last checkpoint.
//!
//! A seal is no signature: whoever may write the file can write it anew with seals that fit. So the
//! digest of the whole file, as `sha256sum FILE` prints it, leaves the host in the session's result
//! and is kept in the audit log. The plain log holds nothing but the session's bytes, so that digest
//! is the only one it has.

use std::time::Duration;

use super::cast;
use super::digest::{Digest, Hasher};
use super::entry::{Entry, Event};

/// Bytes of cast after which an entry is followed by a checkpoint.
const CHECKPOINT_BYTES: u64 = 256 << 10;
/// Time after which it is. A checkpoint takes 100 bytes, so somebody who types all day long pays
/// 70 KB an hour.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(5);
/// What follows the digest.
const CLOSING: &str = "\"]\n";

/// What a seal says of the recording before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// More may follow.
    Checkpoint,
    /// The session ended, and nothing follows.
    Complete,
}

impl Seal {
    const ALL: [Self; 2] = [Self::Checkpoint, Self::Complete];

    /// The text before the digest.
    fn label(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint, sha256 ",
            Self::Complete => "recording complete, sha256 ",
        }
    }

    /// The seal's line, after the bytes that `before` has taken.
    pub fn line(self, at: Duration, before: &Hasher) -> Vec<u8> {
        let mut line = Vec::new();
        cast::begin_event(at, 'm', &mut line);
        line.extend_from_slice(self.label().as_bytes());
        let mut hasher = before.clone();
        hasher.update(&line);
        line.extend_from_slice(format!("{}{CLOSING}", hasher.digest()).as_bytes());
        line
    }

    /// Reads a line, its line feed included. Gives the seal, the length of what stands before its
    /// digest, and the digest.
    pub fn parse(line: &[u8]) -> Option<(Self, usize, Digest)> {
        let (rest, digits) = line
            .strip_suffix(CLOSING.as_bytes())?
            .split_last_chunk::<{ Digest::TEXT }>()?;
        let start = line.iter().position(|&byte| byte == b',')?;
        let label = rest.get(start..)?.strip_prefix(b",\"m\",\"")?;
        let seal = Self::ALL
            .into_iter()
            .find(|seal| label == seal.label().as_bytes())?;
        let digits = std::str::from_utf8(digits).ok()?;
        let digest: Digest = digits.parse().ok()?;
        // Upper case would be another file with the same digest.
        (digest.to_string() == digits).then_some((seal, rest.len(), digest))
    }
}

/// When the next checkpoint is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Length of the file and time at the last one.
    last: Option<(u64, Duration)>,
}

impl Schedule {
    /// The seal that stands after `entry`, where the cast has `length` bytes. This depends on nothing
    /// else, so that every cast of one session that has the same entries is the same file.
    pub fn seal_after(&mut self, entry: &Entry, length: u64) -> Option<Seal> {
        let seal = match entry.event {
            Event::End(_) => Seal::Complete,
            // A gap is sealed with what follows it.
            Event::Missing { .. } => return None,
            Event::Output(_) | Event::ErrorOutput(_) | Event::Input(_) | Event::Resize(_) => {
                if !self.is_due(length, entry.at) {
                    return None;
                }
                Seal::Checkpoint
            }
        };
        self.advance(length, entry.at);
        Some(seal)
    }

    /// Whether a cast of `length` bytes needs a checkpoint at this time; its first entry does.
    fn is_due(self, length: u64, at: Duration) -> bool {
        self.last.is_none_or(|(bytes, time)| {
            length.saturating_sub(bytes) >= CHECKPOINT_BYTES
                || at.saturating_sub(time) >= CHECKPOINT_AFTER
        })
    }

    /// A checkpoint was written.
    fn advance(&mut self, length: u64, at: Duration) {
        self.last = Some((length, at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seal_is_read_as_it_was_written() {
        for seal in Seal::ALL {
            let mut hasher = Hasher::default();
            hasher.update(b"header");

            let line = seal.line(Duration::from_millis(1500), &hasher);

            let before = line.len() - Digest::TEXT - CLOSING.len();
            hasher.update(&line[..before]);
            assert_eq!(Seal::parse(&line), Some((seal, before, hasher.digest())));
        }
    }

    #[test]
    fn what_only_looks_like_a_seal_is_none() {
        let digest = Hasher::default().digest().to_string();
        for line in [
            format!("[1.0,\"o\",\"checkpoint, sha256 {digest}\"]\n"),
            format!("[1.0,\"m\",\"session ended: checkpoint, sha256 {digest}\"]\n"),
            format!(
                "[1.0,\"m\",\"checkpoint, sha256 {}\"]\n",
                digest.to_uppercase()
            ),
            format!("[1.0,\"m\",\"checkpoint, sha256 {}\"]\n", &digest[1..]),
            format!("[1.0,\"m\",\"checkpoint, sha256 {digest}\"]"),
            "[1.0,\"m\",\"\"]\n".to_owned(),
            "\n".to_owned(),
        ] {
            assert_eq!(Seal::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn checkpoints_are_due_first_and_then_after_bytes_or_time() {
        let (mut schedule, second) = (Schedule::default(), Duration::from_secs(1));
        assert!(schedule.is_due(0, Duration::ZERO));

        schedule.advance(1000, second);

        assert!(!schedule.is_due(1000 + CHECKPOINT_BYTES - 1, second));
        assert!(schedule.is_due(1000 + CHECKPOINT_BYTES, second));
        assert!(!schedule.is_due(1001, CHECKPOINT_AFTER));
        assert!(schedule.is_due(1001, second + CHECKPOINT_AFTER));
    }
}
