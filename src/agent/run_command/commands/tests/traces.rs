//! What commands that are over leave on disk.

use std::path::PathBuf;

use super::agent::{Agent, id, new_settings};
use crate::agent::run_command::{FolderCleanUp, OutputCleanUp, Settings};
use crate::protocol::wire::job::CommandId;

#[tokio::test]
async fn folders_are_deleted_as_the_configuration_says() {
    for (policy, after_success, after_failure) in [
        (FolderCleanUp::ByAge, true, true),
        (FolderCleanUp::Success, false, true),
        (FolderCleanUp::SuccessAndFailure, false, false),
    ] {
        let (_folder, settings) = new_settings();
        let mut agent = Agent::start(Settings {
            folder_clean_up: policy,
            ..settings
        });
        let (good, bad) = (id(), id());

        let good_is_there = run(&mut agent, &good, "echo fine").await.exists();
        let bad_is_there = run(&mut agent, &bad, "exit 1").await.exists();

        assert_eq!(
            (good_is_there, bad_is_there),
            (after_success, after_failure),
            "{policy:?}"
        );
    }
}

#[tokio::test]
async fn output_is_deleted_as_the_configuration_says() {
    for (policy, stays) in [
        (OutputCleanUp::ByAge, true),
        (OutputCleanUp::AfterExecution, false),
        // Nobody asked for it to be uploaded.
        (OutputCleanUp::AfterUpload, true),
    ] {
        let (_folder, settings) = new_settings();
        let mut agent = Agent::start(Settings {
            output_clean_up: policy,
            ..settings
        });

        let folder = run(&mut agent, &id(), "echo fine").await;

        let output = folder.join("awsrunShellScript/only/stdout");
        assert_eq!(output.exists(), stays, "{policy:?}");
        assert!(folder.join("only").exists(), "the script stays");
    }
}

/// Runs a command and returns its folder, once nothing is done about it any more.
async fn run(agent: &mut Agent, command: &CommandId, line: &str) -> PathBuf {
    agent.send_lines(command, &[line]).await;
    agent.ended(command).await;
    let orchestration = agent.settings.directory.join("document/orchestration");
    orchestration.join(command.as_str())
}
