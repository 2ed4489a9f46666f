//! An agent's commands, seen from the gateway's end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::agent::audit::AuditLog;
use crate::agent::parameter_store::{Lookup, ParameterStore};
use crate::agent::run_command::{Channels, Services, Settings, Sources, run};
use crate::protocol::wire::command::{CancelCommand, Report, SendCommand, Status};
use crate::protocol::wire::job::{
    CANCEL_TOPIC, CommandId, Job, JobAck, JobAnswer, JobReply, JobReplyAck, SEND_TOPIC,
};
use crate::protocol::wire::session_document::StoredParameter;
use crate::protocol::wire::{Message, MessageId, MessageType};

/// An agent's commands and the gateway's end of them.
pub(super) struct Agent {
    pub(super) settings: Settings,
    pub(super) jobs: mpsc::Sender<Message>,
    pub(super) answers: mpsc::Receiver<Message>,
    pub(super) connections: watch::Sender<bool>,
    /// The message delivery service's end, if it is used.
    pub(super) delivery: Option<Way>,
    /// Says that a command of this host was left.
    pub(super) local: Arc<Notify>,
    pub(super) cancel: CancellationToken,
    /// Its own: what a killed agent had begun to write must be over before another one starts.
    runtime: OwnRuntime,
    pub(super) task: JoinHandle<()>,
    /// Acknowledge replies as they come.
    pub(super) acknowledges: bool,
}

/// The service's end of the older way.
pub(super) struct Way {
    pub(super) jobs: mpsc::Sender<Message>,
    pub(super) answers: mpsc::Receiver<Message>,
    /// Take replies as they come.
    pub(super) acknowledges: bool,
    _connections: watch::Sender<bool>,
}

impl Way {
    fn pair() -> (Self, Channels) {
        let (jobs, taken) = mpsc::channel(256);
        let (answer, answers) = mpsc::channel(256);
        let (connected, connections) = watch::channel(true);
        let channels = Channels {
            jobs: taken,
            answers: answer,
            connections,
        };
        let way = Self {
            jobs,
            answers,
            acknowledges: true,
            _connections: connected,
        };
        (way, channels)
    }
}

