//! Where the output of steps goes besides the reply: to S3 and to CloudWatch Logs, in the reference's
//! places.
//!
//! | service | place of a stream |
//! |---|---|
//! | S3 | `<prefix>/<command>/<node>/<plugin without colons>/<step>/stdout` |
//! | CloudWatch Logs | stream `<command>/<node>/<step>/stdout` of the group, both made if missing |
//!
//! Both get a stream when its step is over, before the step is reported. Memory is bounded by one part
//! or one batch, whatever the length. A failure changes nothing for the command, as in the reference.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::runner::blocking;
use super::state::IoConfig;
use super::steps::{Streams, without_colons};
use crate::aws::{
    Attributes, Bucket, BucketName, CallError, Client, LogBatch, LogEvent, LogStream, ObjectKey,
    S3NameError,
};
use crate::runtime::cause::in_one_line;
use crate::runtime::clock::unix_ms;

/// Longest stream that is stored in one call, and length of the parts of longer ones. S3 wants at
/// least 5 MiB.
const PART: u64 = 8 << 20;
/// Most parts of an object, by S3's rule.
const PARTS: u64 = 10_000;
/// As in the reference, whatever the bytes.
const CONTENT_TYPE: &str = "text/plain";
/// Longest event, in bytes, as in the reference.
const EVENT: usize = 200_000;
/// What bringing one stream to one service may take; its step is reported after that.
const PATIENCE: Duration = Duration::from_mins(10);

/// Brings the output of steps to where their command wants it.
#[derive(Debug, Clone)]
pub(super) struct OutputSink {
    client: Client,
}

