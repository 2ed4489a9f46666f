//! Commands that come by other ways than the control channel.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::agent::{Agent, Way, id, new_settings, script};
use crate::agent::run_command::Settings;
use crate::protocol::wire::command::{CancelCommand, Report, SendCommand, Status};
use crate::protocol::wire::job::{
    CANCEL_TOPIC, CommandId, Job, JobAck, JobAnswer, JobReply, JobReplyAck, SEND_TOPIC,
};
use crate::protocol::wire::{Message, MessageId, MessageType};

#[tokio::test]
async fn what_is_told_of_a_command_goes_back_by_the_way_it_came() {
    let (_folder, settings) = new_settings();
    let mut agent = Agent::start_on_both_ways(settings);
    let (polled, sent) = (id(), id());

    agent.way().send_lines(&polled, &["echo polled"]).await;
    agent.send_lines(&sent, &["echo sent"]).await;

    let report = agent.way().ended(&polled).await;
    assert_eq!(
        report.runtime_status.unwrap()["only"].standard_output,
        "polled\n"
    );
    assert_eq!(
        report.additional_info.able_to_open_mgs_connection,
        Some(true)
    );
    let report = agent.ended(&sent).await;
    assert_eq!(
        report.runtime_status.unwrap()["only"].standard_output,
        "sent\n"
    );
    assert_eq!(report.additional_info.able_to_open_mgs_connection, None);
    assert!(
        agent.answers.try_recv().is_err(),
        "nothing more is said there"
    );
}

#[tokio::test]
async fn command_that_comes_by_both_ways_runs_once() {
    let (folder, settings) = new_settings();
    let mut agent = Agent::start_on_both_ways(settings);
    let proof = folder.path().join("proof");
    let line = format!("echo x >> {}", proof.display());
    let command = id();

    agent.way().send_lines(&command, &[&line]).await;
    assert_eq!(agent.way().answer().await, JobAnswer::Successful);
    agent.send_lines(&command, &[&line]).await;
    assert_eq!(agent.answer().await, JobAnswer::DuplicateCommand);
    agent.way().ended(&command).await;
    agent.way().send_lines(&command, &[&line]).await;
    assert_eq!(agent.way().answer().await, JobAnswer::DuplicateCommand);

    assert_eq!(fs::read_to_string(proof).unwrap(), "x\n");
}

#[tokio::test]
async fn reply_that_was_not_taken_is_sent_by_the_next_agent_the_same_way() {
    let (_folder, settings) = new_settings();
    let mut agent = Agent::start_on_both_ways(settings);
    agent.way().acknowledges = false;
    let command = id();
    agent.way().send_lines(&command, &["true"]).await;
    let first = agent.way().ended_as(&command).await.0;

    let settings = agent.stop().await;
    let mut agent = Agent::start_on_both_ways(settings);
    let (again, report) = agent.way().ended_as(&command).await;

    assert_eq!((again, report.document_status), (first, Status::Success));
    assert!(agent.answers.try_recv().is_err());
}

#[tokio::test]
async fn polled_command_is_cancelled_by_a_polled_message() {
    let (_folder, settings) = new_settings();
    let mut agent = Agent::start_on_both_ways(settings);
    let command = id();
    agent.way().send_lines(&command, &["sleep 60"]).await;
    agent.way().answer().await;

    let cancel = CancelCommand {
        cancel_message_id: command.job_on("mi-1"),
    };
    agent
        .way()
        .send_job(&id(), CANCEL_TOPIC, cancel.encode())
        .await;

    let report = agent.way().ended(&command).await;
    assert_eq!(report.document_status, Status::Cancelled);
}

#[tokio::test]
async fn refused_command_is_refused_once() {
    let (_folder, settings) = new_settings();
    let mut agent = Agent::start_on_both_ways(settings);
    let command = id();
    let document = json!({"schemaVersion": "9"});

    agent.way().send(&command, document.clone()).await;
    assert_eq!(agent.way().answer().await, JobAnswer::ParseError);
    assert_eq!(
        agent.way().ended(&command).await.document_status,
        Status::Failed
    );
    agent.way().send(&command, document).await;

    assert_eq!(agent.way().answer().await, JobAnswer::DuplicateCommand);
}

#[tokio::test]
async fn polled_command_of_the_day_before_yesterday_is_not_begun() {
    let (_folder, settings) = new_settings();
    let settings = Settings {
        workers: 1,
        ..settings
    };
    let mut agent = Agent::start_on_both_ways(settings);
    let (running, waiting) = (id(), id());
    for command in [&running, &waiting] {
        agent.way().send_lines(command, &["sleep 0.2"]).await;
        agent.way().answer().await;
    }
    let settings = agent.kill().await;
    let pending = settings
        .directory
        .join("document/state/pending")
        .join(waiting.as_str());
    let mut state: Value = serde_json::from_slice(&fs::read(&pending).unwrap()).unwrap();
    state["DocumentInformation"]["CreatedDate"] = "2020-01-01T00:00:00.000Z".into();
    fs::write(&pending, state.to_string()).unwrap();

    let mut agent = Agent::start_on_both_ways(settings);
    let report = agent.way().ended(&waiting).await;

    assert_eq!(report.document_status, Status::Failed);
    assert!(
        report.document_trace_output.contains("48 hours"),
        "{report:?}"
    );
}