pub(super) struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    /// Waits for the work that cannot be aborted.
    pub(super) async fn end(mut self) {
        let runtime = self.0.take();
        let ended = tokio::task::spawn_blocking(move || drop(runtime));
        ended.await.unwrap();
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Agent {
    pub(super) fn start(settings: Settings) -> Self {
        Self::start_with(settings, services(), false)
    }

    /// With the older way, too.
    pub(super) fn start_on_both_ways(settings: Settings) -> Self {
        Self::start_with(settings, services(), true)
    }

    pub(super) fn start_with(settings: Settings, services: Services, with_delivery: bool) -> Self {
        let (jobs, taken) = mpsc::channel(256);
        let (answer, answers) = mpsc::channel(256);
        let (connections, seen) = watch::channel(true);
        let cancel = CancellationToken::new();
        let channels = Channels {
            jobs: taken,
            answers: answer,
            connections: seen,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (delivery, delivered) = if with_delivery {
            let (own, its) = Way::pair();
            (Some(own), Some(its))
        } else {
            (None, None)
        };
        let local = Arc::new(Notify::new());
        let sources = Sources {
            gateway: channels,
            delivery: delivered,
            local: Arc::clone(&local),
        };
        let task = runtime.spawn(run(settings.clone(), sources, services, cancel.clone()));
        Self {
            settings,
            jobs,
            answers,
            connections,
            delivery,
            local,
            cancel,
            runtime: OwnRuntime(Some(runtime)),
            task,
            acknowledges: true,
        }
    }

    /// As if it were killed: nothing more is done by this process.
    pub(super) async fn kill(self) -> Settings {
        self.task.abort();
        let _ = self.task.await;
        self.runtime.end().await;
        self.settings
    }

    pub(super) async fn stop(self) -> Settings {
        self.cancel.cancel();
        self.task.await.unwrap();
        self.runtime.end().await;
        self.settings
    }

    pub(super) async fn send(&self, command: &CommandId, document: Value, parameters: Value) {
        let content = SendCommand {
            parameters: parameters.as_object().unwrap().clone(),
            document_content: document,
            command_id: command.to_string(),
            document_name: "Test".into(),
            output_s3_key_prefix: String::new(),
            output_s3_bucket_name: String::new(),
            cloud_watch_log_group_name: String::new(),
            cloud_watch_output_enabled: "false".into(),
        };
        self.send_job(command, SEND_TOPIC, content.encode()).await;
    }

    pub(super) async fn send_lines(&self, command: &CommandId, lines: &[&str]) {
        self.send(command, script(lines), json!({})).await;
    }

    pub(super) async fn cancel_command(&self, command: &CommandId) {
        let content = CancelCommand {
            cancel_message_id: command.job_on("mi-1"),
        };
        self.send_job(&id(), CANCEL_TOPIC, content.encode()).await;
    }

    pub(super) async fn send_job(&self, command: &CommandId, topic: &str, content: String) {
        let job = Job {
            content,
            job_id: command.job_on("mi-1"),
            topic: topic.into(),
            schema_version: 1,
        };
        self.pass(MessageType::AgentJob, job.encode()).await;
    }

    pub(super) async fn pass(&self, message_type: MessageType, payload: bytes::Bytes) {
        let id = MessageId::from(Uuid::new_v4());
        let message = Message::of_control_channel(message_type, id, 1_700_000_000_000, payload);
        self.jobs.send(message).await.unwrap();
    }

    pub(super) async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(Duration::from_secs(60), self.answers.recv());
        next.await.expect("an answer within a minute").unwrap()
    }

    /// The answer to the next job.
    pub(super) async fn answer(&mut self) -> JobAnswer {
        loop {
            let message = self.next().await;
            if message.message_type == MessageType::AgentJobAck {
                return JobAck::decode(&message.payload).unwrap().answer();
            }
        }
    }

    /// The next reply, with its id.
    pub(super) async fn reply(&mut self) -> (String, String, Report) {
        loop {
            let message = self.next().await;
            if message.message_type != MessageType::AgentJobReply {
                continue;
            }
            let reply = JobReply::decode(&message.payload).unwrap();
            if self.acknowledges {
                let ack = JobReplyAck {
                    job_id: reply.job_id.clone(),
                    acknowledged_message_id: message.id.to_string(),
                };
                self.pass(MessageType::AgentJobReplyAck, ack.encode()).await;
            }
            let report = Report::decode(&reply.content).unwrap();
            return (message.id.to_string(), reply.job_id, report);
        }
    }

    /// The final reply about a command.
    pub(super) async fn ended(&mut self, command: &CommandId) -> Report {
        self.ended_as(command).await.1
    }

    /// The final reply about a command, with its id.
    pub(super) async fn ended_as(&mut self, command: &CommandId) -> (String, Report) {
        loop {
            let (id, job, report) = self.reply().await;
            if job == command.job_on("mi-1") && report.document_status != Status::InProgress {
                return (id, report);
            }
        }
    }

    /// Where the state of a command is that has begun.
    pub(super) fn current(&self, command: &CommandId) -> PathBuf {
        let current = self.settings.directory.join("document/state/current");
        current.join(command.as_str())
    }
}

/// What the agent has of others: Parameter Store alone.
pub(super) fn services() -> Services {
    Services {
        parameters: Some(Arc::new(Store)),
        client: None,
        audit: AuditLog::off(),
    }
}

/// Has every parameter but one.
#[derive(Debug)]
pub(super) struct Store;

impl ParameterStore for Store {
    fn get<'a>(&'a self, names: &'a [String]) -> Lookup<'a> {
        Box::pin(async move {
            let known = names.iter().filter(|name| *name != "missing");
            Ok(known
                .map(|name| StoredParameter {
                    name: name.clone(),
                    kind: "String".into(),
                    value: format!("<{name}>"),
                    ..StoredParameter::default()
                })
                .collect())
        })
    }
}

pub(super) fn id() -> CommandId {
    CommandId::new(Uuid::new_v4().to_string()).unwrap()
}

pub(super) fn script(lines: &[&str]) -> Value {
    steps(&[("only", json!({"runCommand": lines}))])
}

pub(super) fn steps(steps: &[(&str, Value)]) -> Value {
    let steps = steps.iter().map(
        |(name, inputs)| json!({"action": "aws:runShellScript", "name": name, "inputs": inputs}),
    );
    json!({"schemaVersion": "2.2", "mainSteps": steps.collect::<Vec<_>>()})
}

pub(super) fn new_settings() -> (tempfile::TempDir, Settings) {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        reboot: vec!["true".into()],
        ..Settings::new(folder.path().join("mi-1"), "mi-1")
    };
    (folder, settings)
}

/// Waits until it is so.
pub(super) async fn until(is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "it never became so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Files below the folder, but for those of output.
pub(super) fn left(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for place in [
        "document/state/pending",
        "document/state/current",
        "replies_mgs",
        "replies",
    ] {
        for entry in std::fs::read_dir(folder.join(place)).unwrap() {
            found.push(entry.unwrap().path());
        }
    }
    found
}
