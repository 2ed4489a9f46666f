mod agent;
mod cancelling;
mod dying;
mod giving_up;
mod reboot;
mod takeover;
mod traces;
mod ways;

use std::time::Duration;

use serde_json::{Value, json};

use self::agent::{Agent, id, left, new_settings, script, steps};
use crate::agent::run_command::Settings;
use crate::agent::run_command::steps::CRASH;
use crate::protocol::wire::MessageType;
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::{JobAnswer, SEND_TOPIC};

#[tokio::test]
async fn command_is_acknowledged_run_and_reported() {
    let (_folder, settings) = new_settings();
    let mut agent = Agent::start(settings);
    let command = id();

    agent
        .send_lines(&command, &["echo hi", "echo oh >&2", "exit 3"])
        .await;

    assert_eq!(agent.answer().await, JobAnswer::Successful);
    let (_, job, first) = agent.reply().await;
    assert_eq!(job, command.job_on("mi-1"));
    assert_eq!(
        (first.document_status, first.runtime_status),
        (Status::InProgress, None)
    );
    let report = agent.ended(&command).await;
    assert_eq!(report.document_status, Status::Failed);
    let step = &report.runtime_status.unwrap()["only"];
    assert_eq!((step.code, step.name.as_str()), (3, "aws:runShellScript"));
    assert_eq!(step.standard_output, "hi\n");
    assert_eq!(
        step.standard_error,
        "oh\nfailed to run commands: exit status 3"
    );
    assert_eq!(
        step.output,
        "hi\n\n----------ERROR-------\noh\nfailed to run commands: exit status 3"
    );
    let settings = agent.stop().await;
    // The acknowledgement may still have been on its way.
    assert!(left(&settings.directory).len() <= 1);
}

#[tokio::test]
async fn steps_are_reported_one_by_one_and_failures_do_not_stop_them() {
    let (_folder, settings) = new_settings();
    let mut agent = Agent::start(settings);
    let command = id();
    let document = steps(&[
        ("one", json!({"runCommand": ["exit 1"]})),
        ("two", json!({"runCommand": ["echo two"]})),
    ]);

    agent.send(&command, document, json!({})).await;
    agent.reply().await;
    let (_, _, one) = agent.reply().await;
    let (_, _, two) = agent.reply().await;
    let last = agent.ended(&command).await;

    assert_eq!(one.runtime_status.unwrap()["one"].status, Status::Failed);
    assert_eq!(two.runtime_status.unwrap()["two"].standard_output, "two\n");
    assert_eq!(last.document_status, Status::Failed);
    assert!(last.runtime_status.unwrap().is_empty());
}

#[tokio::test]
async fn inputs_and_exit_codes_end_a_document_as_they_say() {
    let (_folder, settings) = new_settings();
    let mut agent = Agent::start(settings);
    for (first, status, second, third) in [
        (
            json!({"runCommand": ["exit 1"], "onFailure": "exit"}),
            Status::Failed,
            "Skipped",
            "Success",
        ),
        (
            json!({"runCommand": ["exit 1"], "onFailure": "successAndExit"}),
            Status::Success,
            "Skipped",
            "Success",
        ),
        (
            json!({"runCommand": ["exit 0"], "onSuccess": "exit"}),
            Status::Success,
            "Skipped",
            "Success",
        ),
        (
            json!({"runCommand": ["exit 168"]}),
            Status::Success,
            "Skipped",
            "Success",
        ),
        (
            json!({"runCommand": ["exit 169"]}),
            Status::Failed,
            "Skipped",
            "Success",
        ),
        (
            json!({"runCommand": ["exit 0"], "onFailure": "exit"}),
            Status::Success,
            "Success",
            "Success",
        ),
    ] {
        let command = id();
        let document = steps(&[
            ("a", first.clone()),
            ("b", json!({"runCommand": ["true"]})),
            ("c", json!({"runCommand": ["true"], "finallyStep": true})),
        ]);
        agent.send(&command, document, json!({})).await;
        let mut seen = std::collections::BTreeMap::new();
        let last = loop {
            let (_, _, report) = agent.reply().await;
            for (name, step) in report.runtime_status.clone().unwrap_or_default() {
                seen.insert(name, step.status.as_str().to_owned());
            }
            if report.document_status != Status::InProgress {
                break report.document_status;
            }
        };
        assert_eq!(last, status, "{first}");
        assert_eq!(
            (seen["b"].as_str(), seen["c"].as_str()),
            (second, third),
            "{first}"
        );
    }
}

