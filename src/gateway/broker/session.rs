//! One session as a machine: which ends are there, what they have to be told, and when it is over.
//!
//! It sees no bytes. `handle_*` tells it what happened, `poll_action` says what to do about it,
//! `poll_timeout` when to call `handle_timeout`.

mod action;
mod ends;
mod lifetime;
mod state;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

pub(super) use action::{Action, Farewell, Verdict};
use ends::{Agent, Client};
use lifetime::Lifetime;
use state::State;

use super::link::Cut;
use super::relay::Role;
use super::settings::Settings;
use super::traffic::Traffic;
use crate::gateway::store::sessions::{SessionLimits, SessionStatus};
use crate::protocol::wire::control::SessionState;

/// The agent closes its data channel before it reports the result, on another connection; this is
/// how much later its last output may arrive here.
const LAST_OUTPUT_LIMIT: Duration = Duration::from_millis(500);
/// How long a client may take to fetch what is left for it at the end.
const FAREWELL_LIMIT: Duration = Duration::from_secs(30);
/// How long an agent that was told to end the session may take to report the result.
const RESULT_LIMIT: Duration = Duration::from_secs(10);
/// A client that asked for a token gets at least this long to use it.
const RESUME_LIMIT: Duration = Duration::from_secs(15);
/// How soon an agent that came back is expected to open its data channel again.
const REATTACH_LIMIT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Session {
    settings: Settings,
    lifetime: Lifetime,
    state: State,
    status: SessionStatus,
    is_node_up: bool,
    /// The agent said that the shell or command ended.
    is_ending: bool,
    actions: VecDeque<Action>,
}

impl Session {
    /// A session whose start message goes out now.
    pub(super) fn starting(settings: Settings, limits: SessionLimits, now: Instant) -> Self {
        let agent = Agent::Expected {
            until: now + settings.start_deadline,
        };
        let client = Client::Expected {
            until: now + settings.grace,
        };
        Self {
            settings,
            lifetime: Lifetime::new(limits, Duration::ZERO, now),
            state: State::Open { agent, client },
            status: SessionStatus::Connecting,
            is_node_up: true,
            is_ending: false,
            actions: VecDeque::new(),
        }
    }

