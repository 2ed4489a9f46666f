//! What `ssm-cli` and a running agent on the same host say to each other over a Unix socket.
//!
//! One line of JSON each way, then the agent closes the connection:
//!
//! | from | line |
//! |---|---|
//! | `ssm-cli` | [`Request`], at most [`REQUEST_LIMIT`] bytes |
//! | agent | [`Answer`], at most [`ANSWER_LIMIT`] bytes |
//!
//! ```json
//! {"request":"status"}
//! {"answer":"status","node-id":"mi-0123456789abcdef0",…}
//! ```
//!
//! Members that one end does not know are ignored, so that tool and agent may be of different
//! versions while a package is upgraded.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::codec::{DecodeError, from_json, to_json};

/// Longest request line, without its end.
pub const REQUEST_LIMIT: usize = 4 << 10;
/// Longest answer line, without its end.
pub const ANSWER_LIMIT: usize = 1 << 20;
/// Most sessions and copies of records that an answer lists; all of them are counted.
pub const LISTED: usize = 500;
/// Most problems that an answer lists, the newest ones.
pub const PROBLEMS: usize = 8;

/// What `ssm-cli` wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// How the agent is.
    Status,
    /// Look for commands that were left on this host.
    TakeLocalCommands,
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// How it is.
    Status(Box<AgentStatus>),
    /// It is done, or about to be.
    Done,
    /// It does not answer that.
    Refused {
        /// Why.
        problem: String,
    },
}

/// How an agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AgentStatus {
    /// The node it is registered as.
    pub node_id: String,
    /// Where that is registered.
    pub region: String,
    /// How it knows: `OnPrem`, `EC2`, `ECS` or `CustomIdentity`.
    pub registration: String,
    /// The product's version.
    pub agent_version: String,
    /// The version that it reports on the wire.
    pub wire_version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started: Time,
    /// How its control channel stands.
    pub control_channel: ControlChannel,
    /// Sessions that run, oldest first; at most [`LISTED`].
    pub sessions: Vec<Session>,
    /// How many run.
    pub open_sessions: usize,
    /// Where recordings are written on this host, if they are.
    pub recordings: Option<String>,
    /// Copies of records that are under way to services or were given up; at most [`LISTED`].
    pub sinks: Vec<Sink>,
    /// Commands of Run Command.
    pub commands: Commands,
    /// What went wrong lately, oldest first; at most [`PROBLEMS`].
    pub problems: Vec<Problem>,
}

/// How a control channel stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ControlChannel {
    /// Its state.
    pub state: ChannelState,
    /// Since when it has been open, or has not been.
    pub since: Time,
}

/// The state of a control channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelState {
    /// It is being opened.
    Connecting,
    /// It is open.
    Connected,
    /// It is not open; the next attempt comes by itself.
    Waiting,
    /// The agent stops.
    Stopped,
    /// One that this version does not know.
    #[serde(other)]
    Unknown,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Session {
    /// Its id.
    pub id: String,
    /// What it does: `shell`, `command` or `port`.
    pub kind: String,
    /// Whose it is, as the service says.
    pub owner: String,
    /// Who it runs as on this host; empty for a port, and until its process runs.
    pub user: String,
    /// Since when.
    pub since: Time,
}

/// A service's copy of the record of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sink {
    /// The session.
    pub session: String,
    /// The service.
    pub service: String,
    /// Where the copy is there.
    pub place: String,
    /// Entries of the record so far.
    pub entries: u64,
    /// How many of them the service has confirmed.
    pub confirmed: u64,
    /// Why the copy was given up, if it was.
    pub problem: Option<String>,
}

/// Commands of Run Command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Commands {
    /// How many run.
    pub running: usize,
    /// How many wait for others to end.
    pub queued: usize,
    /// Whether the message delivery service is polled for them too.
    #[serde(default)]
    pub polled: bool,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// When, the last time.
    pub at: Time,
    /// With what: `control channel`, `recording`.
    pub subject: String,
    /// What it was, with its causes.
    pub text: String,
    /// How often in a row.
    pub times: u64,
}

/// A point in time; RFC 3339 in UTC and in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(Timestamp);

