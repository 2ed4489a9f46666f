//! Whether this host's clock is that of the service.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;

use super::subject::Subject;
use super::verdict::Verdict;
use crate::cli::probe::{Answer, LINE, exchange};
use crate::runtime::cause::in_one_line;

/// Differences up to this are not told: a `Date` has whole seconds, an answer takes its time.
const TOLERANCE: Duration = Duration::from_secs(60);

/// Compares the clock with the `Date` of the service's answer.
pub(super) async fn check(subject: Arc<Subject>) -> Verdict {
    let (Ok(endpoints), Ok(tls)) = (&subject.endpoints, &subject.tls) else {
        return Verdict::skipped("Unable to fetch AWS region details");
    };
    match exchange(
        Method::GET,
        &endpoints.ssm,
        &[],
        tls,
        &subject.proxies,
        LINE,
    )
    .await
    {
        Ok(answer) => judge(&answer),
        Err(error) => Verdict::skipped(format!(
            "no answer to compare the clock with: {}",
            in_one_line(&error)
        )),
    }
}

fn judge(answer: &Answer) -> Verdict {
    let Some(date) = answer.date else {
        return Verdict::skipped("the service's answer has no date");
    };
    let (difference, direction) = difference(answer.local, date);
    if difference <= TOLERANCE {
        return Verdict::success(format!(
            "this host's clock is within {} s of the service's",
            difference.as_secs().max(1)
        ));
    }
    Verdict::failed(
        format!(
            "this host's clock is {} s {direction} the service's",
            difference.as_secs()
        ),
        "set the clock and keep it right with chrony or systemd-timesyncd; the agent signs with the service's time until then, other programs do not",
    )
}

fn difference(local: SystemTime, service: SystemTime) -> (Duration, &'static str) {
    match local.duration_since(service) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    }
}
