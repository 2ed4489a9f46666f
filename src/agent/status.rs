//! What the agent says of itself when `ssm-cli status` asks.
//!
//! Each process that carries sessions has a [`Showing`]; a keeper tells the agent what it shows.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::control::Status;
use super::identity::Identity;
use super::run_command::Load;
use super::session::{Outcome, Roster};
use super::transcript::Uploads;
use crate::protocol::wire::local::{
    AgentStatus, Answer, ChannelState, Commands, ControlChannel, LISTED, PROBLEMS, Problem,
    Request, Session, Sink, Time,
};
use crate::protocol::wire::version::AGENT_WIRE_VERSION;
use crate::runtime::clock::unix_ms;

/// Longest text from outside that is passed on, in characters.
const TEXT: usize = 512;
/// The subject of problems with records.
const RECORDING: &str = "recording";

/// What a process that carries sessions shows of them.
#[derive(Clone)]
pub struct Showing {
    /// The sessions.
    pub roster: Roster,
    /// The records on their way to services.
    pub uploads: Arc<Uploads>,
    /// What went wrong lately.
    pub problems: Problems,
}

/// What there was to see at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Sight {
    /// Sessions, oldest first; at most [`LISTED`].
    pub sessions: Vec<Session>,
    /// How many there are.
    pub open_sessions: usize,
    /// Copies of records; at most [`LISTED`].
    pub sinks: Vec<Sink>,
    /// What went wrong lately, oldest first; at most [`PROBLEMS`].
    pub problems: Vec<Problem>,
}

impl Showing {
    /// What there is to see.
    pub fn look(&self) -> Sight {
        let sessions = self.roster.list();
        let copies = self.uploads.progress().into_iter().take(LISTED);
        Sight {
            open_sessions: sessions.len(),
            sessions: sessions
                .into_iter()
                .take(LISTED)
                .map(|(id, present)| Session {
                    id: id.as_str().to_owned(),
                    kind: present.kind.to_owned(),
                    owner: cut(&present.owner),
                    user: cut(&present.user.unwrap_or_default()),
                    since: time(present.since),
                })
                .collect(),
            sinks: copies
                .map(|(session, progress)| Sink {
                    session: session.as_str().to_owned(),
                    service: progress.service.to_owned(),
                    place: cut(&progress.place),
                    entries: progress.entries,
                    confirmed: progress.confirmed,
                    problem: progress.problem.as_deref().map(cut),
                })
                .collect(),
            problems: self.problems.list(),
        }
    }

    /// Notes what went wrong with a session that has ended.
    pub fn note_outcome(&self, outcome: &Outcome) {
        if let Some(problem) = &outcome.recording.problem {
            self.problems.note(RECORDING, problem);
        }
    }
}

impl Sight {
    /// Several of them as one, each list within its greatest length.
    fn join(sights: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for sight in sights {
            all.sessions.extend(sight.sessions);
            all.open_sessions += sight.open_sessions;
            all.sinks.extend(sight.sinks);
            all.problems.extend(sight.problems);
        }
        all.sessions.sort_by_key(|session| session.since);
        all.sessions.truncate(LISTED);
        all.sinks.truncate(LISTED);
        all.problems.sort_by_key(|problem| problem.at);
        let older = all.problems.len().saturating_sub(PROBLEMS);
        all.problems.drain(..older);
        all
    }
}

/// What went wrong lately. Clones keep the same.
#[derive(Debug, Clone, Default)]
pub struct Problems(Arc<Mutex<VecDeque<Problem>>>);

impl Problems {
    /// Notes a problem with `subject`; one that repeats is noted once and counted.
    pub fn note(&self, subject: &str, text: &str) {
        let text = cut(text);
        let mut problems = self.lock();
        if let Some(last) = problems.back_mut()
            && last.subject == subject
            && last.text == text
        {
            last.at = now();
            last.times += 1;
            return;
        }
        if problems.len() == PROBLEMS {
            problems.pop_front();
        }
        problems.push_back(Problem {
            at: now(),
            subject: subject.to_owned(),
            text,
            times: 1,
        });
    }

