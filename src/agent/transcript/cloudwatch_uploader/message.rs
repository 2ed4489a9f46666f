//! The messages of events, both ways.
//!
//! Streamed, each is one JSON record:
//!
//! | member | |
//! |---|---|
//! | `eventVersion` | `1.0` |
//! | `eventTime` | time of the event, UTC, to the second |
//! | `awsRegion`, `target.id` | of the node |
//! | `userIdentity.arn` | who asked for the session |
//! | `runAsUser` | the system user it runs as |
//! | `sessionId` | the session |
//! | `sessionData` | the lines since the last record |
//!
//! in this order, and with `<`, `>`, `&`, U+2028 and U+2029 escaped, as Go writes JSON. At the end of a
//! session, each is lines of text with a line feed between them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lines::{Line, Manner};
use crate::agent::transcript::entry::About;
use crate::aws::{LogBatch, LogEvent, MESSAGE_LIMIT};

/// Most bytes of an ARN, by the rules of IAM. With the rest of a record's frame, and its text six times
/// as long as JSON, a record stays below [`MESSAGE_LIMIT`].
const ARN_LIMIT: usize = 2048;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    event_version: &'a str,
    event_time: String,
    aws_region: &'a str,
    target: Target<'a>,
    user_identity: Identity<'a>,
    run_as_user: &'a str,
    session_id: &'a str,
    session_data: Vec<&'a str>,
}

#[derive(Serialize)]
struct Target<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct Identity<'a> {
    arn: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    session_data: Vec<String>,
}

/// What every message of a session says, beside its lines.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub manner: Manner,
    pub about: &'a About,
    pub region: &'a str,
}

impl Frame<'_> {
    /// The first of these lines as the events of one call, the first of them at `time`, in milliseconds
    /// since 1970, the others one later each; and how many lines that are.
    pub fn batch(&self, lines: &[Line], time: i64) -> (LogBatch, usize) {
        let (mut batch, mut taken, mut time) = (LogBatch::default(), 0, time);
        while let Some(rest) = lines.get(taken..).filter(|rest| !rest.is_empty()) {
            let count = event_lines(self.manner, rest);
            let message = self.message(&rest[..count], time);
            debug_assert!(message.len() <= MESSAGE_LIMIT, "{} bytes", message.len());
            let event = LogEvent {
                timestamp: time,
                message,
            };
            if batch.push(event).is_err() {
                break;
            }
            taken += count;
            time += 1;
        }
        (batch, taken)
    }

    fn message(&self, lines: &[Line], time: i64) -> String {
        let texts = lines.iter().map(|line| &line.text[..]);
        match self.manner {
            Manner::Records => self.record(texts.collect(), time),
            Manner::Text => {
                let texts: Vec<&str> = texts.collect();
                // The service takes no empty message.
                Some(texts.join("\n"))
                    .filter(|text| !text.is_empty())
                    .unwrap_or_else(|| " ".to_owned())
            }
        }
    }

    fn record(&self, session_data: Vec<&str>, time: i64) -> String {
        let time = Timestamp::from_millisecond(time).unwrap_or_default();
        let arn = &self.about.owner;
        let record = Record {
            event_version: "1.0",
            event_time: time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            aws_region: self.region,
            target: Target {
                id: &self.about.node_id,
            },
            user_identity: Identity {
                arn: &arn[..arn.floor_char_boundary(ARN_LIMIT)],
            },
            run_as_user: &self.about.user,
            session_id: self.about.session_id.as_str(),
            session_data,
        };
        let json = serde_json::to_string(&record);
        escape(&json.expect("strings and lists of them can be written as JSON"))
    }

    /// The texts of the lines in a message; none if it is not of this kind.
    pub fn texts(&self, message: &str) -> Vec<String> {
        match (self.manner, message) {
            (Manner::Records, json) => serde_json::from_str(json)
                .map(|read: Read| read.session_data)
                .unwrap_or_default(),
            (Manner::Text, " ") => vec![String::new()],
            (Manner::Text, text) => text.split('\n').map(str::to_owned).collect(),
        }
    }
}

/// How many of these lines go in one event: one at least.
fn event_lines(manner: Manner, lines: &[Line]) -> usize {
    let (mut bytes, mut count) = (0, 0);
    for line in lines {
        bytes += line.text.len() + usize::from(line.is_end);
        // One line that is as long as an event has no room for its line feed.
        if count > 0 && bytes > manner.event_text() {
            break;
        }
        count += 1;
        if !line.is_end && manner == Manner::Text {
            break;
        }
    }
    count
}

