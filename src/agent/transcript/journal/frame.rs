//! The form of entries in a segment file.
//!
//! A segment begins with a header of [`HEADER`] bytes; numbers are little-endian:
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 8 | magic | [`MAGIC`], with the version of the form |
//! | 8 | 8 | first | number of its first entry, from 0 |
//! | 16 | 8 | data | bytes of session data in all entries before |
//!
//! Entries follow, one frame each:
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | length | of the body |
//! | 4 | 4 | check | the body's CRC-32 |
//! | 8 | 1 | kind | of the event |
//! | 9 | 8 | at | nanoseconds since the session's start |
//! | 17 | … | data | the event's bytes; size: columns, rows; missing: bytes; end: exit status or none, reason |
//!
//! The check finds what a crash has torn; it proves nothing against somebody who may write the file.

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;

use super::super::entry::{End, Entry, Event};
use crate::protocol::wire::TerminalSize;

/// Length of a segment's header.
pub const HEADER: usize = 24;
const MAGIC: [u8; 8] = *b"ssmjrnl1";
/// Length and check.
const HEAD: usize = 8;

const OUTPUT: u8 = 1;
const ERROR_OUTPUT: u8 = 2;
const INPUT: u8 = 3;
const RESIZE: u8 = 4;
const MISSING: u8 = 5;
const END: u8 = 6;

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Number of the first entry.
    pub first: u64,
    /// Bytes of session data before it.
    pub data: u64,
}

impl Header {
    /// The header's bytes.
    pub fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.first.to_le_bytes());
        bytes[16..].copy_from_slice(&self.data.to_le_bytes());
        bytes
    }

    /// Reads a header; None if it is none.
    pub fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (first, rest) = rest.split_first_chunk::<8>()?;
        let data = rest.first_chunk::<8>()?;
        (*magic == MAGIC).then(|| Self {
            first: u64::from_le_bytes(*first),
            data: u64::from_le_bytes(*data),
        })
    }
}

/// Appends an entry's frame to `out`.
pub fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    let kind = match &entry.event {
        Event::Output(_) => OUTPUT,
        Event::ErrorOutput(_) => ERROR_OUTPUT,
        Event::Input(_) => INPUT,
        Event::Resize(_) => RESIZE,
        Event::Missing { .. } => MISSING,
        Event::End(_) => END,
    };
    out.push(kind);
    let at = u64::try_from(entry.at.as_nanos()).unwrap_or(u64::MAX);
    out.extend_from_slice(&at.to_le_bytes());
    match &entry.event {
        Event::Output(bytes) | Event::ErrorOutput(bytes) | Event::Input(bytes) => {
            out.extend_from_slice(bytes);
        }
        Event::Resize(size) => {
            for side in [size.cols, size.rows] {
                out.extend_from_slice(&u64::from(side).to_le_bytes());
            }
        }
        Event::Missing { bytes } => out.extend_from_slice(&bytes.to_le_bytes()),
        Event::End(end) => {
            out.push(u8::from(end.exit_code.is_some()));
            out.extend_from_slice(&end.exit_code.unwrap_or_default().to_le_bytes());
            out.extend_from_slice(end.reason.as_bytes());
        }
    }
    let body = &out[start + HEAD..];
    let length = u32::try_from(body.len()).expect("the recorder's buffers are far below 4 GiB");
    let check = check(body);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + HEAD].copy_from_slice(&check);
}

/// Reads one frame from a segment of which `left` bytes are left; gives the entry and the bytes of
/// its frame. None where no whole and sound frame stands.
///
/// # Errors
/// If the file cannot be read.
pub fn read(segment: &mut impl Read, left: u64) -> io::Result<Option<(Entry, u64)>> {
    let Some(room) = left.checked_sub(HEAD as u64) else {
        return Ok(None);
    };
    let mut head = [0; HEAD];
    segment.read_exact(&mut head)?;
    let [a, b, c, d, expected @ ..] = head;
    let length = u32::from_le_bytes([a, b, c, d]);
    if u64::from(length) > room {
        return Ok(None);
    }
    let mut body = vec![0; length as usize];
    segment.read_exact(&mut body)?;
    if check(&body) != expected {
        return Ok(None);
    }
    Ok(decode(&body.into()).map(|entry| (entry, HEAD as u64 + u64::from(length))))
}

fn check(body: &[u8]) -> [u8; 4] {
    crc32fast::hash(body).to_le_bytes()
}

fn decode(body: &Bytes) -> Option<Entry> {
    let (&kind, rest) = body.split_first()?;
    let (at, data) = rest.split_first_chunk::<8>()?;
    let event = match kind {
        OUTPUT => Event::Output(body.slice_ref(data)),
        ERROR_OUTPUT => Event::ErrorOutput(body.slice_ref(data)),
        INPUT => Event::Input(body.slice_ref(data)),
        RESIZE => Event::Resize(TerminalSize {
            cols: number(data)?.try_into().ok()?,
            rows: number(data.get(8..)?)?.try_into().ok()?,
        }),
        MISSING => Event::Missing {
            bytes: number(data)?,
        },
        END => {
            let (&has_code, rest) = data.split_first()?;
            let (code, reason) = rest.split_first_chunk::<4>()?;
            Event::End(End {
                reason: String::from_utf8(reason.to_vec()).ok()?,
                exit_code: (has_code == 1).then(|| i32::from_le_bytes(*code)),
            })
        }
        _ => return None,
    };
    Some(Entry {
        at: Duration::from_nanos(u64::from_le_bytes(*at)),
        event,
    })
}

fn number(data: &[u8]) -> Option<u64> {
    data.first_chunk::<8>()
        .map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_event_is_read_back() {
        let end = |exit_code| {
            Event::End(End {
                reason: "über".into(),
                exit_code,
            })
        };
        for event in [
            Event::Output("a\0\u{fffd}".into()),
            Event::ErrorOutput(Bytes::new()),
            Event::Input("x".into()),
            Event::Resize(TerminalSize { cols: 300, rows: 2 }),
            Event::Missing { bytes: u64::MAX },
            end(None),
            end(Some(-1)),
        ] {
            let at = Duration::new(3, 4);
            let entry = Entry { at, event };
            let mut bytes = Vec::new();
            encode(&entry, &mut bytes);

            let length = bytes.len() as u64;
            let (back, size) = read(&mut bytes.as_slice(), length).unwrap().unwrap();

            assert_eq!((back, size), (entry, length));
        }
    }

    #[test]
    fn header_is_read_back_and_another_is_refused() {
        let header = Header { first: 7, data: 9 };
        let mut bytes = header.encode();

        assert_eq!(Header::decode(&bytes), Some(header));
        bytes[7] = b'2';
        assert_eq!(Header::decode(&bytes), None);
    }

    proptest! {
        #[test]
        fn torn_or_changed_frame_is_never_misread(cut in 0..60_usize, flip in 0..60_usize) {
            let event = Event::Output("some output of a session".into());
            let entry = Entry { at: Duration::from_secs(1), event };
            let mut whole = Vec::new();
            encode(&entry, &mut whole);
            let cut = cut % whole.len();
            let torn = &whole[..cut];

            prop_assert!(read(&mut &*torn, cut as u64).unwrap().is_none());

            let mut changed = whole.clone();
            changed[flip % whole.len()] ^= 0x40;
            prop_assert!(read(&mut &*changed, whole.len() as u64).unwrap().is_none());
        }
    }
}
