//! Whether the services answer: look-up, TCP, the proxy, TLS and HTTP, told by the step that fails.

use std::sync::Arc;

use http::Method;
use url::Url;

use super::subject::Subject;
use super::verdict::Verdict;
use crate::cli::probe::{LINE, exchange};
use crate::runtime::cause::in_one_line;

/// A service that the reference looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// Systems Manager.
    Ssm,
    /// The older way to commands.
    Ec2Messages,
    /// The message gateway.
    SsmMessages,
    /// Where output and records go.
    S3,
    /// Keys of encrypted sessions.
    Kms,
    /// CloudWatch Logs.
    Logs,
    /// CloudWatch metrics.
    Monitoring,
}

/// Where a service is, if this agent uses it.
enum Place<'a> {
    At(&'a Url),
    Unused(&'static str),
}

impl Service {
    /// All, in the reference's order.
    pub(super) const ALL: [Self; 7] = [
        Self::Ssm,
        Self::Ec2Messages,
        Self::SsmMessages,
        Self::S3,
        Self::Kms,
        Self::Logs,
        Self::Monitoring,
    ];

    /// Its name in the name of the check.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ssm => "ssm",
            Self::Ec2Messages => "ec2messages",
            Self::SsmMessages => "ssmmessages",
            Self::S3 => "s3",
            Self::Kms => "kms",
            Self::Logs => "logs",
            Self::Monitoring => "monitoring",
        }
    }

    /// Where it is. With an endpoint of one's own for Systems Manager, services of AWS are looked for
    /// only if the configuration names something there.
    fn place<'a>(self, subject: &'a Subject) -> Option<Place<'a>> {
        const NOT_CONFIGURED: &str = "not needed: Systems Manager is at an endpoint of its own, and nothing here is configured";
        let (Ok(settings), Ok(endpoints)) = (&subject.settings, &subject.endpoints) else {
            return None;
        };
        let is_aws = settings.endpoints.ssm.is_empty();
        let uploads = &settings.uploads;
        let optional = |url, configured: bool| {
            if is_aws || configured {
                Place::At(url)
            } else {
                Place::Unused(NOT_CONFIGURED)
            }
        };
        Some(match self {
            Self::Ssm => Place::At(&endpoints.ssm),
            Self::SsmMessages => Place::At(&endpoints.messages),
            Self::Ec2Messages => {
                optional(&endpoints.delivery, !settings.endpoints.delivery.is_empty())
            }
            Self::Monitoring => Place::Unused("not needed: this agent sends no metrics"),
            Self::S3 => optional(
                &endpoints.s3.url,
                !settings.endpoints.s3.is_empty() || !uploads.s3.bucket.is_empty(),
            ),
            Self::Kms => optional(&endpoints.kms, !settings.endpoints.kms.is_empty()),
            Self::Logs => optional(
                &endpoints.logs,
                !uploads.cloud_watch.endpoint.is_empty() || !uploads.cloud_watch.group.is_empty(),
            ),
        })
    }
}

/// Looks whether `service` answers; which answer does not matter.
pub(super) async fn check(subject: Arc<Subject>, service: Service) -> Verdict {
    let url = match service.place(&subject) {
        Some(Place::At(url)) => url,
        Some(Place::Unused(why)) => return Verdict::skipped(why),
        None => return Verdict::skipped("Unable to fetch AWS region details"),
    };
    let tls = match &subject.tls {
        Ok(tls) => tls,
        Err(missing) => return Verdict::failed(&missing.note, &missing.hint),
    };
    let host = url.host_str().unwrap_or_default();
    match exchange(Method::GET, url, &[], tls, &subject.proxies, LINE).await {
        Ok(answer) => Verdict::success(format!(
            "{host} is reachable; it answers with status {} after {} ms",
            answer.status,
            answer.took.as_millis()
        )),
        Err(error) => Verdict::failed(
            format!("{host} is not reachable: {}", in_one_line(&error)),
            error.hint(),
        ),
    }
}