#[tokio::test]
async fn same_command_runs_once() {
    let (folder, settings) = new_settings();
    let mut agent = Agent::start(settings);
    let command = id();
    let proof = folder.path().join("proof");
    let line = format!("echo x >> {}", proof.display());

    agent.send_lines(&command, &[&line]).await;
    assert_eq!(agent.answer().await, JobAnswer::Successful);
    agent.send_lines(&command, &[&line]).await;
    assert_eq!(agent.answer().await, JobAnswer::DuplicateCommand);
    let settings = agent.stop().await;
    let mut agent = Agent::start(settings);
    agent.ended(&command).await;
    agent.send_lines(&command, &[&line]).await;
    assert_eq!(agent.answer().await, JobAnswer::DuplicateCommand);

    assert_eq!(std::fs::read_to_string(proof).unwrap(), "x\n");
}

#[tokio::test]
async fn jobs_that_cannot_be_run_are_refused_with_the_reason() {
    let (_folder, settings) = new_settings();
    let mut agent = Agent::start(settings);
    let many: Vec<String> = (0..=1000).map(|number| number.to_string()).collect();
    for (document, parameters, reason) in [
        (
            json!({"schemaVersion": "9"}),
            json!({}),
            "schema version 9 is not supported",
        ),
        (json!("text"), json!({}), "document must be an object"),
        (
            script(&["{{ssm:missing}}"]),
            json!({}),
            "Input contains invalid parameters [missing]",
        ),
        (
            json!({"schemaVersion": "2.2", "parameters": {"p": {"type": "String", "allowedPattern": "^a$"}},
                "mainSteps": [{"action": "x", "name": "s"}]}),
            json!({"p": "b"}),
            "all errors during param validation errors: error thrown in 'AllowedRegexParamValidator' while validating parameter /p/: parameter value /b/ does not match the allowed pattern /^a$/",
        ),
        (
            json!({"schemaVersion": "2.2", "parameters": {"p": {"type": "String", "allowedPattern": "("}},
                "mainSteps": [{"action": "x", "name": "s"}]}),
            json!({"p": "b"}),
            "encountered error while compiling allowed pattern - internal error: ",
        ),
        (
            steps(
                &many
                    .iter()
                    .map(|name| (name.as_str(), json!({})))
                    .collect::<Vec<_>>(),
            ),
            json!({}),
            "1001 steps are above the limit of 1000",
        ),
    ] {
        let command = id();
        agent.send(&command, document, parameters).await;
        assert_eq!(agent.answer().await, JobAnswer::ParseError, "{reason}");
        let report = agent.ended(&command).await;
        assert_eq!(report.document_status, Status::Failed);
        assert!(
            report.document_trace_output.contains(reason),
            "{}",
            report.document_trace_output
        );
    }
    agent.send_job(&id(), "aws.ssm.novelty", "{}".into()).await;
    assert_eq!(agent.answer().await, JobAnswer::UnexpectedDocumentType);
    agent.send_job(&id(), SEND_TOPIC, "garbage".into()).await;
    assert_eq!(agent.answer().await, JobAnswer::ParseError);
    agent.pass(MessageType::AgentJob, "garbage".into()).await;
    agent
        .pass(MessageType::AgentJob, r#"{"JobId":"aws.ssm.c.i"}"#.into())
        .await;
    assert_eq!(agent.answer().await, JobAnswer::ParseError);
}

#[tokio::test]
async fn values_of_parameter_store_are_put_in() {
    let (_folder, settings) = new_settings();
    let mut agent = Agent::start(settings);
    let command = id();

    agent.send_lines(&command, &["echo '{{ssm:name}}'"]).await;

    let report = agent.ended(&command).await;
    assert_eq!(
        report.runtime_status.unwrap()["only"].standard_output,
        "<name>\n"
    );
}

#[tokio::test]
async fn as_many_run_at_once_as_may_and_more_than_may_wait_are_told() {
    let (folder, settings) = new_settings();
    let settings = Settings {
        workers: 2,
        queue: 1,
        ..settings
    };
    let mut agent = Agent::start(settings);
    let gate = folder.path().join("gate");
    let line = format!("while [ ! -e {} ]; do sleep 0.05; done", gate.display());
    let commands = [id(), id(), id(), id()];

    let mut answers = Vec::new();
    for command in &commands {
        agent.send_lines(command, &[&line]).await;
        answers.push(agent.answer().await);
    }

    assert_eq!(answers[..3], [JobAnswer::Successful; 3]);
    assert_eq!(answers[3], JobAnswer::ProcessorBufferFull);
    std::fs::write(&gate, "").unwrap();
    let mut ended = 0;
    while ended < 3 {
        let (_, _, report) = agent.reply().await;
        ended += usize::from(report.document_status == Status::Success);
    }
    agent.send_lines(&commands[3], &["true"]).await;
    assert_eq!(
        agent.ended(&commands[3]).await.document_status,
        Status::Success
    );
}

#[tokio::test]
async fn running_and_waiting_commands_can_be_cancelled() {
    let (_folder, settings) = new_settings();
    let settings = Settings {
        workers: 1,
        ..settings
    };
    let mut agent = Agent::start(settings);
    let (running, waiting) = (id(), id());
    let document = steps(&[
        ("one", json!({"runCommand": ["sleep 60"]})),
        ("two", json!({"runCommand": ["true"]})),
    ]);
    agent.send(&running, document, json!({})).await;
    agent.answer().await;
    agent.send_lines(&waiting, &["true"]).await;
    agent.answer().await;

    agent.cancel_command(&waiting).await;
    assert_eq!(
        agent.ended(&waiting).await.document_status,
        Status::Cancelled
    );
    agent.cancel_command(&running).await;
    let (_, _, one) = loop {
        let reply = agent.reply().await;
        if reply.2.runtime_status.is_some() {
            break reply;
        }
    };
    assert_eq!(one.runtime_status.unwrap()["one"].status, Status::Cancelled);
    let (_, _, two) = agent.reply().await;
    let two = two.runtime_status.unwrap()["two"].clone();
    assert_eq!((two.status, two.code), (Status::Cancelled, 1));
    assert_eq!(
        agent.ended(&running).await.document_status,
        Status::Cancelled
    );
    agent.cancel_command(&id()).await;
    assert_eq!(agent.answer().await, JobAnswer::Successful);
}

#[tokio::test]
async fn reply_that_nobody_acknowledged_is_sent_by_the_next_agent() {
    let (_folder, settings) = new_settings();
    let mut agent = Agent::start(settings);
    agent.acknowledges = false;
    let command = id();
    agent.send_lines(&command, &["echo hi"]).await;
    let first = loop {
        let (id, _, report) = agent.reply().await;
        if report.document_status == Status::Success {
            break id;
        }
    };
    let repeated = agent.reply().await.0;
    assert_eq!(first, repeated);

    let settings = agent.stop().await;
    let mut agent = Agent::start(settings);
    let (id, _, report) = agent.reply().await;

    assert_eq!((id, report.document_status), (first, Status::Success));
}

#[tokio::test]
async fn replies_wait_for_a_connection() {
    let (_folder, settings) = new_settings();
    let mut agent = Agent::start(settings);
    agent.connections.send_replace(false);
    let command = id();
    agent.send_lines(&command, &["true"]).await;
    agent.reply().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(agent.answers.try_recv().is_err());

    agent.connections.send_replace(true);

    assert_eq!(agent.ended(&command).await.document_status, Status::Success);
}

#[tokio::test]
async fn script_that_asks_for_a_reboot_runs_again_after_it() {
    let (folder, settings) = new_settings();
    let asked = folder.path().join("asked");
    let settings = Settings {
        reboot: vec!["touch".into(), asked.clone().into()],
        ..settings
    };
    let mut agent = Agent::start(settings);
    let command = id();
    let done = folder.path().join("done");
    let line = format!(
        "if [ -e {0} ]; then echo after; else touch {0}; echo before; exit 194; fi",
        done.display()
    );
    agent.send_lines(&command, &[&line]).await;
    assert_eq!(
        agent.ended(&command).await.document_status,
        Status::SuccessAndReboot
    );
    while !asked.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let waiting = id();
    agent.send_lines(&waiting, &["echo later"]).await;
    assert_eq!(agent.answer().await, JobAnswer::Successful);

    // The agent alone starts anew: the reboot is still to come.
    let agent = Agent::start(agent.kill().await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let settings = agent.kill().await;
    let state = settings
        .directory
        .join("document/state/current")
        .join(command.as_str());
    let text = std::fs::read_to_string(&state).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.contains(boot.trim()));
    // The host starts anew.
    std::fs::write(&state, text.replace(boot.trim(), "an earlier boot")).unwrap();
    let mut agent = Agent::start(settings);

    let mut outputs = std::collections::BTreeMap::new();
    while outputs.len() < 2 {
        let (_, job, report) = agent.reply().await;
        if report.document_status == Status::Success {
            let step = report.runtime_status.unwrap()["only"].clone();
            outputs.insert(job, step.standard_output);
        }
    }
    assert_eq!(outputs[&command.job_on("mi-1")], "before\nafter\n");
    assert_eq!(outputs[&waiting.job_on("mi-1")], "later\n");
}

#[tokio::test]
async fn command_that_runs_a_document_ends_once_whenever_its_agent_is_killed() {
    let (folder, settings) = new_settings();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let note = |word: &str| format!("echo {word} >>{}", path("proof"));
    let wait = format!("while [ ! -e {} ]; do sleep 0.02; done", path("gate"));
    let inner = steps(&[
        ("a", json!({"runCommand": [note("a")]})),
        ("b", json!({"runCommand": [note("b"), wait, "echo done"]})),
    ]);
    std::fs::write(path("document"), inner.to_string()).unwrap();
    let document = json!({"schemaVersion": "2.2", "mainSteps": [
        {"action": "aws:runDocument", "name": "inner",
         "inputs": {"documentType": "LocalPath", "documentPath": path("document")}},
    ]});
    let command = id();
    let mut agent = Agent::start(settings);
    agent.send(&command, document, json!({})).await;
    assert_eq!(agent.answer().await, JobAnswer::Successful);

    // Killed while it prepares, while a step begins, while one runs.
    for pause in [0, 1, 5, 20, 80, 200] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        agent = Agent::start(agent.kill().await);
    }
    std::fs::write(path("gate"), "").unwrap();
    let report = agent.ended(&command).await;

    assert_eq!(report.document_status, Status::Success);
    let step = &report.runtime_status.unwrap()["inner"];
    assert_eq!(
        (step.name.as_str(), step.standard_output.as_str()),
        ("aws:runDocument", "done\n")
    );
    assert_eq!(std::fs::read_to_string(path("proof")).unwrap(), "a\nb\n");
    let agent = Agent::start(agent.stop().await);
    assert!(left(&agent.stop().await.directory).len() <= 1);
}

