//! The operations of CloudWatch Logs that records of sessions need.
//!
//! | limit of a batch of events | |
//! |---|---|
//! | bytes | 1 MiB, each event counted with 26 bytes more than its message has in UTF-8 |
//! | events | 10 000 |
//! | bytes of one event | 256 KiB with those 26; more in some regions |
//! | time | in order; not 2 h in the future, not older than 14 days or the retention of the group |
//!
//! By the service's reference of `PutLogEvents`. There too: sequence tokens are ignored nowadays. They are
//! kept all the same, for endpoints that are not AWS's own.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::error::CallError;

/// What an event counts beyond its message.
const EVENT_OVERHEAD: usize = 26;
/// Most bytes of one event's message.
pub const MESSAGE_LIMIT: usize = (256 << 10) - EVENT_OVERHEAD;
/// Most bytes of a batch.
const BATCH_LIMIT: usize = 1 << 20;
/// Most events of a batch.
const BATCH_EVENTS: usize = 10_000;
/// Pages of 50 groups whose names begin alike that are looked through for one of them.
const GROUP_PAGES: usize = 200;

/// A log group that is there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogGroup {
    #[serde(rename = "logGroupName")]
    name: String,
    /// The key of KMS that it is encrypted with, if a key was chosen.
    pub kms_key_id: Option<String>,
}

/// A stream of a log group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogStream {
    /// The group.
    #[serde(rename = "logGroupName")]
    pub group: String,
    /// The stream.
    #[serde(rename = "logStreamName")]
    pub name: String,
}

/// An event of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEvent {
    /// Its time in milliseconds since 1970.
    pub timestamp: i64,
    /// Its text.
    pub message: String,
}

/// Events that go in one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogBatch {
    events: Vec<LogEvent>,
    bytes: usize,
}

impl LogBatch {
    /// Adds an event, unless that is one too many for one call; then it is given back.
    ///
    /// # Errors
    /// The event.
    pub fn push(&mut self, event: LogEvent) -> Result<(), LogEvent> {
        let bytes = self.bytes + event.message.len() + EVENT_OVERHEAD;
        if bytes > BATCH_LIMIT || self.events.len() == BATCH_EVENTS {
            return Err(event);
        }
        self.bytes = bytes;
        self.events.push(event);
        Ok(())
    }

    /// The events.
    pub fn events(&self) -> &[LogEvent] {
        &self.events
    }
}

/// Whether a stream is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It was made by this call.
    Now,
    /// It was there already.
    Before,
}

/// The answer to a batch of events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Put {
    /// What the next batch has to name, at endpoints that care.
    pub next_sequence_token: Option<String>,
    #[serde(rename = "rejectedLogEventsInfo")]
    rejected: Option<Rejected>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rejected {
    too_new_log_event_start_index: Option<i64>,
    too_old_log_event_end_index: Option<i64>,
    expired_log_event_end_index: Option<i64>,
}

impl Put {
    /// Why some of the events were not stored, if so.
    pub fn rejected(&self) -> Option<&'static str> {
        let rejected = self.rejected.as_ref()?;
        if rejected.too_new_log_event_start_index.is_some() {
            Some("their time is more than 2 h in the future")
        } else if rejected.too_old_log_event_end_index.is_some() {
            Some("their time is more than 14 days ago")
        } else {
            let is_expired = rejected.expired_log_event_end_index.is_some();
            is_expired.then_some("their time is before the retention of the group")
        }
    }
}

/// Some events of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogPage {
    /// The events, in the order of their times.
    pub events: Vec<LogEvent>,
    /// What the next page is asked for with; the same as for this one at the end.
    #[serde(rename = "nextForwardToken")]
    pub next: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DescribeLogGroups<'a> {
    log_group_name_prefix: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LogGroups {
    log_groups: Vec<LogGroup>,
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DescribeLogStreams<'a> {
    log_group_name: &'a str,
    log_stream_name_prefix: &'a str,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LogStreams {
    log_streams: Vec<FoundStream>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundStream {
    log_stream_name: String,
    upload_sequence_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PutLogEvents<'a> {
    #[serde(flatten)]
    stream: &'a LogStream,
    log_events: &'a [LogEvent],
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence_token: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GetLogEvents<'a> {
    #[serde(flatten)]
    stream: &'a LogStream,
    start_time: i64,
    start_from_head: bool,
    limit: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreateLogGroup<'a> {
    log_group_name: &'a str,
}

impl Client {
    /// Looks for the log group of this name.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn log_group(&self, name: &str) -> Result<Option<LogGroup>, CallError> {
        let mut request = DescribeLogGroups {
            log_group_name_prefix: name,
            next_token: None,
        };
        for _ in 0..GROUP_PAGES {
            let page: LogGroups = self.logs("DescribeLogGroups", &request).await?;
            let mut groups = page.log_groups.into_iter();
            if let Some(found) = groups.find(|group| group.name == name) {
                return Ok(Some(found));
            }
            if page.next_token.is_none() {
                break;
            }
            request.next_token = page.next_token;
        }
        Ok(None)
    }

    /// Makes a group, unless it is there.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn create_log_group(&self, name: &str) -> Result<Made, CallError> {
        let request = CreateLogGroup {
            log_group_name: name,
        };
        self.make("CreateLogGroup", &request).await
    }

    /// Makes a stream, unless it is there.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn create_log_stream(&self, stream: &LogStream) -> Result<Made, CallError> {
        self.make("CreateLogStream", stream).await
    }

    async fn make(
        &self,
        operation: &'static str,
        request: &impl Serialize,
    ) -> Result<Made, CallError> {
        match self.logs(operation, request).await {
            Ok(IgnoredAny) => Ok(Made::Now),
            Err(failure) if failure.code() == Some("ResourceAlreadyExistsException") => {
                Ok(Made::Before)
            }
            Err(failure) => Err(failure),
        }
    }

    /// What the next batch of a stream has to name, at endpoints that care.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn log_sequence_token(
        &self,
        stream: &LogStream,
    ) -> Result<Option<String>, CallError> {
        let request = DescribeLogStreams {
            log_group_name: &stream.group,
            log_stream_name_prefix: &stream.name,
        };
        let found: LogStreams = self.logs("DescribeLogStreams", &request).await?;
        let mut found = found.log_streams.into_iter();
        let found = found.find(|found| found.log_stream_name == stream.name);
        Ok(found.and_then(|found| found.upload_sequence_token))
    }

    /// Stores events. Never sent twice on its own: where there was no answer, nobody knows whether they
    /// are stored.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn put_log_events(
        &self,
        stream: &LogStream,
        batch: &LogBatch,
        sequence_token: Option<&str>,
    ) -> Result<Put, CallError> {
        let request = PutLogEvents {
            stream,
            log_events: &batch.events,
            sequence_token,
        };
        self.logs("PutLogEvents", &request).await
    }

    /// Reads at most `limit` events of a stream that are not before `from`, from that of `page` on.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn log_events(
        &self,
        stream: &LogStream,
        from: i64,
        page: Option<&str>,
        limit: u32,
    ) -> Result<LogPage, CallError> {
        let request = GetLogEvents {
            stream,
            start_time: from,
            start_from_head: true,
            limit,
            next_token: page,
        };
        self.logs("GetLogEvents", &request).await
    }
}

#[cfg(test)]
mod tests;
