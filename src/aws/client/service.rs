//! The services that calls are made to.

use std::time::Duration;

use http::StatusCode;

/// Time for one attempt of a Systems Manager call.
const SSM_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for one attempt of a message gateway call.
const MESSAGES_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for one attempt of a call to the message delivery service, unless its caller says otherwise: the
/// reference's default.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for one attempt of a KMS call: an encrypted session has 15 s for each step of its handshake,
/// so that there is time for a second attempt.
const KMS_TIMEOUT: Duration = Duration::from_secs(6);
/// Time for one attempt of an S3 call: 8 MiB at 1 Mbit/s, and some for the answer.
const S3_TIMEOUT: Duration = Duration::from_secs(90);
/// Time for one attempt of a CloudWatch Logs call: 2 MiB, a full batch as JSON, at 1 Mbit/s.
const LOGS_TIMEOUT: Duration = Duration::from_secs(20);

/// Whom a call is made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::aws) enum Service {
    Ssm,
    Kms,
    Messages,
    Delivery,
    S3,
    Logs,
}

impl Service {
    /// Its name in signatures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ssm => "ssm",
            Self::Kms => "kms",
            Self::Messages => "ssmmessages",
            Self::Delivery => "ec2messages",
            Self::S3 => "s3",
            Self::Logs => "logs",
        }
    }

    /// Time for one attempt.
    pub(in crate::aws) fn timeout(self) -> Duration {
        match self {
            Self::Ssm => SSM_TIMEOUT,
            Self::Kms => KMS_TIMEOUT,
            Self::Messages => MESSAGES_TIMEOUT,
            Self::Delivery => DELIVERY_TIMEOUT,
            Self::S3 => S3_TIMEOUT,
            Self::Logs => LOGS_TIMEOUT,
        }
    }

    /// The status of its successes.
    pub(in crate::aws) fn success(self) -> &'static [StatusCode] {
        match self {
            Self::Ssm | Self::Kms | Self::Logs | Self::Delivery => &[StatusCode::OK],
            Self::Messages => &[StatusCode::CREATED],
            Self::S3 => &[StatusCode::OK, StatusCode::NO_CONTENT],
        }
    }
}
