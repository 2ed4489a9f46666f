//! Commands between the API and the control channels of nodes.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
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
    assert_eq!(status(&world, &id).await, InvocationStatus::Cancelling);
    let (message, cancel) = control.expect_cancel(&job).await;
    assert_ne!(cancel.job_id, job.job_id);
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

    assert_eq!(status(&world, &id).await, InvocationStatus::Cancelled);
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

#[tokio::test(start_paused = true)]
async fn node_is_told_of_a_cancellation_until_it_reports() {
    let world = World::new().await;
    let mut control = world.control().await;
    let id = send(&world, "content").await;
    let (message, job) = control.expect_job().await;
    control.answer(&message, &job, JobAnswer::Successful).await;
    until_status(&world, &id, InvocationStatus::InProgress).await;

    world.broker.cancel_command(&id, None).await.unwrap();
    let (_, first) = control.expect_cancel(&job).await;
    let (_, second) = control.expect_cancel(&job).await;

    assert_ne!(first.job_id, second.job_id, "an agent may know the first");
    control.report(&job, Status::Cancelled).await;
    assert_eq!(status(&world, &id).await, InvocationStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn cancellation_on_one_node_outlives_the_gateway() {
    let world = World::new().await;
    let mut control = world.control().await;
    let id = send_to(&world, &[NODE, OTHER_NODE], "50", "0").await;
    let (message, job) = control.expect_job().await;
    control.answer(&message, &job, JobAnswer::Successful).await;
    until_status(&world, &id, InvocationStatus::InProgress).await;

    let nodes = Some(vec![NODE.to_owned()]);
    world.broker.cancel_command(&id, nodes).await.unwrap();
    let world = world.restart().await;

    let mut control = world.control().await;
    control.expect_cancel(&job).await;
    let other = status_on(&world, &id, OTHER_NODE).await;
    assert_eq!(other, InvocationStatus::Pending);
}

#[tokio::test(start_paused = true)]
async fn cancellation_that_the_gateway_had_no_time_for_is_made_up_for() {
    let world = World::new().await;
    let mut control = world.control().await;
    let id = send_to(&world, &[NODE, OTHER_NODE], "50", "0").await;
    let (message, job) = control.expect_job().await;
    control.answer(&message, &job, JobAnswer::Successful).await;
    until_status(&world, &id, InvocationStatus::InProgress).await;

    // It is killed between this and the rest of a cancellation.
    world.store.note_cancelled(&id).await.unwrap();
    let world = world.restart().await;

    until(async || status_on(&world, &id, OTHER_NODE).await == InvocationStatus::Cancelled).await;
    assert_eq!(status(&world, &id).await, InvocationStatus::Cancelling);
    let mut other = world.control_of(OTHER_NODE).await;
    other.sync().await;
    let mut control = world.control().await;
    control.expect_cancel(&job).await;
    control.report(&job, Status::Cancelled).await;
    assert_eq!(status(&world, &id).await, InvocationStatus::Cancelled);
    let nothing = timeout(Duration::from_secs(60), other.expect_job()).await;
    assert!(nothing.is_err(), "it was cancelled before it was sent");
}

#[tokio::test(start_paused = true)]
async fn too_many_errors_keep_a_command_from_the_other_nodes() {
    let world = World::new().await;
    let (mut control, mut other) = (world.control().await, world.control_of(OTHER_NODE).await);
    let id = send_to(&world, &[NODE, OTHER_NODE], "1", "0").await;
    let (_, job) = control.expect_job().await;

    control.report(&job, Status::Failed).await;

    let terminated = InvocationStatus::Terminated;
    until(async || status_on(&world, &id, OTHER_NODE).await == terminated).await;
    assert_eq!(status(&world, &id).await, InvocationStatus::Failed);
    let nothing = timeout(Duration::from_secs(60), other.expect_job()).await;
    assert!(nothing.is_err(), "it was terminated");
}

#[tokio::test(start_paused = true)]
async fn errors_that_are_allowed_let_a_command_go_on() {
    let world = World::new().await;
    let (mut control, mut other) = (world.control().await, world.control_of(OTHER_NODE).await);
    let id = send_to(&world, &[NODE, OTHER_NODE], "1", "1").await;
    let (_, job) = control.expect_job().await;
    let early = timeout(Duration::from_secs(1), other.expect_job()).await;
    assert!(early.is_err(), "one at a time");

    control.report(&job, Status::Failed).await;

    let (_, job) = other.expect_job().await;
    assert_eq!(job.job_id, id.job_on(OTHER_NODE));
}

#[tokio::test(start_paused = true)]
async fn errors_from_before_a_restart_count() {
    let world = World::new().await;
    let id = send_to(&world, &[NODE, OTHER_NODE], "1", "0").await;
    // The gateway is killed between a report and what follows from it.
    let failed = report(Status::Failed);
    world.store.apply_report(&id, NODE, failed).await.unwrap();

    let world = world.restart().await;

    let terminated = InvocationStatus::Terminated;
    until(async || status_on(&world, &id, OTHER_NODE).await == terminated).await;
    let mut other = world.control_of(OTHER_NODE).await;
    let nothing = timeout(Duration::from_secs(60), other.expect_job()).await;
    assert!(nothing.is_err(), "it was terminated");
}

impl Peer {
    /// The next job, which cancels this one.
    async fn expect_cancel(&mut self, job: &Job) -> (Message, Job) {
        let (message, cancel) = self.expect_job().await;
        assert_eq!(cancel.subject(), Some(Subject::Cancel));
        let content = CancelCommand::decode(&cancel.content).unwrap();
        assert_eq!(content.cancel_message_id, job.job_id);
        (message, cancel)
    }

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
        let report = report(document_status).encode();
        let reply = JobReply::new(&job.job_id, report);
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

fn report(document_status: Status) -> Report {
    Report {
        additional_info: Default::default(),
        document_status,
        document_trace_output: String::new(),
        runtime_status: None,
    }
}

/// Sends a command to [`NODE`].
pub(super) async fn send(world: &World, content: &str) -> CommandId {
    let mut command = command();
    command.content = content.into();
    send_command(world, command, &[NODE]).await
}

/// Sends a command to these nodes, within these limits.
async fn send_to(
    world: &World,
    nodes: &[&str],
    max_concurrency: &str,
    max_errors: &str,
) -> CommandId {
    let mut command = command();
    command.max_concurrency = max_concurrency.into();
    command.max_errors = max_errors.into();
    send_command(world, command, nodes).await
}

async fn send_command(world: &World, command: CommandRecord, nodes: &[&str]) -> CommandId {
    let id = command.command_id.clone();
    let nodes = nodes.iter().map(|node| CommandNode {
        node_id: (*node).to_owned(),
        name: String::new(),
    });
    let nodes = nodes.collect();
    let request = SendRequest { command, nodes };
    world.broker.send_command(request).await.unwrap();
    id
}

/// A command that may take 90 seconds to reach its nodes and two minutes to run.
fn command() -> CommandRecord {
    let requested = SystemTime::now();
    CommandRecord {
        command_id: CommandId::new(Uuid::new_v4().to_string()).unwrap(),
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
        content: "content".into(),
        cancelled: false,
    }
}

pub(super) async fn status(world: &World, id: &CommandId) -> InvocationStatus {
    status_on(world, id, NODE).await
}

async fn status_on(world: &World, id: &CommandId, node: &str) -> InvocationStatus {
    let found = world.store.invocation(id, node).await.unwrap();
    found.unwrap().0.status
}

pub(super) async fn until_status(world: &World, id: &CommandId, wanted: InvocationStatus) {
    until(async || status(world, id).await == wanted).await;
}
