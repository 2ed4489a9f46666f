use url::Url;

use super::*;
use crate::gateway::store::sessions::DEFAULT_IDLE_TIMEOUT;

/// Seconds after which a session that nobody uses is over.
const IDLE: u64 = DEFAULT_IDLE_TIMEOUT.as_secs();

#[test]
fn agent_that_never_comes_ends_the_session_with_a_reason_for_the_client() {
    let mut session = starting();
    attach(&mut session, Role::Client, 0);

    let actions = time_passes(&mut session, 20);

    let [
        Action::CloseAgent,
        Action::CloseClient(farewell),
        Action::End(verdict),
    ] = &actions[..]
    else {
        panic!("{actions:?}");
    };
    assert!(farewell.output.contains("within 20 seconds"));
    assert_eq!(verdict.status, SessionStatus::Failed);
    assert!(!session.is_ended(), "the client still has to be told");
    session.handle_drained();
    assert!(session.is_ended());
}

#[test]
fn agent_hears_of_a_client_whoever_comes_first() {
    let mut session = starting();
    assert_eq!(attach(&mut session, Role::Client, 0), []);
    assert_eq!(
        attach(&mut session, Role::Agent, 1),
        [Action::Start, Action::Status(SessionStatus::Connected)]
    );

    let mut session = starting();
    assert_eq!(attach(&mut session, Role::Agent, 0), []);
    assert_eq!(
        attach(&mut session, Role::Client, 1),
        [Action::Start, Action::Status(SessionStatus::Connected)]
    );
}

#[test]
fn client_that_leaves_pauses_the_agent_and_finds_the_session_again() {
    let mut session = connected();

    session.handle_lost(Role::Client, Cut::Closed, at(10));
    let paused = [Action::Pause, Action::Status(SessionStatus::Disconnected)];
    assert_eq!(actions(&mut session), paused);
    assert!(session.handle_resume(at(60)));
    assert_eq!(
        attach(&mut session, Role::Client, 69),
        [Action::Start, Action::Status(SessionStatus::Connected)]
    );
    assert_eq!(session.poll_timeout(), Some(at(IDLE)));
}

#[test]
fn client_that_stays_away_ends_the_session_after_the_grace_period() {
    let mut session = connected();
    session.handle_lost(Role::Client, Cut::Silent, at(10));
    actions(&mut session);

    let actions_ = time_passes(&mut session, 70);

    let reason = "the client was not connected for 60 seconds".into();
    assert_eq!(actions_, [Action::CloseAgent, Action::Terminating(reason)]);
    assert!(!session.handle_resume(at(71)));
    session.handle_result(farewell(""), at(71));
    assert!(matches!(actions(&mut session)[..], [Action::End(_)]));
    assert!(session.is_ended());
}

#[test]
fn asking_for_a_token_gives_time_to_use_it() {
    let mut session = connected();
    session.handle_lost(Role::Client, Cut::Closed, at(0));

    assert!(session.handle_resume(at(59)));

    assert_eq!(session.poll_timeout(), Some(at(74)));
}

#[test]
fn killed_agent_ends_the_session_within_ten_seconds() {
    let mut session = connected();
    session.handle_lost(Role::Agent, Cut::Closed, at(100));
    session.handle_node(false, at(100));
    actions(&mut session);

    let told = time_passes(&mut session, 110);

    assert!(
        matches!(
            &told[..],
            [Action::CloseAgent, Action::CloseClient(f), Action::End(_)]
                if f.output.contains("lost")
        ),
        "{told:?}"
    );
}

#[test]
fn agent_that_lost_only_its_data_channel_has_longer_to_come_back() {
    let mut session = connected();
    session.handle_lost(Role::Agent, Cut::Closed, at(100));
    actions(&mut session);

    assert_eq!(time_passes(&mut session, 130), []);
    assert!(session.accepts(Role::Agent));
    assert_eq!(
        attach(&mut session, Role::Agent, 130),
        [Action::Start, Action::Status(SessionStatus::Connected)]
    );
}

