//! Commands that `ssm-cli` leaves for the agent of this host.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::programs::{LOOK, PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn document_runs_and_its_result_is_here() {
    let (world, _) = World::with_agent().await;
    let began = Instant::now();

    let sent = send(
        &world,
        &document("echo out; echo err >&2; exit 3").to_string(),
    );
    let command = command_of(&sent);

    // Nobody had to wait for the agent to look by itself.
    assert!(began.elapsed() < Duration::from_secs(3), "{began:?}");
    until(&world, &command, "Complete").await;
    let detailed = invocation(&world, &command, &["--details"]);
    let text = text(&detailed);
    let (status, result) = text.split_once('\n').unwrap();
    let result: Value = serde_json::from_str(result).unwrap();
    assert_eq!(
        (status, &result["documentStatus"]),
        ("Complete", &"Failed".into())
    );
    let step = &result["runtimeStatus"]["only"];
    assert_eq!(
        (&step["standardOutput"], &step["code"]),
        (&"out\n".into(), &3.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn document_of_a_file_runs_while_the_gateway_is_away() {
    let (mut world, node) = World::with_agent().await;
    world.stop_gateway();
    let file = world.folder.path().join("document.json");
    std::fs::write(&file, document("sleep 0.3; echo ran").to_string()).unwrap();

    let sent = send(&world, &format!("file://{}", file.display()));
    let command = command_of(&sent);
    until(&world, &command, "In Progress").await;
    until(&world, &command, "Complete").await;

    world.restart_gateway();
    world.wait_connected(&node).await;
    let listed: Value = world.client.ssm("ListCommands", &json!({})).await.unwrap();
    assert_eq!(
        listed["Commands"],
        json!([]),
        "the service does not hear of it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_document_is_told() {
    let (world, _) = World::with_agent().await;
    let fine = document("true").to_string();
    for (arguments, status, said) in [
        (vec![], 255, "error: --content is required"),
        (
            vec!["--content", "{"],
            255,
            "error: --content value must be valid json or a URL",
        ),
        (
            vec!["--content", r#"{"schemaVersion":"9"}"#],
            255,
            "error: unsupported schema version 9",
        ),
        (
            vec!["--content", r#"{"schemaVersion":"2.2"}"#],
            255,
            "error: mainSteps cannot be empty",
        ),
        (
            // The agent finds what ssm-cli does not look for.
            vec![
                "--content",
                r#"{"schemaVersion":"2.2","mainSteps":[{"name":"x"}]}"#,
            ],
            0,
            "failed to submit document: document was invalid",
        ),
        (
            vec!["--content", &fine],
            0,
            "successfully submitted with command id: ",
        ),
    ] {
        let output = world
            .cli_command()
            .arg("SEND-offline-command")
            .args(&arguments)
            .output()
            .unwrap();
        let all = text(&output) + &String::from_utf8_lossy(&output.stderr);
        assert!(all.starts_with(said), "{arguments:?}: {all}");
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
    }
    let unknown = "01234567-890a-bcde-f012-34567890abcd";
    for (id, said) in [
        (
            unknown,
            format!("error: No status found for command ID {unknown}"),
        ),
        (
            "x",
            "error: Invalid length for parameter --command-id.".to_owned(),
        ),
    ] {
        let output = invocation(&world, id, &[]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.starts_with(&said), "{errors}");
        assert_eq!(output.status.code(), Some(255));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_agent_nothing_stays_to_be_run_later() {
    let world = World::start();
    world.register().await;

    let sent = send(&world, &document("true").to_string());

    assert_eq!(text(&sent).trim(), "failed to submit document: timed out");
    let folder = world.folder.path().join("agent/localcommands");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}

fn document(line: &str) -> Value {
    let inputs = json!({"runCommand": [line]});
    json!({"schemaVersion": "2.2",
        "mainSteps": [{"action": "aws:runShellScript", "name": "only", "inputs": inputs}]})
}

fn send(world: &World, content: &str) -> Output {
    let arguments = ["send-offline-command", "--content", content];
    world.cli_command().args(arguments).output().unwrap()
}

fn invocation(world: &World, command: &str, more: &[&str]) -> Output {
    let arguments = ["get-offline-command-invocation", "--command-id", command];
    let mut cli = world.cli_command();
    cli.args(arguments).args(more).output().unwrap()
}

fn command_of(sent: &Output) -> String {
    let said = text(sent);
    let command = said
        .trim()
        .strip_prefix("successfully submitted with command id: ");
    command.unwrap_or_else(|| panic!("{sent:?}")).to_owned()
}

async fn until(world: &World, command: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = text(&invocation(world, command, &[]));
        if said.trim() == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{said} and not {wanted}");
        tokio::time::sleep(LOOK).await;
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