#[tokio::test]
async fn command_that_ends_its_agent_each_time_is_given_up() {
    let (_folder, settings) = new_settings();
    let settings = Settings {
        start_limit: 3,
        ..settings
    };
    let agent = Agent::start(settings);
    let command = id();
    agent.send_lines(&command, &["sleep 5"]).await;
    let state = agent
        .settings
        .directory
        .join("document/state/current")
        .join(command.as_str());
    while !state.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut settings = agent.kill().await;
    for count in 1..3 {
        let mut written: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
        written["DocumentInformation"]["RunCount"] = json!(count);
        std::fs::write(&state, written.to_string()).unwrap();
        if count < 2 {
            settings = Agent::start(settings).kill().await;
        }
    }

    let mut agent = Agent::start(settings);

    let report = agent.ended(&command).await;
    assert_eq!(report.document_status, Status::Failed);
    assert!(
        report.document_trace_output.contains("3 times"),
        "{}",
        report.document_trace_output
    );
    let settings = agent.stop().await;
    assert!(
        settings
            .directory
            .join("document/state/corrupt")
            .join(command.as_str())
            .exists()
    );
}

#[tokio::test]
async fn plugin_that_panics_fails_its_step_alone() {
    let (_folder, settings) = new_settings();
    let mut agent = Agent::start(settings);
    let command = id();
    let document = json!({"schemaVersion": "2.2", "mainSteps": [
        {"action": CRASH, "name": "one", "inputs": {}},
        {"action": "aws:runShellScript", "name": "two", "inputs": {"runCommand": ["echo two"]}},
    ]});

    agent.send(&command, document, json!({})).await;
    agent.reply().await;
    let (_, _, one) = agent.reply().await;
    let (_, _, two) = agent.reply().await;
    let last = agent.ended(&command).await;

    let one = &one.runtime_status.unwrap()["one"];
    assert_eq!((&one.status, one.code), (&Status::Failed, 1));
    assert!(
        one.output
            .contains("Plugin crashed with message on purpose!"),
        "{}",
        one.output
    );
    assert_eq!(two.runtime_status.unwrap()["two"].standard_output, "two\n");
    assert_eq!(last.document_status, Status::Failed);
}

#[tokio::test]
async fn agent_in_a_container_takes_no_commands() {
    let (folder, settings) = new_settings();
    let places = folder.path().join("localcommands");
    std::fs::create_dir(&places).unwrap();
    std::fs::write(places.join("one"), script(&["true"]).to_string()).unwrap();
    let mut agent = Agent::start(Settings {
        in_container: true,
        ..settings
    });

    agent.send_lines(&id(), &["true"]).await;
    assert_eq!(agent.answer().await, JobAnswer::ContainerNotSupported);
    agent.local.notify_one();
    agent.cancel_command(&id()).await;
    assert_eq!(agent.answer().await, JobAnswer::ContainerNotSupported);

    let settings = agent.stop().await;
    assert!(places.join("one").exists(), "it is not ours");
    assert!(left(&settings.directory).is_empty());
}
