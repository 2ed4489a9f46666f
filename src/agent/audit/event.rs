//! What is told, and how a line of the log is made of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::protocol::wire::SessionId;
use crate::protocol::wire::codec::to_json;
use crate::protocol::wire::job::CommandId;

/// Longest text that is kept whole, in bytes: a long command line. A line is thus below 40 KiB.
const LONGEST: usize = 8 << 10;

/// A text from outside, cut to a length that the log can bear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: AsRef<str>> From<T> for Text {
    fn from(text: T) -> Self {
        let text = text.as_ref();
        if text.len() <= LONGEST {
            return Self(text.to_owned());
        }
        let kept = &text[..text.floor_char_boundary(LONGEST)];
        Self(format!("{kept}… ({} bytes in all)", text.len()))
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(
    tag = "event",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum Event<'a> {
    /// The agent runs.
    AgentStarted {
        /// The node.
        node: Text,
        /// The agent's version.
        version: &'static str,
    },
    /// The agent stops.
    AgentStopped,
    /// A command was taken; who sent it only the service knows.
    CommandAccepted {
        /// The command.
        command: &'a CommandId,
        /// The document.
        document: Text,
        /// Its steps with their plugins.
        steps: Text,
    },
    /// A command was asked for and is not run.
    CommandRefused {
        /// The command.
        command: &'a CommandId,
        /// Why it is not run.
        refusal: Text,
    },
    /// A command is to be cancelled.
    CommandCancelled {
        /// The command.
        command: &'a CommandId,
    },
    /// A command is over.
    CommandEnded {
        /// The command.
        command: &'a CommandId,
        /// How it ended.
        status: Text,
    },
    /// A session was asked for and does not start.
    SessionRefused {
        /// The session, if the message named one.
        session: Option<&'a SessionId>,
        /// Who asked for it.
        #[serde(skip_serializing_if = "Text::is_empty")]
        owner: Text,
        /// The session document.
        #[serde(skip_serializing_if = "Text::is_empty")]
        document: Text,
        /// The reason that was given.
        #[serde(skip_serializing_if = "Text::is_empty")]
        reason: Text,
        /// Why it does not start.
        refusal: Text,
    },
    /// A session starts.
    SessionStarted {
        /// The session.
        session: &'a SessionId,
        /// Who asked for it.
        owner: Text,
        /// The session document.
        document: Text,
        /// The reason that was given.
        reason: Text,
        /// What it is: a shell, a command, a port.
        kind: &'static str,
        /// Whether its data is encrypted between client and agent.
        encrypted: bool,
        /// The command of a command document.
        #[serde(skip_serializing_if = "Option::is_none")]
        command: Option<Text>,
        /// Where the connections of a port session go, as the document says it.
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<Text>,
    },
    /// The shell or command of a session runs.
    ProcessStarted {
        /// The session.
        session: &'a SessionId,
        /// The system user it runs as.
        user: Text,
        /// What runs.
        command: Text,
    },
    /// A connection of a port session is over, or did not come about.
    Connection {
        /// The session.
        session: &'a SessionId,
        /// The address or path it led to.
        target: Text,
        /// When it was asked for.
        #[serde(serialize_with = "timestamp")]
        opened: Timestamp,
        /// How long it lasted.
        seconds: f64,
        /// Bytes to the target.
        up: u64,
        /// Bytes from the target.
        down: u64,
        /// How it ended.
        outcome: Text,
    },
    /// Connections of a port session that makes too many of them for a line each.
    Connections {
        /// The session.
        session: &'a SessionId,
        /// The address or path that the first led to.
        target: Text,
        /// When the first was asked for.
        #[serde(serialize_with = "timestamp")]
        opened: Timestamp,
        /// The time in which they ended.
        seconds: f64,
        /// How many they are.
        connections: u64,
        /// Bytes to the target.
        up: u64,
        /// Bytes from the target.
        down: u64,
        /// How they ended, and how many did so.
        outcomes: BTreeMap<String, u64>,
    },
    /// A session ended.
    SessionEnded {
        /// The session.
        session: &'a SessionId,
        /// The result: `Success` or `Failed`.
        status: String,
        /// Why it ended.
        reason: Text,
        /// Exit status of the shell or command, if it ended by itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// How long it lasted.
        seconds: f64,
        /// The files that recorded it.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        recordings: Vec<Recording>,
        /// Its copies at services.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        copies: Vec<RemoteCopy>,
        /// Bytes that the recording which lacks most lacks.
        lost_bytes: u64,
        /// What went wrong with the recording.
        #[serde(skip_serializing_if = "Option::is_none")]
        problem: Option<Text>,
    },
    /// What carried a session ended without a word. Nothing is known of the connections that it had
    /// open.
    SessionLost {
        /// The session.
        session: &'a SessionId,
        /// What happened.
        reason: Text,
    },
    /// Lines of this log were lost, as the disk did not take them.
    LinesLost {
        /// How many.
        lines: u64,
    },
}

/// A file that recorded a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recording {
    /// Its path.
    pub file: Text,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: String,
}

