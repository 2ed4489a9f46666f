//! Commands that the reference agent began.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::{Value, json};

use super::agent::{Agent, id, left, new_settings, until};
use crate::agent::run_command::Settings;
use crate::agent::run_command::state::tests::REFERENCE;
use crate::protocol::wire::command::{Report, Status, StepReport};
use crate::protocol::wire::job::CommandId;

#[tokio::test]
async fn steps_that_are_over_are_not_run_again_and_the_next_one_follows() {
    let world = World::new();
    world.leave(&[("one", "Failed"), ("two", "")]);
    let mut agent = Agent::start(world.settings());

    let (told, report) = world.ended(&mut agent).await;

    assert_eq!(report.document_status, Status::Failed);
    assert_eq!(told["one"].status, Status::Failed);
    assert_eq!(told["one"].standard_output, "of the reference");
    assert_eq!(told["two"].status, Status::Success);
    assert_eq!(world.runs(), "two\n");
    // One reply tells of the end.
    until(|| left(&agent.settings.directory).is_empty()).await;
    let mut agent = Agent::start(agent.stop().await);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(agent.answers.try_recv().is_err(), "nothing more is told");
    assert!(left(&agent.stop().await.directory).is_empty());
}

#[tokio::test]
async fn worker_that_lives_is_waited_for_and_its_steps_are_never_run_again() {
    let world = World::new();
    world.leave(&[("one", ""), ("two", ""), ("three", "")]);
    world.tell(0, "reply", &[("one", "Success")]);
    let gate = world.folder.path().join("gate");
    let wait = format!("while [ ! -e {} ]; do sleep 0.02; done", gate.display());
    let mut worker = world.worker(&wait);
    let mut agent = Agent::start(world.settings());
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(agent.answers.try_recv().is_err(), "it is waited for");

    fs::write(gate, "").unwrap();
    worker.wait().unwrap();
    let (told, report) = world.ended(&mut agent).await;

    assert_eq!(report.document_status, Status::Failed);
    assert_eq!(told["one"].status, Status::Success);
    assert_eq!(told["one"].standard_output, "of the reference");
    for name in ["two", "three"] {
        assert_eq!((&told[name].status, told[name].code), (&Status::Failed, 1));
        assert!(
            told[name].output.contains("not known"),
            "{}",
            told[name].output
        );
    }
    assert_eq!(world.runs(), "");
    assert!(!world.channel().exists());
}

#[tokio::test]
async fn what_a_worker_told_before_it_went_is_reported() {
    let world = World::new();
    world.leave(&[("one", ""), ("two", "")]);
    world.tell(0, "reply", &[("one", "Success")]);
    world.tell(1, "complete", &[("one", "Success"), ("two", "TimedOut")]);
    let mut agent = Agent::start(world.settings());

    let (told, report) = world.ended(&mut agent).await;

    assert_eq!(report.document_status, Status::TimedOut);
    assert_eq!(told["one"].status, Status::Success);
    assert_eq!(told["two"].status, Status::TimedOut);
    assert_eq!(world.runs(), "");
}

#[tokio::test]
async fn command_with_a_worker_is_cancelled_with_it() {
    let world = World::new();
    world.leave(&[("one", ""), ("two", "")]);
    world.tell(0, "reply", &[("one", "Success")]);
    let mut worker = world.worker("sleep 60");
    let mut agent = Agent::start(world.settings());
    agent.cancel_command(&world.command).await;

    let ending = tokio::task::spawn_blocking(move || worker.wait().unwrap());
    let (told, report) = world.ended(&mut agent).await;

    assert!(!ending.await.unwrap().success());
    assert_eq!(report.document_status, Status::Cancelled);
    assert_eq!(told["one"].status, Status::Success);
    assert_eq!(told["two"].status, Status::Cancelled);
    assert_eq!(world.runs(), "");
}

/// A host on which the reference agent has begun a command.
struct World {
    folder: tempfile::TempDir,
    settings: Settings,
    command: CommandId,
}

