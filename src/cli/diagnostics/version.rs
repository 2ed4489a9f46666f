//! Which version runs, and whether it is the one that is installed.

use super::subject::Subject;
use super::verdict::Verdict;
use crate::protocol::wire::version::AGENT_WIRE_VERSION;

/// This program's version; it is of the same package as the agent.
const INSTALLED: &str = env!("CARGO_PKG_VERSION");

/// Compares the versions.
pub(super) fn check(subject: &Subject) -> Verdict {
    match &subject.agent {
        Ok(agent) if agent.agent_version != INSTALLED => Verdict::failed(
            format!(
                "ssm-agent {} runs, but {INSTALLED} is installed",
                agent.agent_version
            ),
            "restart the agent: `systemctl restart ssm-agent`",
        ),
        Ok(agent) => Verdict::success(format!(
            "SSM Agent version is {} (ssm-agent {INSTALLED})",
            agent.wire_version
        )),
        Err(_) => Verdict::success(format!(
            "SSM Agent version is {AGENT_WIRE_VERSION} (ssm-agent {INSTALLED}); it does not run"
        )),
    }
}
