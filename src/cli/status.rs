//! `status`, for people.

use super::render::{age, columns, moment, printable};
use crate::protocol::wire::local::{AgentStatus, ChannelState, Time};

/// The status as text; `now` is what ages are counted to.
pub(super) fn describe(status: &AgentStatus, now: Time) -> String {
    let channel = &status.control_channel;
    let state = match channel.state {
        ChannelState::Connecting => "connecting, not connected",
        ChannelState::Connected => "connected",
        ChannelState::Waiting => "not connected, trying again; not connected",
        ChannelState::Stopped => "the agent stops; so",
        ChannelState::Unknown => "in a state that this version does not know,",
    };
    let recordings = status.recordings.as_deref().unwrap_or("not on this host");
    let open = status.open_sessions;
    let commands = status.commands;
    let rows = [
        (
            "agent",
            format!(
                "ssm-agent {} (on the wire {}), process {}, running for {}",
                status.agent_version,
                status.wire_version,
                status.pid,
                age(status.started, now)
            ),
        ),
        (
            "registered",
            format!(
                "as {} in {} ({})",
                status.node_id, status.region, status.registration
            ),
        ),
        (
            "channel",
            format!(
                "{state} since {} ({})",
                moment(channel.since),
                age(channel.since, now)
            ),
        ),
        (
            "commands",
            format!(
                "{} running, {} waiting{}",
                commands.running,
                commands.queued,
                if commands.polled {
                    ", polled for at the message delivery service"
                } else {
                    ""
                }
            ),
        ),
        ("recordings", recordings.to_owned()),
        ("sessions", count(open, "open")),
    ];
    let mut text = columns(&rows.map(|(name, value)| vec![name.to_owned(), value]));
    text.push_str(&sessions(status, now));
    text.push_str(&sinks(status));
    text.push_str(&problems(status, now));
    text
}

fn sessions(status: &AgentStatus, now: Time) -> String {
    let rows = status.sessions.iter().map(|session| {
        let user = match session.user.as_str() {
            "" => String::new(),
            user => format!(" as {user}"),
        };
        vec![
            format!("  {}", session.id),
            session.kind.clone(),
            format!("{}{user}", session.owner),
            format!("for {}", age(session.since, now)),
        ]
    });
    let mut text = columns(&rows.collect::<Vec<_>>());
    let left = status.open_sessions.saturating_sub(status.sessions.len());
    if left > 0 {
        text.push_str(&format!("  and {left} more\n"));
    }
    text
}

fn sinks(status: &AgentStatus) -> String {
    let failed = status.sinks.iter().filter(|sink| sink.problem.is_some());
    let mut text = format!(
        "sinks       {}, {} given up\n",
        count(status.sinks.len(), "under way"),
        failed.count()
    );
    let rows = status.sinks.iter().map(|sink| {
        let progress = match &sink.problem {
            Some(problem) => format!("given up: {problem}"),
            None => format!("{} of {} entries confirmed", sink.confirmed, sink.entries),
        };
        vec![
            format!("  {}", sink.session),
            sink.service.clone(),
            sink.place.clone(),
            progress,
        ]
    });
    text.push_str(&columns(&rows.collect::<Vec<_>>()));
    text
}

fn problems(status: &AgentStatus, now: Time) -> String {
    if status.problems.is_empty() {
        return "problems    none\n".to_owned();
    }
    let mut text = "problems    the last ones:\n".to_owned();
    for problem in &status.problems {
        let times = match problem.times {
            1 => String::new(),
            times => format!(", {times} times"),
        };
        text.push_str(&format!(
            "  {} ago{times}: {}: {}\n",
            age(problem.at, now),
            printable(&problem.subject),
            printable(&problem.text)
        ));
    }
    text
}

fn count(number: usize, what: &str) -> String {
    match number {
        0 => format!("none {what}"),
        _ => format!("{number} {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::local::{Commands, ControlChannel, Problem, Session, Sink};

    #[test]
    fn status_tells_who_is_there_and_what_went_wrong() {
        let at = |seconds: i64| Time::from_unix_ms(1_795_348_800_000 + seconds * 1000);
        let status = AgentStatus {
            node_id: "mi-1".into(),
            region: "eu-central-1".into(),
            registration: "OnPrem".into(),
            agent_version: "0.1.0".into(),
            wire_version: "3.3.1.0".into(),
            pid: 7,
            started: at(0),
            control_channel: ControlChannel {
                state: ChannelState::Connected,
                since: at(60),
            },
            sessions: vec![Session {
                id: "alice-1".into(),
                kind: "shell".into(),
                owner: "alice\u{1b}[31m".into(),
                user: "ssm-user".into(),
                since: at(100),
            }],
            open_sessions: 3,
            recordings: Some("/var/log/amazon/ssm/sessions".into()),
            sinks: vec![Sink {
                session: "alice-1".into(),
                service: "S3".into(),
                place: "s3://b/alice-1.log".into(),
                entries: 9,
                confirmed: 4,
                problem: None,
            }],
            commands: Commands {
                running: 1,
                queued: 0,
                polled: true,
            },
            problems: vec![Problem {
                at: at(50),
                subject: "control channel".into(),
                text: "refused".into(),
                times: 2,
            }],
        };

        let text = describe(&status, at(160));

        assert_eq!(
            text,
            "agent       ssm-agent 0.1.0 (on the wire 3.3.1.0), process 7, running for 2 min 40 s\n\
             registered  as mi-1 in eu-central-1 (OnPrem)\n\
             channel     connected since 2026-11-22T12:01:00Z (1 min 40 s)\n\
             commands    1 running, 0 waiting, polled for at the message delivery service\n\
             recordings  /var/log/amazon/ssm/sessions\n\
             sessions    3 open\n\
             \x20 alice-1  shell  alice?[31m as ssm-user  for 1 min 0 s\n\
             \x20 and 2 more\n\
             sinks       1 under way, 0 given up\n\
             \x20 alice-1  S3  s3://b/alice-1.log  4 of 9 entries confirmed\n\
             problems    the last ones:\n\
             \x20 1 min 50 s ago, 2 times: control channel: refused\n"
        );
    }
}
