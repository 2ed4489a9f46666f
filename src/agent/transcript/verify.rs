//! Whether a recording is as it was written; [`super::seal`] says how that shows.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::digest::{Digest, Hasher};
use super::seal::Seal;

/// Longest line that is taken for one. What is written is far shorter: an event is one read from a
/// terminal or pipe, escaped.
const LINE: u64 = 16 << 20;
/// Bytes read at a time.
const BUFFER: usize = 64 << 10;

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// Length of the file.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest,
    /// Whether it is a cast as it was written.
    pub verdict: Verdict,
}

/// The judgement on a cast. Lines count from 1, which is the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it was written, to its end.
    Complete,
    /// What there is may be as it was written, but the end is missing: the session still runs, the
    /// agent or the host crashed, the disk was full, or somebody cut it off.
    Unended {
        /// The bytes that the last checkpoint proves.
        proven: u64,
    },
    /// Not as it was written.
    Altered {
        /// Where the first change is.
        lines: RangeInclusive<u64>,
        /// What is wrong there.
        what: &'static str,
    },
    /// No cast of this agent.
    Foreign,
}

/// A file cannot be examined.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct VerifyError {
    path: PathBuf,
    source: io::Error,
}

/// Examines a file.
///
/// # Errors
/// [`VerifyError`] if it cannot be read.
pub fn verify(path: &Path) -> Result<Examined, VerifyError> {
    let examined = File::open(path)
        .and_then(|file| Examination::default().run(BufReader::with_capacity(BUFFER, file)));
    examined.map_err(|source| VerifyError {
        path: path.to_owned(),
        source,
    })
}

/// What tells the header of ours from others.
#[derive(Deserialize)]
struct Header {
    version: u8,
    ssm: Map<String, Value>,
}

/// Time, code and text of an event.
type Event<'a> = (f64, char, Cow<'a, str>);

/// What was read so far.
#[derive(Default)]
struct Examination {
    bytes: u64,
    lines: u64,
    hasher: Hasher,
    /// Time of the last event.
    at: f64,
    /// Bytes and lines that the last good seal proves.
    proven: (u64, u64),
}

impl Examination {
    fn run(mut self, mut file: impl BufRead) -> io::Result<Examined> {
        let verdict = self.judge(&mut file)?;
        loop {
            let rest = match file.fill_buf() {
                Ok(rest) => rest,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if rest.is_empty() {
                break;
            }
            self.take(rest);
            let count = rest.len();
            file.consume(count);
        }
        Ok(Examined {
            bytes: self.bytes,
            sha256: self.hasher.digest(),
            verdict,
        })
    }

    /// Reads lines until the judgement is clear.
    fn judge(&mut self, file: &mut impl BufRead) -> io::Result<Verdict> {
        let mut line = Vec::new();
        loop {
            line.clear();
            file.take(LINE).read_until(b'\n', &mut line)?;
            let is_whole = line.ends_with(b"\n");
            if !is_whole && self.lines > 0 && file.fill_buf()?.is_empty() {
                // There is no more, or what a crash in the middle of a write has left.
                self.take(&line);
                return Ok(Verdict::Unended {
                    proven: self.proven.0,
                });
            }
            self.lines += 1;
            let verdict = match self.lines {
                1 => self.header(&line),
                _ => self.event(&line),
            };
            match verdict {
                None => {}
                Some(Verdict::Complete) if !file.fill_buf()?.is_empty() => {
                    let next = self.lines + 1;
                    return Ok(altered(next..=next, "it follows the end of the recording"));
                }
                Some(verdict) => return Ok(verdict),
            }
        }
    }

    fn header(&mut self, line: &[u8]) -> Option<Verdict> {
        self.take(line);
        let header = serde_json::from_slice::<Header>(line).ok();
        let is_ours =
            header.is_some_and(|header| header.version == 2 && header.ssm.contains_key("session"));
        (!is_ours || !line.ends_with(b"\n")).then_some(Verdict::Foreign)
    }

    fn event(&mut self, line: &[u8]) -> Option<Verdict> {
        let number = self.lines;
        if let Some((seal, before, digest)) = Seal::parse(line) {
            self.take(&line[..before]);
            let is_right = self.hasher.digest() == digest;
            self.take(&line[before..]);
            if !is_right {
                let first = self.proven.1 + 1;
                return Some(altered(first..=number, "the digest in the last is another"));
            }
            self.proven = (self.bytes, number);
            return (seal == Seal::Complete).then_some(Verdict::Complete);
        }
        self.take(line);
        match serde_json::from_slice::<Event<'_>>(line) {
            Err(_) => Some(altered(number..=number, "it is no event")),
            Ok((at, ..)) if at < self.at => {
                Some(altered(number..=number, "it is older than the one before"))
            }
            Ok((at, ..)) => {
                self.at = at;
                None
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

fn altered(lines: RangeInclusive<u64>, what: &'static str) -> Verdict {
    Verdict::Altered { lines, what }
}

#[cfg(test)]
mod tests;
