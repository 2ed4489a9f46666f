use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;
use crate::aws::tests::server::{Reply, Seen, TestServer};
use crate::protocol::wire::job::{Job, JobAck, JobAnswer, JobReply, JobReplyAck};
use crate::protocol::wire::{Message, MessageId, MessageType};

const SOON: Duration = Duration::from_secs(20);
const JOB: &str = "aws.ssm.c-1.mi-1";

#[tokio::test]
async fn message_becomes_a_job_and_is_acknowledged_after_its_first_reply() {
    let mut world = World::start(&[mail(JOB, "aws.ssm.sendCommand.X", "content")]).await;

    let message = world.next().await;
    let job = Job::decode(&message.payload).unwrap();
    assert_eq!(message.message_type, MessageType::AgentJob);
    assert_eq!(message.created_ms, 1_729_027_325_123);
    assert_eq!(
        (job.job_id.as_str(), job.content.as_str()),
        (JOB, "content")
    );
    let poll = world.calls("GetMessages").remove(0);
    assert_eq!(poll["Destination"], "mi-1");
    assert_eq!(poll["VisibilityTimeoutInSeconds"], 10);
    world.answer(&message, JobAnswer::Successful).await;
    world.until("AcknowledgeMessage", 1).await;

    let told = world.told();
    assert_eq!(told, ["SendReply", "AcknowledgeMessage"]);
    let first = world.calls("SendReply").remove(0);
    let content: Value = serde_json::from_str(first["Payload"].as_str().unwrap()).unwrap();
    assert_eq!(content["documentStatus"], "InProgress");
    assert_eq!(content["additionalInfo"]["ableToOpenMGSConnection"], false);
}

#[tokio::test]
async fn known_message_is_acknowledged_again_and_refused_ones_are_not() {
    let mut world = World::start(&[mail(JOB, "aws.ssm.sendCommand", "content")]).await;
    let message = world.next().await;

    for refusal in [
        JobAnswer::ProcessorBufferFull,
        JobAnswer::InvalidDocument,
        JobAnswer::ParseError,
    ] {
        world.answer(&message, refusal).await;
    }
    world.answer(&message, JobAnswer::DuplicateCommand).await;
    world.until("AcknowledgeMessage", 1).await;

    assert_eq!(world.told(), ["AcknowledgeMessage"]);
}

#[tokio::test]
async fn reply_is_confirmed_once_the_service_has_it() {
    let mut world = World::start(&[]).await;
    let id = MessageId::from(Uuid::new_v4());
    let reply = JobReply::new(JOB, "{\"a\":1}".into());
    let reply = Message::of_control_channel(MessageType::AgentJobReply, id, 1, reply.encode());

    world.channels.answers.send(reply).await.unwrap();

    let message = world.next().await;
    assert_eq!(message.message_type, MessageType::AgentJobReplyAck);
    let ack = JobReplyAck::decode(&message.payload).unwrap();
    assert_eq!(ack.acknowledged_message_id, id.to_string());
    let sent = world.calls("SendReply").remove(0);
    assert_eq!(
        sent,
        json!({"MessageId": JOB, "Payload": "{\"a\":1}", "ReplyId": id.to_string()})
    );
}

#[tokio::test]
async fn messages_that_nobody_understands_are_failed_and_incomplete_ones_ignored() {
    let other = mail("aws.ssm.c-2.mi-1", "aws.ssm.novelty", "{}");
    let cancel = mail("aws.ssm.c-3.mi-1", "aws.ssm.cancelCommand", "{}");
    let mut undated = mail("aws.ssm.c-4.mi-1", "aws.ssm.sendCommand", "{}");
    undated["CreatedDate"] = Value::Null;
    let fine = mail(
        "aws.ssm.c-5.mi-1",
        "aws.ssm.cancelCommand",
        r#"{"CancelMessageId":"aws.ssm.c-1.mi-1"}"#,
    );
    let mut world = World::start(&[other, cancel, undated, fine]).await;

    let message = world.next().await;

    let job = Job::decode(&message.payload).unwrap();
    assert_eq!(job.job_id, "aws.ssm.c-5.mi-1");
    let failed: Vec<Value> = world.calls("FailMessage");
    assert_eq!(
        failed,
        ["aws.ssm.c-2.mi-1", "aws.ssm.c-3.mi-1"]
            .map(|id| json!({"MessageId": id, "FailureType": "InternalHandlerException"}))
    );
}

