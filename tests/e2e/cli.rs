//! `ssm-cli` beside an agent that runs, one that was killed, and one that is back.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::programs::{LOOK, PATIENCE, World};
use super::shell::Shell;

const CLI: &str = env!("CARGO_BIN_EXE_ssm-cli");
const AGENT: &str = env!("CARGO_BIN_EXE_ssm-agent");

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_a_session_while_it_lives() {
    let (world, node) = World::with_agent().await;
    let mut shell = Shell::open(&world, &node).await;
    shell.type_text("echo re''ady\n").await;
    shell.wait_for("ready").await;

    let status = status(&world);
    let table = world.cli_command().arg("status").output().unwrap();

    assert_eq!(status["node-id"], node.as_str());
    assert_eq!(status["region"], "us-east-1");
    assert_eq!(status["registration"], "OnPrem");
    assert_eq!(status["control-channel"]["state"], "connected");
    assert_eq!(status["open-sessions"], 1);
    let session = &status["sessions"][0];
    assert_eq!(session["kind"], "shell");
    assert_eq!(session["owner"], "arn:aws:iam::000000000000:user/tester");
    let me = nix::unistd::geteuid();
    let account = nix::unistd::User::from_uid(me).unwrap();
    let user = account.map_or_else(|| me.to_string(), |account| account.name);
    assert_eq!(session["user"], user);
    let table = text(&table);
    let id = session["id"].as_str().unwrap();
    assert!(
        table.contains(id) && table.contains("channel     connected since"),
        "{table}"
    );

    shell.type_text("exit\n").await;
    shell.ending().await;
    wait_for_sessions(&world, 0).await;
}

