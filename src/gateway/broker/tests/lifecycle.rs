//! How sessions begin, survive and end.

use std::time::Duration;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message as Frame;
use uuid::Uuid;

use super::super::*;
use super::stand_in::*;
use crate::gateway::store::sessions::SessionStatus;
use crate::protocol::wire::control::{AgentSessionState, SessionState};
use crate::protocol::wire::task::{TaskComplete, TaskStatus};
use crate::protocol::wire::{MessageType, SessionId};

#[tokio::test(start_paused = true)]
async fn session_runs_from_the_start_message_to_the_exit_status() {
    let world = World::new().await;
    let mut control = world.control().await;

    let ticket = world.start().await;
    let id = ticket.session_id.clone();
    let start = control.expect_start().await;
    assert_eq!(
        (&start.session_id, start.session_owner.as_str()),
        (&id, OWNER)
    );
    assert_eq!(start.run_as_user, RUN_AS);
    assert_eq!(
        ticket.stream_url,
        format!("wss://gateway.example:8443/v1/data-channel/{id}?role=publish_subscribe")
    );
    let mut agent = world.agent(&id).await;
    agent.send(state(&id, SessionState::Connected)).await;
    agent.send(output(0, "$ ")).await;
    let mut client = world.client(&ticket).await;
    let publication = agent.expect(MessageType::StartPublication).await;
    assert_eq!(publication.payload, "max-payload=32768, exit-code");
    // The state went no further; output from before the client's time did.
    let prompt = client.expect(MessageType::OutputStreamData).await;
    assert_eq!(prompt.payload, "$ ");
    world.until_status(&id, SessionStatus::Connected).await;

    agent.send(output(1, "bye\r\n")).await;
    agent.send(state(&id, SessionState::Terminating)).await;
    drop(agent);
    let complete = TaskComplete {
        exit_code: Some(7),
        ..result(&id, TaskStatus::Success, "")
    };
    control.complete(&complete).await;

    assert_eq!(
        client.expect(MessageType::OutputStreamData).await.payload,
        "bye\r\n"
    );
    let closed = client.expect_closed().await;
    assert_eq!((closed.output.as_str(), closed.exit_code), ("", Some(7)));
    assert_eq!(client.close_reason().await, "the session is over");
    let record = world.record(&id).await;
    assert_eq!(record.status, SessionStatus::Terminated);
    assert_eq!(
        (record.exit_code, record.reason.as_str()),
        (Some(7), "maintenance")
    );
}

#[tokio::test(start_paused = true)]
async fn session_id_is_the_owners_name_and_seventeen_hexadecimal_digits() {
    let world = World::new().await;
    let _control = world.control().await;

    let id = world.start().await.session_id.to_string();

    let digits = id.strip_prefix("alice-").unwrap();
    assert_eq!(digits.len(), 17);
    assert!(digits.chars().all(|c| c.is_ascii_hexdigit()));
}

#[tokio::test(start_paused = true)]
async fn start_on_a_node_that_is_not_connected_is_refused() {
    let world = World::new().await;

    let error = world.broker.start_session(request()).await.err().unwrap();

    assert!(matches!(error, BrokerError::NotConnected(node) if node == NODE));
}

#[tokio::test(start_paused = true)]
async fn client_is_told_when_the_agent_does_not_open_its_end() {
    let world = World::new().await;
    let mut control = world.control().await;
    let started = Instant::now();
    let ticket = world.start().await;
    control.expect_start().await;
    let mut client = world.client(&ticket).await;

    let closed = client.expect_closed().await;

    assert!(
        closed.output.contains("within 20 seconds"),
        "{}",
        closed.output
    );
    assert!(started.elapsed() < Duration::from_secs(21));
    assert_eq!(
        control.expect_closed().await.session_id,
        ticket.session_id.as_str()
    );
    world
        .until_status(&ticket.session_id, SessionStatus::Failed)
        .await;
}

#[tokio::test(start_paused = true)]
async fn token_opens_one_connection_in_its_own_role() {
    let world = World::new().await;
    let _control = world.control().await;
    let ticket = world.start().await;
    let id = &ticket.session_id;

    let node = Signer::Node(NODE.into());
    let mut thief = world.agent_with(id, &ticket.token, node).await;
    assert_eq!(thief.close_reason().await, "the token is not valid");
    let _client = world.client(&ticket).await;
    let mut second = world.client(&ticket).await;
    assert_eq!(second.close_reason().await, "the token is not valid");
}

