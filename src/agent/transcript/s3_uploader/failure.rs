//! What a failure of S3 means to a record.

use crate::agent::transcript::uploader::UploadError;
use crate::aws::CallError;

/// Refusals that stay until somebody changes something, beside those of access.
const FINAL: [&str; 8] = [
    "NoSuchBucket",
    "AllAccessDisabled",
    "AccountProblem",
    "InvalidAccessKeyId",
    "EntityTooLarge",
    "KMS.DisabledException",
    "KMS.NotFoundException",
    "KMS.KMSInvalidStateException",
];
/// Answers of a region that does not have the bucket.
const ELSEWHERE: [&str; 4] = [
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
];

/// Why a bucket did not take a record.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A call failed.
    #[error("the bucket {bucket} does not take the record")]
    Call {
        /// The bucket.
        bucket: String,
        /// The failure.
        #[source]
        cause: CallError,
    },
    /// What was uploaded has gone before it became an object.
    #[error(
        "the upload to the bucket {bucket} was deleted, or completed without anybody knowing: {text}"
    )]
    Gone {
        /// The bucket.
        bucket: String,
        /// What is there in its place.
        text: String,
    },
    /// S3 takes no more parts of one object.
    #[error("the record has more parts than the bucket {bucket} takes, {limit}")]
    TooLarge {
        /// The bucket.
        bucket: String,
        /// Most parts.
        limit: u16,
    },
}

/// Whether a later attempt can help.
pub fn judge(bucket: &str, cause: CallError) -> UploadError {
    let is_final = cause.is_denied() || cause.code().is_some_and(|code| FINAL.contains(&code));
    let failure = Box::new(Failure::Call {
        bucket: bucket.to_owned(),
        cause,
    });
    if is_final {
        UploadError::Refused(failure)
    } else {
        UploadError::Transient(failure)
    }
}

/// Whether the bucket has moved, or its region was not known.
pub fn is_elsewhere(failure: &CallError) -> bool {
    matches!(failure.status(), Some(301 | 307))
        || failure.code().is_some_and(|code| ELSEWHERE.contains(&code))
}

/// Whether an upload in parts is not there any more.
pub fn is_gone(failure: &CallError) -> bool {
    failure.code() == Some("NoSuchUpload")
}

/// Whether the service does not copy for us: it is not allowed, or it cannot.
pub fn is_uncopyable(failure: &CallError) -> bool {
    failure.is_denied() || matches!(failure.status(), Some(403 | 405 | 501))
}