/// Why a stream is not where it was wanted.
#[derive(Debug, thiserror::Error)]
enum BringError {
    #[error(transparent)]
    Name(#[from] S3NameError),
    #[error("the service does not take it")]
    Call(#[from] CallError),
    #[error("the file cannot be read")]
    Read(#[from] io::Error),
    #[error("the part {0} is above the limit of {PARTS}")]
    TooManyParts(u64),
}

impl OutputSink {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Brings the streams of a step away; what fails is logged. Returns whether S3 has them.
    pub(super) async fn bring(
        &self,
        config: &IoConfig,
        plugin: &str,
        step: &str,
        streams: &Streams,
    ) -> bool {
        let mut is_stored = !config.output_s3_bucket_name.is_empty();
        for (name, path) in [
            ("stdout", streams.output()),
            ("stderr", streams.error_output()),
        ] {
            let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if length == 0 {
                continue;
            }
            if !config.output_s3_bucket_name.is_empty() {
                let within = format!("{}/{}/{name}", without_colons(plugin), streams.name);
                let storing = self.store(config, &within, &path, length);
                is_stored &= tell("S3", name, timeout(PATIENCE, storing).await);
            }
            if !config.cloud_watch_config.log_group_name.is_empty() {
                let stream = log_stream(config, step, name);
                let logging = self.log(stream, &path);
                tell("CloudWatch Logs", name, timeout(PATIENCE, logging).await);
            }
        }
        is_stored
    }

    async fn store(
        &self,
        config: &IoConfig,
        within: &str,
        path: &Path,
        length: u64,
    ) -> Result<(), BringError> {
        let key = ObjectKey::join(&format!("{}/{within}", config.output_s3_key_prefix), "")?;
        let name = BucketName::new(&config.output_s3_bucket_name)?;
        let bucket = self.client.bucket(name).await?;
        // Without the right to ask, S3 encrypts by its own default.
        let encryption = bucket.encryption().await.unwrap_or_default();
        let attributes = Attributes {
            content_type: CONTENT_TYPE,
            encryption: encryption.as_ref(),
        };
        if length <= PART {
            let body = part(path, 0, length).await?;
            return Ok(bucket.put_object(&key, body, attributes).await?);
        }
        self.store_in_parts(&bucket, &key, attributes, path, length)
            .await
    }

    async fn store_in_parts(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
        attributes: Attributes<'_>,
        path: &Path,
        length: u64,
    ) -> Result<(), BringError> {
        let size = PART.max(length.div_ceil(PARTS));
        let upload = bucket.create_multipart_upload(key, attributes).await?;
        let storing = async {
            let mut parts = Vec::new();
            for index in 0..length.div_ceil(size) {
                let from = index * size;
                let body = part(path, from, size.min(length - from)).await?;
                let number =
                    u16::try_from(index + 1).map_err(|_| BringError::TooManyParts(index + 1))?;
                parts.push(bucket.upload_part(key, &upload, number, body).await?);
            }
            bucket
                .complete_multipart_upload(key, &upload, &parts)
                .await?;
            Ok(())
        };
        let stored: Result<(), BringError> = storing.await;
        if stored.is_err() {
            // Parts that nobody completes cost money.
            let _ = bucket.abort_multipart_upload(key, &upload).await;
        }
        stored
    }

    async fn log(&self, stream: LogStream, path: &Path) -> Result<(), BringError> {
        if let Err(error) = self.client.create_log_stream(&stream).await {
            if error.code() != Some("ResourceNotFoundException") {
                return Err(error.into());
            }
            self.client.create_log_group(&stream.group).await?;
            self.client.create_log_stream(&stream).await?;
        }
        let mut reader = Events::open(path.to_owned()).await?;
        let mut token = None;
        while let Some(batch) = reader.next().await? {
            let put = self
                .client
                .put_log_events(&stream, &batch, token.as_deref())
                .await?;
            if let Some(why) = put.rejected() {
                warn!(
                    stream = stream.name,
                    why, "CloudWatch Logs left out events of a command"
                );
            }
            token = put.next_sequence_token;
        }
        Ok(())
    }
}

fn tell(
    service: &str,
    stream: &str,
    brought: Result<Result<(), BringError>, tokio::time::error::Elapsed>,
) -> bool {
    let is_brought = matches!(brought, Ok(Ok(())));
    match brought {
        Ok(Ok(())) => debug!(service, stream, "output of a step is stored"),
        Ok(Err(error)) => {
            let error = in_one_line(&error);
            warn!(service, stream, error, "output of a step is not stored");
        }
        Err(_) => {
            let seconds = PATIENCE.as_secs();
            warn!(
                service,
                stream, seconds, "output of a step is not stored in time"
            );
        }
    }
    is_brought
}

fn log_stream(config: &IoConfig, step: &str, name: &str) -> LogStream {
    let config = &config.cloud_watch_config;
    LogStream {
        group: config.log_group_name.clone(),
        // Names of streams have neither.
        name: format!("{}/{step}/{name}", config.log_stream_prefix).replace([':', '*'], "-"),
    }
}

async fn part(path: &Path, from: u64, length: u64) -> Result<Bytes, BringError> {
    let path = path.to_owned();
    let read = blocking(move || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    });
    Ok(read.await?.into())
}

/// The lines of a file as events, many to an event, in batches.
struct Events {
    file: Option<BufReader<File>>,
    /// An event that found no room in the last batch.
    left: Option<LogEvent>,
}

impl Events {
    async fn open(path: PathBuf) -> Result<Self, BringError> {
        let file = blocking(move || File::open(path)).await?;
        Ok(Self {
            file: Some(BufReader::new(file)),
            left: None,
        })
    }

    async fn next(&mut self) -> Result<Option<LogBatch>, BringError> {
        let Some(mut file) = self.file.take() else {
            return Ok(None);
        };
        let mut left = self.left.take();
        let read = blocking(move || {
            let mut batch = LogBatch::default();
            while let Some(event) = match left.take() {
                Some(event) => Some(event),
                None => event(&mut file)?,
            } {
                if let Err(event) = batch.push(event) {
                    left = Some(event);
                    break;
                }
            }
            Ok((file, left, batch))
        });
        let (file, left, batch) = read.await?;
        self.file = Some(file);
        self.left = left;
        Ok(Some(batch).filter(|batch| !batch.events().is_empty()))
    }
}

/// The next whole lines that fit one event, or part of a line that fits none. Bytes that are no text
/// become replacement characters, three bytes each.
fn event(file: &mut impl BufRead) -> io::Result<Option<LogEvent>> {
    const BYTES: usize = EVENT / 3;

    let mut bytes = Vec::new();
    loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        let room = BYTES - bytes.len();
        let buffer = &buffer[..buffer.len().min(room)];
        match buffer.iter().rposition(|&byte| byte == b'\n') {
            // All that fits, up to the end of its last line.
            Some(end) => {
                bytes.extend_from_slice(&buffer[..=end]);
                file.consume(end + 1);
            }
            None if bytes.last() == Some(&b'\n') && buffer.len() == room => break,
            None => {
                let taken = buffer.len();
                bytes.extend_from_slice(buffer);
                file.consume(taken);
            }
        }
        if bytes.len() == BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let message = text.strip_suffix('\n').unwrap_or(&text);
    Ok((!bytes.is_empty()).then(|| LogEvent {
        timestamp: i64::try_from(unix_ms()).unwrap_or(i64::MAX),
        // The service takes no empty event.
        message: if message.is_empty() {
            "\n".into()
        } else {
            message.into()
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_events() {
        for text in [
            "a\nb\n".to_owned(),
            "no end".to_owned(),
            "\n\n\n".to_owned(),
            "line\n".repeat(100_000),
            "x".repeat(300_000),
            format!("{}\nshort\n", "y".repeat(66_660)),
        ] {
            let mut file = BufReader::with_capacity(1000, text.as_bytes());
            let mut joined = String::new();
            while let Some(event) = event(&mut file).unwrap() {
                assert!((1..=EVENT).contains(&event.message.len()));
                joined.push_str(&event.message);
                joined.push('\n');
            }
            let plain = |text: &str| text.replace('\n', "");
            assert_eq!(plain(&joined), plain(&text));
        }
    }

    #[test]
    fn stream_has_no_colons() {
        let mut config = IoConfig::default();
        config.cloud_watch_config.log_group_name = "/g".into();
        config.cloud_watch_config.log_stream_prefix = "c-1/mi-1".into();

        let stream = log_stream(&config, "aws:runShellScript", "stdout");

        assert_eq!(stream.name, "c-1/mi-1/aws-runShellScript/stdout");
    }
}