#[test]
fn agent_behind_a_cut_network_has_the_grace_period() {
    let mut session = connected();
    session.handle_lost(Role::Agent, Cut::Silent, at(100));
    session.handle_node(false, at(100));
    actions(&mut session);

    assert_eq!(time_passes(&mut session, 159), []);
    assert_ne!(time_passes(&mut session, 160), []);
}

#[test]
fn agent_that_comes_back_in_time_gets_time_to_open_its_data_channel() {
    let mut session = connected();
    session.handle_lost(Role::Agent, Cut::Closed, at(100));
    session.handle_node(false, at(100));
    session.handle_node(true, at(107));

    assert_eq!(session.poll_timeout(), Some(at(112)));
}

#[test]
fn agent_that_comes_back_without_a_client_is_paused() {
    let mut session = connected();
    session.handle_lost(Role::Client, Cut::Closed, at(1));
    session.handle_lost(Role::Agent, Cut::Closed, at(2));
    actions(&mut session);

    assert_eq!(attach(&mut session, Role::Agent, 3), [Action::Pause]);
}

#[test]
fn result_reaches_the_client_after_the_agents_last_output() {
    let mut session = connected();

    session.handle_result(farewell("it broke"), at(5));
    assert_eq!(actions(&mut session), [], "the data channel still stands");
    session.handle_lost(Role::Agent, Cut::Closed, at(5));

    let told = [Action::CloseClient(farewell("it broke"))];
    assert_eq!(actions(&mut session), told);
    session.handle_drained();
    assert!(session.is_ended());
}

#[test]
fn agent_that_leaves_its_data_channel_open_does_not_hold_the_result_up() {
    let mut session = connected();
    session.handle_result(farewell(""), at(5));

    assert_eq!(
        time_passes(&mut session, 6),
        [Action::CloseClient(farewell(""))]
    );
}

#[test]
fn second_copy_of_a_result_changes_nothing() {
    let mut session = connected();
    session.handle_lost(Role::Agent, Cut::Closed, at(5));
    actions(&mut session);
    session.handle_result(farewell("once"), at(5));
    assert_eq!(actions(&mut session).len(), 1);

    session.handle_result(farewell("twice"), at(6));

    assert_eq!(actions(&mut session), []);
}

#[test]
fn client_that_was_away_at_the_end_still_learns_the_result() {
    let mut session = connected();
    session.handle_lost(Role::Client, Cut::Closed, at(0));
    session.handle_lost(Role::Agent, Cut::Closed, at(5));
    session.handle_result(farewell("bye"), at(5));
    assert!(actions(&mut session).contains(&Action::CloseClient(farewell("bye"))));

    assert!(session.handle_resume(at(50)));
    attach(&mut session, Role::Client, 51);
    session.handle_drained();

    assert!(session.is_ended());
}

#[test]
fn terminating_tells_both_ends_and_waits_for_the_result() {
    let mut session = connected();

    session.handle_terminate("enough", at(1));

    let told = actions(&mut session);
    assert_eq!(told[0], Action::CloseAgent);
    assert!(told.contains(&Action::CloseClient(farewell("enough"))));
    assert!(!session.accepts(Role::Agent));
    session.handle_drained();
    assert!(!session.is_ended());
    session.handle_result(farewell(""), at(2));
    assert!(session.is_ended());
}

#[test]
fn agent_that_missed_the_end_is_told_again_when_it_is_back() {
    let mut session = connected();
    session.handle_lost(Role::Agent, Cut::Closed, at(1));
    session.handle_node(false, at(1));
    session.handle_terminate("enough", at(2));
    actions(&mut session);

    session.handle_node(true, at(3));

    assert_eq!(actions(&mut session), [Action::CloseAgent]);
}

#[test]
fn terminated_session_ends_though_nobody_answers() {
    let mut session = connected();
    session.handle_terminate("enough", at(1));
    actions(&mut session);

    assert!(matches!(
        time_passes(&mut session, 11)[..],
        [Action::End(_)]
    ));
    assert!(session.is_ended());
}