    /// A session that began `age` ago and was going on when the gateway stopped.
    pub(super) fn restored(
        settings: Settings,
        status: SessionStatus,
        limits: SessionLimits,
        age: Duration,
        now: Instant,
    ) -> Self {
        let until = now + settings.grace;
        Self {
            settings,
            lifetime: Lifetime::new(limits, age, now),
            state: State::Open {
                // Not its fault, so it gets the long wait.
                agent: Agent::Away {
                    how: Cut::Silent,
                    until,
                },
                client: Client::Away { until },
            },
            status,
            is_node_up: false,
            is_ending: false,
            actions: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether nothing is left to wait for.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Whether `role` may connect.
    pub(super) fn accepts(&self, role: Role) -> bool {
        match (&self.state, role) {
            (State::Open { .. }, _) => true,
            (State::Draining { .. }, role) => role == Role::Client,
            (State::Closing { client, .. }, role) => role == Role::Client && client.is_some(),
            (State::Ended, _) => false,
        }
    }

    /// A client asks whether it may come back. If so, it is given the time for it.
    pub(super) fn handle_resume(&mut self, now: Instant) -> bool {
        if !self.accepts(Role::Client) {
            return false;
        }
        let at_least = now + RESUME_LIMIT;
        let client = match &mut self.state {
            State::Open { client, .. } | State::Draining { client, .. } => Some(client),
            State::Closing { client, until, .. } => {
                *until = (*until).max(at_least);
                client.as_mut()
            }
            State::Ended => None,
        };
        if let Some(Client::Expected { until } | Client::Away { until }) = client {
            *until = (*until).max(at_least);
        }
        true
    }

    /// `role` connected; only after [`Session::accepts`].
    pub(super) fn handle_attached(&mut self, role: Role, now: Instant) {
        match (&mut self.state, role) {
            (State::Open { agent, client }, Role::Agent) => {
                *agent = Agent::Attached;
                match client {
                    Client::Attached => self.actions.push_back(Action::Start),
                    // A new connection of the agent forgets that it was paused.
                    Client::Away { .. } => self.actions.push_back(Action::Pause),
                    Client::Expected { .. } => {}
                }
            }
            (State::Open { agent, client }, Role::Client) => {
                *client = Client::Attached;
                if let Agent::Attached = agent {
                    self.actions.push_back(Action::Start);
                }
            }
            (State::Draining { client, .. }, Role::Client) => *client = Client::Attached,
            (State::Closing { client, until, .. }, Role::Client) => {
                *client = Some(Client::Attached);
                *until = now + FAREWELL_LIMIT;
            }
            (State::Draining { .. } | State::Closing { .. }, Role::Agent) | (State::Ended, _) => {}
        }
        self.note_status();
    }

    /// `role` lost its connection.
    pub(super) fn handle_lost(&mut self, role: Role, cut: Cut, now: Instant) {
        let grace = now + self.settings.grace;
        match (&mut self.state, role) {
            (State::Open { agent, .. }, Role::Agent) => {
                let wait = match cut {
                    Cut::Silent => self.settings.grace,
                    Cut::Closed | Cut::Broken(_) if self.is_node_up => {
                        self.settings.agent_reconnect
                    }
                    Cut::Closed | Cut::Broken(_) => self.settings.agent_return,
                };
                *agent = Agent::Away {
                    how: cut,
                    until: now + wait,
                };
            }
            (State::Open { agent, client }, Role::Client) => {
                *client = Client::Away { until: grace };
                if let Agent::Attached = agent {
                    self.actions.push_back(Action::Pause);
                }
            }
            (State::Draining { .. }, Role::Agent) => self.finish_draining(now),
            (State::Draining { client, .. }, Role::Client) => {
                *client = Client::Away { until: grace };
            }
            (State::Closing { client, .. }, Role::Client) => {
                *client = None;
                self.end_if_done();
            }
            (State::Closing { .. }, Role::Agent) | (State::Ended, _) => {}
        }
        self.note_status();
    }

    /// The control channel of the session's node came up or went down.
    pub(super) fn handle_node(&mut self, is_up: bool, now: Instant) {
        if self.is_node_up == is_up {
            return;
        }
        self.is_node_up = is_up;
        match &mut self.state {
            State::Open {
                agent:
                    Agent::Away {
                        how: Cut::Closed | Cut::Broken(_),
                        until,
                    },
                ..
            } => {
                *until = if is_up {
                    (*until).max(now + REATTACH_LIMIT)
                } else {
                    // Both connections closed: most likely the agent died.
                    (*until).min(now + self.settings.agent_return)
                };
            }
            // It may have missed that it was told to end the session.
            State::Closing {
                awaits_result: true,
                ..
            } if is_up => self.actions.push_back(Action::CloseAgent),
            State::Open { .. } | State::Draining { .. } | State::Closing { .. } | State::Ended => {}
        }
    }

    /// The agent said how its session stands. It is only noted: the result follows.
    pub(super) fn handle_state(&mut self, state: SessionState) {
        match state {
            SessionState::Connected => {}
            SessionState::Terminating => self.is_ending = true,
        }
        self.note_status();
    }

    /// Tells what data passed; called before [`Session::handle_timeout`].
    pub(super) fn handle_traffic(&mut self, traffic: &Traffic) {
        self.lifetime.note(traffic);
    }

    /// The client stopped or resumed taking messages.
    pub(super) fn handle_client_moves(&mut self, moves: bool) {
        if let State::Open {
            agent: Agent::Attached,
            client: Client::Attached,
        } = self.state
        {
            let action = if moves { Action::Start } else { Action::Pause };
            self.actions.push_back(action);
        }
    }

    /// The agent reported the result. Repeats change nothing.
    pub(super) fn handle_result(&mut self, farewell: Farewell, now: Instant) {
        match &mut self.state {
            State::Open { agent, client } => {
                let (client, is_attached) = (*client, matches!(agent, Agent::Attached));
                self.state = State::Draining {
                    client,
                    farewell,
                    until: now + LAST_OUTPUT_LIMIT,
                };
                if !is_attached {
                    self.finish_draining(now);
                }
            }
            State::Closing { awaits_result, .. } => {
                *awaits_result = false;
                self.end_if_done();
            }
            State::Draining { .. } | State::Ended => {}
        }
    }

    /// Somebody wants the session to end.
    pub(super) fn handle_terminate(&mut self, reason: &str, now: Instant) {
        let State::Open { client, .. } = self.state else {
            return;
        };
        let verdict = Verdict {
            status: SessionStatus::Terminated,
            details: reason.to_owned(),
        };
        self.actions.push_back(Action::CloseAgent);
        self.actions
            .push_back(Action::Terminating(verdict.details.clone()));
        // A client that is away is not waited for: what it asked for is done.
        let client = matches!(client, Client::Attached).then_some(client);
        self.close(client, true, verdict, now);
    }

    /// The client has everything that was on its way to it, the farewell included.
    pub(super) fn handle_drained(&mut self) {
        if let State::Closing { client, .. } = &mut self.state {
            *client = None;
            self.end_if_done();
        }
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Open { agent, client } => {
                let agent = match agent {
                    Agent::Expected { until } | Agent::Away { until, .. } => Some(*until),
                    Agent::Attached => None,
                };
                let ends = agent.into_iter().chain(client.until());
                ends.chain([self.lifetime.deadline()]).min()
            }
            State::Draining { until, .. } | State::Closing { until, .. } => Some(*until),
            State::Ended => None,
        }
    }

    /// Looks at the clock.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(reason) = self.lifetime.verdict(now) {
            self.handle_terminate(&reason, now);
        }
        match &self.state {
            State::Open { agent, client } => match (agent, client.until()) {
                (Agent::Expected { until }, _) if *until <= now => self.agent_never_came(now),
                (Agent::Away { until, .. }, _) if *until <= now => self.agent_is_lost(now),
                (_, Some(until)) if until <= now => self.client_is_lost(now),
                _ => {}
            },
            State::Draining { until, .. } if *until <= now => self.finish_draining(now),
            State::Closing { until, .. } if *until <= now => self.give_up(),
            State::Draining { .. } | State::Closing { .. } | State::Ended => {}
        }
    }

    /// Neither the client nor the agent's result is waited for any longer.
    fn give_up(&mut self) {
        if let State::Closing {
            client,
            awaits_result,
            ..
        } = &mut self.state
        {
            *client = None;
            *awaits_result = false;
        }
        self.end_if_done();
    }

    fn agent_never_came(&mut self, now: Instant) {
        let details = format!(
            "the agent did not open its end of the session within {} seconds; \
             its log may say why",
            self.settings.start_deadline.as_secs()
        );
        // It may still be about to.
        self.actions.push_back(Action::CloseAgent);
        self.close_for_client(SessionStatus::Failed, details, now);
    }

    fn agent_is_lost(&mut self, now: Instant) {
        let details = "the connection to the agent was lost".to_owned();
        self.actions.push_back(Action::CloseAgent);
        self.close_for_client(SessionStatus::Terminated, details, now);
    }

    fn close_for_client(&mut self, status: SessionStatus, details: String, now: Instant) {
        let State::Open { client, .. } = self.state else {
            return;
        };
        self.close(Some(client), false, Verdict { status, details }, now);
    }

    fn client_is_lost(&mut self, now: Instant) {
        let details = format!(
            "the client was not connected for {} seconds",
            self.settings.grace.as_secs()
        );
        let verdict = Verdict {
            status: SessionStatus::Terminated,
            details,
        };
        self.actions.push_back(Action::CloseAgent);
        self.actions
            .push_back(Action::Terminating(verdict.details.clone()));
        self.close(None, true, verdict, now);
    }

    fn finish_draining(&mut self, now: Instant) {
        if let State::Draining {
            client, farewell, ..
        } = std::mem::replace(&mut self.state, State::Ended)
        {
            self.actions.push_back(Action::CloseClient(farewell));
            // The record has the agent's own result.
            self.enter_closing(Some(client), false, None, now);
        }
    }

    /// Ends an open session by the gateway's own decision.
    fn close(
        &mut self,
        client: Option<Client>,
        awaits_result: bool,
        verdict: Verdict,
        now: Instant,
    ) {
        if client.is_some() {
            self.actions.push_back(Action::CloseClient(Farewell {
                output: verdict.details.clone(),
                exit_code: None,
            }));
        }
        let verdict = if awaits_result {
            Some(verdict)
        } else {
            self.actions.push_back(Action::End(verdict));
            None
        };
        self.enter_closing(client, awaits_result, verdict, now);
    }

    fn enter_closing(
        &mut self,
        client: Option<Client>,
        awaits_result: bool,
        verdict: Option<Verdict>,
        now: Instant,
    ) {
        let client_until = client.map(|client| client.until().unwrap_or(now + FAREWELL_LIMIT));
        let until = match client_until {
            Some(until) if !awaits_result => until,
            Some(_) | None => now + RESULT_LIMIT,
        };
        self.state = State::Closing {
            client,
            awaits_result,
            verdict,
            until,
        };
        self.end_if_done();
    }

    fn end_if_done(&mut self) {
        if let State::Closing {
            client: None,
            awaits_result: false,
            verdict,
            ..
        } = &mut self.state
        {
            if let Some(verdict) = verdict.take() {
                self.actions.push_back(Action::End(verdict));
            }
            self.state = State::Ended;
        }
    }

    /// Passes the status on if it changed.
    fn note_status(&mut self) {
        let State::Open { agent, client } = &self.state else {
            return;
        };
        let status = match (agent, client) {
            _ if self.is_ending => SessionStatus::Terminating,
            (Agent::Expected { .. }, _) | (_, Client::Expected { .. }) => SessionStatus::Connecting,
            (Agent::Attached, Client::Attached) => SessionStatus::Connected,
            (Agent::Attached | Agent::Away { .. }, Client::Attached | Client::Away { .. }) => {
                SessionStatus::Disconnected
            }
        };
        if status != self.status {
            self.status = status;
            self.actions.push_back(Action::Status(status));
        }
    }
}

#[cfg(test)]
mod tests;
