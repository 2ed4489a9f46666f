//! Whether this host has an identity, of whatever kind.

use super::subject::Subject;
use super::verdict::Verdict;

/// Tells who the agent is, or would be.
pub(super) fn check(subject: &Subject) -> Verdict {
    match (&subject.who, &subject.agent) {
        (Ok(who), Ok(agent)) if who.node_id != agent.node_id => Verdict::failed(
            format!(
                "the agent runs as {}, but this host is registered as {}",
                agent.node_id, who.node_id
            ),
            "restart the agent: `systemctl restart ssm-agent`",
        ),
        (Ok(who), _) => Verdict::success(format!(
            "{} in region {} ({})",
            who.node_id,
            who.region,
            who.kind.name()
        )),
        (Err(missing), _) => Verdict::failed(&missing.note, &missing.hint),
    }
}
