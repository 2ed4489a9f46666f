//! Whether the running agent has its control channel.

use super::subject::Subject;
use super::verdict::Verdict;
use crate::cli::render::moment;
use crate::protocol::wire::local::ChannelState;

/// Tells what the agent says.
pub(super) fn check(subject: &Subject) -> Verdict {
    let Ok(agent) = &subject.agent else {
        return Verdict::skipped("the agent does not run, or cannot be asked");
    };
    let since = moment(agent.control_channel.since);
    let of_channel = |subject: &str| subject == "control channel";
    let last = agent
        .problems
        .iter()
        .rfind(|problem| of_channel(&problem.subject));
    match (agent.control_channel.state, last) {
        (ChannelState::Connected, _) => Verdict::success(format!("connected since {since}")),
        (_, Some(problem)) => Verdict::failed(
            format!("not connected since {since}: {}", problem.text),
            "the checks of connectivity, clock and credentials tell where it fails",
        ),
        (_, None) => Verdict::failed(
            format!("not connected since {since}"),
            "wait for the first attempt, and check again",
        ),
    }
}