#[tokio::test(start_paused = true)]
async fn only_the_agent_of_the_sessions_node_takes_the_agents_end() {
    let world = World::new().await;
    let _control = world.control().await;
    let id = world.start().await.session_id;

    let others = [Signer::Nobody, Signer::Person, Signer::Node("mi-2".into())];
    for signer in others {
        let token = world.broker.create_data_channel(NODE, &id).await.unwrap();
        let mut other = world.agent_with(&id, &token, signer).await;
        assert_eq!(
            other.close_reason().await,
            "not the agent of this session's node"
        );
    }
    let error = world.broker.create_data_channel("mi-2", &id).await.err();
    assert!(matches!(error, Some(DataChannelError::WrongNode)));
}

#[tokio::test(start_paused = true)]
async fn control_channel_needs_its_token() {
    let world = World::new().await;

    let mut control = world.control_with("guessed").await;

    assert_eq!(control.close_reason().await, "the token is not valid");
    assert!(!world.broker.is_connected(NODE));
}

#[tokio::test(start_paused = true)]
async fn peer_that_says_nothing_is_closed() {
    let world = World::new().await;
    let id = SessionId::new("alice-1").unwrap();

    let (mut peer, socket) = Peer::pair().await;
    world
        .broker
        .serve_data_channel(id, Signer::Nobody, async { Some(socket) });

    assert_eq!(peer.close_reason().await, "the open message did not come");
}

#[tokio::test(start_paused = true)]
async fn client_resumes_with_a_fresh_token_and_the_agent_is_paused_meanwhile() {
    let world = World::new().await;
    let (id, _control, mut agent, client) = world.session().await;

    drop(client);
    agent.expect(MessageType::PausePublication).await;
    agent.send(output(0, "while you were out")).await;
    let ticket = world.broker.resume_session(&id).await.unwrap().unwrap();
    let mut client = world.client(&ticket).await;

    agent.expect(MessageType::StartPublication).await;
    let held = client.expect(MessageType::OutputStreamData).await;
    assert_eq!(held.payload, "while you were out");
    client.send(input(0, "thanks")).await;
    assert_eq!(
        agent.expect(MessageType::InputStreamData).await.payload,
        "thanks"
    );
}

#[tokio::test(start_paused = true)]
async fn client_that_stays_away_costs_the_session_its_life() {
    let world = World::new().await;
    let (id, mut control, mut agent, client) = world.session().await;
    let started = Instant::now();

    drop(client);
    agent.expect(MessageType::PausePublication).await;
    agent.expect_closed().await;

    assert!(started.elapsed() >= Duration::from_secs(60));
    assert!(world.broker.resume_session(&id).await.unwrap().is_none());
    drop(agent);
    control
        .complete(&result(&id, TaskStatus::Success, ""))
        .await;
    world.until_status(&id, SessionStatus::Terminated).await;
    let gone = world.broker.create_data_channel(NODE, &id).await.err();
    assert!(gone.unwrap().to_string().contains(SESSION_OVER));
}

#[tokio::test(start_paused = true)]
async fn newest_connection_wins_at_either_end() {
    let world = World::new().await;
    let (id, _control, mut old_agent, mut old_client) = world.session().await;

    let mut agent = world.agent(&id).await;
    agent.expect(MessageType::StartPublication).await;
    let ticket = world.broker.resume_session(&id).await.unwrap().unwrap();
    let mut client = world.client(&ticket).await;
    agent.expect(MessageType::StartPublication).await;

    assert_eq!(
        old_agent.close_reason().await,
        "a newer connection took over"
    );
    assert_eq!(
        old_client.close_reason().await,
        "a newer connection took over"
    );
    agent.send(output(0, "still here")).await;
    assert_eq!(
        client.expect(MessageType::OutputStreamData).await.payload,
        "still here"
    );
}

#[tokio::test(start_paused = true)]
async fn newest_control_channel_wins_and_sessions_do_not_notice() {
    let world = World::new().await;
    let (_, mut old, mut agent, mut client) = world.session().await;

    let mut new = world.control().await;

    assert_eq!(old.close_reason().await, "a newer connection took over");
    assert!(world.broker.is_connected(NODE));
    agent.send(output(0, "x")).await;
    client.expect(MessageType::OutputStreamData).await;
    world.start().await;
    new.expect_start().await;
}

