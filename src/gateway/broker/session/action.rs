//! What a session wants done.

use crate::gateway::store::sessions::SessionStatus;

/// What the client is told at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway::broker) struct Farewell {
    /// Text for the person; empty after a normal end.
    pub(in crate::gateway::broker) output: String,
    /// The remote exit status.
    pub(in crate::gateway::broker) exit_code: Option<i32>,
}

/// How a session ended, for its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway::broker) struct Verdict {
    /// `Terminated` or `Failed`.
    pub(in crate::gateway::broker) status: SessionStatus,
    /// Why.
    pub(in crate::gateway::broker) details: String,
}

/// What has to be done.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::gateway::broker) enum Action {
    /// Tell the agent that a client is there.
    Start,
    /// Tell the agent that nobody takes output.
    Pause,
    /// Tell the agent to end the session.
    CloseAgent,
    /// Tell the client that the session is over, after all that is on its way to it.
    CloseClient(Farewell),
    /// Note how the session stands.
    Status(SessionStatus),
    /// Note that the session was told to end, and why.
    Terminating(String),
    /// Note how the session ended, unless the agent reported it first.
    End(Verdict),
}
