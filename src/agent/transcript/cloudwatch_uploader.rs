//! Uploading the record of a session to a stream of a log group of CloudWatch Logs.
//!
//! | manner | what goes there | when |
//! |---|---|---|
//! | streamed | JSON records of the lines that are complete | each second |
//! | not streamed | the text that `script(1)` makes of the session | each 200 000 bytes, the rest at the end |
//!
//! The service stores what is sent twice twice. Events are therefore not sent again unless it is known
//! that they are not there: after a call without an answer, and after a start of the agent, the stream is
//! asked for what came after the last event that is known, and its lines are compared with those that
//! would be sent. Times of events grow with each event, whatever the clock does, so that none is
//! overlooked. What the service does not show yet when it is asked, some seconds after it was stored, is
//! there twice; so is all in doubt where `logs:GetLogEvents` is denied.

mod failure;
mod lines;
mod message;
mod sequences;

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::warn;

use self::failure::{Failure, leaves_doubt};
use self::lines::{Line, Lines, Manner};
use self::message::Frame;
use super::entry::{About, Entry, Event};
use super::spool::ENTRY_COST;
use super::uploader::{Check, CheckError, Confirmed, Upload, UploadError, Uploader, Wants};
use crate::aws::{CallError, Client, LogStream, Made};
use crate::runtime::cause::in_one_line;

/// What a stream lags behind, as with the reference.
const STREAMED_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether there is enough text for an event.
const TEXT_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of entries that one upload takes. They are in memory for as long as the upload takes, with their
/// lines, a call's events of at most 1 MiB, and these once more as JSON, 2 MiB: 4 MiB in all, or 8 if
/// nothing but control characters was shown. The owner of the uploaders bounds how many there are.
const BATCH: usize = 512 << 10;
/// Lines that are remembered of what the stream has beyond what was known: 512 KiB, and 4 MiB for those of
/// one more answer, if all are empty. If there are more, it is asked again.
const AHEAD: usize = 64 << 10;
/// Sequence tokens that are tried one after the other.
const TOKENS: u32 = 4;
/// What a check may take, so that a session which must be encrypted does not start unchecked.
const CHECK_LIMIT: Duration = Duration::from_secs(8);

const UNENCRYPTED: &str = "We couldn't start the session because encryption is not set up on the \
     selected CloudWatch Logs log group. Either encrypt the log group or choose an option to enable \
     logging without encryption.";

/// Uploads one session's lines.
pub struct CloudWatchUploader {
    client: Client,
    about: Arc<About>,
    stream: LogStream,
    manner: Manner,
    /// The group has to be encrypted.
    encrypted: bool,
    /// The stream is there.
    is_made: bool,
    /// What the next call has to name, at endpoints that care.
    token: Option<String>,
    /// Makes the lines of what follows the confirmed entries.
    lines: Lines,
    /// What the stream had at the last time that nothing was in doubt.
    mark: Mark,
    /// Time of the last event that is known to be there.
    last: i64,
    /// Lines that are known to be there, of those that follow the confirmed entries.
    sent: usize,
    /// There may be more events than are known.
    is_in_doubt: bool,
    /// Lines of what is there after `last` that belong to confirmed entries.
    skipped: u64,
    /// Further lines that are there, by their hashes.
    ahead: VecDeque<u64>,
}

/// A place in the stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Time of an event.
    time: i64,
    /// Confirmed lines after it.
    lines: u64,
}

/// What the next run of the agent needs to go on.
#[derive(Default, Serialize, Deserialize)]
struct State {
    mark: Mark,
    begun: bool,
    /// The beginning of a line, base64.
    partial: String,
}

impl CloudWatchUploader {
    /// An uploader for the session that `about` tells of, to the stream of `group` that has its name.
    /// `state` is what [`Uploader::state`] gave to an earlier run, if there was one.
    pub fn new(
        client: Client,
        about: Arc<About>,
        group: &str,
        encrypted: bool,
        streaming: bool,
        state: Option<Value>,
    ) -> Self {
        let manner = if streaming {
            Manner::Records
        } else {
            Manner::Text
        };
        let state: State = state
            .and_then(|state| serde_json::from_value(state).ok())
            .unwrap_or_default();
        let mut lines = Lines::new(manner);
        lines.begun = state.begun;
        lines.partial = BASE64.decode(state.partial).unwrap_or_default();
        // Nothing confirmed is in the stream, or the stream is there.
        let is_made = state.mark.time > 0;
        Self {
            client,
            stream: LogStream {
                group: group.to_owned(),
                name: about.session_id.to_string(),
            },
            about,
            manner,
            encrypted,
            is_made,
            token: None,
            lines,
            mark: state.mark,
            last: state.mark.time,
            sent: 0,
            is_in_doubt: is_made,
            skipped: state.mark.lines,
            ahead: VecDeque::new(),
        }
    }