#[tokio::test]
async fn nothing_is_polled_while_that_is_not_wanted() {
    let mut world = World::start(&[mail(JOB, "aws.ssm.sendCommand", "content")]).await;
    world.next().await;
    world.until("GetMessages", 3).await;
    world.polling.send_replace(false);
    // The poll that is under way comes to its end.
    tokio::time::sleep(20 * PAUSE_HERE).await;
    let polls = world.calls("GetMessages").len();

    // What was taken before is still told.
    let reply = JobReply::new(JOB, "{}".into()).encode();
    let id = MessageId::from(Uuid::new_v4());
    let reply = Message::of_control_channel(MessageType::AgentJobReply, id, 1, reply);
    world.channels.answers.send(reply).await.unwrap();
    world.next().await;
    tokio::time::sleep(20 * PAUSE_HERE).await;
    assert_eq!(world.calls("GetMessages").len(), polls);

    world.polling.send_replace(true);
    world.until("GetMessages", polls + 1).await;
}

#[tokio::test]
async fn service_that_refuses_is_asked_at_growing_distances() {
    let server = TestServer::start(|_, _| Reply::refusal("AccessDeniedException")).await;
    let world = World::at(server);
    world.until("GetMessages", 2).await;
    let first = std::time::Instant::now();

    world.until("GetMessages", 3).await;

    // The second wait is one to two seconds.
    assert!(first.elapsed() >= Duration::from_millis(900), "{first:?}");
}

/// So that tests need not wait.
const PAUSE_HERE: Duration = Duration::from_millis(10);

/// A service that gives its messages to the first poll and nothing to the others.
struct World {
    channels: Channels,
    polling: watch::Sender<bool>,
    server: TestServer,
    task: JoinHandle<()>,
    _gateway: watch::Sender<bool>,
}

impl World {
    async fn start(messages: &[Value]) -> Self {
        let first = json!({"Destination": "mi-1", "Messages": messages}).to_string();
        let is_given = Mutex::new(false);
        let server = TestServer::start(move |_, seen| {
            if operation(seen) != "GetMessages" {
                return Reply::json("{}");
            }
            let was_given = std::mem::replace(&mut *is_given.lock().unwrap(), true);
            Reply::json(if was_given { "{}" } else { &first })
        })
        .await;
        Self::at(server)
    }

    fn at(server: TestServer) -> Self {
        let (polling, polling_seen) = watch::channel(true);
        let (gateway, gateway_seen) = watch::channel(false);
        let settings = DeliverySettings {
            node_id: "mi-1".into(),
            timeout: SOON,
            calls: 2,
        };
        let watches = DeliveryWatches {
            polling: polling_seen,
            gateway: gateway_seen,
        };
        let cancel = CancellationToken::new();
        let (channels, task) = open_with(settings, server.client(), watches, PAUSE_HERE, cancel);
        Self {
            channels,
            polling,
            server,
            task: tokio::spawn(task),
            _gateway: gateway,
        }
    }

    async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(SOON, self.channels.jobs.recv());
        next.await.expect("a message in time").unwrap()
    }

    async fn answer(&self, message: &Message, answer: JobAnswer) {
        let ack = JobAck::new(JOB, message.id, message.created_ms, answer);
        let id = MessageId::from(Uuid::new_v4());
        let ack = Message::of_control_channel(MessageType::AgentJobAck, id, 1, ack.encode());
        self.channels.answers.send(ack).await.unwrap();
    }

    /// The requests of an operation.
    fn calls(&self, wanted: &str) -> Vec<Value> {
        let seen = self.server.seen();
        let calls = seen.iter().filter(|seen| operation(seen) == wanted);
        calls.map(Seen::json).collect()
    }

    /// The operations that were not polls.
    fn told(&self) -> Vec<String> {
        let seen = self.server.seen();
        let operations = seen.iter().map(|seen| operation(seen).to_owned());
        operations.filter(|name| name != "GetMessages").collect()
    }

    async fn until(&self, wanted: &str, count: usize) {
        let reached = async {
            while self.calls(wanted).len() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, reached).await.expect(wanted);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn operation(seen: &Seen) -> &str {
    assert!(
        seen.header("authorization")
            .contains("/ec2messages/aws4_request")
    );
    let target = seen.header("x-amz-target");
    target
        .strip_prefix("EC2WindowsMessageDeliveryService.")
        .unwrap_or(target)
}

fn mail(id: &str, topic: &str, payload: &str) -> Value {
    json!({"CreatedDate": "2024-10-15T21:22:05.123Z", "Destination": "mi-1", "MessageId": id,
        "Payload": payload, "Topic": topic})
}