#[tokio::test]
async fn command_that_was_left_here_runs_and_its_result_is_here() {
    let (folder, settings) = new_settings();
    let places = folder.path().join("localcommands");
    fs::create_dir(&places).unwrap();
    leave(&places, "early", &script(&["echo early"]));
    let mut agent = Agent::start(settings);
    let early = result(&places, "early").await;

    leave(&places, "late", &script(&["echo late", "exit 3"]));
    agent.local.notify_one();
    let late = result(&places, "late").await;

    assert_eq!(early.document_status, Status::Success);
    assert_eq!(late.document_status, Status::Failed);
    let step = &late.runtime_status.unwrap()["only"];
    assert_eq!((step.standard_output.as_str(), step.code), ("late\n", 3));
    assert!(
        agent.answers.try_recv().is_err(),
        "the service does not hear of it"
    );
    let left: Vec<_> = fs::read_dir(&places)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[tokio::test]
async fn what_was_left_here_and_cannot_be_run_is_put_aside() {
    let (folder, settings) = new_settings();
    let places = folder.path().join("localcommands");
    fs::create_dir(&places).unwrap();
    for (name, content) in [
        ("a", json!({"schemaVersion": "9"})),
        ("b", json!("text")),
        ("c", json!({"schemaVersion": "2.2", "mainSteps": []})),
    ] {
        leave(&places, name, &content);
    }
    fs::write(places.join("d"), "no JSON").unwrap();

    let agent = Agent::start(settings);

    for name in ["a", "b", "c", "d"] {
        put(&places.join("invalid"), name).await;
    }
    agent.stop().await;
}

/// Wherever the agent dies, what was left here runs once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_that_dies_at_any_moment_runs_what_was_left_here_once() {
    let mut moments = tokio::task::JoinSet::new();
    for step in 0..24 {
        moments.spawn(die_after(Duration::from_micros(step * 1500)));
    }
    while let Some(moment) = moments.join_next().await {
        moment.unwrap();
    }
}

async fn die_after(delay: Duration) {
    let (folder, settings) = new_settings();
    let places = folder.path().join("localcommands");
    fs::create_dir(&places).unwrap();
    let proof = folder.path().join("proof");
    let line = format!("echo x >> {}; sleep 0.01", proof.display());
    leave(&places, "one", &script(&[&line]));
    let agent = Agent::start(settings);
    tokio::time::sleep(delay).await;
    let settings = agent.kill().await;

    let agent = Agent::start(settings);
    let report = result(&places, "one").await;
    agent.stop().await;

    assert_eq!(report.document_status, Status::Success, "after {delay:?}");
    assert_eq!(
        fs::read_to_string(&proof).unwrap(),
        "x\n",
        "after {delay:?}"
    );
    assert_eq!(fs::read_dir(places.join("submitted")).unwrap().count(), 1);
}

fn leave(folder: &Path, name: &str, document: &Value) {
    let text = document.to_string();
    crate::runtime::atomic_file::write(&folder.join(name), text.as_bytes(), 0o600).unwrap();
}

/// The command that the file became, once it is in `folder`.
async fn put(folder: &Path, name: &str) -> String {
    loop {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let found =
            names.find_map(|file| Some(file.strip_prefix(name)?.strip_prefix('.')?.to_owned()));
        match found {
            Some(command) => return command,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn result(folder: &Path, name: &str) -> Report {
    let command = put(&folder.join("submitted"), name).await;
    let completed = folder.join("completed").join(command);
    loop {
        if let Ok(text) = fs::read_to_string(&completed) {
            return Report::decode(&text).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Agent {
    fn way(&mut self) -> &mut Way {
        self.delivery.as_mut().unwrap()
    }
}

impl Way {
    async fn send_lines(&self, command: &CommandId, lines: &[&str]) {
        self.send(command, script(lines)).await;
    }

    async fn send(&self, command: &CommandId, document: Value) {
        let content = SendCommand {
            parameters: serde_json::Map::new(),
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

    async fn send_job(&self, command: &CommandId, topic: &str, content: String) {
        let job = Job {
            content,
            job_id: command.job_on("mi-1"),
            topic: topic.into(),
            schema_version: 1,
        };
        self.pass(MessageType::AgentJob, job.encode()).await;
    }

    async fn pass(&self, message_type: MessageType, payload: bytes::Bytes) {
        let id = MessageId::from(Uuid::new_v4());
        let now_ms = crate::runtime::clock::unix_ms();
        let message = Message::of_control_channel(message_type, id, now_ms, payload);
        self.jobs.send(message).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(Duration::from_secs(60), self.answers.recv());
        next.await.expect("an answer within a minute").unwrap()
    }

    async fn answer(&mut self) -> JobAnswer {
        loop {
            let message = self.next().await;
            if message.message_type == MessageType::AgentJobAck {
                return JobAck::decode(&message.payload).unwrap().answer();
            }
        }
    }

    async fn ended(&mut self, command: &CommandId) -> Report {
        self.ended_as(command).await.1
    }

    /// The final reply about a command, with its id.
    async fn ended_as(&mut self, command: &CommandId) -> (String, Report) {
        loop {
            let message = self.next().await;
            if message.message_type != MessageType::AgentJobReply {
                continue;
            }
            let reply = JobReply::decode(&message.payload).unwrap();
            let id = message.id.to_string();
            if self.acknowledges {
                let ack = JobReplyAck {
                    job_id: reply.job_id.clone(),
                    acknowledged_message_id: id.clone(),
                };
                self.pass(MessageType::AgentJobReplyAck, ack.encode()).await;
            }
            let report = Report::decode(&reply.content).unwrap();
            if reply.job_id == command.job_on("mi-1")
                && report.document_status != Status::InProgress
            {
                return (id, report);
            }
        }
    }
}
