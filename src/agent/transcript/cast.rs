//! asciicast v2: a header line, then one JSON array per event.
//!
//! ```text
//! {"version":2,"width":80,"height":24,"timestamp":1700000000,"command":"/bin/bash","title":"…",
//!  "env":{"SHELL":"/bin/bash","TERM":"xterm-256color"},"ssm":{"session":"…","node":"…",…}}
//! [0.012345,"o","text sent to the person"]
//! [1.500000,"i","text typed"]                      if input is recorded
//! [2.000000,"r","132x43"]                          the terminal has a new size
//! [3.000000,"m","4096 bytes are missing here"]     the disk did not take them
//! [4.000000,"m","session ended: the shell exited, exit status 0"]
//! ```
//!
//! Between and after them stand the seals ([`super::seal`]), which the sink adds.
//!
//! The member `ssm` is ours; players ignore members they do not know. Error output is an `o` too,
//! since the person sees it in the same place.
//!
//! The text of an `o` is exact for valid UTF-8, control bytes included, and characters that were cut
//! between two events are put together in the second. JSON text cannot hold bytes that are no
//! UTF-8: each such sequence becomes U+FFFD here and stays as it is in the plain log.

mod text;

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::entry::{About, End, Entry, Event};
use crate::protocol::wire::codec::to_json;
use crate::protocol::wire::{SessionId, TerminalSize};
use text::Utf8Text;

/// The terminal type that the agent's sessions have.
const TERM: &str = "xterm-256color";
/// Size in the header while none is known.
const DEFAULT_SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };
/// Longest text before and after the text of an event, rounded up.
const FRAME: usize = 64;

/// Encodes the entries of one session, remembering characters that are not complete.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Encoder {
    output: Utf8Text,
    error_output: Utf8Text,
    input: Utf8Text,
}

#[derive(Serialize)]
struct Header<'a> {
    version: u8,
    width: u16,
    height: u16,
    timestamp: u64,
    command: &'a str,
    title: String,
    env: Environment<'a>,
    ssm: Session<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Environment<'a> {
    shell: &'a str,
    term: &'a str,
}

#[derive(Serialize)]
struct Session<'a> {
    session: &'a SessionId,
    node: &'a str,
    user: &'a str,
    owner: &'a str,
    document: &'a str,
    reason: &'a str,
}

/// The header line.
pub fn header(about: &About) -> Vec<u8> {
    let size = match about.size {
        TerminalSize { cols: 0, .. } | TerminalSize { rows: 0, .. } => DEFAULT_SIZE,
        size => size,
    };
    let started = about.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let header = Header {
        version: 2,
        width: size.cols,
        height: size.rows,
        timestamp: started.as_secs(),
        command: &about.command,
        title: format!(
            "{}@{}, session {}",
            about.user, about.node_id, about.session_id
        ),
        env: Environment {
            shell: &about.command,
            term: TERM,
        },
        ssm: Session {
            session: &about.session_id,
            node: &about.node_id,
            user: &about.user,
            owner: &about.owner,
            document: &about.document,
            reason: &about.reason,
        },
    };
    let mut line = to_json(&header);
    line.push(b'\n');
    line
}

impl Encoder {
    /// Appends the lines of `entry` to `out`.
    pub fn encode(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        match &entry.event {
            Event::Output(bytes) => event(entry.at, 'o', out, |out| self.output.push(bytes, out)),
            Event::ErrorOutput(bytes) => {
                event(entry.at, 'o', out, |out| self.error_output.push(bytes, out));
            }
            Event::Input(bytes) => event(entry.at, 'i', out, |out| self.input.push(bytes, out)),
            Event::Resize(size) => {
                let size = format!("{}x{}", size.cols, size.rows);
                event(entry.at, 'r', out, |out| text::escape(&size, out));
            }
            Event::Missing { bytes } => {
                let label = format!("{bytes} bytes are missing here");
                event(entry.at, 'm', out, |out| text::escape(&label, out));
            }
            Event::End(end) => self.end(entry.at, end, out),
        }
    }

    fn end(&mut self, at: Duration, end: &End, out: &mut Vec<u8>) {
        event(at, 'o', out, |out| self.output.finish(out));
        event(at, 'o', out, |out| self.error_output.finish(out));
        event(at, 'i', out, |out| self.input.finish(out));
        let mut label = format!("session ended: {}", end.reason);
        if let Some(code) = end.exit_code {
            label.push_str(&format!(", exit status {code}"));
        }
        event(at, 'm', out, |out| text::escape(&label, out));
    }
}

/// Appends the beginning of an event up to its text, which must not need escapes or be escaped.
pub fn begin_event(at: Duration, code: char, out: &mut Vec<u8>) {
    let (seconds, micros) = (at.as_secs(), at.subsec_micros());
    write!(out, "[{seconds}.{micros:06},\"{code}\",\"").expect("a Vec takes what it is given");
}

/// Appends one event whose text `write` appends; leaves no trace if there is no text.
fn event(at: Duration, code: char, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.reserve(FRAME);
    begin_event(at, code, out);
    let before = out.len();
    write(out);
    if out.len() == before {
        out.truncate(start);
    } else {
        out.extend_from_slice(b"\"]\n");
    }
}

#[cfg(test)]
mod tests;