    async fn send(&mut self, entries: &[Entry]) -> Result<Confirmed, UploadError> {
        let mut after = self.lines.clone();
        let lines = after.split(&self.about, entries);
        if self.manner == Manner::Text && !is_due(entries) {
            return Ok(Confirmed { entries: 0 });
        }
        self.bring(&lines).await?;
        self.lines = after;
        self.sent = 0;
        self.mark.lines += lines.len() as u64;
        if !self.is_in_doubt && self.ahead.is_empty() {
            self.mark = Mark {
                time: self.last,
                lines: 0,
            };
        }
        Ok(Confirmed {
            entries: entries.len(),
        })
    }

    /// Brings those of the lines to the stream that are not there. Each step leaves what it knows behind,
    /// so that a call which is given up in the middle costs nothing but its answer.
    async fn bring(&mut self, lines: &[Line]) -> Result<(), Failure> {
        let mut tokens = 0;
        loop {
            self.pass_by(lines);
            let rest = lines.get(self.sent..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            if !self.is_made {
                let made = self.client.create_log_stream(&self.stream).await;
                // An earlier run may have made it and got no further.
                self.is_in_doubt |= made.map_err(|cause| self.failed(cause))? == Made::Before;
                self.is_made = true;
            } else if self.is_in_doubt {
                self.look().await?;
            } else if !self.put(rest).await? {
                tokens += 1;
                if tokens > TOKENS {
                    return Err(Failure::Token {
                        group: self.stream.group.clone(),
                    });
                }
            }
        }
    }

    /// Passes by lines that are there.
    fn pass_by(&mut self, lines: &[Line]) {
        while let Some(line) = lines.get(self.sent) {
            match self.ahead.front() {
                None => return,
                Some(&there) if there == hash(&line.text) => {
                    self.ahead.pop_front();
                    self.sent += 1;
                }
                Some(_) => {
                    let (session, group) = (&self.about.session_id, &self.stream.group);
                    warn!(%session, group, "the log stream has lines that this session did not show");
                    self.ahead.clear();
                    self.settle();
                }
            }
        }
    }

    /// Asks the stream for what came after the last event that is known.
    async fn look(&mut self) -> Result<(), Failure> {
        let from = self.last + 1;
        let mut page: Option<String> = None;
        while self.ahead.len() < AHEAD {
            let limit = page_limit(self.manner);
            let answer = self
                .client
                .log_events(&self.stream, from, page.as_deref(), limit);
            let found = match answer.await {
                Ok(found) => found,
                Err(cause) if cause.is_denied() => {
                    let (session, error) = (&self.about.session_id, in_one_line(&cause));
                    warn!(%session, error, "what is in doubt of a record may be in its log stream twice");
                    self.settle();
                    return Ok(());
                }
                Err(cause) => return Err(self.failed(cause)),
            };
            for event in &found.events {
                self.learn(event.timestamp, &event.message);
            }
            if found.next == page || found.next.is_none() {
                self.settle();
                return Ok(());
            }
            page = found.next;
        }
        Ok(())
    }

    /// Nothing is in doubt any more.
    fn settle(&mut self) {
        self.is_in_doubt = false;
        self.skipped = 0;
    }

    /// The stream has this event.
    fn learn(&mut self, time: i64, message: &str) {
        for text in self.frame().texts(message) {
            match self.skipped.checked_sub(1) {
                Some(left) => self.skipped = left,
                None => self.ahead.push_back(hash(&text)),
            }
        }
        self.last = self.last.max(time);
    }

    /// Sends as many of the lines as one call takes; false if its sequence token was wrong.
    async fn put(&mut self, lines: &[Line]) -> Result<bool, Failure> {
        let now = Timestamp::try_from(self.client.now()).unwrap_or_default();
        let time = now.as_millisecond().max(self.last + 1);
        let (batch, taken) = self.frame().batch(lines, time);
        let last = batch.events().last().map_or(time, |event| event.timestamp);
        self.is_in_doubt = true;
        let token = self.token.as_deref();
        let answer = self.client.put_log_events(&self.stream, &batch, token);
        match answer.await {
            Ok(answer) => {
                let rejected = answer.rejected();
                self.token = answer.next_sequence_token;
                if let Some(reason) = rejected {
                    let group = self.stream.group.clone();
                    return Err(Failure::Rejected { group, reason });
                }
            }
            Err(cause) if cause.code() == Some("InvalidSequenceTokenException") => {
                self.is_in_doubt = false;
                self.renew_token().await?;
                return Ok(false);
            }
            Err(cause) if cause.code() == Some("DataAlreadyAcceptedException") => {
                self.token = None;
            }
            Err(cause) => {
                self.is_in_doubt = leaves_doubt(&cause);
                return Err(self.failed(cause));
            }
        }
        self.is_in_doubt = false;
        self.last = last;
        self.sent += taken;
        Ok(true)
    }

    async fn renew_token(&mut self) -> Result<(), Failure> {
        let token = self.client.log_sequence_token(&self.stream).await;
        self.token = token.map_err(|cause| self.failed(cause))?;
        Ok(())
    }

    async fn look_at_group(&self) -> Result<(), CheckError> {
        let group = self.client.log_group(&self.stream.group);
        if !self.encrypted {
            return match group.await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => {
                    let group = self.stream.group.clone();
                    Err(CheckError::Upload(Failure::Missing { group }.into()))
                }
                Err(cause) => Err(CheckError::Upload(self.failed(cause).into())),
            };
        }
        let error = match timeout(CHECK_LIMIT, group).await {
            Ok(Ok(Some(group))) if group.kms_key_id.is_some() => return Ok(()),
            Ok(Ok(_)) => return Err(CheckError::Unmet(UNENCRYPTED.to_owned())),
            Ok(Err(failure)) => in_one_line(&failure),
            Err(_) => format!("no answer within {} s", CHECK_LIMIT.as_secs()),
        };
        Err(CheckError::Unmet(format!(
            "Couldn't start the session because we are unable to validate encryption on CloudWatch \
             Logs log group. Error: {error}"
        )))
    }