impl Request {
    /// The line, without its end.
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Reads a line, without its end.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too long or is no request.
    pub fn decode(line: &[u8]) -> Result<Self, DecodeError> {
        from_json("local request", line, REQUEST_LIMIT)
    }
}

impl Answer {
    /// The line, without its end.
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Reads a line, without its end.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too long or is no answer.
    pub fn decode(line: &[u8]) -> Result<Self, DecodeError> {
        from_json("local answer", line, ANSWER_LIMIT)
    }
}

impl Time {
    /// The time that many milliseconds after 1970 began; one that no calendar has becomes that
    /// beginning.
    pub fn from_unix_ms(milliseconds: i64) -> Self {
        Self(Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// Milliseconds since 1970 began.
    pub fn unix_ms(self) -> i64 {
        self.0.as_millisecond()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl FromStr for Time {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let parsed: Timestamp = text.parse().map_err(|error| DecodeError::Invalid {
            what: "time",
            detail: format!("{text:?}: {error}"),
        })?;
        Ok(Self::from_unix_ms(parsed.as_millisecond()))
    }
}

impl TryFrom<String> for Time {
    type Error = DecodeError;

    fn try_from(text: String) -> Result<Self, DecodeError> {
        text.parse()
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = concat!(
        r#"{"answer":"status","node-id":"mi-1","region":"eu-central-1","registration":"OnPrem","#,
        r#""agent-version":"0.1.0","wire-version":"3.3.4364.0","pid":7,"started":"2026-11-24T02:04:56.789Z","#,
        r#""control-channel":{"state":"connected","since":"2026-11-24T02:04:57.000Z"},"#,
        r#""sessions":[{"id":"alice-1","kind":"shell","owner":"alice","user":"ssm-user","since":"2026-11-24T03:00:00.000Z"}],"#,
        r#""open-sessions":1,"recordings":"/var/log/amazon/ssm/sessions","#,
        r#""sinks":[{"session":"alice-1","service":"S3","place":"s3://b/alice-1.log","entries":9,"confirmed":4,"problem":null}],"#,
        r#""commands":{"running":1,"queued":0,"polled":false},"#,
        r#""problems":[{"at":"2026-11-24T02:04:56.900Z","subject":"control channel","text":"refused","times":2}]}"#,
    );

    #[test]
    fn golden_lines() {
        let request = br#"{"request":"status"}"#;

        assert_eq!(Request::Status.encode(), request);
        assert_eq!(Request::decode(request), Ok(Request::Status));
        let take = br#"{"request":"take-local-commands"}"#;
        assert_eq!(Request::TakeLocalCommands.encode(), take);
        assert_eq!(Answer::Done.encode(), br#"{"answer":"done"}"#);
        let answer = Answer::decode(STATUS.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(answer.encode()).unwrap(), STATUS);
    }

    #[test]
    fn members_and_requests_of_a_later_version_are_no_error() {
        let later = br#"{"request":"reload","scope":"all"}"#;
        let answer = STATUS.replace("\"pid\"", "\"mood\":\"fine\",\"pid\"");

        assert_eq!(Request::decode(later), Ok(Request::Unknown));
        let answer = Answer::decode(answer.replace("connected", "dreaming").as_bytes());
        let Ok(Answer::Status(status)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(status.control_channel.state, ChannelState::Unknown);
    }

    #[test]
    fn malformed_lines_are_refused() {
        let long = vec![b' '; REQUEST_LIMIT + 1];
        for line in [&b""[..], b"status", b"[]", b"{\"request\":7}", &long] {
            assert!(Request::decode(line).is_err(), "{line:?}");
        }
        let no_time = STATUS.replace("2026-11-24T02:04:56.789Z", "yesterday");
        for line in ["{}", "{\"answer\":\"status\"}", &no_time] {
            assert!(Answer::decode(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn any_number_is_a_time() {
        for milliseconds in [0, -1, 1_795_348_800_123] {
            let time = Time::from_unix_ms(milliseconds);

            assert_eq!(time.to_string().parse(), Ok(time));
            assert_eq!(time.unix_ms(), milliseconds);
        }
        assert_eq!(Time::from_unix_ms(i64::MAX), Time::from_unix_ms(0));
    }
}