#[tokio::test(start_paused = true)]
async fn killed_agent_ends_its_sessions_within_ten_seconds() {
    let world = World::new().await;
    let (id, control, agent, mut client) = world.session().await;
    let killed = Instant::now();

    drop((control, agent));
    let closed = client.expect_closed().await;

    assert!(killed.elapsed() < Duration::from_secs(10));
    assert!(
        closed
            .output
            .contains("the connection to the agent was lost")
    );
    world.until_status(&id, SessionStatus::Terminated).await;
}

#[tokio::test(start_paused = true)]
async fn agent_that_missed_the_end_of_a_session_is_told_when_it_is_back() {
    let world = World::new().await;
    let (id, control, agent, mut client) = world.session().await;
    drop((control, agent));
    client.expect_closed().await;
    world.until_status(&id, SessionStatus::Terminated).await;

    let mut control = world.control().await;

    assert_eq!(control.expect_closed().await.session_id, id.as_str());
}

#[tokio::test(start_paused = true)]
async fn silent_agent_is_noticed_and_has_the_grace_period_to_come_back() {
    let world = World::new().await;
    let (id, control, agent, mut client) = world.session().await;
    let cut = Instant::now();

    // Nobody reads these sockets any more, so no ping is answered.
    let closed = client.expect_closed().await;

    assert!(closed.output.contains("lost"));
    let after = cut.elapsed();
    assert!((120..140).contains(&after.as_secs()), "{after:?}");
    world.until_status(&id, SessionStatus::Terminated).await;
    drop((control, agent));
}

#[tokio::test(start_paused = true)]
async fn both_ends_find_their_session_after_a_restart_of_the_gateway() {
    let world = World::new().await;
    let (id, mut control, mut agent, mut client) = world.session().await;

    let world = world.restart().await;
    for peer in [&mut control, &mut agent, &mut client] {
        assert_eq!(peer.close_reason().await, "the gateway is shutting down");
    }
    let mut control = world.control().await;
    let mut agent = world.agent(&id).await;
    agent.send(output(0, "from before")).await;
    let ticket = world.broker.resume_session(&id).await.unwrap().unwrap();
    let mut client = world.client(&ticket).await;

    assert_eq!(
        client.expect(MessageType::OutputStreamData).await.payload,
        "from before"
    );
    drop(agent);
    control
        .complete(&result(&id, TaskStatus::Success, ""))
        .await;
    assert_eq!(client.expect_closed().await.output, "");
}

