//! Sessions that outlive the agent's process.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::programs::{LOOK, PATIENCE, World, kill, send_signal};
use super::shell::Shell;

/// Long enough for a gateway that ends sessions of agents that are gone to have done so.
const LONG: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
async fn shell_outlives_killed_agents_and_the_next_one_has_it() {
    let (mut world, node) = World::with_keeping_agent().await;
    let mut shell = Shell::open(&world, &node).await;
    shell.type_text("number=41; echo re''ady\n").await;
    shell.wait_for("ready").await;
    let keepers = world.keepers();
    assert_eq!(keepers.len(), 1);

    world.kill_agent();
    world.wait_disconnected(&node).await;
    shell.type_text("echo without-$((number + 1))\n").await;
    shell.wait_for("without-42").await;
    tokio::time::sleep(LONG).await;
    shell.type_text("echo still-$((number + 2))\n").await;
    shell.wait_for("still-43").await;

    world.start_agent();
    world.wait_connected(&node).await;
    let mut second = Shell::open(&world, &node).await;
    second.type_text("echo sec''ond; exit 3\n").await;
    second.wait_for("second").await;
    assert_eq!(second.ending().await.exit_code, Some(3));
    assert_eq!(world.keepers(), keepers);
    shell.type_text("echo with-$((number + 3)); exit 9\n").await;
    shell.wait_for("with-44").await;
    assert_eq!(shell.ending().await.exit_code, Some(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn session_of_an_earlier_agent_is_terminated_by_the_next() {
    let (mut world, node) = World::with_keeping_agent().await;
    let mut shell = Shell::open(&world, &node).await;
    shell.type_text("echo re''ady\n").await;
    shell.wait_for("ready").await;

    world.stop_agent();
    world.start_agent();
    world.wait_connected(&node).await;
    shell.type_text("echo go''es on\n").await;
    shell.wait_for("goes on").await;
    let id = shell.id.to_string();
    let _: Value = world
        .client
        .ssm("TerminateSession", &json!({"SessionId": id}))
        .await
        .unwrap();

    let ending = shell.ending().await;
    assert_eq!(ending.exit_code, None);
    assert_eq!(history(&world, &id).await["Status"], "Terminated");
}

#[tokio::test(flavor = "multi_thread")]
async fn end_that_no_agent_saw_is_reported_by_the_next() {
    let (mut world, node) = World::with_keeping_agent().await;
    let mut shell = Shell::open(&world, &node).await;
    shell.type_text("echo re''ady\n").await;
    shell.wait_for("ready").await;
    let id = shell.id.to_string();

    world.kill_agent();
    world.wait_disconnected(&node).await;
    shell.type_text("exit 5\n").await;
    assert_eq!(shell.ending().await.exit_code, Some(5));
    world.start_agent();
    world.wait_connected(&node).await;

    let audit = world.folder.path().join("log/audit.log");
    let audit = std::fs::read_to_string(audit).unwrap();
    let is_end = |line: &&str| line.contains("session-ended") && line.contains(&id);
    assert_eq!(audit.lines().filter(is_end).count(), 1, "{audit}");
    assert_eq!(history(&world, &id).await["Status"], "Terminated");
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_is_a_new_start_in_the_same_process_and_sessions_go_on() {
    let (world, node) = World::with_keeping_agent().await;
    let mut shell = Shell::open(&world, &node).await;
    shell.type_text("number=41; echo re''ady\n").await;
    shell.wait_for("ready").await;
    let keepers = world.keepers();
    let before = wait_for_start_other_than(&world, &Value::Null).await;

    world.configure(|config| config["SsmAgent"]["Session"]["DrainSeconds"] = json!("long"));
    assert_is_not_reloaded(&world).await;
    let authority = world.folder.path().join("gateway/ca.pem");
    world.configure(|config| {
        config["SsmAgent"]["Session"]["DrainSeconds"] = json!(3);
        config["SsmAgent"]["CaFile"] = json!("/no/such/file");
    });
    assert_is_not_reloaded(&world).await;
    world.configure(|config| config["SsmAgent"]["CaFile"] = json!(authority));
    world.reload_agent();
    let after = wait_for_start_other_than(&world, &before["started"]).await;

    assert_eq!(after["pid"], before["pid"]);
    let mut second = Shell::open(&world, &node).await;
    second.type_text("echo sec''ond; exit 3\n").await;
    second.wait_for("second").await;
    assert_eq!(second.ending().await.exit_code, Some(3));
    let others = world.keepers();
    assert!(
        others.len() == 2 && keepers.iter().all(|keeper| others.contains(keeper)),
        "the session with the changed configuration runs in the keeper of before: {others:?}"
    );
    shell.type_text("echo on-$((number + 1)); exit 9\n").await;
    shell.wait_for("on-42").await;
    assert_eq!(shell.ending().await.exit_code, Some(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_keeper_fails_its_sessions_and_the_next_are_carried_without() {
    let (world, node) = World::with_keeping_agent().await;
    let mut shell = Shell::open(&world, &node).await;
    let id = shell.id.clone();
    shell.type_text("echo re''ady\n").await;
    shell.wait_for("ready").await;

    for keeper in world.keepers() {
        kill(keeper);
    }
    let ending = shell.ending().await;
    assert!(!ending.reason.is_empty(), "{ending:?}");
    let mut next = Shell::open(&world, &node).await;
    next.type_text("echo ne''xt\n").await;
    next.wait_for("next").await;
    // It would end with the agent's run.
    assert_is_not_reloaded(&world).await;
    next.type_text("echo la''st; exit 2\n").await;
    next.wait_for("last").await;

    assert_eq!(next.ending().await.exit_code, Some(2));
    assert!(world.keepers().is_empty());
    let audit = std::fs::read_to_string(world.folder.path().join("log/audit.log")).unwrap();
    let lost = audit
        .lines()
        .filter(|line| line.contains("\"session-lost\""));
    let lost: Vec<&str> = lost.collect();
    assert_eq!(lost.len(), 1, "{audit}");
    assert!(lost[0].contains(id.as_str()), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn terminated_keeper_ends_its_sessions_with_their_result() {
    let (world, node) = World::with_keeping_agent().await;
    let mut shell = Shell::open(&world, &node).await;
    shell.type_text("echo re''ady\n").await;
    shell.wait_for("ready").await;

    for keeper in world.keepers() {
        super::programs::terminate(keeper);
    }

    let ending = shell.ending().await;
    assert!(ending.reason.contains("stop"), "{ending:?}");
    let deadline = Instant::now() + PATIENCE;
    while !world.keepers().is_empty() {
        assert!(Instant::now() < deadline, "the keeper does not end");
        tokio::time::sleep(LOOK).await;
    }
    let folder = world.runtime.as_ref().unwrap().join("keepers");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keeper_that_hangs_does_not_hold_up_the_next_session() {
    let (world, node) = World::with_keeping_agent().await;
    let mut first = Shell::open(&world, &node).await;
    first.type_text("number=41; echo re''ady\n").await;
    first.wait_for("ready").await;
    let keepers = world.keepers();
    for keeper in &keepers {
        send_signal(*keeper, Signal::SIGSTOP);
    }

    let began = Instant::now();
    let mut next = Shell::open(&world, &node).await;
    next.type_text("echo ne''xt; exit 2\n").await;
    next.wait_for("next").await;
    let took = began.elapsed();
    assert_eq!(next.ending().await.exit_code, Some(2));
    for keeper in &keepers {
        send_signal(*keeper, Signal::SIGCONT);
    }

    assert!(took < Duration::from_secs(10), "{took:?}");
    first.type_text("echo on-$((number + 1)); exit 9\n").await;
    first.wait_for("on-42").await;
    assert_eq!(first.ending().await.exit_code, Some(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_with_an_agent_that_has_no_runtime_folder_and_say_why() {
    let (mut world, node) = World::with_agent().await;
    let mut shell = Shell::open(&world, &node).await;
    shell.type_text("echo re''ady\n").await;
    shell.wait_for("ready").await;

    let id = shell.id.clone();

    world.stop_agent();

    let ending = shell.ending().await;
    assert!(ending.reason.contains("agent was stopped"), "{ending:?}");
    assert_eq!(history(&world, id.as_str()).await["Status"], "Terminated");
}

/// What the gateway remembers of a session.
async fn history(world: &World, id: &str) -> Value {
    let request = json!({"State": "History", "Filters": [{"key": "SessionId", "value": id}]});
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer: Value = world
            .client
            .ssm("DescribeSessions", &request)
            .await
            .unwrap();
        if let Some(session) = answer["Sessions"].get(0) {
            return session.clone();
        }
        assert!(Instant::now() < deadline, "{id} is not over");
        tokio::time::sleep(LOOK).await;
    }
}

/// What the agent says of itself, once it was started at another time than `before`.
/// Asks for a reload that the agent has to refuse.
async fn assert_is_not_reloaded(world: &World) {
    let before = wait_for_start_other_than(world, &Value::Null).await;
    world.reload_agent();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = wait_for_start_other_than(world, &Value::Null).await;
    assert_eq!(after["started"], before["started"]);
}

async fn wait_for_start_other_than(world: &World, before: &Value) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut asked = world.cli_command();
        let asked = asked.args(["status", "--json"]).output().unwrap();
        if asked.status.success() {
            let status: Value = serde_json::from_slice(&asked.stdout).unwrap();
            if status["started"] != *before {
                return status;
            }
        }
        assert!(Instant::now() < deadline, "{asked:?}");
        tokio::time::sleep(LOOK).await;
    }
}
