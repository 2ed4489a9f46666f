//! Commands that want the host to start anew, which it does not.

use std::ffi::OsString;
use std::time::Duration;

use serde_json::json;

use super::agent::{Agent, id, left, new_settings, steps, until};
use crate::agent::run_command::Settings;
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::JobAnswer;

#[tokio::test]
async fn host_that_does_not_start_anew_fails_the_command_and_goes_on_with_others() {
    for (reboot, patience, why) in [
        (
            "false",
            Duration::from_mins(5),
            "false ended with exit status: 1",
        ),
        ("/no/such/program", Duration::from_mins(5), "cannot be run"),
        // Somebody cancelled it.
        ("true", Duration::from_millis(200), "it still runs"),
    ] {
        let (_folder, settings) = new_settings();
        let directory = settings.directory.clone();
        let mut agent = Agent::start(Settings {
            reboot: vec![reboot.into()],
            reboot_patience: patience,
            ..settings
        });
        let (command, other) = (id(), id());
        let document = steps(&[
            ("one", json!({"runCommand": ["echo before; exit 194"]})),
            ("two", json!({"runCommand": ["echo never"]})),
        ]);

        agent.send(&command, document, json!({})).await;
        assert_eq!(agent.answer().await, JobAnswer::Successful);
        let (asked, report) = agent.ended_as(&command).await;
        assert_eq!(report.document_status, Status::SuccessAndReboot);
        agent.send_lines(&other, &["echo other"]).await;
        let mut told = std::collections::BTreeMap::new();
        let mut ended = std::collections::BTreeMap::new();
        while ended.len() < 2 {
            let (id, job, report) = agent.reply().await;
            told.extend(report.runtime_status.unwrap_or_default());
            if report.document_status != Status::InProgress {
                ended.insert(job, (id, report.document_status));
            }
        }

        let (id, status) = &ended[&command.job_on("mi-1")];
        assert_eq!(*status, Status::Failed, "{reboot}");
        assert_ne!(*id, asked);
        let one = &told["one"];
        assert_eq!((&one.status, one.code), (&Status::Failed, 1));
        assert_eq!(one.standard_output, "before\n");
        assert!(
            one.output.starts_with("the host was not restarted: "),
            "{}",
            one.output
        );
        assert!(one.output.contains(why), "{}", one.output);
        assert_eq!(told["two"].status, Status::Skipped);
        assert_eq!(told["only"].standard_output, "other\n");
        until(|| left(&directory).len() <= 1).await;
        agent.stop().await;
    }
}

#[tokio::test]
async fn agent_that_comes_long_after_asks_for_no_other_restart() {
    let (folder, settings) = new_settings();
    let mut agent = Agent::start(settings);
    let command = id();
    agent.send_lines(&command, &["exit 194"]).await;
    assert_eq!(
        agent.ended(&command).await.document_status,
        Status::SuccessAndReboot
    );
    let state = agent.current(&command);
    until(|| state.exists()).await;
    let again = folder.path().join("again");

    let mut agent = Agent::start(Settings {
        reboot: vec![OsString::from("touch"), again.clone().into()],
        reboot_patience: Duration::ZERO,
        ..agent.kill().await
    });
    let report = loop {
        let report = agent.ended(&command).await;
        if report.document_status != Status::SuccessAndReboot {
            break report;
        }
    };

    assert_eq!(report.document_status, Status::Failed);
    let step = &report.runtime_status.unwrap()["only"];
    assert!(
        step.output.contains("the host was not restarted"),
        "{}",
        step.output
    );
    agent.stop().await;
    assert!(!again.exists());
}