#[tokio::test(start_paused = true)]
async fn session_that_nobody_comes_back_to_after_a_restart_ends() {
    let world = World::new().await;
    let (id, ..) = world.session().await;

    let world = world.restart().await;

    world.until_status(&id, SessionStatus::Terminated).await;
    assert!(world.broker.resume_session(&id).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn failure_reaches_the_client_and_both_copies_are_acknowledged() {
    let world = World::new().await;
    let (id, mut control, agent, mut client) = world.session().await;
    drop(agent);

    let failed = result(&id, TaskStatus::Failed, "no such user");
    control.complete(&failed).await;
    control.complete(&failed).await;

    assert_eq!(client.expect_closed().await.output, "no such user");
    let record = world.record(&id).await;
    assert_eq!(record.status, SessionStatus::Failed);
    assert_eq!(record.details, "no such user");
    assert_eq!(client.try_next().await, None, "it is told once");
}

#[tokio::test(start_paused = true)]
async fn result_of_an_unknown_session_is_acknowledged() {
    let world = World::new().await;
    let mut control = world.control().await;

    let unknown = SessionId::new("bob-1").unwrap();
    control
        .complete(&result(&unknown, TaskStatus::Success, ""))
        .await;
    let mut odd = result(&unknown, TaskStatus::Success, "");
    odd.task_id = "../no session id".into();
    control.complete(&odd).await;
}

#[tokio::test(start_paused = true)]
async fn result_from_another_node_does_not_end_a_session() {
    let world = World::new().await;
    let (id, _control, mut agent, mut client) = world.session().await;
    let broker = &world.broker;
    let token = broker.create_control_channel(OTHER_NODE);
    let (mut other, socket) = Peer::pair().await;
    broker.serve_control_channel(OTHER_NODE.into(), async { Some(socket) });
    let open = format!(r#"{{"MessageSchemaVersion":"1.0","TokenValue":"{token}"}}"#);
    other.send_frame(Frame::text(open)).await;

    other.complete(&result(&id, TaskStatus::Failed, "ha")).await;

    agent.send(output(0, "unharmed")).await;
    assert_eq!(
        client.expect(MessageType::OutputStreamData).await.payload,
        "unharmed"
    );
    assert_eq!(world.record(&id).await.status, SessionStatus::Connected);
}

#[tokio::test(start_paused = true)]
async fn job_reply_is_acknowledged_and_what_is_not_served_is_ignored() {
    let world = World::new().await;
    let mut control = world.control().await;
    let id = Uuid::new_v4();

    control.send("no message at all".into()).await;
    for kind in [MessageType::AgentTelemetry, MessageType::AgentTaskComplete] {
        control.send(message(kind, 0, id, "{".into())).await;
    }
    let reply = r#"{"schemaVersion":1,"jobId":"aws.ssm.1.mi","content":"{}","topic":"t"}"#;
    control
        .send(message(MessageType::AgentJobReply, 0, id, reply.into()))
        .await;

    let ack = control.expect(MessageType::AgentJobReplyAck).await;
    let ack: serde_json::Value = serde_json::from_slice(&ack.payload).unwrap();
    assert_eq!(ack["jobId"], "aws.ssm.1.mi");
    assert_eq!(ack["acknowledgedMessageId"], id.to_string());
}

#[tokio::test(start_paused = true)]
async fn terminating_a_session_tells_both_ends() {
    let world = World::new().await;
    let (id, mut control, mut agent, mut client) = world.session().await;

    world.broker.terminate_session(&id).await.unwrap();

    assert_eq!(
        client.expect_closed().await.output,
        "Your session was terminated."
    );
    agent.expect_closed().await;
    assert!(world.broker.resume_session(&id).await.unwrap().is_none());
    drop(agent);
    control
        .complete(&result(&id, TaskStatus::Success, ""))
        .await;
    world.until_status(&id, SessionStatus::Terminated).await;
    world.broker.terminate_session(&id).await.unwrap();
    let unknown = SessionId::new("bob-1").unwrap();
    let error = world.broker.terminate_session(&unknown).await.err();
    assert!(matches!(error, Some(BrokerError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn agent_without_data_channel_is_told_on_the_control_channel() {
    let world = World::new().await;
    let (id, mut control, agent, _client) = world.session().await;
    drop(agent);
    world.until_status(&id, SessionStatus::Disconnected).await;

    world.broker.terminate_session(&id).await.unwrap();

    assert_eq!(control.expect_closed().await.session_id, id.as_str());
}

#[tokio::test(start_paused = true)]
async fn client_of_a_session_that_is_over_is_sent_home() {
    let world = World::new().await;
    let (id, mut control, agent, client) = world.session().await;
    drop((agent, client));
    world.broker.terminate_session(&id).await.unwrap();
    control
        .complete(&result(&id, TaskStatus::Success, ""))
        .await;
    until(async || !world.broker.is_live(&id)).await;

    let mut late = world.data(&id, "any", None, None, Signer::Nobody).await;

    assert_eq!(late.expect_closed().await.output, "the session is over");
}

#[tokio::test(start_paused = true)]
async fn deregistered_node_loses_its_channels_and_sessions() {
    let world = World::new().await;
    let (_, mut control, _agent, mut client) = world.session().await;

    world.broker.disconnect_node(NODE).await;

    assert_eq!(
        client.expect_closed().await.output,
        "The node was deregistered."
    );
    assert_eq!(control.close_reason().await, "the node was deregistered");
    assert!(!world.broker.is_connected(NODE));
}

#[tokio::test(start_paused = true)]
async fn token_of_a_deregistered_node_opens_no_control_channel() {
    let world = World::new().await;
    let token = world.broker.create_control_channel(NODE);
    world.store.deregister_node(NODE).await.unwrap();

    let mut late = world.control_with(&token).await;

    assert_eq!(late.close_reason().await, "the node was deregistered");
    assert!(!world.broker.is_connected(NODE));
}

fn state(id: &SessionId, state: SessionState) -> bytes::Bytes {
    let state = AgentSessionState {
        schema_version: 1,
        session_state: state,
        session_id: id.to_string(),
    };
    let kind = MessageType::AgentSessionState;
    message(kind, 0, Uuid::new_v4(), state.encode())
}
