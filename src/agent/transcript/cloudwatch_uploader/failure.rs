//! What a failure of CloudWatch Logs means to a record.

use crate::agent::transcript::uploader::UploadError;
use crate::aws::CallError;

/// Refusals that stay until somebody changes something, beside those of access.
const FINAL: [&str; 2] = ["ResourceNotFoundException", "InvalidParameterException"];

/// Why a log group did not take a record.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A call failed.
    #[error("the log group {group} does not take the record")]
    Call {
        /// The group.
        group: String,
        /// The failure.
        #[source]
        cause: CallError,
    },
    /// There is no such group.
    #[error("there is no log group {group}")]
    Missing {
        /// The group.
        group: String,
    },
    /// Some events were not stored, though the call was answered.
    #[error("the log group {group} does not take the record: {reason}")]
    Rejected {
        /// The group.
        group: String,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// The endpoint does not accept the token that it gave.
    #[error(
        "the log group {group} does not take the record: its sequence token changes all the time"
    )]
    Token {
        /// The group.
        group: String,
    },
}

impl From<Failure> for UploadError {
    fn from(failure: Failure) -> Self {
        let is_final = match &failure {
            Failure::Call { cause, .. } => {
                cause.is_denied() || cause.code().is_some_and(|code| FINAL.contains(&code))
            }
            Failure::Missing { .. } => true,
            // With the clock corrected, or nobody else in the stream, the next attempt can help.
            Failure::Rejected { .. } | Failure::Token { .. } => false,
        };
        if is_final {
            Self::Refused(Box::new(failure))
        } else {
            Self::Transient(Box::new(failure))
        }
    }
}

/// Whether the events of a failed call may be stored all the same.
pub fn leaves_doubt(failure: &CallError) -> bool {
    match failure {
        CallError::Service { status, .. } => *status >= 500,
        CallError::Network { .. } | CallError::Decode { .. } | CallError::Answer { .. } => true,
        CallError::Credentials { .. } | CallError::Sign { .. } | CallError::Address { .. } => false,
    }
}