#[test]
fn restored_session_waits_for_both_ends_and_goes_on() {
    let status = SessionStatus::Connected;
    let mut session = restored(status, SessionLimits::default(), 0);
    session.handle_node(true, at(1));
    assert_eq!(time_passes(&mut session, 59), []);

    attach(&mut session, Role::Agent, 59);
    assert_eq!(
        attach(&mut session, Role::Client, 59),
        [Action::Start, Action::Status(SessionStatus::Connected)]
    );
}

#[test]
fn idle_session_ends_with_a_reason_for_the_client() {
    let mut session = connected();

    assert_eq!(time_passes(&mut session, IDLE - 1), []);
    let told = time_passes(&mut session, IDLE);

    let text = "Your session timed out due to inactivity and has been terminated.";
    assert_eq!(told[0], Action::CloseAgent);
    assert!(
        told.contains(&Action::CloseClient(farewell(text))),
        "{told:?}"
    );
    session.handle_drained();
    session.handle_result(farewell(""), at(IDLE + 1));
    let verdict = Verdict {
        status: SessionStatus::Terminated,
        details: text.into(),
    };
    assert_eq!(actions(&mut session), [Action::End(verdict)]);
}

#[test]
fn session_ends_at_its_maximum_duration_though_it_is_used() {
    let limits = SessionLimits {
        max_duration: Some(Duration::from_secs(120)),
        ..SessionLimits::default()
    };
    let mut session = Session::starting(settings(), limits, at(0));
    attach(&mut session, Role::Agent, 1);
    attach(&mut session, Role::Client, 1);

    assert_eq!(time_passes(&mut session, 119), []);
    let told = time_passes(&mut session, 120);

    let text = "Your session reached its maximum duration of 2 minutes and has been terminated.";
    assert!(
        told.contains(&Action::CloseClient(farewell(text))),
        "{told:?}"
    );
}

#[test]
fn restart_of_the_gateway_does_not_prolong_the_maximum_duration() {
    let limits = SessionLimits {
        max_duration: Some(Duration::from_secs(120)),
        ..SessionLimits::default()
    };
    let mut session = restored(SessionStatus::Connected, limits, 90);
    assert_eq!(session.poll_timeout(), Some(at(30)));
    assert!(time_passes(&mut session, 30).contains(&Action::CloseAgent));

    let session = restored(SessionStatus::Connected, limits, 500);
    assert_eq!(session.poll_timeout(), Some(at(0)));
}

#[test]
fn terminating_state_of_the_agent_is_noted() {
    let mut session = connected();

    session.handle_state(SessionState::Terminating);

    let noted = [Action::Status(SessionStatus::Terminating)];
    assert_eq!(actions(&mut session), noted);
}

fn settings() -> Settings {
    Settings::new(Url::parse("wss://gateway.example").unwrap())
}

fn starting() -> Session {
    Session::starting(settings(), SessionLimits::default(), at(0))
}

fn restored(status: SessionStatus, limits: SessionLimits, age: u64) -> Session {
    let age = Duration::from_secs(age);
    Session::restored(settings(), status, limits, age, at(0))
}

fn connected() -> Session {
    let mut session = starting();
    attach(&mut session, Role::Agent, 0);
    attach(&mut session, Role::Client, 0);
    session
}

fn attach(session: &mut Session, role: Role, second: u64) -> Vec<Action> {
    assert!(session.accepts(role));
    session.handle_attached(role, at(second));
    actions(session)
}

/// Calls the machine whenever it wants to be called, up to `second`.
fn time_passes(session: &mut Session, second: u64) -> Vec<Action> {
    let mut seen = Vec::new();
    while let Some(due) = session.poll_timeout().filter(|due| *due <= at(second)) {
        session.handle_timeout(due);
        seen.extend(actions(session));
        if matches!(session.state, State::Closing { .. }) {
            break;
        }
    }
    seen
}

fn actions(session: &mut Session) -> Vec<Action> {
    std::iter::from_fn(|| session.poll_action()).collect()
}

fn farewell(output: &str) -> Farewell {
    Farewell {
        output: output.into(),
        exit_code: None,
    }
}

/// The instant `second` seconds after an arbitrary one.
fn at(second: u64) -> Instant {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *START + Duration::from_secs(second)
}
