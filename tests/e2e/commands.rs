//! Commands that the programs have to survive.

use std::time::Instant;

use serde_json::{Value, json};

use super::programs::{LOOK, PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn script_that_kills_its_agent_runs_once_and_is_reported() {
    let (mut world, node) = World::with_agent().await;
    let proof = world.folder.path().join("proof");
    // The script's parent is its wrapper, whose parent is the agent.
    let script = format!(
        "echo x >> {}; kill -9 $(cut -d ' ' -f 4 /proc/$PPID/stat); sleep 0.3; echo after",
        proof.display()
    );

    let command = send(&world, &node, &[&script]).await;
    world.wait_disconnected(&node).await;
    world.kill_agent();
    world.start_agent();
    let found = ended(&world, &command, &node).await;

    assert_eq!(found["Status"], "Success", "{found}");
    assert_eq!(found["StandardOutputContent"], "after\n");
    assert_eq!(std::fs::read_to_string(proof).unwrap(), "x\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_the_gateway_missed_come_once_each_when_it_is_back() {
    let (mut world, node) = World::with_agent().await;
    let gate = world.folder.path().join("gate");
    let mut commands = Vec::new();
    for number in 0..8 {
        let script = format!(
            "while [ ! -e {} ]; do sleep 0.02; done; echo {number}",
            gate.display()
        );
        commands.push(send(&world, &node, &[&script]).await);
    }
    world.stop_gateway();
    std::fs::write(&gate, "").unwrap();
    let state = world.folder.path().join("agent").join(&node);
    // All of them have ended, and their replies wait.
    until(|| {
        std::fs::read_dir(state.join("replies_mgs"))
            .unwrap()
            .count()
            >= 5
    })
    .await;

    world.restart_gateway();
    for (number, command) in commands.iter().enumerate() {
        let found = ended(&world, command, &node).await;
        assert_eq!(
            found["StandardOutputContent"],
            format!("{number}\n"),
            "{found}"
        );
    }
    until(|| {
        std::fs::read_dir(state.join("replies_mgs"))
            .unwrap()
            .count()
            == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_cannot_open_its_channel_polls_and_stops_when_it_can() {
    let mut world = World::start();
    let node = world.register().await;
    let gateway = world.url.clone();
    world.configure(|config| config["Mgs"]["Endpoint"] = "https://127.0.0.1:9".into());
    world.start_agent();

    let polled = send(&world, &node, &["echo polled"]).await;
    let found = ended(&world, &polled, &node).await;
    assert_eq!(found["StandardOutputContent"], "polled\n", "{found}");

    world.kill_agent();
    world.configure(|config| config["Mgs"]["Endpoint"] = gateway.into());
    world.start_agent();
    world.wait_connected(&node).await;
    let sent = send(&world, &node, &["echo sent"]).await;
    assert_eq!(
        ended(&world, &sent, &node).await["StandardOutputContent"],
        "sent\n"
    );
}

async fn send(world: &World, node: &str, lines: &[&str]) -> String {
    let request = json!({"InstanceIds": [node], "DocumentName": "AWS-RunShellScript",
        "Parameters": {"commands": lines}});
    let sent: Value = world.client.ssm("SendCommand", &request).await.unwrap();
    sent["Command"]["CommandId"].as_str().unwrap().to_owned()
}

async fn ended(world: &World, command: &str, node: &str) -> Value {
    let request = json!({"CommandId": command, "InstanceId": node});
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found: Value = world
            .client
            .ssm("GetCommandInvocation", &request)
            .await
            .unwrap();
        if !matches!(found["Status"].as_str().unwrap(), "Pending" | "InProgress") {
            return found;
        }
        assert!(Instant::now() < deadline, "{found}");
        tokio::time::sleep(LOOK).await;
    }
}

async fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(LOOK).await;
    }
}
