//! `get-diagnostics`: what keeps the agent from working, found without its help if need be.
//!
//! One file a check. All run at once, each with its own deadline; none changes anything. Names, notes
//! and order of those that the reference has are the reference's; ours follow them.

mod channel;
mod clock;
mod configuration;
mod connectivity;
mod credentials;
mod credentials_file;
mod disk;
mod identity;
mod metadata;
mod names;
mod permissions;
mod proxies;
mod recording;
mod registration;
mod service;
mod session_user;
mod subject;
mod trust;
mod verdict;
mod version;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use connectivity::Service;
pub(super) use subject::Subject;
pub(super) use verdict::{Finding, Outcome, Verdict};

/// Longest look at this host.
const LOCAL: Duration = Duration::from_secs(3);
/// Longest talk to a service: twice what one that is far away and busy needs.
const REMOTE: Duration = Duration::from_secs(6);

type Run = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// A check that is about to run.
struct Check {
    name: String,
    deadline: Duration,
    /// The next step if it takes too long.
    hint: &'static str,
    run: Run,
}

/// Runs all checks.
pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    join_all(checks(&subject).into_iter().map(finish)).await
}

/// The findings as the reference prints them.
pub(super) fn to_json(findings: &[Finding]) -> String {
    let answer = serde_json::json!({ "DiagnosticsOutput": findings });
    // Text and names only: it cannot fail.
    serde_json::to_string_pretty(&answer).unwrap_or_default()
}

/// The findings as rows of a table, with hints below what failed.
pub(super) fn to_table(findings: &[Finding]) -> Vec<Vec<String>> {
    let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![row(["Check", "Status", "Note"])];
    for finding in findings {
        let verdict = &finding.verdict;
        rows.push(row([&finding.check, verdict.status.name(), &verdict.note]));
        if let Some(hint) = &verdict.hint {
            rows.push(row(["", "", &format!("hint: {hint}")]));
        }
    }
    rows
}

async fn finish(check: Check) -> Finding {
    let Check {
        name,
        deadline,
        hint,
        run,
    } = check;
    let verdict = timeout(deadline, run).await.unwrap_or_else(|_| {
        Verdict::failed(format!("no answer within {} s", deadline.as_secs()), hint)
    });
    Finding {
        check: name,
        verdict,
    }
}

fn checks(subject: &Arc<Subject>) -> Vec<Check> {
    let mut checks = vec![
        remote("EC2 IMDS", metadata::check(Arc::clone(subject))),
        local("Hybrid instance registration", subject, registration::check),
    ];
    for service in Service::ALL {
        checks.push(remote(
            &format!("Connectivity to {} endpoint", service.name()),
            connectivity::check(Arc::clone(subject), service),
        ));
    }
    checks.extend([
        remote("AWS Credentials", credentials::check(Arc::clone(subject))),
        remote("Agent service", service::check(Arc::clone(subject))),
        local("Proxy configuration", subject, proxies::check),
        local("SSM Agent version", subject, version::check),
        local("Configuration", subject, configuration::check),
        local("Identity", subject, identity::check),
        local("Control channel", subject, channel::check),
        remote("Name resolution", names::check(Arc::clone(subject))),
        local("Trusted authorities", subject, trust::check),
        remote("Clock", clock::check(Arc::clone(subject))),
        local("Credentials file", subject, credentials_file::check),
        local("Disk space", subject, disk::check),
        local("Permissions", subject, permissions::check),
        local("Session user", subject, session_user::check),
        local("Recording", subject, recording::check),
    ]);
    checks
}

fn remote(name: &str, run: impl Future<Output = Verdict> + Send + 'static) -> Check {
    Check {
        name: name.to_owned(),
        deadline: REMOTE,
        hint: "a firewall, a missing route or a proxy that is needed and not set drops the connection",
        run: Box::pin(run),
    }
}

/// A look at files: a file system may hang.
fn local(name: &str, subject: &Arc<Subject>, look: fn(&Subject) -> Verdict) -> Check {
    let subject = Arc::clone(subject);
    let run = async move {
        match tokio::task::spawn_blocking(move || look(&subject)).await {
            Ok(verdict) => verdict,
            Err(error) => Verdict::failed(
                format!("the check broke off: {error}"),
                "this is a mistake in ssm-cli",
            ),
        }
    };
    Check {
        name: name.to_owned(),
        deadline: LOCAL,
        hint: "a file system does not answer",
        run: Box::pin(run),
    }
}

#[cfg(test)]
mod tests;