/// In JSON, only strings have these characters.
fn escape(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::transcript::file_sink::tests::about;

    #[test]
    fn record_is_the_reference_s_to_the_byte() {
        let (batch, taken) = frame(Manner::Records, &about("alice-1")).batch(
            &lines(&["$ echo <&>", "\"\\\u{2028}", ""]),
            1_795_342_050_123,
        );

        let expected = concat!(
            r#"{"eventVersion":"1.0","eventTime":"2026-11-22T10:07:30Z","awsRegion":"us-east-1","#,
            r#""target":{"id":"mi-0123"},"userIdentity":{"arn":"arn:aws:iam::1:user/alice"},"#,
            r#""runAsUser":"ssm-user","sessionId":"alice-1","#,
            r#""sessionData":["$ echo \u003c\u0026\u003e","\"\\\u2028",""]}"#
        );
        let event = LogEvent {
            timestamp: 1_795_342_050_123,
            message: expected.into(),
        };
        assert_eq!((batch.events(), taken), (&[event][..], 3));
    }

    #[test]
    fn message_tells_its_lines() {
        let about = about("alice-1");
        for manner in [Manner::Records, Manner::Text] {
            let frame = frame(manner, &about);
            for texts in [
                &["a\r", "", "<b>"][..],
                &[""],
                &["", ""],
                &["\u{1b}[31m é \u{0}"],
            ] {
                let (batch, _) = frame.batch(&lines(texts), 0);

                assert_eq!(frame.texts(&batch.events()[0].message), texts, "{manner:?}");
                assert!(!batch.events()[0].message.is_empty());
            }
        }
        assert!(frame(Manner::Records, &about).texts("no record").is_empty());
    }

    #[test]
    fn text_is_cut_between_lines_and_a_call_has_what_the_service_takes() {
        let about = about("alice-1");
        let frame = frame(Manner::Text, &about);
        let half = "x".repeat(99_999);
        let many = lines(&vec![&half[..]; 13]);

        let (batch, taken) = frame.batch(&many, 7);

        let lengths: Vec<_> = (batch.events().iter())
            .map(|event| event.message.len())
            .collect();
        assert_eq!(lengths, [199_999; 5], "two lines with a line feed between");
        assert_eq!(taken, 10);
        let times: Vec<_> = batch.events().iter().map(|event| event.timestamp).collect();
        assert_eq!(times, [7, 8, 9, 10, 11]);
        let (batch, taken) = frame.batch(&many[taken..], 12);
        assert_eq!((batch.events().len(), taken), (2, 3));
    }

    #[test]
    fn piece_of_a_long_line_ends_its_event() {
        let about = about("alice-1");
        let mut pieces = lines(&["x", "y"]);
        pieces[0].is_end = false;

        let (batch, taken) = frame(Manner::Text, &about).batch(&pieces, 0);

        assert_eq!((batch.events().len(), taken), (2, 2));
    }

    #[test]
    fn worst_record_and_text_stay_below_the_limit_of_an_event() {
        let mut about = about("alice-1");
        about.owner = "\u{1}".repeat(5000);
        for (manner, text) in [
            (Manner::Records, "\u{1}".repeat(33_000)),
            (Manner::Records, "<".repeat(33_000)),
            (Manner::Records, "\u{2028}".repeat(11_000)),
            (Manner::Text, "\u{1}".repeat(200_000)),
        ] {
            let (batch, taken) = frame(manner, &about).batch(&lines(&[&text]), 0);

            assert_eq!(taken, 1);
            assert!(batch.events()[0].message.len() <= MESSAGE_LIMIT);
        }
        let blank = lines(&[""; 40_000]);
        let (batch, taken) = frame(Manner::Records, &about).batch(&blank, 0);
        assert_eq!((batch.events().len(), taken), (2, 40_000));
    }

    fn frame(manner: Manner, about: &About) -> Frame<'_> {
        Frame {
            manner,
            about,
            region: "us-east-1",
        }
    }

    fn lines(texts: &[&str]) -> Vec<Line> {
        let line = |text: &&str| Line {
            text: (*text).to_owned(),
            is_end: true,
        };
        texts.iter().map(line).collect()
    }
}
