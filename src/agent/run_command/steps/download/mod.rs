//! `aws:downloadContent`.
//!
//! | source | file |
//! |---|---|
//! | `S3`: an object, or all that is below a prefix | `s3` |
//! | `SSMDocument` | `document` |
//! | `GitHub`: a file or a folder, by GitHub's API | `github` |
//! | `HTTP` | `http` |
//! | `Git`, by the host's own git | `git` |
//!
//! Everything is written by `tree`, which stays below the `destination`. One step brings 4 GiB and
//! 20,000 files at most and takes an hour at most; a connection that is silent for a minute is given
//! up. A step that an agent's end cut off starts over: what it wrote already is written again.

mod destination;
mod document;
mod get_options;
mod git;
mod github;
mod http;
mod s3;
mod secrets;
mod source_info;
#[cfg(test)]
mod tests;
mod tree;

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::destination::Destination;
pub(super) use self::s3::Location;
use self::source_info::{SourceInfo, invalid};
use super::super::document::member;
use super::{Ended, Task};
use crate::aws::{CallError, Client, FetchError, HttpError, S3NameError};
use crate::runtime::cause::in_one_line;

/// Most bytes of one step: a large installer fits, and the host's disk is not filled unseen.
const BYTES: u64 = 4 << 30;
/// Most files of one step.
const FILES: u64 = 20_000;
/// What one step may take; as long as a script that says nothing of it.
const PATIENCE: Duration = Duration::from_hours(1);
/// How often a file is begun again whose connection broke.
const RETRIES: u32 = 2;
/// Time before that.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// Why content is not there.
#[derive(Debug, thiserror::Error)]
enum DownloadError {
    /// The inputs make no sense.
    #[error("{0}")]
    Input(String),
    /// A name leads elsewhere.
    #[error("{0:?} would leave the destination folder")]
    Leaves(String),
    /// The disk, or what is on it, is in the way.
    #[error("cannot write {path}")]
    Write {
        path: String,
        #[source]
        cause: io::Error,
    },
    #[error("the content is longer than the limit of {} GiB", BYTES >> 30)]
    TooLong,
    #[error("the content has more files than the limit of {FILES}")]
    TooMany,
    /// A service of AWS refuses.
    #[error("the service does not give it")]
    Call(#[source] CallError),
    #[error(transparent)]
    S3Name(#[from] S3NameError),
    /// The reference's words.
    #[error("Failed to download file: Cannot execute request")]
    Fetch(#[from] FetchError),
    /// The reference's words.
    #[error("Failed to download file: Status: {0}")]
    Status(String),
    /// The reference's words.
    #[error("An error occurred during data transfer")]
    Body(#[from] HttpError),
    #[error("parameter {0} cannot be found in Parameter Store")]
    NoParameter(String),
    #[error("{prefix}: refers to a parameter of type {kind}")]
    ParameterType { prefix: String, kind: String },
    #[error("this agent has no way to the services of AWS")]
    NoClient,
    #[error("{what}: {why}")]
    Git { what: String, why: String },
    #[error("the download was not over after {} s", PATIENCE.as_secs())]
    Late,
    /// Somebody cancelled the command.
    #[error("cancelled")]
    Cancelled,
}

/// What a source has at hand.
struct Context<'a> {
    task: &'a Task<'a>,
}

impl Context<'_> {
    fn client(&self) -> Result<&Client, DownloadError> {
        let client = self.task.services.client.as_ref();
        client.ok_or(DownloadError::NoClient)
    }
}

/// How often a file may be begun again.
struct Retries(u32);

impl Default for Retries {
    fn default() -> Self {
        Self(RETRIES)
    }
}

impl Retries {
    /// Waits and returns if the failure is worth another attempt; otherwise it comes back.
    async fn wait(&mut self, failure: DownloadError) -> Result<(), DownloadError> {
        match failure {
            DownloadError::Body(cause) if self.0 > 0 => {
                warn!(%cause, "a download broke off and begins again");
                self.0 -= 1;
                tokio::time::sleep(RETRY_WAIT).await;
                Ok(())
            }
            failure => Err(failure),
        }
    }
}

/// Downloads content.
pub(super) async fn run(task: Task<'_>, cancel: &CancellationToken) -> Ended {
    if cancel.is_cancelled() {
        return Ended::cancelled();
    }
    match download(&task, cancel).await {
        Ok(shown) => {
            let text = format!("Content downloaded to {shown}");
            Ended::succeeded(text).with_streams(&task).await
        }
        Err(DownloadError::Cancelled) => Ended::cancelled(),
        Err(error) => {
            let text = in_one_line(&error);
            Ended::failed(text).with_streams(&task).await
        }
    }
}

async fn download(task: &Task<'_>, cancel: &CancellationToken) -> Result<String, DownloadError> {
    let (source, info, destination) = inputs(task)?;
    let context = Context { task };
    let from_source = async {
        match source.as_str() {
            "S3" => s3::download(&context, &info, &destination).await,
            "SSMDocument" => document::download(&context, &info, &destination).await,
            "GitHub" => github::download(&context, &info, &destination).await,
            "HTTP" => http::download(&context, &info, &destination).await,
            // It has processes to end.
            "Git" => git::download(&context, &info, &destination, cancel).await,
            // The reference's words.
            _ => Err(DownloadError::Input(
                "invalid input: Unsupported source type".into(),
            )),
        }
    };
    if source == "Git" {
        from_source.await?;
    } else {
        tokio::select! {
            done = tokio::time::timeout(PATIENCE, from_source) => {
                done.unwrap_or(Err(DownloadError::Late))?;
            }
            () = cancel.cancelled() => return Err(DownloadError::Cancelled),
        }
    }
    Ok(destination.shown().to_owned())
}

/// The source's type, what is said of it, and where it goes.
fn inputs(task: &Task<'_>) -> Result<(String, SourceInfo, Destination), DownloadError> {
    let inputs = task.properties.as_object();
    let inputs = inputs.ok_or_else(|| invalid("inputs must be an object"))?;
    let text = |name: &str| match member(inputs, name) {
        None => Ok(""),
        Some(Value::String(text)) if !text.contains('\0') => Ok(text.as_str()),
        Some(_) => Err(invalid(&format!("{name} must be a string"))),
    };
    let refused = |why: &str| DownloadError::Input(format!("invalid input: {why}"));
    let source = text("sourceType")?;
    if source.is_empty() {
        return Err(refused("SourceType must be specified"));
    }
    if !matches!(source, "S3" | "SSMDocument" | "GitHub" | "HTTP" | "Git") {
        return Err(refused("Unsupported source type"));
    }
    let info = match member(inputs, "sourceInfo") {
        None => return Err(refused("SourceInfo must be specified")),
        Some(Value::String(text)) if text.is_empty() => {
            return Err(refused("SourceInfo must be specified"));
        }
        Some(value) => SourceInfo::read(value)?,
    };
    let destination = Destination::of(&task.downloads(), text("destinationPath")?)?;
    Ok((source.to_owned(), info, destination))
}