impl World {
    fn new() -> Self {
        let (folder, settings) = new_settings();
        Self {
            folder,
            settings,
            command: id(),
        }
    }

    fn settings(&self) -> Settings {
        self.settings.clone()
    }

    fn proof(&self) -> PathBuf {
        self.folder.path().join("proof")
    }

    fn channel(&self) -> PathBuf {
        let channels = self.settings.directory.join("channels");
        channels.join(self.command.as_str())
    }

    /// Which steps ran here.
    fn runs(&self) -> String {
        fs::read_to_string(self.proof()).unwrap_or_default()
    }

    /// Leaves the command in the middle, with these statuses of its steps.
    fn leave(&self, steps: &[(&str, &str)]) {
        let mut state: Value = serde_json::from_str(REFERENCE).unwrap();
        let command = self.command.as_str();
        let information = &mut state["DocumentInformation"];
        information["DocumentID"] = json!(command);
        information["CommandID"] = json!(command);
        information["MessageID"] = json!(self.command.job_on("mi-1"));
        let output = self.folder.path().join("output");
        state["IOConfig"]["OrchestrationDirectory"] = json!(output);
        let template = state["InstancePluginsInformation"][0].clone();
        let steps = steps.iter().map(|(name, status)| {
            let mut step = template.clone();
            step["Id"] = json!(name);
            step["Configuration"]["PluginID"] = json!(name);
            let line = format!("echo {name} >> {}", self.proof().display());
            step["Configuration"]["Properties"] = json!({"runCommand": [line]});
            if !status.is_empty() {
                step["Result"] = result(name, status);
            }
            step
        });
        state["InstancePluginsInformation"] = steps.collect();
        let current = self.settings.directory.join("document/state/current");
        fs::create_dir_all(&current).unwrap();
        fs::write(current.join(command), state.to_string()).unwrap();
    }

    /// Puts a message of the worker into its channel.
    fn tell(&self, number: u32, kind: &str, steps: &[(&str, &str)]) {
        let results: BTreeMap<&str, Value> = steps
            .iter()
            .map(|(name, status)| (*name, result(name, status)))
            .collect();
        let content = json!({"Status": "InProgress", "PluginResults": results, "LastPlugin": ""});
        let message = json!({"version": "1.0", "type": kind, "content": content.to_string()});
        fs::create_dir_all(self.channel()).unwrap();
        let name = format!("worker-20241015212205-{number:03}");
        fs::write(self.channel().join(name), message.to_string()).unwrap();
    }

    /// Starts a process that looks like the command's worker.
    fn worker(&self, line: &str) -> Child {
        let program = self.folder.path().join("ssm-document-worker");
        fs::write(&program, line).unwrap();
        Command::new("sh")
            .args([program.as_os_str(), self.command.as_str().as_ref()])
            .env("SSM_COMMAND_ID", self.command.as_str())
            .spawn()
            .unwrap()
    }

    /// What is told of the command until its end.
    async fn ended(&self, agent: &mut Agent) -> (BTreeMap<String, StepReport>, Report) {
        let mut told = BTreeMap::new();
        loop {
            let (_, job, report) = agent.reply().await;
            if job != self.command.job_on("mi-1") {
                // That of the cancellation.
                continue;
            }
            told.extend(report.runtime_status.clone().unwrap_or_default());
            if report.document_status != Status::InProgress {
                let state: &Path = &agent.current(&self.command);
                until(|| !state.exists()).await;
                return (told, report);
            }
        }
    }
}

fn result(name: &str, status: &str) -> Value {
    json!({"pluginID": name, "pluginName": "aws:runShellScript", "status": status, "code": 0,
        "output": "of the reference", "startDateTime": "2024-10-15T21:22:05.123456789Z",
        "endDateTime": "2024-10-15T21:22:06Z", "outputS3BucketName": "", "outputS3KeyPrefix": "",
        "stepName": "", "error": "", "standardOutput": "of the reference", "standardError": ""})
}