#[test]
fn recording_is_verified_without_an_agent_as_the_agent_itself_does() {
    let folder = tempfile::tempdir().unwrap();
    let cast = folder.path().join("alice-1.cast");
    let header = "{\"version\":2,\"width\":80,\"height\":24,\"ssm\":{\"session\":\"alice-1\"}}\n";
    let unsealed = format!("{header}[1.0,\"m\",\"recording complete, sha256 ");
    let digest = sha256(unsealed.as_bytes());
    let sound = format!("{unsealed}{digest}\"]\n");
    let verify = |program: &str| {
        let output = Command::new(program)
            .args(["verify-recording", "--json"])
            .arg(&cast)
            .output()
            .unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), said["verdict"].clone())
    };

    for (text, expected) in [
        (sound.clone(), (Some(0), json!("intact"))),
        (sound.replace("80", "81"), (Some(1), json!("altered"))),
    ] {
        std::fs::write(&cast, text).unwrap();
        let said = [CLI, AGENT].map(verify);
        assert_eq!(said, [expected.clone(), expected]);
    }

    std::fs::remove_file(&cast).unwrap();
    assert_eq!(verify(CLI), (Some(255), Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_a_session_that_outlived_the_agent() {
    let (mut world, node) = World::with_keeping_agent().await;
    let mut shell = Shell::open(&world, &node).await;
    shell.type_text("echo re''ady\n").await;
    shell.wait_for("ready").await;

    let before = wait_for_sessions(&world, 1).await;
    world.kill_agent();
    world.start_agent();
    world.wait_connected(&node).await;
    let after = wait_for_sessions(&world, 1).await;

    assert_eq!(before["sessions"], after["sessions"]);
    assert_ne!(before["pid"], after["pid"]);
    assert_eq!(after["sessions"][0]["id"], shell.id.as_str());
    shell.type_text("exit\n").await;
    shell.ending().await;
    wait_for_sessions(&world, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn diagnostics_and_identity_need_no_agent() {
    let (mut world, node) = World::with_agent().await;
    let expected =
        json!({"instance-id": node, "region": "us-east-1", "release-version": "3.3.4364.0"});

    let up = diagnostics(&world);
    let information: Value = parse(world.cli_command().arg("get-instance-information"));
    world.kill_agent();
    let down = diagnostics(&world);
    let information_down: Value = parse(world.cli_command().arg("Get-Instance-Information"));
    let strict = ["get-diagnostics", "--strict"];
    let strict = world.cli_command().args(strict).output().unwrap();

    assert_eq!(information, expected);
    assert_eq!(information_down, expected);
    for (check, when_up, when_down) in [
        ("EC2 IMDS", "Skipped", "Skipped"),
        ("Hybrid instance registration", "Success", "Success"),
        ("Connectivity to ssm endpoint", "Success", "Success"),
        ("Connectivity to ssmmessages endpoint", "Success", "Success"),
        ("Connectivity to s3 endpoint", "Skipped", "Skipped"),
        ("AWS Credentials", "Success", "Success"),
        ("Agent service", "Success", "Failed"),
        ("Configuration", "Success", "Success"),
        ("Identity", "Success", "Success"),
        ("Control channel", "Success", "Skipped"),
        ("Trusted authorities", "Success", "Success"),
        ("Clock", "Success", "Success"),
        ("Credentials file", "Skipped", "Skipped"),
        ("Permissions", "Success", "Success"),
        ("Session user", "Skipped", "Skipped"),
        ("Recording", "Success", "Success"),
    ] {
        assert_eq!(outcome(&up, check), when_up, "{up:#}");
        assert_eq!(outcome(&down, check), when_down, "{down:#}");
    }
    assert_eq!(strict.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_agent_is_missed_and_its_socket_taken_over_by_the_next() {
    let (mut world, node) = World::with_agent().await;
    let first = status(&world);

    world.kill_agent();
    let away = world.cli_command().arg("status").output().unwrap();
    world.start_agent();
    world.wait_connected(&node).await;

    assert_eq!(away.status.code(), Some(3));
    let complaint = String::from_utf8_lossy(&away.stderr);
    assert!(
        complaint.contains("nobody listens") && complaint.contains("hint: start it"),
        "{complaint}"
    );
    assert_ne!(status(&world)["pid"], first["pid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_agent_leaves_the_socket_to_the_first() {
    let (world, _node) = World::with_agent().await;
    let first = status(&world);

    let mut second = world.agent_command().spawn().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asked = status(&world);
    second.kill().unwrap();
    second.wait().unwrap();

    assert_eq!(asked["pid"], first["pid"]);
    assert_eq!(status(&world)["pid"], first["pid"]);
}

#[test]
fn unknown_commands_are_refused_as_in_the_reference() {
    let world = World::start();

    let unknown = world.cli_command().arg("dance").output().unwrap();
    let nobody = world.cli_command().arg("get-instance-information").output();

    assert_eq!(unknown.status.code(), Some(2));
    let nobody = nobody.unwrap();
    assert_eq!(nobody.status.code(), Some(255));
    let complaint = String::from_utf8_lossy(&nobody.stderr);
    assert!(
        complaint.contains("error: this host has no identity"),
        "{complaint}"
    );
}

/// What the agent says of itself, once it says something.
fn status(world: &World) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let asked = world
            .cli_command()
            .args(["status", "--json"])
            .output()
            .unwrap();
        if asked.status.success() {
            return serde_json::from_slice(&asked.stdout).unwrap();
        }
        assert!(Instant::now() < deadline, "{asked:?}");
        std::thread::sleep(LOOK);
    }
}

/// The same, once it shows so many sessions, and as whom each runs: what a keeper says of its
/// sessions reaches the agent a moment after the session's client has its first output.
async fn wait_for_sessions(world: &World, number: usize) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = status(world);
        let mut sessions = status["sessions"].as_array().unwrap().iter();
        let is_complete = sessions.all(|session| session["user"] != "");
        if status["open-sessions"] == number && is_complete {
            return status;
        }
        assert!(Instant::now() < deadline, "{status:#}");
        tokio::time::sleep(LOOK).await;
    }
}

fn diagnostics(world: &World) -> Value {
    parse(world.cli_command().arg("get-diagnostics"))
}

fn parse(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn outcome<'a>(answer: &'a Value, check: &str) -> &'a str {
    let findings = answer["DiagnosticsOutput"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["Check"] == check);
    finding.unwrap()["Status"].as_str().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let digits = digest.as_ref().iter();
    digits.map(|byte| format!("{byte:02x}")).collect()
}
