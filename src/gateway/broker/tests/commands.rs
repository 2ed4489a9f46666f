//! Commands between the API and the control channels of nodes.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::super::SendRequest;
use super::stand_in::*;
use crate::gateway::store::commands::{CommandNode, CommandRecord, InvocationStatus};
use crate::protocol::wire::command::{CancelCommand, Report, Status};
use crate::protocol::wire::job::{
    CommandId, Job, JobAck, JobAnswer, JobReply, JobReplyAck, Subject,
};
use crate::protocol::wire::{Message, MessageId, MessageType};

#[tokio::test(start_paused = true)]
async fn command_is_delivered_reported_and_over() {
    let world = World::new().await;
    let mut control = world.control().await;
    let id = send(&world, "content").await;

    let (message, job) = control.expect_job().await;
    assert_eq!(job.job_id, format!("aws.ssm.{id}.{NODE}"));
    assert_eq!(job.topic, "aws.ssm.sendCommand.AWS-RunShellScript");
    assert_eq!(job.content, "content");
    control.answer(&message, &job, JobAnswer::Successful).await;
    until_status(&world, &id, InvocationStatus::InProgress).await;
    control.report(&job, Status::Success).await;

    assert_eq!(status(&world, &id).await, InvocationStatus::Success);
    assert!(world.store.open_commands().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn command_waits_for_its_node_to_connect() {
    let world = World::new().await;
    let id = send(&world, "content").await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(status(&world, &id).await, InvocationStatus::Pending);

    let mut control = world.control().await;

    let (_, job) = control.expect_job().await;
    assert_eq!(job.content, "content");
}

#[tokio::test(start_paused = true)]
async fn job_without_an_answer_is_sent_again_and_at_once_on_a_new_channel() {
    let world = World::new().await;
    let mut control = world.control().await;
    let id = send(&world, "content").await;
    let (message, job) = control.expect_job().await;
    control
        .answer(&message, &job, JobAnswer::ProcessorBufferFull)
        .await;
    let (_, again) = control.expect_job().await;
    assert_eq!(again, job);

    drop(control);
    let mut control = world.control().await;
    let began = Instant::now();
    let (message, again) = control.expect_job().await;

    assert_eq!(again, job);
    assert!(began.elapsed() < Duration::from_secs(1), "{began:?}");
    // It had been delivered, only the answer was lost.
    control
        .answer(&message, &job, JobAnswer::DuplicateCommand)
        .await;
    until_status(&world, &id, InvocationStatus::InProgress).await;
}

#[tokio::test(start_paused = true)]
async fn command_that_reaches_its_node_too_late_is_timed_out() {
    let world = World::new().await;
    let id = send(&world, "content").await;

    until_status(&world, &id, InvocationStatus::DeliveryTimedOut).await;

    let mut control = world.control().await;
    control.sync().await;
    assert_eq!(
        status(&world, &id).await,
        InvocationStatus::DeliveryTimedOut
    );
}

#[tokio::test(start_paused = true)]
async fn command_of_which_nothing_is_heard_again_is_timed_out() {
    let world = World::new().await;
    let mut control = world.control().await;
    let id = send(&world, "content").await;
    let (message, job) = control.expect_job().await;

    control.answer(&message, &job, JobAnswer::Successful).await;
    until_status(&world, &id, InvocationStatus::ExecutionTimedOut).await;

    // A report that comes after all is taken, and changes nothing.
    let mut control = world.control().await;
    control.report(&job, Status::Success).await;
    let ended = status(&world, &id).await;
    assert_eq!(ended, InvocationStatus::ExecutionTimedOut);
}

#[tokio::test(start_paused = true)]
async fn node_that_cannot_do_a_job_fails_it() {
    let world = World::new().await;
    let mut control = world.control().await;
    let id = send(&world, "content").await;
    let (message, job) = control.expect_job().await;

    control
        .answer(&message, &job, JobAnswer::InvalidDocument)
        .await;

    until_status(&world, &id, InvocationStatus::Undeliverable).await;
}

#[tokio::test(start_paused = true)]
async fn running_command_is_cancelled_by_its_node() {
    let world = World::new().await;
    let mut control = world.control().await;
    let id = send(&world, "content").await;
    let (message, job) = control.expect_job().await;
    control.answer(&message, &job, JobAnswer::Successful).await;
    until_status(&world, &id, InvocationStatus::InProgress).await;

    world.broker.cancel_command(&id, None).await.unwrap();
    let (message, cancel) = control.expect_job().await;
    assert_eq!(cancel.subject(), Some(Subject::Cancel));
    assert_ne!(cancel.job_id, job.job_id);
    let content = CancelCommand::decode(&cancel.content).unwrap();
    assert_eq!(content.cancel_message_id, job.job_id);
    // The cancellation is a job of its own: it is answered, and its report is acknowledged.
    control
        .answer(&message, &cancel, JobAnswer::Successful)
        .await;
    control.report(&cancel, Status::InProgress).await;
    assert_eq!(status(&world, &id).await, InvocationStatus::Cancelling);

    control.report(&job, Status::Cancelled).await;
    assert_eq!(status(&world, &id).await, InvocationStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn command_that_was_not_sent_is_cancelled_at_once() {
    let world = World::new().await;
    let id = send(&world, "content").await;

    world.broker.cancel_command(&id, None).await.unwrap();

    until_status(&world, &id, InvocationStatus::Cancelled).await;
    let mut control = world.control().await;
    let other = send(&world, "other").await;
    let (_, job) = control.expect_job().await;
    assert_eq!(job.job_id, other.job_on(NODE));
}

#[tokio::test(start_paused = true)]
async fn reports_of_unknown_and_foreign_jobs_are_acknowledged_and_dropped() {
    let world = World::new().await;
    let mut control = world.control().await;
    let id = send(&world, "content").await;
    let (_, mut job) = control.expect_job().await;

    job.job_id = id.job_on(OTHER_NODE);
    control.report(&job, Status::Success).await;
    for job_id in ["aws.ssm.unknown.mi-0123456789abcdef0", "nonsense"] {
        job.job_id = job_id.into();
        control.report(&job, Status::Success).await;
    }

    assert_eq!(status(&world, &id).await, InvocationStatus::Pending);
}

#[tokio::test(start_paused = true)]
async fn report_twice_is_the_same_as_once() {
    let world = World::new().await;
    let mut control = world.control().await;
    let id = send(&world, "content").await;
    let (_, job) = control.expect_job().await;

    // The report overtakes the answer to the job, and is repeated.
    control.report(&job, Status::Failed).await;
    control.report(&job, Status::Failed).await;
    control.report(&job, Status::InProgress).await;

    assert_eq!(status(&world, &id).await, InvocationStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn commands_go_on_after_a_restart() {
    let world = World::new().await;
    let mut control = world.control().await;
    let first = send(&world, "first").await;
    let (message, job) = control.expect_job().await;
    control.answer(&message, &job, JobAnswer::Successful).await;
    until_status(&world, &first, InvocationStatus::InProgress).await;
    drop(control);
    until(async || !world.broker.is_connected(NODE)).await;
    let second = send(&world, "second").await;

    let world = world.restart().await;
    let mut control = world.control().await;
    // What was delivered is not sent again; what was not is.
    let (_, due) = control.expect_job().await;
    assert_eq!(due.job_id, second.job_on(NODE));
    control.report(&job, Status::Success).await;
    control.report(&due, Status::Success).await;

    for id in [first, second] {
        assert_eq!(status(&world, &id).await, InvocationStatus::Success);
    }
}

impl Peer {
    pub(super) async fn expect_job(&mut self) -> (Message, Job) {
        let message = self.expect(MessageType::AgentJob).await;
        let job = Job::decode(&message.payload).unwrap();
        (message, job)
    }

    pub(super) async fn answer(&mut self, message: &Message, job: &Job, answer: JobAnswer) {
        let ack = JobAck::new(&job.job_id, message.id, message.created_ms, answer);
        self.tell(MessageType::AgentJobAck, ack.encode()).await;
    }

    /// Reports and takes the acknowledgement.
    pub(super) async fn report(&mut self, job: &Job, document_status: Status) {
        let report = Report {
            additional_info: Default::default(),
            document_status,
            document_trace_output: String::new(),
            runtime_status: None,
        };
        let reply = JobReply::new(&job.job_id, report.encode());
        let id = self.tell(MessageType::AgentJobReply, reply.encode()).await;
        let message = self.expect(MessageType::AgentJobReplyAck).await;
        let ack = JobReplyAck::decode(&message.payload).unwrap();
        assert_eq!(ack.job_id, job.job_id);
        assert_eq!(ack.acknowledged_message_id, id.to_string());
    }

    async fn tell(&mut self, message_type: MessageType, payload: Bytes) -> MessageId {
        let id = MessageId::from(Uuid::new_v4());
        let made_ms = 1_700_000_000_000;
        let message = Message::of_control_channel(message_type, id, made_ms, payload);
        self.send(message.encode()).await;
        id
    }
}

/// Sends a command to [`NODE`] that may take 90 seconds to reach it and two minutes to run.
pub(super) async fn send(world: &World, content: &str) -> CommandId {
    let id = CommandId::new(Uuid::new_v4().to_string()).unwrap();
    let requested = SystemTime::now();
    let command = CommandRecord {
        command_id: id.clone(),
        owner: OWNER.into(),
        document_name: "AWS-RunShellScript".into(),
        document_version: String::new(),
        comment: String::new(),
        parameters: "{}".into(),
        node_ids: "[]".into(),
        targets: "[]".into(),
        max_concurrency: "50".into(),
        max_errors: "0".into(),
        s3_bucket: String::new(),
        s3_prefix: String::new(),
        s3_region: String::new(),
        log_group: String::new(),
        log_enabled: false,
        requested,
        expires: requested + Duration::from_secs(90),
        timeout_seconds: 90,
        execution: Duration::from_secs(120),
        content: content.into(),
        cancelled: false,
    };
    let nodes = vec![CommandNode {
        node_id: NODE.into(),
        name: String::new(),
    }];
    let request = SendRequest { command, nodes };
    world.broker.send_command(request).await.unwrap();
    id
}

pub(super) async fn status(world: &World, id: &CommandId) -> InvocationStatus {
    let found = world.store.invocation(id, NODE).await.unwrap();
    found.unwrap().0.status
}

pub(super) async fn until_status(world: &World, id: &CommandId, wanted: InvocationStatus) {
    until(async || status(world, id).await == wanted).await;
}