    fn list(&self) -> Vec<Problem> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Problem>> {
        // Nothing that can panic runs while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Since when the control channel has been open, or has not been.
pub type Since = watch::Sender<Time>;

/// What there is to look at.
pub struct View {
    /// Told that somebody on this host has left a command.
    pub left: Arc<Notify>,
    /// Who the agent is.
    pub identity: Identity,
    /// When it started.
    pub started: Time,
    /// How the control channel stands.
    pub channel: watch::Receiver<Status>,
    /// Since when.
    pub since: watch::Receiver<Time>,
    /// The sessions of this process.
    pub own: Showing,
    /// What each keeper has told of its sessions.
    pub kept: watch::Receiver<BTreeMap<u64, Sight>>,
    /// The commands.
    pub load: watch::Receiver<Load>,
    /// Whether the message delivery service is polled for them.
    pub polling: watch::Receiver<bool>,
    /// Where recordings are written, if they are.
    pub recordings: Option<PathBuf>,
}

impl View {
    /// Answers a request.
    pub fn answer(&self, request: &Request) -> Answer {
        match request {
            Request::Status => Answer::Status(Box::new(self.status())),
            Request::TakeLocalCommands => {
                self.left.notify_one();
                Answer::Done
            }
            Request::Unknown => Answer::Refused {
                problem: "this version of the agent does not know the request".to_owned(),
            },
        }
    }

    fn status(&self) -> AgentStatus {
        let (state, since) = match &*self.channel.borrow() {
            Status::Connected { since, .. } => (ChannelState::Connected, time(*since)),
            Status::Connecting => (ChannelState::Connecting, *self.since.borrow()),
            Status::Waiting { .. } => (ChannelState::Waiting, *self.since.borrow()),
            Status::Stopped => (ChannelState::Stopped, *self.since.borrow()),
        };
        let kept = self.kept.borrow().values().cloned().collect::<Vec<_>>();
        let sight = Sight::join(kept.into_iter().chain([self.own.look()]));
        let load = *self.load.borrow();
        AgentStatus {
            node_id: self.identity.node_id().to_owned(),
            region: self.identity.region().to_owned(),
            registration: self.identity.kind().name().to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            wire_version: AGENT_WIRE_VERSION.to_owned(),
            pid: std::process::id(),
            started: self.started,
            control_channel: ControlChannel { state, since },
            open_sessions: sight.open_sessions,
            sessions: sight.sessions,
            recordings: self
                .recordings
                .as_ref()
                .map(|folder| folder.display().to_string()),
            sinks: sight.sinks,
            commands: Commands {
                running: load.running,
                queued: load.queued,
                polled: *self.polling.borrow(),
            },
            problems: sight.problems,
        }
    }
}

/// Follows the control channel: notes what went wrong and since when it is as it is. Ends with the
/// channel.
pub async fn follow(mut channel: watch::Receiver<Status>, since: Since, problems: Problems) {
    let mut was_open = false;
    loop {
        let is_open = match &*channel.borrow_and_update() {
            Status::Connected { .. } => true,
            Status::Waiting { problem, .. } => {
                problems.note("control channel", problem);
                false
            }
            Status::Connecting | Status::Stopped => false,
        };
        if is_open != was_open {
            since.send_replace(now());
            was_open = is_open;
        }
        if channel.changed().await.is_err() {
            return;
        }
    }
}

/// This moment.
pub fn now() -> Time {
    Time::from_unix_ms(i64::try_from(unix_ms()).unwrap_or(i64::MAX))
}

fn time(time: SystemTime) -> Time {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Time::from_unix_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::wire::PeerFeatures;

    #[test]
    fn repeated_problem_is_counted_and_the_oldest_is_forgotten() {
        let problems = Problems::default();

        for number in 0..=PROBLEMS {
            problems.note("control channel", &format!("refused {number}"));
        }
        problems.note("control channel", &format!("refused {PROBLEMS}"));

        let listed = problems.list();
        assert_eq!(listed.len(), PROBLEMS);
        assert_eq!(listed[0].text, "refused 1");
        assert_eq!(listed[PROBLEMS - 1].times, 2);
    }

    #[test]
    fn sights_are_joined_by_time_and_within_their_limits() {
        let session = |id: &str, since| Session {
            id: id.into(),
            kind: "shell".into(),
            owner: "alice".into(),
            user: "alice".into(),
            since: Time::from_unix_ms(since),
        };
        let problem = |at| Problem {
            at: Time::from_unix_ms(at),
            subject: RECORDING.into(),
            text: at.to_string(),
            times: 1,
        };
        let kept = Sight {
            sessions: vec![session("old", 1), session("new", 9)],
            open_sessions: 1000,
            problems: (1..).step_by(2).take(PROBLEMS).map(problem).collect(),
            ..Sight::default()
        };
        let own = Sight {
            sessions: vec![session("middle", 5)],
            open_sessions: 1,
            problems: vec![problem(2)],
            ..Sight::default()
        };

        let all = Sight::join([kept, own]);

        let ids: Vec<_> = all.sessions.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["old", "middle", "new"]);
        assert_eq!(all.open_sessions, 1001);
        assert_eq!(all.problems.len(), PROBLEMS);
        assert_eq!(all.problems[0].text, "2");
    }

    #[tokio::test]
    async fn loss_of_the_channel_changes_since_when_and_tells_why() {
        let (set, channel) = watch::channel(Status::Connecting);
        let (since, seen) = watch::channel(Time::from_unix_ms(0));
        let problems = Problems::default();
        let following = tokio::spawn(follow(channel, since, problems.clone()));
        let mut seen = seen;

        set.send_replace(Status::Connected {
            since: SystemTime::now(),
            features: PeerFeatures::default(),
        });
        seen.changed().await.unwrap();
        set.send_replace(Status::Waiting {
            problem: "it broke".into(),
            is_denied: false,
            retry_in: Duration::from_secs(1),
        });
        seen.changed().await.unwrap();
        drop(set);
        following.await.unwrap();

        assert_eq!(problems.list()[0].text, "it broke");
        assert!(seen.borrow().unix_ms() > 0);
    }

    #[test]
    fn text_from_outside_has_a_greatest_length() {
        assert_eq!(cut(&"é".repeat(TEXT + 1)).chars().count(), TEXT);
    }
}
