//! A recording with gaps, checkpoints and a batch that was cut off again, and what is done to it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::agent::transcript::file_sink::FileSink;
use crate::agent::transcript::file_sink::tests::{about, settings};
use crate::agent::transcript::shelf::Shelf;
use crate::agent::transcript::{End, Entry, Event, Format, Settings, Sink};

/// Lines of the recording: header, `one`, checkpoint, `two`, `three`, gap, `four`, checkpoint,
/// `five`, end, last seal.
const LINES: usize = 11;

#[tokio::test]
async fn recording_is_complete_and_has_the_digest_that_was_reported() {
    let recorded = Recorded::new().await;

    let examined = recorded.examine(&recorded.bytes);

    assert_eq!(recorded.lines().len(), LINES);
    assert_eq!(examined.verdict, Verdict::Complete);
    assert_eq!(examined.sha256, recorded.sha256);
    assert_eq!(examined.bytes, recorded.bytes.len() as u64);
}

#[tokio::test]
async fn every_altered_byte_is_found() {
    let recorded = Recorded::new().await;
    for at in 0..recorded.bytes.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut bytes = recorded.bytes.clone();
            bytes[at] ^= flip;

            let examined = recorded.examine(&bytes);

            let verdict = examined.verdict;
            assert_ne!(verdict, Verdict::Complete, "byte {at} ^ {flip:#x}");
            assert_ne!(examined.sha256, recorded.sha256);
        }
    }
}

#[tokio::test]
async fn change_is_narrowed_down_to_the_lines_between_two_seals() {
    let recorded = Recorded::new().await;

    for (from, to, lines) in [
        ("mi-0123", "mi-0124", 1..=3),
        ("one", "0ne", 1..=3),
        ("three", "THREE", 4..=8),
        ("7 bytes are missing", "1 bytes are missing", 4..=8),
        ("exit status 3", "exit status 0", 9..=11),
    ] {
        let changed = recorded.text().replace(from, to);
        let verdict = recorded.examine(changed.as_bytes()).verdict;

        assert_eq!(verdict, altered(lines, "the digest in the last is another"));
    }
}

#[tokio::test]
async fn removed_line_is_found() {
    let recorded = Recorded::new().await;
    for removed in 0..LINES {
        let mut lines = recorded.lines();
        lines.remove(removed);

        let verdict = recorded.examine(&lines.concat()).verdict;

        match removed {
            0 => assert_eq!(verdict, Verdict::Foreign),
            10 => assert!(matches!(verdict, Verdict::Unended { .. }), "{verdict:?}"),
            _ => assert!(matches!(verdict, Verdict::Altered { .. }), "{removed}"),
        }
    }
}

#[tokio::test]
async fn swapped_lines_are_found() {
    let recorded = Recorded::new().await;
    for first in 0..LINES {
        for second in first + 1..LINES {
            let mut lines = recorded.lines();
            lines.swap(first, second);

            let verdict = recorded.examine(&lines.concat()).verdict;

            assert_ne!(verdict, Verdict::Complete, "{first} and {second}");
        }
    }
}

#[tokio::test]
async fn appended_line_is_found_where_it_begins() {
    let recorded = Recorded::new().await;
    for more in ["[9.000000,\"o\",\"more\"]\n", "\n", "x"] {
        let bytes = [&recorded.bytes, more.as_bytes()].concat();

        let verdict = recorded.examine(&bytes).verdict;

        let what = "it follows the end of the recording";
        assert_eq!(verdict, altered(12..=12, what));
    }
}

#[tokio::test]
async fn truncated_recording_is_proven_up_to_its_last_checkpoint() {
    let recorded = Recorded::new().await;
    let lines = recorded.lines();
    let ends: Vec<usize> = [1, 3, 8].map(|count| lines[..count].concat().len()).into();
    for length in ends[0]..recorded.bytes.len() {
        let examined = recorded.examine(&recorded.bytes[..length]);

        let last = [ends[1], ends[2]].into_iter().rfind(|end| *end <= length);
        let proven = last.unwrap_or(0) as u64;
        assert_eq!(examined.verdict, Verdict::Unended { proven }, "{length}");
        assert_eq!(examined.bytes, length as u64);
    }
}

#[tokio::test]
async fn broken_line_and_time_that_goes_back_are_found_without_a_seal_behind_them() {
    let recorded = Recorded::new().await;
    let lines = recorded.lines();
    for (line, what) in [
        ("[1.000000,\"o\",\"x\"\n", "it is no event"),
        (
            "[1.000000,\"o\",\"x\"]\n",
            "it is older than the one before",
        ),
    ] {
        let bytes = [&lines[..9].concat(), line.as_bytes(), b"[\n"].concat();

        assert_eq!(recorded.examine(&bytes).verdict, altered(10..=10, what));
    }
}

#[test]
fn other_files_are_foreign() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for content in [
        "",
        "plain text",
        "{\"version\":2,\"width\":80,\"height\":24}\n",
        "{\"version\":1,\"ssm\":{\"session\":\"s\"}}\n",
        "{\"version\":2,\"ssm\":{\"session\":\"s\"}}",
    ] {
        fs::write(&path, content).unwrap();

        let examined = verify(&path).unwrap();

        assert_eq!(examined.verdict, Verdict::Foreign, "{content}");
        assert_eq!(examined.bytes, content.len() as u64);
    }
    assert!(verify(&folder.path().join("none")).is_err());
    assert!(verify(folder.path()).is_err());
}

/// A recording and a place for its altered copies.
struct Recorded {
    folder: TempDir,
    bytes: Vec<u8>,
    sha256: Digest,
}

impl Recorded {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            quota: 8000,
            ..settings(folder.path())
        };
        let shelf = Arc::new(Shelf::new(&settings));
        let mut sink = FileSink::new(Format::Cast, shelf, Arc::new(about("alice-1")));
        let too_much = output(20, Bytes::from(vec![b'x'; 8000]));
        let end = End {
            reason: "the shell exited".into(),
            exit_code: Some(3),
        };
        sink.write([output(1, "one".into())].into()).await.unwrap();
        for batch in [
            vec![output(2, "two".into())],
            vec![output(3, "three".into())],
            vec![
                entry(20, Event::Missing { bytes: 7 }),
                output(20, "four".into()),
            ],
            vec![output(21, "five".into()), entry(22, Event::End(end))],
        ] {
            assert!(sink.write([too_much.clone()].into()).await.is_err());
            sink.write(batch.into()).await.unwrap();
        }
        let file = sink.file().unwrap();
        Self {
            bytes: fs::read(&file.path).unwrap(),
            sha256: file.sha256,
            folder,
        }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    fn lines(&self) -> Vec<&[u8]> {
        self.bytes.split_inclusive(|&byte| byte == b'\n').collect()
    }

    fn examine(&self, bytes: &[u8]) -> Examined {
        let path = self.folder.path().join("copy.cast");
        fs::write(&path, bytes).unwrap();
        verify(&path).unwrap()
    }
}

fn output(seconds: u64, bytes: Bytes) -> Entry {
    entry(seconds, Event::Output(bytes))
}

fn entry(seconds: u64, event: Event) -> Entry {
    Entry {
        at: Duration::from_secs(seconds),
        event,
    }
}
