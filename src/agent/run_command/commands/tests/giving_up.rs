//! Commands that the agent gives up: whatever it dies of on the way, one final reply tells of them.

use std::fs;
use std::path::{Path, PathBuf};

use super::agent::{Agent, id, left, new_settings, until};
use crate::agent::run_command::Settings;
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::{CommandId, JobAnswer};

#[tokio::test]
async fn command_that_the_disk_does_not_take_is_refused_with_the_reason_and_may_come_again() {
    let (_folder, settings) = new_settings();
    let current = settings.directory.join("document/state/current");
    let mut agent = Agent::start(settings);
    let command = id();
    agent.send_lines(&command, &["echo first"]).await;
    agent.ended(&command).await;
    // Nothing can be written there, not even by root.
    fs::remove_dir_all(&current).unwrap();
    fs::write(&current, "").unwrap();
    let command = id();

    agent.send_lines(&command, &["echo never"]).await;
    assert_eq!(agent.answer().await, JobAnswer::ParseError);
    let report = agent.ended(&command).await;
    fs::remove_file(&current).unwrap();
    fs::create_dir(&current).unwrap();
    agent.send_lines(&command, &["echo again"]).await;
    assert_eq!(agent.answer().await, JobAnswer::Successful);

    assert_eq!(report.document_status, Status::Failed);
    let trace = report.document_trace_output;
    assert!(
        trace.contains("cannot be kept on the disk of the host: "),
        "{trace}"
    );
    let report = agent.ended(&command).await;
    assert_eq!(report.document_status, Status::Success);
}

#[tokio::test]
async fn agent_that_dies_between_reply_and_move_leaves_one_final_reply() {
    let (_folder, settings) = new_settings();
    let agent = Agent::start(settings);
    let command = id();
    let (path, _) = begun(&agent, &command, "sleep 5").await;
    let mut agent = Agent::start(Settings {
        start_limit: 1,
        ..agent.kill().await
    });
    agent.acknowledges = false;
    let (first, report) = agent.ended_as(&command).await;
    assert_eq!(report.document_status, Status::Failed);
    let settings = agent.kill().await;
    let aside = settings
        .directory
        .join("document/state/corrupt")
        .join(command.as_str());

    // As if it had not come to put the state aside.
    fs::rename(&aside, &path).unwrap();
    let mut agent = Agent::start(settings);
    agent.acknowledges = false;
    let (again, _) = agent.ended_as(&command).await;
    until(|| !path.exists()).await;

    assert_eq!(again, first);
    let settings = agent.stop().await;
    assert_eq!(left(&settings.directory).len(), 1, "one reply is kept");
}

#[tokio::test]
async fn command_whose_success_is_on_disk_is_not_given_up() {
    let (_folder, settings) = new_settings();
    let mut agent = Agent::start(settings);
    agent.acknowledges = false;
    let command = id();
    let (path, state) = begun(&agent, &command, "sleep 0.3").await;
    let (first, report) = agent.ended_as(&command).await;
    assert_eq!(report.document_status, Status::Success);
    let settings = agent.kill().await;

    // As if it had not come to forget the command.
    fs::write(&path, state).unwrap();
    let mut agent = Agent::start(Settings {
        start_limit: 1,
        ..settings
    });
    agent.acknowledges = false;
    let (again, report) = agent.ended_as(&command).await;
    until(|| !path.exists()).await;

    assert_eq!((again, report.document_status), (first, Status::Success));
    let settings = agent.stop().await;
    assert_eq!(left(&settings.directory).len(), 1, "one reply is kept");
}

#[tokio::test]
async fn command_that_was_cancelled_before_it_began_does_not_begin_after_all() {
    let (folder, settings) = new_settings();
    let mut agent = Agent::start(Settings {
        workers: 1,
        ..settings
    });
    agent.acknowledges = false;
    let (running, waiting) = (id(), id());
    begun(&agent, &running, "sleep 0.5").await;
    let proof = folder.path().join("proof");
    let line = format!("echo x >> {}", proof.display());
    agent.send_lines(&waiting, &[&line]).await;
    let pending = agent.settings.directory.join("document/state/pending");
    let pending = pending.join(waiting.as_str());
    until(|| pending.exists()).await;
    let state = fs::read(&pending).unwrap();
    agent.cancel_command(&waiting).await;
    let (first, report) = agent.ended_as(&waiting).await;
    assert_eq!(report.document_status, Status::Cancelled);
    let settings = agent.kill().await;

    // As if it had not come to forget the command.
    fs::write(&pending, state).unwrap();
    let mut agent = Agent::start(settings);
    agent.acknowledges = false;
    let (again, report) = agent.ended_as(&waiting).await;
    agent.ended(&running).await;

    assert_eq!((again, report.document_status), (first, Status::Cancelled));
    assert!(!pending.exists());
    agent.stop().await;
    assert!(!proof.exists());
}

/// Sends a command; its state once it has begun, and where that is.
async fn begun(agent: &Agent, command: &CommandId, line: &str) -> (PathBuf, String) {
    agent.send_lines(command, &[line]).await;
    let path = agent.current(command);
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    until(|| read(&path).contains("InProgress")).await;
    let state = read(&path);
    (path, state)
}
