//! Sessions and registrations between the programs, and what happens when one of them fails.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};
use ssm_agent::client::{Parameters, start_session};

use super::programs::World;
use super::shell::Shell;

#[tokio::test(flavor = "multi_thread")]
async fn shell_runs_between_separate_programs_and_reports_its_exit_status() {
    let (world, node) = World::with_agent().await;

    let mut shell = Shell::open(&world, &node).await;
    shell.type_text("echo sum=$((40 + 2)); exit 9\n").await;
    shell.wait_for("sum=42").await;

    assert_eq!(shell.ending().await.exit_code, Some(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_agent_ends_the_client_with_a_reason_within_ten_seconds() {
    let (mut world, node) = World::with_agent().await;
    let mut shell = Shell::open(&world, &node).await;
    shell.type_text("echo re''ady\n").await;
    shell.wait_for("ready").await;

    let killed = Instant::now();
    world.kill_agent();
    let ending = shell.ending().await;

    assert!(killed.elapsed().as_secs() < 10, "{:?}", killed.elapsed());
    assert!(!ending.reason.is_empty(), "{ending:?}");
    assert_ne!(ending.exit_status(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_gateway_knows_its_node_and_an_open_shell_goes_on() {
    let (mut world, node) = World::with_agent().await;
    let mut shell = Shell::open(&world, &node).await;
    shell.type_text("echo bef''ore\n").await;
    shell.wait_for("before").await;

    world.restart_gateway();
    world.wait_connected(&node).await;
    shell.type_text("echo aft''er; exit 4\n").await;
    shell.wait_for("after").await;

    assert_eq!(shell.ending().await.exit_code, Some(4));
}

#[tokio::test]
async fn activation_works_once_and_only_with_its_code() {
    let world = World::start();
    let (id, code) = world.activation().await;

    let wrong = world.try_register(&id, "AAAAAAAAAAAAAAAAAAAA");
    let first = world.try_register(&id, &code);
    let second = world.try_register(&id, &code);

    let text = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        text(&wrong).contains("InvalidActivation") && text(&wrong).contains("hint:"),
        "{}",
        text(&wrong)
    );
    assert!(first.status.success(), "{}", text(&first));
    assert_eq!(second.status.code(), Some(1));
    assert!(
        !text(&wrong).contains("AAAAAAAAAAAAAAAAAAAA"),
        "the code shows in the output"
    );
}

#[tokio::test]
async fn deregistered_node_is_not_connected_and_takes_no_session() {
    let (world, node) = World::with_agent().await;

    let request = json!({"InstanceId": node});
    let _: Value = world
        .client
        .ssm("DeregisterManagedInstance", &request)
        .await
        .unwrap();
    let refused = start_session(&world.client, &node, None, &Parameters::new(), None).await;

    assert_eq!(refused.unwrap_err().code(), Some("TargetNotConnected"));
}

#[tokio::test]
async fn agent_without_registration_says_what_to_do() {
    let world = World::start();

    let output = world.agent_command().output().unwrap();

    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("no identity") && text.contains("hint: register this host"),
        "{text}"
    );
}

#[tokio::test]
async fn configuration_is_checked_as_a_start_would() {
    let world = World::start();
    let check = || world.agent_command().arg("check-config").output().unwrap();

    assert!(check().status.success());
    fs::write(world.config(), r#"{"Mgs":{"Endpoint":7},"Odd":1}"#).unwrap();
    let wrong = check();
    fs::write(world.config(), r#"{"Odd":1}"#).unwrap();
    let odd = check();

    let text = String::from_utf8_lossy(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text.contains("Mgs.Endpoint must be a string"), "{text}");
    assert!(odd.status.success());
    assert!(
        String::from_utf8_lossy(&odd.stdout).contains("Odd: unknown key"),
        "{odd:?}"
    );
}
