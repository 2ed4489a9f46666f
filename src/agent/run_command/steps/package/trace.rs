//! What a step tells: its two streams, written as it goes, and the sections of its work, which the
//! service gets at the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::super::Streams;
use crate::runtime::atomic_file;

/// A section of the work, in the reference's format of `traces`. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Section {
    pub(super) operation: String,
    pub(super) exitcode: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) error: String,
    pub(super) start: i64,
    #[serde(default)]
    pub(super) stop: i64,
}

/// How long the streams are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lengths {
    output: u64,
    errors: u64,
}

/// The step's streams and sections.
#[derive(Debug)]
pub(super) struct Trace {
    streams: Streams,
    pub(super) sections: Vec<Section>,
}

impl Trace {
    /// Goes on after what the streams have.
    pub(super) fn new(streams: Streams) -> io::Result<Self> {
        atomic_file::create_private_dir(&streams.folder)?;
        Ok(Self {
            streams,
            sections: Vec::new(),
        })
    }

    /// Goes on where another agent noted that it was; what it told after that is told again.
    pub(super) fn resume(
        streams: Streams,
        lengths: Lengths,
        sections: Vec<Section>,
    ) -> io::Result<Self> {
        let mut trace = Self::new(streams)?;
        cut(&trace.streams.output(), lengths.output)?;
        cut(&trace.streams.error_output(), lengths.errors)?;
        trace.sections = sections;
        Ok(trace)
    }

    /// Where the streams are.
    pub(super) fn streams(&self) -> &Streams {
        &self.streams
    }

    /// How long the streams are now.
    pub(super) fn lengths(&self) -> Lengths {
        let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        Lengths {
            output: length(&self.streams.output()),
            errors: length(&self.streams.error_output()),
        }
    }

    /// Tells a line.
    pub(super) fn info(&self, line: &str) {
        tell(&self.streams.output(), line, None);
    }

    /// Tells a line of what went wrong.
    pub(super) fn error(&self, line: &str) {
        tell(&self.streams.error_output(), line, None);
    }

    /// Tells what a script printed, all of it, if it printed anything.
    pub(super) async fn streams_of(&self, action: &str, script: &Streams) {
        let streams = [
            ("output", script.output(), self.streams.output()),
            ("errors", script.error_output(), self.streams.error_output()),
        ];
        let action = action.to_owned();
        let telling = tokio::task::spawn_blocking(move || {
            for (word, from, to) in streams {
                if fs::metadata(&from).is_ok_and(|metadata| metadata.len() > 0) {
                    tell(&to, &format!("{action} {word}: "), Some(&from));
                }
            }
        });
        // It is the runtime's end that keeps it from being done.
        let _ = telling.await;
    }

    /// Notes a section that ends now.
    pub(super) fn section(&mut self, operation: &str, start: i64, exitcode: i64, error: &str) {
        self.sections.push(Section {
            operation: operation.to_owned(),
            exitcode,
            error: error.to_owned(),
            start,
            stop: now(),
        });
    }
}

/// A full disk takes no lines; the step goes on.
fn tell(to: &Path, text: &str, file: Option<&Path>) {
    let told = append(to).and_then(|mut to| {
        to.write_all(text.as_bytes())?;
        if let Some(from) = file {
            io::copy(&mut File::open(from)?, &mut to)?;
        }
        to.write_all(b"\n")
    });
    if let Err(error) = told {
        tracing::warn!(%error, "a step cannot tell what it does");
    }
}

/// Nanoseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

fn cut(path: &Path, length: u64) -> io::Result<()> {
    let file = append(path)?;
    if file.metadata()?.len() > length {
        file.set_len(length)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(folder: &Path, name: &str) -> Streams {
        Streams {
            folder: folder.join(name),
            name: name.into(),
        }
    }

    #[tokio::test]
    async fn what_a_script_printed_is_told_whole_and_what_it_did_not_is_not() {
        let root = tempfile::tempdir().unwrap();
        let script = streams(root.path(), "script");
        fs::create_dir(&script.folder).unwrap();
        fs::write(script.output(), "x".repeat(100_000)).unwrap();
        fs::write(script.error_output(), "").unwrap();
        let trace = Trace::new(streams(root.path(), "step")).unwrap();

        trace.info("before");
        trace.streams_of("install", &script).await;

        let told = fs::read_to_string(trace.streams().output()).unwrap();
        assert!(told.starts_with("before\ninstall output: xxx") && told.len() == 100_024);
        assert!(!trace.streams().error_output().exists());
    }

    #[test]
    fn what_was_told_after_a_note_is_told_again() {
        let root = tempfile::tempdir().unwrap();
        let trace = Trace::new(streams(root.path(), "step")).unwrap();
        trace.info("one");
        let noted = trace.lengths();
        trace.info("two");
        trace.error("oh");

        let resumed = Trace::resume(trace.streams().clone(), noted, Vec::new()).unwrap();
        resumed.info("two");

        let read = |path| fs::read_to_string(path).unwrap();
        assert_eq!(read(resumed.streams().output()), "one\ntwo\n");
        assert_eq!(read(resumed.streams().error_output()), "");
    }
}
