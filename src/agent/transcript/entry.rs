//! What is recorded, about whom, and how recording is set up.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::remote::{Policy, RemoteCopy};
use crate::protocol::wire::{SessionId, TerminalSize};

/// How sessions are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Folder of the recordings, `<session id>.cast` and `<session id>.log`. It belongs to the
    /// recordings alone: files with these endings are deleted from it by age and by quota.
    pub directory: PathBuf,
    /// The files made for each session.
    pub formats: Vec<Format>,
    /// Recordings not written to for longer than this are deleted.
    pub retention: Duration,
    /// Bytes that all recordings together may take; the oldest are deleted first, and one file
    /// alone never grows beyond it.
    pub quota: u64,
    /// Whether what the person typed is recorded too, passwords included.
    pub record_input: bool,
    /// Bytes of memory per session and file that may wait for the disk.
    pub spool: usize,
    /// What follows if the files cannot be written.
    pub policy: Policy,
}

/// The form of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// asciicast v2: timing, size changes, gaps and end; exact for valid UTF-8.
    Cast,
    /// The bytes sent to the person, exactly.
    Log,
}

impl Format {
    /// Every format there is.
    pub const ALL: [Self; 2] = [Self::Cast, Self::Log];

    /// The ending of the file's name, without its dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Cast => "cast",
            Self::Log => "log",
        }
    }
}

/// Which session this is, who asked for it, and how it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The session.
    pub session_id: SessionId,
    /// The node it runs on.
    pub node_id: String,
    /// The system user it runs as.
    pub user: String,
    /// Who asked for it.
    pub owner: String,
    /// Name of the session document.
    pub document: String,
    /// The reason that was given.
    pub reason: String,
    /// Size of the terminal at the start.
    pub size: TerminalSize,
    /// When it started.
    pub started: SystemTime,
    /// The shell or command that runs.
    pub command: String,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Why, as a short text.
    pub reason: String,
    /// Exit status of the shell or command, where there is one.
    pub exit_code: Option<i32>,
}

/// What became of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The files made.
    pub files: Vec<RecordedFile>,
    /// What became of the copies at services.
    pub copies: Vec<RemoteCopy>,
    /// Bytes missing in the file that misses most.
    pub lost_bytes: u64,
    /// What went wrong first with the files, and with each copy, with its causes; absent if all went
    /// well.
    pub problem: Option<String>,
}

/// A file of a recording, and what it holds: all that was recorded, unless the report tells of a
/// problem. After a write that was given up the file may have got longer than anybody waited to learn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedFile {
    /// Where it is.
    pub path: PathBuf,
    /// How many bytes of it are known to be there.
    pub bytes: u64,
    /// The digest of those.
    pub sha256: Digest,
}

/// One event of a session and its time since the session's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Time since the start; never less than that of the entry before.
    pub at: Duration,
    /// What happened.
    pub event: Event,
}

/// What happened in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes were sent to the person.
    Output(Bytes),
    /// Bytes of the error stream were sent to the person.
    ErrorOutput(Bytes),
    /// The person typed.
    Input(Bytes),
    /// The terminal has a new size.
    Resize(TerminalSize),
    /// This many bytes were dropped here because the sink did not take them.
    Missing {
        /// Bytes of output, error output and input.
        bytes: u64,
    },
    /// The session ended; nothing follows.
    End(End),
}

impl Event {
    /// Bytes of the session's own data in the event.
    pub fn data_len(&self) -> usize {
        match self {
            Self::Output(bytes) | Self::ErrorOutput(bytes) | Self::Input(bytes) => bytes.len(),
            Self::Resize(_) | Self::Missing { .. } | Self::End(_) => 0,
        }
    }
}
