//! Agents that die at any moment.

use std::time::Duration;

use serde_json::json;

use super::agent::{Agent, id, new_settings, steps};
use crate::protocol::wire::command::Status;

/// Wherever the agent dies, the script runs once and one final reply, with one id, tells of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_that_dies_at_any_moment_leaves_one_run_and_one_final_reply() {
    let mut moments = tokio::task::JoinSet::new();
    for step in 0..40 {
        moments.spawn(die_after(Duration::from_micros(step * 1500)));
    }
    while let Some(moment) = moments.join_next().await {
        moment.unwrap();
    }
}

async fn die_after(delay: Duration) {
    let (folder, settings) = new_settings();
    let agent = Agent::start(settings);
    let command = id();
    let proof = folder.path().join("proof");
    let line = format!("echo x >> {}; sleep 0.01", proof.display());
    agent.send_lines(&command, &[&line]).await;
    tokio::time::sleep(delay).await;
    let settings = agent.kill().await;

    let mut agent = Agent::start(settings);
    agent.acknowledges = false;
    // A gateway without an answer offers the job again; one that was taken is known then.
    agent.send_lines(&command, &[&line]).await;
    let (first, report) = agent.ended_as(&command).await;
    assert_eq!(report.document_status, Status::Success, "{report:?}");
    agent.acknowledges = true;
    // It is repeated under the same id.
    assert_eq!(agent.reply().await.0, first, "after {delay:?}");
    agent.stop().await;

    let runs = std::fs::read_to_string(&proof).unwrap();
    assert_eq!(runs, "x\n", "after {delay:?}");
}

/// The same for a document that one of its steps ends, but for what it has to do at last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_that_dies_within_a_document_runs_each_of_its_steps_once() {
    let mut moments = tokio::task::JoinSet::new();
    for step in 0..24 {
        moments.spawn(die_within_after(Duration::from_millis(step * 4)));
    }
    while let Some(moment) = moments.join_next().await {
        moment.unwrap();
    }
}

async fn die_within_after(delay: Duration) {
    let (folder, settings) = new_settings();
    let agent = Agent::start(settings);
    let command = id();
    let proof = folder.path().join("proof");
    let note = |word: &str| format!("echo {word} >> {}; sleep 0.01", proof.display());
    let document = steps(&[
        ("one", json!({"runCommand": [note("one")]})),
        (
            "two",
            json!({"runCommand": [note("two"), "exit 3"], "onFailure": "exit"}),
        ),
        ("three", json!({"runCommand": [note("three")]})),
        (
            "last",
            json!({"runCommand": [note("last")], "finallyStep": true}),
        ),
    ]);
    agent.send(&command, document.clone(), json!({})).await;
    tokio::time::sleep(delay).await;
    let settings = agent.kill().await;

    let mut agent = Agent::start(settings);
    agent.acknowledges = false;
    agent.send(&command, document, json!({})).await;
    let (first, report) = agent.ended_as(&command).await;
    assert_eq!(report.document_status, Status::Failed, "{report:?}");
    let counts = report.additional_info.runtime_status_counts.unwrap();
    let count = |status: &str| counts.get(status).copied();
    assert_eq!(
        (count("Success"), count("Failed"), count("Skipped")),
        (Some(2), Some(1), Some(1)),
        "after {delay:?}"
    );
    agent.acknowledges = true;
    assert_eq!(agent.ended_as(&command).await.0, first, "after {delay:?}");
    agent.stop().await;

    let runs = std::fs::read_to_string(&proof).unwrap();
    assert_eq!(runs, "one\ntwo\nlast\n", "after {delay:?}");
}

/// The same for a command that somebody cancels meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_that_dies_over_a_cancellation_ends_the_command_once() {
    let mut moments = tokio::task::JoinSet::new();
    for step in 0..24 {
        moments.spawn(die_cancelling_after(Duration::from_micros(step * 1500)));
    }
    while let Some(moment) = moments.join_next().await {
        moment.unwrap();
    }
}

async fn die_cancelling_after(delay: Duration) {
    let (folder, settings) = new_settings();
    let agent = Agent::start(settings);
    let command = id();
    let proof = folder.path().join("proof");
    let note = |word: &str| format!("echo {word} >> {}", proof.display());
    let document = steps(&[
        ("one", json!({"runCommand": [note("one"), "sleep 30"]})),
        ("two", json!({"runCommand": [note("two")]})),
    ]);
    agent.send(&command, document.clone(), json!({})).await;
    agent.cancel_command(&command).await;
    tokio::time::sleep(delay).await;
    let settings = agent.kill().await;

    let mut agent = Agent::start(settings);
    agent.acknowledges = false;
    agent.send(&command, document, json!({})).await;
    agent.cancel_command(&command).await;
    let (first, report) = agent.ended_as(&command).await;
    // What was killed already, and not noted, is found dead.
    assert!(
        matches!(report.document_status, Status::Cancelled | Status::Failed),
        "{report:?} after {delay:?}"
    );
    agent.acknowledges = true;
    assert_eq!(agent.ended_as(&command).await.0, first, "after {delay:?}");
    agent.stop().await;

    let runs = std::fs::read_to_string(&proof).unwrap_or_default();
    for word in ["one", "two"] {
        let times = runs.lines().filter(|line| *line == word).count();
        assert!(times <= 1, "{word} ran {times} times after {delay:?}");
    }
}
