//! What commands that are over leave on disk.

use std::path::PathBuf;

use super::agent::{Agent, id, new_settings, script, services};
use crate::agent::run_command::{FolderCleanUp, OutputCleanUp, Services, Settings};
use crate::aws::tests::server::{Reply, TestServer};
use crate::protocol::wire::command::{SendCommand, Status};
use crate::protocol::wire::job::{CommandId, SEND_TOPIC};

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

#[tokio::test]
async fn output_is_deleted_once_the_bucket_has_it_and_not_before() {
    for (status, stays) in [(200, false), (403, true)] {
        let server = TestServer::start(move |_, seen| {
            let region = vec![("x-amz-bucket-region", "test-1".to_owned())];
            match seen.method.as_str() {
                "PUT" => Reply(status, region, String::new()),
                _ => Reply(200, region, String::new()),
            }
        })
        .await;
        let (_folder, settings) = new_settings();
        let settings = Settings {
            output_clean_up: OutputCleanUp::AfterUpload,
            ..settings
        };
        let services = Services {
            client: Some(server.client()),
            ..services()
        };
        let mut agent = Agent::start_with(settings, services, false);
        let command = id();
        let send = SendCommand {
            parameters: serde_json::Map::new(),
            document_content: script(&["echo fine"]),
            command_id: command.to_string(),
            document_name: "Test".into(),
            output_s3_key_prefix: "prefix".into(),
            output_s3_bucket_name: "bucket".into(),
            cloud_watch_log_group_name: String::new(),
            cloud_watch_output_enabled: "false".into(),
        };

        agent.send_job(&command, SEND_TOPIC, send.encode()).await;
        let report = agent.ended(&command).await;

        assert_eq!(report.document_status, Status::Success);
        let seen = server.seen();
        let put = seen.iter().find(|seen| seen.method == "PUT").unwrap();
        let key = format!("/prefix/{command}/mi-1/awsrunShellScript/only/stdout");
        assert!(put.path.ends_with(&key), "{}", put.path);
        assert_eq!(&put.body[..], b"fine\n");
        let orchestration = agent.settings.directory.join("document/orchestration");
        let folder = orchestration.join(command.as_str());
        let output = folder.join("awsrunShellScript/only/stdout");
        assert_eq!(output.exists(), stays, "{status}");
    }
}

/// Runs a command and returns its folder, once nothing is done about it any more.
async fn run(agent: &mut Agent, command: &CommandId, line: &str) -> PathBuf {
    agent.send_lines(command, &[line]).await;
    agent.ended(command).await;
    let orchestration = agent.settings.directory.join("document/orchestration");
    orchestration.join(command.as_str())
}