    fn frame(&self) -> Frame<'_> {
        Frame {
            manner: self.manner,
            about: &self.about,
            region: &self.client.endpoints().messages_region,
        }
    }

    fn failed(&self, cause: CallError) -> Failure {
        Failure::Call {
            group: self.stream.group.clone(),
            cause,
        }
    }
}

impl Uploader for CloudWatchUploader {
    fn name(&self) -> &'static str {
        "CloudWatch Logs"
    }

    fn place(&self) -> String {
        format!("{}:{}", self.stream.group, self.stream.name)
    }

    fn interval(&self) -> Duration {
        match self.manner {
            Manner::Records => STREAMED_INTERVAL,
            Manner::Text => TEXT_INTERVAL,
        }
    }

    fn batch_limit(&self) -> usize {
        BATCH
    }

    fn wants(&self) -> Wants {
        Wants::Output
    }

    fn check(&mut self) -> Check<'_> {
        Box::pin(self.look_at_group())
    }

    fn upload<'a>(&'a mut self, entries: &'a [Entry]) -> Upload<'a> {
        Box::pin(self.send(entries))
    }

    fn state(&self) -> Value {
        json!(State {
            mark: self.mark,
            begun: self.lines.begun,
            partial: BASE64.encode(&self.lines.partial),
        })
    }
}

/// Whether text goes out now: an event is full, nothing follows, or no more entries would be offered with
/// these.
fn is_due(entries: &[Entry]) -> bool {
    let data: usize = entries.iter().map(|entry| entry.event.data_len()).sum();
    data >= Manner::Text.event_text()
        || data + entries.len() * ENTRY_COST >= BATCH
        || matches!(entries.last(), Some(last) if matches!(last.event, Event::End(_)))
}

/// Events of one answer, so that it stays below what an answer may have if every byte of a message takes
/// six as JSON, or seven if it is JSON already: some 3.7 MB.
fn page_limit(manner: Manner) -> u32 {
    match manner {
        Manner::Records => 16,
        Manner::Text => 3,
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