/// A copy of a recording at a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemoteCopy {
    /// The service.
    pub service: &'static str,
    /// Where it is there.
    pub place: Text,
    /// `complete`, `continuing` or `given-up`.
    pub standing: &'static str,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "timestamp")]
    time: Timestamp,
    seq: u64,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

/// The line of an event, its line feed included.
pub(super) fn line(time: Timestamp, seq: u64, event: &Event<'_>) -> String {
    let json = to_json(&Line { time, seq, event });
    let mut line = String::with_capacity(json.len() + 1);
    for c in String::from_utf8_lossy(&json).chars() {
        if is_harmless(c) {
            line.push(c);
        } else {
            // They are all within the first plane, and only strings can hold them.
            line.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
    line.push('\n');
    line
}

/// Whether a character may stand in the log as it is. JSON escapes the C0 controls itself; the others
/// could still change what somebody sees who prints the log on a terminal.
fn is_harmless(c: char) -> bool {
    let reorders =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks_lines = matches!(c, '\u{2028}' | '\u{2029}');
    !c.is_control() && !reorders && !breaks_lines
}

fn timestamp<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.6}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn line_is_one_json_object_with_time_and_number() {
        let line = line_of(&Event::LinesLost { lines: 3 });

        assert_eq!(
            line,
            "{\"time\":\"2023-11-14T22:13:20.000000Z\",\"seq\":7,\"event\":\"lines-lost\",\"lines\":3}\n"
        );
    }

    #[test]
    fn names_are_those_of_the_documentation() {
        let session = SessionId::new("alice-1").unwrap();
        let line = line_of(&Event::SessionEnded {
            session: &session,
            status: "Success".into(),
            reason: "the shell or command ended".into(),
            exit_code: Some(3),
            seconds: 1.5,
            recordings: vec![Recording {
                file: "/r/alice-1.cast".into(),
                bytes: 10,
                sha256: "ab".into(),
            }],
            copies: vec![RemoteCopy {
                service: "S3",
                place: "s3://b/alice-1.log".into(),
                standing: "continuing",
            }],
            lost_bytes: 0,
            problem: None,
        });

        let mut value: Value = serde_json::from_str(&line).unwrap();
        value.as_object_mut().unwrap().remove("time");
        assert_eq!(
            value,
            json!({
                "seq": 7, "event": "session-ended", "session": "alice-1", "status": "Success",
                "reason": "the shell or command ended", "exitCode": 3, "seconds": 1.5,
                "recordings": [{"file": "/r/alice-1.cast", "bytes": 10, "sha256": "ab"}],
                "copies": [{"service": "S3", "place": "s3://b/alice-1.log", "standing": "continuing"}],
                "lostBytes": 0,
            })
        );
    }

    #[test]
    fn text_from_outside_never_makes_a_line_or_moves_the_cursor() {
        let evil = "\"}\n{\"event\":\"forged\"}\r\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{2028}ü";
        let session = SessionId::new("alice-1").unwrap();

        let line = line_of(&Event::ProcessStarted {
            session: &session,
            user: evil.into(),
            command: evil.into(),
        });

        let text = line.strip_suffix('\n').unwrap();
        assert!(text.chars().all(is_harmless), "{text}");
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value["event"], "process-started");
        assert_eq!(value["command"], evil);
    }

    #[test]
    fn long_text_is_cut_between_characters_and_says_so() {
        let text = Text::from("ü".repeat(LONGEST));

        let json = serde_json::to_string(&text).unwrap();
        assert!(json.len() < LONGEST + 100);
        assert!(json.ends_with("ü… (16384 bytes in all)\""), "{json}");
    }

    fn line_of(event: &Event<'_>) -> String {
        let time = Timestamp::from_second(1_700_000_000).unwrap();
        line(time, 7, event)
    }
}
