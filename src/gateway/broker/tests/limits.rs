//! How long sessions last, and who may end them.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::stand_in::*;
use crate::gateway::store::sessions::{Activity, SessionLimits, SessionStatus};
use crate::protocol::wire::control::ChannelClosed;
use crate::protocol::wire::task::TaskStatus;
use crate::protocol::wire::{MessageType, SessionId};

const IDLE: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn session_in_which_nobody_types_ends_whatever_it_prints() {
    let world = World::new().await;
    let (id, mut control, mut agent, mut client) =
        world.session_within(idle_after(Activity::Input)).await;
    let began = Instant::now();

    sleep(IDLE / 2).await;
    client.send(input(0, "top")).await;
    agent.expect(MessageType::InputStreamData).await;
    sleep(IDLE / 2).await;
    agent.send(output(0, "load average")).await;
    client.expect(MessageType::OutputStreamData).await;

    let closed = client.expect_closed().await;
    assert_eq!(
        closed.output,
        "Your session timed out due to inactivity and has been terminated."
    );
    assert_eq!(began.elapsed().as_secs(), (IDLE + IDLE / 2).as_secs());
    agent.expect_closed().await;
    drop(agent);
    control
        .complete(&result(&id, TaskStatus::Success, ""))
        .await;
    world.until_status(&id, SessionStatus::Terminated).await;
    assert_eq!(world.record(&id).await.details, closed.output);
    assert!(world.broker.resume_session(&id).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn download_keeps_a_port_session_alive() {
    let world = World::new().await;
    let limits = idle_after(Activity::InputOrOutput);
    let (_, _control, mut agent, mut client) = world.session_within(limits).await;
    let began = Instant::now();

    for number in 0..4 {
        sleep(IDLE - Duration::from_secs(1)).await;
        agent.send(output(number, "bytes")).await;
        client.expect(MessageType::OutputStreamData).await;
    }
    client.expect_closed().await;

    assert_eq!(began.elapsed().as_secs(), 4 * (IDLE.as_secs() - 1) + 30);
}

#[tokio::test(start_paused = true)]
async fn session_ends_at_its_maximum_duration_also_after_a_restart() {
    let world = World::new().await;
    let limits = SessionLimits {
        max_duration: Some(Duration::from_secs(60)),
        ..SessionLimits::default()
    };
    let (id, ..) = world.session_within(limits).await;
    assert_eq!(world.record(&id).await.limits, limits);

    let world = world.restart().await;
    let began = Instant::now();
    let _control = world.control().await;
    let mut agent = world.agent(&id).await;
    agent.expect(MessageType::PausePublication).await;
    let ticket = world.broker.resume_session(&id).await.unwrap().unwrap();
    let mut client = world.client(&ticket).await;
    agent.expect(MessageType::StartPublication).await;

    let text = client.expect_closed().await.output;
    assert!(text.contains("maximum duration of 1 minute and"), "{text}");
    assert!(began.elapsed() <= Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn either_end_can_close_its_session_and_no_other() {
    let world = World::new().await;
    let (id, _control, mut agent, mut client) = world.session().await;
    let other = SessionId::new("bob-1").unwrap();
    client.send(closed(&other, "")).await;
    client.sync().await;
    assert!(world.broker.resume_session(&id).await.unwrap().is_some());

    client.send(closed(&id, "")).await;
    agent.expect_closed().await;
    let farewell = client.expect_closed().await;
    assert_eq!(farewell.output, "The client ended the session.");

    let world = World::new().await;
    let (id, _control, mut agent, mut client) = world.session().await;
    agent.send(closed(&id, "the host is going down")).await;
    let farewell = client.expect_closed().await;
    assert_eq!(farewell.output, "the host is going down");
}

#[tokio::test(start_paused = true)]
async fn agent_can_close_its_sessions_over_the_control_channel() {
    let world = World::new().await;
    let (id, mut control, agent, mut client) = world.session().await;
    drop(agent);

    control.send(closed(&id, "")).await;

    let farewell = client.expect_closed().await;
    assert_eq!(farewell.output, "The agent ended the session.");
}

fn idle_after(activity: Activity) -> SessionLimits {
    SessionLimits {
        idle_timeout: IDLE,
        activity,
        max_duration: None,
    }
}

fn closed(id: &SessionId, output: &str) -> bytes::Bytes {
    let closed = ChannelClosed {
        message_type: MessageType::ChannelClosed.as_str().into(),
        message_id: String::new(),
        destination_id: NODE.into(),
        session_id: id.to_string(),
        schema_version: 1,
        created_date: String::new(),
        output: output.into(),
        exit_code: None,
    };
    let kind = MessageType::ChannelClosed;
    message(kind, 0, uuid::Uuid::new_v4(), closed.encode())
}
