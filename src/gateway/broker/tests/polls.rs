//! Commands for nodes that poll for them.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::super::DeliveryError;
use super::commands::{send, status, until_status};
use super::stand_in::*;
use crate::gateway::store::commands::InvocationStatus;
use crate::protocol::wire::command::{CancelCommand, Report, Status};
use crate::protocol::wire::job::{Job, JobAnswer, Subject};

const VISIBILITY: Duration = Duration::from_secs(10);
const HOLD: Duration = Duration::from_secs(9);

#[tokio::test(start_paused = true)]
async fn command_comes_with_a_poll_and_ends_with_a_reply() {
    let world = World::new().await;
    let (jobs, id) = tokio::join!(poll(&world), async {
        sleep(Duration::from_secs(1)).await;
        send(&world, "content").await
    });
    let job = &jobs[0];
    assert_eq!(job.job_id, id.job_on(NODE));
    assert_eq!(
        (job.topic.as_str(), job.content.as_str()),
        ("aws.ssm.sendCommand.AWS-RunShellScript", "content")
    );

    reply(&world, job, Status::InProgress).await;
    world
        .broker
        .acknowledge_message(NODE, &job.job_id)
        .await
        .unwrap();
    until_status(&world, &id, InvocationStatus::InProgress).await;
    reply(&world, job, Status::Success).await;

    assert_eq!(status(&world, &id).await, InvocationStatus::Success);
    assert!(world.store.open_commands().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn command_that_was_sent_before_comes_with_the_first_poll() {
    let world = World::new().await;
    let id = send(&world, "content").await;
    sleep(Duration::from_secs(60)).await;
    let began = Instant::now();

    let jobs = poll(&world).await;

    assert_eq!(jobs[0].job_id, id.job_on(NODE));
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn poll_without_a_command_is_held_and_brings_nothing() {
    let world = World::new().await;
    let began = Instant::now();

    assert_eq!(poll(&world).await, []);

    assert!(began.elapsed() >= HOLD);
}

#[tokio::test(start_paused = true)]
async fn message_without_an_acknowledgement_comes_again_once_it_is_visible() {
    let world = World::new().await;
    let id = send(&world, "content").await;
    let first = poll(&world).await;
    let began = Instant::now();

    let again = loop {
        let jobs = poll(&world).await;
        if !jobs.is_empty() {
            break jobs;
        }
    };

    assert_eq!(first, again);
    assert!(began.elapsed() >= VISIBILITY, "{:?}", began.elapsed());
    world
        .broker
        .acknowledge_message(NODE, &again[0].job_id)
        .await
        .unwrap();
    until_status(&world, &id, InvocationStatus::InProgress).await;
    for _ in 0..6 {
        assert_eq!(poll(&world).await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn node_with_a_control_channel_gets_its_commands_there_alone() {
    let world = World::new().await;
    let mut control = world.control().await;

    let (jobs, job) = tokio::join!(poll(&world), async {
        send(&world, "content").await;
        control.expect_job().await.1
    });

    assert_eq!(jobs, []);
    assert_eq!(job.content, "content");
}

#[tokio::test(start_paused = true)]
async fn node_that_loses_its_control_channel_amid_a_poll_gets_them_there() {
    let world = World::new().await;
    let mut control = world.control().await;
    let id = send(&world, "content").await;
    let (_, sent) = control.expect_job().await;

    let (jobs, ()) = tokio::join!(poll(&world), async {
        sleep(Duration::from_millis(100)).await;
        drop(control);
    });

    // It was not answered there.
    assert_eq!(jobs, [sent]);
    assert_eq!(jobs[0].job_id, id.job_on(NODE));
}

#[tokio::test(start_paused = true)]
async fn message_that_a_poll_has_is_not_sent_over_a_new_control_channel_too() {
    let world = World::new().await;
    let id = send(&world, "content").await;
    let jobs = poll(&world).await;

    let mut control = world.control().await;
    let early = timeout(VISIBILITY / 2, control.expect_job()).await;
    assert!(early.is_err(), "the poll has it");
    world
        .broker
        .acknowledge_message(NODE, &jobs[0].job_id)
        .await
        .unwrap();
    until_status(&world, &id, InvocationStatus::InProgress).await;
    let late = timeout(10 * VISIBILITY, control.expect_job()).await;

    assert!(late.is_err(), "it was answered");
}

#[tokio::test(start_paused = true)]
async fn message_that_a_poll_lost_comes_over_the_control_channel() {
    let world = World::new().await;
    send(&world, "content").await;
    let lost = poll(&world).await;

    let mut control = world.control().await;
    let (message, job) = control.expect_job().await;

    assert_eq!(job, lost[0]);
    control.answer(&message, &job, JobAnswer::Successful).await;
}

#[tokio::test(start_paused = true)]
async fn cancellation_comes_with_a_poll() {
    let world = World::new().await;
    let id = send(&world, "content").await;
    let job = poll(&world).await.remove(0);
    world
        .broker
        .acknowledge_message(NODE, &job.job_id)
        .await
        .unwrap();
    until_status(&world, &id, InvocationStatus::InProgress).await;

    world.broker.cancel_command(&id, None).await.unwrap();
    let cancel = poll(&world).await.remove(0);

    assert_eq!(cancel.subject(), Some(Subject::Cancel));
    let content = CancelCommand::decode(&cancel.content).unwrap();
    assert_eq!(content.cancel_message_id, job.job_id);
    world
        .broker
        .acknowledge_message(NODE, &cancel.job_id)
        .await
        .unwrap();
    reply(&world, &job, Status::Cancelled).await;
    assert_eq!(status(&world, &id).await, InvocationStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn command_that_expired_does_not_come_with_a_later_poll() {
    let world = World::new().await;
    poll(&world).await;
    let id = send(&world, "content").await;
    world.broker.cancel_command(&id, None).await.unwrap();
    assert_eq!(status(&world, &id).await, InvocationStatus::Cancelling);

    // Its cancellation was posted behind it; both would come.
    let jobs = poll(&world).await;
    assert_eq!(jobs.len(), 2, "{jobs:?}");

    let late = send(&world, "content").await;
    until_status(&world, &late, InvocationStatus::DeliveryTimedOut).await;
    until_status(&world, &id, InvocationStatus::Cancelled).await;
    assert_eq!(poll(&world).await, []);
}

#[tokio::test(start_paused = true)]
async fn failed_message_fails_its_command_and_others_ones_are_refused() {
    let world = World::new().await;
    let id = send(&world, "content").await;
    let job = poll(&world).await.remove(0);

    for foreign in [id.job_on(OTHER_NODE), "nonsense".to_owned(), String::new()] {
        let refused = world.broker.fail_message(NODE, &foreign).await;
        assert!(matches!(refused, Err(DeliveryError::NotYours(_))));
        let refused = world.broker.take_reply(NODE, &foreign, "{}").await;
        assert!(matches!(refused, Err(DeliveryError::NotYours(_))));
    }
    world.broker.fail_message(NODE, &job.job_id).await.unwrap();

    until_status(&world, &id, InvocationStatus::Undeliverable).await;
}

async fn poll(world: &World) -> Vec<Job> {
    world.broker.poll_jobs(NODE, VISIBILITY, HOLD).await
}

async fn reply(world: &World, job: &Job, document_status: Status) {
    let report = Report {
        additional_info: Default::default(),
        document_status,
        document_trace_output: String::new(),
        runtime_status: None,
    };
    world
        .broker
        .take_reply(NODE, &job.job_id, &report.encode())
        .await
        .unwrap();
}
